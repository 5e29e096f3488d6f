"""numpy's archives: a zip file whose members are the samples `x` and their labels `y`, stored.

Every byte but the samples is what numpy.savez writes. Its headers hold the CRC-32 of what comes
after them, so that of a large member is decided before: four bytes at its end make it come true.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import storage_error
from ..content import PIECE_BYTES, Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from . import npy
from .checksum import Tally, closing_bytes, crc32_of_rest
from .extents import Extents, Selection, no_such_file, require_samples, size_of, whole_file
from .numpy_header import HEADER_BYTES, header, read_header, samples_of

_LABEL_BYTES = 8
_CLOSING_BYTES = 4
# From the ZIP specification; the date is its first one, as numpy writes it.
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s2B5H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_SIZES_64 = struct.Struct("<2H2Q")
_OFFSET_64_BYTES = 8
_UNIX = 3
_VERSION = 45
_DATE = 1 << 5 | 1
_MODE = 0o600 << 16
_IN_EXTRA = 0xFFFFFFFF
_EXTRA_64 = 1
# zipfile's limit: numbers above it stand in extra fields.
_LIMIT = 2**31 - 1
_NAME_BYTES = len("x.npy")
_LOCAL_BYTES = _LOCAL.size + _NAME_BYTES + _SIZES_64.size
_CENTRAL_BYTES = _CENTRAL.size + _NAME_BYTES
# What zipfile raises for damage besides its own error.
_DAMAGED = (KeyError, ValueError, RuntimeError, EOFError, struct.error, zlib.error)


class _Member(NamedTuple):
    name: bytes
    offset: int
    size: int
    crc32: int

    def local(self) -> bytes:
        """What stands before the member."""
        extra = _SIZES_64.pack(_EXTRA_64, 16, self.size, self.size)
        head = _LOCAL.pack(
            b"PK\3\4", _VERSION, 0, 0, 0, _DATE,
            self.crc32, _IN_EXTRA, _IN_EXTRA, len(self.name), len(extra),
        )  # fmt: skip
        return head + self.name + extra

    def central(self) -> bytes:
        """Its entry in the directory at the end."""
        large = [self.size, self.size] if self.size > _LIMIT else []
        far = [self.offset] if self.offset > _LIMIT else []
        beyond = large + far
        extra = struct.pack(f"<2H{len(beyond)}Q", _EXTRA_64, 8 * len(beyond), *beyond)
        extra = extra if beyond else b""
        size = _IN_EXTRA if large else self.size
        head = _CENTRAL.pack(
            b"PK\1\2", _VERSION, _UNIX, _VERSION, 0, 0, 0, _DATE,
            self.crc32, size, size, len(self.name), len(extra), 0, 0, 0, _MODE,
            _IN_EXTRA if far else self.offset,
        )  # fmt: skip
        return head + self.name + extra


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,)."""
    samples = dataset.samples_per_file
    size = heights.astype(np.int64) * widths * samples + HEADER_BYTES
    second = _LOCAL_BYTES + size
    directory = second + _LOCAL_BYTES + HEADER_BYTES + _LABEL_BYTES * samples
    beyond = (size > _LIMIT) * _SIZES_64.size
    # Its extra field is that of two sizes, with one number.
    beyond += (second > _LIMIT) * (_SIZES_64.size - _OFFSET_64_BYTES)
    beyond += (directory > _LIMIT) * (_END_64.size + _LOCATOR_64.size)
    return directory + 2 * _CENTRAL_BYTES + beyond + _END.size


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file; `tally` has counted each when the next is asked for."""
    samples = dataset.samples_per_file
    array = npy.array_parts(dataset, file, content)
    size = HEADER_BYTES + file.sample_bytes * samples
    if size <= PIECE_BYTES:
        data = b"".join(array)
        x = _Member(b"x.npy", 0, size, zlib.crc32(data))
        yield memoryview(x.local() + data + _rest(x, samples))
    else:
        x = _Member(b"x.npy", 0, size, content.word(file.number))
        closing = yield from _all_but_closing(x, array, tally)
        yield memoryview(closing + _rest(x, samples))


def _all_but_closing(
    member: _Member, array: Iterator[bytes | memoryview], tally: Tally
) -> Generator[memoryview, None, bytes]:
    """A member but for its last four bytes, which come back."""
    local = member.local()
    crc32 = zlib.crc32(local)
    left = member.size - _CLOSING_BYTES
    yield memoryview(local)
    for part in array:
        some = memoryview(part)[:left]
        yield some
        left -= len(some)
    so_far = crc32_of_rest(tally.crc32, crc32, member.size - _CLOSING_BYTES)
    return closing_bytes(so_far, member.crc32)


def _rest(x: _Member, samples: int) -> bytes:
    """What comes after the samples."""
    labels = header((samples,), "<i8") + bytes(_LABEL_BYTES * samples)
    y = _Member(b"y.npy", len(x.local()) + x.size, len(labels), zlib.crc32(labels))
    member = y.local() + labels
    directory = x.central() + y.central()
    return member + directory + _end(y.offset + len(member), len(directory))


def _end(offset: int, size: int) -> bytes:
    """What comes after the directory of the two members, which is at an offset."""
    end_64 = b""
    if offset > _LIMIT:
        end_64 = _END_64.pack(
            b"PK\6\6", _END_64.size - 12, _VERSION, _VERSION, 0, 0, 2, 2, size, offset
        ) + _LOCATOR_64.pack(b"PK\6\7", 0, offset + size, 1)
    return end_64 + _END.pack(b"PK\5\6", 0, 0, 2, 2, size, min(offset, _IN_EXTRA), 0)


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file that is no such archive, or not all of it."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("x.npy") as member:
            shape, _ = read_header(member)
    except OSError as error:
        raise storage_error(error, "read", path) from error
    except (*_DAMAGED, zipfile.BadZipFile) as error:
        raise no_such_file(path, "npz", error) from error
    require_samples(path, samples_of(shape), dataset.samples_per_file)


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """One read of all: a sample's bytes are spread over the whole file."""
    del selection
    check_file(dataset, path)
    return whole_file(size_of(path), dataset.samples_per_file)
