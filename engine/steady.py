"""Whether throughput was steady over the measured window. Pure, and exact where it can be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from .canonical import Document

# Fewer whole bins than blocks say nothing about a trend.
BLOCKS = 10
LEAST_BINS = BLOCKS

# Two-sided 5 % point of Student's t with BLOCKS - 2 = 8 degrees of freedom. A stricter one would
# let pass a fall to a fifth after a sixth of the window: a step is no straight line.
T_LIMIT = 2.306

TOLERANCE_PCT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The straight line through the bytes of all whole bins of a window.

    `drift_pct` is its rise over the length of the bins, in percent of their mean; `cv_pct` the
    standard deviation of the bins (n - 1) in percent of it. `distinguishable` says that the trend
    is more than the scatter of the bins explains. `first` and `last` are means of a fifth of them.
    """

    length_s: float
    drift_pct: float
    cv_pct: float
    distinguishable: bool
    first_bytes_per_s: float
    last_bytes_per_s: float

    @property
    def steady(self) -> bool:
        """Whether there is no trend that matters and that is no chance."""
        return abs(self.drift_pct) <= TOLERANCE_PCT or not self.distinguishable


def drift_of(result: Document) -> Drift | None:
    """The drift of reads and writes together; None with fewer than 10 whole bins or no bytes.

    A search moves from rate to rate on purpose: it has none either, nor has training that stops
    for evaluations or checkpoints, nor checkpointing with its pauses.
    """
    timeline, window = result.get("timeline"), result["window"]
    if timeline is None or window is None or result.get("search") is not None:
        return None
    if result.get("checkpointing") is not None:
        return None
    training = result.get("training")
    if training is not None and (training["evaluations"] or training["checkpoints"]):
        return None
    bin_s = timeline["bin_s"]
    # The length is rounded to the microsecond; the last bin is whole if no more is missing.
    whole = math.floor(window["length_s"] / bin_s + 1e-5)
    pairs = zip(timeline["read_bytes"], timeline["write_bytes"], strict=True)
    moved = [read + write for read, write in pairs][:whole]
    if len(moved) < LEAST_BINS or not any(moved):
        return None
    return _drift(moved, bin_s)


def _drift(moved: Sequence[int], bin_s: float) -> Drift:
    bins, total, fifth = len(moved), sum(moved), len(moved) // 5
    # Integers keep it exact. Twice the distance from the middle is whole: -(n-1), ..., n-1.
    crossed = sum((2 * index - bins + 1) * count for index, count in enumerate(moved))
    # 2 * crossed / (n(n^2-1)/3) is the slope, over a length of n, through a mean of total / n.
    drift = 6 * crossed * bins / ((bins * bins - 1) * total)
    squares = bins * sum(count * count for count in moved) - total * total
    return Drift(
        length_s=bins * bin_s,
        drift_pct=100 * drift,
        cv_pct=100 * math.sqrt(bins * squares / (bins - 1)) / total,
        distinguishable=_distinguishable(moved),
        first_bytes_per_s=sum(moved[:fifth]) / (fifth * bin_s),
        last_bytes_per_s=sum(moved[-fifth:]) / (fifth * bin_s),
    )


def _distinguishable(moved: Sequence[int]) -> bool:
    """t-test of the slope through the means of 10 blocks of neighbouring bins.

    Neighbouring bins are correlated, which makes the usual test of a slope see trends where there
    are none; means of a few long blocks hardly are (Schmeiser, Operations Research 30, 1982). A
    correction by the correlation of the residuals (Santer et al., J. Geophys. Res. 105, 2000) would
    miss the step of a device whose cache is full: its residuals are correlated too.
    """
    edges = [round(block * len(moved) / BLOCKS) for block in range(BLOCKS + 1)]
    spans = list(itertools.pairwise(edges))
    means = [sum(moved[start:end]) / (end - start) for start, end in spans]
    places = [(start + end - 1) / 2 for start, end in spans]
    middle, mean = math.fsum(places) / BLOCKS, math.fsum(means) / BLOCKS
    spread = math.fsum((place - middle) ** 2 for place in places)
    pairs = list(zip(places, means, strict=True))
    slope = math.fsum((place - middle) * (value - mean) for place, value in pairs) / spread
    rest = math.fsum((value - mean - slope * (place - middle)) ** 2 for place, value in pairs)
    return abs(slope) > T_LIMIT * math.sqrt(rest / (BLOCKS - 2) / spread)
