"""What the configuration of a job of vector search says that it is judged by. Pure.

A benchmark of another family says nothing of it: then there are no such settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .canonical import Document
from .spec import JobSpec
from .variants import benchmark_of

FAMILY = "vectordb"

CacheMode = Literal["direct", "cold", "pressure", "warm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorJob:
    """What one option of a job of vector search asks for; `option` None: no options.

    A rank is a client. `index_type` is None where the backend has one kind alone; `runtime_s` or
    `queries` is None for a run that ends by the other; vectors and dimension are None for a file of
    the user's, which has its own; `target_qps` is None in a closed loop.
    """

    option: str | None
    clients: int
    trials: int
    backend: str
    index_type: str | None
    vectors: int | None
    dimension: int | None
    k: int
    recall_least: float
    cache_mode: CacheMode
    cache_command: tuple[str, ...] | None
    resident_most_pct: float
    memory_ratio: float
    runtime_s: float | None
    queries: int | None
    target_qps: float | None
    capacity_fraction: float
    capacity_limit_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorTable:
    """What an edition says of vector search; `provisional` while this project says it instead."""

    provisional: bool
    source: str
    scales: tuple[tuple[int, int], ...]
    recall_least: float
    queries_least: int
    runs: int
    runtime_s_least: float
    closed_backends: tuple[str, ...]
    closed_indexes: tuple[str, ...]

    @property
    def told_by(self) -> str:
        """Whose values these are, for the text of a finding."""
        return "provisional, of this project until the rules have one" if self.provisional else ""


def vector_jobs(spec: JobSpec) -> tuple[VectorJob, ...]:
    """What a job searches and how, for each of its options; empty for other families."""
    if spec.family != FAMILY:
        return ()
    return tuple(
        _vector_job(spec, option, benchmark_of(spec.document, option))
        for option in spec.options or (None,)
    )


def vector_table(spec: JobSpec) -> VectorTable:
    """The table of the job's edition."""
    return read_table(spec.document["edition"]["vectordb"])


def read_table(table: Document) -> VectorTable:
    """The table as an edition's document holds it."""
    return VectorTable(
        provisional=table["status"] == "provisional",
        source=table["source"],
        scales=tuple((scale["vectors"], scale["dimension"]) for scale in table["scales"]),
        recall_least=table["recall_least"],
        queries_least=table["queries_least"],
        runs=table["runs"],
        runtime_s_least=table["runtime_s_least"],
        closed_backends=tuple(table["closed_backends"]),
        closed_indexes=tuple(table["closed_indexes"]),
    )


def _vector_job(spec: JobSpec, option: str | None, benchmark: Document) -> VectorJob:
    dataset, cache, run = (benchmark[name] for name in ("dataset", "cache", "run"))
    own = dataset["path"] is None
    timed = run["mode"] == "timed"
    return VectorJob(
        option=option,
        clients=spec.cluster.ranks,
        trials=spec.trials,
        backend=benchmark["database"]["backend"],
        index_type=benchmark["index"].get("index_type"),
        vectors=dataset["num_vectors"] if own else None,
        dimension=dataset["dimension"] if own else None,
        k=benchmark["search"]["k"],
        recall_least=benchmark["recall"]["least"],
        cache_mode=cache["mode"],
        cache_command=tuple(cache["command"]) if cache["method"] == "command" else None,
        resident_most_pct=cache["resident_most_pct"],
        memory_ratio=cache["memory_ratio"],
        runtime_s=run["runtime_s"] if timed else None,
        queries=None if timed else run["queries"],
        target_qps=run["target_qps"] if run["load"] == "open" else None,
        capacity_fraction=benchmark["capacity"]["percentile"],
        capacity_limit_ms=benchmark["capacity"]["limit_ms"],
    )
