"""Files of a dataset are written by the threads of a rank, and made durable many at a time.

Each thread writes whole files and hands batches of them to one more thread, which syncs the file
system, notes them in the journal and drops them from the page cache while others are written.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import EngineError, storage_error
from ..io_core.account import Account, Tally
from ..io_core.control import Control
from ..io_core.files import sync_file_system
from ..io_core.operations import STORE
from ..io_core.page_cache import evict
from ..result import Core
from .content import PIECE_BYTES, Content
from .dataset import Dataset
from .files import PlannedFile, PlannedFiles
from .formats import checksum, index_file, peak_bytes, pieces
from .journal import ENTRY, Entries, Journal, no_entries

# All threads of a rank together write so much between two syncs, or for so long.
_SYNC_BYTES = 256 * 2**20
_SYNC_S = 5.0
# More threads than this has room for would not be faster.
_MEMORY_BYTES = 2**30
_PATIENCE_S = 0.1


def writing_threads(dataset: Dataset, asked: int) -> int:
    """Threads of a rank that write: as many as asked for, as far as they have memory."""
    return max(1, min(asked, _MEMORY_BYTES // peak_bytes(dataset)))


def writing_bytes(dataset: Dataset, asked: int) -> int:
    """The memory that they take."""
    return writing_threads(dataset, asked) * peak_bytes(dataset)


@dataclass(slots=True)
class _Batch:
    """Files that a thread has written since the last batch."""

    begun_s: float = field(default_factory=time.monotonic)
    entries: list[tuple[int, int, int]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    size_bytes: int = 0
    tally: Tally = field(default_factory=Tally)

    def add(self, number: int, path: str, counted: checksum.Tally) -> None:
        """Adds a file."""
        self.entries.append((number, counted.crc32, counted.size_bytes))
        self.paths.append(path)
        self.size_bytes += counted.size_bytes

    def is_full(self, threads: int) -> bool:
        """Whether it is time for a sync."""
        enough = self.size_bytes >= _SYNC_BYTES // threads
        return enough or time.monotonic() - self.begun_s >= _SYNC_S


class Writer:
    """Writes some files of a dataset once."""

    def __init__(
        self, *, directory: Path, journal: Callable[[], Journal], plan: PlannedFiles, threads: int
    ) -> None:
        """`journal` makes the journal that files are noted in."""
        self._directory = directory
        self._make_journal = journal
        self._plan = plan
        self._threads = threads
        self._batches: queue.Queue[_Batch | None] = queue.Queue(maxsize=1)
        self._settled: list[Entries] = []

    def write(self, numbers: Sequence[int], control: Control, account: Account) -> None:
        """Writes the files of these numbers until all are durable, or the control stops it."""
        control.shards(self._threads)
        dealt = _Dealt(numbers)
        with (
            closing(self._make_journal()) as journal,
            ThreadPoolExecutor(self._threads + 1, "write") as pool,
        ):
            settler = pool.submit(_guarded, control, lambda: self._settle(journal, control))
            writers = [
                pool.submit(_guarded, control, self._work(thread, dealt, control, account))
                for thread in range(self._threads)
            ]
            wait(writers)
            while not settler.done():  # it ends before others only where it has a bug
                with suppress(queue.Full):
                    self._batches.put(None, timeout=_PATIENCE_S)
                    break
        for future in (settler, *writers):
            future.result()

    @property
    def settled(self) -> Entries:
        """The files that are durable."""
        return np.concatenate([no_entries(), *self._settled])

    def _work(
        self, thread: int, dealt: _Dealt, control: Control, account: Account
    ) -> Callable[[], None]:
        """The work of a thread that writes."""

        def work() -> None:
            content = Content(self._plan.dataset.seed)
            batch = _Batch()
            try:
                for number in dealt:
                    file = self._plan.file(number)
                    counted = self._write_file(file, content, thread, control, batch.tally)
                    if counted is None:
                        break
                    batch.add(number, file.path, counted)
                    if batch.is_full(self._threads):
                        account.add(batch.tally)
                        full, batch = batch, _Batch()
                        self._hand_over(full, control)
            finally:
                account.add(batch.tally)
            self._hand_over(batch, control)

        return work

    def _write_file(
        self, file: PlannedFile, content: Content, thread: int, control: Control, tally: Tally
    ) -> checksum.Tally | None:
        """Writes a file and its index; None if that was not to be completed."""
        dataset, counted = self._plan.dataset, checksum.Tally()
        with _created(self._directory / file.path) as descriptor:
            for piece in pieces(dataset, file, content, counted):
                if control.stopped:
                    return None
                took = _write_all(descriptor, piece, self._directory / file.path)
                _count(tally, piece.nbytes, took, control)
                control.written_bytes[thread] += piece.nbytes
        index = index_file(dataset, file)
        if index is not None:
            path = self._directory / index[0]
            with _created(path) as descriptor:
                _write_all(descriptor, memoryview(index[1]), path)
        return counted

    def _hand_over(self, batch: _Batch, control: Control) -> None:
        """Gives a batch to be made durable; waits while one is waiting already."""
        while control.failure is None:
            with suppress(queue.Full):
                self._batches.put(batch, timeout=_PATIENCE_S)
                return

    def _settle(self, journal: Journal, control: Control) -> None:
        """Makes batches durable until there are no more; after a failure they only go."""
        while (batch := self._batches.get()) is not None:
            if control.failure is None and batch.entries:
                self._settle_batch(batch, journal, control)

    def _settle_batch(self, batch: _Batch, journal: Journal, control: Control) -> None:
        entries = np.array(batch.entries, dtype=ENTRY)
        try:
            sync_file_system(self._directory)
            journal.append(entries)
            evict(self._directory, batch.paths)
        except EngineError as error:
            control.fail(str(error))
            return
        self._settled.append(entries)


class _Dealt:
    """Numbers that threads take one by one."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = iter(numbers)
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            yield number


