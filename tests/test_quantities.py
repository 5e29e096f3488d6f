"""Units: each is what its name says, and only what is of one kind is converted."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mlps.engine.quantities import SUFFIXES, UNITS, factor
from mlps.engine.schema import load_schema


@pytest.mark.parametrize(
    ("unit", "name", "expected"),
    [
        ("B/s", "read_gib_s", Fraction(1, 2**30)),
        ("MB/s", "read_gib_s", Fraction(10**6, 2**30)),
        ("MiB/s", "read_mib_s", 1),
        ("KiB/s", "read_gib_s", Fraction(1, 2**20)),
        ("ns", "read_p99_ms", Fraction(1, 10**6)),
        ("us", "read_p99_us", 1),
        ("s", "load_ms", 1000),
        ("min", "load_s", 60),
        ("share", "recall_pct", 100),
        ("%", "au_pct", 1),
        ("1/min", "jobs_per_s", Fraction(1, 60)),
        ("GB", "written_gib", Fraction(10**9, 2**30)),
        ("kB", "written_bytes", 1000),
        ("count", "errors_count", 1),
    ],
)
def test_what_a_number_is_multiplied_with(unit, name, expected):
    assert factor(unit, name) == expected


@pytest.mark.parametrize(
    ("unit", "name", "flaw"),
    [
        ("B", "read_gib_s", "B is no byte rate"),
        ("MB/s", "read_gib", "MB/s is no bytes"),
        ("s", "read_per_s", "s is no rate"),
        ("ns", "read", "its name ends in no unit"),
        ("GiB/s", "read_gb_s", "GiB/s is no time"),
    ],
)
def test_what_cannot_be_converted(unit, name, flaw):
    with pytest.raises(ValueError, match=flaw):
        factor(unit, name)


def test_the_schema_knows_the_same_units():
    metric = load_schema("benchmark/external")["$defs"]["metric"]
    assert metric["properties"]["unit"]["enum"] == list(UNITS)


def test_every_suffix_is_found_by_itself():
    for suffix, unit in SUFFIXES.items():
        names = [name for name, known in UNITS.items() if known == unit]
        assert any(factor(name, f"x{suffix}") == 1 for name in names)
