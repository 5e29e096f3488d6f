"""Every workload for real, at a tiny size: what it reads is what was written, and is accounted."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mlps.engines.io_core.files import OpenFiles
from mlps.engines.kvcache_native import bench as engine_bench
from mlps.engines.kvcache_native.layout import Layout
from mlps.engines.kvcache_native.planning import PREFIX, PURPOSE_NAMES, first_requests
from mlps.engines.kvcache_native.plans import WORKLOADS, Place, planned
from mlps.engines.kvcache_native.traces import survey_trace
from mlps.engines.kvcache_native.v3 import DEVIATIONS
from mlps.engines.section import Section

LAYOUTS = ("segments", "file_per_chunk")
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
FORMATS = ("mooncake", "burstgpt", "sharegpt")

# Not a window but a number of requests: as long as that takes on a busy machine.
UNTIL = {"ramp_s": 0, "duration_s": 100, "requests": 40}


@pytest.fixture
def job(quick, make_trace, tmp_path):
    """Makes the quick job one of a workload, with a trace of its own where it needs one."""

    def make(workload, /, **changes):
        quick.workload = workload
        quick.changes = UNTIL | changes
        if workload == "trace":
            trace = quick.changes.get("trace", {})
            form = trace.get("format", "mooncake")
            path = make_trace(tmp_path, form)
            quick.changes["trace"] = {"path": str(path), **trace}
        return quick

    return make


def complete(result):
    """The result itself, of a stage that has ended well; all that was read is right."""
    assert result["errors"] == []
    assert result["status"] == "complete"
    assert result["verify"]["mismatches"] == 0
    return result


def all_compared(result):
    """The same of a run with `verify: all`."""
    read = complete(result)["io"]["read"]
    assert result["verify"]["operations"] == read["total_operations"] > 0
    assert result["verify"]["bytes"] == read["total_bytes"]
    return result


def purposes(result):
    """The purposes of the operations of a run."""
    names = (f"operations_{name}" for name in PURPOSE_NAMES)
    return {name.removeprefix("operations_") for name in names if name in result["details"]}


def failure(result):
    """The only message of a stage that has failed."""
    assert result["status"] == "failed"
    (error,) = result["errors"]
    return error["message"]


# ---------------------------------------------------------------- all workloads


@both_layouts
@pytest.mark.parametrize("workload", WORKLOADS)
def test_three_trials_verify_all_they_read_and_cleanup_leaves_nothing(job, workload, layout):
    bench = job(workload, layout=layout)
    prepared = complete(bench.solo("prepare"))
    size = prepared["details"]["working_set_bytes"]
    assert prepared["io"]["write"]["total_bytes"] == size
    assert prepared["io"]["read"]["total_operations"] == 0

    runs = [all_compared(bench.solo("run")) for _ in range(3)]

    assert [run["ranks"]["requests"] for run in runs] == [[40]] * 3
    assert len({run["plan"]["sha256"] for run in runs}) == 1
    assert len({run["io"]["read"]["total_bytes"] for run in runs}) == 1
    # The first one finds what prepare has written; the others store it again.
    warmed = [run["details"]["warming_bytes"] for run in runs]
    cached = {"turns", "prefix"}
    assert warmed[0] == 0
    assert warmed[1] == warmed[2]
    assert (warmed[1] > 0) == (workload in cached)
    for run in runs:
        assert run["details"]["working_set_bytes"] == size
        assert (run["details"]["workload"], run["details"]["layout"]) == (workload, layout)
        assert sum(run["timeline"]["read_bytes"]) == run["io"]["read"]["window_bytes"]
    cleaned = complete(bench.solo("cleanup"))
    assert cleaned["details"]["left"] == []
    assert list(bench.data_dir.iterdir()) == []


@both_layouts
@pytest.mark.parametrize("passes", [1, 3])
def test_preconditioning_writes_as_often_as_it_says(job, layout, passes):
    bench = job("turns", layout=layout, precondition_passes=passes)
    prepared = complete(bench.solo("prepare"))
    size = prepared["details"]["working_set_bytes"]
    assert prepared["io"]["write"]["total_bytes"] == (1 + passes) * size
    all_compared(bench.solo("run"))


@both_layouts
def test_what_is_prepared_is_durable_in_the_end(job, monkeypatch, layout):
    """The last operation of the filling comes before the files are synced, each of them."""
    bench = job("turns", layout=layout)
    synced = []
    monkeypatch.setattr(OpenFiles, "sync", lambda files: synced.append(files.paths))
    monkeypatch.setattr(engine_bench, "sync_file_system", synced.append)
    complete(bench.solo("prepare"))
    own = bench.directory / "rank_0000"
    expected = own if layout == "file_per_chunk" else (own / "segment_0000.dat",)
    assert synced == [expected]


def test_preconditioning_goes_through_all_places_each_time_in_another_order(job, monkeypatch):
    bench = job("prefix", precondition_passes=2)
    orders = []
    fill_rows = Layout.fill_rows

    def noted(layout, order=None):
        orders.append(None if order is None else tuple(order.tolist()))
        return fill_rows(layout, order)

    monkeypatch.setattr(Layout, "fill_rows", noted)
    complete(bench.solo("prepare"))
    shuffled = set(orders) - {None}
    slots = tuple(range(len(orders[-1])))
    assert len(shuffled) == 2
    assert all(order != slots and tuple(sorted(order)) == slots for order in shuffled)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_is_in_flight_is_bounded_by_the_queue_depth(job, workload):
    bench = job(workload, queue_depth=3, io={"rings": 2})
    complete(bench.solo("prepare"))
    result = all_compared(bench.solo("run"))
    assert (result["core"]["depth"], result["core"]["rings"]) == (3, 2)
    assert result["details"]["transfers_in_flight_per_rank"] == 3


@pytest.mark.parametrize("core", ["auto", "threads", "python"])
@pytest.mark.parametrize(
    ("workload", "changes"),
    [
        ("v3", {"capacity_gib": 8 * 16384 / 2**30, "users": 40}),
        ("v3", {"capacity_gib": 0.01, "rag": True, "context_tokens_max": 9000, "users": 40}),
        ("trace", {"capacity_gib": 7 * 16384 / 2**30, "requests_in_flight": 40}),
    ],
    ids=["v3", "v3 with retrieval", "trace"],
)
def test_many_requests_that_wait_for_each_other_all_come_to_their_end(job, core, workload, changes):
    """Few slots, many in flight: nearly every row waits for another one's."""
    io = {"core": core, "rings": 8}
    requests = 60 if core == "python" else 300
    bench = job(workload, **changes, queue_depth=64, requests=requests, io=io)
    complete(bench.solo("prepare"))
    result = complete(bench.solo("run"))
    assert result["ranks"]["requests"] == [requests]
    assert result["details"]["requests_in_flight_per_rank"] == 40
    evicted = "planned_evicted" if workload == "trace" else "planned_evicted_entries"
    assert result["details"][evicted] > 0


