"""The executor in C: loads it, feeds it from the planner's streams, turns its account into ours.

It is loaded with ctypes, not imported: every call then releases the interpreter lock by itself,
and building it needs no headers of Python, only a compiler.
"""

from __future__ import annotations

import ctypes
import importlib.util
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

import numpy as np

from ..errors import EngineError
from .account import TIMELINE_BINS, Account, Checks, Entries, Flow, Requests
from .blocks import Byte, Mismatch, decode, fill_pool
from .control import Clocks, Control
from .executor import SAMPLE_EVERY, CoreRefused, Refusal, Settings
from .failures import Place, chunk_path, failed_call, short_transfer, wrong_data
from .files import OpenFiles
from .histogram import EXACT_BITS, Histogram
from .operations import OPERATION, PURPOSES, Operations, Stream

Transport = Literal["uring", "threads", "noop"]

_NAMES = {"uring": "uring", "threads": "c_threads", "noop": "noop"}
_TRANSPORTS = {"uring": 0, "threads": 1, "noop": 2}
_VERIFY = {"none": 0, "sampled": 1, "all": 2, "content": 3}
_REASON_BYTES = 256
# Histograms of an account, in the order of the enumeration in _core.h.
_READ, _WRITE, _REQUEST, _QUEUE, _SERVICE, _PREFIX, _READ_ENTRY, _WRITE_ENTRY = range(8)
_SERIES = 8
_FAILED_CALL, _SHORT, _WRONG_DATA, _BAD_ROW, _FAILED_CORE = range(1, 6)
# How long the feeder sleeps at most: live counts, of which each report wants new ones, are copied
# at each turn.
_FEED_NS = 200_000_000
_UNLIMITED = 2**32 - 1


class _Config(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_uint64),
        ("pool", ctypes.c_void_p),
        ("descriptors", ctypes.c_void_p),
        *(
            (name, ctypes.c_uint32)
            for name in (
                "files", "transport", "shards", "depth", "io_bytes", "requests", "backlog_limit",
                "store_cap", "open_loop", "verify", "sample_every", "sync", "chunk_files",
                "open_flags", "gate_slots", "exact_bits", "largest_bytes", "fault_after",
                "pool_bytes", "placed",
            )
        ),
        ("fault_result", ctypes.c_int64),
    )  # fmt: skip


class _Flow(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("window_bytes", "window_operations", "total_bytes", "total_operations")
    )


class Series(ctypes.Structure):
    """A histogram whose counts C adds to."""

    _fields_ = (
        ("counts", ctypes.c_void_p),
        ("sum_low", ctypes.c_uint64),
        ("sum_high", ctypes.c_uint64),
        ("count", ctypes.c_int64),
        ("minimum", ctypes.c_int64),
        ("maximum", ctypes.c_int64),
    )

    def tell(self, histogram: Histogram) -> None:
        """Completes the histogram whose counts these are."""
        if self.count:
            histogram.total = self.sum_high << 64 | self.sum_low
            histogram.minimum, histogram.maximum = self.minimum, self.maximum


class _Failure(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "reason", "action", "file", "offset", "chunk", "value", "length", "blocks", "wrong",
                "byte",
            )
        ),
        ("expected", ctypes.c_uint64 * 4),
        ("found", ctypes.c_uint64 * 4),
    )  # fmt: skip


class _Account(ctypes.Structure):
    _fields_ = (
        ("flows", _Flow * 2),
        ("series", Series * _SERIES),
        ("timeline", ctypes.c_void_p * 2),
        ("bins", ctypes.c_int64),
        ("sizes", ctypes.c_void_p * 2),
        ("purposes", ctypes.c_int64 * PURPOSES),
        *(
            (name, ctypes.c_int64)
            for name in (
                "requests", "generated_tokens", "last_ns", "backlog_max", "overloaded",
                "starved_ns", "checked_operations", "checked_blocks", "checked_bytes", "mismatches",
            )
        ),
        ("failure", _Failure),
    )  # fmt: skip


_Accounts = ctypes.Array[_Account]
# What a function in C returns, and what it takes.
Signature = tuple[Any, tuple[Any, ...]]


