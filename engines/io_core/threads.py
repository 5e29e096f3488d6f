"""Executor of Python threads: one for each shard, preadv and pwritev on page-aligned memory."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np

from ..errors import EngineError, storage_error
from .account import Account, Tally
from .blocks import BLOCK_BYTES, Stamper, Words, aligned_buffer, as_blocks, fill_pool
from .control import Control
from .executor import Settings, Verify
from .files import OpenFiles
from .operations import LOAD, STORE, Operations, Stream

# Of sampled reads, one in this number is verified.
SAMPLE_EVERY = 100
# A thread whose I/O has completed takes its time stamp only once it holds the interpreter lock.
# The default of 5 ms would let one busy thread add that much to another's latency.
_SWITCH_S = 0.0005


class ThreadExecutor:
    """Works on any Linux; the fallback of faster executors."""

    name = "python_threads"

    def __init__(self, files: OpenFiles, settings: Settings) -> None:
        pool = fill_pool(settings.pool_seed, settings.largest_bytes)
        # All buffers in one piece: only a large one gets huge pages.
        arena = memoryview(aligned_buffer(2 * settings.shards * settings.largest_bytes))
        self._shards = [_Shard(n, files, settings, arena, pool) for n in range(settings.shards)]

    def execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        """Works off one stream for each shard; see `Executor`."""
        control.shards(len(streams))
        threads = [
            threading.Thread(
                target=shard.work, args=(stream, control, account), name=f"shard-{n}", daemon=True
            )
            for n, (shard, stream) in enumerate(zip(self._shards, streams, strict=True))
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
        _raise_first(self._shards, control)


class _Shard:
    """The buffers of one thread, and what it does with them."""

    def __init__(
        self, number: int, files: OpenFiles, settings: Settings, arena: memoryview, pool: Words
    ) -> None:
        self._number = number
        self._files = files
        self._settings = settings
        self._planned = 0
        self._stamper = Stamper(settings.key, settings.largest_bytes // BLOCK_BYTES)
        size = settings.largest_bytes
        self._read = arena[2 * number * size : (2 * number + 1) * size]
        self._write = arena[(2 * number + 1) * size : (2 * number + 2) * size]
        self._read_blocks = as_blocks(self._read)
        self._write_blocks = as_blocks(self._write)
        # Turned, so that no two shards write the same blocks around their stamps.
        self._write_blocks.reshape(-1)[:] = np.roll(pool, number * 512 + number)
        self.bug: BaseException | None = None

    def work(self, stream: Stream, control: Control, account: Account) -> None:
        """The life of a shard's thread."""
        try:
            for block in stream:
                if not self._work_off(block, control, account):
                    return
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
        # The timed path: nearly all that it touches for each operation is a local name.
        clock = time.monotonic_ns
        descriptors, sync = self._files.descriptors, self._settings.durability == "fdatasync"
        reading, writing = self._read, self._write
        live = (control.read_bytes, control.written_bytes)
        kind = offset = file = 0
        try:
            rows = zip(block.tolist(), self._chosen(block), strict=False)
            for row, check in rows:
                offset, chunk, length, version, file, _, _, kind, purpose, closes, _ = row
                if kind == STORE:
                    self._stamper.stamp(self._write_blocks[: length // BLOCK_BYTES], chunk, version)
                started = clock()
                if started >= control.end_ns:
                    return False
                if kind == LOAD:
                    moved = os.preadv(descriptors[file], [reading[:length]], offset)
                else:
                    moved = os.pwritev(descriptors[file], [writing[:length]], offset)
                    if sync:
                        os.fdatasync(descriptors[file])
                completed = clock()
                if moved != length:
                    raise self._short(kind, file, offset, length, moved)
                tally.operations[kind] += 1
                tally.bytes[kind] += length
                live[kind][self._number] += length
                tally.last_ns = completed
                if control.window_ns <= completed < control.end_ns:
                    tally.latencies_ns[kind].append(completed - started)
                    tally.window_bytes[kind] += length
                    tally.purposes[purpose] += 1
                    tally.requests += closes
                if check:
                    self._verify(tally, file, offset, length, chunk, version)
        except OSError as error:
            action = "read" if kind == LOAD else "write"
            raise storage_error(error, action, self._files.paths[file], offset) from error
        return True

    def _chosen(self, block: Operations) -> Iterable[bool]:
        """Which rows of a block are verified once they are carried out."""
        first, self._planned = self._planned, self._planned + len(block)
        mode: Verify = self._settings.verify
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

    def _verify(
        self, tally: Tally, file: int, offset: int, length: int, chunk: int, version: int
    ) -> None:
        blocks = self._read_blocks[: length // BLOCK_BYTES]
        mismatch = self._stamper.verify(blocks, chunk, version)
        tally.checks.operations += 1
        tally.checks.blocks += len(blocks)
        tally.checks.bytes += length
        if mismatch is not None:
            tally.checks.mismatches += mismatch.blocks
            raise EngineError(
                f"wrong data in {self._files.paths[file]}"
                f" at offset {offset + mismatch.block * BLOCK_BYTES}:"
                f" expected {mismatch.expected}, found {mismatch.found}"
                f" ({mismatch.blocks} of {len(blocks)} blocks of this read are wrong)"
            )

    def _short(self, kind: int, file: int, offset: int, length: int, moved: int) -> EngineError:
        action = "read" if kind == LOAD else "write"
        return EngineError(
            f"short {action} of {self._files.paths[file]} at offset {offset}:"
            f" {moved} of {length} bytes"
        )


def _raise_first(shards: Sequence[_Shard], control: Control) -> None:
    for shard in shards:
        if shard.bug is not None:
            raise shard.bug
    if control.failure is not None:
        raise EngineError(control.failure)
