"""The figures of Rules 6.3.4: sums over ranks, means over trials, the worst rank for a p95."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.aggregate import COLUMNS, LATENCY_DEFINITION, aggregates

GIB = 2**30

FIGURES = (
    "aggregated_read_bandwidth_gbps",
    "aggregated_write_bandwidth_gbps",
    "aggregated_avg_throughput_tokens_per_sec",
    "aggregated_storage_throughput_tokens_per_sec",
    "aggregated_device_read_p95_ms",
    "aggregated_device_write_p95_ms",
    "aggregated_p95_latency_ms",
)


def trial(make_result, *, length_s=2.0, **columns):
    """A result of two ranks that read 1 and 3 GiB and wrote 0.5 GiB each; columns by name."""
    result = make_result()
    result["window"]["length_s"] = length_s
    result["ranks"] |= {
        "read_bytes": [GIB, 3 * GIB],
        "write_bytes": [GIB // 2, GIB // 2],
        "entry_read_p95_ns": [10_000_000, 20_000_000],
        "entry_write_p95_ns": [5_000_000, 4_000_000],
        "request_p95_ns": [70_000_000, 80_000_000],
        "generated_tokens": [100, 300],
        "storage_s": [5.0, 10.0],
        **columns,
    }
    return result


def aggregated(plan, trials, *, status="complete", failed=()):
    """The one aggregate of a plan; `trials` are the results of its measured launches, in order."""
    launches = [launch for launch in plan.launches if launch.measured]
    results = {
        launch.name: result
        for launch, result in zip(launches, trials, strict=True)
        if result is not None
    }
    outcomes = {
        launch.name: {"status": "failed" if launch.name in failed else status}
        for launch in plan.launches
    }
    return aggregates(plan, outcomes, results)


def test_two_ranks_and_three_trials_are_not_inflated(plan_of, make_result):
    trials = [
        trial(make_result),
        trial(make_result, read_bytes=[2 * GIB, 4 * GIB], entry_read_p95_ns=[15_000_000, None]),
        trial(make_result, length_s=4.0, request_p95_ns=[95_000_000, 1]),
    ]
    (found,) = aggregated(plan_of({"trials": 3}), trials)
    assert found == {
        "stage": "run",
        "option": None,
        "aggregated_read_bandwidth_gbps": (2.0 + 3.0 + 1.0) / 3,
        "aggregated_write_bandwidth_gbps": (0.5 + 0.5 + 0.25) / 3,
        "aggregated_avg_throughput_tokens_per_sec": (200 + 200 + 100) / 3,
        "aggregated_storage_throughput_tokens_per_sec": 20 + 30,
        "aggregated_device_read_p95_ms": 20.0,
        "aggregated_device_write_p95_ms": 5.0,
        "aggregated_p95_latency_ms": 95.0,
        "rank_count": 2,
        "trial_count": 3,
        "partial_failure": False,
        "missing_files": [],
        "cpu_tier_ranks": [],
        "latency_definition": LATENCY_DEFINITION,
    }


def test_a_rank_of_the_cpu_tier_is_listed_and_adds_nothing(plan_of, make_result):
    idle = {
        "read_bytes": [GIB, 0],
        "write_bytes": [GIB, 0],
        "entry_read_p95_ns": [1_000_000, None],
        "entry_write_p95_ns": [1_000_000, None],
        "storage_s": [5.0, 0.0],
    }
    (found,) = aggregated(plan_of(), [trial(make_result, **idle)])
    assert found["cpu_tier_ranks"] == [1]
    assert found["aggregated_read_bandwidth_gbps"] == 0.5
    assert found["aggregated_storage_throughput_tokens_per_sec"] == 20.0
    assert found["aggregated_avg_throughput_tokens_per_sec"] == 200.0
    assert found["aggregated_device_read_p95_ms"] == 1.0


def test_a_rank_is_of_the_cpu_tier_if_it_was_in_one_trial(plan_of, make_result):
    trials = [trial(make_result), trial(make_result, read_bytes=[0, 1], write_bytes=[0, 0])]
    (found,) = aggregated(plan_of({"trials": 2}), trials)
    assert found["cpu_tier_ranks"] == [0]


def test_without_an_entry_or_a_column_there_is_no_p95(plan_of, make_result):
    result = trial(make_result, entry_write_p95_ns=[None, None])
    del result["ranks"]["request_p95_ns"]
    (found,) = aggregated(plan_of(), [result])
    assert found["aggregated_device_write_p95_ms"] is None
    assert found["aggregated_p95_latency_ms"] is None


@pytest.mark.parametrize("how", ["no file", "failed", "no window"])
def test_a_missing_trial_leaves_no_figures(plan_of, make_result, how):
    trials = [trial(make_result) for _ in range(3)]
    trials[1] = None if how == "no file" else trials[1]
    if how == "no window":
        trials[1]["window"] = None
    failed = ["02-run-1"] if how == "failed" else ()
    (found,) = aggregated(plan_of({"trials": 3}), trials, failed=failed)
    assert [found[name] for name in FIGURES] == [None] * len(FIGURES)
    assert (found["partial_failure"], found["trial_count"], found["rank_count"]) == (True, 2, 2)
    assert found["missing_files"] == ["stages/02-run-1/result.json"]


def test_where_every_trial_is_missing_the_option_is_still_there(plan_of):
    (found,) = aggregated(plan_of({"trials": 2}), [None, None])
    assert (found["partial_failure"], found["trial_count"]) == (True, 0)
    assert found["missing_files"] == [f"stages/0{n + 1}-run-{n}/result.json" for n in range(2)]


@pytest.mark.parametrize("column", COLUMNS)
def test_results_without_the_columns_have_no_aggregate(plan_of, make_result, column):
    result = trial(make_result)
    del result["ranks"][column]
    assert aggregated(plan_of({"trials": 2}), [trial(make_result), result]) == []


def test_options_have_their_own(plan_of, make_result):
    options = [{"name": name, "set": {}} for name in ("1", "2")]
    plan = plan_of({"benchmark.options": options})
    found = aggregated(plan, [trial(make_result), None])
    assert [(each["option"], each["partial_failure"]) for each in found] == [
        ("1", False),
        ("2", True),
    ]


rank = st.tuples(
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.none() | st.integers(1, 10**12),
    st.integers(0, 10**9),
    st.floats(0, 1e6, allow_subnormal=False),
)


@given(st.lists(st.tuples(st.floats(0.5, 1e4), st.tuples(rank, rank)), min_size=1, max_size=4))
def test_an_aggregate_is_what_a_naive_reading_of_the_rules_gives(plan_of, make_result, trials):
    results = [
        trial(
            make_result,
            length_s=length_s,
            **dict(
                zip(
                    ("read_bytes", "write_bytes", "entry_read_p95_ns", "generated_tokens",
                     "storage_s"),
                    map(list, zip(*ranks, strict=True)),
                    strict=True,
                )
            ),
        )
        for length_s, ranks in trials
    ]  # fmt: skip
    (found,) = aggregated(plan_of({"trials": len(trials)}), results)

    def mean(of_rank):
        return sum(sum(of_rank(each, length) for each in two) for length, two in trials) / len(
            trials
        )

    expected = (
        mean(lambda each, length: each[0] / GIB / length),
        mean(lambda each, length: each[1] / GIB / length),
        mean(lambda each, length: each[3] / length),
        mean(lambda each, _: each[3] / each[4] if each[4] else 0),
    )
    assert [found[name] for name in FIGURES[:4]] == pytest.approx(expected, rel=1e-9)
    slowest = [each[2] for _, two in trials for each in two if each[2] is not None]
    assert found["aggregated_device_read_p95_ms"] == (max(slowest) / 1e6 if slowest else None)
