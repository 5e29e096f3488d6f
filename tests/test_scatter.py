"""Points that are drawn with characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.scatter import HEIGHT, WIDTH, Axis, Mark, drawn

RECALL, RATE = Axis(name="recall", digits=2), Axis(name="queries/s", digits=0)


def test_a_plot_as_it_is_seen():
    marks = [Mark(0, 1000, "*"), Mark(0.5, 600, "*"), Mark(1, 100, "*"), Mark(0.5, 300, "o")]
    assert drawn(marks, RECALL, RATE) == [
        "queries/s",
        "1,000 |*",
        "      |",
        "      |",
        "      |",
        "      |",
        "      |                              *",
        "      |",
        "      |",
        "      |",
        "      |                              o",
        "      |",
        "  100 |" + " " * 59 + "*",
        "      +" + "-" * 60,
        "       0.00" + " " * 52 + "1.00  recall",
    ]


def test_rates_far_apart_are_drawn_by_their_logarithms():
    marks = [Mark(0, 1, "a"), Mark(0.5, 10, "b"), Mark(1, 100, "c")]
    lines = drawn(marks, RECALL, RATE)
    assert lines[0] == "queries/s, logarithmic"
    rows = [next(i for i, line in enumerate(lines[1:13]) if mark in line) for mark in "abc"]
    assert rows == [HEIGHT - 1, 5, 0]


def test_what_has_no_extent_is_not_drawn():
    assert drawn([], RECALL, RATE) == []
    assert drawn([Mark(1, 2, "*"), Mark(1, 3, "*")], RECALL, RATE) == []
    assert drawn([Mark(1, 2, "*"), Mark(2, 2, "*")], RECALL, RATE) == []


NUMBERS = st.floats(0, 1e9)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=9))
def test_every_point_lies_in_the_plot_and_none_but_them(points):
    lines = drawn([Mark(x, y, "*") for x, y in points], RECALL, RATE)
    if lines:
        left = lines[1].index("|") + 1
        plot = [line[left:] for line in lines[1 : HEIGHT + 1]]
        assert all(len(line) <= WIDTH for line in plot)
        assert 2 <= sum(line.count("*") for line in plot) <= len(points)
