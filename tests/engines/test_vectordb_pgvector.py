"""pgvector, on a PostgreSQL that the tests start: what is stored, found, read and removed."""

import sys

import numpy as np
import pytest
from postgres import running
from vector_set import (
    IDS,
    QUERIES,
    SET,
    K,
    assert_scores_are_exact,
    going_on,
    load,
    recall,
    spec,
)

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.backends import backend_of

psycopg = pytest.importorskip("psycopg", reason="psycopg has no package for this Python")

PGVECTOR = backend_of("pgvector")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server.get_uri()


@pytest.fixture(scope="module")
def build(server):
    return {"connection": server, "table": "complete", "M": 12, "ef_construction": 48}


@pytest.fixture(scope="module")
def place(build, tmp_path_factory):
    """A complete index."""
    directory = tmp_path_factory.mktemp("pgvector")
    load(PGVECTOR, directory, spec(**build))
    return directory


@pytest.fixture
def reader(place, build):
    reader = PGVECTOR.reader(place, spec(**build), {"search_ef": 100})
    yield reader
    reader.close()


def asked(server, query, *words):
    with psycopg.connect(server, autocommit=True) as connection:
        return connection.execute(query, words).fetchall()


def told(server, statement):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


def test_it_finds_the_nearest_with_their_scores(reader):
    ids, found = reader.search(QUERIES, K)
    assert (ids.dtype, found.dtype, ids.shape) == (np.int64, np.float32, (len(QUERIES), K))
    assert recall(ids, "COSINE") >= 0.95
    assert_scores_are_exact(ids, found, "COSINE")


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_lists_in_all_metrics_are_exact_when_all_are_read(server, tmp_path, metric):
    of = spec(metric, connection=server, table="lists", index_type="IVFFLAT", nlist=20)
    load(PGVECTOR, tmp_path, of)
    reader = PGVECTOR.reader(tmp_path, of, {"nprobe": 20})
    ids, found = reader.search(QUERIES, K)
    reader.close()
    PGVECTOR.drop(tmp_path)
    assert recall(ids, metric) == 1.0
    assert_scores_are_exact(ids, found, metric)


def test_vectors_arrive_bit_by_bit(place, server):
    rows = asked(server, "select id, v::real[] from complete order by id")
    assert [number for number, _ in rows] == IDS.tolist()
    assert (np.array([v for _, v in rows], np.float32) == SET).all()


def test_rows_end_in_no_id_where_the_index_finds_fewer(place, build):
    reader = PGVECTOR.reader(place, spec(**build), {"search_ef": 5})
    ids, found = reader.search(QUERIES, 50)
    reader.close()
    assert (ids[:, -1] == -1).all() and (ids[:, 0] >= 0).all()
    assert np.isneginf(found[ids == -1]).all() and np.isfinite(found[ids >= 0]).all()


def test_readers_may_only_read_and_are_several(place, build, reader):
    other = PGVECTOR.reader(place, spec(**build), {"search_ef": 100})
    assert (other.search(QUERIES, K)[0] == reader.search(QUERIES, K)[0]).all()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        other._connection.execute("drop table complete")
    other.close()


def test_it_counts_what_the_server_reads_for_it(place, build):
    first = PGVECTOR.reader(place, spec(**build), {})
    assert first.io().io_class == "server"
    first.search(QUERIES, K)
    moved = first.moved()
    first.close()
    assert moved.reads > 0  # memory holds but a part of the index
    assert moved.read_bytes == 8192 * moved.reads


def test_its_data_are_the_files_of_table_and_indexes(place, server):
    paths = PGVECTOR.data_paths(place)
    [(home,)] = asked(server, "select current_setting('data_directory')")
    [(size,)] = asked(
        server,
        "select sum(pg_relation_size(each)) from unnest(array['complete', 'complete_pkey',"
        " 'complete_index']::regclass[]) as each",
    )
    assert {path.is_relative_to(home) for path in paths} == {True}
    assert sum(path.stat().st_size for path in paths) >= size > SET.nbytes


def test_close_lets_go_of_the_connection(place, build, server):
    reader = PGVECTOR.reader(place, spec(**build), {})
    pid = reader._connection.info.backend_pid
    reader.close()
    reader.close()
    for _ in range(100):
        if not asked(server, "select 1 from pg_stat_activity where pid = %s", pid):
            break
    else:
        pytest.fail("the connection is still there")
    with pytest.raises(EngineError, match="is closed"):
        reader.search(QUERIES, K)


def test_an_id_that_is_there_is_an_error_and_nothing_is_stored(server, tmp_path):
    of = spec(connection=server, table="twice")
    writer = PGVECTOR.writer(tmp_path, of)
    writer.insert(IDS[:5], SET[:5])
    with pytest.raises(EngineError, match=r"cannot insert into PostgreSQL.*duplicate key"):
        writer.insert(IDS[4:9], SET[4:9])
    assert writer.count() == 5
    with pytest.raises(EngineError, match="5 of 1200 vectors are stored"):
        writer.build(going_on)
    writer.close()
    PGVECTOR.drop(tmp_path)


def test_a_build_that_is_told_to_end_is_cancelled(server, tmp_path):
    of = spec(connection=server, table="ended", M=100, ef_construction=1000)
    writer = PGVECTOR.writer(tmp_path, of)
    writer.insert(IDS, SET)
    # A lock that the index must wait for: the build is under way for as long as it is held.
    with psycopg.connect(server) as other:
        other.execute("lock table ended in row exclusive mode")
        answers = iter([True, True])
        assert not writer.build(lambda done, total: next(answers, False))
    assert not asked(server, "select 1 from pg_class where relname = 'ended_index'")
    writer.close()
    with pytest.raises(EngineError, match="did not end"):
        PGVECTOR.reader(tmp_path, of, {})
    PGVECTOR.writer(tmp_path, of).close()  # begins anew
    assert asked(server, "select count(*) from ended") == [(0,)]
    PGVECTOR.drop(tmp_path)


