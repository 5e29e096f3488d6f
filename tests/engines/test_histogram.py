"""Histograms: three digits everywhere, and merging loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.histogram import BUCKETS, Histogram, bucket_index, bucket_upper

# Each octave equally likely: uniform integers would nearly all be huge.
values_ns = st.integers(0, 63).flatmap(lambda bits: st.integers(0, 2**bits - 1))
many_ns = st.lists(values_ns, max_size=60)


def recorded(values):
    histogram = Histogram()
    histogram.record(values)
    return histogram


def state(histogram):
    return (
        histogram.counts.tolist(),
        histogram.total,
        histogram.minimum,
        histogram.maximum,
    )


@given(values_ns)
def test_a_bucket_lies_less_than_a_thousandth_above_its_values(value):
    index = bucket_index(np.array([value]))
    upper = int(bucket_upper(index)[0])
    assert value <= upper
    assert upper - value <= value / 1000


def test_buckets_follow_one_another_without_gap():
    uppers = bucket_upper(np.arange(BUCKETS))
    assert uppers[0] == 0
    assert uppers[-1] == 2**63 - 1
    assert (np.diff(uppers) > 0).all()
    assert (bucket_index(uppers) == np.arange(BUCKETS)).all()
    assert (bucket_index(uppers[:-1] + 1) == np.arange(1, BUCKETS)).all()


@given(st.lists(many_ns, max_size=4))
def test_merging_equals_recording_all(parts):
    merged = Histogram()
    for part in parts:
        merged.merge(recorded(part))
    assert state(merged) == state(recorded([value for part in parts for value in part]))


@given(many_ns.filter(len), st.floats(0, 1))
def test_a_percentile_is_that_of_the_sorted_values(values, fraction):
    ordered = sorted(values)
    exact = ordered[max(int(np.ceil(fraction * len(values))), 1) - 1]
    estimate = recorded(values).percentile(fraction)
    assert exact <= estimate <= min(exact * 1.001, ordered[-1])


@given(many_ns)
def test_export_holds_all_and_only_what_was_recorded(values):
    exported = recorded(values).export("ns")
    assert exported["unit"] == "ns"
    assert sum(exported["count"]) == len(values)
    assert 0 not in exported["count"]
    assert exported["upper"] == sorted(set(exported["upper"]))
    assert exported["sum"] == sum(values)
    assert (exported["min"], exported["max"]) == (
        (min(values), max(values)) if values else (None, None)
    )


def test_an_empty_histogram_has_no_percentile():
    assert recorded([]).percentile(0.99) is None


def test_a_repeated_value_counts_each_time():
    assert recorded([5, 5, 5]).count == 3


def test_a_negative_value_is_refused():
    with pytest.raises(ValueError, match="got -1"):
        recorded([3, -1])
