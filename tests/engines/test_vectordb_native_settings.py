"""Parameters of the own index: what is derived, and what is refused."""

import pytest

from mlps.engines.errors import JobError
from mlps.engines.vectordb.backend import IndexSpec
from mlps.engines.vectordb.native.settings import (
    Build,
    Search,
    build_of,
    reader_needs_bytes,
    search_of,
    writer_needs_bytes,
)


def spec(**changes):
    values = {"dimension": 16, "metric": "L2", "vectors": 10_000, "seed": 1, "build": {}}
    return IndexSpec(**(values | changes))


@pytest.mark.parametrize(
    ("vectors", "build", "found"),
    [
        (10_000, {}, Build(nlist=100, kmeans_rounds=10, sample=4000)),
        (1, {}, Build(nlist=1, kmeans_rounds=10, sample=1)),
        (100, {"nlist": 50}, Build(nlist=50, kmeans_rounds=10, sample=100)),
        (100, {"sample": 10, "kmeans_rounds": 2}, Build(nlist=10, kmeans_rounds=2, sample=10)),
    ],
    ids=["derived", "one vector", "lists", "sample and rounds"],
)
def test_what_is_not_given_is_derived(vectors, build, found):
    assert build_of(spec(vectors=vectors, build=build)) == found


def test_searches_probe_no_more_lists_than_there_are():
    assert search_of(spec(vectors=9), {}) == Search(nprobe=3, reads_in_flight=4, io="auto")


@pytest.mark.parametrize(
    ("changes", "search", "text"),
    [
        ({"dimension": 0}, {}, "needs a dimension and vectors, got 0 and 10000"),
        ({"vectors": 0}, {}, "needs a dimension and vectors, got 16 and 0"),
        ({"metric": "HAMMING"}, {}, "metric must be one of COSINE, L2, IP, got 'HAMMING'"),
        ({"seed": -1}, {}, "the seed must be of 64 bits, got -1"),
        ({"build": {"nlists": 4}}, {}, "index.nlists: no such parameter; did you mean nlist?"),
        ({"build": {"nlist": 10_001}}, {}, "index.nlist is 10001, and there are 10000 vectors"),
        ({"build": {"sample": 99}}, {}, "index.sample must be between index.nlist (100) and"),
        ({"build": {"sample": 10_001}}, {}, "number of vectors (10000), got 10001"),
        ({}, {"nprobe": 101}, "search.nprobe is 101, and the index has 100 lists"),
        ({}, {"ef": 101}, "search.ef: no such parameter; there are io, nprobe, reads_in_flight"),
        ({}, {"io": "mmap"}, "search.io must be one of auto, direct, buffered"),
        ({}, {"reads_in_flight": 0}, "search.reads_in_flight must be at least 1"),
    ],
)
def test_what_cannot_be_is_an_error_by_name(changes, search, text):
    with pytest.raises(JobError) as raised:
        search_of(spec(**changes), search)
    assert text in str(raised.value)


def test_memory_of_a_reader_is_that_of_centroids_table_and_buffers():
    large = spec(dimension=1536, vectors=10_000_000)
    piece = 1024 * (8 + 4 * 1536)
    fewer, more = (reader_needs_bytes(large, {"reads_in_flight": n}) for n in (1, 5))
    assert more - fewer == 4 * piece
    assert 3162 * 1536 * 4 < fewer - piece < 1.02 * 3162 * 1536 * 4


def test_memory_of_a_writer_is_a_small_part_of_many_vectors():
    large = spec(dimension=1536, vectors=10_000_000)
    assert writer_needs_bytes(large) < 0.03 * 10_000_000 * 1536 * 4
