"""The spread of a metric over its trials."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.spread import bootstrap_interval, spread

values = st.lists(st.floats(0.1, 1e6), min_size=2, max_size=8)


def test_one_trial_has_no_variation():
    assert spread([2.0]) == {
        "mean": 2.0, "min": 2.0, "max": 2.0, "cv_pct": None, "ci95_low": None, "ci95_high": None,
    }  # fmt: skip


def test_three_trials():
    found = spread([1.0, 2.0, 3.0])
    assert (found["mean"], found["min"], found["max"]) == (2.0, 1.0, 3.0)
    assert found["cv_pct"] == pytest.approx(50.0)
    # Of the 27 resamples the outermost on each side is all ones and all threes; one is cut off.
    assert (found["ci95_low"], found["ci95_high"]) == pytest.approx((4 / 3, 8 / 3))


@given(values)
def test_interval_holds_the_mean_and_repeats(trials):
    low, high = bootstrap_interval(trials)
    slack = 1e-9 * max(trials)
    assert min(trials) - slack <= low <= statistics.fmean(trials) + slack
    assert statistics.fmean(trials) - slack <= high <= max(trials) + slack
    assert bootstrap_interval(trials) == (low, high)


def test_a_wider_spread_has_a_wider_interval():
    narrow = bootstrap_interval([9.0, 10.0, 11.0, 10.0, 10.0, 9.5])
    wide = bootstrap_interval([1.0, 10.0, 19.0, 10.0, 10.0, 5.0])
    assert wide[1] - wide[0] > narrow[1] - narrow[0]
