"""Backends that are wrong: what the result says of them is what convicts each."""

from __future__ import annotations

import pytest

# They are asked twice, every query in its turn.
RUN = {"mode": "query_count", "runtime_s": None, "queries": 60}


def made(bench, name, **changes):
    bench.changes = {"database": {"backend": f"bad_{name}"}, "run": RUN, **changes}
    for stage in ("load", "truth"):
        told = bench.solo(stage)
        assert told["status"] == "complete", told["errors"]
    return bench


def searched(bench, name, **changes):
    """A run of such a backend in this process."""
    return made(bench, name, **changes).solo("run")


def the_point(result):
    assert result["status"] == "complete", result["errors"]
    (point,) = result["vectordb"]["points"]
    return point


def wrong(point):
    """What is told to be wrong with answers."""
    return {name: count for name, count in point["answers"].items() if count}


def test_they_are_right_but_for_what_is_wrong(searching):
    point = the_point(searched(searching, "hanging"))
    assert (wrong(point), point["recall"]["mean"]) == ({}, 1.0)


def test_garbage(searching):
    point = the_point(searched(searching, "garbage"))
    assert point["answers"]["changed_queries"] == 30
    assert point["recall"]["mean"] < 0.2


def test_ids_of_others(searching):
    point = the_point(searched(searching, "shifted"))
    assert wrong(point) == {}
    assert point["recall"]["mean"] < 0.2


def test_the_nearest_again_and_again(searching):
    point = the_point(searched(searching, "duplicates"))
    assert wrong(point) == {"repeating_queries": 30}
    assert point["recall"]["mean"] == pytest.approx(0.1)


def test_too_few(searching):
    point = the_point(searched(searching, "few"))
    assert wrong(point) == {"short_queries": 30}
    assert point["recall"]["mean"] == 0.5


def test_ids_of_no_vector(searching):
    point = the_point(searched(searching, "foreign"))
    assert wrong(point) == {"foreign_ids": 30}
    assert point["recall"]["mean"] == pytest.approx(0.9)


def test_other_answers_to_the_same_query(searching):
    run = {**RUN, "queries": 62, "batch_size": 2}
    point = the_point(searched(searching, "changing", run=run))
    assert wrong(point) == {"short_queries": 30, "changed_queries": 30}


def test_answers_without_their_form(searching):
    result = searched(searching, "form")
    assert result["status"] == "failed"
    assert (
        "backend bad_form: a search failed: the answer to 1 queries is (int64 of shape (2, 10)"
        in (result["errors"][0]["message"])
    )
    (point,) = result["vectordb"]["points"]
    assert (point["failed_requests"], point["queries"], point["recall"]) == (1, 0, None)


@pytest.mark.parametrize(("name", "claims"), [("idle", 0), ("claiming", 65536)])
def test_reads_nothing(searching, tmp_path, name, claims):
    """In files on a disk: there a process that reads past the page cache is seen to read."""
    searching.data_dir = tmp_path
    changes = {"cache": {"mode": "direct"}, "search": {"io": "auto"}}
    result = searched(searching, name, **changes)
    if result["status"] == "failed":
        pytest.skip("this file system refuses O_DIRECT")
    point = the_point(result)
    assert result["vectordb"]["backend"]["io_class"] == "direct"
    assert (wrong(point), point["recall"]["mean"]) == ({}, 1.0)
    assert point["reads"]["backend"] == {"bytes": claims * 60, "reads": 60}
    assert (point["reads"]["process"]["bytes"], point["reads"]["process"]["major_faults"]) == (0, 0)
    assert sum(point["timeline"]["process_bytes"]) == 0


def test_raises_what_no_interface_knows(searching):
    """In a process of its own, which finds it by its entry point."""
    made(searching, "raising")
    result = searching.stage("run")
    assert result["status"] == "failed"
    text = "ConnectionResetError: vectors.example.org:19530 is gone"
    (error,) = result["errors"]
    assert error["message"] == f"backend bad_raising: a search failed: {text}"
    (point,) = result["vectordb"]["points"]
    assert (point["first_failure"], point["failed_requests"]) == (text, 1)
    assert point["queries"] == point["requests"] == sum(point["latency"]["count"]) == 11


def test_failures_that_may_be_are_no_queries(searching):
    point = the_point(searched(searching, "raising", run={**RUN, "failures_most": 1}))
    assert (point["queries"], point["failed_requests"], point["late_requests"]) == (59, 1, 0)
    assert sum(point["latency"]["count"]) == 59
    # Its query was asked again.
    assert point["recall"]["mean"] == 1.0


def test_failures_of_all_clients_together_may_be_too_many(searching):
    made(searching, "raising", run={**RUN, "failures_most": 1})
    result = searching.stage("run", ranks=2)
    assert {error["message"] for error in result["errors"]} == {
        "backend bad_raising: 2 searches failed, more than run.failures_most = 1; one of them:"
        " ConnectionResetError: vectors.example.org:19530 is gone"
    }
    (point,) = result["vectordb"]["points"]
    assert (point["queries"], point["failed_requests"]) == (58, 2)


def test_hangs_for_longer_than_a_request_may_last(searching):
    """Longer than a rank may be silent, too: it is not."""
    made(searching, "hanging", silence_limit_s=0.5, run={**RUN, "request_limit_s": 0.9})
    result = searching.stage("run")
    point = the_point(result)
    assert point["late_requests"] >= 1
    assert point["queries"] + point["late_requests"] == 60
    assert point["latency"]["max"] <= 0.9e9
    # It was answered after all.
    assert point["recall"]["mean"] == 1.0
