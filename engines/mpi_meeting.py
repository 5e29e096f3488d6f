"""Meetings of MPI's ranks after each of many steps, by messages that are set up once.

In round k each rank sends to the one 2^k places after it and receives from the one 2^k places
before, so that after log2(ranks) rounds it has heard of all. A collective of MPI would do the same;
those that can be waited for without a core take several times as long.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .meeting import NativeMeeting

if TYPE_CHECKING:
    from mpi4py import MPI

# Who is this much later than others is waited for without a core: in naps of a part of the time
# that was waited, so that they add little to it and take little of the processor.
_SPIN_NS = 100_000
_NAP_PART = 32
_NAP_LEAST_S = 20e-6
_NAP_MOST_S = 1e-3


class MpiMeeting:
    """A communicator of its own, with the requests of all rounds."""

    def __init__(self, world: MPI.Intracomm) -> None:
        rank, ranks = world.Get_rank(), world.Get_size()
        rounds = (ranks - 1).bit_length()
        self._world = world
        self._received = np.zeros(rounds, dtype=np.int32)
        self._sent = np.zeros(rounds, dtype=np.int32)
        self._receives = [
            world.Recv_init(self._received[k : k + 1], source=(rank - 2**k) % ranks, tag=k)
            for k in range(rounds)
        ]
        self._sends = [
            world.Send_init(self._sent[k : k + 1], dest=(rank + 2**k) % ranks, tag=k)
            for k in range(rounds)
        ]
        self.native = self._native()

    def meet(self, leaves: bool, idle: Callable[[], None]) -> bool:
        """See `Meeting`."""
        anybody = int(leaves)
        for k, (receive, send) in enumerate(zip(self._receives, self._sends, strict=True)):
            self._sent[k] = anybody
            receive.Start()
            send.Start()
            _wait(receive, idle)
            _wait(send, idle)
            anybody |= int(self._received[k])
        return bool(anybody)

    def close(self) -> None:
        """Frees requests and communicator; called by all ranks."""
        for request in (*self._receives, *self._sends):
            request.Free()
        self._world.Free()

    def _native(self) -> NativeMeeting | None:
        from mpi4py import MPI

        library = _loaded_mpi()
        addresses = [
            ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            for name in ("MPI_Start", "MPI_Test")
            if library is not None
        ]
        # One rank that cannot takes all others along: they go through the same rounds either way.
        if len(addresses) < 2 or None in addresses:
            return None
        start, test = (address or 0 for address in addresses)
        return NativeMeeting(
            start=start,
            test=test,
            receives=tuple(MPI._addressof(request) for request in self._receives),
            sends=tuple(MPI._addressof(request) for request in self._sends),
            received=self._received,
            sent=self._sent,
        )


def _wait(request: MPI.Prequest, idle: Callable[[], None]) -> None:
    if request.Test():
        return
    begun_ns = time.monotonic_ns()
    while not request.Test():
        waited_ns = time.monotonic_ns() - begun_ns
        if waited_ns > _SPIN_NS:
            time.sleep(min(_NAP_MOST_S, max(_NAP_LEAST_S, waited_ns / 1e9 / _NAP_PART)))
            idle()


def _loaded_mpi() -> ctypes.CDLL | None:
    """The MPI library that mpi4py has loaded, if it can be told which one that is."""
    lines = Path("/proc/self/maps").read_text("utf-8", "replace").splitlines()
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/libmpi.so" in line}
    if len(paths) != 1:
        return None
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(paths.pop())
        if library.MPI_Start and library.MPI_Test:
            return library
    return None
