"""TensorFlow's record files: framed Example messages with the features `image` and `size`.

A record is its length in 8 bytes, a checksum of that, the message and a checksum of the message;
checksums are CRC-32C, turned and shifted by a constant. An index file has a line for each record.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...errors import storage_error
from ...optional import TRAINING, library
from ..content import BLOCK_BYTES, Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import (
    Extents,
    Selection,
    equal_parts,
    extents_of,
    no_such_file,
    read_at,
    require_samples,
    size_of,
)
from .gather import gathered

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _LENGTH.size + _CRC.size
FRAME_BYTES = _HEAD_BYTES + _CRC.size
_MASK_DELTA = 0xA282EAD8
# Tags of the messages' fields: number << 3, and 2 for what has a length.
_FIELD_1, _FIELD_2, _FIELD_3 = b"\x0a", b"\x12", b"\x1a"
# Of `image` with its head, and of all that stands around the number in the entry `size`.
_KEY_BYTES = 7
_SIZE_ENTRY_BYTES = 14


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,)."""
    data = heights.astype(np.int64) * widths
    bytes_list = _with_head(data)
    feature = _with_head(bytes_list)
    entry = _KEY_BYTES + _with_head(feature)
    features = _with_head(entry) + _SIZE_ENTRY_BYTES + _varint_bytes(data)
    example = _with_head(features)
    return (example + FRAME_BYTES) * dataset.samples_per_file


def _with_head(lengths: Sizes) -> Sizes:
    """Lengths with a tag and themselves before."""
    return lengths + 1 + _varint_bytes(lengths)


def _varint_bytes(numbers: Sizes) -> Sizes:
    sizes = np.ones_like(numbers)
    for bits in range(7, 63, 7):
        sizes += numbers >= 1 << bits
    return sizes


def record_bytes(sample_bytes: int) -> int:
    """Size of a record with its frame."""
    before, after = _example(sample_bytes)
    return FRAME_BYTES + len(before) + sample_bytes + len(after)


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    return gathered(_parts(dataset, file, content))


def _parts(dataset: Dataset, file: PlannedFile, content: Content) -> Iterator[bytes | memoryview]:
    crc32c = library("google_crc32c", "the format tfrecord", TRAINING)
    size = file.sample_bytes
    before, after = _example(size)
    length = _LENGTH.pack(len(before) + size + len(after))
    head = length + _masked(crc32c.value(length)) + before
    crc_before = crc32c.value(before)
    blocks = -(-size // BLOCK_BYTES)
    for record in range(dataset.samples_per_file):
        yield head
        crc = crc_before
        for piece in content.pieces(file.number, size, record * blocks):
            # The library takes no memoryview.
            crc = crc32c.extend(crc, np.frombuffer(piece, dtype=np.uint8))
            yield piece
        yield after + _masked(crc32c.extend(crc, after))


def index_path(dataset: Dataset, file: PlannedFile) -> str:
    """Where the index of a file is, relative to the data directory."""
    split, _ = dataset.split_of(file.number)
    name = file.path.rpartition("/")[2]
    return f"index/{split.folder}/{name}.idx"


def index_text(dataset: Dataset, file: PlannedFile) -> bytes:
    """The index of a file: offset and size of each record."""
    size = record_bytes(file.sample_bytes)
    lines = [f"{number * size} {size}\n" for number in range(dataset.samples_per_file)]
    return "".join(lines).encode()


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file whose first record, or whose size, cannot be right."""
    size = size_of(path)
    with _opened(path) as descriptor:
        found = _framed(path, descriptor, 0, size)
    if dataset.samples_per_file == 1 and found != size:
        raise no_such_file(path, "tfrecord", f"it has {size} bytes, its record {found}")


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """A read for each record, with its frame."""
    del selection
    size = size_of(path)
    offsets, lengths, offset = [], [], 0
    with _opened(path) as descriptor:
        while offset < size:
            length = _framed(path, descriptor, offset, size)
            offsets.append(offset)
            lengths.append(length)
            offset += length
    require_samples(path, len(offsets), dataset.samples_per_file)
    return extents_of(np.ones(len(offsets)), offsets, lengths)


def planned_extents(dataset: Dataset, file: PlannedFile) -> Extents:
    """The same of a file that was written from its plan, without a look at it."""
    return equal_parts(0, record_bytes(file.sample_bytes), dataset.samples_per_file)


def _example(sample_bytes: int) -> tuple[bytes, bytes]:
    """What stands before and after the sample in its message."""
    # From the inside out: BytesList, Feature, the map's entry `image`, then Features, Example.
    before = _head(_FIELD_1, sample_bytes)
    before = _head(_FIELD_1, len(before) + sample_bytes) + before
    key = _delimited(_FIELD_1, b"image")
    before = key + _head(_FIELD_2, len(before) + sample_bytes) + before
    before = _head(_FIELD_1, len(before) + sample_bytes) + before
    after = _size_entry(sample_bytes)
    before = _head(_FIELD_1, len(before) + sample_bytes + len(after)) + before
    return before, after


def _size_entry(sample_bytes: int) -> bytes:
    """The map's entry `size`, an Int64List of one number."""
    numbers = _delimited(_FIELD_1, _varint(sample_bytes))
    feature = _delimited(_FIELD_3, numbers)
    entry = _delimited(_FIELD_1, b"size") + _delimited(_FIELD_2, feature)
    return _delimited(_FIELD_1, entry)


def _delimited(tag: bytes, payload: bytes) -> bytes:
    return _head(tag, len(payload)) + payload


def _head(tag: bytes, length: int) -> bytes:
    return tag + _varint(length)


def _varint(number: int) -> bytes:
    low = []
    while number > 0x7F:
        low.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*low, number))


def _masked(crc: int) -> bytes:
    return _CRC.pack((crc >> 15 | crc << 17) + _MASK_DELTA & 0xFFFFFFFF)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, "open", path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _framed(path: Path, descriptor: int, offset: int, size: int) -> int:
    """Size with its frame of the record at an offset of a file of this size."""
    crc32c = library("google_crc32c", "the format tfrecord", TRAINING)
    head = read_at(path, descriptor, offset, _HEAD_BYTES)
    if (
        len(head) < _HEAD_BYTES
        or _masked(crc32c.value(head[: _LENGTH.size])) != head[_LENGTH.size :]
    ):
        raise no_such_file(path, "tfrecord", f"no record begins at offset {offset}")
    (length,) = _LENGTH.unpack_from(head)
    framed = FRAME_BYTES + int(length)
    if offset + framed > size:
        raise no_such_file(
            path, "tfrecord", f"its record at offset {offset} ends after its {size} bytes"
        )
    return framed
