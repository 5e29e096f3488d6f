"""How a job reaches an engine, and how an engine's process lives and ends."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.contract import (
    JOB_LIMIT_BYTES,
    decode_job,
    encode_job,
    merged,
    parse_arguments,
    rank_ranges,
    read_job,
    sha256_hex,
)
from mlps.engines.errors import JobError
from mlps.engines.world import MpiWorld, SoloWorld, open_world

MPIEXEC = Path(sys.executable).parent / "mpiexec"

# An engine without storage, whose ranks do what the test says.
ENGINE = """
import os, sys, time
from mlps.engines.errors import EngineError
from mlps.engines.io_core.histogram import Histogram
from mlps.engines.stage import Needs, run_engine

def work(session):
    def body(control):
        if session.rank == session.ranks - 1:
            act(control)
        while not control.stopped:
            time.sleep(0.01)
    os.write(1, b"a stray print\\n")
    session.outcome.sums["ranks"] = 1
    session.phase("working", body, unit="files", total=1)

def act(control):
    {action}

def talk(session):
    # What ranks tell one another, and a value that the last one may fail to have.
    histogram = Histogram()
    histogram.record([session.rank + 1] * 3)
    merged = session.merged(histogram)
    session.outcome.facts |= {{
        "values": session.exchange(10 * session.rank),
        "merged": merged.export("ns"),
        "p50": merged.percentile(0.5),
    }}
    session.outcome.facts["agreed"] = session.agree(lambda: value(session))
    session.outcome.sums["reached"] = 1

def value(session):
    if session.rank == session.ranks - 1:
        act(None)
    return "a value of rank " + str(session.rank)

class Engine:
    def needs(self, job, ranks):
        return Needs(
            disk_bytes=1, memory_bytes_per_rank=1, disk_arithmetic="1", memory_arithmetic="1"
        )
    def stages(self):
        return {{"work": work, "talk": talk}}

if __name__ == "__main__":
    sys.exit(run_engine(Engine()))
