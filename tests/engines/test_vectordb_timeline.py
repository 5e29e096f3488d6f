"""Seconds of a run: nothing is lost however long it lasts, and memory does not grow."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.vectordb.timeline import BINS_MOST, Timeline, timeline_document


def timeline(*events):
    line = Timeline()
    for event in events:
        line.add(*event)
    return line


def test_seconds_are_bins():
    line = timeline((0, 5, 10), (0, 1, 1), (2, 7, 20))
    assert timeline_document([line]) == {
        "bin_s": 1, "queries": [6, 0, 7], "process_bytes": [11, 0, 20],
    }  # fmt: skip


def test_ranks_are_added_whatever_their_length():
    ranks = [timeline((0, 1, 5)), timeline((1, 2, 6), (2, 4, 0))]
    assert timeline_document(ranks) == {
        "bin_s": 1, "queries": [1, 2, 4], "process_bytes": [5, 6, 0],
    }  # fmt: skip


def test_bytes_that_one_rank_does_not_know_are_unknown():
    found = timeline_document([timeline((0, 1, 5)), timeline((0, 1, 5), (1, 1, None), (2, 1, 4))])
    assert found == {"bin_s": 1, "queries": [2, 1, 1], "process_bytes": None}


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9)), max_size=9), max_size=4)
)
@settings(max_examples=25, deadline=None)
def test_there_are_never_too_many_bins_and_none_is_lost(ranks):
    lines = [
        timeline(*[(second, queries, 2 * queries) for second, queries in sorted(rank)])
        for rank in [*ranks, []]
    ]
    found = timeline_document(lines)
    assert len(found["queries"]) == len(found["process_bytes"]) <= BINS_MOST
    assert sum(found["queries"]) == sum(queries for rank in ranks for _, queries in rank)
    assert found["process_bytes"] == [2 * queries for queries in found["queries"]]
    for rank in ranks:
        for second, queries in rank:
            assert found["queries"][second // found["bin_s"]] >= queries
