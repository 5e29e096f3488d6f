"""The time series of a host: looks at its counters on the clock's ticks until nobody listens.

Tick n stands at the start plus n intervals on the monotonic clock, so that a late tick delays no
other and a step of the wall clock moves none.
"""

from __future__ import annotations

import json
import os
import platform
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .counters import Counters, targets_of
from .facts import read_facts

if TYPE_CHECKING:
    from ctypes import CDLL

LATE_NS = 20_000_000
# A difference to the interval that a reader of the line has to know.
_UNEVEN = 0.01
# A parent that has gone is noticed after this long where the kernel does not tell of it.
_LOOK_S = 1.0
# The last part of a wait, short enough to be exact.
_NEAR_S = 0.03

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_PR_SET_PDEATHSIG = 1
# Behind the ranks, but not so far that a host whose processors are all busy gives no ticks: with
# 19 three of four were missed there, with 5 one of forty.
_NICE = 5
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_IDLE = 3 << 13
_IOPRIO_SET = {
    "x86_64": 251, "i386": 289, "i686": 289, "aarch64": 30, "riscv64": 30, "loongarch64": 30,
    "ppc64le": 273, "ppc64": 273, "s390x": 282,
}  # fmt: skip


def run(request: dict[str, Any], write: Callable[[bytes], object]) -> None:
    """Write a first line, one line for each tick, and a last one.

    Ends when standard input ends (where that is the request's `life_line`), at a signal that asks
    for it, when the parent has gone and when nobody reads any more. SIGUSR1 is what launchers of
    MPI hand on.
    """
    life = Life(has_stdin=request.get("life_line", "stdin") == "stdin")
    yield_to_others()
    series = Series(request)
    try:
        write(_line(series.first()))
        while life.wait_until(series.due_ns):
            write(_line(series.tick()))
        for line in series.last():
            write(_line(line))
    except OSError:
        return  # nobody reads any more


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


class Series:
    """The lines of a series, and when the next of them is due."""

    def __init__(self, request: dict[str, Any], root: Path = Path("/")) -> None:
        interval_s = float(request["interval_s"])
        self.interval_ns = round(interval_s * 1e9)
        self.host = platform.node()
        self.targets = targets_of(read_facts(request, root))
        self.counters = Counters(self.targets, root)
        self.ticks = self.missed = self.late = 0
        self._n = 0
        self._interval_s = int(interval_s) if interval_s == int(interval_s) else interval_s
        self._start_ns = self._before_ns = 0

    @property
    def due_ns(self) -> int:
        """When the next tick is due, on the monotonic clock."""
        return self._start_ns + (self._n + 1) * self.interval_ns

    def first(self) -> dict[str, Any]:
        """What the lines hold. The series starts now."""
        self._start_ns = self._before_ns = time.monotonic_ns()
        start_unix_s = round(time.time(), 6)
        self.counters.look()
        return {
            "mlps_series": self.host,
            "interval_s": self._interval_s,
            "start_unix_s": start_unix_s,
            "disks": sorted(self.targets.disks or {}),
            "nics": self.targets.nics or [],
            "columns": self.counters.columns,
            "unknown": self.counters.unknown,
        }

    def tick(self) -> dict[str, Any]:
        """The tick that is due. Those whose time has passed altogether are missed."""
        now_ns = time.monotonic_ns()
        missed = self._advance(now_ns)
        late_ns = now_ns - (self._start_ns + self._n * self.interval_ns)
        self.ticks += 1
        self.late += late_ns > LATE_NS
        line = {"mlps_tick": self.host, "n": self._n, "late_ms": round(late_ns / 1e6, 2)}
        return {**line, **self._since(now_ns, missed), **self.counters.look()}

    def last(self) -> list[dict[str, Any]]:
        """What has changed since the last tick, and the end."""
        now_ns = time.monotonic_ns()
        # The part belongs to the tick that does not come any more.
        missed = self._advance(now_ns + self.interval_ns)
        part = {"mlps_tick": self.host, "n": self._n, "partial": True}
        since = {"dt_ms": _ms(now_ns - self._before_ns), **({"missed": missed} if missed else {})}
        changes = self.counters.look()
        end = {
            "mlps_end": self.host,
            "ticks": self.ticks,
            "missed": self.missed,
            "late": self.late,
            "cpu_s": round(time.process_time(), 4),
        }
        return [{**part, **since, **changes}, end]

    def _advance(self, now_ns: int) -> int:
        """Go to the last tick whose time has come; how many were left out."""
        reached = max((now_ns - self._start_ns) // self.interval_ns, self._n + 1)
        missed = reached - self._n - 1
        self._n = reached
        self.missed += missed
        return missed

    def _since(self, now_ns: int, missed: int) -> dict[str, Any]:
        dt_ns, self._before_ns = now_ns - self._before_ns, now_ns
        uneven = abs(dt_ns - self.interval_ns) > _UNEVEN * self.interval_ns
        known: dict[str, Any] = {"missed": missed} if missed else {}
        return {**known, "dt_ms": _ms(dt_ns)} if uneven else known


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 2)


# ---------------------------------------------------------------- life and manners


class Life:
    """What tells this process to end."""

    def __init__(self, *, has_stdin: bool) -> None:
        self._parent = os.getppid()
        self._waking, told = os.pipe()
        os.set_blocking(told, False)
        os.set_blocking(self._waking, False)
        for number in _END_SIGNALS:
            signal.signal(number, _heard)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        self._sources = [self._waking, *([0] if has_stdin else [])]
        _end_with_parent(self._parent)

    def wait_until(self, due_ns: int) -> bool:
        """Whether the time has come, rather than the end."""
        while True:
            if os.getppid() != self._parent:
                return False
            left_s = (due_ns - time.monotonic_ns()) / 1e9
            ready, _, _ = select.select(self._sources, [], [], part_of_wait_s(left_s))
            if any(self._is_end(source) for source in ready):
                return False
            if time.monotonic_ns() >= due_ns:
                return True

    def _is_end(self, source: int) -> bool:
        if source == self._waking:
            return True
        try:
            return not os.read(source, 4096)
        except OSError:
            return True


def part_of_wait_s(left_s: float) -> float:
    """How long to sleep at a time where a tick is due after `left_s`.

    The kernel lets a nice process sleep half a percent longer than it asked for.
    """
    return max(left_s, 0.0) if left_s < 2 * _NEAR_S else min(left_s - _NEAR_S, _LOOK_S)


def _heard(_number: int, _frame: object) -> None:
    """The signal's number arrives through the pipe of Life."""


def _end_with_parent(parent: int) -> None:
    """Have the kernel tell of the parent's end.

    It tells of the end of the thread that started this process; of one among several that means
    nothing.
    """
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        if str(os.getpid()) in children:
            _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (OSError, ImportError, AttributeError):
        return  # it is looked for in every wait as well


def yield_to_others() -> None:
    """Take the processor and the disks last. What the system refuses is left as it is."""
    try:
        os.nice(_NICE)
        number = _IOPRIO_SET.get(platform.machine())
        if sys.platform == "linux" and number is not None:
            _libc().syscall(number, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_IDLE)
    except (OSError, ImportError, AttributeError):
        return


def _libc() -> CDLL:
    import ctypes  # some builds of Python have none

    return ctypes.CDLL(None, use_errno=True)
