"""Extents and pieces of lists, and the checksum of a piece."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.vectordb.native.layout import (
    ALIGNMENT_BYTES,
    PIECE_ROWS,
    checksum,
    extents_of,
    piece_bytes,
    pieces_at_most,
    record_of,
    records_in,
)

ROWS = st.lists(st.integers(0, 3 * PIECE_ROWS), min_size=1, max_size=12)


@given(ROWS, st.integers(1, 2000))
def test_pieces_cover_each_list_in_order_without_gap_or_overlap(rows, dimension):
    extents = extents_of(np.array(rows, dtype=np.int64), dimension)
    end, number = 0, 0
    for each, expected in enumerate(rows):
        pieces = list(extents.pieces_of(each))
        assert sum(piece.rows for piece in pieces) == expected
        assert sum(piece.length_bytes for piece in pieces) == extents.lengths_bytes[each]
        for piece in pieces:
            assert (piece.offset_bytes, piece.number) == (end, number)
            end, number = end + piece.length_bytes, number + 1
    assert (end, number) == (extents.total_bytes, extents.pieces)


@given(ROWS, st.integers(1, 2000))
def test_pieces_are_aligned_bounded_and_begin_with_a_record(rows, dimension):
    extents = extents_of(np.array(rows, dtype=np.int64), dimension)
    record = record_of(dimension).itemsize
    for each in range(len(rows)):
        for piece in extents.pieces_of(each):
            assert piece.offset_bytes % ALIGNMENT_BYTES == piece.length_bytes % ALIGNMENT_BYTES == 0
            assert (piece.offset_bytes - extents.offsets_bytes[each]) % record == 0
            assert piece.rows * record <= piece.length_bytes <= piece_bytes(max(rows), dimension)
            assert piece.length_bytes - piece.rows * record < ALIGNMENT_BYTES


@given(ROWS)
def test_pieces_are_bounded_however_unequal_the_lists_are(rows):
    extents = extents_of(np.array(rows, dtype=np.int64), 3)
    assert extents.pieces <= pieces_at_most(sum(rows), len(rows))


def test_records_are_an_id_and_a_vector():
    data = np.zeros(ALIGNMENT_BYTES, dtype=np.uint8)
    records = records_in(data, 3, 5)
    records["id"] = [7, 8, 9]
    records["vector"] = np.arange(15).reshape(3, 5)
    assert data[:8].view("<i8") == 7
    assert data[8 + 20 : 8 + 28].view("<i8") == 8
    assert data[8 + 28 : 8 + 48].view("<f4").tolist() == [5, 6, 7, 8, 9]


@pytest.fixture
def piece():
    return np.random.default_rng(3).integers(0, 256, 4 * ALIGNMENT_BYTES, dtype=np.uint8)


@given(st.integers(0, 4 * ALIGNMENT_BYTES * 8 - 1))
def test_the_checksum_tells_of_each_bit(bit):
    data = np.random.default_rng(3).integers(0, 256, 4 * ALIGNMENT_BYTES, dtype=np.uint8)
    before = checksum(data)
    data[bit // 8] ^= 1 << bit % 8
    assert checksum(data) != before


def test_the_checksum_tells_of_blocks_that_changed_places(piece):
    swapped = piece.reshape(4, -1)[[1, 0, 2, 3]].reshape(-1)
    assert checksum(swapped) != checksum(piece)


def test_the_checksum_tells_of_a_block_of_zeros(piece):
    torn = piece.copy()
    torn[-ALIGNMENT_BYTES:] = 0
    assert checksum(torn) != checksum(piece)
