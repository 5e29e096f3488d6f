"""The processes that start a foreign program: what they pass on, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mlps.engine import foreign_run
from mlps.engines.external.process import START, STDOUT, fill, option_of, rank_of, remove_all
from mlps.engines.io_core import directory
from mlps.engines.keeper import Program, keep

CHILDREN = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(120)", sys.argv[1]]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)
open(sys.argv[2], "w").close()
{end}
"""

KEEPER = """
import os, sys
from pathlib import Path
from mlps.engines.keeper import Program, keep
argv, directory = tuple(sys.argv[2:]), Path(sys.argv[1])
end = keep(Program(argv=argv, env=os.environ, directory=directory, stdout=None))
print(end.exit_status)
"""


def run(directory, code, *words, stdout=None):
    argv = (sys.executable, "-c", code, *words)
    return keep(Program(argv=argv, env=os.environ, directory=directory, stdout=stdout))


def alive(mark):
    found = []
    for process in psutil.process_iter():
        try:
            if mark in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def mark(tmp_path):
    """A word in the command of every process of a test."""
    yield str(tmp_path / "mark")
    for pid in alive(str(tmp_path / "mark")):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_how_a_program_ended(tmp_path, code, status):
    assert run(tmp_path, code).exit_status == status


def test_what_a_program_cost(tmp_path):
    code = "x = bytearray(64 << 20)\nwhile __import__('time').process_time() < 0.3: pass"
    end = run(tmp_path, code)
    assert 0.25 < end.cpu_user_s + end.cpu_system_s < 5
    assert end.peak_rss_bytes > 64 << 20


def test_a_program_that_cannot_be_started_is_named(tmp_path, capfd):
    program = Program(argv=("/no/such/program",), env=os.environ, directory=tmp_path, stdout=None)
    assert keep(program).exit_status == 127
    assert "/no/such/program cannot be started: No such file or directory" in capfd.readouterr().err


def test_standard_output_goes_to_its_file_and_input_is_empty(tmp_path):
    code = "import os, sys; print(os.getcwd(), repr(sys.stdin.read()))"
    run(tmp_path, code, stdout=tmp_path / "out")
    assert (tmp_path / "out").read_text() == f"{tmp_path} ''\n"


def test_what_a_program_leaves_running_is_gone_when_it_has_ended(tmp_path, mark):
    end = run(tmp_path, CHILDREN.format(end=""), mark, str(tmp_path / "ready"))
    assert end.exit_status == 0
    assert alive(mark) == []


@pytest.fixture
def kept(tmp_path, mark):
    """A process that keeps a program with children, which ignores SIGTERM."""
    end = "__import__('signal').signal(15, 1); time.sleep(120)"
    ready = tmp_path / "ready"
    words = [sys.executable, "-c", CHILDREN.format(end=end), mark, str(ready)]
    with subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), *words]) as process:
        assert wait_for(ready.exists)
        assert len(alive(mark)) >= 3
        yield process
        process.kill()


def test_a_killed_process_takes_the_program_along(kept, mark):
    kept.kill()
    kept.wait(10)
    assert wait_for(lambda: alive(mark) == [])


def test_a_program_that_does_not_obey_is_killed(kept, mark):
    kept.terminate()
    kept.wait(20)
    assert wait_for(lambda: alive(mark) == [])


# ---------------------------------------------------------------- small parts


def test_both_sides_know_the_same_names():
    assert (foreign_run.START_FILE, foreign_run.STDOUT_FILE) == (START, STDOUT)
    assert foreign_run.MARKER == directory.MARKER


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, 0),
        ({"PMI_RANK": "3"}, 3),
        ({"OMPI_COMM_WORLD_RANK": "12", "PMIX_RANK": "12"}, 12),
        ({"SLURM_PROCID": "2"}, 2),
        ({"PMI_RANK": "x", "PALS_RANKID": "4"}, 4),
    ],
)
def test_the_rank_is_the_launchers(environ, rank):
    assert rank_of(environ) == rank


def test_a_text_is_filled_in():
    late = {"rank": "3", "host": "{rank}"}
    assert fill(["a-", {"late": "rank"}, "-", {"late": "host"}], late) == "a-3-{rank}"


def test_the_option_is_found_before_stages_are_known():
    assert option_of(["--stage", "run", "--option", "deep", "--trial", "0"]) == "deep"
    assert option_of(["--stage", "run"]) is None


def test_a_directory_is_removed_without_following_links(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    own = tmp_path / "own"
    (own / "below/deep").mkdir(parents=True)
    (own / "MLPS_JOB").touch()
    (own / "link").symlink_to(outside)
    (own / "below/link").symlink_to(outside)
    remove_all(own)
    assert not own.exists()
    assert (outside / "file").exists()