@contextmanager
def _created(path: Path) -> Iterator[int]:
    """A file that is made, or emptied, and closed in the end; errors of both name it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise storage_error(error, "make", path) from error
    try:
        yield descriptor
    finally:
        try:
            os.close(descriptor)
        except OSError as error:  # what network file systems find out no sooner
            raise storage_error(error, "close", path) from error


def _write_all(descriptor: int, data: memoryview, path: Path) -> tuple[int, int]:
    """Writes data at the end; returns when that began and ended, in ns of the monotonic clock."""
    begun_ns = time.monotonic_ns()
    left = data
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise storage_error(error, "write", path) from error
    return begun_ns, time.monotonic_ns()


def _count(tally: Tally, size_bytes: int, took: tuple[int, int], control: Control) -> None:
    """Counts a write, which is in the window if that has not ended before."""
    begun_ns, ended_ns = took
    tally.operations[STORE] += 1
    tally.bytes[STORE] += size_bytes
    tally.last_ns = max(tally.last_ns, ended_ns)
    if control.measures(ended_ns):
        tally.latencies_ns[STORE].append(ended_ns - begun_ns)
        tally.window_bytes[STORE] += size_bytes
        second = (ended_ns - control.window_ns) // 10**9
        moved = tally.timeline[STORE]
        moved[second] = moved.get(second, 0) + size_bytes


def _guarded(control: Control, work: Callable[[], None]) -> None:
    """Does work whose failure stops that of all."""
    try:
        work()
    except EngineError as error:
        control.fail(str(error))
    except BaseException:  # a bug: raised again where the thread's result is asked for
        control.fail("a thread has failed")
        raise


# ---------------------------------------------------------------- the result


def core_of(threads: int) -> Core:
    """What writes, for the result."""
    return Core(
        name="python",
        direct=False,
        direct_refused=None,
        alignment_bytes=1,
        durability="syncfs",
        io_size_bytes=PIECE_BYTES,
        depth=threads,
        rings=threads,
    )
