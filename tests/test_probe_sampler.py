"""The series of a host: ticks on the clock, and an end for every reason to end."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from mlps.engine.bootstrap import boot_argument, boot_argv, payload
from mlps.engine.probe import sampler as module
from mlps.engine.probe.sampler import Series, part_of_wait_s

MS = 10**6
REQUEST = {"mode": "series", "data_dir": None, "results_dir": None, "interval_s": 0.1}


# ---------------------------------------------------------------- ticks on a clock of the test


@pytest.fixture
def clock(monkeypatch):
    """A clock in ms that stands until it is set."""
    told = SimpleNamespace(ms=5000.0)
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: round(told.ms * MS))
    return told


@pytest.fixture
def series(clock, tmp_path):
    found = Series({**REQUEST, "interval_s": 1}, tmp_path)
    found.first()
    return found


def test_a_tick_stands_at_its_absolute_time(series, clock):
    assert series.due_ns == 6000 * MS
    clock.ms = 6000.25
    assert series.tick() == {"mlps_tick": platform.node(), "n": 1, "late_ms": 0.25}
    assert series.due_ns == 7000 * MS


def test_a_late_tick_delays_no_other_and_says_how_long_it_was(series, clock):
    clock.ms = 6030
    line = series.tick()
    assert (line["n"], line["late_ms"], line["dt_ms"]) == (1, 30, 1030)
    assert series.due_ns == 7000 * MS
    clock.ms = 7000
    assert series.tick()["dt_ms"] == 970
    assert (series.late, series.ticks) == (1, 2)


def test_ticks_whose_time_has_passed_are_missed(series, clock):
    clock.ms = 9004
    line = series.tick()
    assert (line["n"], line["missed"], line["late_ms"], line["dt_ms"]) == (4, 3, 4, 4004)
    assert series.due_ns == 10_000 * MS
    assert (series.ticks, series.missed, series.late) == (1, 3, 0)


def test_a_step_of_the_wall_clock_moves_no_tick(series, clock, monkeypatch):
    monkeypatch.setattr(module.time, "time", lambda: 0.0)
    clock.ms = 6000
    assert "dt_ms" not in series.tick()
    assert series.due_ns == 7000 * MS


def test_the_end_tells_the_part_since_the_last_tick(series, clock):
    clock.ms = 6000
    series.tick()
    clock.ms = 6400
    part, end = series.last()
    assert (part["n"], part["partial"], part["dt_ms"]) == (2, True, 400)
    assert "missed" not in part
    assert {**end, "cpu_s": 0} == {
        "mlps_end": platform.node(),
        "ticks": 1,
        "missed": 0,
        "late": 0,
        "cpu_s": 0,
    }


def test_the_end_tells_ticks_that_were_missed_before_it(series, clock):
    clock.ms = 8400
    part, end = series.last()
    assert (part["n"], part["missed"], part["dt_ms"]) == (4, 3, 3400)
    assert (end["ticks"], end["missed"]) == (0, 3)


def test_the_first_line_says_what_the_others_hold(clock, tmp_path):
    first = Series({**REQUEST, "interval_s": 0.25}, tmp_path).first()
    assert first["mlps_series"] == platform.node()
    assert first["interval_s"] == 0.25
    assert abs(first["start_unix_s"] - time.time()) < 60
    # An empty tree has nothing to read.
    assert first["columns"] == {}
    assert set(first["unknown"]) == {"cpu", "memory", "vm", "pressure", "net"}


@pytest.mark.parametrize("left_s", [0.01, 0.059, 0.1, 1.0, 10.0, 3600.0])
def test_a_long_wait_is_as_exact_as_a_short_one(left_s):
    parts = 0
    wanted = left_s + 4
    while left_s > 0:
        part_s = part_of_wait_s(left_s)
        assert 0 < part_s <= 1, "its parent may have gone meanwhile"
        left_s -= 1.005 * part_s
        parts += 1
    assert left_s > -0.0005
    assert parts <= wanted


# ---------------------------------------------------------------- real processes


@pytest.fixture
def start(nothing_left):
    """Starts the probe as on a host."""
    started = []

    def begin(argv=None, *, data=None, **request):
        process = subprocess.Popen(
            argv or boot_argv(sys.executable),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        process.stdin.write(payload({**REQUEST, **request}) if data is None else data)
        process.stdin.flush()
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def lines(process):
    out, err = process.communicate(timeout=20)
    assert err == b""
    return [json.loads(line) for line in out.splitlines()]


def read(process):
    return json.loads(process.stdout.readline())


def test_ticks_come_on_time_and_do_not_drift(start):
    process = start(data_dir="/")
    first = read(process)
    begun = time.monotonic()
    ticks = [read(process) for _ in range(30)]
    took_s = time.monotonic() - begun
    process.stdin.close()
    last = ticks[-1]
    assert abs(took_s - 0.1 * last["n"]) < 0.5
    assert last["n"] == len(ticks) + sum(tick.get("missed", 0) for tick in ticks)
    between_ms = sum(tick.get("dt_ms", 100.0) for tick in ticks)
    # A difference below 1 % is not told.
    assert between_ms == pytest.approx(100 * last["n"] + last["late_ms"], abs=len(ticks))
    assert set(first["columns"]) >= {"cpu", "memory"}


def test_lines_are_whole_and_short(start):
    process = start(data_dir="/", results_dir="/")
    head = [process.stdout.readline() for _ in range(4)]
    assert max(map(len, head)) < 4096
    assert all(line.endswith(b"}\n") and b", " not in line for line in head)


def test_a_process_that_was_held_says_what_it_missed(start):
    process = start()
    read(process)
    read(process)
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.45)
    os.kill(process.pid, signal.SIGCONT)
    ticks = [read(process) for _ in range(4)]
    assert sum(tick.get("missed", 0) for tick in ticks) >= 2
    process.stdin.close()
    *_, end = (json.loads(line) for line in process.stdout.read().splitlines())
    assert end["missed"] >= 2


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT], ids=lambda n: n.name
)
def test_a_signal_ends_it_with_its_last_words(start, number):
    process = start(interval_s=3600)
    read(process)
    os.kill(process.pid, number)
    part, end = lines(process)
    assert part["partial"] and end["ticks"] == 0
    assert end["cpu_s"] > 0
    assert process.returncode == 0


def test_the_end_of_its_input_is_noticed_at_once(start):
    process = start(interval_s=3600)
    read(process)
    begun = time.monotonic()
    assert [next(iter(line)) for line in lines(process)] == ["mlps_tick", "mlps_end"]
    assert time.monotonic() - begun < 3


def test_it_ends_when_nobody_reads(start):
    process = start()
    read(process)
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""


PARENT = """
import subprocess, sys, threading, time
def start():
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    print(child.pid, flush=True)
if {thread}:
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
else:
    start()
