"""The search for the highest rate of requests that storage serves within a limit. Pure.

A probe offers requests at one rate. The rate is doubled until a probe fails, then the gap between
the highest rate that passed and the lowest that failed is halved, in proportion, until it is small.
What passed is confirmed by a longer probe; a rate that fails there counts as one that failed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..io_core.histogram import Histogram
from ..section import Section

Purpose = Literal["search", "confirm"]

_GROWTH = 2.0
# A search gives up where a probe would last so many times as long as the one that confirms.
_LONGEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameters:
    """Rates are requests per second of one rank.

    A probe passes if `fraction` of its prefix loads take at most `limit_ms`. It lasts `probe_s`,
    the one that confirms `confirm_s`, but has `requests_min` requests at least.
    """

    limit_ms: float
    fraction: float
    start_per_s: float
    tolerance_pct: float
    probe_s: float
    confirm_s: float
    requests_min: int
    probes_max: int

    def requests(self, probe: Probe) -> int:
        """Requests of a probe."""
        length_s = self.confirm_s if probe.purpose == "confirm" else self.probe_s
        return max(self.requests_min, math.ceil(probe.rate_per_s * length_s))

    def length_s(self, probe: Probe) -> float:
        """How long the requests of a probe take to come."""
        return self.requests(probe) / probe.rate_per_s

    def passes(self, prefix_loads: Histogram) -> bool:
        """Whether these prefix loads, in ns, of all ranks, stay within the limit."""
        reached_ns = prefix_loads.percentile(self.fraction)
        return reached_ns is not None and reached_ns <= self.limit_ms * 1e6


@dataclass(frozen=True, slots=True)
class Probe:
    """A rate to be tried."""

    purpose: Purpose
    rate_per_s: float


@dataclass(frozen=True, slots=True)
class Tried:
    """A probe and how it went."""

    probe: Probe
    passed: bool


def next_probe(parameters: SearchParameters, tried: Sequence[Tried]) -> Probe | None:
    """What to try after all this; None when a rate is confirmed or the search has given up."""
    if tried and tried[-1].passed and tried[-1].probe.purpose == "confirm":
        return None
    if len(tried) >= parameters.probes_max:
        return None
    failed = min((each.probe.rate_per_s for each in tried if not each.passed), default=math.inf)
    passed = max(
        (each.probe.rate_per_s for each in tried if each.passed and each.probe.rate_per_s < failed),
        default=0.0,
    )
    if not tried:
        return Probe("search", parameters.start_per_s)
    if passed == 0:
        lower = Probe("search", failed / _GROWTH)
        endless = parameters.length_s(lower) > _LONGEST * parameters.confirm_s
        return None if endless else lower
    # The last probe is kept for confirming.
    narrow = failed <= passed * (1 + parameters.tolerance_pct / 100)
    if narrow or len(tried) == parameters.probes_max - 1:
        return Probe("confirm", passed)
    if failed == math.inf:
        return Probe("search", passed * _GROWTH)
    return Probe("search", math.sqrt(passed * failed))


def search_of(section: Section, confirm_s: float) -> SearchParameters:
    """Reads the section `search`; raises JobError."""
    return SearchParameters(
        limit_ms=section.positive("prefix_load_ms"),
        fraction=section.positive("fraction"),
        start_per_s=section.positive("start_per_s"),
        tolerance_pct=section.positive("tolerance_pct"),
        probe_s=section.positive("probe_s"),
        confirm_s=confirm_s,
        requests_min=section.count("requests_min"),
        probes_max=section.count("probes_max"),
    )