@pytest.mark.parametrize(
    ("workload", "changes"),
    [
        ("turns", {"rate_per_s": 2000.0}),
        ("v3", {"speedup": 1000.0}),
        ("prefix", {"rate_per_s": 2000.0}),
        ("trace", {"speedup": 10.0}),
    ],
)
@pytest.mark.parametrize("core", ["auto", "python"])
def test_an_open_loop_serves_requests_at_their_arrival(job, workload, changes, core):
    bench = job(workload, **changes, io={"core": core})
    complete(bench.solo("prepare"))
    result = all_compared(bench.solo("run"))
    assert result["details"]["open_loop"] is True
    assert result["details"]["overloaded"] is False
    assert result["details"]["backlog_max"] <= 40
    latency = result["latency"]
    counts = {name: sum(latency[name]["count"]) for name in ("request", "queue", "service")}
    assert counts == {"request": 40, "queue": 40, "service": 40}
    assert latency["request"]["sum"] == latency["queue"]["sum"] + latency["service"]["sum"]
    # The last request cannot have begun before it came.
    workload = planned(Section(bench.job["benchmark"]))
    survey = survey_trace(workload.trace) if workload.trace else None
    plan = workload.plan(Place(seed=42, rank=0, ranks=1), survey)
    rows = np.concatenate(list(first_requests(plan.rows(), 40)))
    assert result["window"]["length_s"] * 1e9 >= int(rows["arrival"].max())


