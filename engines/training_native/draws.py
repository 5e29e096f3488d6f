"""Random numbers by counter: the same for the same seed, on any number of ranks and any machine.

Only raw words of numpy's Philox are used, which stay the same for ever, and whole numbers made of
them: logarithms and cosines differ in their last bits between machines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]

# What the numbers are for: each has a stream of its own.
SIZES = 1
POOL = 2
CONTENT = 3
FILES = 4
SAMPLES = 5

# The sum of 48 uniform numbers has the standard deviation 2, and a distribution function that
# is nowhere further than 0.0006 from the normal one. Each word gives four of them.
_UNIFORMS = 48
_NORMAL_WORDS = _UNIFORMS // 4
_UNIT = 2**16
_NORMALS_AT_ONCE = 2**16


def random_words(*, seed: int, stream: int, number: int = 0, first: int = 0, count: int) -> Words:
    """Uniform 64-bit words of the `number`-th sequence of a stream, from the first-th on.

    `first` is a multiple of 4, `number` is below 2**56.
    """
    key = np.array([seed % 2**64, stream << 56 | number], dtype=np.uint64)
    words: Words = np.random.Philox(key=key, counter=first // 4).random_raw(count)
    return words


def normals(*, seed: int, stream: int, first: int, count: int) -> Floats:
    """Normally distributed numbers with mean 0 and deviation 1, from the first-th on."""
    drawn = np.empty(count)
    for begin in range(0, count, _NORMALS_AT_ONCE):
        some = min(count - begin, _NORMALS_AT_ONCE)
        words = random_words(
            seed=seed,
            stream=stream,
            first=(first + begin) * _NORMAL_WORDS,
            count=some * _NORMAL_WORDS,
        )
        quarters = words.astype("<u8", copy=False).view("<u2").reshape(some, _UNIFORMS)
        sums = quarters.sum(axis=1, dtype=np.int64)
        # Each of them stands for the middle of its 65,536th.
        centred = 2 * sums + _UNIFORMS - _UNIFORMS * _UNIT
        drawn[begin : begin + some] = centred / (4 * _UNIT)
    return drawn


def permutation(*, seed: int, stream: int, number: int = 0, count: int) -> NDArray[np.int32]:
    """The numbers below count in random order."""
    words = random_words(seed=seed, stream=stream, number=number, count=count)
    return np.argsort(words, kind="stable").astype(np.int32)
