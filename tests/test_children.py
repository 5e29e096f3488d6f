"""Short programs side by side: what they answer, and that none outlives its limit."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlps.engine.children import Command, run_all
from mlps.engine.hosts import HOSTFILE

pytestmark = pytest.mark.usefixtures("nothing_left")


def shell(words: str, *, limit_s: float = 20.0, **more) -> Command:
    return Command(
        argv=("sh", "-c", words), env={"PATH": os.environ["PATH"]}, limit_s=limit_s, **more
    )


def texts(answer):
    return [line.text for line in answer.lines]


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_command_has_its_answer_in_its_place():
    answers = run_all([shell(f"echo {n}; exit {n}") for n in (3, 1, 2)])
    assert [(texts(answer), answer.exit_status) for answer in answers] == [
        (["3"], 3),
        (["1"], 1),
        (["2"], 2),
    ]


def test_they_run_at_the_same_time():
    started = time.monotonic()
    run_all([shell("sleep 1")] * 5)
    assert time.monotonic() - started < 4


def test_no_more_than_told_at_once(tmp_path):
    words = f"echo x >> {tmp_path}/in; cat {tmp_path}/in | wc -l; sleep 0.1; : > {tmp_path}/in"
    answers = run_all([shell(words)] * 4, at_once=1)
    assert [texts(answer) for answer in answers] == [["1"]] * 4


def test_what_is_told_arrives_and_what_is_said_comes_back_line_by_line():
    (answer,) = run_all([shell("cat; echo last >&2; printf end", stdin=b"one\ntwo\n")])
    assert texts(answer) == ["one", "two", "end"]
    assert (answer.last_words, answer.exit_status) == ("last", 0)


def test_a_line_has_the_time_at_which_it_came():
    (answer,) = run_all([shell("echo a; sleep 0.5; echo b")])
    first, second = answer.lines
    assert 0.3 < second.unix_s - first.unix_s < 3


def test_a_program_that_is_not_there_does_not_stop_the_others():
    missing = Command(argv=("/nowhere/ssh",), env={}, limit_s=1)
    one, other = run_all([missing, shell("echo here")])
    assert one.start_error == "/nowhere/ssh: No such file or directory"
    assert not one.timed_out
    assert texts(other) == ["here"]


def test_a_limit_ends_a_program_with_all_that_it_started(tmp_path):
    words = f"sleep 1000 & echo $! > {tmp_path}/pid; setsid sleep 1000 & echo begun; wait"
    started = time.monotonic()
    (answer,) = run_all([shell(words, limit_s=0.5)])
    assert time.monotonic() - started < 5
    assert answer.timed_out
    assert texts(answer) == ["begun"]
    assert not runs(int(Path(tmp_path, "pid").read_text()))


def test_who_holds_the_pipe_of_an_ended_program_is_ended():
    started = time.monotonic()
    (answer,) = run_all([shell("sleep 1000 & echo done")])
    assert (texts(answer), answer.exit_status) == (["done"], 0)
    assert time.monotonic() - started < 5


def test_a_program_that_never_stops_talking_does_not_fill_the_memory():
    words = "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done"
    (answer,) = run_all([shell(words, limit_s=1.0)])
    assert answer.timed_out
    assert sum(len(text) for text in texts(answer)) < 5 * 2**20


def test_a_request_to_stop_ends_all_at_once():
    started = time.monotonic()
    answers = run_all([shell("sleep 100")] * 3, stopped=lambda: time.monotonic() - started > 0.3)
    assert time.monotonic() - started < 5
    assert [answer.exit_status for answer in answers] == [None] * 3


def test_a_hostfile_is_handed_over():
    command = Command(
        argv=(sys.executable, "-c", f"print(open({HOSTFILE!r}).read())"),
        env={},
        limit_s=20,
        hostfile="node1\nnode2\n",
    )
    (answer,) = run_all([command])
    assert texts(answer)[:2] == ["node1", "node2"]
