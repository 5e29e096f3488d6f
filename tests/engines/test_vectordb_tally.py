"""What a second has read is told in that second, and to whoever looks on."""

from __future__ import annotations

import pytest

from mlps.engines.io_core.control import Control
from mlps.engines.vectordb import tally as module
from mlps.engines.vectordb.process_reads import ProcessReads
from mlps.engines.vectordb.tally import Tally

SECOND = 10**9
START_NS = 5 * SECOND


class Kernel:
    """Counts what the test says; None: it does not."""

    def __init__(self):
        self.read_bytes = 7

    def read(self):
        if self.read_bytes is None:
            return None
        return ProcessReads(read_bytes=self.read_bytes, requested_bytes=0, calls=0, major_faults=0)

    def close(self):
        pass


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(module, "ProcessCounter", lambda: kernel)
    return kernel


def told(kernel, *requests, took_ns=3):
    """The tally of requests that ended at a second after reading so much."""
    control = Control()
    control.clocks.start_ns = START_NS
    tally = Tally(limit_ns=60 * SECOND)
    tally.begin(control)
    for ended_s, read_bytes in requests:
        kernel.read_bytes = None if read_bytes is None else kernel.read_bytes + read_bytes
        ended_ns = START_NS + round(ended_s * SECOND)
        tally.answered(ended_ns - took_ns - 2, ended_ns - took_ns, ended_ns, 2)
    tally.end()
    return tally, control


def test_bytes_are_in_the_second_in_which_requests_ended(kernel):
    tally, control = told(kernel, (0.1, 10), (0.9, 20), (1.1, 0), (1.2, 5), (5.0, 1000))
    timeline = tally.counts.timeline
    assert timeline.queries == [4, 4, 0, 0, 0, 2]
    # What passes into another second has that of its first request with it.
    assert sum(timeline.size_bytes) == tally.counts.process.read_bytes == 1035
    assert timeline.size_bytes[0] == 30
    assert control.moved_bytes() == (1035, 0)


def test_what_long_requests_have_read_is_in_the_second_in_which_they_end(kernel):
    requests = ((1.5, 100), (3.0, 200), (4.5, 300), (4.9, 10))
    tally, _ = told(kernel, *requests, took_ns=SECOND)
    assert tally.counts.timeline.queries == [0, 2, 0, 2, 4]
    assert tally.counts.timeline.size_bytes == [0, 100, 0, 200, 310]


def test_an_unknown_count_makes_all_unknown(kernel):
    tally, _ = told(kernel, (0.5, 10), (1.5, None))
    assert tally.counts.process is None
    assert tally.counts.timeline.size_bytes is None
    assert tally.counts.timeline.queries == [2, 2]


def test_no_requests_are_no_queries(kernel):
    tally, _ = told(kernel)
    assert tally.counts.timeline.queries == [0]
    assert tally.counts.process.read_bytes == 0
    assert tally.latency.count == 0


def test_times_are_from_arrival_and_from_begin(kernel):
    tally, _ = told(kernel, (0.5, 0))
    assert (tally.latency.maximum, tally.service.maximum) == (5, 3)
