"""What is written: incompressible blocks that each carry a stamp of what and where they are.

A block is 4 KiB. Its first 32 bytes are four little-endian words of 64 bits:
key of the run | chunk | version in the low half, block number in the high half | checksum.
What follows is taken from a pool of random words. Where content is placed, every byte of a file
follows from its place: the block at an offset is the pool's at that offset modulo the length of
the pool, after a line of 64 bytes of which the second half follows from the stamp in the first.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4096
STAMP_BYTES = 32
_WORD_BYTES = 8
_BLOCK_WORDS = BLOCK_BYTES // _WORD_BYTES
_STAMP_WORDS = STAMP_BYTES // _WORD_BYTES
_LINE_WORDS = 8
# Multipliers of the SplitMix64 finaliser, and its increment.
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_STEP = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

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
class Byte:
    """A byte of a block, where that is in it."""

    at: int
    value: int

    def __str__(self) -> str:
        return f"byte {self.at} = 0x{self.value:02x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """The first block that is not what it must be, and how many there are in the same buffer.

    Told by its stamp, or by its first wrong byte where the stamp is right.
    """

    block: int
    expected: Stamp | Byte
    found: Stamp | Byte
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


def as_blocks(buffer: memoryview | mmap.mmap) -> Words:
    """A view of a buffer, shape (blocks, 512)."""
    return np.frombuffer(buffer, dtype="<u8").reshape(-1, _BLOCK_WORDS)


class Stamper:
    """Writes and checks the stamps of chunks of up to `blocks` blocks. One thread at a time."""

    def __init__(self, key: int, blocks: int) -> None:
        numbers = range(blocks)
        self._key = key
        self._stamps: Words = np.empty((blocks, _STAMP_WORDS), dtype=np.uint64)
        self._stamps[:, 0] = key
        self._found: Words = np.empty_like(self._stamps)
        self._places: Words = np.array([n << 32 for n in numbers], dtype=np.uint64)
        self._places_mixed: Words = np.array([_mix(n) for n in numbers], dtype=np.uint64)

    def stamp(self, blocks: Words, chunk: int, version: int) -> None:
        """Stamps blocks, shape (n, 512), as those of a chunk's version, numbered from 0."""
        blocks[:, :_STAMP_WORDS] = self._expect(len(blocks), chunk, version)

    def verify(self, blocks: Words, chunk: int, version: int) -> Mismatch | None:
        """Compares the stamps of blocks, shape (n, 512), with what they must be."""
        expected = self._expect(len(blocks), chunk, version)
        # Column by column: one long loop overlaps its cache misses, many of four words do not.
        found = self._found[: len(blocks)]
        for word in range(_STAMP_WORDS):
            found[:, word] = blocks[:, word]
        differs = found != expected
        if not differs.any():
            return None
        wrong = np.flatnonzero(differs.any(axis=1))
        first = int(wrong[0])
        return Mismatch(
            block=first,
            expected=decode(expected[first]),
            found=decode(found[first]),
            blocks=int(wrong.size),
        )

    def place(self, blocks: Words, chunk: int, version: int) -> None:
        """Writes the lines of blocks, shape (n, 512), that hold the pool's where they will be."""
        blocks[:, :_LINE_WORDS] = self._lines(len(blocks), chunk, version)

    def verify_all(
        self, blocks: Words, chunk: int, version: int, pool: Words, first: int
    ) -> Mismatch | None:
        """Compares every byte of blocks, the `first`-th of a file and those after it."""
        lines = self._lines(len(blocks), chunk, version)
        differs = (blocks[:, :_LINE_WORDS] != lines).any(axis=1)
        for part, at in _runs(len(blocks), pool, first):
            rest = slice(_LINE_WORDS, None)
            differs[part] |= (blocks[part, rest] != pool[at, rest]).any(axis=1)
        if not differs.any():
            return None
        wrong = np.flatnonzero(differs)
        number = int(wrong[0])
        expected = pool[(first + number) % len(pool)].copy()
        expected[:_LINE_WORDS] = lines[number]
        return _difference(number, expected, blocks[number], int(wrong.size))

    def _lines(self, count: int, chunk: int, version: int) -> Words:
        lines = np.empty((count, _LINE_WORDS), dtype=np.uint64)
        lines[:, :_STAMP_WORDS] = self._expect(count, chunk, version)
        for word in range(_STAMP_WORDS, _LINE_WORDS):
            lines[:, word] = _mixed(lines[:, word - 1] + np.uint64(_STEP))
        return lines

    def _expect(self, count: int, chunk: int, version: int) -> Words:
        stamps = self._stamps[:count]
        stamps[:, 1] = chunk
        np.bitwise_or(self._places[:count], np.uint64(version), out=stamps[:, 2])
        mixed = np.uint64(_mix_chunk(self._key, chunk, version))
        np.bitwise_xor(self._places_mixed[:count], mixed, out=stamps[:, 3])
        return stamps


