"""Where an index is kept: its files, the extents of its lists, and the pieces these are read in.

A list is one extent: records of an id and its vector, then zeros up to the next 4 KiB. It is read
and verified in pieces of 1024 records, whose bytes are whole blocks whatever the dimension is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEADER = "MLPS_IVF.json"
TABLE = "MLPS_IVF.table"
LISTS = "MLPS_IVF.lists"
SPILL = "MLPS_IVF.spill"
# All that a writer makes in its directory; the second is the header before it is in place.
OWN_FILES = (HEADER, f"{HEADER}.new", TABLE, LISTS, SPILL)

ALIGNMENT_BYTES = 4096
PIECE_ROWS = 1024
Counts = NDArray[np.int64]
Sums = NDArray[np.uint32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a list that is read at once; `number` counts the pieces of all lists."""

    number: int
    offset_bytes: int
    length_bytes: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extents:
    """The place of each list; arrays have the shape (lists,). Extents follow one another."""

    dimension: int
    rows: Counts
    offsets_bytes: Counts
    lengths_bytes: Counts
    first_piece: Counts

    @property
    def total_bytes(self) -> int:
        """Bytes of all extents."""
        return int(self.lengths_bytes.sum())

    @property
    def pieces(self) -> int:
        """Pieces of all lists."""
        return int(_pieces(self.rows).sum())

    def pieces_of(self, number: int) -> Iterator[Piece]:
        """The pieces of a list in their order; none of an empty one."""
        rows = int(self.rows[number])
        offset, piece = int(self.offsets_bytes[number]), int(self.first_piece[number])
        for first in range(0, rows, PIECE_ROWS):
            length = min(PIECE_ROWS, rows - first)
            size = _aligned(length * record_of(self.dimension).itemsize)
            yield Piece(number=piece, offset_bytes=offset, length_bytes=size, rows=length)
            offset, piece = offset + size, piece + 1


def record_of(dimension: int) -> np.dtype[np.void]:
    """A vector in a list."""
    return np.dtype([("id", "<i8"), ("vector", "<f4", (dimension,))])


def extents_of(rows: Counts, dimension: int) -> Extents:
    """The extents of lists with so many vectors."""
    record = record_of(dimension).itemsize
    lengths = -(-rows * record // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return Extents(
        dimension=dimension,
        rows=rows,
        offsets_bytes=np.cumsum(lengths) - lengths,
        lengths_bytes=lengths,
        first_piece=np.cumsum(_pieces(rows)) - _pieces(rows),
    )


def piece_bytes(rows: int, dimension: int) -> int:
    """Bytes of the largest piece of a list with so many vectors."""
    return _aligned(min(rows, PIECE_ROWS) * record_of(dimension).itemsize)


def pieces_at_most(vectors: int, nlist: int) -> int:
    """Pieces of an index however its vectors are spread over the lists."""
    return nlist + vectors // PIECE_ROWS


def checksum(piece: Bytes) -> int:
    """The checksum of a piece: CRC-32 of the sums of its blocks.

    Sums of words go with the speed of memory. A block that changed, or lies in the place of another
    one, is found; words that changed places within their block are not.
    """
    sums = piece.view("<u8").reshape(-1, ALIGNMENT_BYTES // 8).sum(axis=1, dtype=np.uint64)
    return zlib.crc32(sums)


def records_in(piece: Bytes, rows: int, dimension: int) -> NDArray[np.void]:
    """The records of a piece, shape (rows,); a view."""
    record = record_of(dimension)
    return piece[: rows * record.itemsize].view(record)


def _pieces(rows: Counts) -> Counts:
    return -(-rows // PIECE_ROWS)


def _aligned(length_bytes: int) -> int:
    return -(-length_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
