"""Executor of Python threads: one for each shard, preadv and pwritev on page-aligned memory.

A shard works its rows off one by one in the plan's order, so steps need no care, and gates wait
for other shards only.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .account import Account, Tally
from .blocks import BLOCK_BYTES, Stamper, Words, aligned_buffer, as_blocks, fill_pool, lay
from .control import Control
from .executor import SAMPLE_EVERY, Refusal, Settings
from .failures import Place, chunk_path, failed_call, short_transfer, wrong_data
from .files import OpenFiles
from .operations import LOAD, STORE, Operations, Stream

# A thread whose I/O has completed takes its time stamp only once it holds the interpreter lock.
# The default of 5 ms would let one busy thread add that much to another's latency.
_SWITCH_S = 0.0005
# How soon a thread that waits for an arrival or a gate sees that the run has ended.
_NAP_S = 0.02

# A row as `tolist` gives it, in the order of OPERATION.
_Row = tuple[
    int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int
]  # fmt: skip


class ThreadExecutor:
    """Works on any Linux; the fallback of faster executors."""

    name = "python_threads"

    def __init__(
        self, files: OpenFiles, settings: Settings, refused: Sequence[Refusal] = ()
    ) -> None:
        self.shards = settings.python_threads
        self.refused = tuple(refused)
        size_bytes = settings.period_bytes if settings.placed else settings.largest_bytes
        pool = fill_pool(settings.pool_seed, size_bytes).reshape(-1, BLOCK_BYTES // 8)
        # All buffers in one piece: only a large one gets huge pages.
        arena = memoryview(aligned_buffer(2 * self.shards * settings.largest_bytes))
        self._gates = _Gates(settings.gate_slots)
        stores = threading.Semaphore(settings.store_cap) if settings.store_cap else nullcontext()
        self._workers = [
            _Shard(n, files, settings, arena, pool, self._gates, stores) for n in range(self.shards)
        ]

    def execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        """Works off one stream for each shard; see `Executor`."""
        control.shards(len(streams))
        self._gates.reset()
        threads = [
            threading.Thread(
                target=shard.work, args=(stream, control, account), name=f"shard-{n}", daemon=True
            )
            for n, (shard, stream) in enumerate(zip(self._workers, streams, strict=True))
        ]
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(before)
        _raise_first(self._workers, control)

    def reopen(self, files: OpenFiles) -> None:
        """Goes on with these files; see `Executor`."""
        for shard in self._workers:
            shard.files = files

    def close(self) -> None:
        """Nothing outlasts `execute`."""


class _Gates:
    """What gated rows wait for: how many rows, and how many stores, of a slot are complete."""

    def __init__(self, slots: int) -> None:
        self._rows = np.zeros(slots, dtype=np.int64)
        self._stores = np.zeros(slots, dtype=np.int64)
        self._changed = threading.Condition()

    def reset(self) -> None:
        """Before a run: nothing is complete."""
        self._rows[:] = 0
        self._stores[:] = 0

    def wait(self, kind: int, slot: int, version: int, order: int, control: Control) -> None:
        """Returns when the row may start or the run has ended."""
        counts, wanted = (self._stores, version) if kind == LOAD else (self._rows, order)
        with self._changed:
            while counts[slot] < wanted and time.monotonic_ns() < control.end_ns:
                self._changed.wait(_NAP_S)

    def complete(self, kind: int, slot: int) -> None:
        """A row of this slot is complete."""
        with self._changed:
            self._rows[slot] += 1
            self._stores[slot] += kind == STORE
            self._changed.notify_all()


class _Shard:
    """The buffers of one thread, and what it does with them."""

    def __init__(
        self,
        number: int,
        files: OpenFiles,
        settings: Settings,
        arena: memoryview,
        pool: Words,
        gates: _Gates,
        stores: AbstractContextManager[object],
    ) -> None:
        self._number = number
        self.files = files
        self._settings = settings
        self._gates = gates
        self._stores = stores
        self._sync = settings.durability == "fdatasync"
        self._planned = 0
        self._transfers = 0
        self._request = _Request()
        self._stamper = Stamper(settings.key, settings.largest_bytes // BLOCK_BYTES)
        size = settings.largest_bytes
        self._read = arena[2 * number * size : (2 * number + 1) * size]
        self._write = arena[(2 * number + 1) * size : (2 * number + 2) * size]
        self._read_blocks = as_blocks(self._read)
        self._write_blocks = as_blocks(self._write)
        self._pool = pool
        # Placed: which of the pool's blocks is the first here.
        self._turn = 0
        if settings.placed:
            lay(self._write_blocks, pool, 0)
        else:
            # Turned, so that no two shards write the same blocks around their stamps.
            turned = np.roll(pool.reshape(-1), number * 512 + number)
            self._write_blocks.reshape(-1)[:] = turned
        self.bug: BaseException | None = None

    def work(self, stream: Stream, control: Control, account: Account) -> None:
        """The life of a shard's thread."""
        self._planned = self._transfers = 0
        self._request = _Request()
        try:
            for block in stream:
                if not self._work_off(block, control, account):
                    return
            tally = Tally()
            self._request.end(control, tally)
            account.add(tally)
        except EngineError as error:
            control.fail(str(error))
        except BaseException as error:  # handed to the main thread, which shows its traceback
            self.bug = error
            control.stop()

    def _work_off(self, block: Operations, control: Control, account: Account) -> bool:
        """Carries out a block's operations; False when the window has ended."""
        tally = Tally()
        try:
            return self._carry_out(block, control, tally)
        finally:
            account.add(tally)

    def _carry_out(self, block: Operations, control: Control, tally: Tally) -> bool:
        clock = time.monotonic_ns
        backlog = _Backlog(block) if self._settings.open_loop else None
        rows = zip(block.tolist(), self._chosen(block), strict=False)
        for row, check in rows:
            arrival, length, version, _, user, request, slot, order = row[2:10]
            step, kind, gate = row[11], row[13], row[16]
            if (user, request) != self._request.identity:
                self._request.end(control, tally)
                intended_ns = control.start_ns + arrival if backlog else None
                self._request = _Request((user, request), intended_ns)
                if backlog and not backlog.start(arrival, control, self._settings, tally):
                    return False
            self._request.reach(step, kind, control, tally)
            if gate:
                self._gates.wait(kind, slot, version, order, control)
            if kind == STORE:
                self._fill(row)
            with self._stores if kind == STORE else nullcontext():
                started = clock()
                if started >= control.end_ns:
                    return False
                self._transfer(row)
                completed = clock()
            self._request.add(kind, length, started, completed)
            self._count(row, started, completed, control, tally)
            if gate:
                self._gates.complete(kind, slot)
            if check:
                self._verify(row, tally)
        return True

    def _fill(self, row: _Row) -> None:
        """Makes a row's bytes ready to be written."""
        _, chunk, _, length, version = row[:5]
        blocks = self._write_blocks[: length // BLOCK_BYTES]
        if not self._settings.placed:
            self._stamper.stamp(blocks, chunk, version)
            return
        turn = self._first_block(row) % len(self._pool)
        if turn != self._turn:
            lay(self._write_blocks, self._pool, turn)
            self._turn = turn
        self._stamper.place(blocks, chunk, version)

    def _transfer(self, row: _Row) -> None:
        """Moves one row's bytes; raises EngineError unless all of them are moved."""
        offset, length, file, kind = row[0], row[3], row[5], row[13]
        view = (self._read if kind == LOAD else self._write)[:length]
        try:
            if self._settings.chunk_files:
                moved = self._move_chunk_file(kind, view, self._path(row))
            else:
                moved = self._move(kind, self.files.descriptors[file], view, offset)
            moved = self._injected(moved)
        except OSError as error:
            raise failed_call(self._place(row), error.errno or errno.EIO) from error
        if moved != length:
            raise short_transfer(self._place(row), moved, length)

    def _move(self, kind: int, descriptor: int, view: memoryview, offset: int) -> int:
        if kind == LOAD:
            return os.preadv(descriptor, [view], offset)
        moved = os.pwritev(descriptor, [view], offset)
        if self._sync:
            os.fdatasync(descriptor)
        return moved

    def _move_chunk_file(self, kind: int, view: memoryview, path: Path) -> int:
        if kind == LOAD:
            return self._move_file(kind, view, path, os.O_RDONLY)
        draft, whole = path.with_name(path.name + ".new"), False
        try:
            moved = self._move_file(kind, view, draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            if moved == len(view):
                draft.replace(path)
                whole = True
        finally:
            if not whole:
                draft.unlink(missing_ok=True)
        return moved

    def _move_file(self, kind: int, view: memoryview, path: Path, flags: int) -> int:
        descriptor = os.open(path, self.files.open_flags | os.O_CLOEXEC | flags, 0o644)
        try:
            return self._move(kind, descriptor, view, 0)
        finally:
            os.close(descriptor)

    def _injected(self, moved: int) -> int:
        """What a test makes of a transfer."""
        fault = self._settings.fault
        self._transfers += 1
        if fault is None or self._transfers != fault.after:
            return moved
        if fault.result < 0:
            raise OSError(-fault.result, os.strerror(-fault.result))
        return fault.result

    def _count(
        self, row: _Row, started: int, completed: int, control: Control, tally: Tally
    ) -> None:
        length, kind, purpose, closes = row[3], row[13], row[14], row[15]
        tally.operations[kind] += 1
        tally.bytes[kind] += length
        (control.read_bytes, control.written_bytes)[kind][self._number] += length
        tally.last_ns = completed
        if control.measures(completed):
            tally.latencies_ns[kind].append(completed - started)
            tally.window_bytes[kind] += length
            second = (completed - control.window_ns) // 10**9
            tally.timeline[kind][second] = tally.timeline[kind].get(second, 0) + length
            tally.purposes[purpose] += 1
            if closes:
                tally.generated_tokens += row[10]
                self._request.complete(completed, tally)
        if closes:
            self._request.end(control, tally)
            self._request = _Request()

    def _chosen(self, block: Operations) -> Iterable[bool]:
        """Which rows of a block are verified once they are carried out."""
        first, self._planned = self._planned, self._planned + len(block)
        mode = self._settings.verify
        if mode == "none":
            return repeat(False)
        loads = block["kind"] == LOAD
        if mode == "sampled":
            # Spread by the golden ratio: a plain every-nth would follow the plan's own rhythm.
            number = np.arange(first, first + len(block), dtype=np.uint64)
            spread = number * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
            loads &= spread % np.uint64(SAMPLE_EVERY) == 0
        chosen: list[bool] = loads.tolist()
        return chosen

    def _verify(self, row: _Row, tally: Tally) -> None:
        chunk, length, version = row[1], row[3], row[4]
        blocks = self._read_blocks[: length // BLOCK_BYTES]
        if self._settings.verify == "content":
            first = self._first_block(row)
            mismatch = self._stamper.verify_all(blocks, chunk, version, self._pool, first)
        else:
            mismatch = self._stamper.verify(blocks, chunk, version)
        tally.checks.operations += 1
        tally.checks.blocks += len(blocks)
        tally.checks.bytes += length
        if mismatch is not None:
            tally.checks.mismatches += mismatch.blocks
            place = self._place(row, mismatch.block * BLOCK_BYTES)
            raise wrong_data(place, mismatch, len(blocks))

    def _path(self, row: _Row) -> Path:
        path = self.files.paths[row[5]]
        return chunk_path(path, row[1]) if self._settings.chunk_files else path

    def _first_block(self, row: _Row) -> int:
        # A row's place in a file means nothing to a chunk that has a file of its own.
        return 0 if self._settings.chunk_files else row[0] // BLOCK_BYTES

    def _place(self, row: _Row, within_bytes: int = 0) -> Place:
        offset_bytes = self._first_block(row) * BLOCK_BYTES + within_bytes
        return Place(kind=row[13], path=self._path(row), offset_bytes=offset_bytes)


@dataclass(slots=True)
class _Request:
    """The request that a shard is at, its rows one after another; `intended_ns` in an open loop."""

    identity: tuple[int, int] | None = None
    intended_ns: int | None = None
    first_ns: int = 0
    stored: bool = False
    # Last completion of the loads before the first store, until noted.
    prefix_ns: int = 0
    step: int = 0
    # Of the step by kind: first submission, last completion, bytes.
    entries: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def begun_ns(self) -> int:
        return self.first_ns if self.intended_ns is None else self.intended_ns

    def reach(self, step: int, kind: int, control: Control, tally: Tally) -> None:
        """Before a row: notes what is complete once this is the next one."""
        if step != self.step:
            self._end_step(control, tally)
            self.step = step
        if kind == STORE and not self.stored:
            self._end_prefix(control, tally)
            self.stored = True

    def add(self, kind: int, length: int, started_ns: int, completed_ns: int) -> None:
        """After a row."""
        self.first_ns = self.first_ns or started_ns
        if not self.stored:
            self.prefix_ns = completed_ns
        first_ns, _, size_bytes = self.entries.get(kind, (started_ns, 0, 0))
        self.entries[kind] = (first_ns, completed_ns, size_bytes + length)

    def complete(self, completed_ns: int, tally: Tally) -> None:
        """After its last row, inside the window."""
        tally.requests += 1
        tally.requests_ns.append(completed_ns - self.begun_ns)
        if self.intended_ns is not None:
            tally.queue_ns.append(max(self.first_ns - self.intended_ns, 0))
            tally.service_ns.append(completed_ns - self.first_ns)

    def end(self, control: Control, tally: Tally) -> None:
        """It has no further rows."""
        self._end_step(control, tally)
        self._end_prefix(control, tally)

    def _end_step(self, control: Control, tally: Tally) -> None:
        for kind, (first_ns, last_ns, size_bytes) in self.entries.items():
            if control.measures(last_ns):
                tally.entries[kind].append((size_bytes, last_ns - first_ns))
        self.entries.clear()

    def _end_prefix(self, control: Control, tally: Tally) -> None:
        if self.prefix_ns and control.measures(self.prefix_ns):
            tally.prefix_ns.append(self.prefix_ns - self.begun_ns)
        self.prefix_ns = 0


class _Backlog:
    """Requests of a block that have arrived and not started; later blocks are not known yet."""

    def __init__(self, block: Operations) -> None:
        users, requests = block["user"], block["request"]
        begins = np.ones(len(block), dtype=bool)
        begins[1:] = (users[1:] != users[:-1]) | (requests[1:] != requests[:-1])
        self._arrivals: NDArray[np.uint64] = block["arrival"][begins]
        self._started = 0

    def start(self, arrival: int, control: Control, settings: Settings, tally: Tally) -> bool:
        """Waits for an arrival; False if the run has ended, perhaps by too long a backlog."""
        due_ns = control.start_ns + arrival
        while (now_ns := time.monotonic_ns()) < due_ns:
            if now_ns >= control.end_ns:
                return False
            time.sleep(min((due_ns - now_ns) / 1e9, _NAP_S))
        since_ns = np.uint64(now_ns - control.start_ns)
        backlog = int(np.searchsorted(self._arrivals, since_ns, "right")) - self._started
        self._started += 1
        tally.backlog_max = max(tally.backlog_max, backlog)
        if settings.backlog_limit is not None and backlog > settings.backlog_limit:
            tally.overloaded = True
            control.finish()
        return not tally.overloaded


def _raise_first(shards: Sequence[_Shard], control: Control) -> None:
    for shard in shards:
        if shard.bug is not None:
            raise shard.bug
    if control.failure is not None:
        raise EngineError(control.failure)
