"""A checkpoint as one rank writes or reads it, in a thread of its own, with its time and counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..errors import EngineError
from ..io_core.counts import Counter
from ..io_core.meter import moved_between, read_counts
from ..io_core.page_cache import Residency
from ..meeting import Beside, Together
from .report import Record
from .transfer import Times


class Timed:
    """Transfers that begin now, at the common start of all ranks."""

    def __init__(
        self,
        together: Together,
        number: int,
        counters: Sequence[Counter],
        work: Callable[[], Times],
    ) -> None:
        self.number = number
        self._together = together
        self._counters = counters
        self._start_s = together.control.elapsed_s
        self._before = read_counts(counters)
        self._times = Times(transfer_ns=0, sync_ns=0)
        self._begun_ns = time.monotonic_ns()
        self._ended_ns = self._begun_ns
        self._thread = Beside(lambda: self._do(work), "checkpoint")

    def check(self) -> None:
        """Raises what the transfers have raised so far."""
        self._thread.check()

    def complete(self) -> bool:
        """Waits until all ranks are through; False if any of them has failed or was stopped."""
        return self._together.do(lambda: self._thread.wait(self._together.idle))

    def abandon(self) -> None:
        """Ends the transfers early: all ranks leave, for a reason that is known."""
        self._together.control.stop()
        with suppress(EngineError):
            self._thread.wait(self._together.idle)

    @property
    def since_start_ns(self) -> int:
        """How long ago they began."""
        return time.monotonic_ns() - self._begun_ns

    def record(
        self, size_bytes: int, *, resident: Residency | None = None, stall_ns: int | None = None
    ) -> Record:
        """What it came to, once all ranks are through."""
        after = read_counts(self._counters)
        without_windows = [None] * len(self._counters)
        return Record(
            number=self.number,
            size_bytes=size_bytes,
            start_s=self._start_s,
            took_ns=self._ended_ns - self._begun_ns,
            transfer_ns=self._times.transfer_ns,
            sync_ns=self._times.sync_ns,
            moved=moved_between(self._counters, self._before, after, without_windows),
            resident=resident,
            stall_ns=stall_ns,
        )

    def _do(self, work: Callable[[], Times]) -> None:
        self._times = work()
        self._ended_ns = time.monotonic_ns()
