"""Rank 0's talk with its caller: JSON lines out, the words `ok` and `stop` in."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from .contract import Document

OK_LIMIT_S = 60.0
PROGRESS_S = 0.5
# Once standard input has ended no `ok` can come; what was written still needs time to travel.
_ENDED_GRACE_S = 1.0


def protect_stdout() -> int:
    """Points descriptor 1 at standard error and returns a descriptor of the real output.

    A library's stray print can then never be taken for an event.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    return saved


class Console:
    """The caller's end of the protocol, used on rank 0 only."""

    def __init__(self, output: int) -> None:
        self._output = output
        self._progress_due_s = 0.0
        self._stop = threading.Event()
        self._answered = threading.Event()
        self._input_ended = threading.Event()

    @property
    def stop_requested(self) -> bool:
        """Whether somebody asked for a graceful end."""
        return self._stop.is_set()

    def emit(self, event: Document) -> None:
        """Writes one event as a line."""
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        view = memoryview(line)
        while view:
            view = view[os.write(self._output, view) :]

    def progress(self, make_event: Callable[[], Document]) -> None:
        """Writes the event that `make_event` makes, unless the last one was a moment ago."""
        now_s = time.monotonic()
        if now_s >= self._progress_due_s:
            self._progress_due_s = now_s + PROGRESS_S
            self.emit(make_event())

    def listen(self) -> None:
        """Starts to read standard input, for as long as the process lives."""
        threading.Thread(target=self._listen, name="stdin", daemon=True).start()

    def wait_for_ok(self, limit_s: float = OK_LIMIT_S) -> None:
        """Returns when the caller has confirmed the result, or cannot any more, or at the limit."""
        deadline = time.monotonic() + limit_s
        while not self._answered.wait(0.05) and time.monotonic() < deadline:
            if self._input_ended.is_set():
                self._answered.wait(_ENDED_GRACE_S)
                return

    def stop_on_signals(self) -> None:
        """Takes SIGTERM and SIGINT as the word `stop`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _listen(self) -> None:
        # Not through sys.stdin: a thread blocked in its buffer cannot be left at interpreter exit.
        rest = b""
        while data := _read_input():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line.strip())
        self._hear(rest.strip())
        self._input_ended.set()

    def _hear(self, word: bytes) -> None:
        if word == b"stop":
            self._stop.set()
        elif word == b"ok":
            self._answered.set()


def ignore_signals() -> None:
    """For the other ranks: rank 0 decides when to stop, only the launcher ends them sooner."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _read_input() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:  # standard input is closed, or a terminal of the background
        return b""
