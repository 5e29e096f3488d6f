"""Whether a job of vector search has the form of a score, before anything was run. Pure.

Form is remarked upon in whatif. What only a provisional table asks for is never an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .canonical import Document
from .rulebook import Severity
from .rules import Finding, breach, remark
from .spec import JobSpec
from .tables import noun, numbered
from .vector_job import VectorJob, VectorTable, vector_jobs, vector_table

# What a score is made of, by the rules.


def judge_vector_form(spec: JobSpec) -> list[Finding]:
    """Whether the job has the form of a score, by its configuration alone."""
    jobs = vector_jobs(spec)
    found = [finding for job in jobs for finding in _form(spec, job, vector_table(spec))]
    return [*dict.fromkeys(found)]


def judge_told_vectors(spec: JobSpec, facts: Mapping[str, Any]) -> list[Finding]:
    """Whether the backend can do what is asked of it, by what the engine tells beforehand."""
    told: Document | None = facts.get("vectordb")
    if told is None:
        return []
    found = [
        finding
        for job in vector_jobs(spec)
        for finding in judge_class(job, "benchmark.cache.mode", told["io_class"], None)
    ]
    return [*dict.fromkeys(found)]


def _form(spec: JobSpec, job: VectorJob, table: VectorTable) -> Iterator[Finding]:
    yield from _scale(spec, job, table)
    if job.trials != table.runs:
        yield Finding(
            rule="VDB-05",
            severity=remark(spec),
            key="trials",
            text=f"there are {numbered(job.trials, 'run')}, a score takes {table.runs} "
            "(Rules 5.3.1)",
            hint=f"trials={table.runs}",
        )
    if job.runtime_s is not None and job.runtime_s < table.runtime_s_least:
        yield Finding(
            rule="VDB-07",
            severity=remark(spec),
            key="benchmark.run.runtime_s",
            text=f"a run lasts {job.runtime_s:g} s, a score takes {table.runtime_s_least:g} s "
            "at least",
            hint=f"benchmark.run.runtime_s={table.runtime_s_least:g}",
        )
    if job.queries is not None and job.queries < table.queries_least:
        yield few_queries(spec, table, "benchmark.run.queries", job.queries)
    yield from _mode(spec, job)
    yield from _closed(spec, job, table)


def by_table(spec: JobSpec, table: VectorTable) -> Severity:
    """How grave it is to miss a value of the edition's; nobody is refused by a provisional one."""
    if spec.division.name == "whatif":
        return "info"
    return grave_of(table)


def grave_of(table: VectorTable) -> Severity:
    """How grave it is to miss a value of a table: nobody is refused by a provisional one."""
    return "warning" if table.provisional else "error"


def source_of(table: VectorTable) -> str:
    """Whose value it is, at the end of a text."""
    return f" ({table.told_by})" if table.told_by else ""


def scales_of(table: VectorTable) -> str:
    """The datasets that are scored, for the text of a finding."""
    return ", ".join(f"{vectors:,} x {dimension:,}" for vectors, dimension in table.scales)


def _scale(spec: JobSpec, job: VectorJob, table: VectorTable) -> Iterator[Finding]:
    if (job.vectors, job.dimension) in table.scales:
        return
    data = "vectors of a file of your own"
    if job.vectors is not None and job.dimension is not None:
        data = f"{job.vectors:,} vectors of {job.dimension:,} dimensions"
    yield Finding(
        rule="VDB-01",
        severity=by_table(spec, table),
        key="benchmark.dataset.num_vectors",
        text=f"{data} are no scale that is scored (Rules 5.1.1); scored are {scales_of(table)}"
        f"{source_of(table)}",
    )


def few_queries(spec: JobSpec, table: VectorTable, key: str, queries: int) -> Finding:
    """A run has fewer queries than the edition asks for."""
    return Finding(
        rule="VDB-07",
        severity=by_table(spec, table),
        key=key,
        text=f"{queries:,} {noun(queries, 'query', 'queries')} in a run, a score takes "
        f"{table.queries_least:,} at least (Rules 5.3.3){source_of(table)}",
        hint="a longer run: benchmark.run.runtime_s, benchmark.run.queries",
    )


def _mode(spec: JobSpec, job: VectorJob) -> Iterator[Finding]:
    key = "benchmark.cache.mode"
    if job.cache_mode == "warm":
        yield Finding(
            rule="VDB-10",
            severity=breach(spec),
            key=key,
            text="nothing keeps memory from answering in the storage's place (mode warm): such a "
            "run is never scored",
            hint="benchmark.cache.mode=direct, or cold",
        )
    if job.cache_mode == "cold" and job.cache_command == ():
        yield Finding(
            rule="VDB-10",
            severity="error",
            key="benchmark.cache.command",
            text="a program is to empty the caches, and none is named",
            hint="benchmark.cache.command=[PROGRAM], or benchmark.cache.method=drop",
        )


def judge_class(job: VectorJob, key: str, io_class: str, reason: str | None) -> Iterator[Finding]:
    """Whether what the backend does to storage goes with the mode that is asked for."""
    why = "" if reason is None else f" ({reason})"
    if job.cache_mode == "direct" and io_class != "direct":
        yield Finding(
            rule="VDB-10",
            severity="error",
            key=key,
            text=f"mode direct, but {job.backend} does not read past the page cache: its reads are "
            f"of class {io_class}{why}",
            hint="benchmark.cache.mode=cold",
        )
    elif io_class == "memory" and job.cache_mode != "warm":
        yield Finding(
            rule="VDB-10",
            severity="error",
            key=key,
            text=f"{job.backend} answers from memory alone: it says nothing about storage{why}",
            hint="benchmark.cache.mode=warm, to compare others with it",
        )


def _closed(spec: JobSpec, job: VectorJob, table: VectorTable) -> Iterator[Finding]:
    if spec.division.name != "closed":
        return
    if job.backend not in table.closed_backends:
        yield Finding(
            rule="VDB-13",
            severity="error",
            key="benchmark.database.backend",
            text=f"the backend is {job.backend}; in closed it is "
            f"{' or '.join(table.closed_backends)} (Rules 5.6.2)",
            hint="division=open",
        )
    elif job.index_type is not None and job.index_type not in table.closed_indexes:
        yield Finding(
            rule="VDB-13",
            severity="error",
            key="benchmark.index.index_type",
            text=f"the index is {job.index_type}; in closed it is one of "
            f"{', '.join(table.closed_indexes)} (Rules 5.6.3)",
            hint="division=open",
        )
