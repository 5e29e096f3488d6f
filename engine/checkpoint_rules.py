"""What must hold of checkpointing: its form, the accelerators, whole and cold checkpoints. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .canonical import Document
from .checkpoint_job import CheckpointJob, checkpoint_jobs, checkpoint_limits
from .checkpoint_metrics import checkpoint_rows, checkpointing_of, done_of, gap_of
from .counting import COUNTED_LEAST_BYTES, COUNTERS
from .plan import Plan, ended_launches, measured_launches
from .rulebook import Severity
from .rules import Finding, breach, remark
from .spec import JobSpec
from .tables import numbered
from .units import GIB

# What a score is made of, by the rules.
SUBSET_MODEL = "checkpointing/llama3_8b"
SUBSET_RANKS = 8

# More of a checkpoint in memory before it is read, or less of it counted, was no cold read.
RESIDENT_MOST_PCT = 1.0
SERVED_LEAST_PCT = 98.0


# ---------------------------------------------------------------- before the run


def judge_form(spec: JobSpec) -> list[Finding]:
    """Whether the job has the form of a score, by its configuration alone."""
    found = [finding for job in checkpoint_jobs(spec) for finding in _form(spec, job)]
    return [*dict.fromkeys(found)]


def _form(spec: JobSpec, job: CheckpointJob) -> Iterator[Finding]:
    closed: Severity = "error" if spec.division.name == "closed" else "info"
    if job.count is not None and job.ranks != job.count:
        yield Finding(
            rule="CKP-02",
            severity=closed,
            key="cluster.ranks",
            text=f"there are {job.ranks} accelerators, a score takes {job.count} (Rules 4.6.1)",
            hint=f"cluster.ranks={job.count}",
        )
    if job.writes and not job.fsync:
        yield Finding(
            rule="CKP-06",
            severity=breach(spec),
            key="benchmark.io.fsync",
            text="a checkpoint counts as written before it is durable",
            hint="benchmark.io.fsync=true",
        )
    yield from _size(spec, job)
    count = checkpoint_limits(spec).checkpoints
    if {job.writes, job.reads} - {0, count}:
        yield Finding(
            rule="CKP-08",
            severity=closed,
            key="benchmark.writes",
            text=f"{job.writes} checkpoints are written and {job.reads} read; a score takes "
            f"{count} or none of either",
            hint=f"benchmark.writes={count} benchmark.reads={count}",
        )
    yield from _per_host(spec, job)
    if job.trains:
        yield Finding(
            rule="CKP-10",
            severity=remark(spec),
            key="benchmark.training",
            text="steps of training go on between checkpoints or beside them: that is no score",
            hint="benchmark.training=null",
        )


def _size(spec: JobSpec, job: CheckpointJob) -> Iterator[Finding]:
    if job.scale != 1:
        yield Finding(
            rule="CKP-07",
            severity=remark(spec),
            key="benchmark.scale",
            text=f"files have {100 * job.scale:g} % of the bytes of the model's",
            hint="benchmark.scale=1",
        )
    allowed = spec.benchmark.startswith(SUBSET_MODEL) and job.ranks == SUBSET_RANKS
    if job.subset and not allowed:
        yield Finding(
            rule="CKP-07",
            severity=remark(spec),
            key="benchmark.parallelism.mode",
            text="a subset of the ranks writes a part of the checkpoint; a score may be that of "
            f"Llama 3 8B with {SUBSET_RANKS} ranks alone (Rules 4.3.5)",
            hint="benchmark.parallelism.mode=default",
        )


def _per_host(spec: JobSpec, job: CheckpointJob) -> Iterator[Finding]:
    least, over = job.ranks_per_host_least, checkpoint_limits(spec).ranks_per_host_over
    if least > over:
        return
    at_limit = least == over
    severity = remark(spec)
    if at_limit and severity == "error":
        severity = "warning"
    yield Finding(
        rule="CKP-09",
        severity=severity,
        key="cluster.ranks_per_host",
        text=f"a host has {least} accelerators; Rules 4.6.2 ask for more than {over}"
        + (", their table for as many" if at_limit else ""),
        hint=f"cluster.ranks_per_host={2 * over}",
    )


def judge_accelerators(spec: JobSpec, layouts: Mapping[str | None, Document]) -> list[Finding]:
    """Whether the accelerators hold a checkpoint; layouts by option, as far as they are known."""
    found = [
        finding
        for job in checkpoint_jobs(spec)
        if job.option in layouts
        for finding in _memory(spec, job, layouts[job.option]["formula_bytes"])
    ]
    return [*dict.fromkeys(found)]


def judge_told_accelerators(spec: JobSpec, facts: Mapping[str, Any]) -> list[Finding]:
    """The same by what the engine tells of the job beforehand: one layout for all options."""
    layout = told_layout(facts)
    options = [job.option for job in checkpoint_jobs(spec)]
    return judge_accelerators(spec, {} if layout is None else dict.fromkeys(options, layout))


def told_layout(facts: Mapping[str, Any]) -> Document | None:
    """The layout of a checkpoint, of what an engine tells of a job beforehand."""
    layout: Document | None = facts.get("checkpoint")
    return layout


def _memory(spec: JobSpec, job: CheckpointJob, formula_bytes: int) -> Iterator[Finding]:
    demand_gib, memory_gib = job.demand_gib(formula_bytes), job.all_memory_gib
    if memory_gib is None:
        severity = remark(spec)
        text = (
            f"whether accelerators hold a checkpoint of {demand_gib:,.2f} GiB is not known: "
            "their memory is not declared"
        )
    elif memory_gib < demand_gib:
        severity = breach(spec)
        text = (
            f"{numbered(job.ranks, 'accelerator')} of {job.memory_gib:g} GiB have "
            f"{memory_gib:,.2f} GiB of memory together, a checkpoint has {demand_gib:,.2f} GiB "
            f"(computed {formula_bytes / GIB:,.2f}{_by_table(job)})"
        )
    else:
        return
    yield Finding(
        rule="CKP-01",
        severity=severity,
        key="benchmark.accelerator.memory_gib",
        text=text,
        hint="benchmark.accelerator.memory_gib=GIB, that of the accelerators that ranks stand for: "
        f"at least {demand_gib / job.ranks:.2f}",
    )


def _by_table(job: CheckpointJob) -> str:
    return "" if job.table_gib is None else f", by the table of the rules {job.table_gib:,.2f}"


# ---------------------------------------------------------------- after the run


def judge_checkpoint_form(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[Finding]:
    """Whether what was run has the form of a score: the job, the accelerators, the gap."""
    layouts: dict[str | None, Document] = {}
    for launch in ended_launches(plan, outcomes, results):
        section = checkpointing_of(results[launch.name])
        if section is not None:
            layouts.setdefault(launch.option, section["layout"])
    findings = [*judge_form(spec), *judge_accelerators(spec, layouts)]
    for name, _, result in measured_launches(checkpoint_jobs(spec), plan, outcomes, results):
        findings += _gap(spec, name, result)
    return findings


def judge_checkpoints(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[Finding]:
    """Whether all checkpoints are there, and came from storage when they were read."""
    findings: list[Finding] = []
    for name, job, result in measured_launches(checkpoint_jobs(spec), plan, outcomes, results):
        findings += _all_there(name, job, result)
        findings += _cold(spec, name, job, result)
    return findings


def _all_there(name: str, job: CheckpointJob, result: Document) -> Iterator[Finding]:
    section = checkpointing_of(result)
    does = None if section is None else section["does"]
    done = 0 if section is None else len(section["checkpoints"])
    planned = max(job.writes, job.reads) if does is None else job.planned(does)
    if done != planned:
        verb = {"write": "written", "read": "read"}.get(does or "", "written or read")
        text = f"{planned} checkpoints were to be {verb}, {done} were"
        yield Finding(rule="CKP-03", severity="error", key=name, text=text)


def _cold(spec: JobSpec, name: str, job: CheckpointJob, result: Document) -> Iterator[Finding]:
    section = done_of(result)
    if section is None or section["does"] != "read":
        return
    rows = checkpoint_rows(result)
    sizes = [checkpoint["bytes"] for checkpoint in section["checkpoints"]]
    warm = [*_in_memory(rows), *_not_counted(rows, sizes)]
    figures = f" ({'; '.join(warm)})" if warm else ""
    if warm:
        text = f"checkpoints were read from memory (cached), at least in part{figures}"
        if not job.evicts:
            text += "; nothing dropped them from memory before: benchmark.eviction.when=never"
    elif not job.evicts:
        text = (
            "nothing dropped checkpoints from memory before they were read "
            f"(benchmark.eviction.when=never), which {_proof(rows)}"
        )
    else:
        return
    proven = not warm and all("resident_pct" in row for row in rows)
    yield Finding(
        rule="CKP-04",
        severity="info" if proven else breach(spec),
        key=name,
        text=text,
        hint="benchmark.eviction.when=success benchmark.io.direct=true, and nothing else that "
        "reads or holds the files",
    )


def _in_memory(rows: list[Document]) -> Iterator[str]:
    warm = [row for row in rows if row.get("resident_pct", 0.0) > RESIDENT_MOST_PCT]
    if warm:
        told = ", ".join(f"checkpoint {row['number']} {row['resident_pct']:.1f} %" for row in warm)
        yield f"in memory before they were read: {told}, at most {RESIDENT_MOST_PCT:g} % may be"


def _not_counted(rows: list[Document], sizes: list[int]) -> Iterator[str]:
    warm = [
        row
        for row, size in zip(rows, sizes, strict=True)
        if size >= COUNTED_LEAST_BYTES and row.get("counted_pct", 100.0) < SERVED_LEAST_PCT
    ]
    if warm:
        told = ", ".join(f"checkpoint {row['number']} {row['counted_pct']:.1f} %" for row in warm)
        who = COUNTERS[warm[0]["counted_by"]]
        yield f"{who} moved less than {SERVED_LEAST_PCT:g} % of them: {told}"


def _proof(rows: list[Document]) -> str:
    """What is known of reads that nothing was done for."""
    if all("resident_pct" in row for row in rows):
        return f"held at most {max(row['resident_pct'] for row in rows):.1f} % of them"
    return "may have held them"


def _gap(spec: JobSpec, name: str, result: Document) -> Iterator[Finding]:
    gap_s, most_s = gap_of(result), checkpoint_limits(spec).gap_s_most
    if gap_s is None or 0 <= gap_s <= most_s:
        return
    if gap_s < 0:
        yield Finding(
            rule="CKP-05",
            severity="warning",
            key=name,
            text=f"the first read began {-gap_s:.1f} s before the last write had ended: the clocks "
            "of two hosts differ",
            hint="synchronised clocks on all hosts",
        )
        return
    yield Finding(
        rule="CKP-05",
        severity=breach(spec),
        key=name,
        text=f"the first read began {gap_s:.1f} s after the last write had ended, at most "
        f"{most_s:g} s are allowed (Rules 4.7.1)",
        hint="both in one job, or the second job right after the first",
    )
