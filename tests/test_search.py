"""The search for a capacity: which probe counts, and what is published of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.search import capacity_metrics, capacity_of, probes_of, search_document

GIB = 2**30


def probe(purpose, rate, milliseconds, **changes):
    """A probe of 2 s whose loads all took so long; None: no request loaded a prefix."""
    taken = [] if milliseconds is None else [milliseconds * 10**6]
    return {
        "purpose": purpose,
        "rate_per_s": rate,
        "requests": 15,
        "length_s": 2.0,
        "read_bytes": 3 * GIB,
        "write_bytes": GIB,
        "prefix_load": {
            "unit": "ns",
            "upper": taken,
            "count": [7] * len(taken),
            "sum": 7 * sum(taken),
            "min": taken[0] if taken else None,
            "max": taken[0] if taken else None,
        },
        **changes,
    }


def search(*probes, fraction=0.99):
    return {"limit_ms": 500.0, "fraction": fraction, "probes": list(probes)}


def test_the_last_confirmed_probe_is_the_capacity():
    found = search(
        probe("search", 16.0, 100),
        probe("confirm", 16.0, 501),
        probe("confirm", 12.0, 400),
        probe("confirm", 8.0, 500),
        probe("search", 9.0, 450),
    )
    assert capacity_metrics(found) == {
        "capacity_requests_per_s": 8.0,
        "capacity_completed_requests_per_s": 7.5,
        "capacity_prefix_load_p99_ms": 500.0,
        "capacity_read_gib_s": 1.5,
        "capacity_write_gib_s": 0.5,
    }


@pytest.mark.parametrize(
    "found",
    [
        search(),
        search(probe("search", 1.0, 1)),
        search(probe("confirm", 1.0, 501)),
        search(probe("confirm", 1.0, None)),
        search(probe("confirm", 1.0, 1, length_s=0)),
        None,
    ],
    ids=["no probe", "not confirmed", "too slow", "no load", "no time", "no search"],
)
def test_without_a_confirmed_rate_there_is_no_capacity(found):
    assert capacity_metrics(found) == {}


def test_the_metric_is_named_by_the_fraction():
    metrics = capacity_metrics(search(probe("confirm", 1.0, 1), fraction=0.999))
    assert metrics["capacity_prefix_load_p999_ms"] == 1.0


def test_a_search_in_result_json():
    document = search_document(search(probe("search", 4.0, 600), probe("confirm", 2.0, None)))
    assert (document["limit_ms"], document["percentile"]) == (500.0, "p99")
    assert document["probes"] == [
        {
            "purpose": purpose,
            "rate_per_s": rate,
            "completed_per_s": 7.5,
            "read_gib_s": 1.5,
            "write_gib_s": 0.5,
            "prefix_load_ms": latency,
            "met": False,
        }
        for purpose, rate, latency in (("search", 4.0, 600.0), ("confirm", 2.0, None))
    ]


@given(
    st.lists(
        st.builds(
            probe,
            st.sampled_from(["search", "confirm"]),
            st.floats(0.1, 1000),
            st.none() | st.integers(1, 1000),
        ),
        max_size=12,
    )
)
def test_a_capacity_is_one_of_the_probes_and_met_the_limit(probes):
    found = capacity_of(search(*probes))
    met = [one for one in probes_of(search(*probes)) if one.met and one.purpose == "confirm"]
    assert found == (met[-1] if met else None)
    assert found is None or found.prefix_load_ms <= 500
