"""Lines of samplers are found in any noise; nothing else is taken for one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.samplers import SamplerLine, parse_line

TICK = {"mlps_tick": "node1", "n": 3, "cpu": [1, 2]}


def test_a_line_is_told_apart_from_what_it_says():
    line = parse_line(json.dumps(TICK).encode())
    assert line == SamplerLine(kind="tick", host="node1", rest={"n": 3, "cpu": [1, 2]})


@pytest.mark.parametrize(
    ("mark", "kind"), [("mlps_series", "start"), ("mlps_tick", "tick"), ("mlps_end", "end")]
)
def test_kinds(mark, kind):
    assert parse_line(b'{"%s": "node1"}' % mark.encode()).kind == kind


@given(before=st.text(alphabet="abc {}\x1b[", max_size=20), after=st.text(max_size=10))
def test_a_line_is_found_behind_what_a_launcher_puts_before_it(before, after):
    line = parse_line((before + json.dumps(TICK) + after).encode(errors="replace"))
    assert line is not None and line.rest["n"] == 3


@given(st.binary())
def test_other_bytes_are_no_line(data):
    assert parse_line(data) is None


@pytest.mark.parametrize(
    "data",
    [b'{"mlps_tick":"n"', b'{"mlps_facts":"n"}', b'{"mlps_', b'{"mlps_tick"}', b'{"mlps_":1}'],
)
def test_half_a_line_and_other_answers_are_none(data):
    assert parse_line(data) is None


def test_a_line_without_end_is_none():
    assert parse_line(b'{"mlps_tick":' + b"[" * 100_000) is None
