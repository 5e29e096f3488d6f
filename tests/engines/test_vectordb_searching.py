"""Searches by real ranks: what a result tells of them, whoever asks, and however they end."""

from __future__ import annotations

import numpy as np
import pytest

from mlps.engines.vectordb.capacity import TRIED_MOST
from mlps.engines.vectordb.truth import read_truth


def change(bench, **changes):
    bench.changes = {**bench.changes, **changes}
    return bench


def made(bench, **changes):
    """With index and truth."""
    change(bench, **changes)
    for stage in ("load", "truth"):
        told = bench.solo(stage)
        assert told["status"] == "complete", told["errors"]
    return bench


def go(bench, stage, ranks=None, **options):
    """A stage in this process, or in so many of its own."""
    if ranks is None:
        return bench.solo(stage)
    return bench.stage(stage, ranks=ranks, **options)


def told(result):
    assert result["status"] == "complete", result["errors"]
    return result["vectordb"]


def the_point(result):
    (point,) = told(result)["points"]
    return point


def count(histogram):
    return sum(histogram["count"])


# ---------------------------------------------------------------- probe and run


def test_a_run_tells_of_its_requests(searching):
    point = the_point(go(made(searching), "run"))
    assert (point["purpose"], point["k"], point["batch_size"], point["clients"]) == (
        "run",
        10,
        1,
        1,
    )
    assert point["queries"] == point["requests"] == count(point["latency"]) > 0
    assert point["service"] == point["latency"]
    assert (point["arrivals"], point["unserved"], point["lag_most_s"]) == (None, None, None)
    assert (point["failed_requests"], point["late_requests"], point["first_failure"]) == (
        0,
        0,
        None,
    )
    assert point["asked_queries"] == min(30, point["queries"])
    assert sum(point["timeline"]["queries"]) == point["queries"]
    assert set(point["answers"].values()) == {0}


def test_a_window_lasts_from_the_common_start_to_the_last_answer(searching):
    result = go(made(searching), "run")
    point = the_point(result)
    last_s = point["latency"]["max"] / 1e9
    assert point["elapsed_s"] <= 0.3 + last_s + 0.01
    assert result["window"]["length_s"] == 0.3
    assert result["window"]["drain_s"] == pytest.approx(max(point["elapsed_s"] - 0.3, 0), abs=1e-5)
    assert result["window"]["start_unix_s"] == point["start_unix_s"]
    assert result["ranks"]["requests"] == [point["requests"]]


def test_a_probe_asks_its_queries_once(searching):
    point = the_point(go(made(searching, probe={"queries": 12}), "probe"))
    assert (point["purpose"], point["queries"], point["asked_queries"]) == ("probe", 12, 12)
    assert (point["recall"]["queries"], point["recall"]["mean"]) == (12, 1.0)
    # What was asked of storage, by what the backend says: all 10 lists for each query.
    assert point["reads"]["backend"]["reads"] == 120


def test_a_probe_of_more_queries_than_there_are_asks_them_all(searching):
    point = the_point(go(made(searching, probe={"queries": 1000}), "probe"))
    assert point["queries"] == point["recall"]["queries"] == 30


def test_a_probe_may_have_fewer_queries_than_clients(searching):
    point = the_point(go(made(searching, probe={"queries": 1}), "probe", 2))
    assert (point["queries"], point["clients"], point["recall"]["queries"]) == (1, 2, 1)


def test_so_many_queries_are_shared_by_all_clients(searching):
    run = {"mode": "query_count", "runtime_s": None, "queries": 45, "batch_size": 4}
    point = the_point(go(made(searching, run=run), "run", 2))
    assert point["queries"] == 45
    # 23 and 22 of them.
    assert point["requests"] == 12
    assert point["asked_queries"] == 30


def test_recall_is_the_same_at_any_number_of_clients(searching):
    """For what the window asks, and what is asked after it."""
    made(searching, search={"nprobe": 2}, run={"runtime_s": 0.01})
    found = [the_point(go(searching, "run", ranks)) for ranks in (None, 2, 4)]
    assert {point["clients"] for point in found} == {1, 2, 4}
    assert found[0]["recall"]["queries"] == 30
    assert 0 < found[0]["recall"]["mean"] < 1
    assert all(point["recall"] == found[0]["recall"] for point in found)


