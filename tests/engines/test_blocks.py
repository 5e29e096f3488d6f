"""Stamps: every change of one is found, and named."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.blocks import (
    BLOCK_BYTES,
    STAMP_BYTES,
    Stamper,
    aligned_buffer,
    as_blocks,
    decode,
    fill_pool,
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