@pytest.mark.parametrize("workload", ["turns", "prefix"])
def test_an_open_loop_that_is_overloaded_ends_and_says_so(job, workload):
    bench = job(workload, rate_per_s=1e6, backlog_max=20, requests=None)
    complete(bench.solo("prepare"))
    result = complete(bench.solo("run"))
    assert result["details"]["overloaded"] is True
    assert result["details"]["window_cut"] == "more than 20 requests of a rank were waiting"
    assert result["window"]["length_s"] < 50


def test_a_closed_loop_tells_nothing_of_a_backlog(job):
    bench = job("turns")
    complete(bench.solo("prepare"))
    result = complete(bench.solo("run"))
    assert "overloaded" not in result["details"]
    assert result["latency"]["queue"]["count"] == []


def test_a_window_of_full_length_is_not_called_cut(job):
    bench = job("turns", requests=None, duration_s=0.1)
    complete(bench.solo("prepare"))
    assert "window_cut" not in complete(bench.solo("run"))["details"]


# ---------------------------------------------------------------- v3


V3 = {
    "plain": ({}, {"prefill", "multi_turn", "decode_reread"}),
    "memory in front": (
        {"cpu_cache_gib": 2**-11, "context_tokens_max": 3000, "capacity_gib": 0.02},
        {"prefill", "multi_turn", "decode_reread", "demotion"},
    ),
    "single turns": ({"multi_turn": False}, {"prefill", "decode_reread"}),
    "prefill only": ({"prefill_only": True}, {"prefill", "multi_turn"}),
    "retrieval": (
        {"rag": True, "context_tokens_max": 3000, "capacity_gib": 0.02, "requests": 60},
        {"prefill", "multi_turn", "decode_reread", "rag", "miss_rewrite"},
    ),
    "decode only": (
        {"decode_only": True, "context_tokens_max": 3000, "capacity_gib": 0.02},
        {"decode_reread"},
    ),
    "two devices": (
        {"tensor_parallel": 2, "slot_bytes": 4096},
        {"prefill", "multi_turn", "decode_reread"},
    ),
    "few slots": (
        {"capacity_gib": 20 * 16384 / 2**30},
        {"prefill", "multi_turn", "decode_reread"},
    ),
    "one store at a time": (
        {"stores_in_flight": 1},
        {"prefill", "multi_turn", "decode_reread"},
    ),
}


@pytest.mark.parametrize(("changes", "expected"), V3.values(), ids=V3)
def test_options_of_v3(job, changes, expected):
    bench = job("v3", queue_depth=4, **changes)
    complete(bench.solo("prepare"))
    for trial in range(2):
        result = all_compared(bench.solo("run"))
        assert purposes(result) == expected
        warmed = result["details"]["warming_bytes"]
        assert (warmed > 0) == (trial > 0 and bool({"rag", "decode_only"} & set(changes)))
    details, measures = result["details"], result["measures"]
    assert details["deviations"] == list(DEVIATIONS)
    assert details["planned_requests"] >= result["ranks"]["requests"][0]
    assert measures["rates"]["generated_tokens"] > 0
    rates = measures["ratios"]
    assert rates["hit_rate_with_rereads"]["whole"] > 0
    if "multi_turn" in expected:
        assert 0 < rates["hit_rate"]["part"] <= rates["hit_rate"]["whole"]
    if changes.get("capacity_gib", 1) < 0.001:
        assert details["planned_evicted_entries"] > 0
    assert result["core"]["rings"] == changes.get("stores_in_flight", 2)


# ---------------------------------------------------------------- prefix


def test_prefixes_are_loaded_before_anything_is_stored(job):
    bench = job("prefix", requests=100)
    complete(bench.solo("prepare"))
    result = all_compared(bench.solo("run"))
    assert {"prefix", "multi_turn", "prefill"} <= purposes(result)
    loads = result["latency"]["prefix_load"]
    assert 0 < sum(loads["count"]) <= 100
    ratios = result["measures"]["ratios"]
    assert 0.1 < ratios["hit_rate"]["part"] / ratios["hit_rate"]["whole"] < 0.7
    assert 0 < ratios["cached_tokens"]["part"] < ratios["cached_tokens"]["whole"]


