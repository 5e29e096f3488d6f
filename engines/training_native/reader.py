"""Readers of batches: what any of them offers, what it needs to know, and which one is taken.

A reader carries out a table of reads in its order by some threads, a bounded number of batches
ahead of its consumer, and throws the bytes away. Two do the same: one in C, which needs the
interpreter for no read, and one of Python threads where there is no compiler. A reader reads one
sequence of batches, as an epoch is, and is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, storage_error
from ..io_core.account import TIMELINE_BINS
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.executor import CoreRefused, Refusal
from ..io_core.failures import Place, failed_call, short_transfer
from ..io_core.files import probe_direct
from ..io_core.histogram import Histogram, Int64s
from ..io_core.operations import LOAD

if TYPE_CHECKING:
    from ..meeting import NativeMeeting
    from .native_steps import NativeSteps

ReaderChoice = Literal["auto", "c", "python"]

# Blocks that a reader holds at most. A block should have as many batches as are read in seconds.
BLOCKS_HELD = 4
DEFAULT_BUFFER_BYTES = 8 * 2**20
# How long a wait or a sleep lasts before the interpreter may look at its signals.
PATIENCE_NS = 100_000_000
_LARGEST_OFFSET = 2**62

# Packed and little-endian: `struct read_row` in C.
READ = np.dtype(
    [
        ("offset", "<u8"),  # bytes from the start of the file
        ("length", "<u8"),  # bytes
        ("file", "<u4"),  # index in the block's paths
        ("batch", "<u4"),  # within the block
    ]
)
Reads = NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How batches are read.

    `look_ahead` is how many batches are read that the consumer has not released, at least 1. A
    read goes in pieces of `buffer_bytes`, a multiple of 4 KiB, of which each thread has one.
    `descriptors` is how many files stay open between reads, 0 closes each after its read. With
    `direct` the page cache is bypassed, where the file system allows it; with `evict` what was read
    is dropped from there. Without `enabled` nothing is opened or read, all else is the same.
    With `checksum` all bytes are summed up, see `checksum_of`.
    """

    directory: Path
    threads: int
    look_ahead: int
    buffer_bytes: int = DEFAULT_BUFFER_BYTES
    descriptors: int = 0
    direct: bool = False
    evict: bool = False
    enabled: bool = True
    checksum: bool = False
    core: ReaderChoice = "auto"

    def __post_init__(self) -> None:
        if min(self.threads, self.look_ahead, self.buffer_bytes) < 1 or self.descriptors < 0:
            raise ValueError(f"a reader without threads, batches or memory: {self}")
        if self.buffer_bytes % BLOCK_BYTES:
            raise ValueError(f"a buffer is a multiple of {BLOCK_BYTES} bytes: {self.buffer_bytes}")

    @property
    def memory_bytes(self) -> int:
        """What all buffers take."""
        return self.threads * self.buffer_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Reads of consecutive batches, in their order; a batch may have none.

    `paths` are relative to the reader's directory, `numbers` those files' in the dataset, by which
    open files are known. Shapes (files,), `reads` of type READ.
    """

    paths: Sequence[str]
    numbers: NDArray[np.uint32]
    reads: Reads
    batches: int

    def __post_init__(self) -> None:
        reads = self.reads
        if self.batches < 1 or len(self.paths) != len(self.numbers):
            raise ValueError(f"{self.batches} batches, {len(self.paths)} paths, of other files")
        if len(reads) == 0:
            return
        if reads["file"].max() >= len(self.paths) or reads["batch"].max() >= self.batches:
            raise ValueError("a read of a file or a batch that the block does not have")
        if np.any(reads["batch"][1:] < reads["batch"][:-1]):
            raise ValueError("the reads of a block are not in the order of its batches")
        if max(reads["offset"].max(), reads["length"].max()) > _LARGEST_OFFSET:
            raise ValueError("a read that no file is large enough for")


class Step(NamedTuple):
    """How long the consumer waited for a batch, and how long it computed."""

    load_ns: int
    compute_ns: int


@dataclass(slots=True, kw_only=True)
class ReaderAccount:
    """What was read. `transferred_bytes` also has what direct reads must take beside it.

    `calls` are those of pread, `opens` those of open. A read lasts from before its open to its last
    byte, a batch from the start of its first read to the end of its last. `timeline` has the bytes
    of each second since the reader was made, `ahead_max` how many batches were open at most.
    """

    read_bytes: int = 0
    transferred_bytes: int = 0
    calls: int = 0
    reads: int = 0
    opens: int = 0
    batches: int = 0
    ahead_max: int = 0
    checksum: int = 0
    reads_ns: Histogram = field(default_factory=Histogram)
    batches_ns: Histogram = field(default_factory=Histogram)
    timeline: Int64s = field(default_factory=lambda: np.zeros(TIMELINE_BINS, dtype=np.int64))


Idle = Callable[[], bool]


def always() -> bool:
    """Nothing else is to be seen to: a step goes on."""
    return True


class Reader(Protocol):
    """Reads batches for one consumer, on whose thread all is called but `stop`.

    Its name stands in the result, and why a better one or direct I/O could not be had.
    """

    name: str
    refused: tuple[Refusal, ...]
    direct_refused: str | None

    @property
    def room(self) -> bool:
        """Whether another block is taken; some reads are to be fed before the last ones start."""

    def feed(self, block: Block) -> None:
        """Takes the batches that follow those fed before. Raises EngineError if direct I/O cannot
        be tried on its first file, ValueError without room."""

    def end(self) -> None:
        """No further block comes."""

    def wait(self, batch: int) -> int:
        """Waits until a batch, counted from 0, and all before it were read; returns the ns of that.

        Raises EngineError if a read failed or the reader was stopped, ValueError for a batch that
        was not fed, was released or lies beyond the look-ahead: it would never come.
        """

    def release(self, batch: int) -> None:
        """Lets go of a batch that was waited for, and of all before it, so that others are read."""

    def step(self, batch: int, compute_ns: int, idle: Idle = always) -> Step:
        """Waits for a batch, and computes for exactly that time, which is to sleep.

        The batch is released as the computation begins, that others are read meanwhile. A step that
        lasts asks `idle` now and then; after a no it ends as if the reader were stopped.
        """

    def steps(self, meeting: NativeMeeting | None, compute_ns: int) -> NativeSteps | None:
        """Steps that go on in C, each with a meeting; None where this is not possible."""

    def account(self) -> ReaderAccount:
        """All that was counted so far."""

    def stop(self) -> None:
        """Starts no further call and ends a wait; on any thread."""

    def close(self) -> None:
        """Stops, ends all threads and frees all; may be called again."""


def reader_for(settings: Reading) -> Reader:
    """The best reader that works here; raises EngineError if the one asked for does not."""
    from .reader_core import CoreReader
    from .reader_threads import ThreadReader

    if settings.core == "python":
        return ThreadReader(settings)
    try:
        return CoreReader(settings)
    except CoreRefused as error:
        if settings.core != "auto":
            raise EngineError(f"the reader in C does not work here: {error}") from error
        return ThreadReader(settings, [Refusal(core="c", reason=str(error))])


def direct_refusal(settings: Reading, block: Block) -> str | None:
    """Why a block's files cannot be read past the page cache, by the first of them."""
    if not block.paths:
        return None
    return probe_direct(settings.directory / block.paths[0])[1]


