"""What a job of vector search needs beforehand, and what is left after it: nothing of its own."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from mlps.engines.contract import read_job
from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.stages import VectorEngine

MIB = 2**20


def needs(bench, ranks=1):
    return VectorEngine().needs(read_job(bench.canonical, bench.run_id, None), ranks)


def test_the_engine_tells_its_needs(vectordb):
    with vectordb.launch("needs", "--ranks", "2") as launched:
        assert launched.process.stdout is not None
        told = json.loads(launched.process.stdout.readline())
        assert launched.process.wait() == 0
    assert told["packages"] == ["numpy", "mpi4py"]
    assert told["facts"]["vectordb"] == {
        "vectors": 600, "dimension": 16, "raw_bytes": 38_400, "index_bytes": 93_264,
        "truth_bytes": 12 * 10 * 16 + 4096, "backend": "native_ivf", "index": "IVF_FLAT",
        "io_class": "direct",
    }  # fmt: skip
    assert told["disk_bytes"] == 93_264 + 38_400 + 12 * 10 * 16 + 4096
    assert "600 x 72 B + 12 lists x 4096 B" in told["disk_arithmetic"]


def test_an_index_takes_no_more_than_was_said(vectordb):
    vectordb.changes = {"dataset": {"num_vectors": 5_000, "dimension": 33}}
    said = needs(vectordb).facts["vectordb"]["index_bytes"]
    assert vectordb.solo("load")["status"] == "complete"
    vectordb.solo("truth")
    index = vectordb.place / "index"
    there = sum(path.stat().st_size for path in index.iterdir() if path.suffix != ".json")
    assert 0.7 * said < there <= said


def test_a_rank_takes_no_more_memory_than_was_said(vectordb):
    vectordb.changes = {"dataset": {"num_vectors": 20_000, "dimension": 200}}
    said = needs(vectordb).memory_bytes_per_rank
    for stage in ("load", "truth"):
        result = vectordb.stage(stage)
        assert result["status"] == "complete"
        assert max(result["ranks"]["peak_rss_bytes"]) < said < 500 * MIB


def test_what_is_there_needs_no_space_and_what_a_server_holds_none_here(vectordb):
    vectordb.changes = {"directory": "kept"}
    first = needs(vectordb)
    vectordb.solo("load")
    assert "the index is there" in needs(vectordb).disk_arithmetic
    truth_bytes = first.facts["vectordb"]["truth_bytes"]
    assert needs(vectordb).disk_bytes == truth_bytes < first.disk_bytes
    vectordb.changes = {
        "database": {"backend": "milvus"},
        "index": {"nlist": None, "kmeans_rounds": None},
        "search": {"nprobe": None},
    }
    server = needs(vectordb)
    assert server.disk_bytes == truth_bytes
    assert "on the server: 600 x" in server.disk_arithmetic
    assert "pymilvus" in server.packages


def test_another_index_in_the_place_is_told_before_anything_runs(vectordb):
    vectordb.changes = {"directory": "kept"}
    vectordb.solo("load")
    other = replace(vectordb, changes={"directory": "kept", "index": {"nlist": 9}})
    with pytest.raises(EngineError, match=r"index\.nlist: found 12, asked 9"):
        needs(other)


@pytest.mark.parametrize("backend", ["native_ivf", "zvec", "faiss", "pgvector", "milvus"])
def test_every_backend_says_what_it_needs(vectordb, backend):
    if backend == "pgvector":
        pytest.importorskip("psycopg", reason="psycopg has no package for this Python")
    other = {"index": {"nlist": None, "kmeans_rounds": None}, "search": {"nprobe": None}}
    vectordb.changes = {"database": {"backend": backend}, **other}
    found = needs(vectordb)
    assert found.facts["vectordb"]["index_bytes"] > found.facts["vectordb"]["raw_bytes"]
    own = {"native_ivf": (), "zvec": ("zvec",), "faiss": ("faiss-cpu",), "pgvector": ("psycopg",)}
    assert found.packages == ("numpy", *own.get(backend, ("pymilvus",)))


def test_files_need_what_reads_them(vectordb, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(20, dtype=np.float32))
    vectordb.changes = {"dataset": {"path": str(tmp_path / "v.npy"), "num_vectors": 20}}
    assert needs(vectordb).packages == ("numpy",)
    (tmp_path / "v.npy").unlink()
    with pytest.raises(EngineError, match=r"cannot open|cannot read"):
        needs(vectordb)


def test_an_unknown_parameter_is_told_before_anything_runs(vectordb):
    vectordb.changes = {"search": {"nprob": 3}}
    with vectordb.launch("needs", "--ranks", "1") as launched:
        assert launched.process.wait() == 4
        assert launched.process.stderr is not None
        text = launched.process.stderr.read()
    assert text == "search.nprob: no such parameter; did you mean nprobe?\n"
    with pytest.raises(JobError):
        needs(vectordb)


@pytest.mark.parametrize("ranks", [None, 2])
def test_cleanup_removes_index_and_truth(vectordb, ranks):
    for stage in ("load", "truth"):
        assert vectordb.solo(stage)["status"] == "complete"
    result = vectordb.solo("cleanup") if ranks is None else vectordb.stage("cleanup", ranks=ranks)
    assert (result["status"], result["details"]["left"]) == ("complete", [])
    assert list(vectordb.data_dir.iterdir()) == []
    assert vectordb.solo("cleanup")["status"] == "complete"


def test_cleanup_leaves_what_is_kept(vectordb):
    vectordb.changes = {"directory": "kept"}
    for stage in ("load", "truth"):
        vectordb.solo(stage)
    before = sorted(vectordb.data_dir.rglob("*"))
    assert vectordb.solo("cleanup")["status"] == "complete"
    assert sorted(vectordb.data_dir.rglob("*")) == before


def test_cleanup_leaves_and_tells_what_is_not_the_jobs(vectordb):
    vectordb.solo("load")
    (vectordb.place / "notes").write_text("mine")
    (vectordb.data_dir / "beside").mkdir()
    result = vectordb.solo("cleanup")
    assert result["details"]["left"] == [str(vectordb.place / "notes"), str(vectordb.place)]
    assert (vectordb.place / "notes").exists()
    assert not (vectordb.place / "index").exists()


def test_a_directory_of_another_job_is_not_touched(vectordb):
    vectordb.solo("load")
    other = replace(vectordb, changes={"dataset": {"seed": 3}})
    result = other.solo("cleanup")
    assert result["status"] == "failed"
    assert "belongs to another job" in result["errors"][0]["message"]
    assert (vectordb.place / "VECTORDB.json").exists()


def test_its_own_stages_need_no_optional_package(vectordb, monkeypatch):
    for name in ("zvec", "faiss", "pymilvus", "psycopg", "h5py", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    for stage in ("load", "truth", "cleanup"):
        assert vectordb.solo(stage)["status"] == "complete"