def lay(blocks: Words, pool: Words, first: int) -> None:
    """Fills blocks with what a pool, shape (n, 512), has for the `first`-th of a file and on."""
    for part, at in _runs(len(blocks), pool, first):
        blocks[part] = pool[at]


def loose_bytes(key: int, chunk: int, version: int, length_bytes: int) -> bytes:
    """What is written where no whole block is left: follows from all of these, in every byte."""
    words = -(-length_bytes // _WORD_BYTES)
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_STEP)
    mixed = _mixed(np.uint64(_mix_chunk(key, chunk, version)) + steps)
    return mixed.astype("<u8").tobytes()[:length_bytes]


def decode(words: Words) -> Stamp:
    """The stamp in four words, shape (4,)."""
    key, chunk, place, check = (int(word) for word in words)
    version, block = place & 0xFFFFFFFF, place >> 32
    return Stamp(
        key=key,
        chunk=chunk,
        version=version,
        block=block,
        intact=check == _mix_chunk(key, chunk, version) ^ _mix(block),
    )


def _runs(count: int, pool: Words, first: int) -> Iterator[tuple[slice, slice]]:
    """Which blocks of a buffer are which of a pool that recurs."""
    done = 0
    while done < count:
        at = (first + done) % len(pool)
        run = min(count - done, len(pool) - at)
        yield slice(done, done + run), slice(at, at + run)
        done += run


def _difference(number: int, expected: Words, found: Words, blocks: int) -> Mismatch:
    stamps = expected[:_STAMP_WORDS], found[:_STAMP_WORDS]
    if (stamps[0] != stamps[1]).any():
        return Mismatch(
            block=number, expected=decode(stamps[0]), found=decode(stamps[1]), blocks=blocks
        )
    ours, theirs = (np.frombuffer(words.tobytes(), np.uint8) for words in (expected, found))
    at = int(np.flatnonzero(ours != theirs)[0])
    return Mismatch(
        block=number,
        expected=Byte(at=at, value=int(ours[at])),
        found=Byte(at=at, value=int(theirs[at])),
        blocks=blocks,
    )


def _mixed(words: Words) -> Words:
    """The finaliser of SplitMix64, of many."""
    first, second, last = _SHIFTS
    words = (words ^ words >> first) * np.uint64(_MIX_1)
    words = (words ^ words >> second) * np.uint64(_MIX_2)
    return words ^ words >> last


def _mix_chunk(key: int, chunk: int, version: int) -> int:
    return _mix(_mix(_mix(key + _STEP) ^ chunk) ^ version)


def _mix(word: int) -> int:
    """The finaliser of SplitMix64."""
    word &= _MASK
    word = (word ^ word >> 30) * _MIX_1 & _MASK
    word = (word ^ word >> 27) * _MIX_2 & _MASK
    return word ^ word >> 31
