"""Random vectors by counter: bit by bit the same on every machine, for any range of rows.

They are made of raw words of Philox, of whole numbers, and of single operations that IEEE 754
rounds in one way; no sum here depends on its order, and there are no logarithms or cosines.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

# What numbers are for: each has a stream of its own.
CENTRES = 1
LABELS = 2
COMPONENTS = 3
QUERY_BASES = 4
QUERY_NOISE = 5
QUERY_LABELS = 6
QUERY_COMPONENTS = 7
# Of each rank one of its own.
ARRIVALS = 8
_STREAMS = 2**8

# The standard deviation of what `normal_numbers` gives; the largest are just below 33,000.
DEVIATION = 8192
# Philox makes four words from one counter; a word is four numbers of 16 bits.
_WORDS_AT_ONCE = 4
_NUMBERS_AT_ONCE = 4 * _WORDS_AT_ONCE


def words_from(*, seed: int, stream: int, first: int, count: int) -> Words:
    """Uniform 64-bit words of a stream, from the first-th on."""
    skipped = first % _WORDS_AT_ONCE
    return _philox(seed, stream, first // _WORDS_AT_ONCE).random_raw(skipped + count)[skipped:]


def stream_of(stream: int, entity: int) -> int:
    """The stream of one of many that have numbers for the same thing."""
    return stream + _STREAMS * entity


class Rows:
    """The numbers of rows of so many, from a row on: 16 bits each, uniform.

    Each row begins at a counter of its own, whatever was asked for before.
    """

    def __init__(self, *, seed: int, stream: int, first: int, width: int) -> None:
        self._width = width
        counters = -(-width // _NUMBERS_AT_ONCE)
        self._words = counters * _WORDS_AT_ONCE
        self._philox = _philox(seed, stream, first * counters)

    def next(self, count: int) -> NDArray[np.uint16]:
        """The next rows, shape (count, width)."""
        words = self._philox.random_raw(count * self._words).astype("<u8", copy=False)
        return words.view("<u2").reshape(count, -1)[:, : self._width]


def uniform_numbers(parts: NDArray[np.uint16]) -> Vectors:
    """Odd whole numbers from -65,535 to 65,535, each as likely."""
    numbers = parts.astype(np.float32)
    numbers *= np.float32(2)
    numbers -= np.float32(2**16 - 1)
    return numbers


def normal_numbers(parts: NDArray[np.uint16]) -> Vectors:
    """Whole numbers, distributed like normal ones with mean 0 and deviation DEVIATION."""
    numbers: Vectors = np.take(_normal_table(), parts, mode="clip")
    return numbers


def _philox(seed: int, stream: int, counter: int) -> np.random.Philox:
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


@lru_cache(maxsize=1)
def _normal_table() -> Vectors:
    """The normal number of each 16 bits: its quantile among sums of 12 bytes.

    Such a sum has the deviation 256, and each stands for the 32 numbers of its step. They are found
    by whole numbers alone, which the inverse of the normal distribution cannot be.
    """
    bytes_, levels, step = 12, 256, 32
    ways = [1]
    for _ in range(bytes_):
        sums = [0, *np.cumsum(np.array([*ways, *[0] * (levels - 1)], dtype=object)).tolist()]
        ways = [sums[at + 1] - sums[max(at + 1 - levels, 0)] for at in range(len(sums) - 1)]
    table = np.empty(2**16, dtype=np.float32)
    middle = step * (bytes_ * (levels - 1) + 1) // 2
    total, below, at = levels**bytes_, 0, 0
    for part in range(2**15):
        # The middle of its 65,536th of all ways.
        target = (2 * part + 1) * total // 2**17
        while below + ways[at] <= target:
            below += ways[at]
            at += 1
        number = step * at + (target - below) * step // ways[at] - middle
        table[part], table[2**16 - 1 - part] = number, -number
    table.setflags(write=False)
    return table
