"""The search for the highest rate that storage serves within a limit: alone, and for real."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.io_core.histogram import Histogram
from mlps.engines.kvcache_native.search import (
    Probe,
    SearchParameters,
    Tried,
    next_probe,
    search_of,
)
from mlps.engines.section import Section


def parameters(**changes):
    values = {
        "limit_ms": 200.0,
        "fraction": 0.99,
        "start_per_s": 1.0,
        "tolerance_pct": 5.0,
        "probe_s": 10.0,
        "confirm_s": 60.0,
        "requests_min": 100,
        "probes_max": 60,
    }
    return SearchParameters(**(values | changes))


def searched(search, passes):
    """All that is tried of a server that passes a probe or not."""
    tried = []
    while (probe := next_probe(search, tried)) is not None:
        tried.append(Tried(probe, passes(probe)))
        assert len(tried) <= search.probes_max
    return tried


def confirmed(tried):
    """The rate that a search has confirmed, None if it has none."""
    last = tried[-1]
    return last.probe.rate_per_s if last.passed and last.probe.purpose == "confirm" else None


rates = st.floats(-3, 5).map(lambda exponent: 10**exponent)
tolerances = st.floats(0.5, 100)


@given(rates, rates, tolerances)
def test_a_server_of_some_capacity_is_found_within_the_tolerance(capacity, start, tolerance_pct):
    search = parameters(start_per_s=start, tolerance_pct=tolerance_pct, confirm_s=1e9)
    tried = searched(search, lambda probe: probe.rate_per_s <= capacity)
    found = confirmed(tried)
    assert found is not None
    assert found <= capacity <= found * (1 + tolerance_pct / 100) * (1 + 1e-9)
    assert [one.probe.purpose for one in tried[:-1]] == ["search"] * (len(tried) - 1)


@given(rates, rates, tolerances, st.integers(2, 12))
def test_with_few_probes_what_has_passed_is_confirmed_nevertheless(
    capacity, start, tolerance_pct, probes_max
):
    search = parameters(
        start_per_s=start, tolerance_pct=tolerance_pct, probes_max=probes_max, confirm_s=1e9
    )
    tried = searched(search, lambda probe: probe.rate_per_s <= capacity)
    passed = [one.probe.rate_per_s for one in tried[: probes_max - 1] if one.passed]
    assert confirmed(tried) == (max(passed) if passed else None)


def test_a_server_without_a_limit_is_confirmed_at_the_highest_rate_tried():
    tried = searched(parameters(probes_max=5), lambda probe: True)
    assert [one.probe for one in tried] == [
        Probe("search", 1.0),
        Probe("search", 2.0),
        Probe("search", 4.0),
        Probe("search", 8.0),
        Probe("confirm", 8.0),
    ]


@given(st.integers(0, 2**32), st.floats(0, 1), st.integers(2, 40), tolerances)
def test_a_noisy_server_ends_and_no_rate_is_confirmed_above_one_that_failed(
    seed, luck, probes_max, tolerance_pct
):
    draw = random.Random(seed)
    search = parameters(probes_max=probes_max, tolerance_pct=tolerance_pct, confirm_s=1e9)
    tried = searched(search, lambda probe: draw.random() < luck)
    found = confirmed(tried)
    if found is not None:
        assert all(one.probe.rate_per_s > found for one in tried if not one.passed)


@given(rates, st.floats(5, 100))
def test_a_rate_that_only_a_short_probe_passes_is_not_confirmed(capacity, tolerance_pct):
    """A server that is slower in the long run: what fails to be confirmed counts as failed."""
    lasting = capacity / 1.2

    def passes(probe):
        return probe.rate_per_s <= (lasting if probe.purpose == "confirm" else capacity)

    search = parameters(tolerance_pct=tolerance_pct, probes_max=200, confirm_s=1e9)
    tried = searched(search, passes)
    found = confirmed(tried)
    assert found is not None
    assert found <= lasting
    assert all(one.probe.rate_per_s > found for one in tried if not one.passed)


def test_a_limit_that_nothing_can_meet_ends_the_search_before_probes_last_for_ever():
    search = parameters(confirm_s=60.0, requests_min=100, probe_s=10.0)
    tried = searched(search, lambda probe: False)
    lengths_s = [search.requests(one.probe) / one.probe.rate_per_s for one in tried]
    assert lengths_s == [100.0, 200.0, 400.0]
    assert confirmed(tried) is None


@given(rates, st.integers(1, 1000), st.floats(0.1, 100))
def test_every_search_that_meets_nothing_lasts_a_bounded_time(start, requests_min, confirm_s):
    search = parameters(start_per_s=start, requests_min=requests_min, confirm_s=confirm_s)
    first, *others = searched(search, lambda probe: False)
    lengths_s = [search.requests(one.probe) / one.probe.rate_per_s for one in others]
    assert all(length_s <= 10 * confirm_s + search.probe_s for length_s in lengths_s)
    assert first.probe.rate_per_s == start


def test_a_probe_has_enough_requests():
    search = parameters(probe_s=10.0, confirm_s=60.0, requests_min=100)
    assert search.requests(Probe("search", 1.0)) == 100
    assert search.requests(Probe("search", 10.01)) == 101
    assert search.requests(Probe("confirm", 1.0)) == 100
    assert search.requests(Probe("confirm", 2.5)) == 150


@pytest.mark.parametrize(
    ("slow", "passes"), [(0, True), (1, True), (2, False), (100, False), (None, False)]
)
def test_a_probe_passes_by_the_share_of_loads_within_the_limit(slow, passes):
    loads = Histogram()
    if slow is not None:
        loads.record([199_000_000] * (100 - slow) + [300_000_000] * slow)
    assert parameters(limit_ms=200.0, fraction=0.99).passes(loads) == passes


SECTION = {
    "prefix_load_ms": 200,
    "fraction": 0.99,
    "start_per_s": 1,
    "tolerance_pct": 5,
    "probe_s": 10,
    "requests_min": 100,
    "probes_max": 30,
}


def test_the_section_is_read():
    assert search_of(Section({"search": SECTION}).section("search"), 60.0) == parameters(
        probes_max=30
    )


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("prefix_load_ms", 0, "search.prefix_load_ms must be above 0"),
        ("fraction", "x", "search.fraction must be a number of at least 0, got 'x'"),
        ("requests_min", 0, "search.requests_min must be a whole number of at least 1, got 0"),
        ("probes_max", None, "search.probes_max must be a whole number of at least 1, got None"),
    ],
)
def test_a_section_without_sense_is_refused(key, value, text):
    with pytest.raises(JobError) as caught:
        search_of(Section({"search": SECTION | {key: value}}).section("search"), 60.0)
    assert str(caught.value) == text


# ---------------------------------------------------------------- for real


@pytest.fixture
def job(quick):
    """A small prefix job that is searched for its capacity."""

    def make(**search):
        quick.workload = "prefix"
        quick.changes = {"search": search, "duration_s": 0.2}
        assert quick.solo("prepare")["status"] == "complete"
        return quick

    return make


def upper_ns(probe, fraction):
    """The load that a fraction of a probe's requests did not exceed."""
    loads = probe["prefix_load"]
    wanted = math.ceil(fraction * sum(loads["count"]))
    seen = 0
    for upper, count in zip(loads["upper"], loads["count"], strict=True):
        seen += count
        if seen >= wanted:
            return min(upper, loads["max"])
    raise AssertionError("a probe without loads")