def was_stopped() -> EngineError:
    """What a wait ends with when nothing comes any more."""
    return EngineError("the reader was stopped")


def failed_start(directory: Path, number: int) -> EngineError:
    """A directory that cannot be opened, or threads that cannot be started, with this errno."""
    return storage_error(OSError(number, os.strerror(number)), "start readers of", directory)


def failed_open(path: Path, number: int) -> EngineError:
    """An open that returned this errno."""
    return storage_error(OSError(number, os.strerror(number)), "open", path)


def failed_read(path: Path, offset_bytes: int, number: int) -> EngineError:
    """A read that returned this errno."""
    return failed_call(Place(kind=LOAD, path=path, offset_bytes=offset_bytes), number)


def short_read(path: Path, offset_bytes: int, moved_bytes: int, length_bytes: int) -> EngineError:
    """A file that ends inside a read."""
    place = Place(kind=LOAD, path=path, offset_bytes=offset_bytes)
    return short_transfer(place, moved_bytes, length_bytes)


def checksum_of(data: bytes | memoryview, number: int, offset_bytes: int) -> int:
    """The sum of bytes of a file, each weighed by the file and by its place there, modulo 2^64.

    Sums of parts add up to that of the whole, in whatever order.
    """
    values = np.frombuffer(data, dtype=np.uint8).astype(np.uint64) + np.uint64(1)
    first = ((number << 41) + 2 * offset_bytes + 1) % 2**64
    weights = np.arange(len(values), dtype=np.uint64) * np.uint64(2) + np.uint64(first)
    return int((values * weights).sum(dtype=np.uint64))
