"""From what each rank saw of a run of searches to what a stage reports of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from ..contract import Document
from ..io_core.histogram import Histogram
from ..io_core.page_cache import Residency
from .answers import Faults
from .backend import Ids, Io, Moved, Value
from .caches import Prepared, cache_document
from .recall import Recall, recall
from .tally import Counts
from .timeline import timeline_document
from .truth import Truth
from .workload import Cache

Purpose = Literal["probe", "run", "search", "confirm", "sweep"]

# What a result tells of recall; faults of answers are told apart.
_RECALL = (
    "k", "queries", "mean", "median", "least", "most", "p5", "p95", "p99", "zero_queries",
    "epsilon", "within_epsilon",
)  # fmt: skip
# From what certainly reads storage to what does not.
_IO_CLASSES = ("direct", "server", "buffered", "mmap", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A run of searches: for so long, or so many queries of all ranks; one of both is None.

    `distinct` queries, from the first on, are asked in turn. In a closed loop `target_qps` is None.
    With `all_asked` those that the run does not reach are asked after it; else they have no recall.
    """

    purpose: Purpose
    search: Mapping[str, Value]
    k: int
    batch_size: int
    distinct: int
    runtime_s: float | None = None
    queries: int | None = None
    target_qps: float | None = None
    parameter: tuple[str, Value] | None = None
    all_asked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a rank sends to rank 0 once a point is over, apart from its histograms.

    `queries` are those it has, `found` the ids that answered them, of which the `unanswered` have
    none. `prepared` and `after` are of ranks that lead a host, None elsewhere and where the point
    did not come to that.
    """

    start_unix_s: float
    window_s: float
    counts: Counts
    queries: int
    found: Ids
    unanswered: tuple[int, ...]
    faults: Faults
    backend: Moved | None
    prepared: Prepared | None
    after: Residency | None


def point_document(
    point: Point,
    cache: Cache,
    ranks: Sequence[Seen],
    latency: Histogram,
    service: Histogram,
    found: Recall | None,
) -> Document:
    """A point in a result; `found` is None where it did not come to that."""
    counts = [rank.counts for rank in ranks]
    prepared = [rank.prepared for rank in ranks if rank.prepared is not None]
    after = [rank.after for rank in ranks if rank.prepared is not None]
    return {
        "purpose": point.purpose,
        "parameter": None
        if point.parameter is None
        else {"name": point.parameter[0], "value": point.parameter[1]},
        "target_qps": point.target_qps,
        "k": point.k,
        "batch_size": point.batch_size,
        "clients": len(ranks),
        "start_unix_s": round(ranks[0].start_unix_s, 6),
        "elapsed_s": _elapsed_s(ranks),
        "requests": sum(each.requests for each in counts),
        "queries": sum(each.queries for each in counts),
        "failed_requests": sum(each.failed for each in counts),
        "late_requests": sum(each.late for each in counts),
        "first_failure": next((each.first_failure for each in counts if each.first_failure), None),
        **_arrivals(point, counts),
        "latency": latency.export("ns"),
        "service": service.export("ns"),
        "answers": _faults([rank.faults for rank in ranks]),
        "recall": None if found is None else _recall(found),
        "asked_queries": sum(min(rank.queries, rank.counts.asked) for rank in ranks),
        "reads": _reads(ranks),
        "timeline": timeline_document([each.timeline for each in counts]),
        "cache": cache_document(cache, prepared, after),
    }


def recall_of(point: Point, ranks: Sequence[Seen], truth: Truth, epsilon: float) -> Recall | None:
    """How much of the truth all ranks have found; query i is one of rank i mod their number.

    A query that failed has found nothing. Where not all were to be asked, those count that were
    answered; None if none was.
    """
    queries = sum(rank.queries for rank in ranks)
    found = np.empty((queries, point.k), dtype=np.int64)
    counts = np.ones(queries, dtype=np.bool_)
    for number, rank in enumerate(ranks):
        found[number :: len(ranks)] = rank.found
        if not point.all_asked:
            counts[[number + own * len(ranks) for own in rank.unanswered]] = False
    if not counts.any():
        return None
    numbers = np.flatnonzero(counts)
    those = Truth(ids=truth.ids[numbers], scores=truth.scores[numbers], covered=truth.covered)
    return recall(found[numbers], those, point.k, epsilon=epsilon)


def least_direct(ranks: Iterable[Io]) -> Io:
    """What readers do where they do not all do the same: that which is furthest from storage."""
    return max(ranks, key=lambda io: _IO_CLASSES.index(io.io_class))


def _elapsed_s(ranks: Sequence[Seen]) -> float:
    """To the end of the last request that counts; where none does, to the end of the window."""
    last_ns = max(rank.counts.last_ns for rank in ranks)
    return round(last_ns / 1e9 if last_ns else max(rank.window_s for rank in ranks), 9)


def _arrivals(point: Point, counts: Sequence[Counts]) -> Document:
    if point.target_qps is None:
        return {"arrivals": None, "unserved": None, "lag_most_s": None}
    return {
        "arrivals": sum(each.arrivals for each in counts),
        "unserved": sum(each.unserved for each in counts),
        "lag_most_s": round(max(each.lag_ns for each in counts) / 1e9, 9),
    }


def _faults(ranks: Sequence[Faults]) -> Document:
    return {
        name: sum(getattr(rank, name) for rank in ranks)
        for name in (each.name for each in fields(Faults))
    }


def _recall(found: Recall) -> Document:
    return {name: getattr(found, name) for name in _RECALL}


def _reads(ranks: Sequence[Seen]) -> Document:
    """Sums over ranks; what any of them does not know is not known of all."""
    backend = [rank.backend for rank in ranks if rank.backend is not None]
    process = [rank.counts.process for rank in ranks if rank.counts.process is not None]
    return {
        "backend": {
            "bytes": sum(each.read_bytes for each in backend),
            "reads": sum(each.reads for each in backend),
        }
        if len(backend) == len(ranks)
        else None,
        "process": {
            "bytes": sum(each.read_bytes for each in process),
            "requested_bytes": sum(each.requested_bytes for each in process),
            "calls": sum(each.calls for each in process),
            "major_faults": sum(each.major_faults for each in process),
        }
        if len(process) == len(ranks)
        else None,
    }
