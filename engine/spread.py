"""The spread of a metric over trials: mean, extremes, variation, and a bootstrap interval."""

from __future__ import annotations

import itertools
import random
import statistics
from collections.abc import Iterator, Sequence

from .canonical import Document

# Up to this many trials every resample is taken, which is exact; above it a fixed sample of them.
EXACT_TRIALS = 5
RESAMPLES = 10_000

CONFIDENCE = 0.95


def spread(values: Sequence[float]) -> Document:
    """What is published of a metric over its trials.

    `cv_pct` is the standard deviation over the mean; `ci95_low` and `ci95_high` bound the mean by
    the percentile bootstrap (Efron 1979). One trial has neither.
    """
    mean = statistics.fmean(values)
    low, high = bootstrap_interval(values) if len(values) > 1 else (None, None)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": mean,
        "min": min(values),
        "max": max(values),
        "cv_pct": None if deviation is None or mean == 0 else 100 * deviation / abs(mean),
        "ci95_low": low,
        "ci95_high": high,
    }


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the means of all resamples; the same values give the same interval."""
    means = sorted(statistics.fmean(sample) for sample in _resamples(values))
    cut = (1 - CONFIDENCE) / 2
    last = len(means) - 1
    return means[round(cut * last)], means[round((1 - cut) * last)]


def _resamples(values: Sequence[float]) -> Iterator[Sequence[float]]:
    if len(values) <= EXACT_TRIALS:
        yield from itertools.product(values, repeat=len(values))
        return
    generator = random.Random(0)  # fixed: an archive's numbers must be the same when recomputed
    for _ in range(RESAMPLES):
        yield generator.choices(values, k=len(values))
