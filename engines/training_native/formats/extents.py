"""Byte ranges that are read for the samples of a file, and the refusal of files that lack them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, storage_error

Projection = Literal["all", "span", "chunks"]
Counts = NDArray[np.int32]
Offsets = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of a Parquet file is read: all columns, those from the first selected one to the last,
    or those alone, then with the gaps between them of up to `gap_bytes`."""

    projection: Projection = "all"
    gap_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """Reads of a file in the order of its samples. Arrays have the shape (reads,).

    `samples` are those that are complete with a read: 0 for all reads of a row group but its last.
    """

    samples: Counts
    offsets: Offsets
    lengths_bytes: Offsets

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def total_bytes(self) -> int:
        """Bytes of all reads."""
        return int(self.lengths_bytes.sum())

    def part(self, first_sample: int, count: int) -> Extents:
        """The reads that bring some of the samples; they count those alone, not all they bring."""
        complete = np.flatnonzero(self.samples)
        ends = np.cumsum(self.samples[complete], dtype=np.int64)
        end_sample = first_sample + count
        if count < 1 or first_sample < 0 or not len(ends) or end_sample > ends[-1]:
            raise ValueError(f"there are no samples {first_sample} to {end_sample}")
        first, last = np.searchsorted(ends, (first_sample + 1, end_sample))
        reads = slice(int(complete[first - 1]) + 1 if first else 0, int(complete[last]) + 1)
        samples = self.samples[reads].copy()
        before = first_sample - (ends[first] - self.samples[complete[first]])
        samples[complete[first] - reads.start] -= before
        samples[-1] -= ends[last] - end_sample
        return Extents(
            samples=samples, offsets=self.offsets[reads], lengths_bytes=self.lengths_bytes[reads]
        )


def extents_of(samples: object, offsets: object, lengths_bytes: object) -> Extents:
    """Extents of anything that numpy makes arrays of."""
    return Extents(
        samples=np.asarray(samples, dtype=np.int32),
        offsets=np.asarray(offsets, dtype=np.int64),
        lengths_bytes=np.asarray(lengths_bytes, dtype=np.int64),
    )


def whole_file(size_bytes: int, samples: int) -> Extents:
    """One read of all."""
    return extents_of([samples], [0], [size_bytes])


def equal_parts(first: int, part_bytes: int, parts: int) -> Extents:
    """One read for each of some samples that follow one another."""
    offsets = first + part_bytes * np.arange(parts, dtype=np.int64)
    return extents_of(np.ones(parts), offsets, np.full(parts, part_bytes))


def coalesced(samples: Counts, starts: Offsets, ends: Offsets, gap_bytes: int) -> Extents:
    """Reads of the ranges of some groups, those with gaps of at most so many bytes made one.

    `samples` are those of each group, shape (groups,); ranges have the shape (groups, ranges).
    """
    order = np.argsort(starts, axis=1, kind="stable")
    starts = np.take_along_axis(starts, order, axis=1)
    furthest = np.maximum.accumulate(np.take_along_axis(ends, order, axis=1), axis=1)
    begins = np.ones(starts.shape, dtype=bool)
    begins[:, 1:] = starts[:, 1:] - furthest[:, :-1] > gap_bytes
    lasts = np.ones_like(begins)
    lasts[:, :-1] = begins[:, 1:]
    offsets = starts[begins]
    of_reads = np.zeros(len(offsets), dtype=np.int32)
    of_reads[np.cumsum(begins.sum(axis=1)) - 1] = samples
    return extents_of(of_reads, offsets, furthest[lasts] - offsets)


def size_of(path: Path) -> int:
    """A file's size in bytes; raises EngineError."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise storage_error(error, "find", path) from error


def require_size(path: Path, size_bytes: int) -> None:
    """Raises EngineError if a file has another size."""
    found = size_of(path)
    if found != size_bytes:
        raise EngineError(f"{path} has {found} bytes, it was written with {size_bytes}")


def read_at(path: Path, descriptor: int, offset: int, length: int) -> bytes:
    """So many bytes of a file, or fewer at its end; raises EngineError."""
    try:
        return os.pread(descriptor, length, offset)
    except OSError as error:
        raise storage_error(error, "read", path, offset) from error


def require_samples(path: Path, found: int, expected: int) -> None:
    """Raises EngineError if a file does not hold the samples that the dataset says."""
    if found != expected:
        raise EngineError(f"{path} holds {found} samples, the dataset has {expected} a file")


def no_such_file(path: Path, what: str, reason: object) -> EngineError:
    """The error of a file that is not what its name says, or not all of it."""
    return EngineError(f"{path} is no whole {what} file: {reason}")
