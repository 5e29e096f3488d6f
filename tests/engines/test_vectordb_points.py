"""What all ranks have seen of a point, in one document."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlps.engines.io_core.histogram import Histogram
from mlps.engines.vectordb.answers import Faults
from mlps.engines.vectordb.backend import Io, Moved
from mlps.engines.vectordb.points import Point, Seen, least_direct, point_document, recall_of
from mlps.engines.vectordb.process_reads import ProcessReads
from mlps.engines.vectordb.tally import Counts
from mlps.engines.vectordb.truth import Truth
from mlps.engines.vectordb.workload import Cache

READ = ProcessReads(read_bytes=1000, requested_bytes=2000, calls=3, major_faults=4)
NONE = Faults(short_queries=0, repeating_queries=0, foreign_ids=0, changed_queries=0)


def seen(found=((1, 2),), backend=None, faults=NONE, **counts):
    return Seen(
        start_unix_s=1.5,
        window_s=9.0,
        counts=Counts(**counts),
        queries=len(found),
        found=np.array(found, dtype=np.int64).reshape(len(found), 2),
        unanswered=tuple(at for at, ids in enumerate(found) if tuple(ids) == (-1, -1)),
        faults=faults,
        backend=backend,
        prepared=None,
        after=None,
    )


def point(**changes):
    return Point(
        **{"purpose": "run", "search": {}, "k": 2, "batch_size": 3, "distinct": 9, **changes}
    )


def document(*ranks, recall=None, **changes):
    cache = Cache(mode="warm", command=())
    found = point_document(point(**changes), cache, ranks, Histogram(), Histogram(), recall)
    return json.loads(json.dumps(found, allow_nan=False))


def test_counts_are_added_and_the_longest_time_counts():
    found = document(
        seen(requests=2, queries=6, failed=1, last_ns=3 * 10**9, first_failure=None),
        seen(requests=1, queries=3, late=2, last_ns=2 * 10**9, first_failure="gone"),
    )
    assert {
        name: found[name]
        for name in ("clients", "requests", "queries", "failed_requests", "late_requests")
    } == {"clients": 2, "requests": 3, "queries": 9, "failed_requests": 1, "late_requests": 2}
    assert (found["elapsed_s"], found["first_failure"], found["recall"]) == (3.0, "gone", None)
    assert (found["arrivals"], found["unserved"], found["lag_most_s"]) == (None, None, None)


def test_where_nobody_was_answered_the_window_is_what_passed():
    assert document(seen(asked=1))["elapsed_s"] == 9.0


def test_no_rank_has_asked_more_queries_than_it_has():
    assert document(seen(asked=70), seen(asked=0), seen(asked=1))["asked_queries"] == 2


def test_an_open_loop_adds_arrivals_and_tells_the_longest_lag():
    found = document(
        seen(arrivals=5, unserved=1, lag_ns=10**9), seen(arrivals=6, lag_ns=5), target_qps=4.5
    )
    assert (found["arrivals"], found["unserved"], found["lag_most_s"]) == (11, 1, 1.0)
    assert found["target_qps"] == 4.5


def test_reads_are_added():
    moved = Moved(read_bytes=10, reads=2)
    found = document(seen(backend=moved, process=READ), seen(backend=moved, process=READ))["reads"]
    assert found == {
        "backend": {"bytes": 20, "reads": 4},
        "process": {"bytes": 2000, "requested_bytes": 4000, "calls": 6, "major_faults": 8},
    }


def test_what_one_rank_does_not_know_is_unknown_and_not_nothing():
    moved = Moved(read_bytes=10, reads=2)
    reads = document(seen(backend=moved, process=READ), seen())["reads"]
    assert reads == {"backend": None, "process": None}


def test_faults_are_added():
    bad = Faults(short_queries=1, repeating_queries=2, foreign_ids=3, changed_queries=4)
    assert document(seen(faults=bad), seen(faults=bad))["answers"] == {
        "short_queries": 2, "repeating_queries": 4, "foreign_ids": 6, "changed_queries": 8,
    }  # fmt: skip


def test_a_parameter_is_told_with_its_value():
    found = document(seen(), parameter=("nprobe", 8), purpose="sweep")
    assert found["parameter"] == {"name": "nprobe", "value": 8}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_recall_is_that_of_the_queries_of_all_ranks(ranks):
    ids = np.arange(10).reshape(5, 2)
    truth = Truth(
        ids=np.vstack([ids, ids]), scores=np.zeros((10, 2)), covered=((0, 10),)
    )  # of ten queries, five of which are asked
    found = np.where(ids % 4 == 0, -1, ids)  # 0, 4, and 8 are missing
    found[3] = -1
    of_ranks = [seen(found[rank::ranks]) for rank in range(ranks)]
    of_all = recall_of(point(), of_ranks, truth, 0.0)
    assert of_all.per_query.tolist() == [0.5, 1.0, 0.5, 0.0, 0.5]
    answered = recall_of(point(all_asked=False), of_ranks, truth, 0.0)
    assert answered.per_query.tolist() == [0.5, 1.0, 0.5, 0.5]
    assert recall_of(point(all_asked=False), [seen([(-1, -1)])], truth, 0.0) is None


def test_the_furthest_from_storage_tells_for_all():
    slow = Io(io_class="buffered", reason="refused")
    assert least_direct([Io(io_class="direct"), slow, Io(io_class="direct")]) is slow
    assert least_direct([slow, Io(io_class="memory")]).io_class == "memory"