@pytest.fixture(scope="module", params=LAYOUTS)
def two_ranks(request, new_place, make_bench):
    """A prefix job that two ranks have prepared, and its result of a run."""
    bench = make_bench(new_place() / "data")
    bench.data_dir.mkdir()
    bench.workload = "prefix"
    bench.changes = UNTIL | {"users": 2, "requests": 60, "layout": request.param}
    complete(bench.stage("prepare", ranks=2))
    return bench, bench.stage("run", ranks=2)


@pytest.mark.mpi
def test_two_ranks_read_the_documents_of_each_other(two_ranks):
    bench, result = two_ranks
    all_compared(result)
    assert result["ranks"]["requests"] == [60, 60]
    read = set()
    operations = []
    for rank in range(2):
        place = Place(seed=42, rank=rank, ranks=2)
        plan = planned(Section(bench.job["benchmark"])).plan(place)
        rows = np.concatenate(list(first_requests(plan.rows(), 60)))
        operations.append(len(rows))
        documents = rows[rows["purpose"] == PREFIX]
        read |= {(rank, int(file) - plan.files.own) for file in documents["file"]}
    # All of this has been carried out and compared.
    assert result["ranks"]["operations"] == operations
    assert read == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert result["details"]["operations_prefix"] > 60


@pytest.mark.mpi
@pytest.mark.parametrize("two_ranks", ["segments"], indirect=True)
def test_a_damaged_document_fails_the_rank_that_reads_it(two_ranks):
    bench, _ = two_ranks
    shared = bench.directory / "rank_0001" / "shared_0000.dat"
    shared.write_bytes(bytes(shared.stat().st_size))
    result = bench.stage("run", ranks=2)
    # Warming has stored again what rank 1 owns, before anybody has read it.
    all_compared(result)
    (bench.directory / "rank_0001" / "STATE").write_text('{"runs": 0}')
    (bench.directory / "rank_0000" / "STATE").write_text('{"runs": 0}')
    result = bench.stage("run", ranks=2)
    assert result["status"] == "failed"
    assert all("shared_0000.dat at offset " in error["message"] for error in result["errors"])


# ---------------------------------------------------------------- trace


@both_layouts
@pytest.mark.parametrize("form", FORMATS)
def test_a_trace_of_each_format(job, form, layout):
    bench = job("trace", layout=layout, trace={"format": form, "cycles": 1}, requests=None)
    complete(bench.solo("prepare"))
    result = complete(bench.solo("run"))
    facts, details = result["details"]["trace"], result["details"]
    assert facts["requests"] == details["planned_requests"] == 40
    assert details["planned_prompt_tokens"] == facts["input_tokens"]
    assert details["planned_generated_tokens"] == facts["output_tokens"]
    assert result["measures"]["rates"]["generated_tokens"] == facts["output_tokens"]
    assert details["window_cut"] == "the trace had ended"
    assert (facts["broken_lines"], facts["out_of_order"], facts["turns_cut"]) == (0, 0, 0)
    assert len(facts["sha256"]) == 64
    hits = result["measures"]["ratios"]["hit_rate"]["part"]
    if form == "burstgpt":
        assert (hits, result["verify"]["operations"]) == (0, 0)
    else:
        all_compared(result)
        assert purposes(result) == {"trace", "prefill"}
        assert hits > 0


def test_a_note_of_the_trace_that_is_damaged_fails_the_run(job):
    bench = job("trace")
    complete(bench.solo("prepare"))
    (bench.directory / "rank_0000" / "STATE").write_text('{"runs": 0, "survey": {}}')
    result = bench.solo("run")
    assert result["status"] == "failed"
    assert "what was noted of the trace is damaged: prepare again" in str(result["errors"])