time.sleep(60)
"""


@pytest.mark.parametrize("thread", [False, True], ids=["main thread", "thread that ends"])
def test_without_a_life_line_it_lives_as_long_as_its_parent(start, wait_for, thread):
    argument = boot_argument({**REQUEST, "life_line": "parent", "interval_s": 3600})
    program = PARENT.format(thread=thread)
    argv = [sys.executable, "-c", program, *boot_argv(sys.executable), argument]
    parent = start(argv, data=b"")
    child = psutil.Process(int(parent.stdout.readline()))
    assert "mlps_series" in read(parent)
    time.sleep(1.5)
    assert child.is_running(), "the thread that started it has ended, its parent has not"
    parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "its end")


def test_a_closed_input_is_no_life_line_where_there_is_none(start):
    argument = boot_argument({**REQUEST, "life_line": "parent"})
    argv = ["sh", "-c", 'exec "$@" <&-', "sh", *boot_argv(sys.executable), argument]
    process = start(argv, data=b"")
    assert "mlps_series" in read(process)
    assert [read(process)["mlps_tick"] for _ in range(2)] == [platform.node()] * 2
    process.send_signal(signal.SIGTERM)


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of Linux")
def test_everything_else_goes_first(start):
    process = start()
    read(process)
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 5
    if platform.machine() == "x86_64":
        io_class = ctypes.CDLL(None).syscall(252, 1, process.pid) >> 13
        assert io_class == 3


def test_it_holds_on_to_nothing(start):
    process = start(interval_s=0.1, data_dir="/")
    read(process)
    watched = psutil.Process(process.pid)
    for _ in range(5):
        read(process)
    before = (watched.num_fds(), watched.memory_info().rss)
    for _ in range(40):
        read(process)
    assert watched.num_fds() == before[0]
    assert watched.memory_info().rss - before[1] < 512 * 1024
