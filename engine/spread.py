"""The spread of a metric over trials: mean, extremes, variation, and a bootstrap interval."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from functools import cache

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
    means = sorted(_means(values))
    cut = (1 - CONFIDENCE) / 2
    last = sum(times for _, times in means) - 1
    return _nth(means, round(cut * last)), _nth(means, round((1 - cut) * last))


def _means(values: Sequence[float]) -> Iterator[tuple[float, int]]:
    """Means of resamples, and how many have each; the order in a resample does not matter.

    A mean is of a sum that is rounded once, so that it is the same in every order.
    """
    count = len(values)
    if count <= EXACT_TRIALS:
        for chosen, times in _multisets(count):
            yield statistics.fmean([values[index] for index in chosen]), times
        return
    generator = random.Random(0)  # fixed: an archive's numbers must be the same when recomputed
    for _ in range(RESAMPLES):
        yield statistics.fmean(generator.choices(values, k=count)), 1


@cache
def _multisets(count: int) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Every choice of as many indexes with repetition, and in how many orders it can be drawn."""
    return tuple(
        (
            chosen,
            math.factorial(count)
            // math.prod(math.factorial(chosen.count(index)) for index in range(count)),
        )
        for chosen in itertools.combinations_with_replacement(range(count), count)
    )


def _nth(means: Sequence[tuple[float, int]], number: int) -> float:
    """The mean at a place, from 0, among all resamples in order."""
    for mean, times in means:
        number -= times
        if number < 0:
            return mean
    raise IndexError(number)
