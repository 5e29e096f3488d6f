"""What is in the place of index and truth: told, refused, removed by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlps.engines.contract import Job
from mlps.engines.errors import EngineError
from mlps.engines.place import place_of
from mlps.engines.vectordb.place import (
    OWN,
    OWNER,
    RECORD,
    Kept,
    begin,
    complete,
    index_directory,
    is_there,
    make_ready,
    read_record,
    remove_own,
    truth_name,
)

WANTED = Kept(run_id="one", backend="native_ivf", identity={"dataset.vectors": 5, "index.M": 1})


@pytest.fixture(params=["kept", None], ids=["kept", "own"])
def job(request, tmp_path):
    return Job(
        sha256="a" * 64, run_id="one", benchmark={"directory": request.param}, data_dir=tmp_path,
        seed=42,
    )  # fmt: skip


@pytest.fixture
def place(job):
    """Its place, made."""
    place = place_of(job, OWN)
    make_ready(place, job)
    return place


def below(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_record_is_begun_and_completed(place):
    assert read_record(place) is None
    assert not is_there(place, WANTED)
    begin(place, WANTED)
    assert read_record(place) == WANTED
    assert not is_there(place, WANTED)
    complete(place, WANTED)
    assert read_record(place) == replace(WANTED, complete=True)
    assert is_there(place, replace(WANTED, run_id="two"))


def test_another_index_is_refused_by_the_keys_that_differ(place):
    complete(place, WANTED)
    other = replace(WANTED, identity={"dataset.vectors": 6, "index.M": 1})
    with pytest.raises(EngineError, match=r"run one made \(dataset\.vectors: found 5, asked 6\)"):
        is_there(place, other)


def test_what_was_begun_is_removed_before_another_begins(place):
    begin(place, WANTED)
    (index_directory(place) / "MLPS_IVF.spill").write_text("some")
    begin(place, replace(WANTED, run_id="two", identity={}))
    assert below(place.directory) == [RECORD, "index"]
    assert read_record(place).run_id == "two"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": 2}', '{"form": 1, "run_id": "x"}'])
def test_what_is_no_record_is_an_error(place, text):
    (place.directory / RECORD).write_text(text)
    with pytest.raises(EngineError, match=r"VECTORDB\.json is damaged, or no record"):
        is_there(place, WANTED)


def test_a_run_removes_what_it_made_and_does_not_keep(place, job):
    begin(place, WANTED)
    complete(place, WANTED)
    for name in ("truth-1", "truth-1.new", OWNER, "index/MLPS_IVF.lists"):
        (place.directory / name).write_text("some")
    left = ["index", "index/MLPS_IVF.lists", "truth-1", "truth-1.new", OWNER, RECORD]
    assert remove_own(place, job, "truth-1") == []
    if place.kept:
        assert below(place.directory) == sorted(left)
    else:
        assert not place.directory.exists()


def test_an_index_that_was_not_completed_is_not_kept(place, job):
    begin(place, WANTED)
    (place.directory / OWNER).write_text("some")
    assert remove_own(place, replace(job, run_id="two"), "truth-1") == [] or not place.kept
    assert remove_own(place, job, "truth-1") == []
    assert not place.directory.exists() or below(place.directory) == []


def test_files_of_others_in_the_index_are_left_and_told(place, job):
    begin(place, WANTED)
    (index_directory(place) / "mine").write_text("some")
    assert remove_own(place, job, "truth-1") == [str(index_directory(place) / "mine")]
    assert (index_directory(place) / "mine").exists()


def test_the_record_stays_while_a_server_does_not_answer(place, job):
    pytest.importorskip("psycopg", reason="psycopg has no package for this Python")
    begin(place, replace(WANTED, backend="pgvector"))
    build = {"connection": "host=127.0.0.1 port=1", "table": "t"}
    record = {
        "form": 1, "backend": "pgvector", "dimension": 2, "metric": "L2", "vectors": 2, "seed": 1,
        "build": build, "mark": "x", "stored": None,
    }  # fmt: skip
    (index_directory(place) / "pgvector.json").write_text(json.dumps(record))
    with pytest.raises(EngineError, match=r"cannot connect to PostgreSQL \(host=127\.0\.0\.1"):
        remove_own(place, job, "truth-1")
    assert read_record(place) is not None


def test_a_truth_is_named_by_what_decides_it(vector_benchmark):
    names = {
        truth_name(vector_benchmark(**changes))
        for changes in (
            {}, {"dataset": {"seed": 1}}, {"query": {"noise": 0.1}}, {"truth": {"depth": 11}},
            {"index": {"metric_type": "L2"}},
        )
    }  # fmt: skip
    assert len(names) == 5
    assert truth_name(vector_benchmark(dataset={"batch_size": 5}, search={"k": 1})) in names
