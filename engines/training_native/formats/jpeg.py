"""Pictures: the bytes of a sample as DLIO 3.0 writes them, or real JPEG of the same noise.

Noise compresses to 0.55 of its size, whatever the picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import storage_error
from ...optional import TRAINING, library
from ..content import Content
from ..dataset import Dataset
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import Extents, Selection, no_such_file, size_of, whole_file
from .gather import cut

_QUALITY = 75
# Measured of noise with this quality, and the tables before it.
_BYTES_PER_PIXEL = 0.5556
_TABLES_BYTES = 350
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Sizes of files, shape (files,); estimates of real pictures."""
    pixels = heights.astype(np.int64) * widths
    if dataset.jpeg_encoding == "raw":
        return pixels
    return (pixels * _BYTES_PER_PIXEL).astype(np.int64) + _TABLES_BYTES


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    noise = content.pieces(file.number, file.sample_bytes)
    if dataset.jpeg_encoding == "raw":
        return noise
    return cut(_encoded(b"".join(map(bytes, noise)), file))


def _encoded(noise: bytes, file: PlannedFile) -> memoryview:
    image = library("PIL.Image", "real JPEG", TRAINING)
    encoded = io.BytesIO()
    picture = image.frombuffer("L", (file.width, file.height), noise, "raw", "L", 0, 1)
    picture.save(encoded, format="JPEG", quality=_QUALITY)
    return encoded.getbuffer()


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for an empty file, or where pictures are real for one that is none."""
    size = size_of(path)
    if size == 0:
        raise no_such_file(path, "jpeg", "it is empty")
    if dataset.jpeg_encoding == "raw":
        return
    try:
        with path.open("rb") as file:
            begin = file.read(len(_BEGIN))
            file.seek(max(0, size - len(_END)))
            end = file.read()
    except OSError as error:
        raise storage_error(error, "read", path) from error
    if (begin, end) != (_BEGIN, _END):
        raise no_such_file(path, "jpeg", "it does not begin and end as JPEG does")


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """One read of all."""
    del selection
    check_file(dataset, path)
    return whole_file(size_of(path), 1)
