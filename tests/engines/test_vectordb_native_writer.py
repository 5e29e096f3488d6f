"""Building: the same index from the same vectors, in bounded memory, complete or not at all."""

import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from vector_data import always, clustered, make_index, spec_of

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.native import settings
from mlps.engines.vectordb.native.header import read_index
from mlps.engines.vectordb.native.layout import HEADER, LISTS, OWN_FILES, SPILL, TABLE, records_in
from mlps.engines.vectordb.native.settings import writer_needs_bytes
from mlps.engines.vectordb.native.writer import IvfWriter

VECTORS = clustered(3000, 12)
SPEC = spec_of(VECTORS, nlist=20, kmeans_rounds=3)


@pytest.fixture
def writer(tmp_path):
    made = IvfWriter(tmp_path, SPEC)
    yield made
    made.close()


def bytes_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def records(directory, spec):
    """All records of an index with the list of each."""
    extents = read_index(directory, spec).extents
    data = np.frombuffer((directory / LISTS).read_bytes(), dtype=np.uint8)
    for number in range(len(extents.rows)):
        for piece in extents.pieces_of(number):
            part = data[piece.offset_bytes : piece.offset_bytes + piece.length_bytes]
            yield number, records_in(part, piece.rows, spec.dimension)


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_each_vector_is_in_the_list_of_its_nearest_centroid(tmp_path, metric):
    spec = spec_of(VECTORS, metric, nlist=20, kmeans_rounds=3)
    make_index(tmp_path, VECTORS, spec)
    centroids = read_index(tmp_path, spec).centroids
    seen = []
    for number, found in records(tmp_path, spec):
        squares = ((found["vector"][:, None] - centroids[None]) ** 2).sum(axis=2)
        assert (squares.argmin(axis=1) == number).all()
        assert np.allclose(found["vector"], VECTORS[found["id"]], atol=1e-6)
        assert (np.diff(found["id"]) > 0).all()
        seen += found["id"].tolist()
    assert sorted(seen) == list(range(3000))


def test_order_portions_and_tiles_make_no_difference(tmp_path, writer, monkeypatch):
    make_index(tmp_path / "other", VECTORS, SPEC)
    order = np.random.default_rng(2).permutation(3000)
    monkeypatch.setattr(settings, "TILE_BYTES", 64 * 2**10)
    for first in range(0, 3000, 700):
        ids = order[first : first + 700]
        assert writer.insert(ids, VECTORS[ids]) == len(ids)
    assert writer.build(always)
    centroids = [read_index(path, SPEC).centroids for path in (tmp_path, tmp_path / "other")]
    assert np.allclose(*centroids, atol=1e-5)
    assert (tmp_path / LISTS).read_bytes() == (tmp_path / "other" / LISTS).read_bytes()


def test_the_same_vectors_make_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        make_index(tmp_path / name, VECTORS, SPEC)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_cosine_keeps_vectors_with_length_1(tmp_path):
    spec = spec_of(VECTORS, "COSINE", nlist=4, kmeans_rounds=1)
    given = VECTORS * 3
    make_index(tmp_path, given, spec)
    assert np.array_equal(given, VECTORS * 3)
    for _, found in records(tmp_path, spec):
        assert np.allclose(np.linalg.norm(found["vector"], axis=1), 1, atol=1e-6)


def test_count_is_what_was_stored_before_and_after_the_build(writer):
    assert writer.count() == 0
    writer.insert(np.arange(1000), VECTORS[:1000])
    writer.flush()
    assert writer.count() == 1000
    writer.insert(np.arange(1000, 3000), VECTORS[1000:])
    writer.build(always)
    writer.compact()
    assert writer.count() == 3000


@pytest.mark.parametrize(
    ("ids", "vectors", "text"),
    [
        ([3000], VECTORS[:1], "id 3000 is not one of 0 to 2999"),
        ([0, -1], VECTORS[:2], "id -1 is not one of 0 to 2999"),
        ([0, 1], VECTORS[:1], r"2 ids need vectors of shape \(2, 12\), got \(1, 12\)"),
        ([0], VECTORS[:1, :4], r"1 ids need vectors of shape \(1, 12\), got \(1, 4\)"),
        ([5, 6], VECTORS[:2] * [[1], [np.nan]], "vector 6 has components that are not finite"),
        ([5, 6], VECTORS[:2] - [[np.inf], [0]], "vector 5 has components that are not finite"),
    ],
    ids=["too high", "negative", "too few", "too short", "nan", "infinite"],
)
def test_what_is_no_vector_of_the_index_is_refused(writer, ids, vectors, text):
    with pytest.raises(EngineError, match=text):
        writer.insert(np.array(ids), vectors)
    assert writer.count() == 0


def test_a_build_wants_all_vectors(writer):
    writer.insert(np.delete(np.arange(3000), 1234), np.delete(VECTORS, 1234, axis=0))
    with pytest.raises(EngineError, match=r"2999 of 3000 vectors were inserted.* no vector 1234"):
        writer.build(always)


