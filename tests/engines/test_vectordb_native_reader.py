"""Searching: what is found, what is read for it, and what is noticed of damage."""

import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from vector_data import clustered, exact, make_index, near, recall, spec_of

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.backend import NO_ID, Io, Moved
from mlps.engines.vectordb.native import reader as module
from mlps.engines.vectordb.native.header import read_index
from mlps.engines.vectordb.native.layout import LISTS
from mlps.engines.vectordb.native.reader import IvfReader
from mlps.engines.vectordb.native.settings import reader_needs_bytes

METRICS = ("COSINE", "L2", "IP")
# Lengths differ, so that each metric has neighbours of its own.
LENGTHS = np.random.default_rng(8).uniform(0.5, 2, size=(6000, 1)).astype(np.float32)
VECTORS = clustered(6000, 16) * LENGTHS
QUERIES = near(VECTORS, 30) * np.float32(1.5)


def spec(metric="COSINE"):
    return spec_of(VECTORS, metric, nlist=32, kmeans_rounds=4)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """An index for each metric."""
    made = {metric: tmp_path_factory.mktemp(metric) for metric in METRICS}
    for metric, directory in made.items():
        make_index(directory, VECTORS, spec(metric))
    return made


@pytest.fixture
def opened(indexes):
    """Opens readers and closes them in the end."""
    readers = []

    def opener(metric="COSINE", **search):
        readers.append(IvfReader(indexes[metric], spec(metric), search))
        return readers[-1]

    yield opener
    for reader in readers:
        reader.close()


@pytest.fixture
def own(tmp_path):
    """An index that a test may damage."""
    make_index(tmp_path, VECTORS, spec())
    return tmp_path


@pytest.mark.parametrize("metric", METRICS)
def test_all_lists_give_exactly_the_nearest(opened, metric):
    ids, _ = opened(metric, nprobe=32).search(QUERIES, 10)
    assert recall(ids, exact(VECTORS, QUERIES, metric, 10)) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_more_lists_find_more(opened, metric):
    truth = exact(VECTORS, QUERIES, metric, 10)
    found = [recall(opened(metric, nprobe=n).search(QUERIES, 10)[0], truth) for n in (1, 4, 32)]
    assert found == sorted(found)
    assert 0.2 < found[0] < found[1] <= found[-1] == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_the_metric_and_higher_is_nearer(opened, metric):
    ids, scores = opened(metric, nprobe=8).search(QUERIES, 10)
    found = VECTORS[ids].astype(np.float64)
    wanted = np.einsum("qkd,qd->qk", found, QUERIES)
    if metric == "COSINE":
        wanted /= np.linalg.norm(found, axis=2) * np.linalg.norm(QUERIES, axis=1)[:, None]
    if metric == "L2":
        wanted = -((found - QUERIES[:, None]) ** 2).sum(axis=2)
    assert np.allclose(scores, wanted, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_the_lists_that_are_read_are_those_of_the_nearest_centroids(indexes, opened, metric):
    centroids = read_index(indexes[metric], spec(metric)).centroids
    wanted = exact(centroids, QUERIES, metric, 6)
    assert [chosen.tolist() for chosen in opened(metric, nprobe=6).chosen(QUERIES)] == (
        wanted.tolist()
    )


def test_what_is_read_is_what_was_planned(opened):
    reader = opened(nprobe=5)
    extents = read_index(reader._lists.path.parent, spec()).extents
    planned = [
        sum(int(extents.lengths_bytes[number]) for number in chosen)
        for chosen in reader.chosen(QUERIES)
    ]
    reader.search(QUERIES[:10], 3)
    assert reader.moved() == Moved(read_bytes=sum(planned[:10]), reads=50)
    reader.search(QUERIES[10:], 100)
    assert reader.moved().read_bytes == sum(planned) == reader.planned_bytes(QUERIES)


def test_the_kernel_counts_the_same_bytes(opened):
    def counted():
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))

    reader = opened(nprobe=5)
    if reader.io().io_class != "direct":
        pytest.skip(f"no direct I/O here: {reader.io().reason}")
    reader.search(QUERIES, 10)
    before, moved = counted(), reader.moved().read_bytes
    reader.search(QUERIES, 10)
    if counted() == before:
        pytest.skip("this file system lies on no block device that is counted")
    assert counted() - before == reader.moved().read_bytes - moved


def test_queries_beside_it_change_nothing_for_a_query(opened):
    together, alone = opened(nprobe=4, reads_in_flight=7), opened(nprobe=4, reads_in_flight=1)
    ids, scores = together.search(QUERIES, 10)
    for row, query in enumerate(QUERIES):
        found = alone.search(query[None], 10)
        assert found[0].tolist() == ids[row : row + 1].tolist()
        assert found[1].tobytes() == scores[row : row + 1].tobytes()
    assert together.moved() == alone.moved()


