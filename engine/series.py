"""The time series of the hosts as timeseries.jsonl holds it: who sampled, what stages cost.

Pure: takes lines, one after the other, and keeps sums alone.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .canonical import Document

# Clocks of hosts and the rounding of times; a tick that ends so much later still lies in a window.
SLACK_S = 0.002
_IDLE = ("idle_ms", "iowait_ms")
_PRESSURE: Mapping[str, str] = {"io_pressure": "io_some_us", "memory_pressure": "memory_some_us"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When a stage was measured."""

    start_unix_s: float
    end_unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSeries:
    """How the sampler of one host did. `ended` is `open` where its last line is missing."""

    ticks: int
    missed: int
    late: int
    cpu_s: float | None
    ended: Literal["stopped", "died", "open"]
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one host did in the window of a stage, by the ticks that lie in it whole.

    Shares of that time in percent: all processors busy; some task waiting for I/O, or for memory
    (None where the kernel keeps no pressure).
    """

    covered_s: float
    cpu_busy_pct: float
    io_pressure_pct: float | None
    memory_pressure_pct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The samples of all hosts; `loads` by launch name and host, of the ticks in its window."""

    interval_s: float
    hosts: Mapping[str, HostSeries]
    loads: Mapping[str, Mapping[str, Load]]

    def as_document(self) -> Document:
        """What result.json holds of it; `sampler_cpu_s` is that of the host where it was most."""
        hosts = self.hosts.values()
        costs = [host.cpu_s for host in hosts if host.cpu_s is not None]
        return {
            "interval_s": self.interval_s,
            "hosts": len(self.hosts),
            "ticks": sum(host.ticks for host in hosts),
            "missed": sum(host.missed for host in hosts),
            "late": sum(host.late for host in hosts),
            "died": sum(host.ended != "stopped" for host in hosts),
            "sampler_cpu_s": max(costs, default=None),
        }


def windows_of(results: Mapping[str, Document]) -> dict[str, Window]:
    """The measured windows of stages by launch name, from what their result.json hold."""
    return {
        name: Window(
            start_unix_s=window["start_unix_s"] + window["ramp_s"],
            end_unix_s=window["start_unix_s"] + window["ramp_s"] + window["length_s"],
        )
        for name, result in results.items()
        if (window := result["window"]) is not None
    }


def read_series(lines: Iterable[bytes], windows: Mapping[str, Window]) -> Series:
    """Sum up the lines of a time series. A last line that was cut off counts for nothing.

    Raises ValueError, KeyError or TypeError for lines of another form.
    """
    reader = _Reader(windows)
    broken: bytes | None = None
    for line in lines:
        if broken is not None:
            raise ValueError(f"a line is no JSON: {broken[:80]!r}")
        try:
            entry = json.loads(line)
        except ValueError:
            broken = line
            continue
        reader.take(entry)
    return reader.series()


@dataclass(slots=True)
class _Sums:
    """What a host did in a window up to now."""

    covered_s: float = 0.0
    cpu_ms: list[int] = field(default_factory=list)
    pressure_us: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Host:
    """What the lines of a host have said up to now."""

    start_unix_s: float
    interval_s: float
    columns: Mapping[str, Sequence[str]]
    ticks: int = 0
    missed: int = 0
    last: int = -1
    seen_unix_s: float = 0.0
    end: Document | None = None
    sums: dict[str, _Sums] = field(default_factory=dict)


