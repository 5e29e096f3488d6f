"""What a user sees while a job runs."""

from __future__ import annotations

import io
import re
from itertools import pairwise

import pytest

from mlps.engine import progress
from mlps.engine.progress import PlainDisplay, clock, fraction, open_display, remaining_s


class Clock:
    """A monotonic clock that tests move."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


class Terminal(io.StringIO):
    def isatty(self):
        return True


def event(done, total=100, elapsed_s=10.0, **more):
    return {
        "event": "progress",
        "phase": "running",
        "done": done,
        "total": total,
        "elapsed_s": elapsed_s,
        **more,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (5.4, "0:05"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599, "59:59"),
        (3661, "1:01:01"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (event(25), 30.0),
        (event(100), 0.0),
        (event(200), 0.0),
        (event(0), None),
        (event(5, total=0), None),
        ({}, None),
    ],
)
def test_remaining(given, seconds):
    assert remaining_s(given) == seconds


@pytest.mark.parametrize(
    ("given", "part"),
    [(event(25), 0.25), (event(200), 1.0), (event(0), None), (event(5, total=0), None), ({}, None)],
)
def test_fraction(given, part):
    assert fraction(given) == part


def test_plain_lines_of_a_stage(time):
    out = io.StringIO()
    with open_display(out) as display:
        display.step("checking the machine")
        display.stage("run", 2, 3)
        for second in range(1, 11):
            time.now += 1
            moved = {"read_bytes": second * 2**30, "written_bytes": second * 2**30}
            display.progress(event(second * 10, elapsed_s=float(second), **moved))
        display.done("01-run-0: complete in 10.0 s")
        display.say("verdict WHATIF")
    assert out.getvalue().splitlines() == [
        "checking the machine",
        "stage 2/3 run: started",
        "stage run: running 50%, elapsed 0:05, remaining 0:05, 2.00 GiB/s",
        "stage run: running 100%, elapsed 0:10, remaining 0:00, 2.00 GiB/s",
        "01-run-0: complete in 10.0 s",
        "verdict WHATIF",
    ]


def test_plain_lines_become_rare_after_a_minute(time):
    out = io.StringIO()
    display = PlainDisplay(out)
    display.stage("run", 1, 1)
    for second in range(1, 301):
        time.now += 1
        display.progress(event(second, total=300, elapsed_s=float(second)))
    shown = re.findall(r"elapsed (\d+):(\d+)", out.getvalue())
    seconds = [int(minutes) * 60 + int(rest) for minutes, rest in shown]
    assert seconds[:11] == list(range(5, 60, 5))
    later = [second for second in seconds if second > 90]
    assert {right - left for left, right in pairwise(later)} == {30}


def test_the_rate_is_that_of_the_last_interval_and_never_negative(time):
    out = io.StringIO()
    display = PlainDisplay(out)
    display.stage("run", 1, 1)
    for elapsed_s, gib in ((5.0, 10), (10.0, 15), (10.0, 99), (15.0, 1)):
        time.now += 5
        display.progress(event(1, elapsed_s=elapsed_s, read_bytes=gib * 2**30))
    assert re.findall(r"[\d.]+ GiB/s", out.getvalue()) == [
        "2.00 GiB/s", "1.00 GiB/s", "1.00 GiB/s", "0.00 GiB/s",
    ]  # fmt: skip


def test_an_event_with_nothing_in_it(time):
    out = io.StringIO()
    display = PlainDisplay(out)
    display.stage("run", 1, 1)
    time.now += 5
    display.progress({"event": "progress"})
    assert out.getvalue().splitlines()[-1] == "stage run: working"


def test_what_a_phase_does_not_know_is_not_said(time):
    out = io.StringIO()
    display = PlainDisplay(out)
    display.stage("load", 1, 1)
    time.now += 5
    display.progress({"phase": "building", "done": 0, "total": 100, "elapsed_s": 65.0})
    assert out.getvalue().splitlines()[-1] == "stage load: building, elapsed 1:05"


def test_a_terminal_gets_a_live_line_and_keeps_what_ended(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    out = Terminal()
    with open_display(out) as display:
        display.step("checking the machine")
        display.stage("run", 2, 3)
        display.progress(event(25, read_bytes=2**30, elapsed_s=1.0))
        display._progress.refresh()
        display.done("01-run-0: complete in 10.0 s [not markup]")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    live = next(line for line in re.split(r"[\r\n]+", text) if "running" in line)
    assert live.startswith("run 2/3: running")
    assert " 25%" in live
    assert "remaining 0:03" in live
    assert "1.00 GiB/s" in live
    assert "01-run-0: complete in 10.0 s [not markup]" in text


def test_progress_on_a_terminal_before_any_stage_is_not_an_error():
    with open_display(Terminal()) as display:
        display.progress(event(1))
