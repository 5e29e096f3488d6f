"""Answers: the first is kept, others are compared, and what is wrong with one is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.answers import Answers, Faults, wrapped

K, VECTORS = 3, 50


def answer(*rows):
    return np.array(rows, dtype=np.int64), np.zeros((len(rows), len(rows[0])), dtype=np.float32)


def answers(queries=4, **changes):
    return Answers(**{"queries": queries, "k": K, "vectors": VECTORS, **changes})


def faults(found):
    """Those there are, by name."""
    names = Faults.__slots__
    return {name: count for name in names if (count := getattr(found.faults(), name))}


def test_the_first_answer_counts():
    found = answers()
    found.take(1, 1, answer([1, 2, 3]))
    found.take(1, 1, answer([1, 2, 3]))
    assert found.found().tolist() == [[-1] * 3, [1, 2, 3], [-1] * 3, [-1] * 3]
    assert found.unanswered() == [0, 2, 3]
    assert faults(found) == {}
    found.take(1, 1, answer([3, 2, 1]))
    found.take(1, 1, answer([3, 2, 1]))
    assert found.found()[1].tolist() == [1, 2, 3]
    assert faults(found) == {"changed_queries": 1}


def test_a_batch_goes_on_with_the_first_query():
    found = answers()
    found.take(2, 3, answer([2, 0, 1], [3, 0, 1], [0, 1, 2]))
    assert found.unanswered() == [1]
    assert found.found()[:, 0].tolist() == [0, -1, 2, 3]
    assert wrapped(np.arange(4)[:, None], 3).ravel().tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert wrapped(np.zeros((1, 2)), 4).shape == (5, 2)
    assert wrapped(np.zeros((0, 2)), 4).shape == (0, 2)


@pytest.mark.parametrize(
    ("row", "wrong", "kept"),
    [
        ([1, 2, -1], {"short_queries": 1}, [1, 2, -1]),
        ([1, 2, 1], {"repeating_queries": 1}, [1, 2, 1]),
        ([1, 50, -2], {"foreign_ids": 2}, [1, -1, -1]),
        ([7, 7, -1], {"short_queries": 1, "repeating_queries": 1}, [7, 7, -1]),
        ([49, 0, 1], {}, [49, 0, 1]),
    ],
)
def test_what_is_wrong_is_counted(row, wrong, kept):
    found = answers()
    found.take(0, 1, answer(row))
    found.take(0, 1, answer(row))
    assert faults(found) == wrong
    assert found.found()[0].tolist() == kept


def test_later_answers_are_looked_at_as_well():
    found = answers()
    found.take(0, 1, answer([1, 2, 3]))
    found.take(0, 1, answer([1, 1, 99]))
    assert faults(found) == {"repeating_queries": 1, "foreign_ids": 1, "changed_queries": 1}


def test_of_fewer_vectors_fewer_can_be_found():
    found = answers(vectors=2)
    found.take(0, 1, answer([1, 0, -1]))
    assert faults(found) == {}


IDS, SCORES = answer([1, 2, 3])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (None, "NoneType"),
        (IDS, r"int64 of shape \(1, 3\)"),
        ((IDS, None), r"\(int64 of shape \(1, 3\), NoneType\)"),
        ((IDS.tolist(), SCORES), "list"),
        ((IDS, SCORES[:, :2]), r"float32 of shape \(1, 2\)"),
        ((IDS.astype(float), SCORES), "float64"),
        ((IDS, SCORES.astype(float)), "float64"),
        ((IDS[:, :2], SCORES[:, :2]), r"\(1, 2\)"),
        ((np.vstack([IDS, IDS]), np.vstack([SCORES, SCORES])), r"\(2, 3\)"),
        ((IDS[0], SCORES[0]), r"\(3,\)"),
    ],
)
def test_what_is_no_answer_is_refused_with_what_it_is(wrong, text):
    found = answers()
    with pytest.raises(EngineError, match=rf"the answer to 1 queries is .*{text}.* instead of ids"):
        found.take(0, 1, wrong)
    assert found.unanswered() == [0, 1, 2, 3]


@given(st.lists(st.lists(st.integers(-3, VECTORS + 2), min_size=K, max_size=K), min_size=1))
def test_counts_are_what_sets_say(rows):
    found = answers(len(rows))
    found.take(0, len(rows), answer(*rows))
    given = [[number for number in row if number != -1] for row in rows]
    assert found.faults() == Faults(
        short_queries=sum(len(row) < K for row in given),
        repeating_queries=sum(len(set(row)) < len(row) for row in given),
        foreign_ids=sum(not 0 <= number < VECTORS for row in given for number in row),
        changed_queries=0,
    )
