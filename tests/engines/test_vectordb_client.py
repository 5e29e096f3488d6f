"""A client whose clock is the test's: whom it asks when, and what it counts."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.vectordb.answers import Answers
from mlps.engines.vectordb.arrivals import Rate, arrivals
from mlps.engines.vectordb.client import Client, Requests

MS = 1_000_000
QUERIES = 5
START_NS = 10**12


class Service:
    """A backend that takes so long for a request, by a clock that only it and sleeps move."""

    def __init__(self, took_ms=1.0):
        self.now_ns = START_NS
        self.asked = []
        self.begun_ms = []
        self.took_ms = took_ms

    def clock(self):
        self.now_ns += 5000
        return self.now_ns

    def sleep(self, seconds):
        assert 0 < seconds <= 0.05
        self.now_ns += round(seconds * 1e9)

    def search(self, queries, k):
        self.asked.append(queries[:, 0].astype(int).tolist())
        self.begun_ms.append((self.now_ns - START_NS) / MS)
        took_ms = self.took_ms(len(self.asked)) if callable(self.took_ms) else self.took_ms
        self.now_ns += round(took_ms * MS)
        ids = np.tile(np.arange(k), (len(queries), 1))
        return ids, np.zeros((len(queries), k), dtype=np.float32)


def client(service, distinct=QUERIES, **changes):
    vectors = np.arange(distinct, dtype=np.float32)[:, None]
    requests = Requests(
        **{
            "backend": "own",
            "k": 3,
            "batch_size": 1,
            "queries": None,
            "limit_ns": 1000 * MS,
            "failures_most": 0,
            **changes,
        }
    )
    answers = Answers(queries=distinct, k=3, vectors=100)
    return Client(
        service.search, vectors, answers, requests, clock=service.clock, sleep=service.sleep
    )


def control(length_ms=None):
    found = Control()
    found.clocks.start_ns = found.clocks.window_ns = START_NS
    if length_ms is not None:
        found.clocks.end_ns = START_NS + length_ms * MS
    return found


def served(service, length_ms=None, **changes):
    """What a client has counted, once it is done."""
    one = client(service, **changes)
    one.work(control(length_ms))
    return one.tally


def at_rate(per_s, arrival="poisson", rank=0, ranks=1):
    return arrivals(Rate(per_s=per_s, arrival=arrival, seed=7), rank, ranks)


# ---------------------------------------------------------------- closed loop


def test_queries_are_asked_in_turn_until_the_window_ends():
    service = Service(10)
    counts = served(service, 75).counts
    # The last one was begun before the end, and counts with all of its time.
    assert service.asked == [[0], [1], [2], [3], [4], [0], [1], [2]]
    assert (counts.requests, counts.queries, counts.asked) == (8, 8, 8)
    assert counts.last_ns == pytest.approx(80 * MS, rel=0.01)
    assert (counts.arrivals, counts.unserved, counts.lag_ns) == (0, 0, 0)


def test_so_many_queries_are_asked_and_no_more():
    service = Service()
    counts = served(service, queries=13, batch_size=3).counts
    assert service.asked == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1], [2]]
    assert (counts.requests, counts.queries) == (5, 13)


def test_a_batch_may_have_more_queries_than_there_are():
    service = Service()
    assert served(service, queries=7, batch_size=7, distinct=2).counts.queries == 7
    assert service.asked == [[0, 1, 0, 1, 0, 1, 0]]


def test_a_client_without_queries_asks_nothing():
    service = Service()
    assert served(service, 10, distinct=0).counts.requests == 0
    assert service.asked == []


def test_latency_is_that_of_requests():
    tally = served(Service(lambda number: number), queries=9, batch_size=3)
    assert tally.latency.count == 3
    assert (tally.latency.minimum, tally.latency.maximum) == pytest.approx((MS, 3 * MS), rel=0.01)
    assert tally.latency.total == tally.service.total


def test_many_requests_leave_nothing_but_counts():
    tally = served(Service(), queries=3000)
    assert tally.latency.count == tally.service.count == tally.counts.requests == 3000
    assert sum(tally.counts.timeline.queries) == 3000


def test_seconds_have_the_queries_that_ended_in_them():
    tally = served(Service(400), queries=10)
    assert tally.counts.timeline.queries == [2, 2, 3, 2, 1]


def test_what_lasts_longer_than_a_second_is_in_the_one_it_ends_in():
    assert served(Service(2500), queries=2, limit_ns=10**10).counts.timeline.queries == [
        0, 0, 1, 0, 0, 1,
    ]  # fmt: skip


def test_a_stop_ends_it_after_the_request():
    service, its = Service(), control()
    one = client(service)
    service.took_ms = lambda number: its.stop() or 1 if number == 4 else 1
    one.work(its)
    assert one.tally.counts.requests == 4
    assert its.failure is None


def test_the_control_is_told_how_far_it_is():
    its = control()
    client(Service(), queries=20, batch_size=4).work(its)
    assert its.done == 20


# ---------------------------------------------------------------- late and failed


def test_what_is_late_is_no_answer_but_says_what_was_found():
    service = Service(lambda number: 1500 if number == 2 else 1)
    one = client(service, queries=QUERIES)
    one.work(control())
    counts = one.tally.counts
    assert (counts.requests, counts.queries, counts.late, counts.failed) == (4, 4, 1, 0)
    assert one.tally.latency.count == 4
    assert one.tally.latency.maximum < 2 * MS
    one.ask_the_rest(control())
    assert len(service.asked) == QUERIES


class Failing(Service):
    """Some requests fail; so many times as are to be."""

    def __init__(self, *numbers, error=None):
        super().__init__()
        self.numbers = numbers
        self.error = error or RuntimeError("no memory")

    def search(self, queries, k):
        found = super().search(queries, k)
        if len(self.asked) in self.numbers:
            raise self.error
        return found


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("no memory"), "RuntimeError: no memory"),
        (EngineError("server a:1 is gone"), "server a:1 is gone"),
    ],
)
def test_a_failure_ends_it_where_none_may_be(error, text):
    one, its = client(Failing(3, error=error)), control(1000)
    one.work(its)
    counts = one.tally.counts
    assert (counts.requests, counts.queries, counts.failed) == (2, 2, 1)
    assert counts.first_failure == text
    assert its.failure == f"backend own: a search failed: {text}"


def test_some_failures_may_be_and_count_as_nothing():
    one, its = client(Failing(1, 3), queries=10, failures_most=2), control()
    one.work(its)
    counts = one.tally.counts
    assert (counts.requests, counts.asked, counts.failed) == (8, 10, 2)
    assert one.tally.latency.count == 8
    assert its.failure is None


def test_too_many_failures_are_told_with_one_of_them():
    one, its = client(Failing(1, 3, 5), failures_most=2), control(1000)
    one.work(its)
    assert its.failure == (
        "backend own: 3 searches failed, more than run.failures_most = 2; one of them:"
        " RuntimeError: no memory"
    )


def test_an_answer_without_its_form_is_a_failure():
    service = Service()
    right = service.search
    service.search = lambda queries, k: right(queries, k)[0]
    one, its = client(service), control(1000)
    one.work(its)
    assert one.tally.counts.failed == 1
    assert "a search failed: the answer to 1 queries is" in its.failure


def test_the_rest_is_asked_after_the_window_and_counts_for_nothing():
    service = Service(10)
    one, its = client(service, failures_most=1), control(25)
    one.work(its)
    rest = control()
    one.ask_the_rest(rest)
    assert service.asked == [[0], [1], [2], [3], [4]]
    assert (one.tally.counts.queries, rest.done) == (3, 2)


def test_failures_of_the_rest_may_be_too_many_as_well():
    one = client(Failing(2, 5, 6), queries=3, failures_most=1)
    one.work(control())
    rest = control()
    one.ask_the_rest(rest)
    # The second query is asked again, then the last two.
    assert "2 searches failed, more than run.failures_most = 1" in rest.failure
    assert one.tally.counts.failed == 1


# ---------------------------------------------------------------- open loop


def test_requests_are_begun_when_they_arrive():
    service = Service(2)
    counts = served(service, 95, arrivals=at_rate(100, "constant")).counts
    assert service.begun_ms == pytest.approx([10 * number for number in range(10)], abs=0.2)
    assert (counts.requests, counts.arrivals, counts.unserved) == (10, 10, 0)
    assert counts.lag_ns < MS


def test_latency_counts_from_the_arrival():
    # The second lasts for 45 ms: those that arrive meanwhile wait, and the last finds no queue.
    service = Service(lambda number: 45 if number == 2 else 2)
    tally = served(service, 95, arrivals=at_rate(100, "constant"))
    assert tally.latency.maximum == pytest.approx(45 * MS, rel=0.01)
    assert tally.latency.total == pytest.approx(
        (2 + 45 + 37 + 29 + 21 + 13 + 5 + 2 * 3) * MS, rel=0.01
    )
    assert tally.service.total == pytest.approx((9 * 2 + 45) * MS, rel=0.01)
    assert tally.counts.lag_ns == pytest.approx(35 * MS, rel=0.01)


def test_waiting_makes_a_request_late():
    service = Service(lambda number: 45 if number == 2 else 2)
    tally = served(service, 95, arrivals=at_rate(100, "constant"), limit_ns=30 * MS)
    assert (tally.counts.late, tally.counts.requests, tally.latency.count) == (2, 8, 8)


@pytest.mark.parametrize("arrival", ["poisson", "constant"])
def test_half_of_what_can_be_served_is_served(arrival):
    tally = served(Service(1), 4_000, arrivals=at_rate(500, arrival))
    counts = tally.counts
    assert counts.arrivals == pytest.approx(2_000, rel=0.1)
    assert counts.requests == counts.arrivals
    assert counts.unserved == 0
    assert tally.latency.percentile(0.99) < 10 * MS


@pytest.mark.parametrize("arrival", ["poisson", "constant"])
def test_of_twice_what_can_be_served_half_is_not_begun(arrival):
    tally = served(Service(1), 4_000, arrivals=at_rate(2000, arrival), limit_ns=10**12)
    counts = tally.counts
    assert counts.arrivals == pytest.approx(8_000, rel=0.05)
    assert counts.requests + counts.unserved == counts.arrivals
    assert counts.unserved == pytest.approx(counts.arrivals / 2, rel=0.05)
    # Whoever is served at the end has waited for half of the window.
    assert tally.latency.maximum == pytest.approx(2_000 * MS, rel=0.1)
    assert tally.service.maximum < 2 * MS


def test_ranks_share_a_rate():
    arrived = [
        served(Service(0.1), 2_000, arrivals=at_rate(1000, rank=rank, ranks=4)).counts.arrivals
        for rank in range(4)
    ]
    assert sum(arrived) == pytest.approx(2_000, rel=0.1)
    assert len(set(arrived)) > 1


def test_so_many_queries_arrive_and_no_more():
    counts = served(Service(50), queries=10, batch_size=4, arrivals=at_rate(1000)).counts
    assert (counts.requests, counts.queries, counts.arrivals, counts.unserved) == (3, 10, 3, 0)


def test_a_stop_ends_the_wait_for_the_next():
    service, its = Service(), control()
    one = client(service, arrivals=(number * 10**12 for number in count(1)))
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            its.stop()

    one._sleep = sleep
    one.work(its)
    assert len(naps) == 3
    assert (one.tally.counts.arrivals, service.asked) == (0, [])
