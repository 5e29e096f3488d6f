"""What ranks did of checkpoints, put together: the slowest counts and is named."""

from __future__ import annotations

import pytest

from mlps.engines.checkpoint_native.report import (
    Evicted,
    Record,
    checkpoint_documents,
    eviction_document,
)
from mlps.engines.io_core.counts import Counts
from mlps.engines.io_core.meter import Moved
from mlps.engines.io_core.page_cache import Residency

GIB = 2**30
HOSTS = ["node1", "node1", "node2"]


def record(took_s, number=1, size_bytes=GIB, **more):
    values = {"start_s": 0.5, "transfer_ns": 0, "sync_ns": 0, "moved": ()} | more
    return Record(number=number, size_bytes=size_bytes, took_ns=round(took_s * 1e9), **values)


def told(*ranks, writes=True):
    (document,) = checkpoint_documents(
        [[each] for each in ranks], HOSTS[: len(ranks)], writes=writes
    )
    return document


def test_the_slowest_rank_is_the_time_and_has_a_name():
    document = told(record(2.0), record(1.0), record(4.0))
    assert document["wall_s"] == 4.0
    assert (document["straggler"], document["straggler_host"]) == (2, "node2")
    assert (document["rank_least_s"], document["rank_median_s"]) == (1.0, 2.0)
    assert document["rank0_s"] == 2.0
    assert document["bytes"] == 3 * GIB


def test_the_longest_parts_of_any_rank_count():
    document = told(
        record(2.0, transfer_ns=10**9, sync_ns=5 * 10**8),
        record(2.0, transfer_ns=2 * 10**9, sync_ns=10**8),
    )
    assert (document["transfer_most_s"], document["sync_most_s"]) == (2.0, 0.5)


def test_the_lowest_throughput_is_of_ranks_that_have_files():
    document = told(record(1.0, size_bytes=0), record(4.0, size_bytes=2 * GIB), record(1.0))
    assert document["rank_least_gib_s"] == 0.5


def test_a_rank_that_leaves_early_takes_its_last_checkpoint_with_it():
    ranks = [[record(1.0), record(1.0, number=2)], [record(1.0)]]
    assert [each["number"] for each in checkpoint_documents(ranks, HOSTS[:2], writes=True)] == [1]


def test_nothing_was_completed():
    assert checkpoint_documents([[], []], HOSTS[:2], writes=True) == []


def test_the_longest_stall_counts_and_none_is_none():
    assert told(record(1.0), record(1.0))["stall_s"] is None
    stalls = told(record(1.0, stall_ns=10**8), record(1.0, stall_ns=3 * 10**8))
    assert stalls["stall_s"] == 0.3


@pytest.mark.parametrize(
    ("seen", "share_pct"),
    [
        ([(100, 1), (300, 1)], 0.5),
        ([(100, 1), None], None),
        ([(0, 0), (0, 0)], 0.0),
    ],
    ids=["all", "one cannot see", "no pages"],
)
def test_what_is_in_memory_is_of_all_pages(seen, share_pct):
    ranks = [
        record(1.0, resident=None if each is None else Residency(pages=each[0], resident=each[1]))
        for each in seen
    ]
    assert told(*ranks, writes=False)["resident_pct"] == share_pct


def test_of_a_write_nothing_is_said_of_memory():
    assert told(record(1.0, resident=Residency(pages=1, resident=1)))["resident_pct"] is None


def device(read, written):
    return Moved(
        kind="device", machine="m", name="vda", facts={"device": "vda"},
        first=Counts(0, 0), last=Counts(read, written), window=None,
    )  # fmt: skip


def test_counters_are_those_of_the_direction():
    ranks = [record(1.0, moved=(device(5, 7),))]
    assert told(*ranks)["counted_bytes"] == {"device": 7}
    assert told(*ranks, writes=False)["counted_bytes"] == {"device": 5}


def test_an_eviction_is_that_of_all_ranks_and_lasts_as_long_as_the_longest():
    def evicted(leads, took_s, resident):
        return Evicted(
            leads_host=leads, files=2, size_bytes=GIB, took_ns=round(took_s * 1e9),
            resident=Residency(pages=1000, resident=resident),
        )  # fmt: skip

    document = eviction_document([evicted(True, 1, 0), evicted(False, 3, 4)], "drop")
    assert document == {
        "method": "drop",
        "hosts": 1,
        "files": 4,
        "bytes": 2 * GIB,
        "elapsed_s": 3.0,
        "resident_pct": 0.2,
    }
