"""The files of a dataset as they are planned: the shapes and sizes of all, an array each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset
from .draws import SIZES, normals

Sides = NDArray[np.int32]
Sizes = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One file: its number among all of the dataset, and the shape of its samples in bytes.

    `path` is relative to the data directory.
    """

    number: int
    path: str
    height: int
    width: int
    size_bytes: int

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's content."""
        return self.height * self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFiles:
    """All files, those for training first. Arrays have the shape (files,).

    `sizes_bytes` are estimates unless the dataset has exact sizes.
    """

    dataset: Dataset
    heights: Sides
    widths: Sides
    sizes_bytes: Sizes

    @property
    def total_bytes(self) -> int:
        """What the files take on the storage."""
        return int(self.sizes_bytes.sum())

    def file(self, number: int) -> PlannedFile:
        """One of them."""
        return PlannedFile(
            number=number,
            path=self.dataset.path(number),
            height=int(self.heights[number]),
            width=int(self.widths[number]),
            size_bytes=int(self.sizes_bytes[number]),
        )

    def of_rank(self, rank: int, ranks: int) -> Iterator[PlannedFile]:
        """Those that a rank writes: every `ranks`-th, as DLIO deals them."""
        return (self.file(number) for number in range(rank, self.dataset.files, ranks))


def drawn_sides(dataset: Dataset) -> tuple[Sides, Sides]:
    """Heights and widths of the samples of each file, from the dataset's seed alone."""
    sides = np.full(2 * dataset.files, dataset.side, dtype=np.int32)
    if dataset.side_stdev > 0:
        drawn = normals(seed=dataset.seed, stream=SIZES, first=0, count=2 * dataset.files)
        drawn *= dataset.side_stdev
        drawn += dataset.side
        np.maximum(drawn, 1, out=drawn)
        sides[:] = drawn
    return sides[0::2], sides[1::2]