def assert_sound(result, search):
    """A result of a search: its probes are such as the rules make of how each one went."""
    assert result["errors"] == []
    assert result["verify"]["mismatches"] == 0
    found = result["search"]
    assert (found["limit_ms"], found["fraction"]) == (search["prefix_load_ms"], 0.99)
    ranks = len(result["ranks"]["host_index"])
    rules = parameters(
        limit_ms=search["prefix_load_ms"],
        start_per_s=search["start_per_s"],
        tolerance_pct=search["tolerance_pct"],
        probe_s=0.05,
        confirm_s=0.2,
        requests_min=5,
        probes_max=search["probes_max"],
    )
    tried = []
    for probe in found["probes"]:
        asked = next_probe(rules, tried)
        assert (probe["purpose"], probe["rate_per_s"]) == (asked.purpose, asked.rate_per_s * ranks)
        passed = upper_ns(probe, 0.99) <= search["prefix_load_ms"] * 1e6
        tried.append(Tried(asked, passed))
        assert 0 < probe["requests"] <= ranks * rules.requests(asked)
        assert probe["read_bytes"] > 0
        assert probe["length_s"] > 0
    assert next_probe(rules, tried) is None
    return tried


GENEROUS = {
    "prefix_load_ms": 60_000,
    "start_per_s": 50,
    "tolerance_pct": 50,
    "probes_max": 4,
}