def test_lists_of_several_pieces_are_read_whole(tmp_path):
    one = spec_of(VECTORS, "L2", nlist=1)
    make_index(tmp_path, VECTORS, one)
    reader = IvfReader(tmp_path, one, {"reads_in_flight": 2})
    ids, _ = reader.search(QUERIES, 10)
    reader.close()
    assert reader.moved().reads == 6 * len(QUERIES)
    assert recall(ids, exact(VECTORS, QUERIES, "L2", 10)) == 1.0


def test_equal_vectors_come_by_their_ids(tmp_path):
    vectors = np.repeat(clustered(3, 6), 700, axis=0)
    same = spec_of(vectors, "IP", nlist=3)
    make_index(tmp_path, vectors, same)
    reader = IvfReader(tmp_path, same, {"nprobe": 3})
    ids, _ = reader.search(vectors[[700, 0]], 5)
    reader.close()
    assert ids.tolist() == [[700, 701, 702, 703, 704], [0, 1, 2, 3, 4]]


def test_equal_scores_come_by_id_from_whatever_list(opened):
    # Of this query every vector is as near as any other.
    ids, _ = opened("IP", nprobe=32).search(np.zeros((1, 16), dtype=np.float32), 50)
    assert ids.tolist() == [list(range(50))]


def test_short_results_are_padded(tmp_path):
    few = spec_of(VECTORS[:5], "L2", nlist=2)
    make_index(tmp_path, VECTORS[:5], few)
    reader = IvfReader(tmp_path, few, {"nprobe": 2})
    ids, scores = reader.search(VECTORS[:1], 8)
    reader.close()
    assert sorted(ids[0, :5].tolist()) == [0, 1, 2, 3, 4]
    assert ids[0, 5:].tolist() == [NO_ID] * 3
    assert np.isneginf(scores[0, 5:]).all()


def test_empty_lists_are_no_reads(tmp_path):
    vectors = np.repeat(clustered(2, 6), 50, axis=0)
    two = spec_of(vectors, "L2", nlist=9)
    make_index(tmp_path, vectors, two)
    reader = IvfReader(tmp_path, two, {"nprobe": 9})
    ids, _ = reader.search(vectors[:1], 100)
    reader.close()
    assert sorted(ids[0].tolist()) == list(range(100))
    assert reader.moved().reads == np.count_nonzero(read_index(tmp_path, two).extents.rows) < 9


@pytest.mark.parametrize(
    ("queries", "k", "text"),
    [
        (QUERIES[:, :4], 10, r"queries must have the shape \(n, 16\), got \(30, 4\)"),
        (QUERIES[0], 10, r"queries must have the shape \(n, 16\), got \(16,\)"),
        (QUERIES, 0, "k must be at least 1, got 0"),
        (QUERIES * np.float32("nan"), 1, "a query has components that are not finite"),
    ],
    ids=["dimension", "one query", "k", "nan"],
)
def test_what_is_no_query_is_refused(opened, queries, k, text):
    with pytest.raises(EngineError, match=text):
        opened().search(queries, k)


def test_queries_stay_as_they_are_and_nothing_is_found_for_none(opened):
    given = QUERIES.copy()
    reader = opened("COSINE")
    reader.search(given, 3)
    assert given.tobytes() == QUERIES.tobytes()
    ids, scores = reader.search(QUERIES[:0], 3)
    assert ids.shape == scores.shape == (0, 3)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("where", ["first id", "a component", "padding", "last byte"])
def test_a_damaged_extent_is_found_when_it_is_read(own, where):
    extents = read_index(own, spec()).extents
    piece = next(extents.pieces_of(3))
    used = piece.rows * (8 + 4 * 16)
    at = {"first id": 0, "a component": 9, "padding": used, "last byte": -1}[where]
    path = own / LISTS
    data = bytearray(path.read_bytes())
    data[piece.offset_bytes + at % piece.length_bytes] ^= 4
    path.write_bytes(data)
    reader = IvfReader(own, spec(), {"nprobe": 32})
    text = f"{LISTS} is damaged: the {piece.length_bytes} bytes at offset {piece.offset_bytes} do"
    with pytest.raises(EngineError, match=text):
        reader.search(QUERIES, 10)
    data[piece.offset_bytes + at % piece.length_bytes] ^= 4
    path.write_bytes(data)
    assert recall(reader.search(QUERIES, 10)[0], exact(VECTORS, QUERIES, "COSINE", 10)) == 1.0
    reader.close()


@pytest.mark.parametrize("reads", [1, 4])
def test_lists_that_were_cut_while_they_are_read_are_found(own, reads):
    reader = IvfReader(own, spec(), {"nprobe": 32, "reads_in_flight": reads})
    os.truncate(own / LISTS, 4096)
    with pytest.raises(EngineError, match=rf"{LISTS} ends at byte \d+, within a list"):
        reader.search(QUERIES, 10)
    reader.close()


