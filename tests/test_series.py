"""The time series of the hosts, read line by line."""

from __future__ import annotations

import json

import pytest

from mlps.engine.series import HostSeries, Window, read_series, windows_of

COLUMNS = {
    "cpu": ["user_ms", "system_ms", "idle_ms", "iowait_ms"],
    "pressure": ["cpu_some_us", "io_some_us", "io_full_us", "memory_some_us", "memory_full_us"],
}
HEAD = {"kind": "series", "schema": 1, "interval_s": 1, "hosts": ["n[1-2]"], "via": "ssh"}


def start(host, **changes):
    line = {"kind": "start", "host": host, "start_unix_s": 100.0, "interval_s": 1}
    return line | {"columns": COLUMNS} | changes


def tick(host, n, *, busy=0, **changes):
    return {
        "kind": "tick",
        "host": host,
        "n": n,
        "late_ms": 0.5,
        "cpu": [busy, 0, 900 - busy, 100],
    } | changes


def end(host, **changes):
    return {"kind": "end", "host": host, "missed": 0, "late": 1, "cpu_s": 0.5} | changes


def read(*lines, windows=None):
    return read_series([json.dumps(line).encode() for line in lines], windows or {})


def test_windows_begin_after_the_ramp(make_result):
    windows = windows_of({"01-run-0": make_result(), "00-prepare": make_result(window=None)})
    assert windows == {
        "01-run-0": Window(start_unix_s=1.8e9 + 0.5, end_unix_s=1.8e9 + 2.5),
    }


def test_how_each_sampler_did():
    series = read(
        HEAD,
        start("n1"),
        tick("n1", 1),
        tick("n1", 4, missed=2, dt_ms=3000),
        end("n1", late=3, cpu_s=0.25),
        start("n2"),
        tick("n2", 1),
        {"kind": "died", "host": "n2", "said": "signal 9"},
        {"kind": "died", "host": "n3", "said": "no python3"},
        start("n4"),
    )
    assert series.interval_s == 1
    assert series.hosts == {
        "n1": HostSeries(ticks=2, missed=2, late=3, cpu_s=0.25, ended="stopped", said=""),
        "n2": HostSeries(ticks=1, missed=0, late=0, cpu_s=None, ended="died", said="signal 9"),
        "n4": HostSeries(ticks=0, missed=0, late=0, cpu_s=None, ended="open", said=""),
        "n3": HostSeries(ticks=0, missed=0, late=0, cpu_s=None, ended="died", said="no python3"),
    }
    assert series.as_document() == {
        "interval_s": 1.0,
        "hosts": 4,
        "ticks": 3,
        "missed": 2,
        "late": 3,
        "died": 3,
        "sampler_cpu_s": 0.25,
    }


def loads(*lines, first=101.5, last=104.5):
    window = Window(start_unix_s=first, end_unix_s=last)
    return read(HEAD, start("n1"), *lines, windows={"run": window}).loads


def test_the_load_of_a_window_is_that_of_its_whole_ticks():
    pressure = [0, 250_000, 0, 100_000, 0]
    lines = [
        tick("n1", 1, busy=900),
        tick("n1", 2, busy=900),  # from 101 to 102: the window begins later
        tick("n1", 3, busy=300, pressure=pressure),
        tick("n1", 4, busy=500),
        tick("n1", 5, busy=900),
    ]
    load = loads(*lines)["run"]["n1"]
    assert load.covered_s == 2
    assert load.cpu_busy_pct == 40.0
    assert load.io_pressure_pct == 12.5
    assert load.memory_pressure_pct == 5.0


def test_a_tick_after_missed_ones_covers_their_time():
    load = loads(tick("n1", 2), tick("n1", 4, missed=1, dt_ms=2000), first=102, last=105)
    assert load["run"]["n1"].covered_s == 2


def test_a_window_between_two_ticks_has_no_load():
    assert loads(tick("n1", 1), tick("n1", 2), first=101.2, last=101.8) == {}


def test_the_part_of_a_tick_before_the_end_counts_for_its_time():
    part = {"partial": True, "dt_ms": 250.0}
    series = read(
        HEAD,
        start("n1"),
        tick("n1", 1),
        tick("n1", 2, busy=500, **part),
        windows={"run": Window(start_unix_s=101, end_unix_s=101.3)},
    )
    assert series.hosts["n1"].ticks == 1
    assert series.loads["run"]["n1"].covered_s == 0.25


def test_lateness_moves_a_tick():
    assert loads(tick("n1", 2, late_ms=600), first=101, last=102.1) == {}


def test_a_kernel_without_pressure_has_none():
    columns = {"cpu": COLUMNS["cpu"]}
    window = Window(start_unix_s=100, end_unix_s=101.1)
    series = read(HEAD, start("n1", columns=columns), tick("n1", 1), windows={"run": window})
    assert series.loads["run"]["n1"].io_pressure_pct is None


def test_each_tick_counts_for_its_own_stage():
    windows = {
        "b": Window(start_unix_s=102, end_unix_s=104.1),
        "a": Window(start_unix_s=100, end_unix_s=101.1),
    }
    lines = [tick("n1", number, busy=100 * number) for number in range(1, 6)]
    found = read(HEAD, start("n1"), *lines, windows=windows).loads
    assert {name: load["n1"].cpu_busy_pct for name, load in found.items()} == {"a": 10, "b": 35}


def test_a_last_line_that_was_cut_off_counts_for_nothing():
    lines = [json.dumps(line).encode() for line in (HEAD, start("n1"), tick("n1", 1))]
    assert read_series([*lines, b'{"kind":"tick","ho'], {}).hosts["n1"].ticks == 1


def test_a_broken_line_in_between_is_refused():
    lines = [json.dumps(HEAD).encode(), b"{", json.dumps(start("n1")).encode()]
    with pytest.raises(ValueError, match="a line is no JSON"):
        read_series(lines, {})


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ([HEAD, {"kind": "song"}], "no known kind: song"),
        ([], "its first line is missing"),
        ([HEAD, tick("n1", 1)], "n1"),
    ],
)
def test_lines_of_another_form_are_refused(lines, text):
    with pytest.raises((ValueError, KeyError), match=text):
        read(*lines)
