"""Milvus, as far as a stand-in goes that speaks the protocol of its client."""

import sys

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
    load,
    recall,
    spec,
)

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb import milvus_backend
from mlps.engines.vectordb.backends import backend_of

pytest.importorskip("pymilvus", reason="pymilvus has no package for this Python")

MILVUS = backend_of("milvus")


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(milvus_backend, "POLL_S", 0.01)
    monkeypatch.setattr(milvus_backend, "CONNECT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(milvus_backend, "CALL_TIMEOUT_S", 10.0)
    monkeypatch.setattr(milvus_backend, "SEARCH_TIMEOUT_S", 1.0)


@pytest.fixture
def milvus():
    from milvus_stand_in import started

    stand_in, server, stand_in.port = started()
    stand_in.server = server
    yield stand_in
    server.stop(None)


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_it_stores_all_and_finds_the_nearest_with_their_scores(milvus, tmp_path, metric):
    of = spec(metric, port=milvus.port)
    load(MILVUS, tmp_path, of)
    kept = milvus.collections["mlps_vectors"]
    assert kept.ids == IDS.tolist()
    assert (np.array(kept.vectors) == SET).all()
    assert kept.flushed and milvus.compactions == ["mlps_vectors"]
    reader = MILVUS.reader(tmp_path, of, {})
    ids, found = reader.search(QUERIES, K)
    assert (ids.dtype, found.dtype) == (np.int64, np.float32)
    assert recall(ids, metric) == 1.0
    assert_scores_are_exact(ids, found, metric)
    ids, found = reader.search(QUERIES[:1], VECTORS + 2)
    reader.close()
    assert (ids[0, -2:] == -1).all() and np.isneginf(found[0, -2:]).all()


@pytest.mark.parametrize(
    ("build", "params", "searched"),
    [
        (
            {"index_type": "DISKANN"},
            {"max_degree": 64, "search_list_size": 200},
            {"search_list": 300},
        ),
        ({"index_type": "HNSW", "M": 32}, {"M": 32, "efConstruction": 200}, {"ef": 300}),
        (
            {"index_type": "AISAQ", "inline_pq": 8, "num_shards": 3},
            {"max_degree": 64, "search_list_size": 200, "inline_pq": 8},
            {"search_list": 300},
        ),
    ],
)
def test_each_index_type_has_the_parameters_that_milvus_knows(
    milvus, tmp_path, build, params, searched
):
    of = spec(port=milvus.port, **build)
    load(MILVUS, tmp_path, of)
    reader = MILVUS.reader(tmp_path, of, {"search_ef": 300})
    reader.search(QUERIES[:1], K)
    assert (reader.io().io_class, reader.moved()) == ("server", None)
    reader.close()
    kept = milvus.collections["mlps_vectors"]
    assert kept.index["index_type"] == build["index_type"]
    assert {key: int(value) for key, value in kept.index["params"].items()} == params
    assert milvus.searches[-1]["params"] == {"metric_type": "COSINE", **searched}
    assert kept.shards == build.get("num_shards", 1)
    assert MILVUS.data_paths(tmp_path) == ()


def test_an_index_is_complete_only_when_all_rows_are_in_it(milvus, tmp_path):
    of = spec(port=milvus.port)
    milvus.stalls = True
    writer = MILVUS.writer(tmp_path, of)
    writer.insert(IDS, SET)
    seen = []
    assert not writer.build(lambda done, total: seen.append((done, total)) or len(seen) < 3)
    assert seen == [(VECTORS // 2, VECTORS)] * 3
    writer.close()
    with pytest.raises(EngineError, match="did not end"):
        MILVUS.reader(tmp_path, of, {})
    milvus.stalls = False
    load(MILVUS, tmp_path, of)  # begins anew
    assert len(milvus.collections["mlps_vectors"].ids) == VECTORS


def test_rows_that_are_too_many_are_an_error(milvus, tmp_path):
    writer = MILVUS.writer(tmp_path, spec(port=milvus.port))
    writer.insert(IDS, SET)
    assert writer.insert(IDS[:3], SET[:3]) == 3
    with pytest.raises(EngineError, match="1203 of 1200 vectors are stored"):
        writer.build(going_on)
    writer.close()


def test_what_is_large_is_sent_in_parts(milvus, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus_backend, "INSERT_BYTES", SET[:7].nbytes)
    writer = MILVUS.writer(tmp_path, spec(port=milvus.port))
    assert writer.insert(IDS[:20], SET[:20]) == 20
    writer.flush()
    assert writer.count() == 20
    writer.close()
    assert milvus.collections["mlps_vectors"].ids == IDS[:20].tolist()


def test_a_collection_of_somebody_else_is_left_alone(milvus, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    of = spec(port=milvus.port)
    MILVUS.writer(tmp_path / "a", of).close()
    with pytest.raises(EngineError, match="collection mlps_vectors that is not this job's"):
        MILVUS.writer(tmp_path / "b", of)
    MILVUS.drop(tmp_path / "b")
    assert set(milvus.collections) == {"mlps_vectors"}
    milvus.collections["mlps_vectors"].schema.description = "of another job"
    MILVUS.drop(tmp_path / "a")
    assert set(milvus.collections) == {"mlps_vectors"}


def test_drop_removes_the_collection_it_made(milvus, tmp_path):
    MILVUS.writer(tmp_path, spec(port=milvus.port)).close()
    MILVUS.drop(tmp_path)
    MILVUS.drop(tmp_path)
    assert not milvus.collections and not list(tmp_path.iterdir())


def test_a_server_that_is_gone_is_an_error_with_its_name(milvus, tmp_path):
    of = spec(port=milvus.port)
    load(MILVUS, tmp_path, of)
    reader = MILVUS.reader(tmp_path, of, {})
    reader.search(QUERIES[:1], K)
    milvus.server.stop(None).wait()
    named = f"Milvus at http://127.0.0.1:{milvus.port}"
    with pytest.raises(EngineError, match=f"cannot search in {named}"):
        reader.search(QUERIES[:1], K)
    reader.close()
    with pytest.raises(EngineError, match="is closed"):
        reader.search(QUERIES[:1], K)
    with pytest.raises(EngineError, match=f"cannot connect to {named}"):
        MILVUS.reader(tmp_path, of, {})


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"maxDegree": 3}, {}, "index.maxDegree: no such parameter; did you mean max_degree"),
        ({"M": 3}, {}, "index.M: DISKANN has no such parameter"),
        ({"inline_pq": 3}, {}, "index.inline_pq: DISKANN has no such parameter"),
        ({"index_type": "HNSW", "max_degree": 3}, {}, "index.max_degree: HNSW has no such"),
        ({"index_type": "diskann"}, {}, "index.index_type must be one of AISAQ, DISKANN, HNSW"),
        ({"collection": "a-b"}, {}, "database.collection must be a plain name"),
        ({"port": "19530"}, {}, "database.port must be of type int"),
        ({}, {"ef": 3}, "search.ef: no such parameter"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        MILVUS.check(spec(**build), search)


def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(EngineError, match=r"backend milvus needs pymilvus.*mlps\[vectordb"):
        MILVUS.writer(tmp_path, spec())
    assert MILVUS.describe().name == "milvus"


def test_several_bring_vectors_to_what_one_has_begun(milvus, tmp_path):
    of = spec(port=milvus.port)
    writer = MILVUS.writer(tmp_path, of)
    joined = MILVUS.join(tmp_path, of)
    assert writer.insert(IDS[:700], SET[:700]) == 700
    assert joined.insert(IDS[700:], SET[700:]) == VECTORS - 700
    for each in (joined, writer):
        each.flush()
    joined.close()
    assert writer.build(going_on)
    assert writer.count() == VECTORS
    writer.close()
    assert milvus.collections["mlps_vectors"].ids == IDS.tolist()
    with pytest.raises(EngineError, match="an index of milvus that is complete"):
        MILVUS.join(tmp_path, of)


def test_nobody_joins_a_collection_of_somebody_else(milvus, tmp_path):
    of = spec(port=milvus.port)
    with pytest.raises(EngineError, match="holds no index of milvus"):
        MILVUS.join(tmp_path, of)
    MILVUS.writer(tmp_path, of).close()
    milvus.collections["mlps_vectors"].schema.description = "of another job"
    with pytest.raises(EngineError, match="the collection mlps_vectors is not what was begun"):
        MILVUS.join(tmp_path, of)
