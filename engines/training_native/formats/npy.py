"""numpy's files: the header and the bytes of one array, of shape (height, width, samples)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import storage_error
from ..content import Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import (
    Extents,
    Selection,
    no_such_file,
    require_samples,
    size_of,
    whole_file,
)
from .gather import gathered
from .numpy_header import HEADER_BYTES, header, read_header, samples_of


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,)."""
    return heights.astype(np.int64) * widths * dataset.samples_per_file + HEADER_BYTES


def array_parts(
    dataset: Dataset, file: PlannedFile, content: Content
) -> Iterator[bytes | memoryview]:
    """The header and the bytes of the samples."""
    samples = dataset.samples_per_file
    yield header((file.height, file.width, samples), "|u1")
    yield from content.pieces(file.number, file.sample_bytes * samples)


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    return gathered(array_parts(dataset, file, content))


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file that holds no such array, or not all of it."""
    size = size_of(path)
    try:
        with path.open("rb") as file:
            shape, data_bytes = read_header(file)
            expected = file.tell() + data_bytes
    except OSError as error:
        raise storage_error(error, "read", path) from error
    except ValueError as error:
        raise no_such_file(path, "npy", error) from error
    if size != expected:
        raise no_such_file(path, "npy", f"it has {size} bytes, its header says {expected}")
    require_samples(path, samples_of(shape), dataset.samples_per_file)


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """One read of all: a sample's bytes are spread over the whole file."""
    del selection
    check_file(dataset, path)
    return whole_file(size_of(path), dataset.samples_per_file)
