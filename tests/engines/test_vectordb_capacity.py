"""The search for a capacity: it ends near what can be served, whatever that is, and soon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.histogram import Histogram
from mlps.engines.vectordb.capacity import TRIED_MOST, Tried, Try, is_met, next_try
from mlps.engines.vectordb.workload import CapacitySearch

LIMITS = CapacitySearch(fraction=0.99, limit_ms=100, runtime_s=1, precision_pct=5)


def search(meets, closed_per_s=1000.0, precision_pct=5.0):
    """All that is tried where `meets` says what is served well."""
    tried = []
    while (what := next_try(closed_per_s, precision_pct, tried)) is not None:
        tried.append(Tried(what, meets(what)))
    return tried


def up_to(capacity):
    return lambda what: what.rate_per_s <= capacity


@given(share=st.floats(0.02, 2), precision_pct=st.floats(1, 50))
def test_the_capacity_is_found(share, precision_pct):
    tried = search(up_to(1000 * share), precision_pct=precision_pct)
    assert len(tried) <= TRIED_MOST
    last = tried[-1]
    assert (last.what.purpose, last.met) == ("confirm", True)
    failed = min(each.what.rate_per_s for each in tried if not each.met)
    assert last.what.rate_per_s <= 1000 * share < failed
    assert failed <= last.what.rate_per_s * (1 + precision_pct / 100)
    assert {each.what.purpose for each in tried[:-1]} == {"search"}


@given(st.lists(st.booleans(), min_size=TRIED_MOST + 1, max_size=TRIED_MOST + 1))
def test_it_ends_whatever_happens(outcomes):
    answers = iter(outcomes)
    tried = search(lambda _: next(answers))
    assert 1 <= len(tried) <= TRIED_MOST
    confirmed = [each for each in tried if each.what.purpose == "confirm" and each.met]
    assert confirmed in ([], [tried[-1]])
    for at, each in enumerate(tried):
        if each.what.purpose == "confirm":
            assert Tried(Try("search", each.what.rate_per_s), True) in tried[:at]


def test_what_is_not_confirmed_counts_as_too_much():
    tried = search(lambda what: what.rate_per_s <= (720 if what.purpose == "confirm" else 800))
    confirmed = [each for each in tried if each.what.purpose == "confirm"]
    assert len(confirmed) > 1
    assert [each.met for each in confirmed] == [False] * (len(confirmed) - 1) + [True]
    assert 680 < confirmed[-1].what.rate_per_s <= 720


def test_a_backend_without_limit_is_confirmed_at_what_was_tried_last():
    tried = search(lambda _: True)
    assert len(tried) == TRIED_MOST
    assert tried[-1].what.purpose == "confirm"


def test_what_is_never_served_well_is_given_up_soon():
    assert [each.what.rate_per_s for each in search(lambda _: False, 640)] == pytest.approx(
        [448, 224, 112, 56, 28, 14, 7]
    )


def test_nothing_is_tried_where_nobody_was_answered():
    assert search(lambda _: True, 0) == []


def point(**changes):
    return {
        "arrivals": 1000, "clients": 2, "unserved": 22, "failed_requests": 0, "late_requests": 0,
        "recall": {"mean": 0.9}, **changes,
    }  # fmt: skip


def latencies(slow):
    """Of 100 requests so many take longer than the limit."""
    found = Histogram()
    found.record([50_000_000] * (100 - slow) + [110_000_000] * slow)
    return found


def test_served_well_is_in_time_and_right_and_nearly_all():
    assert is_met(point(), latencies(1), LIMITS, 0.9)


@pytest.mark.parametrize(
    "changes",
    [
        {"unserved": 23},
        {"failed_requests": 1},
        {"late_requests": 1},
        {"recall": {"mean": 0.899}},
    ],
    ids=str,
)
def test_anything_else_is_not(changes):
    assert not is_met(point(**changes), latencies(1), LIMITS, 0.9)


def test_slow_requests_are_not_served_well():
    assert not is_met(point(), latencies(2), LIMITS, 0.9)
    assert not is_met(point(), Histogram(), LIMITS, 0.9)
