"""Where the samples of every file lie, found by all ranks together and held by each.

Files whose samples lie alike share one layout, so datasets that were made in one piece have few of
them. Of files that are one read each nothing is kept: their sizes say it all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .dataset import Dataset
from .files import Sizes
from .formats import extents, read_whole
from .formats.extents import Counts, Extents, Offsets, Selection, whole_file

Value = TypeVar("Value")

# Each rank holds all layouts.
MEMORY_LIMIT_BYTES = 512 * 2**20
_READ_BYTES = 20


class Exchange(Protocol):
    """Brings the values of all ranks to each of them, by rank."""

    def __call__(self, value: Value, /) -> list[Value]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouts:
    """The reads of all files. Arrays of reads have those of all layouts one after the other.

    `starts` has the shape (layouts + 1,), `of_files` the layout of each file, shape (files,).
    Without layouts each file is one read of its size.
    """

    samples_per_file: int
    sizes_bytes: Sizes
    samples: Counts = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    offsets: Offsets = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    lengths_bytes: Offsets = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    starts: Offsets = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    of_files: NDArray[np.int32] | None = None

    @property
    def whole(self) -> bool:
        """Whether each file is one read of all."""
        return self.of_files is None

    @property
    def longest_bytes(self) -> int:
        """The longest read."""
        lengths = self.sizes_bytes if self.whole else self.lengths_bytes
        return int(lengths.max(initial=0))

    def file(self, number: int) -> Extents:
        """The reads of a file."""
        if self.of_files is None:
            return whole_file(int(self.sizes_bytes[number]), self.samples_per_file)
        layout = self.of_files[number]
        reads = slice(int(self.starts[layout]), int(self.starts[layout + 1]))
        return Extents(
            samples=self.samples[reads],
            offsets=self.offsets[reads],
            lengths_bytes=self.lengths_bytes[reads],
        )


@dataclass(slots=True)
class Found:
    """The layouts that a rank has found in its share of the files, by their digest."""

    layouts: dict[bytes, Extents] = field(default_factory=dict)
    of_files: list[bytes] = field(default_factory=list)
    held_bytes: int = 0

    def add(self, own: Extents) -> None:
        """Keeps the layout of the next file; raises EngineError when there are too many."""
        digest = _digest(own)
        self.of_files.append(digest)
        if digest not in self.layouts:
            self.held_bytes += _READ_BYTES * len(own)
            if self.held_bytes > MEMORY_LIMIT_BYTES:
                raise _too_many(self.held_bytes)
            self.layouts[digest] = own


def find_layouts(
    dataset: Dataset,
    directory: Path,
    numbers: Sequence[int],
    selection: Selection,
    alive: Callable[[], bool],
) -> Found:
    """Looks into files for where their samples lie; raises EngineError.

    Ends early when `alive`, which is asked before each file, says no.
    """
    found = Found()
    for number in numbers:
        if not alive():
            break
        found.add(extents(dataset, directory / dataset.path(number), selection))
    return found


def needs_layouts(dataset: Dataset) -> bool:
    """Whether files must be looked into before they are read."""
    return not read_whole(dataset)


def joined(
    dataset: Dataset, sizes_bytes: Sizes, found: Found, rank: int, exchange: Exchange
) -> Layouts:
    """All layouts, from what every rank found in every `ranks`-th file; raises EngineError.

    A layout that many have found is sent by the first of them alone.
    """
    owners: dict[bytes, int] = {}
    for number, digests in enumerate(exchange(list(found.layouts))):
        for digest in digests:
            owners.setdefault(digest, number)
    own = {digest: each for digest, each in found.layouts.items() if owners[digest] == rank}
    sent: dict[bytes, Extents] = {}
    for part in exchange(own):
        sent |= part
    ordered = [sent[digest] for digest in owners]
    if (held_bytes := _READ_BYTES * sum(map(len, ordered))) > MEMORY_LIMIT_BYTES:
        raise _too_many(held_bytes)
    places = {digest: place for place, digest in enumerate(owners)}
    shares = exchange(np.array([places[digest] for digest in found.of_files], dtype=np.int32))
    of_files = np.empty(dataset.files, dtype=np.int32)
    for number, share in enumerate(shares):
        of_files[number :: len(shares)] = share
    starts = np.zeros(len(ordered) + 1, dtype=np.int64)
    np.cumsum([len(each) for each in ordered], out=starts[1:])
    return Layouts(
        samples_per_file=dataset.samples_per_file,
        sizes_bytes=sizes_bytes,
        samples=np.concatenate([each.samples for each in ordered]),
        offsets=np.concatenate([each.offsets for each in ordered]),
        lengths_bytes=np.concatenate([each.lengths_bytes for each in ordered]),
        starts=starts,
        of_files=of_files,
    )


def _digest(own: Extents) -> bytes:
    parts = (own.samples, own.offsets, own.lengths_bytes)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()


def _too_many(held_bytes: int) -> EngineError:
    return EngineError(
        f"where the samples of all files lie takes {held_bytes // 2**20} MiB or more in each rank, "
        f"the limit is {MEMORY_LIMIT_BYTES // 2**20} MiB: read more at once, with a larger "
        "reader.gap_bytes or reader.projection=all"
    )
