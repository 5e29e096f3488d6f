"""The drift of throughput: found where it is, and not where there is only noise."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.steady import drift_of

MIB = 2**20


def result_of(moved, *, length_s=None, bin_s=1, **more):
    """What of a stage's result a drift is computed from; reads get a third of the bytes."""
    reads = [count // 3 for count in moved]
    writes = [count - read for count, read in zip(moved, reads, strict=True)]
    length_s = len(moved) * bin_s if length_s is None else length_s
    timeline = {"bin_s": bin_s, "read_bytes": reads, "write_bytes": writes}
    return {"window": {"length_s": length_s}, "timeline": timeline, **more}


def drift(moved, **more):
    return drift_of(result_of(moved, **more))


counts = st.integers(0, 10**13)


@given(st.integers(1, 10**13), st.integers(10, 400))
def test_a_constant_timeline_has_no_drift_and_is_never_flagged(count, bins):
    found = drift([count] * bins)
    assert (found.drift_pct, found.cv_pct, found.steady) == (0.0, 0.0, True)


@given(st.integers(10, 400), st.integers(10**6, 10**10), st.sampled_from([1, -1]))
def test_a_strong_ramp_is_flagged(bins, step, way):
    found = drift([step * (bins + place) for place in range(bins)][::way])
    assert not found.steady
    assert found.drift_pct * way > 10
    assert (found.last_bytes_per_s > found.first_bytes_per_s) == (way == 1)


@given(st.lists(counts, min_size=10, max_size=80).filter(any))
def test_drift_is_the_least_squares_slope_over_the_mean(moved):
    bins = len(moved)
    mean = Fraction(sum(moved), bins)
    middle = Fraction(bins - 1, 2)
    cross = sum((place - middle) * (count - mean) for place, count in enumerate(moved))
    slope = cross / sum((place - middle) ** 2 for place in range(bins))
    variance = sum((count - mean) ** 2 for count in moved) / (bins - 1)
    found = drift(moved)
    assert found.drift_pct == pytest.approx(float(100 * slope * bins / mean), rel=1e-12)
    assert found.cv_pct == pytest.approx(100 * float(variance) ** 0.5 / float(mean), rel=1e-9)


@given(st.lists(counts, min_size=10, max_size=80).filter(any), st.integers(0, 4))
def test_drift_does_not_depend_on_the_scale_and_turns_with_time(moved, factor):
    found, scaled, back = (
        drift(given) for given in (moved, [count << factor for count in moved], moved[::-1])
    )
    assert (scaled.drift_pct, scaled.cv_pct) == (found.drift_pct, found.cv_pct)
    assert (back.drift_pct, back.cv_pct) == (-found.drift_pct, found.cv_pct)


def noisy(generator, shape, noise):
    return [round(1000 * MIB * level * max(0.0, generator.gauss(1, noise))) for level in shape]


@pytest.mark.parametrize("bins", [10, 19, 60, 300])
def test_noise_alone_is_seldom_distinguishable(bins):
    generator = random.Random(bins)
    found = [drift(noisy(generator, [1.0] * bins, 0.3)).distinguishable for _ in range(400)]
    assert sum(found) <= 34  # 5 % is 20


@pytest.mark.parametrize("bins", [10, 19, 60, 300])
@pytest.mark.parametrize(
    "shape",
    [
        lambda place: 1.2 - 0.4 * place,
        lambda place: 2.0 - (place > 0.5),
        lambda place: 1.0 if place < 1 / 6 else 0.2,
        lambda place: 2**-place,
    ],
    ids=["ramp", "step", "early step", "decay"],
)
def test_a_decline_in_noise_is_found(bins, shape):
    generator = random.Random(bins)
    levels = [shape(place / bins) for place in range(bins)]
    found = [drift(noisy(generator, levels, 0.05)).steady for _ in range(100)]
    assert sum(found) <= 5


def test_only_whole_bins_inside_the_window_count():
    cut = [MIB] * 12 + [1]
    assert drift(cut, length_s=12.3).drift_pct == 0
    assert drift(cut, length_s=12.3).length_s == 12
    assert drift([MIB] * 12, length_s=11.999999).length_s == 12
    assert drift([MIB] * 12, length_s=24, bin_s=2).length_s == 24


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(result_of([MIB] * 9), id="nine bins"),
        pytest.param(result_of([MIB] * 10, length_s=9.9), id="the tenth is cut"),
        pytest.param(result_of([0] * 20), id="no bytes"),
        pytest.param({"window": None, "timeline": None}, id="no timeline"),
        pytest.param({"window": {"length_s": 20}}, id="none told"),
        pytest.param(result_of([MIB] * 20, search={"probes": []}), id="a search changes its rate"),
    ],
)
def test_nothing_to_say(result):
    assert drift_of(result) is None


def test_a_device_that_others_began_to_use_is_found():
    # GiB of each second, as they were measured.
    moved = [1.67, 1.753, 0.469, 0.22, 0.171, 0.218, 0.284, 0.426, 0.319, 0.223, 0.24, 0.242]
    found = drift([round(gib * 2**30) for gib in moved])
    assert (round(found.drift_pct), found.steady) == (-240, False)
