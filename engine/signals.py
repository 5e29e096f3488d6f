"""Counts requests to stop (Ctrl-C, SIGTERM, SIGHUP): one is graceful, two are not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """How often somebody asked for the end, and with which signal first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: str | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.first is None:
            self.first = signal.Signals(number).name

    @property
    def asked(self) -> bool:
        """Whether a stop was asked for at all."""
        return self.count > 0


@contextmanager
def catch_stop_requests(
    numbers: Sequence[signal.Signals] = STOP_SIGNALS,
) -> Iterator[StopRequests]:
    """Count the signals that ask for an end while the block runs, instead of dying of them."""
    requests = StopRequests()
    before = {number: signal.signal(number, requests) for number in numbers}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def cpu_limit(limit_s: float) -> Iterator[None]:
    """End the block with TimeoutError once it has used so much time of the processor.

    Only the main thread is told of signals; in others the block has no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _out_of_time)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError
