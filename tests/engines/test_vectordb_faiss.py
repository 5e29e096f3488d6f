"""faiss: what it stores, finds, reads and lets go of."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vector_set import (
    DIMENSION,
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
pytest.importorskip("faiss", reason="faiss has no package for this Python")

BUILD = {"nlist": 30, "kmeans_rounds": 8}
FAISS = backend_of("faiss")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A complete index."""
    directory = tmp_path_factory.mktemp("faiss")
    (directory / "of_somebody_else").write_text("kept")
    load(FAISS, directory, spec(**BUILD))
    return directory


@pytest.fixture
def reader(place):
    reader = FAISS.reader(place, spec(**BUILD), {"nprobe": 8})
    yield reader
    reader.close()


def test_it_finds_the_nearest_with_their_scores(reader):
    ids, found = reader.search(QUERIES, K)
    assert (ids.dtype, found.dtype, ids.shape) == (np.int64, np.float32, (len(QUERIES), K))
    assert recall(ids, "COSINE") >= 0.95
    assert_scores_are_exact(ids, found, "COSINE")


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_other_metrics_score_higher_what_is_nearer(tmp_path, metric):
    load(FAISS, tmp_path, spec(metric, **BUILD))
    reader = FAISS.reader(tmp_path, spec(metric, **BUILD), {})
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
of = spec(nlist=30, kmeans_rounds=8)
reader = backend_of("faiss").reader(Path(sys.argv[1]), of, {"nprobe": 8})
print(reader.search(QUERIES, 10)[0].tolist())
"""


def test_another_process_finds_the_same_beside_this_one(place, reader):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), TESTS],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == str(reader.search(QUERIES, K)[0].tolist())


def test_it_maps_its_lists_and_cannot_count_what_it_reads(place, reader):
    assert str(place / "faiss.lists") in held(place)
    assert (reader.io().io_class, reader.moved()) == ("mmap", None)


def test_with_all_lists_it_is_exact(place):
    reader = FAISS.reader(place, spec(**BUILD), {"nprobe": 30})
    assert recall(reader.search(QUERIES, K)[0], "COSINE") == 1.0
    reader.close()


def test_parts_make_the_index_that_the_whole_makes(place, reader, tmp_path, monkeypatch):
    monkeypatch.setattr("mlps.engines.vectordb.faiss_backend.PART_BYTES", 4 * DIMENSION * 500)
    load(FAISS, tmp_path, spec(**BUILD))
    of_parts = FAISS.reader(tmp_path, spec(**BUILD), {"nprobe": 8})
    ids, _ = of_parts.search(QUERIES, K)
    of_parts.close()
    assert not held(tmp_path)
    assert (ids == reader.search(QUERIES, K)[0]).all()
    assert not list(tmp_path.glob("*part*"))


def test_close_lets_go_of_every_file(place):
    first, second = (FAISS.reader(place, spec(**BUILD), {}) for _ in range(2))
    first.search(QUERIES[:1], K)
    assert held(place)
    first.close()
    second.close()
    second.close()
    assert not held(place)
    with pytest.raises(EngineError, match="is closed"):
        first.search(QUERIES, K)


def test_its_data_are_all_files_it_reads(place, reader):
    paths = FAISS.data_paths(place)
    assert {path for path in held(place) if Path(path).stat().st_size} <= {
        str(path) for path in paths
    }
    assert sum(path.stat().st_size for path in paths) > SET.nbytes


def test_an_id_that_is_there_is_not_stored_again(tmp_path):
    writer = FAISS.writer(tmp_path, spec(**BUILD))
    assert writer.insert(IDS[:5], SET[:5]) == 5
    assert writer.insert(IDS[3:7], SET[3:7]) == 2
    assert writer.count() == 7
    with pytest.raises(EngineError, match="7 of 1200 vectors are stored"):
        writer.build(going_on)
    writer.close()


def test_a_build_that_is_told_to_end_leaves_no_index(tmp_path):
    writer = FAISS.writer(tmp_path, spec(**BUILD))
    for first in range(0, VECTORS, 600):
        writer.insert(IDS[first : first + 600], SET[first : first + 600])
    assert not writer.build(lambda done, total: False)
    writer.close()
    with pytest.raises(EngineError, match="did not end"):
        FAISS.reader(tmp_path, spec(**BUILD), {})
    FAISS.writer(tmp_path, spec(**BUILD)).close()  # begins anew


def test_another_index_than_the_one_there_is_refused(place):
    with pytest.raises(EngineError, match=r"another index: build: found .*30.*, asked .*32"):
        FAISS.reader(place, spec(nlist=32), {})
    with pytest.raises(EngineError, match="holds an index of faiss already"):
        FAISS.writer(place, spec(**BUILD))


def test_drop_removes_what_it_made(tmp_path):
    (tmp_path / "of_somebody_else").write_text("kept")
    writer = FAISS.writer(tmp_path, spec(**BUILD))
    writer.insert(IDS[:5], SET[:5])
    writer.close()
    FAISS.drop(tmp_path)
    FAISS.drop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["of_somebody_else"]


def test_drop_leaves_files_that_are_not_its_own(tmp_path):
    (tmp_path / "faiss.index").write_text("of somebody else")
    FAISS.drop(tmp_path)
    assert (tmp_path / "faiss.index").exists()


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"nlists": 3}, {}, "build.nlists: no such parameter; did you mean nlist"),
        ({}, {"probe": 3}, "search.probe: no such parameter; did you mean nprobe"),
        ({"nlist": 1201}, {}, "build.nlist is 1201, and there are 1200 vectors"),
        ({"nlist": 30, "sample": 29}, {}, "build.sample must be between build.nlist"),
        ({"nlist": 30}, {"nprobe": 31}, "search.nprobe is 31, and the index has 30 lists"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        FAISS.check(spec(**build), search)


def test_without_the_package_the_error_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        EngineError, match=r"backend faiss needs faiss.*pip install 'mlps\[vectordb"
    ):
        FAISS.reader(place, spec(**BUILD), {})