# ---------------------------------------------------------------- how it reads


def test_through_the_page_cache_if_asked(opened):
    reader = opened(io="buffered", nprobe=32)
    assert reader.io() == Io(io_class="buffered", reason="search.io is buffered")
    assert recall(reader.search(QUERIES, 10)[0], exact(VECTORS, QUERIES, "COSINE", 10)) == 1.0


def refusing(_path):
    return 1, "open with O_DIRECT: Invalid argument"


def test_where_direct_reads_are_refused_it_says_so(opened, monkeypatch):
    monkeypatch.setattr(module, "probe_direct", refusing)
    reader = opened(nprobe=32)
    assert reader.io() == Io(io_class="buffered", reason=refusing(None)[1])
    assert recall(reader.search(QUERIES, 10)[0], exact(VECTORS, QUERIES, "COSINE", 10)) == 1.0


def test_who_wants_direct_reads_alone_gets_no_others(opened, monkeypatch):
    monkeypatch.setattr(module, "probe_direct", refusing)
    with pytest.raises(EngineError, match=f"{LISTS} cannot be read past the page cache: open with"):
        opened(io="direct")


# ---------------------------------------------------------------- resources

SEARCHING = """
import sys
from pathlib import Path
import numpy as np
from mlps.engines.vectordb.backend import IndexSpec
from mlps.engines.vectordb.native.reader import IvfReader
build = {"nlist": 32, "kmeans_rounds": 4}
spec = IndexSpec(dimension=16, metric="COSINE", vectors=6000, seed=7, build=build)
reader = IvfReader(Path(sys.argv[1]), spec, {"nprobe": 8})
print("open", flush=True)
sys.stdin.readline()
queries = np.frombuffer(bytes.fromhex(sys.stdin.readline()), dtype="<f4").reshape(-1, 16)
for _ in range(5):
    ids, _ = reader.search(queries, 10)
print(ids.tobytes().hex(), reader.moved().read_bytes)
"""


def test_several_processes_read_one_index_at_once(indexes, opened):
    words = [sys.executable, "-c", SEARCHING, indexes["COSINE"]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(words, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in started] == ["open\n"] * 2
    for process in started:
        process.stdin.write(f"go\n{QUERIES.tobytes().hex()}\n")
        process.stdin.flush()
    own = opened(nprobe=8)
    for _ in range(5):
        ids, _ = own.search(QUERIES, 10)
    expected = f"{ids.tobytes().hex()} {own.moved().read_bytes}\n"
    assert [process.communicate(timeout=60)[0] for process in started] == [expected] * 2


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, of which one is this listing


@pytest.mark.parametrize(("io", "reads"), [("auto", 1), ("auto", 3), ("buffered", 3)])
def test_a_closed_reader_leaves_nothing(indexes, monkeypatch, io, reads):
    buffers = []
    made = module.aligned_buffer
    monkeypatch.setattr(module, "aligned_buffer", lambda n: buffers.append(made(n)) or buffers[-1])
    files, threads = descriptors(), threading.active_count()
    reader = IvfReader(indexes["L2"], spec("L2"), {"io": io, "reads_in_flight": reads})
    reader.search(QUERIES, 10)
    assert len(descriptors()) == len(files) + 1
    reader.close()
    reader.close()
    assert (descriptors(), threading.active_count()) == (files, threads)
    assert [buffer.closed for buffer in buffers] == [True] * reads
    assert str(indexes["L2"]) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("nlist", [1, 40])
def test_memory_stays_below_what_was_computed_before(tmp_path, monkeypatch, nlist):
    vectors = clustered(30_000, 32)
    lists = spec_of(vectors, "L2", nlist=nlist, kmeans_rounds=2)
    make_index(tmp_path, vectors, lists)
    sizes = []
    made = module.aligned_buffer
    monkeypatch.setattr(module, "aligned_buffer", lambda n: sizes.append(n) or made(n))
    search = {"nprobe": nlist, "reads_in_flight": 3}
    IvfReader(tmp_path, lists, search).close()  # imports and caches of others
    sizes.clear()
    tracemalloc.start()
    try:
        reader = IvfReader(tmp_path, lists, search)
        held, _ = tracemalloc.get_traced_memory()
        queries = near(vectors, 20)
        reader.search(queries, 10)
        _, peak = tracemalloc.get_traced_memory()
        reader.close()
    finally:
        tracemalloc.stop()
    bound = reader_needs_bytes(lists, search)
    assert held + sum(sizes) < bound + 50_000
    assert peak + sum(sizes) < bound + 200_000 < vectors.nbytes / 4
