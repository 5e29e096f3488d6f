"""What the threads of one phase share with the main thread that supervises them."""

from __future__ import annotations

import ctypes
import threading
import time

_NEVER_NS = 2**63 - 1


class Clocks(ctypes.Structure):
    """The window in memory that C reads while Python moves it; `struct clocks` in _core.h."""

    _fields_ = (
        ("start_ns", ctypes.c_int64),
        ("window_ns", ctypes.c_int64),
        ("end_ns", ctypes.c_int64),
    )


class Control:
    """The measured window, the wish to stop, the first failure, and live counts.

    Read and written by several threads without a lock: each field is replaced whole, and each
    place of a list has one writer. Only what several executes add up to needs one.
    """

    __slots__ = (
        "_duration_ns",
        "_earlier_bytes",
        "_lock",
        "_ramp_ns",
        "abandoned",
        "clocks",
        "done",
        "failure",
        "read_bytes",
        "start_unix_s",
        "stopped",
        "written_bytes",
    )

    def __init__(self, *, ramp_s: float = 0.0, duration_s: float | None = None) -> None:
        self._ramp_ns = round(ramp_s * 1e9)
        self._duration_ns = None if duration_s is None else round(duration_s * 1e9)
        self.clocks = Clocks(end_ns=_NEVER_NS)
        self.start_unix_s = 0.0
        self.stopped = False
        # The work hangs where nothing can end it: it is not waited for.
        self.abandoned = False
        self.failure: str | None = None
        self.done = 0
        # Of each shard of what is executed now.
        self.read_bytes: list[int] = []
        self.written_bytes: list[int] = []
        self._earlier_bytes = (0, 0)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts the clock; called in all ranks at the same moment."""
        clocks = self.clocks
        clocks.start_ns = time.monotonic_ns()
        self.start_unix_s = time.time()
        clocks.window_ns = clocks.start_ns + self._ramp_ns
        if self._duration_ns is not None:
            clocks.end_ns = clocks.window_ns + self._duration_ns

    def stop(self) -> None:
        """Ends the window now: nothing more is issued, what is in flight is the drain."""
        self.stopped = True
        self.finish()

    def finish(self) -> None:
        """Ends a window without a set length: all work is done."""
        self.clocks.end_ns = min(self.clocks.end_ns, time.monotonic_ns())

    def fail(self, message: str) -> None:
        """Keeps the first failure and stops."""
        if self.failure is None:
            self.failure = message
        self.stop()

    def abandon(self, message: str) -> None:
        """Fails without an end of the work, which may go on for ever."""
        self.fail(message)
        self.abandoned = True

    def shards(self, count: int) -> None:
        """Makes a place for the live counts of each shard; what was counted before is kept."""
        with self._lock:
            read, written = self._earlier_bytes
            self._earlier_bytes = (read + sum(self.read_bytes), written + sum(self.written_bytes))
            self.read_bytes = [0] * count
            self.written_bytes = [0] * count

    def moved_bytes(self) -> tuple[int, int]:
        """What was read and what was written since the start, as far as it is counted by now."""
        with self._lock:
            read, written = self._earlier_bytes
            return read + sum(self.read_bytes), written + sum(self.written_bytes)

    @property
    def start_ns(self) -> int:
        """The start on the monotonic clock."""
        return int(self.clocks.start_ns)

    @property
    def window_ns(self) -> int:
        """The window is [window_ns, end_ns) on the monotonic clock."""
        return int(self.clocks.window_ns)

    @property
    def end_ns(self) -> int:
        """No I/O is issued from here on."""
        return int(self.clocks.end_ns)

    def measures(self, ns: int) -> bool:
        """Whether a moment lies in the window."""
        return self.window_ns <= ns < self.end_ns

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return (time.monotonic_ns() - self.start_ns) / 1e9

    @property
    def length_s(self) -> float:
        """Length of the window, as cut by a stop."""
        return max(self.end_ns - self.window_ns, 0) / 1e9

    @property
    def ramp_s(self) -> float:
        """Seconds from the start to the window."""
        return self._ramp_ns / 1e9
