"""Percentiles of merged histograms against the exact ranks of their samples."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.latency import percentile_name, percentile_ns


def upper_end(value):
    """Highest value of a log-linear bucket with three significant digits."""
    shift = max(0, value.bit_length() - 11)
    return ((value >> shift) + 1 << shift) - 1


def histogram(samples):
    uppers = sorted({upper_end(value) for value in samples})
    counts = [sum(upper_end(value) == upper for value in samples) for upper in uppers]
    return {
        "unit": "ns",
        "upper": uppers,
        "count": counts,
        "sum": sum(samples),
        "min": min(samples),
        "max": max(samples),
    }


latencies = st.lists(st.integers(0, 10**11), min_size=1, max_size=300)
percents = st.integers(0, 100)


@given(latencies, percents)
def test_a_percentile_is_the_exact_rank_within_its_bucket(samples, percent):
    rank = max(1, math.ceil(Fraction(percent, 100) * len(samples)))
    exact = sorted(samples)[rank - 1]
    found = percentile_ns(histogram(samples), percent / 100)
    # A fraction as a float may lie a hair above the decimal, and then ask for the next rank.
    after = sorted(samples)[min(rank, len(samples) - 1)]
    assert found in {min(upper_end(exact), max(samples)), min(upper_end(after), max(samples))}
    assert exact <= found
    if percent in (50, 95, 99):
        assert found == min(upper_end(exact), max(samples))
        assert found <= exact * 1.001


@given(latencies)
def test_percentiles_rise_with_their_fraction_and_stay_in_range(samples):
    found = [percentile_ns(histogram(samples), percent / 100) for percent in range(101)]
    assert found == sorted(found)
    assert min(samples) <= found[0]
    assert found[-1] == max(samples)


@given(latencies, latencies, percents)
def test_a_merged_percentile_lies_between_those_of_the_parts(left, right, percent):
    ends = [percentile_ns(histogram(part), percent / 100) for part in (left, right)]
    merged = percentile_ns(histogram(left + right), percent / 100)
    # The longest latency cuts the last bucket of a part, not that of the whole.
    assert min(ends) <= merged <= max(map(upper_end, ends))


def test_an_empty_histogram_has_no_percentiles():
    with pytest.raises(ValueError, match="an empty histogram has no percentiles"):
        percentile_ns({"upper": [], "count": [], "max": None}, 0.5)


@pytest.mark.parametrize(
    ("fraction", "name"),
    [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p999"), (0.9999, "p9999")],
)
def test_names_of_percentiles(fraction, name):
    assert percentile_name(fraction) == name