def test_a_search_confirms_a_rate_that_storage_has_served(job):
    bench = job(**GENEROUS)
    result = bench.solo("search")
    tried = assert_sound(result, GENEROUS)
    assert [one.probe.purpose for one in tried] == ["search"] * 3 + ["confirm"]
    assert confirmed(tried) == 200.0
    # What else the result tells is of the last probe.
    last = result["search"]["probes"][-1]
    assert result["io"]["read"]["window_bytes"] == last["read_bytes"]
    assert result["verify"]["operations"] > 0
    assert result["plan"]["generator"].startswith("kvcache-prefix/")
    assert bench.solo("search")["details"]["warming_bytes"] > 0


def test_a_real_server_has_some_capacity_or_none(job):
    search = GENEROUS | {"prefix_load_ms": 3, "probes_max": 8}
    assert_sound(job(**search).solo("search"), search)


def test_a_limit_that_nothing_can_meet_ends_without_a_confirmed_rate(job):
    search = GENEROUS | {"prefix_load_ms": 1e-6, "start_per_s": 200, "probes_max": 30}
    result = job(**search).solo("search")
    tried = assert_sound(result, search)
    assert 1 < len(tried) < 10
    assert not any(one.passed for one in tried)
    assert {one.probe.purpose for one in tried} == {"search"}


@pytest.mark.mpi
def test_ranks_search_together_for_the_rate_of_all(quick):
    quick.workload = "prefix"
    quick.changes = {"search": GENEROUS, "duration_s": 0.2}
    assert quick.stage("prepare", ranks=2)["status"] == "complete"
    result = quick.stage("search", ranks=2)
    tried = assert_sound(result, GENEROUS)
    assert result["search"]["probes"][-1]["rate_per_s"] == 400.0 == 2 * confirmed(tried)


def test_a_search_in_a_closed_loops_job_is_an_open_loop(job):
    """The benchmark's own rate is that of its runs; a search makes its own arrivals."""
    bench = job(**GENEROUS)
    assert bench.job["benchmark"]["rate_per_s"] is None
    result = bench.solo("search")
    assert sum(result["latency"]["queue"]["count"]) > 0


def test_too_high_a_rate_is_seen_to_its_end(quick):
    """Unlike a run, a probe is not cut short because requests have to wait."""
    quick.workload = "prefix"
    search = GENEROUS | {"start_per_s": 5e4, "requests_min": 150, "probes_max": 2}
    quick.changes = {"search": search, "duration_s": 1e-6, "backlog_max": 1}
    assert quick.solo("prepare")["status"] == "complete"
    result = quick.solo("search")
    assert result["errors"] == []
    assert [probe["requests"] > 100 for probe in result["search"]["probes"]] == [True, True]
    assert result["details"]["backlog_max"] > 1
    assert result["details"]["overloaded"] is False


def is_past_the_first_probe(event):
    """Which of the later ones a progress event is of is chance: most are shorter than its pace."""
    phase = event.get("phase", "")
    return phase.startswith("search ") and not phase.startswith("search 100 ")


def test_a_search_that_is_stopped_keeps_what_it_has_found(quick):
    quick.workload = "prefix"
    search = GENEROUS | {"start_per_s": 100, "requests_min": 30, "probes_max": 30}
    quick.changes = {"search": search, "duration_s": 30}
    assert quick.solo("prepare")["status"] == "complete"
    with quick.launch("search") as launched:
        launched.events_until(is_past_the_first_probe)
        launched.say("stop")
        result = launched.result()
        launched.finish()
    assert result["status"] == "stopped"
    probes = result["search"]["probes"]
    assert [probe["rate_per_s"] for probe in probes][:1] == [100.0]
    assert {probe["purpose"] for probe in probes} == {"search"}


def test_a_damaged_chunk_fails_the_search(job):
    bench = job(**GENEROUS)
    for path in (bench.directory / "rank_0000").glob("*.dat"):
        path.write_bytes(bytes(path.stat().st_size))
    result = bench.solo("search")
    assert result["status"] == "failed"
    assert "found zeros" in result["errors"][0]["message"]
