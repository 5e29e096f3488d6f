"""Files leave the page cache: really, file by file; or a program is run, and never left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from mlps.engines import keeper
from mlps.engines.contract import JOB_VARIABLE
from mlps.engines.errors import EngineError
from mlps.engines.eviction import drop, run_command
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.page_cache import residency

MIB = 2**20
KEY = "eviction.command"
# Starts two more, one of them in a session of its own, and says once they are there.
FAMILY = """
import subprocess, sys, time
more = [sys.executable, "-c", "import time; time.sleep(120)", sys.argv[1]]
subprocess.Popen(more)
subprocess.Popen(more, start_new_session=True)
open(sys.argv[1], "w").close()
{end}
"""
STAYS = "time.sleep(120)"
# A rank that is in the middle of it.
RANK = """
import sys
from mlps.engines.eviction import run_command
from mlps.engines.io_core.control import Control
run_command(sys.argv[1:], Control(), "eviction.command")
"""


@pytest.fixture
def files(tmp_path):
    """Files that were written without being made durable."""
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(os.urandom(4 * MIB))
    if residency(paths).pct < 99:
        pytest.skip("this file system keeps nothing in the page cache")
    return paths


def python(code, *words):
    return [sys.executable, "-c", code, *map(str, words)]


def alive(mark):
    """Processes that have a word in their command."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(mark) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def mark(tmp_path):
    """A word in the command of every process of a test, and the file that says they are there."""
    path = tmp_path / "mark"
    yield path
    for pid in alive(path):
        os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- file by file


def test_what_is_not_durable_is_made_so_and_dropped(files):
    control = Control()
    drop(files, control)
    assert control.done == 3
    assert residency(files).pct < 1


def test_only_the_named_files_are_dropped(files):
    drop(files[:1], Control())
    assert residency(files[1:]).pct > 99


def test_a_missing_file_is_named_after_those_before_it(files):
    files[1].unlink()
    control = Control()
    with pytest.raises(EngineError, match=r"drop from the page cache .*/b: No such file"):
        drop(files, control)
    assert control.done == 1


def test_a_stopped_rank_drops_no_more(files):
    control = Control()
    control.stop()
    drop(files, control)
    assert control.done == 0


# ---------------------------------------------------------------- a program of the site


def test_a_program_gets_its_arguments_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv(JOB_VARIABLE, "large")
    monkeypatch.setenv("SITE", "here")
    out = tmp_path / "out"
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], sys.stdin.read(),"
        f" os.environ['SITE'], '{JOB_VARIABLE}' in os.environ, os.getcwd())))"
    )
    run_command(python(code, out, "a b", "$HOME;", "*"), Control(), KEY)
    assert out.read_text() == repr((["a b", "$HOME;", "*"], "", "here", False, "/"))


def test_a_program_is_found_on_the_path(tmp_path, monkeypatch):
    program = tmp_path / "drop-caches"
    program.write_text(f"#!/bin/sh\necho done > {tmp_path}/out\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    run_command(["drop-caches"], Control(), KEY)
    assert (tmp_path / "out").read_text() == "done\n"


@pytest.mark.parametrize("argv", [["/no/such/program", "x"], ["no-such-program"], []])
def test_a_program_that_is_not_there_is_named(argv):
    name = repr(argv[0] if argv else "")
    with pytest.raises(EngineError, match=rf"^eviction.command: there is no program {name} here$"):
        run_command(argv, Control(), KEY)


def test_a_file_that_is_no_program_is_named(tmp_path):
    program = tmp_path / "broken"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match=r"broken cannot be started: No such file or directory"):
        run_command([str(program)], Control(), KEY)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit(3)", "ended with status 3: it said nothing"),
        (
            "print('one\\ntwo', flush=True); raise SystemExit('three\\n\\n  four')",
            "ended with status 1: two; three; four",
        ),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9: it said nothing"),
    ],
    ids=["status", "words", "signal"],
)
def test_a_program_that_fails_is_named_with_its_last_words(code, text):
    with pytest.raises(EngineError) as raised:
        run_command(python(code), Control(), KEY)
    assert str(raised.value) == f"eviction.command: {sys.executable} {text}"


def test_a_program_may_say_very_much():
    code = "import sys\nfor n in range(200_000): print('x' * 50, flush=n == 199_999)\n"
    code += "sys.exit('the end')"
    with pytest.raises(EngineError) as raised:
        run_command(python(code), Control(), KEY)
    assert str(raised.value).endswith("; the end")
    assert len(str(raised.value)) < 1000


def test_what_a_program_leaves_running_is_gone_with_it(mark):
    run_command(python(FAMILY.format(end=""), mark), Control(), KEY)
    assert mark.exists()
    assert alive(mark) == []


def test_a_stop_ends_a_program_and_all_that_it_started(mark, wait_for):
    control = Control()
    argv = python(FAMILY.format(end=f"__import__('signal').signal(15, 1); {STAYS}"), mark)
    thread = threading.Thread(target=run_command, args=(argv, control, KEY))
    thread.start()
    wait_for(mark.exists, "the program")
    assert thread.is_alive()
    assert len(alive(mark)) >= 3
    control.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert alive(mark) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_a_rank_is_the_end_of_the_program(mark, number, wait_for):
    argv = python(FAMILY.format(end=STAYS), mark)
    with subprocess.Popen(python(RANK, *argv)) as rank:
        wait_for(mark.exists, "the program")
        rank.send_signal(number)
        rank.wait(30)
        wait_for(lambda: alive(mark) == [], "the end of the program")


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_nothing_is_waited_for_that_a_stop_cannot_end(mark, monkeypatch, wait_for):
    """A program of another user; here its keeper does not hear."""
    monkeypatch.setattr(keeper, "_KILL_LIMIT_S", 0.2)
    control = Control()
    argv = python(FAMILY.format(end=STAYS), mark)
    thread = threading.Thread(target=run_command, args=(argv, control, KEY))
    thread.start()
    wait_for(mark.exists, "the program")
    (own,) = [
        child for child in psutil.Process().children() if "mlps.engines.keeper" in child.cmdline()
    ]
    own.suspend()
    try:
        control.stop()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        own.resume()
    wait_for(lambda: alive(mark) == [], "the end of the program")