def test_recall_is_what_sets_say(searching):
    made(searching, search={"nprobe": 2}, index={"nlist": 10})
    setting = searching.setting
    reader = setting.workload.backend.reader(
        setting.index_directory, setting.workload.spec, setting.workload.search
    )
    found, _ = reader.search(setting.data.query_vectors(0, 30), 10)
    reader.close()
    nearest = read_truth(setting.truth_path, setting.truth_fingerprint()).ids[:, :10]
    shares = [
        len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), nearest.tolist(), strict=True)
    ]
    recall = the_point(go(searching, "run"))["recall"]
    assert recall["mean"] == pytest.approx(np.mean(shares), abs=1e-9)
    assert recall["least"] == min(shares)


# ---------------------------------------------------------------- open loop


def test_an_open_loop_tells_of_arrivals(searching):
    run = {"load": "open", "target_qps": 40, "arrival": "constant", "runtime_s": 0.5}
    point = the_point(go(made(searching, run=run), "run"))
    assert point["target_qps"] == 40
    assert point["arrivals"] == 20
    assert point["requests"] + point["unserved"] == 20
    assert point["lag_most_s"] >= 0
    assert point["latency"]["sum"] >= point["service"]["sum"] > 0


def test_batches_arrive_as_one_request(searching):
    run = {"load": "open", "target_qps": 400, "arrival": "constant", "batch_size": 10}
    point = the_point(go(made(searching, run={**run, "runtime_s": 0.5}), "run"))
    assert point["arrivals"] == 20


def test_of_far_more_than_can_be_served_most_is_not_begun(searching):
    run = {"load": "open", "target_qps": 10**6, "runtime_s": 0.1}
    point = the_point(go(made(searching, run=run), "run"))
    assert point["arrivals"] == pytest.approx(10**5, rel=0.05)
    assert point["unserved"] > 0.5 * point["arrivals"]
    assert point["requests"] + point["unserved"] == point["arrivals"]
    assert point["lag_most_s"] <= 0.1


# ---------------------------------------------------------------- capacity and sweep


def test_a_search_for_the_capacity_ends_with_its_confirmation(searching):
    made(searching, capacity={"limit_ms": 60_000}, recall={"least": 0.5})
    points = told(go(searching, "capacity"))["points"]
    first, *others = points
    assert (first["purpose"], first["target_qps"]) == ("search", None)
    assert others[0]["target_qps"] == pytest.approx(0.7 * first["queries"] / first["elapsed_s"])
    # A machine may be busy: then several are confirmed in vain.
    offered = [point["target_qps"] for point in others if point["purpose"] == "search"]
    confirmed = [point["target_qps"] for point in others if point["purpose"] == "confirm"]
    assert set(confirmed) <= set(offered)
    assert len(others) <= TRIED_MOST


def test_what_is_never_served_well_is_given_up(searching):
    """Nothing is done in a nanosecond; all ranks agree on what comes next."""
    made(searching, capacity={"limit_ms": 1e-6, "runtime_s": 0.02})
    points = told(go(searching, "capacity", 2))["points"]
    rates = [point["target_qps"] for point in points[1:]]
    assert rates == pytest.approx([rates[0] / 2**number for number in range(7)])


def test_a_sweep_has_a_point_for_each_value(searching):
    own = told(go(made(searching), "sweep"))
    points = own["points"]
    assert [point["parameter"] for point in points] == [
        {"name": "nprobe", "value": value} for value in (1, 4, 10)
    ]
    assert {point["purpose"] for point in points} == {"sweep"}
    recalls = [point["recall"]["mean"] for point in points]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1] == 1.0
    bytes_per_query = [
        point["reads"]["backend"]["bytes"] / point["queries"]
        for point in points
        if point["queries"]
    ]
    assert bytes_per_query == sorted(bytes_per_query)
    assert own["backend"]["search"]["nprobe"] == 10


# ---------------------------------------------------------------- what is in the way


@pytest.mark.parametrize("stage", ["capacity", "sweep"])
def test_a_stage_needs_something_to_do(searching, stage):
    result = go(made(searching, **{stage: {"when": "never"}}), stage)
    assert result["errors"][0]["message"] == f"{stage}.when is never: there is nothing to do"
    assert result["vectordb"]["points"] == []


@pytest.mark.parametrize("stage", ["probe", "run", "capacity", "sweep"])
def test_without_an_index_nothing_is_searched(searching, stage):
    searching.solo("truth")
    result = go(searching, stage)
    assert result["status"] == "failed"
    assert result["vectordb"]["points"] == []


