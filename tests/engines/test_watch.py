"""A rank ends when nobody needs it any more, and not sooner; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

PRELUDE = """
import os, signal, subprocess, sys, threading, time
from mlps.engines import watch
watch.SPARE_S = 0.2
watch._TICK_S = 0.05
"""


@pytest.fixture
def run():
    """Runs a script below a parent of its own, as a launcher's helper: how it ended."""

    def run(script, limit_s=20):
        parent = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', "
        parent += f"{PRELUDE + script!r}]).returncode % 256)"
        return subprocess.run(
            [sys.executable, "-c", parent], capture_output=True, text=True, timeout=limit_s
        )

    return run


def test_waiting_for_too_long_ends_a_rank_and_its_parent(run):
    done = run("""
w = watch.Watch()
w.keep("rank 3 on node2 (pid 5)", 0.3)
with w.waiting("rank 0"):
    time.sleep(30)
""")
    assert done.returncode == -signal.SIGTERM
    assert done.stderr == "rank 3 on node2 (pid 5) heard nothing of rank 0 for 1 s\n"


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param("for _ in range(20): time.sleep(0.1); wait.heard()", id="signs of life"),
        pytest.param("pass\ntime.sleep(1)", id="no longer waiting"),
    ],
)
def test_who_hears_or_does_not_wait_goes_on(run, wait):
    body = (
        f"w = watch.Watch()\nw.keep('rank 1', 0.4)\nwith w.waiting('rank 0') as wait:\n    {wait}"
    )
    assert run(body + "\nprint('here')\n").stdout == "here\n"


def test_more_time_where_others_may_need_it(run):
    done = run("""
w = watch.Watch()
w.keep("rank 1", 0.1)
with w.waiting("rank 0", more_s=5):
    time.sleep(1)
print("here")
""")
    assert done.stdout == "here\n"


def test_without_a_limit_nobody_is_ended(run):
    body = "w = watch.Watch()\nwith w.waiting('rank 0'):\n    time.sleep(0.6)\nprint('here')"
    assert run(body).stdout == "here\n"


def test_a_start_that_hangs_ends_even_where_no_thread_runs(run):
    # The interpreter is never left: no other thread gets a turn.
    done = run("sys.setswitchinterval(1000)\nwith watch.start_limit(0.2):\n    sum(iter(int, 1))")
    assert done.returncode == -signal.SIGALRM % 256


def test_a_start_in_time_is_no_matter_any_more(run):
    done = run("with watch.start_limit(0.1): pass\ntime.sleep(0.6)\nprint('here')")
    assert done.stdout == "here\n"


# ---------------------------------------------------------------- the parent

CHILD = PRELUDE + "watch.end_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"


@pytest.fixture
def start():
    """Starts a parent whose script starts CHILD: the parent and its child."""
    parents = []

    def start(script):
        parent = subprocess.Popen(
            [sys.executable, "-c", f"CHILD = {CHILD!r}\n{PRELUDE}{script}"], stdout=subprocess.PIPE
        )
        parents.append(parent)
        return parent, psutil.Process(int(parent.stdout.readline()))

    yield start
    for parent in parents:
        parent.kill()
        parent.communicate()


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_rank_ends_with_a_killed_parent(start, wait_for):
    parent, child = start("subprocess.run([sys.executable, '-c', CHILD])")
    assert is_alive(child)
    parent.kill()
    wait_for(lambda: not is_alive(child), "the end of the child", 5)


def test_the_end_of_one_thread_of_the_parent_is_not_its_end(start, wait_for):
    parent, child = start("""
run = lambda: subprocess.Popen([sys.executable, "-c", CHILD])
thread = threading.Thread(target=run)
thread.start()
thread.join()
time.sleep(60)
""")
    time.sleep(1)
    assert is_alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(child), "the end of the child", 5)
