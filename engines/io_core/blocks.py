"""What is written: incompressible blocks that each carry a stamp of what and where they are.

A block is 4 KiB. Its first 32 bytes are four little-endian words of 64 bits:
key of the run | chunk | version in the low half, block number in the high half | checksum.
"""

from __future__ import annotations

import hashlib
import mmap
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4096
STAMP_BYTES = 32
_WORD_BYTES = 8
_BLOCK_WORDS = BLOCK_BYTES // _WORD_BYTES
_STAMP_WORDS = STAMP_BYTES // _WORD_BYTES
# Multipliers of the SplitMix64 finaliser, and its increment.
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0x9E3779B97F4A7C15)

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """The stamp of one block, decoded; `intact` when its own checksum agrees."""

    key: int
    chunk: int
    version: int
    block: int
    intact: bool

    def __str__(self) -> str:
        if not (self.key or self.chunk or self.version or self.block or self.intact):
            return "zeros"
        state = "" if self.intact else ", checksum wrong"
        return (
            f"key {self.key:016x} chunk {self.chunk} version {self.version}"
            f" block {self.block}{state}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The first block that is not what it must be, and how many there are in the same buffer."""

    block: int
    expected: Stamp
    found: Stamp
    blocks: int


def run_key(run_id: str, epoch: int) -> int:
    """64 bits that tell the blocks of one run, and of its nth pass over them, from all others."""
    digest = hashlib.sha256(f"{run_id}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:_WORD_BYTES], "little")


def aligned_buffer(length_bytes: int) -> mmap.mmap:
    """Anonymous memory on a page boundary, as O_DIRECT wants it, with its pages present."""
    buffer = mmap.mmap(-1, length_bytes)
    with suppress(OSError):  # huge pages make direct I/O cheaper; a kernel may be without
        buffer.madvise(mmap.MADV_HUGEPAGE)
    np.frombuffer(buffer, dtype=np.uint8)[:: mmap.PAGESIZE] = 0
    return buffer


def fill_pool(seed: int, length_bytes: int) -> Words:
    """Incompressible words, the same for the same seed; length must be a multiple of 8."""
    generator = np.random.Philox(key=np.array([seed % 2**64, 0x66696C6C], dtype=np.uint64))
    return generator.random_raw(length_bytes // _WORD_BYTES)


def as_blocks(buffer: mmap.mmap) -> Words:
    """A view of a buffer, shape (blocks, 512)."""
    return np.frombuffer(buffer, dtype="<u8").reshape(-1, _BLOCK_WORDS)


class Stamper:
    """Writes and checks the stamps of chunks of up to `blocks` blocks. One thread at a time."""

    def __init__(self, key: int, blocks: int) -> None:
        self._stamps: Words = np.empty((blocks, _STAMP_WORDS), dtype=np.uint64)
        self._stamps[:, 0] = key
        self._places: Words = np.arange(blocks, dtype=np.uint64) << np.uint64(32)
        self._key = np.array([key], dtype=np.uint64)

    def stamp(self, blocks: Words, chunk: int, version: int) -> None:
        """Stamps blocks, shape (n, 512), as those of a chunk's version, numbered from 0."""
        blocks[:, :_STAMP_WORDS] = self._expect(len(blocks), chunk, version)

    def verify(self, blocks: Words, chunk: int, version: int) -> Mismatch | None:
        """Compares the stamps of blocks, shape (n, 512), with what they must be."""
        expected = self._expect(len(blocks), chunk, version)
        found = blocks[:, :_STAMP_WORDS]
        if np.array_equal(found, expected):
            return None
        wrong = np.flatnonzero((found != expected).any(axis=1))
        first = int(wrong[0])
        return Mismatch(
            block=first,
            expected=decode(expected[first]),
            found=decode(found[first]),
            blocks=int(wrong.size),
        )

    def _expect(self, count: int, chunk: int, version: int) -> Words:
        stamps = self._stamps[:count]
        stamps[:, 1] = chunk
        np.bitwise_or(self._places[:count], np.uint64(version), out=stamps[:, 2])
        stamps[:, 3] = _checksum(self._key, stamps[:1, 1], stamps[:, 2])
        return stamps


def decode(words: Words) -> Stamp:
    """The stamp in four words, shape (4,)."""
    key, chunk, place, check = (int(word) for word in words)
    right = _checksum(words[0:1], words[1:2], words[2:3])
    return Stamp(
        key=key,
        chunk=chunk,
        version=place & 0xFFFFFFFF,
        block=place >> 32,
        intact=check == int(right[0]),
    )


def _checksum(key: Words, chunk: Words, place: Words) -> Words:
    # Arrays on purpose, even of one element: their arithmetic wraps without a warning.
    return _mix(_mix(_mix(key + _STEP) ^ chunk) ^ place)


def _mix(words: Words) -> Words:
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))