def test_a_truth_of_other_queries_is_refused(searching):
    truth = made(searching).setting.truth_path
    truth.rename(change(searching, query={"seed": 5}).setting.truth_path)
    result = go(searching, "run")
    assert result["status"] == "failed"
    assert "is the truth of something else (queries.seed" in result["errors"][0]["message"]


def test_a_direct_run_needs_a_reader_that_reads_so(searching):
    made(searching, cache={"mode": "direct"}, search={"io": "buffered"})
    result = go(searching, "run")
    assert result["status"] == "failed"
    assert result["errors"][0]["message"] == (
        "cache.mode is direct, but searches of backend native_ivf are buffered"
        " (search.io is buffered)"
    )
    assert result["vectordb"]["backend"]["io_class"] == "buffered"
    assert result["vectordb"]["points"] == []


def test_a_stop_ends_a_run_with_what_it_has(searching):
    made(searching, run={"runtime_s": 60})
    with searching.launch("run") as launched:
        launched.events_until(
            lambda event: event.get("phase") == "searching" and event["done"] > 0.2
        )
        launched.say("stop")
        result = launched.result()
        launched.finish()
    assert result["status"] == "stopped"
    (point,) = result["vectordb"]["points"]
    assert point["queries"] > 0
    assert point["recall"] is None
    assert 0 < point["elapsed_s"] < 50


# ---------------------------------------------------------------- caches and reads


def test_cold_runs_begin_with_nothing_in_memory(searching, tmp_path):
    """On a disk: what is in memory only cannot be dropped."""
    searching.data_dir = tmp_path
    made(searching, cache={"mode": "cold"}, search={"io": "buffered"}, run={"runtime_s": 0.1})
    if (
        go(change(searching, cache={"mode": "warm"}), "run")["vectordb"]["points"][0]["cache"][
            "resident_after_pct"
        ]
        == 0
    ):
        pytest.skip("this file system keeps nothing in the page cache")
    change(searching, cache={"mode": "cold"})
    for point in told(go(searching, "sweep"))["points"]:
        cache = point["cache"]
        assert (cache["mode"], cache["method"], cache["hosts"], cache["files"]) == (
            "cold",
            "drop",
            1,
            1,
        )
        assert cache["bytes"] == sum(
            path.stat().st_size
            for path in searching.setting.workload.backend.data_paths(
                searching.setting.index_directory
            )
        )
        assert cache["resident_before_pct"] == 0
        assert cache["resident_after_pct"] > 0


def test_a_direct_run_leaves_memory_empty(searching, tmp_path):
    searching.data_dir = tmp_path
    made(searching, cache={"mode": "cold"}, search={"io": "auto"})
    result = go(searching, "run")
    own = told(result)
    if own["backend"]["io_class"] != "direct":
        pytest.skip("this file system refuses O_DIRECT")
    (point,) = own["points"]
    assert point["cache"]["resident_before_pct"] == point["cache"]["resident_after_pct"] == 0
    # What the backend says it reads is what the kernel sees this process read.
    reads = point["reads"]
    assert reads["process"]["bytes"] == reads["backend"]["bytes"] > 0
    assert sum(point["timeline"]["process_bytes"]) == reads["process"]["bytes"]


def test_the_program_of_the_site_runs_once_for_each_point_and_host(searching, tmp_path):
    log = tmp_path / "log"
    command = ["/bin/sh", "-c", f"echo here >> {log}"]
    made(searching, cache={"mode": "cold", "method": "command", "command": command})
    points = told(go(searching, "sweep", 2))["points"]
    assert {point["cache"]["method"] for point in points} == {"command"}
    assert log.read_text() == "here\n" * 3


def test_a_program_that_fails_is_named_by_its_key(searching):
    made(searching, cache={"mode": "cold", "method": "command", "command": ["/bin/false"]})
    result = go(searching, "run")
    assert result["errors"][0]["message"].startswith(
        "cache.command: /bin/false ended with status 1"
    )
    assert result["vectordb"]["points"] == []


@pytest.mark.parametrize("mode", ["warm", "pressure"])
def test_other_modes_leave_memory_as_it_is(searching, mode):
    cache = the_point(go(made(searching, cache={"mode": mode}), "run"))["cache"]
    assert (cache["mode"], cache["method"], cache["files"]) == (mode, None, 1)
    assert cache["resident_before_pct"] is not None
