"""The reader of Python threads: the same as the one in C, with the interpreter in every read."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np

from ..io_core.account import TIMELINE_BINS
from ..io_core.blocks import BLOCK_BYTES, aligned_buffer
from ..io_core.executor import Refusal
from ..meeting import NativeMeeting
from .native_steps import NativeSteps
from .reader import (
    BLOCKS_HELD,
    PATIENCE_NS,
    Block,
    Idle,
    ReaderAccount,
    Reading,
    Step,
    always,
    checksum_of,
    direct_refusal,
    failed_open,
    failed_read,
    failed_start,
    short_read,
    was_stopped,
)

# A sleep may end this much late: that much before the deadline it ends, and the rest is spun.
_SPIN_NS = 150_000
# From linux/prctl.h: how much later than asked for a sleep of this thread may end, in ns.
_SET_TIMER_SLACK = 29


@dataclass(slots=True)
class _Slot:
    """An open batch: its reads that are not complete, and when its first one started."""

    left: int
    first_ns: int | None = None


@dataclass(frozen=True, slots=True)
class _Claim:
    """One read."""

    path: str
    number: int
    offset: int
    length: int
    slot: _Slot


@dataclass(frozen=True, slots=True)
class _Fed:
    """A block of which batches are still to be opened; `bounds` of the reads of each."""

    block: Block
    first_batch: int
    bounds: list[int]


class ThreadReader:
    """Works without a compiler; see `Reader`."""

    name = "python_threads"

    def __init__(self, settings: Reading, refused: Sequence[Refusal] = ()) -> None:
        self.refused = tuple(refused)
        self.direct_refused: str | None = None
        self._settings = settings
        self._direct: bool | None = None if settings.direct and settings.enabled else False
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._ready = threading.Condition(self._lock)
        self._blocks: deque[_Fed] = deque()
        self._claims: deque[_Claim] = deque()
        self._slots: dict[int, _Slot] = {}
        self._fed = self._opened = self._done = self._released = 0
        self._fed_all = self._ended = self._closed = self._exact = False
        self._failure: BaseException | None = None
        self._account = ReaderAccount()
        self._descriptors = _Descriptors(settings.descriptors)
        self._start_ns = time.monotonic_ns()
        self._threads = [
            threading.Thread(target=self._live, name=f"reader-{n}", daemon=True)
            for n in range(settings.threads)
        ]
        if not settings.directory.is_dir():
            raise failed_start(settings.directory, errno.ENOENT)
        for thread in self._threads:
            thread.start()

    @property
    def room(self) -> bool:
        """Whether another block is taken; see `Reader`."""
        return len(self._blocks) < BLOCKS_HELD

    def feed(self, block: Block) -> None:
        """Takes further batches; see `Reader`."""
        self._check_open()
        if not self.room:
            raise ValueError("the reader has no room for another block")
        if self._direct is None:
            self.direct_refused = direct_refusal(self._settings, block)
            self._direct = self.direct_refused is None
        bounds = np.searchsorted(block.reads["batch"], np.arange(block.batches + 1)).tolist()
        with self._lock:
            self._blocks.append(_Fed(block, self._fed, bounds))
            self._fed += block.batches
            self._open_batches()

    def end(self) -> None:
        """No further block comes."""
        with self._lock:
            self._fed_all = True
            self._work.notify_all()

    def wait(self, batch: int) -> int:
        """Waits for a batch; returns the ns of that. See `Reader`."""
        return self._wait(batch, always)

    def _wait(self, batch: int, idle: Idle) -> int:
        self._check_open()
        began_ns = time.monotonic_ns()
        while not self._waited(batch):
            if not idle():
                raise was_stopped()
        return time.monotonic_ns() - began_ns

    def _waited(self, batch: int) -> bool:
        """Waits for some time; whether the batch is there."""
        with self._lock:
            if (
                not self._released
                <= batch
                < min(self._fed, self._released + self._settings.look_ahead)
            ):
                raise ValueError(f"batch {batch} is not one to wait for or to release")
            if self._done <= batch:
                self._ready.wait(PATIENCE_NS / 1e9)
            if self._done > batch:
                return True
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise was_stopped()
            return False

    def release(self, batch: int) -> None:
        """Lets go of a batch and of all before it."""
        self._check_open()
        with self._lock:
            if not self._released <= batch < self._done:
                raise ValueError(f"batch {batch} is not one to wait for or to release")
            self._released = batch + 1
            self._open_batches()

    def step(self, batch: int, compute_ns: int, idle: Idle = always) -> Step:
        """Waits for a batch, releases it, computes; see `Reader`."""
        if not self._exact:
            ctypes.CDLL(None).prctl(_SET_TIMER_SLACK, ctypes.c_ulong(1))
            self._exact = True
        waited_ns = self._wait(batch, idle)
        begun_ns = time.monotonic_ns()  # an accelerator that has its batch waits for nobody
        self.release(batch)
        end_ns = begun_ns + compute_ns
        while end_ns - time.monotonic_ns() > PATIENCE_NS:
            time.sleep(PATIENCE_NS / 2e9)
            if not idle():
                raise was_stopped()
        return Step(waited_ns, _sleep_until(end_ns) - begun_ns)

    def steps(self, meeting: NativeMeeting | None, compute_ns: int) -> NativeSteps | None:
        """None: these are threads of the interpreter."""
        del meeting, compute_ns
        return None

    def account(self) -> ReaderAccount:
        """All that was counted so far."""
        copy = ReaderAccount()
        with self._lock:
            own = self._account
            for name in (
                "read_bytes", "transferred_bytes", "calls", "reads", "opens", "batches",
                "ahead_max", "checksum",
            ):  # fmt: skip
                setattr(copy, name, getattr(own, name))
            copy.reads_ns.merge(own.reads_ns)
            copy.batches_ns.merge(own.batches_ns)
            copy.timeline[:] = own.timeline
        return copy

    def stop(self) -> None:
        """Starts no further call and ends a wait."""
        with self._lock:
            self._stop()

    def close(self) -> None:
        """Ends the threads and frees all."""
        self.stop()
        for thread in self._threads:
            thread.join()
        self._descriptors.close()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the reader is closed")

    # All up to the next comment is called with the lock held.

    def _stop(self) -> None:
        self._ended = True
        self._work.notify_all()
        self._ready.notify_all()

    def _open_batches(self) -> None:
        while self._opened < min(self._fed, self._released + self._settings.look_ahead):
            fed = self._blocks[0]
            local = self._opened - fed.first_batch
            reads = fed.block.reads[fed.bounds[local] : fed.bounds[local + 1]]
            slot = self._slots[self._opened] = _Slot(len(reads))
            paths, numbers = fed.block.paths, fed.block.numbers
            for offset, length, file, _ in reads.tolist():
                self._claims.append(_Claim(paths[file], int(numbers[file]), offset, length, slot))
            self._opened += 1
            if local + 1 == fed.block.batches:
                self._blocks.popleft()
        account = self._account
        account.ahead_max = max(account.ahead_max, self._opened - self._released)
        self._work.notify(len(self._claims))
        self._advance_done()

    def _advance_done(self) -> None:
        before = self._done
        while self._done < self._opened and self._slots[self._done].left == 0:
            del self._slots[self._done]
            self._done += 1
        self._account.batches += self._done - before
        if self._done > before:
            self._ready.notify_all()

    def _take(self) -> _Claim | None:
        while not self._claims and not self._ended:
            if self._fed_all and self._opened == self._fed:
                return None
            self._work.wait()
        return None if self._ended else self._claims.popleft()

    def _complete(self, claim: _Claim, began_ns: int) -> None:
        now_ns, slot, account = time.monotonic_ns(), claim.slot, self._account
        account.reads_ns.record([now_ns - began_ns])
        account.reads += 1
        slot.first_ns = min(slot.first_ns or began_ns, began_ns)
        slot.left -= 1
        if slot.left == 0:
            account.batches_ns.record([now_ns - slot.first_ns])
            self._advance_done()

    # The threads:

    def _live(self) -> None:
        try:
            with memoryview(aligned_buffer(self._settings.buffer_bytes)) as buffer:
                self._read_all(buffer)
        except BaseException as error:  # handed to the consumer, who raises it
            with self._lock:
                self._failure = self._failure or error
                self._stop()

    def _read_all(self, buffer: memoryview) -> None:
        while True:
            with self._lock:
                claim = self._take()
            if claim is None:
                return
            began_ns = time.monotonic_ns()
            if self._settings.enabled and not self._carry_out(claim, buffer):
                return
            with self._lock:
                self._complete(claim, began_ns)

    def _carry_out(self, claim: _Claim, buffer: memoryview) -> bool:
        with self._descriptors.borrow(claim.number, lambda: self._open(claim)) as descriptor:
            if not self._read(claim, descriptor, buffer):
                return False
            if self._settings.evict:
                first = _down(claim.offset)
                size = _up(claim.offset + claim.length) - first
                _advise(descriptor, first, size, os.POSIX_FADV_DONTNEED)
        return True

    def _open(self, claim: _Claim) -> int:
        path = self._settings.directory / claim.path
        flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if self._direct else 0)
        try:
            try:
                # A pipe among the files is not waited for. A file that must be fetched first is.
                descriptor = os.open(path, flags | os.O_NONBLOCK)
            except BlockingIOError:
                descriptor = os.open(path, flags)
        except OSError as error:
            raise failed_open(path, error.errno or errno.EIO) from error
        if not self._direct and not self._settings.descriptors:
            _advise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        with self._lock:
            self._account.opens += 1
        return descriptor

    def _read(self, claim: _Claim, descriptor: int, buffer: memoryview) -> bool:
        """Reads all pieces; False if it was stopped in the middle."""
        at, end = claim.offset, claim.offset + claim.length
        path = self._settings.directory / claim.path
        while at < end and not self._ended:
            first, last = (_down(at), _up(end)) if self._direct else (at, end)
            want = min(last - first, len(buffer))
            try:
                got = os.preadv(descriptor, [buffer[:want]], first)
            except OSError as error:
                raise failed_read(path, at, error.errno or errno.EIO) from error
            useful = min(first + got, end) - at
            if useful <= 0:
                raise short_read(path, claim.offset, at - claim.offset, claim.length)
            self._count(claim, buffer[at - first : at - first + useful], at, got)
            at += useful
        return at == end

    def _count(self, claim: _Claim, useful: memoryview, at: int, transferred_bytes: int) -> None:
        total = checksum_of(useful, claim.number, at) if self._settings.checksum else 0
        with self._lock:
            account = self._account
            second = (time.monotonic_ns() - self._start_ns) // 10**9
            account.read_bytes += len(useful)
            account.transferred_bytes += transferred_bytes
            account.calls += 1
            account.checksum = (account.checksum + total) % 2**64
            if second < TIMELINE_BINS:
                account.timeline[second] += len(useful)


class _Descriptors:
    """Files that stay open between reads, those that were used last; by the dataset's numbers."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        # Descriptor and its users, the least recently used first.
        self._kept: OrderedDict[int, tuple[int, int]] = OrderedDict()

    @contextmanager
    def borrow(self, number: int, fresh: Callable[[], int]) -> Iterator[int]:
        """The descriptor of a file, open as long as this lasts."""
        descriptor, kept = self._find(number), True
        if descriptor is None:
            descriptor, kept = self._keep(number, fresh())
        try:
            yield descriptor
        finally:
            if kept:
                with self._lock:
                    self._use(number, -1)
            else:
                os.close(descriptor)

    def close(self) -> None:
        """Closes all."""
        while self._kept:
            _, (descriptor, _) = self._kept.popitem()
            os.close(descriptor)

    def _use(self, number: int, more: int) -> int:
        descriptor, users = self._kept[number]
        self._kept[number] = descriptor, users + more
        self._kept.move_to_end(number)
        return descriptor

    def _find(self, number: int) -> int | None:
        with self._lock:
            return self._use(number, 1) if number in self._kept else None

    def _keep(self, number: int, descriptor: int) -> tuple[int, bool]:
        with self._lock:
            if number in self._kept:  # another thread was faster
                os.close(descriptor)
                return self._use(number, 1), True
            if len(self._kept) >= self._limit:
                idle = next((key for key, (_, users) in self._kept.items() if not users), None)
                if idle is None:
                    return descriptor, False
                os.close(self._kept.pop(idle)[0])
            self._kept[number] = descriptor, 1
            return descriptor, True


def _down(size_bytes: int) -> int:
    return size_bytes // BLOCK_BYTES * BLOCK_BYTES


def _up(size_bytes: int) -> int:
    return _down(size_bytes + BLOCK_BYTES - 1)


def _advise(descriptor: int, offset_bytes: int, length_bytes: int, advice: int) -> None:
    with suppress(OSError):  # as good as none: what cannot be read says so itself
        os.posix_fadvise(descriptor, offset_bytes, length_bytes, advice)


def _sleep_until(deadline_ns: int) -> int:
    """Returns when it is past the deadline, with the time."""
    left_ns = deadline_ns - time.monotonic_ns()
    if left_ns > _SPIN_NS:
        time.sleep((left_ns - _SPIN_NS) / 1e9)
    while (now_ns := time.monotonic_ns()) < deadline_ns:
        pass
    return now_ns
