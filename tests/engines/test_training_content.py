"""Content and what carries it: incompressible, the same every time, counted, in good pieces."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.optional import library
from mlps.engines.training_native.content import BLOCK_BYTES, PIECE_BYTES, Content
from mlps.engines.training_native.formats.checksum import Tally, closing_bytes, crc32_of_rest
from mlps.engines.training_native.formats.gather import gathered

CONTENT = Content(1)


def content_of(file, length, first_block=0, content=CONTENT):
    return b"".join(map(bytes, content.pieces(file, length, first_block)))


def test_content_never_changes():
    assert zlib.crc32(content_of(0, PIECE_BYTES + 5)) == 2223928650


@given(st.integers(0, 2**32 - 1), st.integers(0, 3 * BLOCK_BYTES), st.integers(0, 5000))
def test_blocks_are_the_same_from_wherever_they_are_asked_for(file, length, first_block):
    whole = content_of(file, (first_block % 7 + 4) * BLOCK_BYTES, first_block - first_block % 7)
    begin = first_block % 7 * BLOCK_BYTES
    assert content_of(file, length, first_block) == whole[begin : begin + length]
    out = np.empty(2 * BLOCK_BYTES, dtype=np.uint8)
    CONTENT.fill(file, first_block, out)
    assert out.tobytes() == whole[begin : begin + 2 * BLOCK_BYTES]


def test_it_is_the_same_in_any_process_and_another_for_any_seed():
    assert content_of(7, 5000) == content_of(7, 5000, content=Content(1))
    assert content_of(7, 5000) != content_of(7, 5000, content=Content(2))


def test_no_word_of_it_comes_twice():
    length = 2 * PIECE_BYTES  # twice the pool
    words = np.frombuffer(content_of(0, length) + content_of(1, length), dtype=np.uint64)
    assert len(np.unique(words)) == len(words)


def test_it_cannot_be_compressed():
    data = content_of(3, PIECE_BYTES)
    assert len(zlib.compress(data, 6)) > len(data)


def test_pieces_have_a_bounded_size():
    sizes = [len(piece) for piece in CONTENT.pieces(0, 2 * PIECE_BYTES + 1)]
    assert sizes == [PIECE_BYTES, PIECE_BYTES, 1]
    assert not list(CONTENT.pieces(0, 0))


# ---------------------------------------------------------------- pieces

parts = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 3 * PIECE_BYTES).map(bytes)), max_size=6
)


@settings(deadline=None, max_examples=40)
@given(parts)
def test_gathered_parts_are_the_same_bytes_in_few_pieces(parts):
    pieces = [bytes(piece) for piece in gathered(parts)]
    whole = b"".join(parts)
    assert b"".join(pieces) == whole
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    assert len(pieces) <= 2 * len(parts) + len(whole) // PIECE_BYTES


def test_many_small_parts_become_one_piece():
    assert [bytes(piece) for piece in gathered([b"ab"] * 1000)] == [b"ab" * 1000]


@given(st.lists(st.binary(min_size=1)))
def test_a_tally_counts_what_goes_by(parts):
    tally = Tally()
    whole = b"".join(tally.counted(memoryview(part) for part in parts))
    assert (tally.size_bytes, tally.crc32) == (len(whole), zlib.crc32(whole))


# ---------------------------------------------------------------- CRC-32


@given(st.binary(), st.binary(max_size=5000))
def test_crc32_of_an_end(first, rest):
    whole = zlib.crc32(first + rest)
    assert crc32_of_rest(whole, zlib.crc32(first), len(rest)) == zlib.crc32(rest)


@given(st.binary(), st.integers(0, 2**32 - 1))
def test_four_bytes_make_any_crc32(data, wanted):
    assert zlib.crc32(data + closing_bytes(zlib.crc32(data), wanted)) == wanted


def test_a_file_has_a_word_of_its_own():
    words = {CONTENT.word(file) for file in range(1000)}
    assert len(words) == 1000
    assert all(word < 2**32 for word in words)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EngineError) as caught:
        library("pyarrow", "the format parquet", "training")
    assert str(caught.value).startswith(
        "the format parquet needs pyarrow, which cannot be imported"
    )
    assert str(caught.value).endswith("pip install 'mlps[training]'")


WITHOUT_LIBRARIES = """
import sys
for name in ("pyarrow", "h5py", "PIL", "google_crc32c"):
    sys.modules[name] = None
from training_models import dataset, written
from pathlib import Path
from mlps.engines.training_native.formats import check_file
for name in ("npz", "npy", "jpeg", "raw"):
    path, _, _ = written(dataset(name), Path(sys.argv[1]))
    check_file(dataset(name), path)
"""


def test_most_formats_need_no_library(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", WITHOUT_LIBRARIES, tmp_path]
    subprocess.run(command, check=True, env=environment)
    assert len(list((tmp_path / "train").iterdir())) == 4
