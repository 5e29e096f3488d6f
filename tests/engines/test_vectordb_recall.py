"""Recall: the share that sets of Python say, and what cannot be an answer is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.recall import recall
from mlps.engines.vectordb.truth import Truth


def truth_of(ids, scores=None, vectors=100):
    ids = np.array(ids, dtype=np.int64)
    if scores is None:
        scores = np.broadcast_to(-np.arange(ids.shape[1], dtype=float), ids.shape)
    return Truth(ids=ids, scores=np.array(scores, dtype=float), covered=((0, vectors),))


def answers(*rows):
    return np.array(rows, dtype=np.int64)


@st.composite
def searches(draw):
    """What was found, a truth, k and an epsilon."""
    vectors, depth = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    queries, k = draw(st.integers(1, 5)), draw(st.integers(1, depth))
    ids, scores = [], []
    for _ in range(queries):
        best = draw(st.permutations(range(vectors)))[:depth]
        steps = sorted(draw(st.lists(st.integers(0, 4), min_size=depth, max_size=depth)))
        ids.append(best + [-1] * (depth - len(best)))
        scores.append([-step if at < len(best) else -np.inf for at, step in enumerate(steps)])
    found = draw(
        st.lists(
            st.lists(st.integers(-1, vectors - 1), min_size=k, max_size=k),
            min_size=queries,
            max_size=queries,
        )
    )
    return answers(*found), truth_of(ids, scores, vectors), k, draw(st.integers(0, 3))


@given(searches())
@settings(max_examples=50, deadline=None)
def test_recall_is_what_sets_say(search):
    found, truth, k, epsilon = search
    shares, near = [], []
    for answer, ids, scores in zip(found.tolist(), truth.ids, truth.scores, strict=True):
        nearest = [int(number) for number in ids[:k] if number >= 0]
        least = scores[len(nearest) - 1] - epsilon
        close = {int(i) for i, score in zip(ids, scores, strict=True) if i >= 0 and score >= least}
        shares.append(len(set(answer) & set(nearest)) / len(nearest))
        near.append(min(len(set(answer) & close), len(nearest)) / len(nearest))
    seen = recall(found, truth, k, epsilon=epsilon)
    assert seen.per_query.tolist() == shares
    assert seen.mean == pytest.approx(np.mean(shares), abs=1e-12)
    assert seen.within_epsilon == pytest.approx(np.mean(near), abs=1e-12)
    assert (seen.least, seen.most) == (min(shares), max(shares))
    assert (seen.p5, seen.median) == tuple(np.percentile(shares, (5, 50)))
    assert seen.zero_queries == shares.count(0)
    assert seen.within_epsilon >= seen.mean


def test_an_id_counts_once_and_nothing_is_no_id():
    seen = recall(answers([1, 1, 1], [3, -1, -1], [4, 5, 6]), truth_of([[1, 2, 3]] * 3), 3)
    assert seen.per_query.tolist() == [1 / 3, 1 / 3, 0]
    assert (seen.repeating_queries, seen.short_queries, seen.zero_queries) == (1, 1, 1)
    assert (seen.k, seen.queries, seen.least, seen.most) == (3, 3, 0, 1 / 3)


def test_all_of_fewer_than_k_vectors_is_all():
    seen = recall(answers([1, 0, -1]), truth_of([[0, 1, -1]], [[0, -1, -np.inf]], vectors=2), 3)
    assert (seen.mean, seen.short_queries, seen.repeating_queries) == (1, 0, 0)


def test_a_tie_with_the_last_one_counts_within_epsilon_alone():
    truth = truth_of([[7, 8, 9]], [[0.9, 0.8, 0.8 - 1e-7]])
    seen = recall(answers([7, 9]), truth, 2, epsilon=1e-6)
    assert (seen.mean, seen.within_epsilon) == (0.5, 1)
    assert recall(answers([7, 9]), truth, 2).within_epsilon == 0.5
    assert recall(answers([7, 50]), truth, 2, epsilon=1).within_epsilon == 0.5


@pytest.mark.parametrize(
    ("found", "k", "text"),
    [
        ([[0, 100]], 2, "query 0 was answered with id 100, which is none of 100 vectors"),
        ([[0, -2]], 2, "query 0 was answered with id -2, which is none of 100 vectors"),
        ([[0, 1, 2]], 2, r"results of shape \(1, 3\) do not fit 1 queries with 2 ids each"),
        ([[0, 1], [0, 1]], 2, r"results of shape \(2, 2\) do not fit 1 queries"),
        ([[0, 1, 2, 3]], 4, "recall at 4 needs a truth of at least that depth, this has 3"),
        ([[]], 0, "recall at 0 needs"),
    ],
    ids=["too high", "too low", "too many ids", "too many rows", "too deep", "nothing"],
)
def test_what_is_no_answer_is_refused(found, k, text):
    with pytest.raises(EngineError, match=text):
        recall(np.array(found, dtype=np.int64), truth_of([[1, 2, 3]]), k)
