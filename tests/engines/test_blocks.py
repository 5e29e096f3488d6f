"""Stamps: every change of one is found, and named."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.blocks import (
    BLOCK_BYTES,
    STAMP_BYTES,
    Byte,
    Stamper,
    aligned_buffer,
    as_blocks,
    decode,
    fill_pool,
    lay,
    loose_bytes,
    run_key,
)

BLOCKS = 3
words_64 = st.integers(0, 2**64 - 1)
words_32 = st.integers(0, 2**32 - 1)


def stamped(key, chunk, version):
    blocks = as_blocks(aligned_buffer(BLOCKS * BLOCK_BYTES))
    Stamper(key, BLOCKS).stamp(blocks, chunk, version)
    return blocks


@given(words_64, words_64, words_32)
def test_what_was_stamped_is_found(key, chunk, version):
    blocks = stamped(key, chunk, version)
    assert Stamper(key, BLOCKS).verify(blocks, chunk, version) is None
    for number, block in enumerate(blocks):
        stamp = decode(block[:4])
        assert (stamp.key, stamp.chunk, stamp.version) == (key, chunk, version)
        assert (stamp.block, stamp.intact) == (number, True)


@given(
    words_64,
    words_64,
    words_32,
    st.integers(0, BLOCKS - 1),
    st.integers(0, STAMP_BYTES - 1),
    st.integers(1, 255),
)
def test_every_change_of_a_byte_of_a_stamp_is_found(key, chunk, version, block, byte, change):
    blocks = stamped(key, chunk, version)
    blocks.view(np.uint8)[block, byte] ^= change
    mismatch = Stamper(key, BLOCKS).verify(blocks, chunk, version)
    assert mismatch is not None
    assert (mismatch.block, mismatch.blocks) == (block, 1)
    assert mismatch.expected.intact
    assert not mismatch.found.intact
    assert mismatch.found != mismatch.expected


@given(words_64, words_64, words_32, st.sampled_from(["key", "chunk", "version"]))
def test_data_of_another_place_or_time_is_found(key, chunk, version, other):
    wrong = {"key": key, "chunk": chunk, "version": version}
    wrong[other] ^= 1
    mismatch = Stamper(key, BLOCKS).verify(stamped(**wrong), chunk, version)
    assert mismatch is not None
    assert (mismatch.block, mismatch.blocks) == (0, BLOCKS)
    assert mismatch.found.intact
    assert getattr(mismatch.found, other) == wrong[other]


def test_blocks_in_the_wrong_order_are_found():
    blocks = stamped(1, 2, 3)
    blocks[[1, 2]] = blocks[[2, 1]]
    mismatch = Stamper(1, BLOCKS).verify(blocks, 2, 3)
    assert mismatch is not None
    assert (mismatch.block, mismatch.blocks) == (1, 2)
    assert (mismatch.expected.block, mismatch.found.block) == (1, 2)


def test_never_written_blocks_are_named_zeros():
    blocks = as_blocks(aligned_buffer(BLOCK_BYTES))
    mismatch = Stamper(1, 1).verify(blocks, 2, 3)
    assert mismatch is not None
    assert str(mismatch.found) == "zeros"
    assert str(mismatch.expected) == "key 0000000000000001 chunk 2 version 3 block 0"


def test_the_pool_is_incompressible_and_follows_its_seed():
    pool = fill_pool(1, 2**20)
    assert pool.nbytes == 2**20
    assert len(zlib.compress(pool.tobytes())) >= 2**20
    assert (pool == fill_pool(1, 2**20)).all()
    assert (pool != fill_pool(2, 2**20)).all()


def test_run_keys_differ_by_run_and_by_epoch():
    assert len({run_key("a", 0), run_key("a", 1), run_key("b", 0)}) == 3


def test_buffers_lie_on_page_boundaries():
    address = as_blocks(aligned_buffer(5 * BLOCK_BYTES)).ctypes.data
    assert address % BLOCK_BYTES == 0


POOL = fill_pool(3, 2 * BLOCK_BYTES).reshape(2, -1)


def placed(first, chunk=5, version=6):
    blocks = as_blocks(aligned_buffer(BLOCKS * BLOCK_BYTES))
    lay(blocks, POOL, first)
    Stamper(1, BLOCKS).place(blocks, chunk, version)
    return blocks


@given(st.integers(0, 10), st.integers(0, BLOCKS - 1), st.integers(0, 4095), st.integers(1, 255))
def test_every_change_of_a_byte_of_placed_content_is_found(first, block, byte, change):
    blocks = placed(first)
    stamper = Stamper(1, BLOCKS)
    assert stamper.verify_all(blocks, 5, 6, POOL, first) is None
    found = blocks.view(np.uint8)
    right = int(found[block, byte])
    found[block, byte] ^= change
    mismatch = stamper.verify_all(blocks, 5, 6, POOL, first)
    assert (mismatch.block, mismatch.blocks) == (block, 1)
    if byte < STAMP_BYTES:
        assert (mismatch.expected.intact, mismatch.found.intact) == (True, False)
    else:
        assert mismatch.expected == Byte(at=byte, value=right)
        assert mismatch.found == Byte(at=byte, value=right ^ change)


def test_placed_content_is_the_pools_where_it_lies():
    for first in range(4):
        blocks = placed(first)
        for number, block in enumerate(blocks):
            assert (block[8:] == POOL[(first + number) % 2, 8:]).all()
            assert (block[:8] != POOL[(first + number) % 2, :8]).all()
    mismatch = Stamper(1, BLOCKS).verify_all(placed(0), 5, 6, POOL, 1)
    assert (mismatch.blocks, mismatch.expected.at) == (BLOCKS, 64)


@given(words_64, words_64, words_32, st.integers(1, 4095))
def test_loose_bytes_follow_from_all_that_tells_them_from_others(key, chunk, version, length):
    data = loose_bytes(key, chunk, version, length)
    assert len(data) == length
    assert loose_bytes(key, chunk, version, 4096).startswith(data)
    if length >= 8:
        others = [(key ^ 1, chunk, version), (key, chunk ^ 1, version), (key, chunk, version ^ 1)]
        assert len({data, *(loose_bytes(*other, length) for other in others)}) == 4


def test_loose_bytes_do_not_compress():
    data = loose_bytes(1, 2, 3, 4095)
    assert len(zlib.compress(data)) >= 4095
