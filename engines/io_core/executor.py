"""What any executor of operations offers, what it needs to know beforehand, and which one is taken.

Three do the same by different means: io_uring in C, threads in C, threads in Python. The chain is
tried in this order, and what was refused on the way is kept. A fourth, noop, moves no bytes at all:
what a plan does without storage, and how fast. It is taken only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..errors import EngineError
from .account import Account
from .blocks import BLOCK_BYTES
from .control import Control
from .files import OpenFiles
from .operations import Stream

Verify = Literal["content", "all", "sampled", "none"]
Durability = Literal["none", "fdatasync", "dsync"]
CoreChoice = Literal["auto", "uring", "threads", "python", "noop"]

DEFAULT_IO_BYTES = 2**20
# Rings of a rank unless the workload says otherwise: one core can drive a fast device, two hide
# that one of them is verifying.
_DEFAULT_RINGS = 2
# Of sampled reads, one in this number is verified.
SAMPLE_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """For tests: what becomes of the `after`-th transfer of a shard once it is complete.

    `result` as a system call gives it: a negative errno, or a number of bytes.
    """

    after: int
    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How operations are carried out. All numbers are those of the whole rank.

    `depth` is how many transfers are in flight at most, each of at most `io_size_bytes`;
    `largest_bytes` bounds an operation. `rings` divides all that, None for a default.
    `requests_in_flight` and `store_cap` bound the requests and the stores in flight, None for no
    bound. With `open_loop` a request waits for its arrival; more than `backlog_limit` requests that
    have arrived and not started end the run, None lets them wait. `gate_slots` is how many slots
    gated rows may name. With `chunk_files` files are directories and each chunk has a file of its
    own in there. `key` is the run's part of every stamp, `pool_seed` makes what is written
    around the stamps: as it comes, or with `pool_bytes` at its place, as blocks.py says, so that
    all of it can be compared; `verify` content does that, with a pool of the longest transfer
    unless `pool_bytes` says otherwise. With `dsync` the files must have been opened for it. The
    noop core verifies nothing.
    """

    depth: int
    key: int
    pool_seed: int
    largest_bytes: int
    verify: Verify
    durability: Durability
    rings: int | None = None
    pool_bytes: int | None = None
    io_size_bytes: int = DEFAULT_IO_BYTES
    requests_in_flight: int | None = None
    store_cap: int | None = None
    open_loop: bool = False
    backlog_limit: int | None = 10_000
    gate_slots: int = 0
    chunk_files: bool = False
    core: CoreChoice = "auto"
    fault: Fault | None = None

    def __post_init__(self) -> None:
        if self.pool_bytes is not None and (self.pool_bytes < 1 or self.pool_bytes % BLOCK_BYTES):
            raise ValueError(f"a pool of {self.pool_bytes} bytes is not one of whole blocks")

    @property
    def placed(self) -> bool:
        """Whether what lies around stamps follows from its place in the file."""
        return self.pool_bytes is not None or self.verify == "content"

    @property
    def period_bytes(self) -> int:
        """Length of the pool."""
        return self.pool_bytes or self.transfer_bytes

    @property
    def transfer_bytes(self) -> int:
        """The longest transfer: a chunk's own file is read and written in one."""
        if self.chunk_files:
            return self.largest_bytes
        return min(self.io_size_bytes, self.largest_bytes)

    @property
    def shards(self) -> int:
        """Rings: each needs a part of every number that is divided."""
        bounds = (self.depth, self.requests_in_flight, self.store_cap)
        wanted = _DEFAULT_RINGS if self.rings is None else self.rings
        return max(min(wanted, *(bound for bound in bounds if bound is not None)), 1)

    @property
    def python_threads(self) -> int:
        """Shards of the executor in Python: one for each transfer in flight, or each request."""
        return min(self.depth, self.requests_in_flight or self.depth)

    @property
    def buffer_bytes(self) -> int:
        """Memory for transfers, whichever core it is in the end.

        One to read into and one to write from for each in flight, and one more for each that is
        being verified; in Python two for each thread, of a whole operation.
        """
        pool_bytes = self.period_bytes if self.placed else 0
        return self.depth * max(3 * self.transfer_bytes, 2 * self.largest_bytes) + pool_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A core, or a part of it, that could not be used, and why."""

    core: str
    reason: str


class CoreRefused(EngineError):
    """A core does not work here."""


class Executor(Protocol):
    """Carries out operations. Its name stands in the result."""

    name: str
    shards: int
    refused: tuple[Refusal, ...]

    def execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        """Works off as many streams as there are shards until all end or `control` ends them.

        Returns when nothing is in flight any more. Raises EngineError at the first failure of any
        shard; the account holds what was done until then.
        """

    def reopen(self, files: OpenFiles) -> None:
        """Goes on with other files, however many, opened in the same way; between two executes.

        Those before may be closed then. None of them is kept open, once the next execute begins.
        """

    def close(self) -> None:
        """Frees threads and memory; the executor is of no use any more."""


def executor_for(files: OpenFiles, settings: Settings) -> Executor:
    """The best executor that works here; raises EngineError if the one that is asked for does not.

    A chunk's own file is opened and renamed, for which a ring would need threads of its own.
    """
    from .core import CoreExecutor, Transport
    from .threads import ThreadExecutor

    fast: list[Transport] = ["threads"] if settings.chunk_files else ["uring", "threads"]
    refused: list[Refusal] = []
    if settings.core == "noop":
        fast = ["noop"]
    elif settings.core != "auto":
        fast = [transport for transport in fast if transport == settings.core]
        if settings.core == "uring" and not fast:
            raise EngineError("io.core uring does not work with a file for each chunk")
    for transport in fast:
        try:
            return CoreExecutor(transport, files, settings, refused)
        except CoreRefused as error:
            if settings.core != "auto":
                raise EngineError(f"io.core {settings.core} does not work here: {error}") from error
            refused.append(Refusal(core=transport, reason=str(error)))
    return ThreadExecutor(files, settings, refused)
