"""The formats of files: each says how large a file is, writes it, and finds the samples in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..content import Content
from ..dataset import Dataset, FormatName
from ..files import PlannedFile, PlannedFiles, Sides, Sizes, drawn_sides
from . import hdf5, jpeg, npy, npz, parquet, raw, tfrecord
from .checksum import Tally
from .extents import Extents, Selection, require_size

# The pool, a piece and what pieces are gathered in, with some room.
_BASE_BYTES = 48 * 2**20


class Format(Protocol):
    """What the module of a format offers."""

    def planned_bytes(self, dataset: Dataset, heights: Sides, widths: Sides) -> Sizes: ...
    def pieces(
        self, dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
    ) -> Iterator[memoryview]: ...
    def check_file(self, dataset: Dataset, path: Path) -> None: ...
    def extents(self, dataset: Dataset, path: Path, selection: Selection) -> Extents: ...


_FORMATS: dict[FormatName, Format] = {
    "npz": npz,
    "npy": npy,
    "jpeg": jpeg,
    "parquet": parquet,
    "tfrecord": tfrecord,
    "hdf5": hdf5,
    "raw": raw,
}


def planned_files(dataset: Dataset) -> PlannedFiles:
    """All files of a dataset with their sizes; estimates unless the dataset has exact sizes."""
    heights, widths = drawn_sides(dataset)
    sizes = _FORMATS[dataset.format].planned_bytes(dataset, heights, widths)
    return PlannedFiles(dataset=dataset, heights=heights, widths=widths, sizes_bytes=sizes)


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file in pieces of up to 4 MiB, counted in the tally.

    Each is valid until the next is taken. Raises EngineError where a library is missing.
    """
    return tally.counted(_FORMATS[dataset.format].pieces(dataset, file, content, tally))


def index_file(dataset: Dataset, file: PlannedFile) -> tuple[str, bytes] | None:
    """Relative path and content of a file's index, None for formats without one."""
    if dataset.format != "tfrecord":
        return None
    return tfrecord.index_path(dataset, file), tfrecord.index_text(dataset, file)


def check_file(dataset: Dataset, path: Path, size_bytes: int | None = None) -> None:
    """Raises EngineError for a file that is not of the format, not whole, or of another size.

    Only what a header, a footer and the size tell is looked at, so any program's files will do.
    """
    if size_bytes is not None:
        require_size(path, size_bytes)
    _FORMATS[dataset.format].check_file(dataset, path)


def extents(
    dataset: Dataset, path: Path, selection: Selection, size_bytes: int | None = None
) -> Extents:
    """The reads that bring the samples of a file, in their order; raises as `check_file` does."""
    if size_bytes is not None:
        require_size(path, size_bytes)
    return _FORMATS[dataset.format].extents(dataset, path, selection)


def read_whole(dataset: Dataset) -> bool:
    """Whether any file is one read of all, so that its size says where its samples are."""
    one = dataset.samples_per_file == 1 and dataset.format in ("raw", "tfrecord")
    return one or dataset.format in ("npz", "npy", "jpeg")


def peak_bytes(dataset: Dataset) -> int:
    """Memory that a process takes to write the dataset, besides that of an empty one."""
    return _BASE_BYTES + (parquet.peak_bytes(dataset) if dataset.format == "parquet" else 0)
