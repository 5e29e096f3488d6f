"""A stage of a foreign program with processes that play those of ours: every way that it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from mlps.engine.foreign import Launched, Place, command_of
from mlps.engine.foreign_run import MARKER, Task, run_foreign, stage_directory
from mlps.engine.hosts import Host
from mlps.engine.plan import Launch
from mlps.engine.progress import PlainDisplay
from mlps.engine.signals import StopRequests
from mlps.engine.supervise import Site

SHA = "ab" * 32

# What each process of ours says; the words of a test come in between.
SAY = """
import json, os, sys, time
def say(event, rank=0, **facts):
    print(json.dumps({"event": event, "rank": rank, **facts}), flush=True)
def started(rank=0, sha="SHA"):
    say("started", rank, host="node1", pid=os.getpid(), job_sha256=sha, programs=[])
def ended(rank=0, status=0):
    say("ended", rank, exit_status=status, elapsed_s=1.5, cpu_user_s=0.5, cpu_system_s=0.25,
        peak_rss_bytes=1048576)
""".replace("SHA", SHA)

DOCUMENT = {
    "data_dir": "/d", "seed": 1, "trials": 1,
    "benchmark": {
        "measured_by": "prog", "options": [],
        "files": {"conf/a.txt": {"form": "text", "content": ["seed {seed}", "in {run_dir}"]}},
        "commands": {
            "run": {
                "argv": ["prog", "-{rank}"],
                "environment": {"A": "{stage_dir}"},
                "outputs": {"out": "left/out", "each": "{rank}.txt"},
                "metrics": {"x_per_s": {"output": "out", "json": "$.x", "unit": "1/s"}},
            }
        },
    },
}  # fmt: skip


@pytest.fixture
def stage(tmp_path):
    """Runs a stage whose launcher is this Python with some code; its outcome and what was saved."""

    def run(code, *, ranks=1, prepared=lambda _run_dir: None, **limits):
        hosts = (Host(name="node1", slots=ranks, ranks=ranks),)
        run_dir = tmp_path / "mlps-x"
        prepared(run_dir)
        launch = Launch(
            index=0, stage="run", option=None, trial=2, measured=True, when="success",
            undone_by=None, argv=(sys.executable, "-c", SAY + code), hosts=hosts, hostfile=None,
            time_limit_s=limits.get("time_limit_s", 30), silence_limit_s=0.01,
            start_limit_s=limits.get("start_limit_s", 30), is_foreign=True,
        )  # fmt: skip
        place = Place(run_dir=str(run_dir), stage_dir=str(stage_directory(run_dir, launch)))
        launched = Launched(stage="run", option=None, trial=2, hosts=hosts, place=place)
        command = command_of(DOCUMENT, launched)
        saved = {}
        task = Task(
            launch=launch, command=command, document=DOCUMENT, run_dir=run_dir,
            save=saved.__setitem__,
        )  # fmt: skip
        site = Site(
            program=Path(sys.executable), env={**os.environ, "STAGE": place.stage_dir},
            stdout_log=tmp_path / "stdout.log", stderr_log=tmp_path / "stderr.log",
            job_sha256=SHA, died_patterns=(),
        )  # fmt: skip
        display = PlainDisplay(io.StringIO())
        return run_foreign(task, site, limits.get("stops", StopRequests()), display), saved

    return run


LEAVE = """
os.chdir(os.environ["STAGE"])
os.mkdir("left")
open("left/out", "w").write('{"x": 5}')
open("0.txt", "w").write("zero")
"""


def test_a_stage_that_is_complete(stage, tmp_path):
    outcome, saved = stage(f"started()\n{LEAVE}\nended()")
    assert (outcome.status, outcome.reason) == ("complete", None)
    assert saved == {
        "files/conf/a.txt": f"seed 1\nin {tmp_path}/mlps-x\n".encode(),
        "outputs/out": b'{"x": 5}',
        "outputs/each-0": b"zero",
    }
    assert (tmp_path / "mlps-x/conf/a.txt").read_bytes() == saved["files/conf/a.txt"]
    assert (tmp_path / f"mlps-x/{MARKER}").read_text() == f"{SHA}\n"
    start = json.loads((tmp_path / "mlps-x/stages/run-2/mlps-start.json").read_text())
    assert start == {
        "argv": [["prog"], ["-", {"late": "rank"}]],
        "environment": {"A": [f"{tmp_path}/mlps-x/stages/run-2"]},
        "stdout": False,
    }
    result = outcome.result
    assert result["foreign"]["metrics"] == {"x_per_s": 5.0}
    assert result["foreign"]["outputs"] == {"out": ["out"], "each": ["each-0"]}
    assert result["ranks"]["cpu_user_s"] == [0.5]
    assert json.loads(outcome.result_line) == result
    assert outcome.table.places[0][0] == "node1"


def test_what_the_stage_left_before_is_gone(stage, tmp_path):
    def left(run_dir):
        old = run_dir / "stages/run-2/left"
        old.mkdir(parents=True)
        (old / "out").write_text('{"x": 9}')
        (run_dir / MARKER).write_text(f"{SHA}\n")

    outcome, _ = stage("started(); ended()", prepared=left)
    assert outcome.result["foreign"]["metrics"] == {}
    assert "No such file or directory" in outcome.result["foreign"]["missing"]["out"]
    assert outcome.result["foreign"]["flaws"] == {"x_per_s": "output out is missing"}


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        ("started(); ended(status=3); sys.exit(3)", "exit", "rank 0 on node1 ended with exit sta"),
        ("started(); ended(status=-9)", "exit", "rank 0 on node1 ended with signal 9"),
        ("sys.exit(1)", "no_result", "ended with exit status 1 before all processes had told"),
        ("started(); print('bye', file=sys.stderr)", "no_result", "its last words: bye"),
        ("started(); ended(); sys.exit(5)", "no_result", "ended with exit status 5"),
        ("started(sha='other'); ended()", "protocol", "processes had another job"),
        ("started(); started(); time.sleep(9)", "protocol", "two processes say that they are"),
        ("print('{'); print('[]'); print('{}')", "no_result", "before all processes had told"),
    ],
)  # fmt: skip
def test_how_else_a_stage_ends(stage, code, reason, text):
    outcome, _ = stage(code)
    assert (outcome.status, outcome.reason) == ("failed", reason)
    assert text in outcome.message
    assert outcome.result is None


def test_limits_are_kept_but_silence_is_none(stage):
    outcome, _ = stage("time.sleep(30)", start_limit_s=0.3)
    assert (outcome.reason, outcome.elapsed_s < 10) == ("start_limit", True)
    assert outcome.message == "not all processes had started after 0.3 s"


def test_a_time_limit(stage):
    outcome, _ = stage("started(); time.sleep(30)", time_limit_s=0.5)
    assert (outcome.reason, outcome.message) == ("time_limit", "it took longer than 0.5 s")


def test_a_stop_from_before_is_not_for_this_stage(stage):
    stops = StopRequests()
    stops(signal.SIGTERM, None)
    outcome, _ = stage(f"started()\n{LEAVE}\nended()", stops=stops)
    assert outcome.status == "complete"


def test_a_directory_of_another_job_is_not_touched(stage, tmp_path):
    def other(run_dir):
        run_dir.mkdir()
        (run_dir / MARKER).write_text("another\n")

    outcome, saved = stage("started(); ended()", prepared=other)
    assert (outcome.status, outcome.reason) == ("failed", "start")
    assert "it belongs to another job" in outcome.message
    assert saved == {}
    assert not (tmp_path / "mlps-x/stages").exists()


@pytest.mark.parametrize(
    ("code", "flaw"),
    [
        ("os.symlink('/etc/passwd', 'left/out')", "it is not in the job's directory"),
        ("os.symlink('../../../..', 'left/out')", "it is not in the job's directory"),
        ("os.mkdir('left/out')", "it is no file"),
        ("os.symlink('nothing', 'left/out')", "No such file or directory"),
        ("open('left/out', 'wb').truncate(4194305)", "it holds more than 4194304 bytes"),
    ],
)
def test_an_output_is_a_small_file_of_the_job(stage, code, flaw):
    make = "os.chdir(os.environ['STAGE']); os.mkdir('left')"
    outcome, saved = stage(f"started(); {make}; {code}; open('0.txt', 'w'); ended()")
    assert outcome.status == "complete"
    assert flaw in outcome.result["foreign"]["missing"]["out"]
    assert "outputs/out" not in saved
    assert outcome.result["foreign"]["flaws"] == {"x_per_s": "output out is missing"}


def test_a_fifo_does_not_hold_the_archive_up(stage):
    make = "os.chdir(os.environ['STAGE']); os.mkdir('left'); os.mkfifo('left/out')"
    outcome, _ = stage(f"started(); {make}; ended()")
    assert "it is no file" in outcome.result["foreign"]["missing"]["out"]


def test_outputs_of_a_failed_stage_are_kept_as_evidence(stage):
    outcome, saved = stage(f"started()\n{LEAVE}\nended(status=1)")
    assert outcome.status == "failed"
    assert saved["outputs/out"] == b'{"x": 5}'