class CoreExecutor:
    """Shards that run without the interpreter; see `Executor`."""

    def __init__(
        self,
        transport: Transport,
        files: OpenFiles,
        settings: Settings,
        refused: Sequence[Refusal] = (),
    ) -> None:
        self.name = _NAMES[transport]
        self.shards = settings.shards
        self._files = files
        self._settings = settings
        self._library = load_library()
        self._core = self._open(transport)
        unregistered = self._library.core_unregistered(self._core).decode()
        own = (Refusal(core=f"{self.name} fixed buffers", reason=unregistered),)
        self.refused = (*refused, *(own if unregistered else ()))

    def execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        """Works off one stream for each shard; see `Executor`."""
        shards = [_ShardAccount() for _ in streams]
        if len(shards) != self.shards:
            raise ValueError(f"{self.shards} shards, {len(shards)} streams")
        accounts = (_Account * self.shards)(*(shard.in_c for shard in shards))
        control.shards(self.shards)
        self._library.core_start(self._core, ctypes.byref(control.clocks), accounts)
        try:
            self._feed(streams, control, accounts)
        finally:
            self._library.core_end(self._core)
            self._library.core_join(self._core)
            _tell_live(control, accounts)
            for shard, in_c in zip(shards, accounts, strict=True):
                account.merge(shard.read(in_c))
        for in_c in accounts:
            if in_c.failure.reason:
                control.fail(str(self._failure(in_c.failure)))
        if control.failure is not None:
            raise EngineError(control.failure)

    def reopen(self, files: OpenFiles) -> None:
        """Goes on with these files; see `Executor`."""
        descriptors = np.array(files.descriptors, dtype=np.int32)
        self._files = files
        self._library.core_reopen(self._core, descriptors.ctypes.data, len(descriptors))

    def close(self) -> None:
        """Ends the threads and frees the buffers."""
        if self._core is not None:
            self._library.core_close(self._core)
            self._core = None

    def _open(self, transport: Transport) -> int | None:
        settings, files = self._settings, self._files
        _allow_locked_memory()
        # Where content is placed, C goes on reading it.
        self._pool = pool = fill_pool(settings.pool_seed, settings.period_bytes)
        descriptors = np.array(files.descriptors, dtype=np.int32)
        fault = settings.fault
        config = _Config(
            key=settings.key,
            pool=pool.ctypes.data,
            descriptors=descriptors.ctypes.data,
            files=len(files.descriptors),
            transport=_TRANSPORTS[transport],
            shards=self.shards,
            depth=settings.depth,
            io_bytes=settings.transfer_bytes,
            requests=settings.requests_in_flight or _UNLIMITED,
            backlog_limit=settings.backlog_limit or 0,
            store_cap=settings.store_cap or 0,
            open_loop=settings.open_loop,
            # What was never read has nothing to compare.
            verify=_VERIFY["none" if transport == "noop" else settings.verify],
            sample_every=SAMPLE_EVERY,
            sync=settings.durability == "fdatasync",
            chunk_files=settings.chunk_files,
            open_flags=files.open_flags,
            gate_slots=settings.gate_slots,
            exact_bits=EXACT_BITS,
            largest_bytes=settings.largest_bytes,
            fault_after=fault.after if fault else 0,
            pool_bytes=settings.period_bytes,
            placed=settings.placed,
            fault_result=fault.result if fault else 0,
        )
        reason = ctypes.create_string_buffer(_REASON_BYTES)
        core = self._library.core_open(ctypes.byref(config), reason)
        if core is None:
            raise CoreRefused(reason.value.decode())
        return cast(int, core)

    def _feed(self, streams: Sequence[Stream], control: Control, accounts: _Accounts) -> None:
        """Keeps all queues filled until the shards have ended."""
        rest = dict(enumerate(streams))
        live = self.shards
        while live:
            fed = False
            for shard in list(rest):
                if not self._library.core_room(self._core, shard):
                    continue
                block = next(rest[shard], None)
                if block is None:
                    del rest[shard]
                    self._library.core_fed_all(self._core, shard)
                else:
                    self._give(shard, block)
                    fed = True
            live = self._library.core_wait(self._core, 0 if fed else _FEED_NS)
            _tell_live(control, accounts)

    def _give(self, shard: int, block: Operations) -> None:
        rows = np.ascontiguousarray(block, dtype=OPERATION)
        self._library.core_feed(self._core, shard, rows.ctypes.data, len(rows))

    def _failure(self, failure: _Failure) -> EngineError:
        if failure.reason == _BAD_ROW:
            raise ValueError(f"row {failure.value} of a shard's stream is not a valid operation")
        if failure.reason == _FAILED_CORE:
            return EngineError(f"{self.name} failed: {OSError(failure.value, '')}")
        path = self._files.paths[failure.file]
        if self._settings.chunk_files:
            path = chunk_path(path, failure.chunk & 2**64 - 1)
        place = Place(kind=failure.action, path=path, offset_bytes=failure.offset)
        if failure.reason == _FAILED_CALL:
            return failed_call(place, failure.value)
        if failure.reason == _SHORT:
            return short_transfer(place, failure.value, failure.length)
        return wrong_data(place, _mismatch(failure), failure.blocks)


def _mismatch(failure: _Failure) -> Mismatch:
    expected, found = (
        Byte(at=failure.byte, value=words[0])
        if failure.byte >= 0
        else decode(np.array(words, dtype=np.uint64))
        for words in (failure.expected, failure.found)
    )
    return Mismatch(block=0, expected=expected, found=found, blocks=failure.wrong)


