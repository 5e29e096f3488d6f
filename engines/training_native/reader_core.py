"""The reader in C: loads it, feeds it, turns its account into ours."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from ..io_core.account import TIMELINE_BINS
from ..io_core.core import Series, Signature, declare, load_library
from ..io_core.executor import CoreRefused, Refusal
from ..io_core.histogram import BUCKETS, EXACT_BITS
from ..meeting import NativeMeeting
from .native_steps import NativeSteps
from .reader import (
    PATIENCE_NS,
    READ,
    Block,
    Idle,
    ReaderAccount,
    Reading,
    Step,
    always,
    direct_refusal,
    failed_open,
    failed_read,
    failed_start,
    short_read,
    was_stopped,
)

_PATH_BYTES = 4096
# The enumerations of _reader.c.
_OPENS, _READS, _SHORT = range(1, 4)
_READY, _PENDING, _FAILED, _STOPPED, _UNKNOWN, _COMPUTES, _CLOSED = range(7)


class _Config(ctypes.Structure):
    _fields_ = (
        ("directory", ctypes.c_char_p),
        ("buffer_bytes", ctypes.c_uint64),
        *(
            (name, ctypes.c_uint32)
            for name in (
                "threads", "look_ahead", "descriptors", "evict", "enabled", "checksum",
                "exact_bits", "buckets", "bins",
            )
        ),
    )  # fmt: skip


class _Block(ctypes.Structure):
    _fields_ = (
        ("paths", ctypes.c_char_p),
        ("path_starts", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("path_bytes", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("files", "reads", "batches", "direct")),
    )


class _Account(ctypes.Structure):
    _fields_ = (
        ("reads_ns", Series),
        ("batches_ns", Series),
        ("timeline", ctypes.c_void_p),
        *(
            (name, ctypes.c_int64)
            for name in (
                "bytes", "transferred_bytes", "calls", "reads", "opens", "batches", "ahead_max",
            )
        ),
        ("checksum", ctypes.c_uint64),
    )  # fmt: skip


class _Failure(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("reason", "error", "offset", "moved", "length")),
        ("path", ctypes.c_char * _PATH_BYTES),
    )


class _Step(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("waited_ns", "begun_ns", "computed_ns"))


class CoreReader:
    """Threads that run without the interpreter; see `Reader`."""

    name = "c"

    def __init__(self, settings: Reading, refused: Sequence[Refusal] = ()) -> None:
        self.refused = tuple(refused)
        self.direct_refused: str | None = None
        self._settings = settings
        self._direct: bool | None = None if settings.direct and settings.enabled else False
        self._library = _load()
        self._take_step = self._library.reader_step
        self._step = _Step()
        self._step_there = ctypes.addressof(self._step)
        self._reader: int | None = self._open()

    @property
    def room(self) -> bool:
        """Whether another block is taken; see `Reader`."""
        return bool(self._library.reader_room(self._alive()))

    def feed(self, block: Block) -> None:
        """Takes further batches; see `Reader`."""
        if not self.room:
            raise ValueError("the reader has no room for another block")
        if self._direct is None:
            self.direct_refused = direct_refusal(self._settings, block)
            self._direct = self.direct_refused is None
        paths = [os.fsencode(path) + b"\0" for path in block.paths]
        starts = np.zeros(len(paths) + 1, dtype=np.uint64)
        np.cumsum([len(path) for path in paths], out=starts[1:])
        numbers = np.ascontiguousarray(block.numbers, dtype=np.uint32)
        rows = np.ascontiguousarray(block.reads, dtype=READ)
        in_c = _Block(
            paths=b"".join(paths),
            path_starts=starts.ctypes.data,
            numbers=numbers.ctypes.data,
            rows=rows.ctypes.data,
            path_bytes=int(starts[-1]),
            files=len(paths),
            reads=len(rows),
            batches=block.batches,
            direct=self._direct,
        )
        self._library.reader_feed(self._alive(), ctypes.byref(in_c))

    def end(self) -> None:
        """No further block comes."""
        self._library.reader_fed_all(self._alive())

    def wait(self, batch: int) -> int:
        """Waits for a batch; returns the ns of that. See `Reader`."""
        waited_ns = ctypes.c_int64()
        status = _PENDING
        while status == _PENDING:
            status = self._library.reader_wait(
                self._alive(), batch, PATIENCE_NS, ctypes.addressof(waited_ns)
            )
        if status != _READY:
            self._raise(status, batch)
        return waited_ns.value

    def release(self, batch: int) -> None:
        """Lets go of a batch and of all before it."""
        if not self._library.reader_release(self._alive(), batch):
            self._raise(_UNKNOWN, batch)

    def step(self, batch: int, compute_ns: int, idle: Idle = always) -> Step:
        """Waits for a batch, releases it, computes; see `Reader`."""
        # As little as can be: behind a sleep nothing of this is in the processor's caches.
        status = self._take_step(self._reader, batch, compute_ns, PATIENCE_NS, self._step_there)
        if status == _READY:
            return Step(self._step.waited_ns, self._step.computed_ns)
        return self._long_step(status, batch, compute_ns, idle)

    def _long_step(self, status: int, batch: int, compute_ns: int, idle: Idle) -> Step:
        """Goes on with a step that took longer than a call may."""
        step, waited_ns = self._step, self._step.waited_ns
        while status == _PENDING:
            if not idle():
                raise was_stopped()
            status = self._take_step(
                self._alive(), batch, compute_ns, PATIENCE_NS, self._step_there
            )
            waited_ns += step.waited_ns
        if status not in (_READY, _COMPUTES):
            self._raise(status, batch)
        computed_ns, end_ns = step.computed_ns, step.begun_ns + compute_ns
        while computed_ns < compute_ns:
            if not idle():
                raise was_stopped()
            computed_ns = self._library.reader_compute(end_ns, PATIENCE_NS) - step.begun_ns
        return Step(waited_ns, computed_ns)

    def steps(self, meeting: NativeMeeting | None, compute_ns: int) -> NativeSteps | None:
        """Steps that go on in C; see `Reader`."""
        return None if meeting is None else NativeSteps(self._alive(), meeting, compute_ns)

    def account(self) -> ReaderAccount:
        """All that was counted so far."""
        account = ReaderAccount()
        in_c = _Account(timeline=account.timeline.ctypes.data)
        in_c.reads_ns.counts = account.reads_ns.counts.ctypes.data
        in_c.batches_ns.counts = account.batches_ns.counts.ctypes.data
        self._library.reader_read_account(self._alive(), ctypes.byref(in_c))
        in_c.reads_ns.tell(account.reads_ns)
        in_c.batches_ns.tell(account.batches_ns)
        account.read_bytes = in_c.bytes
        account.transferred_bytes = in_c.transferred_bytes
        account.calls, account.reads, account.opens = in_c.calls, in_c.reads, in_c.opens
        account.batches, account.ahead_max = in_c.batches, in_c.ahead_max
        account.checksum = in_c.checksum
        return account

    def stop(self) -> None:
        """Starts no further call and ends a wait."""
        self._library.reader_stop(self._alive())

    def close(self) -> None:
        """Ends the threads and frees all."""
        if self._reader is not None:
            self._library.reader_close(self._reader)
            self._reader = None

    def _open(self) -> int:
        settings = self._settings
        config = _Config(
            directory=os.fsencode(settings.directory),
            buffer_bytes=settings.buffer_bytes,
            threads=settings.threads,
            look_ahead=settings.look_ahead,
            descriptors=settings.descriptors,
            evict=settings.evict,
            enabled=settings.enabled,
            checksum=settings.checksum,
            exact_bits=EXACT_BITS,
            buckets=BUCKETS,
            bins=TIMELINE_BINS,
        )
        number = ctypes.c_int32()
        reader: int | None = self._library.reader_open(
            ctypes.byref(config), ctypes.addressof(number)
        )
        if reader is None:
            raise failed_start(settings.directory, number.value)
        return reader

    def _alive(self) -> int:
        if self._reader is None:
            self._raise(_CLOSED, 0)
        return self._reader

    def _raise(self, status: int, batch: int) -> NoReturn:
        if status == _CLOSED:
            raise ValueError("the reader is closed")
        if status == _STOPPED:
            raise was_stopped()
        if status == _UNKNOWN:
            raise ValueError(f"batch {batch} is not one to wait for or to release")
        failure = _Failure()
        self._library.reader_read_failure(self._alive(), ctypes.byref(failure))
        path = self._settings.directory / Path(os.fsdecode(failure.path))
        if failure.reason == _OPENS:
            raise failed_open(path, failure.error)
        if failure.reason == _READS:
            raise failed_read(path, failure.offset + failure.moved, failure.error)
        raise short_read(path, failure.offset, failure.moved, failure.length)


def _load() -> ctypes.CDLL:
    library = load_library()
    declare(library, _signatures())
    structures = (_Config, _Block, _Account, _Failure, _Step)
    sizes = (ctypes.c_uint32 * len(structures))()
    library.reader_sizes(sizes)
    if tuple(sizes) != tuple(map(ctypes.sizeof, structures)):
        raise CoreRefused("the compiled core is of another version: install mlps again")
    return library


def _signatures() -> dict[str, Signature]:
    pointer, batch, ns = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
    status = ctypes.c_int32
    return {
        "reader_open": (pointer, (pointer, pointer)),
        "reader_room": (ctypes.c_bool, (pointer,)),
        "reader_feed": (None, (pointer, pointer)),
        "reader_fed_all": (None, (pointer,)),
        "reader_wait": (status, (pointer, batch, ns, pointer)),
        "reader_release": (ctypes.c_bool, (pointer, batch)),
        "reader_compute": (ns, (ns, ns)),
        "reader_step": (status, (pointer, batch, ns, ns, pointer)),
        "reader_read_account": (None, (pointer, pointer)),
        "reader_read_failure": (None, (pointer, pointer)),
        "reader_stop": (None, (pointer,)),
        "reader_close": (None, (pointer,)),
        "reader_sizes": (None, (pointer,)),
    }
