"""Utilisation against the times of ranks; other contradictions are tried in test_evidence_rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.contradictions import _training

COMPUTATION_S, BATCH, STEPS = 0.1, 4, 11


def told_by(times_s, factor=1.0):
    """What a stage tells of an epoch whose ranks took these times; `factor` makes it better."""
    computing_s = (STEPS - 1) * COMPUTATION_S
    pct = [100 * computing_s / each for each in times_s]
    total_pct = factor * sum(pct)
    epoch = {
        "epoch": 1,
        "steps": STEPS,
        "au_nominal_sum_pct": round(total_pct, 6),
        "au_nominal_worst_pct": round(min(pct), 6),
        "samples_dlio_per_s": round(total_pct * BATCH / (100 * COMPUTATION_S), 6),
        "block_sum_s": sum(times_s) + 0.5,
        "first_step_sum_s": 0.5,
    }
    training = {"computation_s": COMPUTATION_S, "batch": BATCH, "epochs": [epoch]}
    return {"ranks": {"host_index": [0] * len(times_s)}, "training": training}


@given(st.lists(st.floats(min_value=1.0, max_value=100.0), min_size=1, max_size=64))
def test_however_far_ranks_are_apart_their_utilisation_fits_their_times(times_s):
    assert [*_training(told_by(times_s))] == []


def test_two_ranks_of_a_busy_machine():
    assert [*_training(told_by([1.15, 2.7]))] == []


@pytest.mark.parametrize("factor", [0.85, 1.15])
@pytest.mark.parametrize("times_s", [[2.0] * 4, [2.0, 2.1]], ids=["alike", "nearly"])
def test_another_utilisation_than_that_of_the_times_is_found(times_s, factor):
    (text,) = _training(told_by(times_s, factor))
    assert text.startswith("epoch 1: utilisation of ")
    assert "its times make it 48.78 %" in text or "its times make it 50.00 %" in text


def test_more_than_a_rank_can_compute_is_found():
    (text,) = _training(told_by([1.15, 2.7], 1.3))
    assert text == "epoch 1: utilisation of 80.60 %, its times make it 51.95 % to 65.74 %"
