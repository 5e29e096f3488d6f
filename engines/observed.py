"""What timed I/O of a stage is told by: its window, processor time, and counters of the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .io_core.control import Control
from .io_core.counts import Counter
from .io_core.meter import Meter
from .result import Outcome, usage_now, window_of


@contextmanager
def observed(
    outcome: Outcome,
    counters: Sequence[Counter],
    control: Control,
    last_ns: Callable[[], int],
) -> Iterator[None]:
    """Reports all of that about what is done inside, however it ends.

    `last_ns` gives the monotonic clock of the last completion, once all is done.
    """
    meter = Meter(counters, control)
    try:
        with meter:
            before = usage_now()
            try:
                yield
            finally:
                outcome.window = window_of(control, last_ns())
                outcome.usage = usage_now().since(before)
    finally:
        outcome.moved = meter.moved()
