"""Host lists and their ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.hosts import expand_hosts, is_local


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        pytest.param(["a"], ("a",), id="a name"),
        pytest.param(["node[1-3]"], ("node1", "node2", "node3"), id="a range"),
        pytest.param(["node[08-11]"], ("node08", "node09", "node10", "node11"), id="zeros stay"),
        pytest.param(["n[1-2,7]x"], ("n1x", "n2x", "n7x"), id="parts and a tail"),
        pytest.param(["r[1-2]n[1-2]"], ("r1n1", "r1n2", "r2n1", "r2n2"), id="two ranges"),
        pytest.param(["b", "a[2-3]", "a1"], ("b", "a2", "a3", "a1"), id="order is kept"),
        pytest.param(["n[99-101]"], ("n99", "n100", "n101"), id="range grows a digit"),
    ],
)
def test_expand(patterns, names):
    assert expand_hosts(patterns) == names


@pytest.mark.parametrize(
    ("patterns", "text"),
    [
        pytest.param(["n[3-1]"], "'n[3-1]': the range '3-1' runs backwards", id="backwards"),
        pytest.param(
            ["n[1-]"], "'n[1-]': '1-' is not a range; the form is node[01-08,12]", id="no end"
        ),
        pytest.param(
            ["n[,1]"], "'n[,1]': '' is not a range; the form is node[01-08,12]", id="empty part"
        ),
        pytest.param(["a", "b", "a"], "host a is listed twice", id="twice"),
        pytest.param(["n[1-3]", "n2", "n3"], "host n2, n3 is listed twice", id="twice by range"),
    ],
)
def test_refused(patterns, text):
    with pytest.raises(ValueError) as caught:
        expand_hosts(patterns)
    assert str(caught.value) == text


@given(
    first=st.integers(0, 5000),
    count=st.integers(1, 200),
    width=st.integers(1, 6),
    tail=st.text("xyz"),
)
def test_range_stands_for_its_numbers(first, count, width, tail):
    last = first + count - 1
    names = expand_hosts([f"node[{first:0{width}d}-{last:0{width}d}]{tail}"])
    assert names == tuple(f"node{number:0{width}d}{tail}" for number in range(first, last + 1))


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=40, unique=True))
def test_a_list_of_numbers_stands_for_them_in_order(numbers):
    text = ",".join(map(str, numbers))
    assert expand_hosts([f"n[{text}]"]) == tuple(f"n{number}" for number in numbers)


@pytest.mark.parametrize(
    ("names", "local"),
    [
        (["localhost"], True),
        (["127.0.0.1", "localhost"], True),
        (["localhost", "node1"], False),
        (["node1"], False),
    ],
)
def test_is_local(names, local):
    assert is_local(names) is local
