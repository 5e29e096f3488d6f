"""The search for the highest rate that is served well. Pure.

It begins below what clients reach who ask back to back. A rate that is served well is raised, one
that is not is lowered, then the gap between them is halved in proportion until it is small. The
highest rate that was served well is tried once more; if it is not then, a lower one is looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..contract import Document
from ..io_core.histogram import Histogram
from .workload import CapacitySearch

Purpose = Literal["search", "confirm"]

# Of the rate in a closed loop; requests that arrive by chance wait for each other beyond it.
_FIRST = 0.7
_UP = math.sqrt(2)
_DOWN = 2.0
# So many rates are tried at most, the one that confirms among them.
TRIED_MOST = 16
# A search gives up below so much of the first rate.
_LEAST = 1 / 64
# Of what arrived so much may be unserved, and a request of each client beside it.
UNSERVED_MOST_PCT = 2.0


@dataclass(frozen=True, slots=True)
class Try:
    """A rate of queries, all clients together, to be offered."""

    purpose: Purpose
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Tried:
    """A rate that was offered, and whether it was served well."""

    what: Try
    met: bool


def next_try(closed_per_s: float, precision_pct: float, tried: Sequence[Tried]) -> Try | None:
    """What to offer after all this; None when a rate is confirmed or the search has given up.

    `closed_per_s` is the rate in a closed loop.
    """
    first = closed_per_s * _FIRST
    if not tried:
        return Try("search", first) if first > 0 else None
    if (tried[-1].met and tried[-1].what.purpose == "confirm") or len(tried) >= TRIED_MOST:
        return None
    failed = min((each.what.rate_per_s for each in tried if not each.met), default=math.inf)
    passed = max(
        (each.what.rate_per_s for each in tried if each.met and each.what.rate_per_s < failed),
        default=0.0,
    )
    if passed == 0:
        lower = failed / _DOWN
        return Try("search", lower) if lower >= first * _LEAST else None
    narrow = failed <= passed * (1 + precision_pct / 100)
    if narrow or len(tried) == TRIED_MOST - 1:
        return Try("confirm", passed)
    if failed == math.inf:
        return Try("search", passed * _UP)
    return Try("search", math.sqrt(passed * failed))


def is_met(
    point: Document, latency: Histogram, limits: CapacitySearch, recall_least: float
) -> bool:
    """Whether requests in an open loop were served well: in time, all, right, and none failed."""
    reached_ns = latency.percentile(limits.fraction)
    unserved_most = UNSERVED_MOST_PCT / 100 * point["arrivals"] + point["clients"]
    return (
        reached_ns is not None
        and reached_ns <= limits.limit_ms * 1e6
        and point["recall"] is not None
        and point["recall"]["mean"] >= recall_least
        and point["failed_requests"] == 0
        and point["late_requests"] == 0
        and point["unserved"] <= unserved_most
    )