def test_a_trace_is_repeated_as_often_as_asked(job):
    for cycles, same_ids in ((2, False), (2, True)):
        trace = {"cycles": cycles, "same_ids": same_ids}
        bench = job("trace", trace=trace, requests=None)
        complete(bench.solo("prepare"))
        result = all_compared(bench.solo("run"))
        assert result["details"]["planned_requests"] == 80
        hits = result["measures"]["ratios"]["hit_rate"]
        assert (hits["part"] / hits["whole"] > 0.8) == same_ids
        complete(bench.solo("cleanup"))


@pytest.mark.parametrize("allowed", [2, 1])
def test_broken_lines_are_counted_up_to_their_limit(job, allowed):
    bench = job("trace", trace={"broken_lines_max": allowed, "cycles": 1}, requests=None)
    path = Path(bench.changes["trace"]["path"])
    lines = path.read_text().splitlines()
    lines[4:4] = ["{", '{"timestamp": 3}']
    path.write_text("\n".join(lines))
    result = bench.solo("prepare")
    if allowed == 1:
        text = failure(result)
        assert f"{path} line 6: input_length is None, not a whole number" in text
        assert text.endswith(
            "this is broken line 2 (after lines 5), trace.broken_lines_max allows 1"
        )
        assert not bench.directory.exists()
        return
    all_compared(bench.solo("run"))
    facts = complete(result)["details"]["trace"]
    assert (facts["broken_lines"], facts["first_broken_lines"]) == (2, [5, 6])
    assert facts["requests"] == 40


def test_a_trace_that_is_missing(job):
    bench = job("trace")
    path = Path(bench.changes["trace"]["path"])
    path.unlink()
    expected = f"cannot read {path}: No such file or directory (ENOENT)"
    assert failure(bench.solo("prepare")) == expected
    assert not bench.directory.exists()


def test_a_trace_that_is_lost_or_changed_after_prepare(job):
    bench = job("trace")
    complete(bench.solo("prepare"))
    path = Path(bench.changes["trace"]["path"])
    text = path.read_text()
    path.write_text(text + "\n")
    size = len(text)
    expected = f"{path} has changed: it has {size + 1} bytes, surveyed were {size}"
    assert failure(bench.solo("run")) == expected
    path.unlink()
    assert failure(bench.solo("run")) == f"cannot find {path}: No such file or directory (ENOENT)"
    path.write_text(text)
    all_compared(bench.solo("run"))
    path.unlink()
    complete(bench.solo("cleanup"))  # which needs no trace
    assert list(bench.data_dir.iterdir()) == []


@pytest.mark.mpi
def test_ranks_share_a_trace_among_them(job):
    bench = job("trace", trace={"cycles": 1}, requests=None)
    complete(bench.stage("prepare", ranks=2))
    result = all_compared(bench.stage("run", ranks=2))
    assert sum(result["ranks"]["requests"]) == 40
    assert min(result["ranks"]["requests"]) > 0
    assert result["details"]["planned_requests"] == 40


def test_a_run_that_was_cut_short_is_followed_by_one_that_verifies(job):
    """A stop leaves some slots stored and others not: the next run stores what it needs first."""
    bench = job("prefix", requests=None, duration_s=0.05)
    complete(bench.solo("prepare"))
    for _ in range(3):
        all_compared(bench.solo("run"))


def test_the_first_operations_are_planned_before_the_clock_starts(job, monkeypatch):
    planned_s = []

    class Noted(engine_bench.Followed):
        def rows(self):
            for block in super().rows():
                planned_s.append(time.time())
                yield block

    monkeypatch.setattr(engine_bench, "Followed", Noted)
    bench = job("turns")
    complete(bench.solo("prepare"))
    result = complete(bench.solo("run"))
    assert planned_s[0] < result["window"]["start_unix_s"]


def test_the_state_counts_runs_before_they_store_anything(job):
    bench = job("turns")
    complete(bench.solo("prepare"))
    state = bench.directory / "rank_0000" / "STATE"
    assert json.loads(state.read_text()) == {"runs": 0}
    started = threading.Event()

    def watch():
        while json.loads(state.read_text())["runs"] == 0:
            time.sleep(0.001)
        started.set()

    thread = threading.Thread(target=watch)
    thread.start()
    complete(bench.solo("run"))
    thread.join(10)
    assert started.is_set()
    assert json.loads(state.read_text()) == {"runs": 1}
