"""Files of nothing but samples, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import EngineError
from ..content import Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import Extents, Selection, equal_parts, size_of


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,)."""
    return heights.astype(np.int64) * widths * dataset.samples_per_file


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    return content.pieces(file.number, file.sample_bytes * dataset.samples_per_file)


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file whose size no number of equal samples has."""
    size = size_of(path)
    if size == 0 or size % dataset.samples_per_file:
        raise EngineError(
            f"{path} has {size} bytes, which are not {dataset.samples_per_file} equal samples"
        )


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """A read for each sample."""
    del selection
    check_file(dataset, path)
    samples = dataset.samples_per_file
    return equal_parts(0, size_of(path) // samples, samples)
