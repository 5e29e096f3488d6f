"""JSON paths: the part that is known, and that all else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.json_path import parse_path, values_at

DOCUMENT = {
    "jobs": [{"read": {"bw": 1}, "name": "a"}, {"read": {"bw": 2}}, {"write": {}}],
    "99.0": {"it's": 7},
    "none": None,
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [DOCUMENT]),
        ("$.jobs[0].read.bw", [1]),
        ("$.jobs[-2].read.bw", [2]),
        ("$.jobs[*].read.bw", [1, 2]),
        ("$.jobs[*].read.*", [1, 2]),
        ("$['jobs'][1]['read']", [{"bw": 2}]),
        ("$['99.0'][\"it's\"]", [7]),
        ("$.none", [None]),
        ("$.jobs[3]", []),
        ("$.jobs[-4]", []),
        ("$.jobs.read", []),
        ("$.nothing.below", []),
        ("$[0]", []),
        ("$.jobs[0].name[0]", []),
    ],
)
def test_values_at_a_path(path, found):
    assert values_at(DOCUMENT, parse_path(path)) == found


@pytest.mark.parametrize(
    "path",
    ["", "jobs", "$jobs", "$.", "$..a", "$.a[", "$.a[1", "$.a[01]", "$.a[1:2]", "$[?@.a]", "$.a b",
     "$['a", "$.a.", "$[--1]", "$['a\\'b']"],
)  # fmt: skip
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="is no JSON path"):
        parse_path(path)


NAMES = st.text(st.characters(blacklist_characters="'\\", blacklist_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=12,
)


def places(value, path="$"):
    yield path, value
    if isinstance(value, dict):
        for name, below in value.items():
            yield from places(below, f"{path}['{name}']")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from places(below, f"{path}[{index}]")


@given(VALUES)
def test_every_place_of_a_document_is_reached(document):
    for path, value in places(document):
        assert values_at(document, parse_path(path)) == [value]
