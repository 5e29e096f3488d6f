"""The ranks of a launch: alone without MPI, or many with it.

Only the main thread of a rank may use its world.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .meeting import Meeting, SoloMeeting
from .mpi_meeting import MpiMeeting
from .watch import Watch

if TYPE_CHECKING:
    from mpi4py import MPI

Value = TypeVar("Value")

# One of these is in the environment of every process that an MPI launcher has started.
_LAUNCHER_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID")
# Which of a host's ranks a process is, as launchers tell it, and how many there are.
_LOCAL_RANKS = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
_ON_ONE_HOST = (
    ("MPI_LOCALNRANKS", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"),
)
_SEGMENTS = ("/dev/shm/mpich_shm_", "/dev/shm/sm_segment.")
_NAP_S = 0.002


@dataclass(frozen=True, slots=True)
class Letter:
    """A message and the rank that sent it."""

    sender: int
    content: object


class World(Protocol):
    """What the ranks do together. Values gathered or summed are meaningful on rank 0 only.

    Where ranks wait for others, the watch sees to it that they do not wait for ever.
    """

    watch: Watch

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def barrier(self, *, more_s: float = 0.0) -> None:
        """Returns in all ranks at the same moment; waits without burning a core.

        `more_s` is what a rank may need beyond the watch's limit until it comes here.
        """

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks in rank order on rank 0, an empty list elsewhere."""

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, in every rank."""

    def sum_counts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The element-wise sum of all ranks' counts on rank 0."""

    def open_meeting(self) -> Meeting:
        """Where all ranks meet after each of many steps; called by all of them."""

    def send(self, rank: int, content: object) -> None:
        """Sends a small message."""

    def receive(self) -> Letter | None:
        """The next message that has arrived, in the order of each sender; None if there is none."""

    def abort(self) -> NoReturn:
        """Ends all ranks at once."""


def open_world(environment: Mapping[str, str]) -> World:
    """The world of this process; MPI is started only when an MPI launcher started the process."""
    return MpiWorld() if _is_launched(environment) else SoloWorld()


def starts_a_host(environment: Mapping[str, str]) -> bool:
    """Whether this process is the first rank of one of several hosts, by what its launcher says."""
    if not _is_launched(environment) or any(
        environment.get(here) == environment.get(everywhere)
        for here, everywhere in _ON_ONE_HOST
        if here in environment
    ):
        return False
    return next((environment[name] for name in _LOCAL_RANKS if name in environment), "0") == "0"


def host_name() -> str:
    """The name by which this host is reported."""
    return socket.gethostname()


def _is_launched(environment: Mapping[str, str]) -> bool:
    if any(name in environment for name in _LAUNCHER_VARIABLES):
        return True
    # srun sets this for every program; only with a PMI beside it is the program an MPI rank.
    return "SLURM_PROCID" in environment and any(name.startswith("PMI") for name in environment)


def _unlink_segments() -> None:
    """Removes the names of MPI's shared memory, which all ranks of the host have mapped by now.

    MPICH and Open MPI 5 do it at their end only: what killed ranks leave would fill the memory of
    the host, some MiB each time.
    """
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            name = line.split(maxsplit=5)[-1]
            if name.startswith(_SEGMENTS) and not name.endswith("(deleted)"):
                Path(name).unlink(missing_ok=True)


class SoloWorld:
    """One process without MPI."""

    rank = 0
    size = 1

    def __init__(self) -> None:
        self.watch = Watch()

    def barrier(self, *, more_s: float = 0.0) -> None:
        """Nobody to wait for."""

    def gather(self, value: Value) -> list[Value]:
        """The only value."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """The only value."""
        return value

    def sum_counts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The only counts."""
        return counts

    def open_meeting(self) -> Meeting:
        """A meeting of one."""
        return SoloMeeting()

    def send(self, rank: int, content: object) -> None:
        """There is no other rank."""
        raise ValueError(f"one rank only, cannot send to rank {rank}: {content!r}")

    def receive(self) -> Letter | None:
        """No other rank ever sends."""
        return None

    def abort(self) -> NoReturn:
        """Ends this process without waiting for threads that may hang in I/O."""
        sys.stderr.flush()
        os._exit(1)


class MpiWorld:
    """The ranks of MPI's world, through mpi4py."""

    def __init__(self) -> None:
        import mpi4py

        # Only the main thread talks: the library then needs no locks.
        mpi4py.rc.thread_level = "funneled"
        from mpi4py import MPI

        self.watch = Watch()
        self._mpi = MPI
        self._world: MPI.Intracomm = MPI.COMM_WORLD
        self._has_met = False

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return self._world.Get_rank()

    @property
    def size(self) -> int:
        """Number of processes."""
        return self._world.Get_size()

    def barrier(self, *, more_s: float = 0.0) -> None:
        """Naps until all ranks are here, then meets them in a barrier that spins for a moment."""
        with self._met(more_s=more_s):
            self._world.Barrier()

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks in rank order on rank 0, an empty list elsewhere."""
        with self._met():
            gathered: list[Value] | None = self._world.gather(value, root=0)
        return gathered or []

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, in every rank."""
        with self._met():
            result: Value = self._world.bcast(value, root=0)
        return result

    def sum_counts(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The element-wise sum of all ranks' counts on rank 0, zeros elsewhere."""
        total = np.zeros_like(counts)
        with self._met():
            self._world.Reduce(counts, total, op=self._mpi.SUM, root=0)
        return total

    def open_meeting(self) -> Meeting:
        """A meeting of all ranks."""
        with self._met():
            return MpiMeeting(self._world.Dup())

    def send(self, rank: int, content: object) -> None:
        """Sends a small message; it is buffered, so this does not wait for the receiver."""
        self._world.send(content, dest=rank)

    def receive(self) -> Letter | None:
        """The next message that has arrived, in the order of each sender; None if there is none."""
        status = self._mpi.Status()
        if not self._world.Iprobe(status=status):
            return None
        content: Any = self._world.recv(source=status.Get_source(), tag=status.Get_tag())
        return Letter(status.Get_source(), content)

    def abort(self) -> NoReturn:
        """Ends all ranks at once."""
        sys.stderr.flush()
        self._world.Abort(1)
        os._exit(1)

    @contextmanager
    def _met(self, *, more_s: float = 0.0) -> Iterator[None]:
        """Does the block when all ranks are here."""
        with self.watch.waiting("some of the other ranks", more_s=more_s):
            # MPI waits by spinning, which would take cores from ranks that still do I/O.
            arrival = self._world.Ibarrier()
            while not arrival.Test():
                time.sleep(_NAP_S)
            if not self._has_met:
                self._has_met = True
                _unlink_segments()
            yield
