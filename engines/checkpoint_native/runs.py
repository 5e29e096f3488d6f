"""The course of the stages that write and read: one checkpoint after the other, by all ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import EngineError
from ..io_core.account import Account
from ..io_core.control import Control
from ..io_core.counts import Counter
from ..io_core.meter import counters_behind
from ..io_core.page_cache import residency
from ..meeting import Beside, Together
from ..observed import observed
from ..result import Outcome
from .layout import folder_name
from .report import Record
from .timed import Timed
from .transfer import Target, Transfers, discard
from .workload import Steps

# The longest sleep between two looks at what others say.
_NAP_S = 0.1

Work = Callable[[], None]


class Run:
    """One rank's part, which has `size_bytes` in each checkpoint.

    `records` are of the checkpoints that all ranks have completed, `began_unix_s` is when the first
    of them was begun.
    """

    def __init__(
        self,
        outcome: Outcome,
        transfers: Transfers,
        targets: Sequence[Target],
        directory: Path,
        pause_s: float,
    ) -> None:
        self.records: list[Record] = []
        self.began_unix_s = 0.0
        self.size_bytes = sum(target.size_bytes for target in targets)
        self._outcome = outcome
        self._transfers = transfers
        self._targets = targets
        self._directory = directory
        self._pause_s = pause_s
        self._account = Account()
        self._counters: tuple[Counter, ...] = ()

    def ready(self, _: Control) -> None:
        """Does all that shall not be in the way of timed I/O."""
        self._transfers.ready(self._directory)
        self._outcome.core = self._transfers.core
        self._counters = counters_behind(self._directory)

    def write(
        self,
        together: Together,
        writes: int,
        steps: Steps | None,
        completed: Sequence[Callable[[int], None]],
    ) -> None:
        """Writes checkpoints 1 to `writes`; once one is complete, all ranks do what is `completed`.

        One that is cut short leaves no files.
        """
        with self._watched(together.control):
            for number in range(1, writes + 1):
                if not self._write_one(together, number, steps):
                    self._give_back(together.control, number)
                    return
                if not all(together.do(partial(work, number)) for work in completed):
                    return

    def read(
        self, together: Together, numbers: Sequence[int], make_cold: Callable[[int], None] | None
    ) -> None:
        """Reads checkpoints in this order; `make_cold` is called before one is read again."""
        seen: set[int] = set()
        with self._watched(together.control):
            for number in numbers:
                self._pause(together)
                again = make_cold if number in seen else None
                if again is not None and not _beside(together, partial(again, number)):
                    return
                seen.add(number)
                if not self._read_one(together, number):
                    return

    def discard(self, number: int) -> None:
        """Removes this rank's files of a checkpoint, and its folder once that is empty."""
        folder = self._folder(number)
        discard(folder, self._targets)
        with suppress(OSError):  # others have files in there, or have removed it
            folder.rmdir()

    def _write_one(self, together: Together, number: int, steps: Steps | None) -> bool:
        """Writes a checkpoint with the steps that belong to it; False where all ranks leave.

        In the background the steps before it are those beside the one before, but for the first.
        """
        self._pause(together)
        background = steps is not None and steps.background
        if steps is not None and (number == 1 or not background) and not _train(together, steps):
            return False
        if not together.meet():
            return False
        if number == 1:
            self.began_unix_s = time.time()
        folder, control = self._folder(number), together.control
        save = partial(self._transfers.save, folder, number, control, self._account)
        timed = Timed(together, number, self._counters, save)
        computed_ns = 0
        if steps is not None and background:
            if not _train(together, steps, timed):
                timed.abandon()
                return False
            computed_ns = round(1e9 * steps.steps * steps.computation_s)
        if not timed.complete():
            return False
        stall_ns = None if steps is None else max(0, timed.since_start_ns - computed_ns)
        self.records.append(timed.record(self.size_bytes, stall_ns=stall_ns))
        return True

    def _read_one(self, together: Together, number: int) -> bool:
        """Reads a checkpoint, of which it is known how much is in memory; False as above."""
        folder, control = self._folder(number), together.control
        paths = [folder / target.name for target in self._targets]
        resident = residency(paths, lambda: not control.stopped)
        if not together.meet():
            return False
        load = partial(self._transfers.load, folder, number, control, self._account)
        timed = Timed(together, number, self._counters, load)
        if not timed.complete():
            return False
        self.records.append(timed.record(self.size_bytes, resident=resident))
        return True

    def _give_back(self, control: Control, number: int) -> None:
        """The space of a checkpoint that did not get complete."""
        try:
            self.discard(number)
        except EngineError as error:
            control.fail(str(error))

    def _pause(self, together: Together) -> None:
        _sleep_until(together, time.monotonic() + self._pause_s)

    def _folder(self, number: int) -> Path:
        return self._directory / folder_name(number)

    @contextmanager
    def _watched(self, control: Control) -> Iterator[None]:
        """Reports what is done inside, however it ends."""
        self._outcome.account = self._account
        with observed(self._outcome, self._counters, control, time.monotonic_ns):
            try:
                yield
            finally:
                self._account.forget_requests()


def _beside(together: Together, work: Work) -> bool:
    """Does what may last in a thread of its own; False where all ranks leave."""
    return together.do(lambda: Beside(work, "eviction").wait(together.idle))


def _train(together: Together, steps: Steps, beside: Timed | None = None) -> bool:
    """Takes the steps of training, perhaps beside a checkpoint; False where all ranks leave."""
    check = beside.check if beside is not None else lambda: None
    for _ in range(steps.steps):
        _sleep_until(together, time.monotonic() + steps.computation_s)
        if not together.do(check):
            return False
    return True


def _sleep_until(together: Together, moment_s: float) -> None:
    """Sees to messages meanwhile; a stop ends it."""
    while (left_s := moment_s - time.monotonic()) > 0 and not together.control.stopped:
        time.sleep(min(left_s, _NAP_S))
        together.idle()
