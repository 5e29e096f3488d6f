"""Ends a rank that nobody needs any more: the one that started it, or rank 0, has gone.

The host of these or the network may have gone with them, so the rank asks nobody and tells no other
rank through MPI, which could wait for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

# The caller has the same limits and knows more about all hosts: it is to be the first to act.
SPARE_S = 5.0

_TICK_S = 0.25
_PR_SET_PDEATHSIG = 1


class Watch:
    """A limit on waiting for other ranks, kept by a thread beside the main one.

    Waiting is counted in the thread's own ticks: a rank that got no time to run blames nobody.
    """

    def __init__(self) -> None:
        self.limit_s: float | None = None
        self.name = "this rank"
        self._wait: Wait | None = None
        self._thread: threading.Thread | None = None

    def keep(self, name: str, limit_s: float | None) -> None:
        """From now on the limit is this; None: there is none. `name` is the rank's, in words."""
        self.name, self.limit_s = name, limit_s
        if limit_s is not None and self._thread is None:
            self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
            self._thread.start()

    @contextlib.contextmanager
    def waiting(self, what: str, *, more_s: float = 0.0) -> Iterator[Wait]:
        """While the block runs, this rank waits; `what` it hears nothing of, for its last words.

        `more_s` is what others may need beyond the limit.
        """
        limit_s = None if self.limit_s is None else self.limit_s + more_s + SPARE_S
        self._wait = wait = Wait(what, limit_s)
        try:
            yield wait
        finally:
            self._wait = None

    def end(self, what: str, waited_s: float) -> NoReturn:
        """End this rank, and with it the others that the launcher's helper has started here."""
        # A reader of these words may have gone as well: they must not be waited for.
        with contextlib.suppress(OSError):
            os.set_blocking(2, False)
            os.write(2, f"{self.name} heard nothing of {what} for {waited_s:.0f} s\n".encode())
        end_hard()

    def _look(self) -> None:
        while True:
            time.sleep(_TICK_S)
            wait = self._wait
            if wait is not None and wait.is_over(_TICK_S):
                self.end(wait.what, wait.waited_s)


class Wait:
    """What a rank waits for, and for how long it has heard nothing of it."""

    def __init__(self, what: str, limit_s: float | None) -> None:
        self.what = what
        self.waited_s = 0.0
        self._limit_s = limit_s

    def heard(self) -> None:
        """It was a sign of life: the waiting begins anew."""
        self.waited_s = 0.0

    def is_over(self, tick_s: float) -> bool:
        """Whether the limit is passed, after so many seconds more."""
        self.waited_s += tick_s
        return self._limit_s is not None and self.waited_s > self._limit_s


def end_hard() -> NoReturn:
    """End this process, and the launcher's helper on this host, which takes other ranks along.

    Without a network the helper would wait for its launcher, for ever.
    """
    if os.getppid() != 1:
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), signal.SIGTERM)
    os._exit(1)


@contextlib.contextmanager
def start_limit(limit_s: float | None) -> Iterator[None]:
    """Ends this process hard when the block takes longer, even where MPI lets no thread run."""
    signal.setitimer(signal.ITIMER_REAL, 0 if limit_s is None else limit_s + SPARE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_with_parent() -> None:
    """From now on this process ends when the one that started it does.

    A launcher's helper on a host can be killed; its ranks would go on without it.
    """
    parent = os.getppid()
    if sys.platform == "linux" and _is_child_of_main_thread(parent):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended just before that call
            os._exit(1)
        return
    threading.Thread(target=_follow_parent, args=(parent,), name="parent", daemon=True).start()


def _is_child_of_main_thread(parent: int) -> bool:
    """Whether the kernel's signal at a parent's death comes at the death of the whole parent.

    It comes at the end of the thread that started this process, and that may be one of many.
    """
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return False
    return str(os.getpid()) in children


def _follow_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_TICK_S)
    os._exit(1)
