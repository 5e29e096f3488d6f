"""Arrivals: at the rate, the same every time, and of each rank its own."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.vectordb.arrivals import Rate, arrivals


def of(count, rank=0, ranks=1, **changes):
    rate = Rate(**{"per_s": 1000.0, "arrival": "poisson", "seed": 7, **changes})
    return list(islice(arrivals(rate, rank, ranks), count))


@given(
    per_s=st.floats(0.01, 1e6),
    arrival=st.sampled_from(["poisson", "constant"]),
    ranks=st.integers(1, 9),
    seed=st.integers(0, 2**64),
)
@settings(max_examples=25, deadline=None)
def test_they_come_in_order_at_their_rate(per_s, arrival, ranks, seed):
    count = 3000
    found = of(count, ranks - 1, ranks, per_s=per_s, arrival=arrival, seed=seed)
    assert found == sorted(found)
    assert found[0] >= 0
    # The deviation of a sum of so many gaps is a 55th of it.
    assert found[-1] == pytest.approx(count * ranks * 1e9 / per_s, rel=0.12)


def test_constant_ones_of_all_ranks_are_as_far_from_each_other():
    together = sorted(moment for rank in range(3) for moment in of(5, rank, 3, arrival="constant"))
    assert together == [number * 1_000_000 for number in range(15)]


def test_gaps_of_poisson_are_exponential():
    gaps = np.diff(of(20_000)) / 1e6
    assert gaps.std() == pytest.approx(1, abs=0.05)
    assert (gaps > 1).mean() == pytest.approx(np.exp(-1), abs=0.02)


def test_they_are_the_same_every_time_and_of_each_rank_and_seed_others():
    assert of(2000) == of(2000)
    assert len({tuple(of(9, rank, 4, seed=seed)) for rank in range(4) for seed in (1, 2)}) == 8


def test_they_do_not_drift_over_blocks():
    """What comes late is not rounded more often than what comes early."""
    slow, fast = of(5000, per_s=1.0), of(5000, per_s=1e6)
    assert slow[-1] == pytest.approx(fast[-1] * 10**6, rel=1e-6)
