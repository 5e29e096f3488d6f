"""One epoch of a rank: batch after batch is waited for and computed on; ranks meet after each."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..errors import EngineError
from ..io_core.histogram import Histogram, Int64s
from ..meeting import Together
from .batches import bytes_of_batches
from .native_steps import DONE, LEFT, PENDING, NativeSteps
from .reader import Block, Reader

# Waits for batches are put into a histogram so many at a time, as that costs time between steps.
_WAITS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where the time of a rank's epoch went, in ns. `first_ns` is load and computation of step 1.

    The block is from the common start to the end of the last step, whose parts are these and what
    the engine itself takes.
    """

    steps: int
    block_ns: int
    load_ns: int
    compute_ns: int
    meeting_ns: int
    first_ns: int
    first_compute_ns: int

    def au_dlio_pct(self) -> float:
        """Accelerator utilisation as DLIO computes it, with one step left out at the start."""
        return self._percent(self.compute_ns - self.first_compute_ns)

    def au_nominal_pct(self, computation_ns: int) -> float:
        """The same with the computation that was asked for instead of the measured one."""
        return self._percent((self.steps - 1) * computation_ns)

    def samples_dlio_per_s(self, batch: int) -> float:
        """Samples after the first step, over the time without it."""
        counted_ns = self.block_ns - self.first_ns
        if self.steps < 2 or counted_ns <= 0:
            return 0.0
        return (self.steps - 1) * batch / (counted_ns / 1e9)

    def _percent(self, compute_ns: int) -> float:
        counted_ns = self.block_ns - self.first_ns
        return 100 * compute_ns / counted_ns if self.steps > 1 and counted_ns > 0 else 0.0


class Loader:
    """A reader that is fed with blocks as it has room for them."""

    def __init__(self, reader: Reader, blocks: Iterator[Block]) -> None:
        self.reader = reader
        self._blocks = blocks
        self._next = next(blocks, None)
        self._batch_bytes: deque[int] = deque()
        self._ends: deque[int] = deque()
        self._fed = 0

    def feed(self) -> None:
        """Gives the reader all that it has room for; raises EngineError."""
        while self._next is not None and self.reader.room:
            self.reader.feed(self._next)
            self._batch_bytes.extend(bytes_of_batches(self._next))
            self._fed += self._next.batches
            self._ends.append(self._fed)
            self._next = next(self._blocks, None)
            if self._next is None:
                self.reader.end()

    def lasts_until(self, step: int) -> int:
        """The step after this one before which there may be room again, the last one of all at
        most: the end of the first block that is not taken yet."""
        while self._ends and self._ends[0] <= step:
            self._ends.popleft()
        if self._next is None:
            return self._fed
        return self._ends[0] if self._ends else step + 1

    def taken_bytes(self, batches: int) -> int:
        """Bytes of so many next batches in order, which were taken."""
        return sum(self._batch_bytes.popleft() for _ in range(batches))


@dataclass(slots=True)
class _Waits:
    """Waits for batches on their way into a histogram."""

    histogram: Histogram
    _kept: Int64s = field(default_factory=lambda: np.empty(_WAITS_AT_ONCE, dtype=np.int64))
    _count: int = 0

    def add(self, wait_ns: int) -> None:
        self._kept[self._count] = wait_ns
        self._count += 1
        if self._count == _WAITS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        self.histogram.record(self._kept[: self._count])
        self._count = 0


def run_epoch(
    together: Together, loader: Loader, *, steps: int, computation_ns: int, waits: Histogram
) -> Times | None:
    """Takes all steps from a start that is common to all ranks; None if they were ended early.

    In C where reader and meeting both can be gone through there: the interpreter takes as long
    between two steps as all the rest of it.
    """
    native = loader.reader.steps(together.native, computation_ns)
    # The collector of garbage would come between two steps; there is little to collect.
    with _no_garbage_collection():
        if native is not None:
            return _native_epoch(together, loader, native, steps, waits)
        return _interpreted_epoch(together, loader, steps, computation_ns, waits)


def _native_epoch(
    together: Together, loader: Loader, native: NativeSteps, steps: int, waits: Histogram
) -> Times | None:
    control, sums = together.control, native.sums
    begun_ns, done = time.monotonic_ns(), 0
    while done < steps:
        status = PENDING
        try:
            if control.stopped:
                native.leave()
            else:
                loader.feed()
            status = native.go(min(steps, loader.lasts_until(done)))
            if status not in (DONE, PENDING, LEFT):
                loader.reader.wait(sums.step)  # raises what the wait in C has ended with
        except EngineError as error:
            if not control.stopped:  # else this is how the reader ends a wait
                control.fail(str(error))
        waits.record(native.waits())
        control.done += sums.step - done
        control.read_bytes[0] += loader.taken_bytes(sums.step - done)
        done = sums.step
        if status == LEFT:
            return None
        together.idle()
    return Times(
        steps=steps,
        block_ns=sums.ended_ns - begun_ns,
        load_ns=sums.load_sum_ns,
        compute_ns=sums.compute_sum_ns,
        meeting_ns=sums.meeting_sum_ns,
        first_ns=sums.first_ns,
        first_compute_ns=sums.first_compute_ns,
    )


def _interpreted_epoch(
    together: Together, loader: Loader, steps: int, computation_ns: int, waits: Histogram
) -> Times | None:
    control, step_of, clock = together.control, loader.reader.step, time.monotonic_ns
    kept = _Waits(waits)
    load_sum = compute_sum = meeting_sum = first_ns = first_compute_ns = 0

    def idle() -> bool:
        together.idle()
        return not control.stopped

    begun_ns = ended_ns = clock()
    for step in range(steps):
        load_ns = compute_ns = 0
        try:
            loader.feed()
            load_ns, compute_ns = step_of(step, computation_ns, idle)
        except EngineError as error:
            if not control.stopped:  # else this is how the reader ends a wait
                control.fail(str(error))
        arrived_ns = clock()
        if not together.meet():
            return None
        ended_ns = clock()
        load_sum += load_ns
        compute_sum += compute_ns
        meeting_sum += ended_ns - arrived_ns
        if step == 0:
            first_ns, first_compute_ns = load_ns + compute_ns, compute_ns
        kept.add(load_ns)
        control.done += 1
        control.read_bytes[0] += loader.taken_bytes(1)
    kept.flush()
    return Times(
        steps=steps,
        block_ns=ended_ns - begun_ns,
        load_ns=load_sum,
        compute_ns=compute_sum,
        meeting_ns=meeting_sum,
        first_ns=first_ns,
        first_compute_ns=first_compute_ns,
    )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