"""


@pytest.fixture
def engine(tmp_path):
    """Writes an engine whose last rank does `action`."""

    def write(action):
        path = tmp_path / "engine.py"
        path.write_text(ENGINE.format(action=action))
        return (str(path),)

    return write


both = pytest.mark.parametrize("ranks", [0, pytest.param(2, marks=pytest.mark.mpi)])


@both
def test_a_failure_of_one_rank_ends_all(bench, engine, ranks):
    program = engine("raise EngineError('the disk is wet')")
    started_s = time.monotonic()
    result = bench.stage("work", ranks=ranks, program=program)
    assert time.monotonic() - started_s < 30
    assert result["status"] == "failed"
    (error,) = result["errors"]
    assert (error["rank"], error["message"]) == (max(ranks - 1, 0), "the disk is wet")
    assert error["host"] == os.uname().nodename
    assert result["details"] == {"ranks": max(ranks, 1)}


@both
def test_a_bug_in_one_rank_shows_and_aborts_all(bench, engine, ranks):
    program = engine("raise ZeroDivisionError('a bug')")
    with bench.launch("work", ranks=ranks, program=program) as launched:
        stderr = launched.finish()
    assert "ZeroDivisionError: a bug" in stderr
    assert "in act" in stderr
    assert launched.process.returncode == 1
    assert all(event["event"] != "result" for event in launched.events)


@both
def test_a_stray_print_is_not_on_the_protocol(bench, engine, ranks):
    with bench.launch("work", ranks=ranks, program=engine("pass")) as launched:
        launched.events_until(lambda event: event["event"] == "progress")
        launched.say("stop")
        assert launched.result()["status"] == "stopped"
        stderr = launched.finish()
    assert launched.noise == ""
    assert stderr.count("a stray print") == max(ranks, 1)


@both
def test_the_process_waits_for_the_word_ok(bench, engine, ranks):
    with bench.launch("work", ranks=ranks, program=engine("control.stop()")) as launched:
        launched.events_until(lambda event: event["event"] == "progress")
        launched.say("stop")
        launched.events_until(lambda event: event["event"] == "result")
        with pytest.raises(subprocess.TimeoutExpired):
            launched.process.wait(0.5)
        launched.say("ok")
        launched.process.wait(30)
    assert launched.process.returncode == 0


@both
def test_the_end_of_standard_input_is_no_stop(bench, engine, ranks):
    program = engine("time.sleep(0.6); raise EngineError('later')")
    with bench.launch("work", ranks=ranks, program=program) as launched:
        launched.process.stdin.close()
        launched.process.stdin = None
        result = launched.events_until(lambda event: event["event"] == "result")
        started_s = time.monotonic()
        launched.finish()
    assert result["errors"][0]["message"] == "later"
    assert time.monotonic() - started_s < 30  # nobody can say ok any more


@both
def test_ranks_exchange_values_and_merge_histograms(bench, engine, ranks):
    result = bench.stage("talk", ranks=ranks, program=engine("pass"))
    size = max(ranks, 1)
    details = result["details"]
    assert details["values"] == [10 * rank for rank in range(size)]
    assert details["merged"]["count"] == [3] * size
    assert (details["merged"]["min"], details["merged"]["max"]) == (1, size)
    assert details["merged"]["sum"] == sum(3 * (rank + 1) for rank in range(size))
    assert details["p50"] == 1
    assert details["agreed"] == "a value of rank 0"
    assert details["reached"] == size


@both
def test_ranks_that_do_not_agree_all_end(bench, engine, ranks):
    program = engine("raise EngineError('no value here')")
    result = bench.stage("talk", ranks=ranks, program=program)
    assert result["status"] == "failed"
    (error,) = result["errors"]
    assert (error["rank"], error["message"]) == (max(ranks - 1, 0), "no value here")
    assert "reached" not in result["details"]


@pytest.mark.mpi
def test_sigterm_to_the_launcher_stops_gracefully(bench, engine):
    """The launcher hands the signal to all ranks; only rank 0 acts on it."""
    with bench.launch("work", ranks=2, program=engine("pass")) as launched:
        launched.events_until(lambda event: event["event"] == "progress")
        for _, pid in launched.events[0]["ranks"]:
            os.kill(pid, signal.SIGTERM)
        result = launched.result()
        launched.finish()
    assert result["status"] == "stopped"
    assert launched.process.returncode == 0


@pytest.mark.mpi
def test_progress_names_the_rank_that_is_silent(bench, engine):
    with bench.launch("work", ranks=3, program=engine("pass")) as launched:
        launched.events_until(lambda event: event["event"] == "progress")
        _, pid = launched.events[0]["ranks"][1]
        os.kill(pid, signal.SIGSTOP)
        event = launched.events_until(lambda event: event.get("oldest_report_s", 0) > 1)
        os.kill(pid, signal.SIGCONT)
        launched.say("stop")
        assert launched.result()["status"] == "stopped"
        launched.finish()
    assert event["oldest_rank"] == 1


@pytest.mark.mpi
def test_ranks_with_different_jobs_do_not_start(bench):
    one = bench.environment()
    bench.seed = 7
    other = bench.environment()
    command = [sys.executable, "-m", "mlps.engines.kvcache_native", "--stage", "prepare"]
    ended = subprocess.run(
        [
            *(str(MPIEXEC), "-n", "2", *command, ":"),
            *("-n", "1", "-env", "MLPS_JOB", other["MLPS_JOB"], *command),
        ],
        env=one,
        input="ok\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    hello, result = map(json.loads, ended.stdout.splitlines())
    assert sorted(hello["job_sha256"].values()) == ["0-1", "2"]
    assert result["status"] == "failed"
    assert "the ranks hold different jobs" in result["errors"][0]["message"]
    assert ended.returncode == 4
    assert list(bench.data_dir.iterdir()) == []


def test_a_job_that_does_not_arrive_is_a_failure(bench, monkeypatch):
    monkeypatch.setattr(type(bench), "environment", lambda self: {"MLPS_RUN_ID": "x"})
    result = bench.stage("prepare")
    assert result["status"] == "failed"
    assert "the launcher did not forward it" in result["errors"][0]["message"]


def test_needs_start_no_mpi(bench):
    code = (
        "import sys; sys.argv[1:] = ['--stage', 'needs', '--ranks', '2']\n"
        "from mlps.engines.stage import run_engine\n"
        "from mlps.engines.kvcache_native.stages import KvCacheEngine\n"
        "code = run_engine(KvCacheEngine())\n"
        "sys.exit(code or 9 * ('mpi4py' in sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=bench.environment() | {"PMI_RANK": "0"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["event"] == "needs"


def test_needs_of_an_unknown_option_are_refused(bench):
    with bench.launch("needs", "--ranks", "1", "--option", "thrice") as launched:
        stderr = launched.finish()
    assert launched.process.returncode == 4
    assert stderr == "the benchmark has no option 'thrice'; it has: twice\n"
    assert launched.events == []


@given(st.binary(max_size=2000))
def test_a_job_arrives_as_it_was_sent(data):
    assert decode_job({"MLPS_JOB": encode_job(data)}) == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("A" * (JOB_LIMIT_BYTES + 1), "the limit is 102400", id="long"),
        pytest.param("%%%", "cannot be decoded", id="no-base64"),
        pytest.param(base64.b64encode(b"no zlib").decode(), "cannot be decoded", id="no-zlib"),
        pytest.param(
            base64.b64encode(zlib.compress(bytes(range(256)))[:-9]).decode(), "cut short", id="cut"
        ),
        pytest.param(encode_job(bytes(2**25)), "cut short", id="bomb"),
    ],
)
def test_a_job_that_cannot_be_decoded(text, reason):
    with pytest.raises(JobError, match=reason):
        decode_job({"MLPS_JOB": text})


def canonical(**changes):
    job = {"benchmark": {"a": 1, "b": {"c": 2, "d": 3}}, "data_dir": "/data", "seed": 1} | changes
    return json.dumps(job).encode()


def test_reading_a_job():
    data = canonical()
    job = read_job(data, "run-1.a_b", None)
    assert job.sha256 == sha256_hex(data)
    assert job.benchmark == {"a": 1, "b": {"c": 2, "d": 3}}
    assert job.directory == Path("/data/mlps-run-1.a_b")


def test_an_option_is_merged_into_the_benchmark():
    options = [{"name": "x", "set": {"b": {"c": 9}, "e": 4}}, {"name": "plain"}]
    data = canonical(benchmark={"a": 1, "b": {"c": 2, "d": 3}, "options": options})
    changed = read_job(data, "r", "x").benchmark
    assert (changed["a"], changed["b"], changed["e"]) == (1, {"c": 9, "d": 3}, 4)
    assert read_job(data, "r", "plain").benchmark["b"] == {"c": 2, "d": 3}
    with pytest.raises(JobError, match="no option 'y'; it has: x, plain"):
        read_job(data, "r", "y")


@pytest.mark.parametrize("run_id", [None, "", "..", ".hidden", "a/b", "a b", "ä"])
def test_a_run_needs_a_name_that_is_one(run_id):
    with pytest.raises(JobError, match="MLPS_RUN_ID must be"):
        read_job(canonical(), run_id, None)


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"{}", canonical(seed=None), canonical(data_dir="here")],
    ids=["cut", "list", "empty", "seed", "relative"],
)
def test_what_is_not_a_job(data):
    with pytest.raises(JobError):
        read_job(data, "r", None)


def test_merging_changes_neither_side():
    base, changes = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merged(base, changes) == {"a": {"b": 1, "c": 2}}
    assert (base, changes) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize(
    "argv",
    [
        ["--stage", "fly"],
        [],
        ["--stage", "needs"],
        ["--stage", "run", "--ranks", "2"],
        ["--stage", "needs", "--ranks", "0"],
        ["--stage", "run", "--trial", "one"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_arguments(argv, ["run"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage:")


@given(st.sets(st.integers(0, 40)))
def test_ranges_of_ranks_name_each_rank_once(ranks):
    text = rank_ranges(sorted(ranks))
    named = []
    for span in filter(None, text.split(",")):
        first, _, last = span.partition("-")
        named += range(int(first), int(last or first) + 1)
    assert named == sorted(ranks)
    assert text.count(",") + 1 <= len(ranks) or len(ranks) == 0


def test_ranges_of_ranks_are_short():
    assert rank_ranges([0, 1, 2, 3, 7]) == "0-3,7"


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({}, SoloWorld),
        ({"SLURM_PROCID": "0"}, SoloWorld),
        ({"PMI_RANK": "0"}, MpiWorld),
        ({"PMIX_RANK": "0"}, MpiWorld),
        ({"OMPI_COMM_WORLD_RANK": "0"}, MpiWorld),
        ({"SLURM_PROCID": "0", "PMI_FD": "3"}, MpiWorld),
    ],
    ids=lambda value: "+".join(value) or "none" if isinstance(value, dict) else "",
)
def test_mpi_only_under_an_mpi_launcher(environment, kind, monkeypatch):
    monkeypatch.setattr(MpiWorld, "__init__", lambda self: None)
    assert type(open_world(environment)) is kind
