"""Phases: all ranks do one piece of work at the same time, each under the eyes of its main thread.

The work runs in threads that know nothing of other ranks. The main threads exchange small messages:
ranks report to rank 0 about every half second and at once when they fail; rank 0 tells all to stop
when one has failed or the caller asks for it, and closes the phase when all have ended. Nobody
waits inside MPI meanwhile, because MPI waits by spinning.

Work in which ranks meet after each of many short steps is done by the main threads themselves, as
only they may use MPI; they see to the messages between steps.

Rank 0 also says that it lives: a rank that hears nothing of it for longer than the job allows ends
itself, since its host may have lost all others, and with them whoever could end it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from .console import Console
from .contract import Document, rank_ranges
from .errors import EngineError
from .io_core.control import Control
from .meeting import Together
from .watch import SPARE_S, Wait
from .world import World

Unit = Literal["bytes", "s", "files", "steps", "vectors"]
Status = Literal["complete", "stopped", "failed"]
Work = Callable[[Control], None]

REPORT_S = 0.5
# Between steps every message is in the way of the next one.
_STEPS_REPORT_S = 1.0
# Signs of life of rank 0: in proportion to the job's limit on silence, which many of them must fit.
_ALIVE_SHARE = 0.1
_ALIVE_MAX_S = 5.0
# Younger reports are in good order.
_SILENT_S = 4 * REPORT_S
# How soon a rank hears of a stop, and rank 0 of a failure.
_POLL_S = 0.02
# A message must fit into what MPI sends without waiting for the receiver.
_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What a phase is called and how its progress is counted; `total` is this rank's share."""

    name: str
    unit: Unit
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong in a rank."""

    rank: int
    host: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far a rank is; bytes since the start of the phase."""

    done: float = 0
    total: float = 0
    read_bytes: int = 0
    written_bytes: int = 0
    failure: str | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Rank 0 to all: issue no more I/O."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Rank 0 to all: it is here."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Rank 0 to all: every rank has ended this phase."""

    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a phase ended in all ranks; the failures are known on rank 0 only."""

    status: Status
    failures: tuple[Failure, ...] = ()


def supervise(
    world: World, console: Console, hosts: list[str], phase: Phase, control: Control, work: Work
) -> Verdict:
    """Does one phase in all ranks and says how it ended; `hosts` has each rank's on rank 0."""
    world.barrier()
    control.start()
    worker = _Worker(control, work)
    worker.start()
    with _part(world, console, hosts, phase, control, worker, REPORT_S) as part:
        while (verdict := part.look()) is None:
            _nap(worker)
        return verdict


def supervise_steps(
    world: World,
    console: Console,
    hosts: list[str],
    phase: Phase,
    control: Control,
    work: Callable[[Together], None],
) -> Verdict:
    """The same for work in steps, on the main threads; it goes through them as `Together` says."""
    world.barrier()
    control.start()
    own = _OwnWork()
    with _part(world, console, hosts, phase, control, own, _STEPS_REPORT_S) as part:

        def look() -> None:
            part.look()  # there is no verdict as long as this rank works

        meeting = world.open_meeting()
        try:
            work(Together(meeting, control, look))
        finally:
            meeting.close()
        own.finished.set()
        while (verdict := part.look()) is None:
            _nap(own)
        return verdict


class _Doer(Protocol):
    """What does the work of a phase."""

    finished: threading.Event

    def raise_bug(self) -> None:
        """Raises what the work has raised, unless it was an EngineError."""


class _OwnWork:
    """Work of the main thread: what it raises comes up by itself."""

    def __init__(self) -> None:
        self.finished = threading.Event()

    def raise_bug(self) -> None:
        """Nothing is kept."""


class _Worker(threading.Thread):
    def __init__(self, control: Control, work: Work) -> None:
        super().__init__(name="work", daemon=True)
        self._control = control
        self._work = work
        self._bug: BaseException | None = None
        self.finished = threading.Event()

    def run(self) -> None:
        try:
            self._work(self._control)
        except EngineError as error:
            self._control.fail(str(error))
        except BaseException as error:  # raised again in the main thread, which ends all ranks
            self._bug = error
        self.finished.set()

    def raise_bug(self) -> None:
        if self._bug is not None:
            raise self._bug


def _report(phase: Phase, control: Control, worker: _Doer) -> Report:
    ended = worker.finished.is_set()  # first: what is counted below is then complete
    read, written = control.moved_bytes()
    done = {"bytes": read + written, "s": control.elapsed_s}.get(phase.unit, control.done)
    failure = control.failure
    return Report(
        done=min(done, phase.total),
        total=phase.total,
        read_bytes=read,
        written_bytes=written,
        failure=None if failure is None else failure[:_MESSAGE_CHARACTERS],
        ended=ended,
    )


class _Part(Protocol):
    """A rank's part in the supervision of a phase."""

    def look(self) -> Verdict | None:
        """Hears, tells and decides what there is; the verdict once all ranks have ended."""


@contextmanager
def _part(
    world: World,
    console: Console,
    hosts: list[str],
    phase: Phase,
    control: Control,
    worker: _Doer,
    report_s: float,
) -> Iterator[_Part]:
    if world.rank == 0:
        yield _Leader(world, console, hosts, phase, control, worker)
        return
    with world.watch.waiting("rank 0") as wait:
        yield _Follower(world, phase, control, worker, wait, report_s)


