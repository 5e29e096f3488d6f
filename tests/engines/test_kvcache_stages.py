"""The engine as a whole: real files, and real ranks where there is more than one, where a process
is measured or ended, and where its words and its exit code are looked at."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from importlib import resources
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest

WORKLOAD_SLOTS = 4 * 8
SLOT_BYTES = 16384
BLOCK_BYTES = 4096


def assert_valid(result):
    schema = json.loads((resources.files("mlps.schemas") / "stage_result.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(result)


def only_error(result):
    assert result["status"] == "failed"
    (error,) = result["errors"]
    return error


def test_a_job_of_one_rank_runs_and_leaves_nothing(bench):
    prepared = bench.stage("prepare")
    ran = bench.stage("run", "--trial", "0")
    cleaned = bench.stage("cleanup")

    for result in (prepared, ran, cleaned):
        assert_valid(result)
        assert result["status"] == "complete"
        assert result["errors"] == []
    assert ran["trial"] == 0
    assert prepared["io"]["write"]["total_bytes"] == WORKLOAD_SLOTS * SLOT_BYTES
    assert prepared["io"]["read"]["total_operations"] == 0
    assert ran["window"]["length_s"] == 0.2
    assert ran["window"]["ramp_s"] == 0.05
    assert ran["plan"]["hashed_operations"] == 16384
    assert cleaned["window"] is None
    assert cleaned["io"] == {}
    assert list(bench.data_dir.iterdir()) == []


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory, make_bench):
    """A job that one rank has prepared, and a copy of what that has left."""
    place = tmp_path_factory.mktemp("prepared")
    bench = make_bench(place / "data")
    bench.data_dir.mkdir()
    bench.solo("prepare")
    shutil.copytree(bench.directory, place / "copy")
    return bench, place / "copy"


@pytest.fixture
def prepared(snapshot, make_bench):
    """A job that one rank has just prepared."""
    bench, copy = snapshot
    shutil.rmtree(bench.directory, ignore_errors=True)
    shutil.copytree(copy, bench.directory)
    return make_bench(bench.data_dir)


@pytest.fixture(scope="module")
def snapshot_of_two(tmp_path_factory, make_bench):
    """A long job that two ranks have prepared, and a copy of what they have left."""
    place = tmp_path_factory.mktemp("long")
    bench = make_bench(place / "data")
    bench.data_dir.mkdir()
    bench.changes = {"duration_s": 60}
    bench.stage("prepare", ranks=2)
    shutil.copytree(bench.directory, place / "copy")
    return bench, place / "copy"


@pytest.fixture
def long_job(snapshot_of_two):
    """A job that two ranks have just prepared, and whose run goes on until it is ended."""
    bench, copy = snapshot_of_two
    shutil.rmtree(bench.directory, ignore_errors=True)
    shutil.copytree(copy, bench.directory)
    return bench


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, make_bench):
    """The results of two runs by two ranks on one preparation."""
    bench = make_bench(tmp_path_factory.mktemp("two"))
    bench.stage("prepare", ranks=2)
    return [bench.stage("run", "--trial", trial, ranks=2) for trial in ("0", "1")]


@pytest.mark.mpi
@pytest.mark.parametrize("trial", [0, 1])
def test_the_result_of_two_ranks_adds_up(two_ranks, trial):
    result = two_ranks[trial]

    assert_valid(result)
    assert result["status"] == "complete"
    assert result["trial"] == trial
    ranks, details = result["ranks"], result["details"]
    assert len(ranks["host_index"]) == 2
    for direction in ("read", "write"):
        io = result["io"][direction]
        assert io["window_bytes"] == sum(ranks[f"{direction}_bytes"]) > 0
        assert io["window_bytes"] == io["window_operations"] * SLOT_BYTES
        assert io["total_operations"] >= io["window_operations"]
        assert sum(io["latency"]["count"]) == io["window_operations"]
        assert io["latency"]["min"] <= io["latency"]["upper"][0]
        assert io["latency"]["upper"] == sorted(set(io["latency"]["upper"]))
        assert io["latency"]["max"] <= io["latency"]["upper"][-1]
    read, write = result["io"]["read"], result["io"]["write"]
    assert sum(ranks["operations"]) == read["window_operations"] + write["window_operations"]
    assert result["verify"]["operations"] == read["total_operations"]
    assert result["verify"]["blocks"] * BLOCK_BYTES == read["total_bytes"]
    assert result["verify"]["mismatches"] == 0
    assert details["requests_in_flight_per_rank"] == 4
    assert details["transfers_in_flight_per_rank"] == 2
    assert details["working_set_bytes"] == 2 * WORKLOAD_SLOTS * SLOT_BYTES
    assert details["operations_prefix"] == read["window_operations"]
    assert details["operations_prefill"] == write["window_operations"]
    assert (details["workload"], details["layout"], details["open_loop"]) == (
        "turns",
        "segments",
        False,
    )
    requests = result["measures"]["rates"]["requests"]
    assert 0 < requests <= write["window_operations"]
    assert requests == sum(ranks["requests"]) == sum(result["latency"]["request"]["count"])


@pytest.mark.mpi
@pytest.mark.parametrize("trial", [0, 1])
def test_no_latency_exceeds_the_time_that_was_measured(two_ranks, trial):
    result = two_ranks[trial]
    window = result["window"]
    whole_ns = (window["ramp_s"] + window["length_s"] + window["drain_s"]) * 1e9
    assert 0 < max(result["ranks"]["max_latency_ns"]) <= whole_ns
    assert window["elapsed_s"] * 1e9 >= whole_ns - 1e3


@pytest.mark.mpi
def test_a_further_run_stores_the_first_prefixes_again(two_ranks):
    first, second = two_ranks
    assert first["details"]["warming_bytes"] == 0
    assert second["details"]["warming_bytes"] >= 8 * SLOT_BYTES


@pytest.mark.mpi
def test_the_plan_is_that_of_seed_and_rank(bench, two_ranks):
    first, second = two_ranks
    assert first["plan"] == second["plan"]
    assert first["ranks"]["plan_sha256"] == second["ranks"]["plan_sha256"]
    assert len(set(first["ranks"]["plan_sha256"])) == 2

    bench.changes = {"duration_s": 0.1, "queue_depth": 4}
    bench.solo("prepare")
    alone = bench.solo("run")
    assert alone["ranks"]["plan_sha256"] == first["ranks"]["plan_sha256"][:1]
    assert alone["plan"]["sha256"] != first["plan"]["sha256"]


@pytest.mark.parametrize("durability", ["fdatasync", "dsync"])
def test_stores_can_be_durable(bench, durability):
    # As long as it takes: a busy disk may need a second for a few.
    bench.changes = {
        "io": {"durability": durability},
        "ramp_s": 0,
        "duration_s": 60,
        "requests": 3,
    }
    bench.solo("prepare")
    result = bench.solo("run")
    assert result["core"]["durability"] == durability
    assert result["io"]["write"]["window_operations"] > 0


def test_an_option_changes_the_workload(bench):
    bench.solo("prepare", "twice")
    result = bench.solo("run", "twice")
    assert result["option"] == "twice"
    assert result["details"]["requests_in_flight_per_rank"] == 8
    assert result["details"]["working_set_bytes"] == 2 * WORKLOAD_SLOTS * SLOT_BYTES
    assert result["verify"]["operations"] == 0


def test_sampled_reads_are_a_small_share(bench):
    bench.changes = {
        "io": {"verify": "sampled", "direct": False},
        "duration_s": 60,
        "requests": 1500,
    }
    bench.solo("prepare")
    result = bench.solo("run")
    assert result["io"]["read"]["total_operations"] > 3000
    share = result["verify"]["operations"] / result["io"]["read"]["total_operations"]
    assert 0.005 < share < 0.02


def test_through_the_page_cache_on_request(bench):
    bench.changes = {"io": {"direct": False}}
    bench.solo("prepare")
    core = bench.solo("run")["core"]
    assert (core["direct"], core["direct_refused"]) == (False, None)


@pytest.mark.mpi
def test_a_damaged_block_fails_the_run_of_all(long_job):
    bench = long_job
    # Block 1 of the first slot, which is always part of the first prefix.
    with bench.segment(1).open("r+b") as file:
        file.seek(BLOCK_BYTES + 9)
        byte = file.read(1)
        file.seek(BLOCK_BYTES + 9)
        file.write(bytes([byte[0] ^ 1]))
    started_s = time.monotonic()
    result = bench.stage("run", ranks=2)

    assert time.monotonic() - started_s < 30
    error = only_error(result)
    assert error["rank"] == 1
    assert error["host"] == os.uname().nodename
    text = error["message"]
    assert f"{bench.segment(1)} at offset {BLOCK_BYTES}:" in text
    assert "expected key" in text
    assert "chunk 32 version 0 block 1, found" in text
    assert "checksum wrong" in text
    assert result["verify"]["mismatches"] == 1
    assert_valid(result)


def truncate(path: Path) -> None:
    os.truncate(path, 8192)


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        pytest.param(truncate, "has 8192 bytes, prepared were 524288", id="truncated"),
        pytest.param(Path.unlink, "segment_0000.dat: No such file", id="missing"),
        pytest.param(
            lambda path: path.with_name("STATE").unlink(),
            "the stage prepare has not completed",
            id="unfilled",
        ),
        pytest.param(
            lambda path: path.with_name("STATE").write_text("{"), "prepare again", id="state"
        ),
        pytest.param(
            lambda path: (path.parent.parent / "MLPS_JOB").unlink(),
            "has no file MLPS_JOB",
            id="marker",
        ),
    ],
)
def test_run_refuses_what_prepare_did_not_leave(prepared, harm, text):
    harm(prepared.segment(0))
    result = prepared.solo("run")
    error = only_error(result)
    assert text in error["message"]
    assert str(prepared.directory) in error["message"]
    assert result["io"] == {}


@pytest.mark.parametrize("stage", ["prepare", "run", "cleanup"])
def test_the_directory_of_another_job_is_left_alone(prepared, stage):
    before = prepared.segment(0).read_bytes()
    prepared.seed = 7
    assert "belongs to another job" in only_error(prepared.solo(stage))["message"]
    assert prepared.segment(0).read_bytes() == before


def test_prepare_can_be_repeated(prepared):
    (state := prepared.segment(0).with_name("STATE")).write_text('{"runs": 3}')
    before = prepared.segment(0).read_bytes()
    prepared.segment(0).write_bytes(bytes(5))
    prepared.solo("prepare")
    assert json.loads(state.read_text()) == {"runs": 0}
    assert prepared.segment(0).read_bytes() == before


def test_cleanup_names_what_it_leaves(prepared):
    bench = prepared
    foreign = bench.directory / "rank_0000" / "notes.txt"
    foreign.write_text("mine")
    result = bench.solo("cleanup")
    assert result["status"] == "complete"
    assert result["details"]["left"] == [str(foreign), str(foreign.parent)]
    assert not bench.segment(0).exists()
    foreign.unlink()
    assert bench.solo("cleanup")["details"]["left"] == []
    assert not bench.directory.exists()
    assert bench.solo("cleanup")["status"] == "complete"


def test_fewer_ranks_clean_up_for_all(quick):
    """As after the loss of a host."""
    quick.stage("prepare", ranks=3)
    assert quick.segment(2).exists()
    result = quick.stage("cleanup", "--ranks", "3", ranks=2)
    assert (result["status"], result["details"]["left"]) == ("complete", [])
    assert not quick.directory.exists()


def test_no_data_directory(bench):
    bench.data_dir.rmdir()
    text = only_error(bench.solo("prepare"))["message"]
    assert f"cannot make directory {bench.directory}: No such file or directory (ENOENT)" in text


def test_no_room_for_the_files(bench):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    text = only_error(bench.stage("prepare", preexec_fn=limit))["message"]
    assert f"{bench.segment(0)}: File too large (EFBIG)" in text


@pytest.mark.mpi
@pytest.mark.parametrize("how", ["word", "signal"])
def test_a_stop_ends_gracefully(long_job, how):
    bench = long_job
    with bench.launch("run", ranks=2) as launched:
        launched.events_until(lambda event: event.get("elapsed_s", 0) > 0.3)
        if how == "word":
            launched.say("stop")
        else:
            os.kill(launched.events[0]["ranks"][0][1], signal.SIGTERM)
        result = launched.result()
        launched.finish()
    assert_valid(result)
    assert result["status"] == "stopped"
    assert result["errors"] == []
    assert launched.process.returncode == 0
    assert 0 < result["window"]["length_s"] < 30
    assert result["io"]["read"]["window_operations"] > 0


@pytest.mark.mpi
def test_a_killed_rank_takes_the_job_with_it(long_job):
    bench = long_job
    with bench.launch("run", ranks=2) as launched:
        launched.events_until(lambda event: event.get("elapsed_s", 0) > 0.3)
        (_, first), (_, second) = launched.events[0]["ranks"]
        os.kill(second, signal.SIGKILL)
        launched.finish()
    assert launched.process.returncode != 0
    assert "BAD TERMINATION" in launched.noise  # the launcher's, on standard output
    assert all(event["event"] != "result" for event in launched.events)
    deadline_s = time.monotonic() + 30
    while Path(f"/proc/{first}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{first}").exists()


def test_progress_comes_in_time_and_grows(bench):
    bench.changes = {"duration_s": 1.5}
    bench.solo("prepare")
    with bench.launch("run") as launched:
        launched.result()
        launched.finish()
    progress = [event for event in launched.events if event["event"] == "progress"]
    running = [event for event in progress if event["phase"] == "running"]
    assert len(running) >= 3
    assert {event["unit"] for event in running} == {"s"}
    assert all(event["total"] == 1.55 for event in running)
    for earlier, later in pairwise(running):
        assert 0.5 <= later["elapsed_s"] - earlier["elapsed_s"] < 2
        assert later["read_bytes"] > earlier["read_bytes"]


def test_needs(bench):
    with bench.launch("needs", "--ranks", "2") as launched:
        launched.finish()
    (event,) = launched.events
    assert launched.process.returncode == 0
    assert event["event"] == "needs"
    assert event["disk_bytes"] == 2 * WORKLOAD_SLOTS * SLOT_BYTES
    assert event["disk_arithmetic"] == "32 slots x 0.015625 MiB x 2 ranks"
    assert event["memory_bytes_per_rank"] > 2 * 2 * SLOT_BYTES
    assert event["memory_arithmetic"].startswith("96 MiB + buffers for 2 transfers 0 MiB + plan")


def test_needs_count_a_planner_for_each_thread_in_python(bench):
    def memory_bytes(core):
        bench.changes = {"users": 10_000, "queue_depth": 64, "io": {"core": core}}
        return bench.needs().memory_bytes_per_rank

    # Of 80,000 slots each of the 64 planners keeps a note, not only those of two rings.
    assert memory_bytes("python") - memory_bytes("threads") >= 62 * 64 * 80_000


def test_memory_stays_within_the_needs(prepared):
    result = prepared.stage("run")
    assert result["ranks"]["peak_rss_bytes"][0] <= prepared.needs().memory_bytes_per_rank


WITHIN = {
    "v3": ("v3", {"slot_bytes": 2**20, "capacity_gib": 0.05, "context_tokens_max": 9000}),
    "v3 in python": ("v3", {"slot_bytes": 2**20, "capacity_gib": 0.05, "io": {"core": "python"}}),
    "prefix": ("prefix", {"slot_bytes": 2**20, "users": 50, "capacity_gib": 0.05}),
    "files": ("prefix", {"slot_bytes": 2**20, "layout": "file_per_chunk", "chunk_tokens": 9000}),
    "trace": ("trace", {"slot_bytes": 2**20, "capacity_gib": 0.05}),
}


@pytest.mark.parametrize(("workload", "changes"), WITHIN.values(), ids=WITHIN)
def test_every_workload_stays_within_its_needs(quick, make_trace, tmp_path, workload, changes):
    quick.workload = workload
    quick.changes = {"queue_depth": 24, "requests": 50, "duration_s": 60, **changes}
    if workload == "trace":
        quick.changes["trace"] = {"path": str(make_trace(tmp_path, "mooncake"))}
    needs = quick.needs()
    for stage in ("prepare", "run"):
        result = quick.stage(stage)
        assert result["errors"] == []
        assert result["ranks"]["peak_rss_bytes"][0] <= needs.memory_bytes_per_rank
    size = sum(path.stat().st_size for path in quick.directory.rglob("*") if path.is_file())
    assert 0 <= size - needs.disk_bytes < 2000  # the marker and the state


def test_planners_with_many_small_entries_stay_within_the_needs(bench, tmp_path):
    """Each shard's planner keeps a cache of 200,000 entries of one slot."""
    bench.workload = "trace"
    line = {"input_length": 64 * 60, "output_length": 1}
    path = tmp_path / "trace"
    path.write_text(
        "".join(
            json.dumps(line | {"timestamp": n, "hash_ids": list(range(60 * n, 60 * n + 60))}) + "\n"
            for n in range(2000)
        )
    )
    bench.changes = {
        "trace": {"path": str(path)},
        "model": {"head_dim": 16},
        "slot_bytes": 4096,
        "capacity_gib": 0.8,
        "io": {"core": "noop"},
        "requests": 6000,
        "duration_s": 60,
    }
    bench.solo("prepare")
    result = bench.stage("run")
    assert result["details"]["planned_evicted"] > 0
    assert result["ranks"]["peak_rss_bytes"][0] <= bench.needs().memory_bytes_per_rank


def test_a_workload_without_sense_is_a_failure(bench):
    bench.changes = {"chunks_per_user": 1}
    assert "chunks_per_user must be 2 or more" in only_error(bench.solo("run"))["message"]
