"""From what stages reported to the published numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.collect import collect, overall_status, percentile_ns, stage_metrics


def outcome(status="complete", reason=None, message=None):
    return {"status": status, "reason": reason, "message": message, "elapsed_s": 1.5}


def published(plan, outcomes, results):
    return collect(
        plan,
        run_id="a run",
        version="1.2",
        benchmark="kvcache/quick",
        outcomes=outcomes,
        results=results,
        evidence={"b": "2", "a": "1"},
    )


# ---------------------------------------------------------------- percentiles


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


# ---------------------------------------------------------------- metrics of a stage


def test_metrics_of_a_stage(make_result):
    assert stage_metrics(make_result()) == pytest.approx(
        {
            "window_s": 2.0,
            "drain_s": 0.25,
            "read_gib_s": 2.0,
            "read_ops_per_s": 512.0,
            "read_mean_ms": (512 * 1 + 511 * 2 + 9) / 1024,
            "read_mean_ms_per_gib": (512 * 1 + 511 * 2 + 9) / 4,
            "read_p50_ms": 1.0,
            "read_p95_ms": 2.0,
            "read_p99_ms": 2.0,
            "read_max_ms": 8.999,
            "read_p99_worst_rank_ms": 2.5,
            "write_gib_s": 1.0,
            "write_ops_per_s": 256.0,
            "write_mean_ms": (256 * 1 + 255 * 2 + 9) / 512,
            "write_mean_ms_per_gib": (256 * 1 + 255 * 2 + 9) / 2,
            "write_p50_ms": 1.0,
            "write_p95_ms": 2.0,
            "write_p99_ms": 2.0,
            "write_max_ms": 8.999,
            "write_p99_worst_rank_ms": 2.0,
            "cpu_s": 3.0,
            "cpu_s_per_gib": 0.5,
            "peak_rss_max_mib": 101.0,
            "verified_bytes": 4 * 2**30,
            "verify_mismatches": 0,
        }
    )


def test_requests_counts_and_devices_give_metrics_of_their_own(make_result):
    request = {
        "unit": "ns",
        "upper": [2_000_000],
        "count": [4],
        "sum": 6_000_000,
        "min": 1,
        "max": 2_000_000,
    }
    device = [{"host": "node1", "device": "nvme0n1", "read_bytes": 3 * 2**30, "write_bytes": 2**31}]
    metrics = stage_metrics(
        make_result(
            latency={"request": request},
            measures={"rates": {"tokens": 500}, "ratios": {"hit": {"part": 1, "whole": 4}}},
            device=device,
        )
    )
    assert (metrics["request_mean_ms"], metrics["request_p99_ms"]) == (1.5, 2.0)
    assert (metrics["tokens_per_s"], metrics["hit_pct"]) == (250.0, 25.0)
    assert (metrics["device_read_pct"], metrics["device_write_pct"]) == (75.0, 100.0)


def test_a_ratio_of_nothing_is_no_number(make_result):
    measures = {"ratios": {"hit": {"part": 0, "whole": 0}}}
    assert "hit_pct" not in stage_metrics(make_result(measures=measures))


def test_bytes_outside_the_window_do_not_count(make_result):
    result = make_result()
    result["io"]["read"]["total_bytes"] *= 10
    assert stage_metrics(result)["read_gib_s"] == 2.0


def test_a_stage_without_a_window_has_no_numbers(make_result):
    assert stage_metrics(make_result(window=None)) == {}


def test_a_direction_without_operations_has_no_numbers(make_result):
    result = make_result()
    result["io"]["write"] = {
        "window_bytes": 0,
        "window_operations": 0,
        "total_bytes": 0,
        "total_operations": 0,
        "latency": {"unit": "ns", "upper": [], "count": [], "sum": 0, "min": None, "max": None},
    }
    names = set(stage_metrics(result))
    assert "read_gib_s" in names
    assert not any(name.startswith("write_") for name in names)


def test_a_rank_without_operations_does_not_hide_the_worst(make_result):
    result = make_result()
    result["ranks"]["read_p99_ns"] = [None, 3_000_000]
    assert stage_metrics(result)["read_p99_worst_rank_ms"] == 3.0


@pytest.mark.parametrize("name", ["cpu_s", "peak_rss_max_mib", "window_s", "read_gib_s"])
def test_names_end_in_their_unit(name, make_result):
    units = ("_s", "_ms", "_mib", "_bytes", "_gib", "_per_s", "_gib_s", "_mismatches")
    assert name in stage_metrics(make_result())
    assert all(metric.endswith(units) for metric in stage_metrics(make_result()))


# ---------------------------------------------------------------- the document


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        pytest.param([("complete", None)], "complete", id="complete"),
        pytest.param([("complete", None), ("failed", "silence")], "failed", id="failed"),
        pytest.param([("stopped", "stop"), ("not_run", None)], "interrupted", id="stopped"),
        pytest.param([("failed", "killed"), ("not_run", None)], "interrupted", id="killed"),
        pytest.param([("failed", "stop")], "interrupted", id="stop took too long"),
        pytest.param([("stopped", "stop"), ("failed", "engine")], "failed", id="both"),
        pytest.param([("complete", None), ("not_run", None)], "interrupted", id="not run"),
    ],
)
def test_overall_status(outcomes, status):
    assert overall_status(outcome(*pair) for pair in outcomes) == status


def three_trials(plan, make_result, rates=(1.0, 2.0, 3.0)):
    results = {launch.name: make_result(window=None, io={}) for launch in plan.launches}
    for launch, factor in zip(plan.launches[1:4], rates, strict=True):
        results[launch.name] = make_result()
        results[launch.name]["io"]["read"]["window_bytes"] *= factor
    return results


def test_trials_are_summed_up(plan_of, make_result):
    plan = plan_of({"trials": 3})
    outcomes = {launch.name: outcome() for launch in plan.launches}
    document = published(plan, outcomes, three_trials(plan, make_result))

    (summary,) = document["metrics"]
    assert (summary["stage"], summary["option"]) == ("run", None)
    assert (summary["trials"], summary["trials_planned"], summary["complete"]) == (3, 3, True)
    values = summary["values"]["read_gib_s"]
    assert [values[name] for name in ("mean", "min", "max", "cv_pct")] == pytest.approx(
        [4.0, 2.0, 6.0, 50.0]
    )
    assert 2.0 < values["ci95_low"] < 4.0 < values["ci95_high"] < 6.0
    assert document["evidence"] == {"a": "1", "b": "2"}
    assert (document["status"], document["failure"]) == ("complete", None)
    assert (document["hosts"], document["ranks"]) == (1, 2)
    assert (document["run_id"], document["mlps_version"]) == ("a run", "1.2")
    assert document["job_sha256"] == plan.job_sha256


def test_one_trial_has_no_spread(plan_of, make_result):
    plan = plan_of()
    outcomes = {launch.name: outcome() for launch in plan.launches}
    (summary,) = published(plan, outcomes, {"01-run-0": make_result()})["metrics"]
    assert summary["values"]["read_gib_s"]["cv_pct"] is None


def test_no_number_is_published_where_a_trial_is_missing(plan_of, make_result):
    plan = plan_of({"trials": 3})
    outcomes = {launch.name: outcome() for launch in plan.launches}
    outcomes["02-run-1"] = outcome("failed", "rank_died", "rank 1 died")
    outcomes["03-run-2"] = outcome("not_run", None, "stage 02-run-1 failed")
    document = published(plan, outcomes, three_trials(plan, make_result))

    (summary,) = document["metrics"]
    assert (summary["trials"], summary["trials_planned"], summary["complete"]) == (1, 3, False)
    assert summary["values"] == {}
    assert document["failure"] == {
        "stage": "02-run-1",
        "reason": "rank_died",
        "message": "rank 1 died",
    }
    with_numbers = {entry["name"] for entry in document["stages"] if "metrics" in entry}
    assert with_numbers == {"00-prepare", "01-run-0", "04-cleanup"}


def test_a_stopped_stage_shows_its_numbers_but_does_not_count(plan_of, make_result):
    plan = plan_of()
    outcomes = {launch.name: outcome() for launch in plan.launches}
    outcomes["01-run-0"] = outcome("stopped", "stop", "stopped by SIGINT")
    document = published(plan, outcomes, {"01-run-0": make_result(status="stopped")})
    (summary,) = document["metrics"]
    assert (summary["trials"], summary["values"]) == (0, {})
    (entry,) = [entry for entry in document["stages"] if entry["name"] == "01-run-0"]
    assert entry["metrics"]["read_gib_s"] == 2.0


def test_options_are_summed_up_apart(plan_of, make_result):
    options = [{"name": name, "set": {}} for name in ("a", "b")]
    plan = plan_of({"benchmark.options": options, "trials": 2})
    outcomes = {launch.name: outcome() for launch in plan.launches}
    results = {launch.name: make_result() for launch in plan.launches}
    summaries = published(plan, outcomes, results)["metrics"]
    assert [(summary["option"], summary["trials"]) for summary in summaries] == [("a", 2), ("b", 2)]
