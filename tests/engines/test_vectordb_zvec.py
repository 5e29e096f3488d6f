"""zvec: what it stores, finds, reads and lets go of."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vector_set import (
    IDS,
    QUERIES,
    SET,
    VECTORS,
    K,
    assert_scores_are_exact,
    going_on,
    held,
    load,
    recall,
    spec,
)

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.backends import backend_of

TESTS = str(Path(__file__).parents[1])
pytest.importorskip("zvec", reason="zvec has no package for this Python")

BUILD = {"max_degree": 24, "search_list_size": 40}
ZVEC = backend_of("zvec")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A complete index."""
    directory = tmp_path_factory.mktemp("zvec")
    (directory / "of_somebody_else").write_text("kept")
    load(ZVEC, directory, spec(**BUILD))
    return directory


@pytest.fixture
def reader(place):
    reader = ZVEC.reader(place, spec(**BUILD), {"search_ef": 100})
    yield reader
    reader.close()


def test_it_finds_the_nearest_with_their_scores(reader):
    ids, found = reader.search(QUERIES, K)
    assert (ids.dtype, found.dtype, ids.shape) == (np.int64, np.float32, (len(QUERIES), K))
    assert recall(ids, "COSINE") >= 0.95
    assert_scores_are_exact(ids, found, "COSINE")


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_other_metrics_score_higher_what_is_nearer(tmp_path, metric):
    load(ZVEC, tmp_path, spec(metric, **BUILD))
    reader = ZVEC.reader(tmp_path, spec(metric, **BUILD), {})
    ids, found = reader.search(QUERIES, K)
    reader.close()
    assert recall(ids, metric) >= 0.9
    assert_scores_are_exact(ids, found, metric)


def test_rows_end_in_no_id_where_fewer_vectors_are_there(reader):
    ids, found = reader.search(QUERIES[:2], VECTORS + 3)
    assert (ids[:, -3:] == -1).all()
    assert np.isneginf(found[:, -3:]).all()
    assert sorted(ids[0][ids[0] >= 0]) == sorted(set(ids[0]) - {-1})


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from vector_set import QUERIES, spec
from mlps.engines.vectordb.backends import backend_of
def read_bytes():
    return int(Path("/proc/self/io").read_text().split("read_bytes: ")[1].split()[0])
reader = backend_of("zvec").reader(Path(sys.argv[1]), spec(max_degree=24, search_list_size=40), {})
before = read_bytes()
reader.search(QUERIES, 10)
print(reader.io().io_class, reader.moved(), read_bytes() - before)
"""


def test_another_process_reads_it_beside_this_one_and_from_storage(place, reader):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), TESTS],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    io_class, moved, read_bytes = done.stdout.split()
    assert moved == "None"
    if io_class == "direct":
        assert int(read_bytes) >= 4096 * len(QUERIES)
    assert reader.io().io_class == io_class


def test_close_lets_go_of_every_file(place):
    first, second = (ZVEC.reader(place, spec(**BUILD), {}) for _ in range(2))
    first.search(QUERIES[:1], K)
    assert held(place)
    first.close()
    second.close()
    second.close()
    assert not held(place)
    with pytest.raises(EngineError, match="is closed"):
        first.search(QUERIES, K)


def test_its_data_are_all_files_it_reads(place, reader):
    paths = ZVEC.data_paths(place)
    assert {path for path in held(place) if Path(path).stat().st_size} <= {
        str(path) for path in paths
    }
    assert sum(path.stat().st_size for path in paths) > SET.nbytes


def test_an_id_that_is_there_is_not_stored_again(tmp_path):
    writer = ZVEC.writer(tmp_path, spec(**BUILD))
    assert writer.insert(IDS[:5], SET[:5]) == 5
    assert writer.insert(IDS[3:7], SET[3:7]) == 2
    assert writer.count() == 7
    with pytest.raises(EngineError, match="7 of 1200 vectors are stored"):
        writer.build(going_on)
    writer.close()


def test_a_build_that_is_told_to_end_leaves_no_index(tmp_path):
    writer = ZVEC.writer(tmp_path, spec(**BUILD))
    for first in range(0, VECTORS, 600):
        writer.insert(IDS[first : first + 600], SET[first : first + 600])
    assert not writer.build(lambda done, total: False)
    writer.close()
    with pytest.raises(EngineError, match="did not end"):
        ZVEC.reader(tmp_path, spec(**BUILD), {})
    ZVEC.writer(tmp_path, spec(**BUILD)).close()  # begins anew


def test_another_index_than_the_one_there_is_refused(place):
    with pytest.raises(EngineError, match=r"another index: build: found .*24.*, asked .*32"):
        ZVEC.reader(place, spec(max_degree=32, search_list_size=40), {})
    with pytest.raises(EngineError, match="holds an index of zvec already"):
        ZVEC.writer(place, spec(**BUILD))


def test_drop_removes_what_it_made(tmp_path):
    (tmp_path / "of_somebody_else").write_text("kept")
    writer = ZVEC.writer(tmp_path, spec(**BUILD))
    writer.insert(IDS[:5], SET[:5])
    writer.close()
    ZVEC.drop(tmp_path)
    ZVEC.drop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["of_somebody_else"]


def test_drop_leaves_a_directory_that_is_not_its_own(tmp_path):
    (tmp_path / "zvec").mkdir()
    ZVEC.drop(tmp_path)
    assert (tmp_path / "zvec").is_dir()


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"max_degre": 3}, {}, "build.max_degre: no such parameter; did you mean max_degree"),
        ({}, {"ef": 3}, "search.ef: no such parameter"),
        ({"search_list_size": 200}, {}, "build.search_list_size must be at most 100"),
        ({"pq_chunks": 17}, {}, "build.pq_chunks must be at most 16"),
        ({}, {"search_ef": 0}, "search.search_ef must be at least 1"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        ZVEC.check(spec(**build), search)


def test_without_the_package_the_error_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "zvec", None)
    with pytest.raises(EngineError, match=r"backend zvec needs zvec.*pip install 'mlps\[vectordb"):
        ZVEC.reader(place, spec(**BUILD), {})