class _Reader:
    def __init__(self, windows: Mapping[str, Window]) -> None:
        self._windows = sorted(windows.items(), key=lambda item: item[1].start_unix_s)
        self._starts = [window.start_unix_s for _, window in self._windows]
        self._hosts: dict[str, _Host] = {}
        self._died: dict[str, str] = {}
        self._interval_s: float | None = None

    def take(self, entry: Document) -> None:
        kind = entry["kind"]
        if kind == "tick":
            self._tick(self._hosts[entry["host"]], entry)
        elif kind == "series":
            if self._interval_s is not None:
                raise ValueError("its first line stands in it twice")
            self._interval_s = float(entry["interval_s"])
        elif kind == "start":
            if entry["host"] in self._hosts:
                raise ValueError("the sampler of a host starts twice")
            self._hosts[entry["host"]] = _Host(
                start_unix_s=entry["start_unix_s"],
                interval_s=entry["interval_s"],
                columns=entry["columns"],
                seen_unix_s=entry["start_unix_s"],
            )
        elif kind == "end":
            self._hosts[entry["host"]].end = entry
        elif kind == "died":
            if entry["host"] in self._died:
                raise ValueError("the sampler of a host dies twice")
            self._died[entry["host"]] = entry["said"]
        else:
            raise ValueError(f"a line is of no known kind: {kind}")

    def _tick(self, host: _Host, entry: Document) -> None:
        if entry["n"] <= host.last:
            raise ValueError(f"tick {entry['n']} of a host follows its tick {host.last}")
        host.last = entry["n"]
        host.missed += entry.get("missed", 0)
        length_s = entry.get("dt_ms", 1000 * host.interval_s) / 1000
        if entry.get("partial"):
            end_unix_s = host.seen_unix_s + length_s  # before its tick was due
        else:
            host.ticks += 1
            late_s = entry.get("late_ms", 0) / 1000
            end_unix_s = host.start_unix_s + entry["n"] * host.interval_s + late_s
        host.seen_unix_s = end_unix_s
        name = self._window(end_unix_s - length_s, end_unix_s)
        if name is None or "cpu" not in entry:
            return
        sums = host.sums.setdefault(name, _Sums())
        sums.covered_s += length_s
        sums.cpu_ms = _added(sums.cpu_ms, entry["cpu"])
        sums.pressure_us = _added(sums.pressure_us, entry.get("pressure", ()))

    def _window(self, start_unix_s: float, end_unix_s: float) -> str | None:
        """The stage in whose window a tick lies whole."""
        place = bisect_right(self._starts, start_unix_s + SLACK_S) - 1
        if place < 0:
            return None
        name, window = self._windows[place]
        return name if end_unix_s <= window.end_unix_s + SLACK_S else None

    def series(self) -> Series:
        if self._interval_s is None:
            raise ValueError("its first line is missing")
        loads: dict[str, dict[str, Load]] = {}
        for name, host in self._hosts.items():
            for stage, sums in host.sums.items():
                loads.setdefault(stage, {})[name] = _load(sums, host.columns)
        hosts = {name: self._host(name) for name in dict.fromkeys((*self._hosts, *self._died))}
        return Series(interval_s=self._interval_s, hosts=hosts, loads=loads)

    def _host(self, name: str) -> HostSeries:
        host, said = self._hosts.get(name), self._died.get(name)
        end = None if host is None else host.end
        return HostSeries(
            ticks=0 if host is None else host.ticks,
            missed=0 if host is None else host.missed,
            late=0 if end is None else end["late"],
            cpu_s=None if end is None else end["cpu_s"],
            ended="died" if said is not None else "open" if end is None else "stopped",
            said=said or "",
        )


def _added(sums: Sequence[int], more: Sequence[int]) -> list[int]:
    if not sums or not more:
        return list(sums or more)
    return [one + other for one, other in zip(sums, more, strict=True)]


def _load(sums: _Sums, columns: Mapping[str, Sequence[str]]) -> Load:
    cpu = dict(zip(columns["cpu"], sums.cpu_ms, strict=True))
    whole = sum(cpu.values())
    idle = sum(cpu[name] for name in _IDLE)
    pressures = dict(zip(columns.get("pressure", ()), sums.pressure_us, strict=False))
    shares = {
        name: 100 * pressures[column] / (1e6 * sums.covered_s) if column in pressures else None
        for name, column in _PRESSURE.items()
    }
    return Load(
        covered_s=sums.covered_s,
        cpu_busy_pct=100 * (whole - idle) / whole if whole else 0.0,
        io_pressure_pct=shares["io_pressure"],
        memory_pressure_pct=shares["memory_pressure"],
    )
