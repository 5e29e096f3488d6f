"""Meetings of all ranks after each of many steps: a barrier that tells whether anybody must end.

So all ranks leave after the same step, whichever of them failed or was told to stop first, and none
waits for one that has left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import EngineError
from .io_core.control import Control

# How often a rank looks at its messages between steps and while it waits.
_LOOK_S = 0.1
_BESIDE_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeMeeting:
    """A meeting as code in C goes through it: functions of MPI and requests, by their addresses.

    The requests of round k are the k-th; what they carry is one number each, shape (rounds,).
    """

    start: int
    test: int
    receives: tuple[int, ...]
    sends: tuple[int, ...]
    received: NDArray[np.int32]
    sent: NDArray[np.int32]


class Meeting(Protocol):
    """Where all ranks meet; opened and closed by all of them together.

    `native` is the same for code in C, None where there is no way: all ranks go the same one.
    """

    native: NativeMeeting | None

    def meet(self, leaves: bool, idle: Callable[[], None]) -> bool:
        """Waits until all ranks are here; whether any of them leaves. Calls `idle` meanwhile."""

    def close(self) -> None:
        """Lets go of what it holds."""


class SoloMeeting:
    """One rank alone."""

    native: NativeMeeting | None = NativeMeeting(
        start=0,
        test=0,
        receives=(),
        sends=(),
        received=np.zeros(0, dtype=np.int32),
        sent=np.zeros(0, dtype=np.int32),
    )

    def meet(self, leaves: bool, idle: Callable[[], None]) -> bool:
        """Nobody else could leave."""
        del idle
        return leaves

    def close(self) -> None:
        """It holds nothing."""


class Together:
    """How the main threads go through the steps of a phase. In all ranks the same calls are made.

    After the first False of `do` or `meet` none may be made any more.
    """

    def __init__(self, meeting: Meeting, control: Control, look: Callable[[], None]) -> None:
        self.control = control
        self.native = meeting.native
        self._meeting = meeting
        self._look = look
        self._due_s = 0.0

    def do(self, work: Callable[[], None]) -> bool:
        """Does work in all ranks; False where any failed in it with an EngineError or is to stop.

        What lasts calls `idle` now and then.
        """
        try:
            work()
        except EngineError as error:
            self.control.fail(str(error))
        return self.meet()

    def meet(self) -> bool:
        """Waits for all ranks; False if any of them has failed or was stopped."""
        if time.monotonic() >= self._due_s:
            self.idle()
        return not self._meeting.meet(self.control.stopped, self.idle)

    def idle(self) -> None:
        """Sees to the messages of other ranks, if it is time to."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + _LOOK_S
            self._look()


class Beside:
    """Work that lasts, in a thread of its own, while the main thread sees to its messages."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._raised: list[BaseException] = []
        self._thread = threading.Thread(target=self._do, args=(work,), name=name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises what the work has raised so far."""
        for error in self._raised:
            raise error

    def wait(self, idle: Callable[[], None]) -> None:
        """Waits for its end, and raises what it raised; calls `idle` meanwhile."""
        while self._thread.is_alive():
            self._thread.join(_BESIDE_S)
            idle()
        self.check()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # raised again in the main thread
            self._raised.append(error)
