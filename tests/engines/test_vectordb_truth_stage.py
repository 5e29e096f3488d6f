"""The truth by real ranks: the same bytes however many they are, taken if it is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.contract import read_job
from mlps.engines.vectordb import truth_stage
from mlps.engines.vectordb.data import data_of
from mlps.engines.vectordb.setting import setting_of
from mlps.engines.vectordb.truth import read_truth
from mlps.engines.vectordb.truth_stage import own_ids, working


def told(result):
    assert result["status"] == "complete", result["errors"]
    return result["vectordb"]


def setting(bench):
    return setting_of(read_job(bench.canonical, bench.run_id, None), 1)


def test_it_is_the_same_to_the_byte_for_any_ranks(vectordb):
    # Three blocks.
    vectordb.changes = {"dataset": {"num_vectors": 9_000}}
    seen, digests, parts = set(), set(), []
    for ranks in (1, 2, 4):
        bench = replace(vectordb, run_id=f"20260101-{ranks}")
        document = told(bench.stage("truth", ranks=ranks) if ranks > 1 else bench.solo("truth"))
        assert (document["does"], document["truth"]["covered"]) == ("truth", 1.0)
        seen.add(setting(bench).truth_path.read_bytes())
        digests.add(document["truth"]["sha256"])
        parts.append(document["truth"]["parts"])
    assert parts == [1, 2, 3]
    assert (len(seen), len(digests)) == (1, 1)
    of = setting(replace(vectordb, run_id="20260101-4"))
    found = read_truth(of.truth_path, of.truth_fingerprint())
    vectors = np.concatenate([part for _, part in of.data.rows(0, 9_000)]).astype(np.float64)
    scores = of.data.query_vectors(0, 12).astype(np.float64) @ vectors.T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    assert (np.sort(found.ids) == np.sort(nearest)).all()


def test_the_same_truth_is_taken_again(vectordb):
    first = told(vectordb.solo("truth"))["truth"]
    path = setting(vectordb).truth_path
    before = path.stat().st_mtime_ns
    again = told(vectordb.solo("truth"))["truth"]
    assert (first["reused"], again["reused"], again["parts"]) == (False, True, 0)
    assert again["sha256"] == first["sha256"]
    assert path.stat().st_mtime_ns == before


def test_a_damaged_one_is_found_anew(vectordb):
    first = told(vectordb.solo("truth"))["truth"]
    path = setting(vectordb).truth_path
    path.write_bytes(path.read_bytes()[:-1])
    again = told(vectordb.solo("truth"))["truth"]
    assert (again["reused"], again["sha256"]) == (False, first["sha256"])


def test_other_queries_have_a_truth_beside_it(vectordb):
    vectordb.changes = {"directory": "kept"}
    told(vectordb.solo("truth"))
    for changes in ({"query": {"seed": 5}}, {"truth": {"depth": 11}}):
        other = replace(vectordb, changes={**vectordb.changes, **changes})
        assert not told(other.solo("truth"))["truth"]["reused"]
    same = replace(vectordb, changes={**vectordb.changes, "dataset": {"batch_size": 3}})
    assert told(same.solo("truth"))["truth"]["reused"]
    assert len(list((vectordb.data_dir / "kept").glob("truth-*"))) == 3


def test_a_stop_ends_it_and_leaves_no_truth(vectordb):
    vectordb.changes = {"dataset": {"num_vectors": 50_000_000}}
    with vectordb.launch("truth") as launched:
        event = launched.events_until(lambda event: event.get("phase") == "comparing")
        assert (event["unit"], event["total"]) == ("vectors", 50_000_000)
        launched.say("stop")
        assert launched.result()["status"] == "stopped"
        launched.finish()
    assert not list(vectordb.place.glob("truth-*"))


def test_many_queries_are_put_together_in_portions(vectordb, monkeypatch):
    whole = told(vectordb.solo("truth"))["truth"]["sha256"]
    monkeypatch.setattr(truth_stage, "_MERGED_BYTES", 5 * 10 * 16)
    other = replace(vectordb, run_id="20260101-other")
    assert told(other.solo("truth"))["truth"]["sha256"] == whole


@given(ranks=st.integers(1, 200), vectors=st.integers(1, 200_000))
def test_every_vector_is_looked_at_once(vector_benchmark, ranks, vectors):
    data = data_of(vector_benchmark(dataset={"num_vectors": vectors}))
    numbers = working(ranks, vectors)
    assert numbers[0] == 0
    assert len(set(numbers)) == len(numbers) <= 32
    assert max(numbers) < ranks
    ids = [own_ids(data, part, len(numbers)) for part in range(len(numbers))]
    assert all(len(each) > 0 and each.start % 4096 == 0 for each in ids)
    assert [each.start for each in ids[1:]] == [each.stop for each in ids[:-1]]
    assert (ids[0].start, ids[-1].stop) == (0, vectors)


@pytest.mark.parametrize(("ranks", "numbers"), [(64, (0, 2, 4, 6)), (3, (0, 1, 2))])
def test_they_are_spread_over_all_ranks(ranks, numbers):
    assert working(ranks, 10**9)[:4] == numbers
