"""What must hold of vector search that was run: right answers, which storage gave. Pure.

What makes a number wrong is an error in every division.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from .canonical import Document
from .latency import percentile_name
from .plan import Launch, Plan, ended_launches, measured_launches
from .rules import Finding, breach, remark
from .spec import JobSpec
from .tables import noun, numbered
from .units import GIB
from .vector_form import (
    by_table,
    few_queries,
    judge_class,
    judge_vector_form,
    source_of,
)
from .vector_job import VectorJob, VectorTable, vector_jobs, vector_table
from .vector_metrics import (
    SERVER,
    capacity_of,
    does,
    points_of,
    stages_that,
    stored_bytes,
    unserved_most,
)

# Recall of the same index and queries does not differ by more between trials.
RECALL_TOLERANCE = 0.01

# In the last fifth of a run this part of the bytes per query of the first fifth must be read.
LAST_LEAST = 0.05
LEAST_BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """A job that has ended, one of its options, and what its stages have left."""

    spec: JobSpec
    job: VectorJob
    plan: Plan
    outcomes: Mapping[str, Document]
    results: Mapping[str, Document]

    def stages(self, *wanted: str) -> list[tuple[Launch, Document]]:
        """Stages that did one of these for the option, or for all of them."""
        return [
            found
            for each in wanted
            for found in stages_that(
                self.plan, self.outcomes, self.results, wanted=each, option=self.job.option
            )
        ]

    def section(self, wanted: str) -> Document | None:
        """What the last stage that did this reports."""
        found = self.stages(wanted)
        return found[-1][1]["vectordb"] if found else None

    def runs(self) -> list[tuple[str, Document, Document]]:
        """Measured runs: name, result, point."""
        measured = measured_launches([self.job], self.plan, self.outcomes, self.results)
        return [
            (name, result, points_of(result)[0])
            for name, _, result in measured
            if does(result) == "run" and points_of(result)
        ]


def _ran(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[_Ran]:
    return [
        _Ran(spec=spec, job=job, plan=plan, outcomes=outcomes, results=results)
        for job in vector_jobs(spec)
    ]


def judge_vector_score(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[Finding]:
    """Whether what was run has the form of a score: the job, recall, length and queries."""
    findings = judge_vector_form(spec)
    for ran in _ran(spec, plan, outcomes, results):
        findings += _length(ran, vector_table(spec))
        findings += _recall_of_edition(ran, vector_table(spec))
    return findings


def judge_vectors(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    memory_bytes: int | None,
) -> list[Finding]:
    """Whether answers are right and came from storage; `memory_bytes` is that of all hosts."""
    findings: list[Finding] = []
    for ran in _ran(spec, plan, outcomes, results):
        for judged in (_same_data, _stored, _built, _truth, _recall, _trials, _capacity):
            findings += judged(ran)
        for name, result, point in ran.runs():
            findings += _from_storage(ran, name, result, point)
            findings += _cache(ran, name, result, point, memory_bytes)
    findings += chain.from_iterable(
        _answers(name, result) for name, result in _with_points(spec, plan, outcomes, results)
    )
    return [*dict.fromkeys(findings)]


def _with_points(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> Iterator[tuple[str, Document]]:
    """All stages that asked queries."""
    if vector_jobs(spec):
        for launch in ended_launches(plan, outcomes, results):
            if points_of(results[launch.name]):
                yield launch.name, results[launch.name]


# ---------------------------------------------------------------- VDB-02 to VDB-04: what was loaded


def _same_data(ran: _Ran) -> Iterator[Finding]:
    """Vectors of the load are those of the job and of every run."""
    load, job = ran.section("load"), ran.job
    for name, result, _ in ran.runs():
        data = result["vectordb"]["dataset"]
        found = {"vectors": data["vectors"], "dimension": data["dimension"]}
        asked = {"vectors": job.vectors, "dimension": job.dimension}
        loaded = found if load is None else {key: load["dataset"][key] for key in found}
        texts = [
            f"{key}: {asked[key] if asked[key] is not None else 'of a file'} declared, "
            f"{loaded[key]} loaded, {value} searched"
            for key, value in found.items()
            if asked[key] not in (None, value) or loaded[key] != value
        ]
        if not texts and load is not None and load["dataset"]["sha256"] != data["sha256"]:
            texts = ["the vectors that were loaded are others than those that were searched"]
        if texts:
            text = f"{'; '.join(texts)} (Rules 5.1.2)"
            yield Finding(rule="VDB-02", severity="error", key=name, text=text)


def _stored(ran: _Ran) -> Iterator[Finding]:
    loads = ran.stages("load")
    for launch, result in loads:
        section = result["vectordb"]
        load, vectors = section["load"], section["dataset"]["vectors"]
        if load is None:
            continue
        short = load["stored"] != vectors or (not load["reused"] and load["inserted"] != vectors)
        if short:
            yield Finding(
                rule="VDB-03",
                severity="error",
                key=launch.name,
                text=f"{vectors:,} vectors were to be stored, {load['inserted']:,} were inserted "
                f"and {load['stored']:,} are there (Rules 5.2.1)",
            )
    if not loads and ran.runs():
        yield Finding(
            rule="VDB-03",
            severity=breach(ran.spec),
            key=ran.runs()[0][0],
            text="no stage of this job counted the vectors that are stored",
            hint="stages=null",
        )


def _built(ran: _Ran) -> Iterator[Finding]:
    """The index that was built is the one that was searched."""
    loads = ran.stages("load")
    if not loads:
        return
    launch, result = loads[-1]
    load, built = result["vectordb"]["load"], result["vectordb"]["backend"]
    if load is None or (not load["reused"] and load["build_s"] is None):
        text = "no index was built (Rules 5.2.2)"
        yield Finding(rule="VDB-04", severity="error", key=launch.name, text=text)
        return
    for name, run, _ in ran.runs():
        found = run["vectordb"]["backend"]
        differing = [key for key in ("name", "index", "build") if found[key] != built[key]]
        if differing:
            told = "; ".join(f"{key} {_told(built[key])}, then {_told(found[key])}"
                             for key in differing)  # fmt: skip
            yield Finding(
                rule="VDB-04",
                severity="error",
                key=name,
                text=f"another index was searched than was built: {told} (Rules 5.2.2)",
            )


def _told(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    return " ".join(f"{key}={value[key]}" for key in sorted(value))


# ---------------------------------------------------------------- VDB-06 to VDB-08: what was found


def _recall(ran: _Ran) -> Iterator[Finding]:
    """Every point but those of a search for a capacity or of a sweep must find enough."""
    least = ran.job.recall_least
    for launch, result in ran.stages("probe", "run"):
        for point in points_of(result):
            recall = point["recall"]
            if recall is None:
                text = "nothing is known of its recall (Rules 5.3.2)"
            elif not recall["mean"]:
                text = "no query found any of its nearest: recall 0 (Rules 5.3.2)"
            elif recall["mean"] < least:
                text = (
                    f"recall@{recall['k']} is {recall['mean']:.4f}, "
                    f"benchmark.recall.least asks for {least:g}"
                )
            else:
                continue
            yield Finding(
                rule="VDB-06",
                severity="error",
                key=launch.name,
                text=text,
                hint="more of the index for each query: search_ef, nprobe",
            )


def _recall_of_edition(ran: _Ran, table: VectorTable) -> Iterator[Finding]:
    for name, _, point in ran.runs():
        recall = point["recall"]
        if recall is not None and recall["mean"] < table.recall_least:
            yield Finding(
                rule="VDB-06",
                severity=by_table(ran.spec, table),
                key=name,
                text=f"recall@{recall['k']} is {recall['mean']:.4f}, a score takes "
                f"{table.recall_least:g} (Rules 5.3.2){source_of(table)}",
            )


def _trials(ran: _Ran) -> Iterator[Finding]:
    """The same index and the same queries have the same recall."""
    found = {
        name: point["recall"]["mean"]
        for name, _, point in ran.runs()
        if point["recall"] is not None
    }
    if found and max(found.values()) - min(found.values()) > RECALL_TOLERANCE:
        told = ", ".join(f"{name} {recall:.4f}" for name, recall in found.items())
        yield Finding(
            rule="VDB-06",
            severity="warning",
            key=next(iter(found)),
            text=f"trials of one index with the same queries differ in recall: {told}",
        )


def _length(ran: _Ran, table: VectorTable) -> Iterator[Finding]:
    for name, _, point in ran.runs():
        # How long a timed run lasts is known before.
        if ran.job.runtime_s is None and point["elapsed_s"] < table.runtime_s_least:
            yield Finding(
                rule="VDB-07",
                severity=remark(ran.spec),
                key=name,
                text=f"queries were answered for {point['elapsed_s']:.1f} s, a score takes "
                f"{table.runtime_s_least:g} s at least",
                hint="a longer run: benchmark.run.queries",
            )
        if point["queries"] < table.queries_least:
            yield few_queries(ran.spec, table, name, point["queries"])


def _truth(ran: _Ran) -> Iterator[Finding]:
    section = ran.section("truth")
    if section is None:
        if ran.runs():
            yield Finding(
                rule="VDB-08",
                severity=breach(ran.spec),
                key=ran.runs()[0][0],
                text="no stage of this job made or checked the truth that recall is told by",
                hint="stages=null",
            )
        return
    truth = section["truth"]
    launch, _ = ran.stages("truth")[-1]
    covered = 0.0 if truth is None else truth["covered"]
    if covered != 1:
        yield Finding(
            rule="VDB-08",
            severity="error",
            key=launch.name,
            text=f"the truth covers {100 * covered:g} % of the vectors, all are asked for "
            "(Rules 5.3.5)",
        )
    for name, result, _ in ran.runs():
        others = [
            what
            for what, key in (("vectors", "dataset"), ("queries", "queries"))
            if result["vectordb"][key]["sha256"] != section[key]["sha256"]
        ]
        if others:
            text = f"the truth is that of other {' and '.join(others)} (Rules 5.3.5)"
            yield Finding(rule="VDB-08", severity="error", key=name, text=text)


# ---------------------------------------------------------------- VDB-09: storage


def _from_storage(ran: _Ran, name: str, result: Document, point: Document) -> Iterator[Finding]:
    """Whether queries read from storage, until the end; a warm run does not claim that."""
    if ran.job.cache_mode == "warm" or not point["queries"]:
        return
    found = stored_bytes(result, point)
    if found is None:
        yield Finding(
            rule="VDB-09",
            severity=breach(ran.spec),
            key=name,
            text="nobody knows what queries read from storage: neither the backend nor the counters"
            " of data_dir tell",
            hint="data_dir on the storage of the server, so that its counters tell",
        )
    elif not found:
        yield Finding(
            rule="VDB-09",
            severity="error",
            key=name,
            text=f"{point['queries']:,} queries read nothing from storage: memory answered them, "
            "the numbers say nothing about storage",
            hint="benchmark.cache.mode=warm, to compare others with it",
        )
    else:
        yield from _to_the_end(ran, name, result, point)


def _to_the_end(ran: _Ran, name: str, result: Document, point: Document) -> Iterator[Finding]:
    process, timeline = point["reads"]["process"], point["timeline"]
    if process is None or not process["bytes"] or timeline["process_bytes"] is None:
        return
    if result["vectordb"]["backend"]["io_class"] == SERVER:
        return
    # The last bin may be cut.
    queries, read = timeline["queries"][:-1], timeline["process_bytes"][:-1]
    if len(queries) < LEAST_BINS:
        return
    fifth = len(queries) // 5
    first = sum(read[:fifth]) / max(sum(queries[:fifth]), 1)
    last = sum(read[-fifth:]) / max(sum(queries[-fifth:]), 1)
    if last < LAST_LEAST * first:
        yield Finding(
            rule="VDB-09",
            severity=breach(ran.spec),
            key=name,
            text=f"queries read {first:,.0f} bytes each in the first fifth of the run and "
            f"{last:,.0f} in the last: memory took over",
            hint="a shorter run, an index that is larger than memory, or benchmark.cache.mode="
            "direct",
        )


# ---------------------------------------------------------------- VDB-10: caches


def _cache(
    ran: _Ran, name: str, result: Document, point: Document, memory_bytes: int | None
) -> Iterator[Finding]:
    backend = result["vectordb"]["backend"]
    yield from judge_class(ran.job, name, backend["io_class"], backend["io_reason"])
    if ran.job.cache_mode == "cold":
        yield from _cold(ran, name, backend, point["cache"])
    if ran.job.cache_mode == "pressure":
        yield from _pressure(ran, name, backend, memory_bytes)


def _cold(ran: _Ran, name: str, backend: Document, cache: Document) -> Iterator[Finding]:
    resident_pct, most_pct = cache["resident_before_pct"], ran.job.resident_most_pct
    severity = breach(ran.spec)
    if resident_pct is None and backend["io_class"] == SERVER and cache["method"] == "command":
        # All that a client can have done.
        severity = "warning"
        text = "a program of the site emptied the caches of the server; that it did is not proven"
    elif resident_pct is None:
        text = "how much of the index was in memory before the run is not known: it is not proven "
        text += "to be cold"
    elif resident_pct > most_pct:
        text = (
            f"{resident_pct:.1f} % of the index were in memory before the run, at most "
            f"{most_pct:g} % may be"
        )
    else:
        return
    yield Finding(
        rule="VDB-10",
        severity=severity,
        key=name,
        text=text,
        hint="nothing else that reads or holds the files; benchmark.cache.method=command",
    )


def _pressure(
    ran: _Ran, name: str, backend: Document, memory_bytes: int | None
) -> Iterator[Finding]:
    load = ran.section("load")
    index_bytes = None if load is None or load["load"] is None else load["load"]["index_bytes"]
    if backend["io_class"] == SERVER:
        text = "whether the index is larger than the memory of the server is not known"
    elif not index_bytes or not memory_bytes:
        missing = "the size of the index" if not index_bytes else "the memory of the hosts"
        text = f"{missing} is not known, so that nothing tells whether it is under pressure"
    elif index_bytes < ran.job.memory_ratio * memory_bytes:
        text = (
            f"the index has {index_bytes / GIB:,.2f} GiB, under pressure it has "
            f"{ran.job.memory_ratio:g} x the {memory_bytes / GIB:,.2f} GiB of memory of the hosts"
        )
    else:
        return
    yield Finding(
        rule="VDB-10",
        severity=breach(ran.spec),
        key=name,
        text=text,
        hint="more vectors, a control group with less memory, or benchmark.cache.mode=direct",
    )


# ---------------------------------------------------------------- VDB-11 and VDB-12: answers


def _answers(name: str, result: Document) -> Iterator[Finding]:
    """What was wrong with the answers of a stage, all of its points together."""
    points = points_of(result)
    answers = {key: sum(point["answers"][key] for point in points) for key in points[0]["answers"]}
    wrong = [
        f"{answers[key]:,} {noun(answers[key], *nouns)} {words}"
        for key, nouns, words in (
            ("foreign_ids", ("id", "ids"), "of no vector"),
            ("repeating_queries", ("query", "queries"), "with an id twice"),
            ("short_queries", ("query", "queries"), "with fewer ids than were asked for"),
        )
        if answers[key]
    ]
    if wrong:
        text = f"answers are wrong: {'; '.join(wrong)}"
        yield Finding(rule="VDB-11", severity="error", key=name, text=text)
    if answers["changed_queries"]:
        queries = noun(answers["changed_queries"], "query", "queries")
        text = f"{answers['changed_queries']:,} {queries} answered otherwise when asked again"
        yield Finding(rule="VDB-11", severity="warning", key=name, text=text)
    if does(result) in ("probe", "run"):
        yield from _unanswered(name, points[0])


def _unanswered(name: str, point: Document) -> Iterator[Finding]:
    """A search for a capacity and a sweep overload on purpose: there a rate is not met."""
    lost = [
        f"{numbered(point[key], 'request')} {verb}"
        for key, verb in (("failed_requests", "failed"), ("late_requests", "came too late"))
        if point[key]
    ]
    if lost:
        first = "" if point["first_failure"] is None else f" (first: {point['first_failure']})"
        text = f"{' and '.join(lost)}; they count in no number{first}"
        yield Finding(rule="VDB-12", severity="error", key=name, text=text)
    waiting = point["unserved"] or 0
    if waiting > unserved_most(point):
        yield Finding(
            rule="VDB-12",
            severity="error",
            key=name,
            text=f"{waiting:,} of {point['arrivals']:,} requests that arrived were not begun when "
            f"the run ended, at {point['target_qps']:g} queries/s: a backlog grew",
            hint="a lower benchmark.run.target_qps; benchmark.capacity.when=success finds one",
        )


def _capacity(ran: _Ran) -> Iterator[Finding]:
    """A search that found nothing is no fault of the runs before it."""
    for launch, result in ran.stages("capacity"):
        if capacity_of(ran.job, result) is None:
            name = percentile_name(ran.job.capacity_fraction)
            yield Finding(
                rule="RES-07",
                severity="warning",
                key=launch.name,
                text=f"no rate met the limit: {name} of a request <= {ran.job.capacity_limit_ms:g} "
                f"ms and recall >= {ran.job.recall_least:g}",
                hint="a longer benchmark.capacity.limit_ms",
            )
