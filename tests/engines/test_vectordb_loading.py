"""An index is made by real ranks, taken if it is there, and given back if it was not completed."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from mlps.engines.contract import read_job
from mlps.engines.io_core.control import Control
from mlps.engines.owner import Owner
from mlps.engines.vectordb import workload as module
from mlps.engines.vectordb.backends import backend_of
from mlps.engines.vectordb.native.writer import IvfWriter
from mlps.engines.vectordb.place import right_to_write
from mlps.engines.vectordb.setting import setting_of
from mlps.engines.vectordb.truth import exact

KEPT = {"directory": "kept"}


def told(result):
    assert result["status"] == "complete", result["errors"]
    return result["vectordb"]


def failure(result):
    assert result["status"] == "failed"
    (error,) = result["errors"]
    return error["message"]


def go(bench, ranks):
    return bench.solo("load") if ranks is None else bench.stage("load", ranks=ranks)


def setting(bench, ranks=1):
    return setting_of(read_job(bench.canonical, bench.run_id, None), ranks)


def other_run(bench, **changes):
    return replace(bench, run_id="20260102-other", changes={**bench.changes, **changes})


def files(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


def finds_all(bench):
    """Whether a search of all lists finds the truth."""
    of = setting(bench)
    queries = of.data.query_vectors(0, 12)
    reader = of.workload.backend.reader(of.index_directory, of.workload.spec, {"nprobe": 12})
    ids, _ = reader.search(queries, 10)
    reader.close()
    rows = of.data.rows(0, of.data.vectors)
    truth = exact(rows, queries, "COSINE", 10, tile_bytes=2**20, alive=lambda _: True)
    return (np.sort(ids) == np.sort(truth.ids)).all()


@pytest.mark.parametrize("ranks", [None, 2])
def test_the_index_holds_all_vectors(vectordb, ranks):
    document = told(go(vectordb, ranks))
    load = document["load"]
    assert (load["reused"], load["inserted"], load["stored"]) == (False, 600, 600)
    # An index in files has one writer.
    assert (load["writers"], load["index_files"]) == (1, 1)
    size_bytes = (vectordb.place / "index" / "MLPS_IVF.lists").stat().st_size
    assert load["index_bytes"] == size_bytes
    assert min(load["insert_s"], load["flush_s"], load["build_s"]) > 0
    assert (document["does"], document["kept"]) == ("load", False)
    assert document["directory"] == str(vectordb.place)
    assert not list(vectordb.place.glob("*.owner"))
    assert finds_all(vectordb)


def test_progress_is_told_in_vectors(vectordb):
    vectordb.changes = {"dataset": {"num_vectors": 20_000}, "index": {"kmeans_rounds": 50_000}}
    with vectordb.launch("load") as launched:
        launched.events_until(lambda event: event.get("phase") == "building" and event["done"])
        launched.say("stop")
        launched.result()
        launched.finish()
    progress = [each for each in launched.events if each["event"] == "progress"]
    building = [each for each in progress if each["phase"] == "building"]
    assert {(each["unit"], each["total"]) for each in building} == {("vectors", 20_000)}
    assert building[-1]["done"] > 0


def test_an_index_that_is_there_is_taken(vectordb):
    first = told(go(vectordb, None))
    before = files(vectordb.place)
    again = told(go(vectordb, None))
    assert files(vectordb.place) == before
    assert again["load"] == {
        "reused": True, "inserted": 0, "stored": 600, "writers": 0, "insert_s": 0, "flush_s": 0,
        "build_s": 0, "compact_s": 0, "index_bytes": first["load"]["index_bytes"], "index_files": 1,
    }  # fmt: skip


def test_other_jobs_take_a_kept_index_and_refuse_another(vectordb):
    vectordb.changes = KEPT
    told(go(vectordb, None))
    assert not vectordb.directory.exists()
    same = other_run(vectordb, run={"runtime_s": 7}, dataset={"batch_size": 99}, trials=2)
    document = told(go(same, 2))
    assert (document["load"]["reused"], document["kept"]) == (True, True)
    for key, changes, found in (
        ("index.nlist", {"index": {"nlist": 13}}, "12, asked 13"),
        ("dataset.seed", {"dataset": {"seed": 1}}, "42, asked 1"),
        ("index.metric_type", {"index": {"metric_type": "L2"}}, "COSINE, asked L2"),
        ("database.backend", {"database": {"backend": "zvec"},
                              "index": {"nlist": None, "kmeans_rounds": None},
                              "search": {"nprobe": None}}, "native_ivf, asked zvec"),
    ):  # fmt: skip
        text = failure(go(other_run(vectordb, **changes), None))
        assert f"holds another index, which run {vectordb.run_id} made" in text
        assert f"{key}: found {found}" in text
        assert "give another place with benchmark.directory=..." in text


def test_an_index_that_was_removed_from_its_place_is_not_taken(vectordb):
    vectordb.changes = KEPT
    told(go(vectordb, None))
    (vectordb.data_dir / "kept" / "index" / "MLPS_IVF.lists").unlink()
    assert "MLPS_IVF.lists" in failure(go(other_run(vectordb), None))


def test_what_was_not_completed_is_made_anew_by_any_run(vectordb):
    vectordb.changes = KEPT
    told(go(vectordb, None))
    kept = vectordb.data_dir / "kept"
    # As a run leaves it that was killed at the end of its build, of another index.
    record = json.loads((kept / "VECTORDB.json").read_text())
    record["identity"]["index.nlist"], record["complete"] = 11, False
    (kept / "VECTORDB.json").write_text(json.dumps(record))
    (kept / "VECTORDB.owner").write_text("{}")
    document = told(go(other_run(vectordb), None))
    assert (document["load"]["reused"], document["load"]["stored"]) == (False, 600)
    assert finds_all(vectordb)


def test_nobody_writes_where_another_job_does(vectordb):
    vectordb.changes = KEPT
    (vectordb.data_dir / "kept").mkdir()
    owner = Owner(right_to_write(setting(vectordb).place), "20260102-other", Control())
    text = failure(go(vectordb, None))
    owner.close()
    assert "another job makes the index in" in text
    assert "run_id 20260102-other" in text
    assert "benchmark.directory=" in text
    assert told(go(vectordb, None))["load"]["stored"] == 600


def test_what_others_keep_there_is_left_alone(vectordb):
    vectordb.changes = KEPT
    kept = vectordb.data_dir / "kept"
    kept.mkdir()
    (kept / "thesis.tex").write_text("mine")
    assert "holds what mlps did not make: thesis.tex" in failure(go(vectordb, None))
    assert [path.name for path in kept.iterdir()] == ["thesis.tex"]


class Forgetful(IvfWriter):
    """Says that it stored all, and counts one less."""

    def count(self):
        return super().count() - 1


class Partial(IvfWriter):
    """Takes one vector less than it is given."""

    def insert(self, ids, vectors):
        return super().insert(ids[:-1], vectors[:-1])


class Lazy(IvfWriter):
    """Ends its build by itself."""

    def build(self, alive):
        return False


@pytest.mark.parametrize(
    ("writer", "text"),
    [
        (Forgetful, "native_ivf has stored 599 of 600 vectors"),
        (Partial, "native_ivf stored 249 of the 250 vectors 0 to 249"),
        (Lazy, "native_ivf has ended the build of its index, and nobody asked it"),
    ],
)
def test_a_backend_that_loses_vectors_is_found_out(vectordb, monkeypatch, writer, text):
    bad = replace(backend_of("native_ivf"), writes=writer)
    monkeypatch.setattr(module, "backend_of", lambda _: bad)
    result = vectordb.solo("load")
    assert failure(result) == text
    assert result["vectordb"] is None
    assert list(vectordb.place.iterdir()) == []


def test_a_stop_ends_a_build_and_gives_back_what_it_had(vectordb):
    vectordb.changes = {"index": {"kmeans_rounds": 1_000_000}}
    with vectordb.launch("load", ranks=2) as launched:
        launched.events_until(lambda event: event.get("phase") == "building")
        launched.say("stop")
        assert launched.result()["status"] == "stopped"
        assert "Traceback" not in launched.finish()
    assert list(vectordb.place.iterdir()) == []


def test_a_full_disk_is_named_and_its_space_given_back(vectordb):
    place = vectordb.data_dir / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place])
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    small = replace(vectordb, data_dir=place, changes={"dataset": {"num_vectors": 9_000}})
    try:
        text = failure(go(small, None))
        assert "MLPS_IVF.spill" in text
        assert text.endswith("No space left on device (ENOSPC)")
        assert list(small.place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_each_rank_brings_its_part_to_a_server(vectordb):
    pytest.importorskip("pymilvus", reason="pymilvus has no package for this Python")
    from milvus_stand_in import started

    stand_in, server, port = started()
    vectordb.changes = {
        "database": {"backend": "milvus", "port": port},
        "index": {"nlist": None, "kmeans_rounds": None},
        "search": {"nprobe": None},
        "dataset": {"batch_size": 70},
    }
    try:
        load = told(go(vectordb, 3))["load"]
        collection = stand_in.collections["mlps_vectors"]
        assert sorted(collection.ids) == list(range(600))
        of = setting(vectordb)
        _, vectors = next(of.data.batches(0, 600, 600))
        assert (np.array(collection.vectors)[np.argsort(collection.ids)] == vectors).all()
        assert (load["writers"], load["inserted"], load["stored"]) == (3, 600, 600)
        assert (load["index_bytes"], load["index_files"]) == (None, None)
        assert told(vectordb.solo("load"))["load"]["reused"]
        assert vectordb.solo("cleanup")["status"] == "complete"
        assert stand_in.collections == {}
        assert not vectordb.directory.exists()
    finally:
        server.stop(None)


def test_zvec_is_loaded_and_removed(vectordb):
    pytest.importorskip("zvec", reason="zvec has no package for this Python")
    vectordb.changes = {
        "database": {"backend": "zvec"},
        "index": {"nlist": None, "kmeans_rounds": None, "max_degree": 8, "search_list_size": 10},
        "search": {"nprobe": None},
        "dataset": {"num_vectors": 200},
    }
    document = told(vectordb.stage("load"))
    assert (document["backend"]["name"], document["backend"]["index"]) == ("zvec", "DISKANN")
    assert document["load"]["stored"] == 200
    assert document["load"]["index_files"] > 1
    assert vectordb.stage("cleanup")["status"] == "complete"
    assert not vectordb.directory.exists()
