"""Jobs that a scheduler runs: what it says about them, and what is made of it."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine import submission as module
from mlps.engine.errors import ConfigError, PreflightError
from mlps.engine.signals import StopRequests
from mlps.engine.submission import (
    Job,
    JobState,
    check_launcher,
    launcher_defaults,
    parse_squeue,
    runs_here,
    submitted_stops,
    time_limit_s,
    wait_for_jobs,
)

# ---------------------------------------------------------------- what squeue says


def test_states_by_squeue():
    text = (
        "27_0|RUNNING|None|node[1-2]\n"
        "27_1|PENDING|Resources|\n"
        "27_2|TIMEOUT|TimeLimit|node[1-2]\n"
        "slurm_load_jobs error: something\n"
    )
    assert parse_squeue(text) == {
        "27_0": JobState(word="RUNNING", reason="None", nodes="node[1-2]"),
        "27_1": JobState(word="PENDING", reason="Resources"),
        "27_2": JobState(word="TIMEOUT", reason="TimeLimit", nodes="node[1-2]"),
    }


@given(st.text())
def test_whatever_squeue_prints_is_read(text):
    for job_id, state in parse_squeue(text).items():
        assert job_id
        assert state.word
        assert "|" not in job_id + state.word + state.reason + state.nodes


@pytest.mark.parametrize(
    ("state", "text", "waiting", "ended"),
    [
        (JobState(word="PENDING", reason="PartitionTimeLimit"),
         "waits in the queue (PartitionTimeLimit)", True, False),
        (JobState(word="RUNNING", nodes="node[1-2]"), "runs on node[1-2]", False, False),
        (JobState(word="RUNNING"), "runs", False, False),
        (JobState(word="COMPLETING", nodes="node1"), "runs on node1", False, False),
        (JobState(word="CANCELLED"), "ended as CANCELLED", False, True),
        (JobState(word="NODE_FAIL", nodes="node2"), "ended as NODE_FAIL on node2", False, True),
        (module.GONE, "ended as UNKNOWN", False, True),
    ],
    ids=lambda value: value.word if isinstance(value, JobState) else "",
)  # fmt: skip
def test_a_state_in_words(state, text, waiting, ended):
    assert (str(state), state.waiting, state.ended) == (text, waiting, ended)


@pytest.mark.parametrize(
    ("state", "ran"),
    [
        (JobState(word="CANCELLED"), False),
        (JobState(word="CANCELLED", nodes="node1"), True),
        (JobState(word="PENDING"), False),
        (JobState(word="RUNNING"), True),
        (JobState(word="FAILED"), True),
        (module.GONE, False),
    ],
    ids=str,
)
def test_whether_a_job_has_run(state, ran):
    assert state.ran == ran


# ---------------------------------------------------------------- before and in a job


def test_a_launcher_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(module, "_is_installed", lambda: False)
    check_launcher("basic")
    with pytest.raises(ConfigError) as caught:
        check_launcher("submitit_slurm")
    assert str(caught.value) == (
        "hydra/launcher=submitit_slurm: Hydra's submitit launcher is not installed\n"
        "  hint: pip install 'mlps[slurm]'"
    )


def test_a_host_without_slurm(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    check_launcher("submitit_local")
    with pytest.raises(PreflightError) as caught:
        check_launcher("submitit_slurm")
    assert "sbatch, squeue, scancel not found on PATH" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("", [], []),
        ("submitit_slurm", [], ["hydra.launcher.array_parallelism=1"]),
        ("submitit_slurm", ["hydra.launcher.array_parallelism"], []),
        ("submitit_local", ["seed"], ["hydra.sweeper.max_batch_size=1"]),
    ],
)
def test_jobs_run_one_after_the_other(name, given, expected):
    assert launcher_defaults(name, given) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, True),
        ({"SUBMITIT_EXECUTOR": "slurm", "SLURM_PROCID": "0"}, True),
        ({"SUBMITIT_EXECUTOR": "slurm", "SLURM_PROCID": "3"}, False),
        # submitit_local within a task of Slurm
        ({"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_GLOBALID": "0", "SLURM_PROCID": "3"}, True),
        ({"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_GLOBALID": "1"}, False),
    ],
)
def test_one_task_of_a_job_runs_it(environ, expected):
    assert runs_here(environ) == expected


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"timeout_min": 60, "signal_delay_s": 120}, 3480.0),
        ({"timeout_min": 1, "signal_delay_s": 120}, 30.0),
        ({"timeout_min": 60}, None),
        ({}, None),
    ],
)
def test_when_a_job_must_stop(launcher, expected):
    assert time_limit_s(launcher) == expected


def test_a_submitted_job_is_asked_gracefully_once_and_hard_by_sigterm():
    before = signal.getsignal(signal.SIGUSR2)
    with submitted_stops(None) as stops:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR2)
        assert (stops.count, stops.first) == (1, "the mlps that submitted it")
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops.count == 2
    assert signal.getsignal(signal.SIGUSR2) == before


def test_a_submitted_job_stops_at_its_limit(wait_for):
    with submitted_stops(0.05) as stops:
        wait_for(lambda: stops.asked, "the limit")
    assert (stops.count, stops.first) == (1, "the time limit of its submitted job")


# ---------------------------------------------------------------- waiting


class Watch:
    """Keeps what it is told about jobs; `outcomes` are the numbers of those that left one."""

    def __init__(self):
        self.said = []
        self.outcomes = set()

    def submitted(self, job, title):
        self.said.append(f"{job.number} submitted to {title}")

    def changed(self, job):
        self.said.append(f"{job.number} {job.state}")

    def has_outcome(self, number):
        return number in self.outcomes

    def finished(self, job):
        self.said.append(f"{job.number} finished")

    def lost(self, job, title):
        self.said.append(f"{job.number} lost: {job.state}")


class Script:
    """A scheduler that gives the next states each time it is asked, then the last ones."""

    title = "test"

    def __init__(self, *answers, after=None):
        self.answers = list(answers)
        self.stopped = []
        self.after = after or (lambda left: None)

    def states(self, handles):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.after(len(self.answers))
        return answer

    def stop(self, job_id, handle, *, waiting, hard):
        self.stopped.append((job_id, waiting, hard))


WAITS, RUNS = JobState(word="PENDING", reason="Priority"), JobState(word="RUNNING", nodes="n1")
ENDED, KILLED = JobState(word="COMPLETED", nodes="n1"), JobState(word="TIMEOUT", nodes="n1")


@pytest.fixture
def wait(monkeypatch):
    for name in ("LOOK_EVERY_S", "ASK_EVERY_S", "OUTCOME_GRACE_S", "LINGER_S"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.1)

    def run(scheduler, watch, *, ids=("a",), stops=None):
        jobs = [
            Job(number=number, overrides=(), id=job_id, handle=None)
            for number, job_id in enumerate(ids, start=1)
        ]
        wait_for_jobs(jobs, scheduler, watch, stops or StopRequests())
        return watch.said

    return run


def test_a_job_from_the_queue_to_its_outcome(wait):
    watch = Watch()
    script = Script(
        {"a": WAITS}, {"a": RUNS}, {"a": RUNS}, {"a": ENDED},
        after=lambda left: watch.outcomes.add(1) if left == 1 else None,
    )  # fmt: skip
    assert wait(script, watch) == ["1 submitted to test", "1 runs on n1", "1 finished"]


def test_a_job_that_waits_for_what_will_not_come_says_so_once(wait):
    watch = Watch()
    odd = JobState(word="PENDING", reason="ReqNodeNotAvail")
    script = Script({"a": odd}, {"a": odd}, {"a": RUNS}, {"a": KILLED})
    assert wait(script, watch) == [
        "1 submitted to test", "1 waits in the queue (ReqNodeNotAvail)", "1 runs on n1",
        "1 lost: ended as TIMEOUT on n1",
    ]  # fmt: skip


def test_a_lost_job_does_not_end_the_waiting_for_others(wait):
    watch = Watch()
    script = Script(
        {"a": RUNS, "b": WAITS}, {"a": KILLED, "b": RUNS}, {"b": RUNS}, {"b": RUNS}, {"b": ENDED},
        after=lambda left: watch.outcomes.add(2) if left == 1 else None,
    )  # fmt: skip
    said = wait(script, watch, ids=("a", "b"))
    assert said[-2:] == ["1 lost: ended as TIMEOUT on n1", "2 finished"]


def test_a_scheduler_that_does_not_answer_ends_nothing(wait):
    watch = Watch()
    assert wait(Script({"a": RUNS}, None, None, {}), watch)[-1] == "1 lost: ended as UNKNOWN"


def test_a_request_to_stop_is_passed_on_and_later_becomes_hard(wait):
    watch, stops = Watch(), StopRequests()
    script = Script({"a": RUNS, "b": WAITS})

    def after(_left):
        if stops.count == 0:
            stops(signal.SIGINT, None)
        if ("a", False, True) in script.stopped:
            script.answers = [{"a": KILLED, "b": JobState(word="CANCELLED")}]

    script.after = after
    said = wait(script, watch, ids=("a", "b"), stops=stops)
    assert script.stopped == [
        ("a", False, False), ("b", True, False), ("a", False, True), ("b", True, True),
    ]  # fmt: skip
    assert set(said[-2:]) == {"1 lost: ended as TIMEOUT on n1", "2 lost: ended as CANCELLED"}


def test_a_job_that_leaves_the_queue_when_stopped_is_not_waited_for(wait, monkeypatch):
    monkeypatch.setattr(module, "OUTCOME_GRACE_S", 60.0)
    stops = StopRequests()
    script = Script({"a": WAITS}, {}, after=lambda _left: stops(signal.SIGINT, None))
    begun = time.monotonic()
    assert wait(script, Watch(), stops=stops)[-1] == "1 lost: ended as UNKNOWN"
    assert time.monotonic() - begun < 10


def test_a_second_request_is_hard_at_once(wait, monkeypatch):
    monkeypatch.setattr(module, "STOP_GRACE_S", 60.0)
    stops = StopRequests()
    stops(signal.SIGINT, None)
    stops(signal.SIGINT, None)
    script = Script({"a": RUNS}, {"a": KILLED})
    begun = time.monotonic()
    wait(script, Watch(), stops=stops)
    assert [hard for _, _, hard in script.stopped] == [True]
    assert time.monotonic() - begun < 10


# ---------------------------------------------------------------- programs of Slurm


def test_slurm_by_its_programs(monkeypatch, tmp_path):
    """squeue is asked for whole arrays; only step 0 of a running job is asked to stop."""
    for name in ("squeue", "scancel"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n'
                           'echo "7_0|RUNNING|None|n1"\n')  # fmt: skip
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slurm = module._Slurm()
    assert slurm.states({"7_0": None, "7_1": None}) == {
        "7_0": JobState(word="RUNNING", reason="None", nodes="n1")
    }
    slurm.stop("7_0", None, waiting=False, hard=False)
    slurm.stop("7_1", None, waiting=True, hard=False)
    slurm.stop("7_0", None, waiting=False, hard=True)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "squeue --noheader --array --states=all --format=%i|%T|%r|%N --jobs=7",
        "scancel --signal=USR2 7_0.0", "scancel 7_1", "scancel 7_0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [("slurm_load_jobs error: Invalid job id specified", {}),
     ("slurm_load_jobs error: Unable to contact slurm controller", None)],
)  # fmt: skip
def test_a_failure_of_squeue(monkeypatch, tmp_path, message, expected):
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert module._Slurm().states({"7": None}) == expected


def test_the_log_of_a_job():
    paths = SimpleNamespace(stderr="/x/7_0_log.err")
    job = Job(number=1, overrides=(), id="7", handle=SimpleNamespace(paths=paths))
    assert str(module.log_of(job)) == "/x/7_0_log.err"