class _ShardAccount:
    """A shard's account in memory that C fills."""

    def __init__(self) -> None:
        self._histograms = [Histogram() for _ in range(_SERIES)]
        self._timeline = [np.zeros(TIMELINE_BINS, dtype=np.int64) for _ in range(2)]
        self._entries = [
            Entries(latency=self._histograms[series]) for series in (_READ_ENTRY, _WRITE_ENTRY)
        ]
        self.in_c = _Account(bins=TIMELINE_BINS)
        for series, histogram in zip(self.in_c.series, self._histograms, strict=True):
            series.counts = histogram.counts.ctypes.data
        for kind, timeline in enumerate(self._timeline):
            self.in_c.timeline[kind] = timeline.ctypes.data
        for kind, entries in enumerate(self._entries):
            self.in_c.sizes[kind] = entries.sizes.ctypes.data

    def read(self, in_c: _Account) -> Account:
        """The account as it stands in C, which is a copy of `in_c` with the same pointers."""
        for series, histogram in zip(in_c.series, self._histograms, strict=True):
            series.tell(histogram)
        account = Account()
        account.read, account.write = (self._flow(in_c, kind) for kind in range(2))
        account.checks = Checks(
            operations=in_c.checked_operations,
            blocks=in_c.checked_blocks,
            bytes=in_c.checked_bytes,
            mismatches=in_c.mismatches,
        )
        account.requests = Requests(
            completed=in_c.requests,
            total=self._histograms[_REQUEST],
            queue=self._histograms[_QUEUE],
            service=self._histograms[_SERVICE],
            prefix_load=self._histograms[_PREFIX],
            generated_tokens=in_c.generated_tokens,
            backlog_max=in_c.backlog_max,
            overloaded=bool(in_c.overloaded),
        )
        account.window_purposes = list(in_c.purposes)
        account.last_ns = in_c.last_ns
        account.starved_ns = in_c.starved_ns
        return account

    def _flow(self, in_c: _Account, kind: int) -> Flow:
        flow = in_c.flows[kind]
        return Flow(
            window_bytes=flow.window_bytes,
            window_operations=flow.window_operations,
            total_bytes=flow.total_bytes,
            total_operations=flow.total_operations,
            latency=self._histograms[(_READ, _WRITE)[kind]],
            timeline=self._timeline[kind],
            entries=self._entries[kind],
        )


def load_library() -> ctypes.CDLL:
    """The compiled core; raises CoreRefused if there is none that fits."""
    found = importlib.util.find_spec(f"{__package__}._core")
    if found is None or found.origin is None:
        raise CoreRefused("not compiled: there was no C compiler when mlps was installed")
    try:
        library = ctypes.CDLL(found.origin)
    except OSError as error:
        raise CoreRefused(f"cannot load the compiled core: {error}") from error
    declare(library, _signatures())
    sizes = (ctypes.c_uint32 * 4)()
    library.core_sizes(sizes)
    ours = (OPERATION.itemsize, *(ctypes.sizeof(each) for each in (_Config, _Account, Clocks)))
    if tuple(sizes) != ours:
        raise CoreRefused("the compiled core is of another version: install mlps again")
    return library


def declare(library: ctypes.CDLL, signatures: Mapping[str, Signature]) -> None:
    """Tells a library what its functions take and return; raises CoreRefused if one is missing."""
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name, None)
        if function is None:
            raise CoreRefused("the compiled core is of another version: install mlps again")
        function.restype, function.argtypes = result, arguments


def _signatures() -> dict[str, Signature]:
    core, shard = ctypes.c_void_p, ctypes.c_uint32
    return {
        "core_open": (core, (ctypes.c_void_p, ctypes.c_char_p)),
        "core_unregistered": (ctypes.c_char_p, (core,)),
        "core_reopen": (None, (core, ctypes.c_void_p, ctypes.c_uint32)),
        "core_start": (None, (core, ctypes.c_void_p, ctypes.c_void_p)),
        "core_room": (ctypes.c_bool, (core, shard)),
        "core_feed": (None, (core, shard, ctypes.c_void_p, ctypes.c_uint32)),
        "core_fed_all": (None, (core, shard)),
        "core_wait": (ctypes.c_uint32, (core, ctypes.c_int64)),
        "core_end": (None, (core,)),
        "core_join": (None, (core,)),
        "core_close": (None, (core,)),
        "core_sizes": (None, (ctypes.c_void_p,)),
        "core_bucket": (ctypes.c_uint32, (ctypes.c_uint64, ctypes.c_uint32)),
    }


def _tell_live(control: Control, accounts: _Accounts) -> None:
    control.read_bytes = [account.flows[0].total_bytes for account in accounts]
    control.written_bytes = [account.flows[1].total_bytes for account in accounts]


def _allow_locked_memory() -> None:
    """Registered buffers count as locked memory for all but root: asks for all that is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
