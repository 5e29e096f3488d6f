"""When requests arrive that come by themselves, whatever is answered: of each rank its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from .random import ARRIVALS, stream_of, words_from
from .workload import Arrival

_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many requests per second arrive at all ranks together, and how they are spread."""

    per_s: float
    arrival: Arrival
    seed: int


def arrivals(rate: Rate, rank: int, ranks: int) -> Iterator[int]:
    """The ns from the start at which requests of a rank arrive, in order and without an end.

    Constant ones of all ranks are as far from each other; those of poisson are drawn for each rank
    and request, the same in every run.
    """
    if rate.arrival == "constant":
        return (round((ranks * number + rank) * 1e9 / rate.per_s) for number in count())
    return _poisson(rate, rank, ranks)


def _poisson(rate: Rate, rank: int, ranks: int) -> Iterator[int]:
    gap_ns = ranks * 1e9 / rate.per_s
    stream = stream_of(ARRIVALS, rank)
    base_ns = 0
    for first in count(0, _AT_ONCE):
        words = words_from(seed=rate.seed, stream=stream, first=first, count=_AT_ONCE)
        # 53 bits of each word: numbers below 1, so that no gap is endless.
        numbers = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        moments = np.cumsum(-np.log1p(-numbers) * gap_ns)
        yield from (base_ns + np.rint(moments).astype(np.int64)).tolist()
        base_ns += round(float(moments[-1]))