def _nap(worker: _Doer) -> None:
    if worker.finished.is_set():
        time.sleep(_POLL_S)
    else:
        worker.finished.wait(_POLL_S)


class _Follower:
    """The part of all ranks but rank 0: reports, and does as it is told."""

    def __init__(
        self,
        world: World,
        phase: Phase,
        control: Control,
        worker: _Doer,
        wait: Wait,
        report_s: float,
    ) -> None:
        self._world = world
        self._phase = phase
        self._control = control
        self._worker = worker
        self._wait = wait
        self._report_s = report_s
        self._told = Report()
        self._due_s = 0.0

    def look(self) -> Verdict | None:
        """See `_Part`."""
        while (letter := self._world.receive()) is not None:
            self._wait.heard()
            if isinstance(letter.content, Closed):
                return Verdict(status=letter.content.status)
            if isinstance(letter.content, Stop):
                self._control.stop()
        self._worker.raise_bug()
        report = _report(self._phase, self._control, self._worker)
        news = (report.failure, report.ended) != (self._told.failure, self._told.ended)
        if news or time.monotonic() >= self._due_s:
            self._world.send(0, report)
            self._told, self._due_s = report, time.monotonic() + self._report_s
        return None


class _Leader:
    """Rank 0's part: hears all ranks, tells the caller, decides when to stop and when to close."""

    def __init__(
        self,
        world: World,
        console: Console,
        hosts: list[str],
        phase: Phase,
        control: Control,
        worker: _Doer,
    ) -> None:
        self._world = world
        self._console = console
        self._hosts = hosts
        self._phase = phase
        self._control = control
        self._worker = worker
        self._reports = [Report() for _ in range(world.size)]
        self._heard_s = [time.monotonic()] * world.size
        self._stopped = False
        self._alive_due_s = 0.0

    def look(self) -> Verdict | None:
        """See `_Part`."""
        self._hear()
        self._show_life()
        self._worker.raise_bug()
        if not self._stopped and (self._console.stop_requested or self._failures()):
            self._stop()
        ended = all(report.ended for report in self._reports)
        self._console.progress(self._progress)
        return self._close() if ended else None

    def _hear(self) -> None:
        self._reports[0] = _report(self._phase, self._control, self._worker)
        self._heard_s[0] = time.monotonic()
        while (letter := self._world.receive()) is not None:
            if isinstance(letter.content, Report):
                self._reports[letter.sender] = letter.content
                self._heard_s[letter.sender] = time.monotonic()

    def _show_life(self) -> None:
        """Tells all ranks that this one is here; ends it where a rank is not heard for too long.

        The caller ends all ranks sooner than that, if it still can.
        """
        watch, now_s = self._world.watch, time.monotonic()
        if watch.limit_s is None:
            return
        if now_s >= self._alive_due_s:
            self._alive_due_s = now_s + min(_ALIVE_MAX_S, _ALIVE_SHARE * watch.limit_s)
            self._tell(Alive(), heard_since_s=now_s - watch.limit_s / 2)
        silent_s = now_s - min(self._heard_s)
        if silent_s > watch.limit_s + SPARE_S:
            watch.end(f"ranks {rank_ranges(self._silent(now_s))}", silent_s)

    def _silent(self, now_s: float) -> list[int]:
        """Ranks that are not heard for about as long as the one that is silent for longest."""
        ages_s = [now_s - heard_s for heard_s in self._heard_s]
        least_s = max(_SILENT_S, max(ages_s) / 2)
        return [rank for rank, age_s in enumerate(ages_s) if age_s >= least_s]

    def _stop(self) -> None:
        self._stopped = True
        self._control.stop()
        self._tell(Stop())

    def _close(self) -> Verdict:
        failures = self._failures()
        status: Status = "failed" if failures else "stopped" if self._stopped else "complete"
        self._tell(Closed(status))
        return Verdict(status=status, failures=failures)

    def _tell(self, content: Stop | Alive | Closed, heard_since_s: float = 0.0) -> None:
        for rank in range(1, self._world.size):
            # Many messages to a rank that takes none would make MPI wait for it.
            if self._heard_s[rank] >= heard_since_s:
                self._world.send(rank, content)

    def _failures(self) -> tuple[Failure, ...]:
        return tuple(
            Failure(rank=rank, host=self._hosts[rank], message=report.failure)
            for rank, report in enumerate(self._reports)
            if report.failure is not None
        )

    def _progress(self) -> Document:
        reports = self._reports
        # Time passes once for all; bytes and files add up.
        share = reports[:1] if self._phase.unit == "s" else reports
        oldest = min(range(len(reports)), key=self._heard_s.__getitem__)
        return {
            "event": "progress",
            "phase": self._phase.name,
            "done": round(sum(report.done for report in share), 6),
            "total": round(sum(report.total for report in share), 6),
            "unit": self._phase.unit,
            "read_bytes": sum(report.read_bytes for report in reports),
            "written_bytes": sum(report.written_bytes for report in reports),
            "elapsed_s": round(self._control.elapsed_s, 6),
            "oldest_report_s": round(time.monotonic() - self._heard_s[oldest], 6),
            "oldest_rank": oldest,
            "silent_ranks": rank_ranges(self._silent(time.monotonic())),
        }
