"""What a user sees while a job runs: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from .canonical import Document

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

GIB = 2**30

# Redirected output gets a line this often, and less often after the first minute.
PLAIN_EVERY_S = 5.0
PLAIN_LATER_EVERY_S = 30.0


class Display(Protocol):
    """Where a job says what it is doing."""

    def step(self, text: str) -> None:
        """The job has begun something: checking the machine, writing results."""

    def stage(self, name: str, number: int, count: int) -> None:
        """A launch has begun, the `number`-th of `count`."""

    def progress(self, event: Document) -> None:
        """A launch says how far it is."""

    def done(self, text: str) -> None:
        """A launch has ended, with a line that says how."""

    def say(self, text: str) -> None:
        """Something that the user must know."""


@dataclass(slots=True)
class _Meter:
    """Turns cumulative progress events into percent, rate and remaining time."""

    bytes_before: int = 0
    elapsed_before_s: float = 0.0
    rate_gib_s: float = 0.0

    def update(self, event: Document) -> None:
        moved = int(event.get("read_bytes", 0)) + int(event.get("written_bytes", 0))
        elapsed_s = float(event.get("elapsed_s", 0.0))
        if elapsed_s < self.elapsed_before_s:  # another phase has begun, with counts of its own
            self.bytes_before, self.elapsed_before_s = 0, 0.0
        if elapsed_s > self.elapsed_before_s:
            span_s = elapsed_s - self.elapsed_before_s
            self.rate_gib_s = max(0, moved - self.bytes_before) / GIB / span_s
            self.bytes_before, self.elapsed_before_s = moved, elapsed_s

    @property
    def rate(self) -> str:
        """The rate in words; empty in a phase that has moved nothing."""
        return f"{self.rate_gib_s:.2f} GiB/s" if self.bytes_before else ""


def remaining_s(event: Document) -> float | None:
    """Seconds that a stage still needs at its present pace; None where that cannot be said."""
    done, total = float(event.get("done", 0)), float(event.get("total", 0))
    if done <= 0 or total <= 0:
        return None
    return max(0.0, float(event.get("elapsed_s", 0.0)) * (total - done) / done)


def fraction(event: Document) -> float | None:
    """How much of a stage is done, from 0 to 1; None where it says nothing of that yet."""
    done, total = float(event.get("done", 0)), float(event.get("total", 0))
    return min(1.0, done / total) if done > 0 and total > 0 else None


def clock(seconds: float) -> str:
    """Minutes and seconds for people: 1:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _known(event: Document, meter: _Meter) -> Iterator[str]:
    """What a launch has said of how far it is, and no more than that."""
    phase, done = event.get("phase", "working"), fraction(event)
    yield phase if done is None else f"{phase} {done:.0%}"
    if "elapsed_s" in event:
        yield f"elapsed {clock(event['elapsed_s'])}"
    left_s = remaining_s(event)
    if left_s is not None:
        yield f"remaining {clock(left_s)}"
    if meter.rate:
        yield meter.rate


class PlainDisplay:
    """Plain lines, for a log or a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._name = ""
        self._begun = self._shown = time.monotonic()
        self._meter = _Meter()

    def step(self, text: str) -> None:
        self.say(text)

    def stage(self, name: str, number: int, count: int) -> None:
        self._name = name
        self._meter = _Meter()
        self._begun = self._shown = time.monotonic()
        self.say(f"stage {number}/{count} {name}: started")

    def progress(self, event: Document) -> None:
        self._meter.update(event)
        now = time.monotonic()
        every_s = PLAIN_EVERY_S if now - self._begun < 60 else PLAIN_LATER_EVERY_S
        if now - self._shown < every_s:
            return
        self._shown = now
        self.say(f"stage {self._name}: {', '.join(_known(event, self._meter))}")

    def done(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


class LiveDisplay:
    """One live line with a bar for what runs now; what has ended stays above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._name = ""
        self._meter = _Meter()

    def step(self, text: str) -> None:
        self._show(text, total=None)

    def stage(self, name: str, number: int, count: int) -> None:
        self._name = f"{name} {number}/{count}"
        self._meter = _Meter()
        self._show(f"{self._name}: starting", total=None)

    def progress(self, event: Document) -> None:
        self._meter.update(event)
        if self._task is not None:
            done, left_s = fraction(event), remaining_s(event)
            self._progress.update(
                self._task,
                description=f"{self._name}: {event.get('phase', 'working')}",
                completed=done or 0.0,
                total=None if done is None else 1.0,
                rate=self._meter.rate,
                remaining="" if left_s is None else f"remaining {clock(left_s)}",
            )

    def done(self, text: str) -> None:
        self._clear()
        self.say(text)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def _show(self, text: str, total: float | None) -> None:
        self._clear()
        self._task = self._progress.add_task(text, total=total, rate="", remaining="")

    def _clear(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


@contextmanager
def open_display(out: TextIO) -> Iterator[Display]:
    """The display that suits where the messages go."""
    if not out.isatty():
        yield PlainDisplay(out)
        return
    # Imported here: `mlps --help` and redirected runs need none of it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(file=out)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}", markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        console=console,
        transient=True,
    ) as progress:
        yield LiveDisplay(progress)
