"""Log-linear histograms with 3 significant digits, mergeable by adding their counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values below 2^11 have a bucket each; every octave above has 2^10, so a bucket's highest value
# lies less than 1/1024 above each value that it holds.
EXACT_BITS = 11
_PER_OCTAVE = 1 << (EXACT_BITS - 1)
_VALUE_BITS = 63
BUCKETS = 2 * _PER_OCTAVE + (_VALUE_BITS - EXACT_BITS) * _PER_OCTAVE

Int64s = NDArray[np.int64]


class Histogram:
    """Counts of non-negative integers below 2^63, with their exact sum and extremes."""

    __slots__ = ("counts", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.counts: Int64s = np.zeros(BUCKETS, dtype=np.int64)
        self.total = 0
        self.minimum: int | None = None
        self.maximum: int | None = None

    @property
    def count(self) -> int:
        """Number of recorded values."""
        return int(self.counts.sum())

    def record(self, values: Sequence[int] | Int64s) -> None:
        """Adds values; raises ValueError for a negative one."""
        array = np.asarray(values, dtype=np.int64)
        if array.size == 0:
            return
        low, high = int(array.min()), int(array.max())
        if low < 0:
            raise ValueError(f"a histogram holds no negative value, got {low}")
        # bincount, because fancy-indexed += counts a repeated bucket once.
        indices = bucket_index(array)
        first = int(indices.min())
        added = np.bincount(indices - first)
        self.counts[first : first + added.size] += added
        self.total += _exact_sum(array)
        self._widen(low, high)

    def merge(self, other: Histogram) -> None:
        """Adds all that another histogram holds."""
        if other.minimum is None or other.maximum is None:
            return
        # Only where it holds something: pages that nobody has touched stay untouched.
        first, last = bucket_index(np.array([other.minimum, other.maximum])).tolist()
        self.counts[first : last + 1] += other.counts[first : last + 1]
        self.total += other.total
        self._widen(other.minimum, other.maximum)

    def percentile(self, fraction: float) -> int | None:
        """The smallest recorded value, to 3 digits, that `fraction` of all do not exceed."""
        count = self.count
        if count == 0 or self.maximum is None:
            return None
        wanted = min(max(int(np.ceil(fraction * count)), 1), count)
        index = int(np.searchsorted(np.cumsum(self.counts), wanted))
        return min(int(bucket_upper(np.array([index]))[0]), self.maximum)

    def export(self, unit: str) -> dict[str, Any]:
        """JSON form: only buckets that hold something, `upper` being their highest value."""
        filled = np.flatnonzero(self.counts)
        return {
            "unit": unit,
            "upper": bucket_upper(filled).tolist(),
            "count": self.counts[filled].tolist(),
            "sum": self.total,
            "min": self.minimum,
            "max": self.maximum,
        }

    def _widen(self, low: int, high: int) -> None:
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)


def bucket_index(values: Int64s) -> Int64s:
    """The bucket of each non-negative value, same shape."""
    _, exponent = np.frexp(values.astype(np.float64))
    # Above 2^53 the conversion may round up to the next octave: the value is then in the last
    # bucket of its own, which has the same index seen from there.
    shift = np.maximum(exponent.astype(np.int64) - EXACT_BITS, 0)
    index: Int64s = shift * _PER_OCTAVE + (values >> shift)
    return index


def bucket_upper(indices: NDArray[np.intp]) -> Int64s:
    """The highest value that each bucket holds, same shape."""
    wide = indices.astype(np.int64)
    shift = np.maximum(wide // _PER_OCTAVE - 1, 0)
    # In two steps: the value after the last bucket of all does not fit into 63 bits.
    lower = (wide - shift * _PER_OCTAVE) << shift
    upper: Int64s = lower + ((np.int64(1) << shift) - 1)
    return upper


def _exact_sum(values: Int64s) -> int:
    # Halves of 32 bits: their sums cannot overflow, whatever the values.
    high = int((values >> 32).sum())
    low = int((values & 0xFFFFFFFF).sum())
    return (high << 32) + low
