"""Ranks that lose sight of one another end by themselves, also where nobody else could end them."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

pytestmark = pytest.mark.mpi

LIMIT_S = 0.5


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def running(quick):
    """A run of two ranks with a short limit on silence, and the ranks' processes."""
    quick.changes = {"duration_s": 60, "silence_limit_s": LIMIT_S, "start_limit_s": 60}
    quick.stage("prepare", ranks=2)
    with quick.launch("run", ranks=2) as launched:
        table = launched.events_until(lambda event: event["event"] == "ranks")
        launched.events_until(lambda event: event["event"] == "progress")
        yield launched, [pid for _, pid in table["ranks"]]


@pytest.mark.parametrize("silent", [0, 1])
def test_who_hears_nothing_of_another_ends(running, wait_for, silent):
    launched, ranks = running
    os.kill(ranks[silent], signal.SIGSTOP)
    wait_for(lambda: not is_alive(ranks[1 - silent]), "the end of the other rank", 15)
    wait_for(lambda: not is_alive(ranks[silent]), "the end of the stopped rank", 5)
    what = "rank 0" if silent == 0 else "ranks 1"
    assert f"heard nothing of {what} for" in launched.finish()


def test_ranks_that_hear_each_other_stay(running):
    launched, ranks = running
    deadline = time.monotonic() + LIMIT_S + 6
    launched.events_until(lambda event: event["silent_ranks"] == "" and time.monotonic() > deadline)
    assert all(is_alive(rank) for rank in ranks)
    launched.say("stop")
    assert launched.result()["status"] == "stopped"