def test_progress_goes_to_the_end(writer):
    writer.insert(np.arange(3000), VECTORS)
    told = []
    writer.build(lambda done, total: told.append((done, total)) or True)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == told[-1][1] == 3 * 800 + 3 * 3000


@pytest.mark.parametrize("until", [1, 4, 5, 9], ids=["k-means", "lists", "writing", "checksums"])
def test_a_build_that_was_ended_is_no_index_and_can_begin_again(tmp_path, writer, until):
    make_index(tmp_path / "other", VECTORS, SPEC)
    writer.insert(np.arange(3000), VECTORS)
    told = []
    assert not writer.build(lambda done, _: told.append(done) or len(told) < until)
    with pytest.raises(EngineError, match="holds a part of an index"):
        read_index(tmp_path, SPEC)
    assert writer.build(always)
    assert (tmp_path / LISTS).read_bytes() == (tmp_path / "other" / LISTS).read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from mlps.engines.vectordb.backend import IndexSpec
from mlps.engines.vectordb.native import writer
spec = IndexSpec(dimension=4, metric="L2", vectors=2000, seed=7, build={"nlist": 9})
made = writer.IvfWriter(Path(sys.argv[1]), spec)
made.insert(np.arange(2000), np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "header":
    writer.write_index = die
made.build(lambda done, total: die() if done >= total and sys.argv[2] == "end" else True)
"""


@pytest.mark.parametrize("when", ["end", "header"])
def test_a_writer_that_was_killed_leaves_a_part_that_is_built_anew(tmp_path, when):
    words = [sys.executable, "-c", KILLED, tmp_path, when]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    vectors = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    spec = spec_of(vectors, "L2", nlist=9)
    with pytest.raises(EngineError, match=rf"a part of an index \({LISTS}, {SPILL}, no {HEADER}"):
        read_index(tmp_path, spec)
    make_index(tmp_path, vectors, spec)
    assert read_index(tmp_path, spec).extents.rows.sum() == 2000
    assert sorted(bytes_of(tmp_path)) == [HEADER, LISTS, TABLE]


def test_the_header_comes_last(tmp_path, writer, monkeypatch):
    there = []

    def written(path, _data):
        there.append((path.name, sorted(bytes_of(tmp_path))))

    monkeypatch.setattr("mlps.engines.vectordb.native.header.write_whole", written)
    writer.insert(np.arange(3000), VECTORS)
    writer.build(always)
    assert there == [(HEADER, [LISTS, SPILL, TABLE])]


def test_a_complete_index_is_not_written_over(tmp_path):
    make_index(tmp_path, VECTORS, SPEC)
    before = bytes_of(tmp_path)
    with pytest.raises(EngineError, match=f"{tmp_path} holds an index already: drop it first"):
        IvfWriter(tmp_path, SPEC)
    assert bytes_of(tmp_path) == before


def test_a_writer_that_comes_while_another_completes_its_index_leaves_it(tmp_path, monkeypatch):
    make_index(tmp_path, VECTORS, SPEC)
    before = bytes_of(tmp_path)
    answers = iter([False, True])
    place = "mlps.engines.vectordb.native.writer.is_complete"
    monkeypatch.setattr(place, lambda _directory: next(answers))
    with pytest.raises(EngineError, match="another writer has just completed the index"):
        IvfWriter(tmp_path, SPEC)
    assert bytes_of(tmp_path) == before


def test_a_second_writer_is_refused_and_takes_nothing_away(tmp_path, writer):
    writer.insert(np.arange(3000), VECTORS)
    with pytest.raises(EngineError, match="another writer has"):
        IvfWriter(tmp_path, SPEC)
    assert writer.build(always)


def test_what_is_left_of_a_build_goes_and_nothing_else(tmp_path):
    for name in (*OWN_FILES[1:], "other"):
        (tmp_path / name).write_bytes(b"old")
    IvfWriter(tmp_path, SPEC).close()
    assert sorted(bytes_of(tmp_path)) == [SPILL, "other"]


def test_a_closed_writer_takes_nothing(writer):
    writer.close()
    with pytest.raises(EngineError, match="is closed, or its index complete"):
        writer.insert(np.array([0]), VECTORS[:1])


def test_memory_stays_below_what_was_computed_before(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "TILE_BYTES", 2**18)
    vectors = clustered(30_000, 64)
    spec = spec_of(vectors, nlist=32, sample=320, kmeans_rounds=2)
    assert writer_needs_bytes(spec) < vectors.nbytes / 4
    writer = IvfWriter(tmp_path, spec)
    for first in range(0, 30_000, 5000):
        writer.insert(np.arange(first, first + 5000), vectors[first : first + 5000])
    tracemalloc.start()
    try:
        assert writer.build(always)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        writer.close()
    assert peak < writer_needs_bytes(spec)
