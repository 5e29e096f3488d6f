"""HDF5 files: the samples in one contiguous dataset `records_0`, and `labels`.

h5py writes all but the samples, into memory: their place is reserved, and filled as it is written.
`records` is a second name of the same dataset, by which older releases of DLIO know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from ...errors import EngineError, storage_error
from ...optional import TRAINING, Foreign, library
from ..content import Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import (
    Extents,
    Selection,
    equal_parts,
    extents_of,
    no_such_file,
    require_samples,
    size_of,
)
from .gather import gathered

_NAMES = ("records_0", "records")


class _Frame:
    """A file of which only what was written is kept, for h5py to write to."""

    def __init__(self) -> None:
        self.parts: dict[int, bytes] = {}
        self.size = 0
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As that of any file; h5py counts from the beginning or from the end."""
        self._at = offset if whence == 0 else self.size + offset
        return self._at

    def tell(self) -> int:
        """Where the next bytes go."""
        return self._at

    def write(self, data: memoryview) -> int:
        """Keeps bytes, after all that were written before."""
        self.parts.pop(self._at, None)
        self.parts[self._at] = bytes(data)
        self._at += len(data)
        self.size = max(self.size, self._at)
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Nothing is read back: h5py keeps what it needs, and asks only whether it could."""
        raise NotImplementedError("the frame of an HDF5 file is not read")

    def truncate(self, size: int) -> int:
        """Sets the size."""
        self.size = size
        return size

    def flush(self) -> None:
        """All is in memory."""


def _frame(shape: tuple[int, int, int]) -> tuple[_Frame, int]:
    """A file without its samples, and where they begin."""
    h5py = _h5py()
    frame = _Frame()
    with h5py.File(frame, "w", libver="latest") as file:
        create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(shape)
        name = _NAMES[0].encode()
        records = h5py.h5d.create(file.id, name, h5py.h5t.NATIVE_UINT8, space, create)
        begin = int(records.get_offset())
        file[_NAMES[1]] = file[_NAMES[0]]
        file.create_dataset("labels", data=[0] * shape[0])
    return frame, begin


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,)."""
    samples = dataset.samples_per_file
    data = heights.astype(np.int64) * widths * samples
    if not len(data):
        return data
    frame, _ = _frame((samples, int(heights[0]), int(widths[0])))
    return data + (frame.size - int(data[0]))


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    return gathered(_parts(dataset, file, content))


def _parts(dataset: Dataset, file: PlannedFile, content: Content) -> Iterator[bytes | memoryview]:
    samples = dataset.samples_per_file
    frame, begin = _frame((samples, file.height, file.width))
    end = begin + samples * file.sample_bytes
    before, after = bytearray(begin), bytearray(frame.size - end)
    for offset, part in frame.parts.items():
        into, at = (before, offset) if offset < begin else (after, offset - end)
        into[at : at + len(part)] = part
    yield bytes(before)
    yield from content.pieces(file.number, samples * file.sample_bytes)
    yield bytes(after)


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file that holds no such dataset, or not all of it."""
    _samples(dataset, path)


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """A read for each sample, or for each chunk of a dataset that is in chunks."""
    del selection
    return _samples(dataset, path)


def _samples(dataset: Dataset, path: Path) -> Extents:
    """The extents of a file's samples; raises EngineError."""
    size = size_of(path)
    h5py = _h5py()
    try:
        # Some file systems have no locks, and nobody writes.
        with h5py.File(path, "r", locking=False) as file:
            records = _records(h5py, path, file)
            require_samples(path, records.shape[0], dataset.samples_per_file)
            found = _of_chunks(records) if records.chunks else _contiguous(records)
    except OSError as error:
        if error.errno is not None:
            raise storage_error(error, "read", path) from error
        raise no_such_file(path, "hdf5", error) from error
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        # What h5py says of damage depends on what is damaged.
        raise no_such_file(path, "hdf5", error) from error
    if not len(found):
        raise no_such_file(path, "hdf5", "its samples have no place in it")
    if int((found.offsets + found.lengths_bytes).max()) > size:
        raise no_such_file(path, "hdf5", f"its samples end after its {size} bytes")
    return found


def _records(h5py: ModuleType, path: Path, file: Foreign) -> Foreign:
    """The dataset of samples; raises EngineError."""
    name = next((name for name in _NAMES if name in file), None)
    if name is None:
        raise no_such_file(path, "hdf5", f"it has no dataset {' or '.join(_NAMES)}")
    records = file[name]
    if "records_1" in file:
        raise EngineError(f"{path} has the datasets {name} and records_1: only one can be read")
    if not isinstance(records, h5py.Dataset) or not records.shape:
        raise no_such_file(path, "hdf5", f"{name} is no dataset of samples")
    return records


def _contiguous(records: Foreign) -> Extents:
    samples, begin = records.shape[0], records.id.get_offset()
    if begin is None:
        return extents_of([], [], [])
    return equal_parts(begin, records.nbytes // samples, samples)


def _of_chunks(records: Foreign) -> Extents:
    """The chunks in the order of their samples, which are complete with the last chunk of each."""
    found = [records.id.get_chunk_info(number) for number in range(records.id.get_num_chunks())]
    found.sort(key=lambda chunk: (chunk.chunk_offset[0], chunk.byte_offset))
    first = np.array([chunk.chunk_offset[0] for chunk in found], dtype=np.int64)
    last = np.append(first[1:] != first[:-1], [True] * bool(found))
    samples = np.minimum(records.chunks[0], records.shape[0] - first) * last
    return extents_of(
        samples, [chunk.byte_offset for chunk in found], [chunk.size for chunk in found]
    )


def _h5py() -> ModuleType:
    return library("h5py", "the format hdf5", TRAINING)
