"""How much of the truth a search found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .truth import Floats, Ids, Truth

# What a search returns where it found too few.
NOTHING = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recall:
    """The share of the k nearest that was found, of each query and over all of them.

    `within_epsilon` is the mean where an id also counts whose score is at most epsilon below that
    of the k-th. `short_queries` had fewer than k ids, `repeating_queries` the same one twice.
    """

    k: int
    queries: int
    mean: float
    median: float
    least: float
    most: float
    p5: float
    p95: float
    p99: float
    zero_queries: int
    short_queries: int
    repeating_queries: int
    epsilon: float
    within_epsilon: float
    per_query: Floats


def recall(found: Ids, truth: Truth, k: int, *, epsilon: float = 0.0) -> Recall:
    """Compares what was found, shape (queries, k), with the truth of the same queries.

    An id counts once however often it is named, and -1 is none. Of ids that are not in the truth at
    its full depth no score is known, so they are not within epsilon either. Raises EngineError for
    ids of no vector, for another shape, and for k above the depth of the truth.
    """
    queries = len(truth.ids)
    _check(found, truth, k)
    # Of fewer than k vectors all are the nearest.
    nearest = min(k, truth.vectors)
    once = _without_repetition(found)
    ids, distinct = (found != NOTHING).sum(axis=1), (once != NOTHING).sum(axis=1)
    there = _share(once, truth.ids[:, :nearest], np.ones((queries, nearest), dtype=np.bool_))
    kth = truth.scores[:, nearest - 1 : nearest]
    close = (truth.scores >= kth - epsilon) & (truth.ids != NOTHING)
    near = _share(once, truth.ids, close)
    shares = there / nearest
    p5, median, p95, p99 = (float(value) for value in np.percentile(shares, (5, 50, 95, 99)))
    return Recall(
        k=k,
        queries=queries,
        mean=float(there.sum()) / (queries * nearest),
        median=median,
        least=float(shares.min()),
        most=float(shares.max()),
        p5=p5,
        p95=p95,
        p99=p99,
        zero_queries=int((there == 0).sum()),
        short_queries=int((ids < nearest).sum()),
        repeating_queries=int((distinct < ids).sum()),
        epsilon=epsilon,
        within_epsilon=float(near.sum()) / (queries * nearest),
        per_query=shares,
    )


def _check(found: Ids, truth: Truth, k: int) -> None:
    queries, depth = truth.ids.shape
    if not 1 <= k <= depth:
        raise EngineError(f"recall at {k} needs a truth of at least that depth, this has {depth}")
    if found.shape != (queries, k) or not queries:
        raise EngineError(
            f"results of shape {found.shape} do not fit {queries} queries with {k} ids each"
        )
    wrong = (found < NOTHING) | (found >= truth.vectors)
    if wrong.any():
        query, place = (int(at) for at in np.argwhere(wrong)[0])
        raise EngineError(
            f"query {query} was answered with id {found[query, place]}, which is none of"
            f" {truth.vectors} vectors"
        )


def _without_repetition(found: Ids) -> Ids:
    """The same with -1 where an id was named before in its row, each row in order of ids."""
    once = np.sort(found, axis=1)
    once[:, 1:][once[:, 1:] == once[:, :-1]] = NOTHING
    return once


def _share(once: Ids, ids: Ids, counts: NDArray[np.bool_]) -> Ids:
    """How many of the ids that count were found, of each query."""
    # One sorted list of all queries: ids of each are moved beyond those of the one before.
    span = max(int(once.max(initial=0)), int(ids.max(initial=0))) + 2
    moved = np.arange(len(ids), dtype=np.int64)[:, np.newaxis] * span
    wanted = np.where(counts, ids + moved + 1, NOTHING)
    hits = np.isin(once + moved + 1, wanted) & (once != NOTHING)
    shares: Ids = hits.sum(axis=1)
    return shares