def test_a_search_that_would_not_use_the_index_is_refused(server, tmp_path):
    of = spec(connection=server, table="bare")
    load(PGVECTOR, tmp_path, of)
    told(server, "drop index bare_index")
    with pytest.raises(EngineError, match="does not use bare_index"):
        PGVECTOR.reader(tmp_path, of, {})
    PGVECTOR.drop(tmp_path)


def test_a_table_of_somebody_else_is_left_alone(server, tmp_path):
    told(server, "create table theirs (id bigint)")
    of = spec(connection=server, table="theirs")
    with pytest.raises(EngineError, match="table theirs that is not this job's"):
        PGVECTOR.writer(tmp_path, of)
    PGVECTOR.drop(tmp_path)
    assert asked(server, "select count(*) from theirs") == [(0,)]


def test_drop_removes_the_table_it_made_and_no_other_of_its_name(server, tmp_path):
    of = spec(connection=server, table="dropped")
    PGVECTOR.writer(tmp_path, of).close()
    assert asked(server, "select to_regclass('dropped')::text") == [("dropped",)]
    told(server, "comment on table dropped is 'of another job'")
    PGVECTOR.drop(tmp_path)
    assert asked(server, "select to_regclass('dropped')::text") == [("dropped",)]
    assert not list(tmp_path.iterdir())
    told(server, "drop table dropped")
    PGVECTOR.writer(tmp_path, of).close()
    PGVECTOR.drop(tmp_path)
    PGVECTOR.drop(tmp_path)
    assert asked(server, "select to_regclass('dropped')::text") == [(None,)]


def test_a_connection_that_is_gone_is_an_error_with_the_servers_name(place, build, server):
    reader = PGVECTOR.reader(place, spec(**build), {})
    reader.search(QUERIES, K)
    asked(server, "select pg_terminate_backend(%s, 5000)", reader._connection.info.backend_pid)
    with pytest.raises(EngineError, match=r"cannot search in PostgreSQL \(postgresql://postgres"):
        reader.search(QUERIES, K)
    reader.close()


def test_a_server_that_is_not_there_is_an_error_with_its_name(tmp_path):
    of = spec(connection=f"host={tmp_path}")
    with pytest.raises(EngineError, match=f"cannot connect to PostgreSQL .host={tmp_path}"):
        PGVECTOR.writer(tmp_path, of)


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"m": 3}, {}, "index.m: no such parameter"),
        ({"nlist": 3}, {}, "index.nlist: HNSW has no such parameter"),
        ({"index_type": "IVFFLAT", "M": 3}, {}, "index.M: IVFFLAT has no such parameter"),
        ({"index_type": "DISKANN"}, {}, "index.index_type must be one of HNSW, IVFFLAT"),
        ({"M": 40}, {}, "index.ef_construction must be at least twice index.M"),
        ({"M": 101, "ef_construction": 300}, {}, "index.M must be at most 100"),
        ({"table": "t; drop table u"}, {}, "database.table must be a plain name"),
        ({"connection": "host=db password=secret"}, {}, "database.connection holds a password"),
        ({"connection": "postgresql://me:secret@db/d"}, {}, "database.connection holds a password"),
        ({"connection": "hosst=db"}, {}, "database.connection is no connection text"),
        ({}, {"nprobe": 3}, "search.nprobe: HNSW has no such parameter"),
        ({}, {"search_ef": 1001}, "search.search_ef must be at most 1000"),
        ({"index_type": "IVFFLAT", "nlist": 4}, {"nprobe": 5}, "search.nprobe is 5, and the index"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        PGVECTOR.check(spec(**build), search)


def test_without_the_package_the_error_names_the_extra(place, build, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(EngineError, match=r"backend pgvector needs psycopg.*mlps\[vectordb"):
        PGVECTOR.reader(place, spec(**build), {})
    assert PGVECTOR.describe().name == "pgvector"


def test_several_bring_vectors_to_what_one_has_begun(server, tmp_path):
    of = spec(connection=server, table="joined", M=12, ef_construction=48)
    writer = PGVECTOR.writer(tmp_path, of)
    joined = PGVECTOR.join(tmp_path, of)
    assert joined.insert(IDS[:700], SET[:700]) == 700
    assert writer.insert(IDS[700:], SET[700:]) == len(IDS) - 700
    joined.flush()
    joined.close()
    assert writer.build(going_on)
    assert writer.count() == len(IDS)
    writer.close()
    with pytest.raises(EngineError, match="an index of pgvector that is complete"):
        PGVECTOR.join(tmp_path, of)
    PGVECTOR.drop(tmp_path)


def test_nobody_joins_a_table_of_somebody_else(server, tmp_path):
    of = spec(connection=server, table="not_joined")
    with pytest.raises(EngineError, match="holds no index of pgvector"):
        PGVECTOR.join(tmp_path, of)
    PGVECTOR.writer(tmp_path, of).close()
    told(server, "comment on table not_joined is 'of another job'")
    with pytest.raises(EngineError, match="the table not_joined is not the one that was begun"):
        PGVECTOR.join(tmp_path, of)
    told(server, "drop table not_joined")
