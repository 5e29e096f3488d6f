"""Readings of a host's counters of bytes where a measurement and its window begin and end."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..contract import Document
from .control import Control
from .counts import ROOT, Counter, Counts, Kind, boot_id
from .devices import device_counter
from .mounts import mount_counter, mount_of
from .network import network_counters

# A stop moves the end of the window; a thread cannot sleep for ever.
_NAP_MAX_S = 3600.0


def counters_behind(directory: Path, root: Path = ROOT) -> tuple[Counter, ...]:
    """What counts bytes that are read and written in a directory, and those of the network.

    None at all where the kernel that counts cannot be told from others.
    """
    machine = boot_id(root)
    if machine is None:
        return ()
    mount = mount_of(directory, root)
    device = device_counter(directory, mount, machine, root)
    return (
        *([] if device is None else [device]),
        *([] if mount is None else [mount_counter(mount, machine, root)]),
        *network_counters(machine, root),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was moved between two readings, and their distance."""

    length_s: float
    moved: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a counter showed in one rank.

    `first` is the count before the timed I/O and `last` the one after it: None where there was no
    count. `window` is what lies between the readings at the ends of the measured window.
    """

    kind: Kind
    machine: str
    name: str
    facts: Document
    first: Counts | None
    last: Counts | None
    window: Span | None


def read_counts(counters: Sequence[Counter]) -> tuple[Counts | None, ...]:
    """What all counters show now."""
    return tuple(_count(counter) for counter in counters)


def moved_between(
    counters: Sequence[Counter],
    first: Sequence[Counts | None],
    last: Sequence[Counts | None],
    windows: Sequence[Span | None],
) -> tuple[Moved, ...]:
    """What each of them showed at two moments, and in its window."""
    return tuple(
        Moved(
            kind=counter.kind,
            machine=counter.machine,
            name=counter.name,
            facts=counter.facts,
            first=before,
            last=after,
            window=window,
        )
        for counter, before, after, window in zip(counters, first, last, windows, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """The counts of all counters at about one moment of the monotonic clock."""

    at_ns: int
    counts: tuple[Counts | None, ...]


class Meter:
    """Reads counters before and after what is done inside it, and at the ends of its window.

    For these a thread sleeps until they come, beside those that do the I/O. Late or not, the time
    of a reading is its own. A window that ends with the work ends with the last reading.
    """

    def __init__(self, counters: Sequence[Counter], control: Control) -> None:
        self._counters = counters
        self._control = control
        self._over = threading.Event()
        self._idle = threading.Event()
        self._first: _Reading | None = None
        self._start: _Reading | None = None
        self._end: _Reading | None = None
        self._last: _Reading | None = None

    def __enter__(self) -> Meter:
        self._first = self._read()
        if self._control.ramp_s == 0:
            self._start = self._first
        # Not a Thread: its start waits until it runs, for which a busy machine may take longer than
        # a short window lasts.
        _thread.start_new_thread(self._look, ())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._last = self._read()
        self._idle.wait()

    def moved(self) -> tuple[Moved, ...]:
        """What each counter showed, once all is done."""
        start, end = self._start, self._end
        if end is None or (self._last is not None and end.at_ns > self._last.at_ns):
            end = self._last
        nothing = (None,) * len(self._counters)
        return moved_between(
            self._counters,
            nothing if self._first is None else self._first.counts,
            nothing if self._last is None else self._last.counts,
            [_span(start, end, at) for at in range(len(self._counters))],
        )

    def _look(self) -> None:
        try:
            if self._start is None and self._sleeps_until(lambda: self._control.window_ns):
                self._start = self._read()
            if self._start is not None and self._sleeps_until(lambda: self._control.end_ns):
                self._end = self._read()
        finally:
            self._idle.set()

    def _sleeps_until(self, moment_ns: Callable[[], int]) -> bool:
        """False if all was done before; the moment may come sooner than it seemed."""
        while (left_ns := moment_ns() - time.monotonic_ns()) > 0:
            if self._over.wait(min(left_ns / 1e9, _NAP_MAX_S)):
                return False
        return True

    def _read(self) -> _Reading:
        before_ns = time.monotonic_ns()
        counts = read_counts(self._counters)
        return _Reading((before_ns + time.monotonic_ns()) // 2, counts)


def _count(counter: Counter) -> Counts | None:
    if counter.read is None:
        return None
    try:
        return counter.read()
    except (OSError, ValueError):
        return None


def _span(start: _Reading | None, end: _Reading | None, at: int) -> Span | None:
    """What the counter in a place moved between two readings, unless it began anew meanwhile."""
    if start is None or end is None or end.at_ns <= start.at_ns:
        return None
    before, after = start.counts[at], end.counts[at]
    if before is None or after is None or min(after.since(before)) < 0:
        return None
    return Span(length_s=(end.at_ns - start.at_ns) / 1e9, moved=after.since(before))
