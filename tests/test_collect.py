"""From what stages reported to the published numbers."""

from __future__ import annotations

import pytest
from facts_of_hosts import GIB, facts_of

from mlps.engine.collect import collect, overall_status, size_name, stage_metrics
from mlps.engine.host_documents import HostFacts, totals
from mlps.engine.series import Load, Series

KINDS = ("device_", "mount_", "network_")


def outcome(status="complete", reason=None, message=None):
    return {"status": status, "reason": reason, "message": message, "elapsed_s": 1.5}


def hosts_of(**changes):
    return HostFacts(
        facts={"node1": facts_of("node1", **changes)},
        clock_offset_s={"node1": 0.0},
        without_facts={},
    )


def published(plan, outcomes, results, hosts=None, series=None):
    return collect(
        plan,
        run_id="a run",
        version="1.2",
        benchmark="kvcache/quick",
        family="kvcache",
        outcomes=outcomes,
        results=results,
        hosts=hosts or hosts_of(),
        series=series,
        evidence={"b": "2", "a": "1"},
    )


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


def test_counters_give_rates_of_their_own_window_and_shares_of_all_bytes(make_full_result):
    metrics = stage_metrics(make_full_result())
    assert {name: metrics[name] for name in metrics if name.startswith(KINDS)} == pytest.approx(
        {
            "device_read_gib_s": 0.25,
            "device_write_gib_s": 1 / 12,
            "device_read_pct": 100.0,
            "device_write_pct": 100.0,
            "mount_read_gib_s": 0.25,
            "mount_write_gib_s": 1 / 12,
            "mount_read_pct": 100.0,
            "mount_write_pct": 100.0,
            "network_receive_gib_s": 5 / 12,
            "network_send_gib_s": 0.25,
        }
    )


def test_rates_of_machines_are_added_though_their_windows_differ(make_result):
    def entry(host, length_s, gib):
        window = {"length_s": length_s, "read_bytes": gib * 2**30, "write_bytes": 0}
        moved = {"read_bytes": 2**32, "write_bytes": 0}
        return {"host": host, "device": "sda", **moved, "window": window}

    metrics = stage_metrics(make_result(device=[entry("a", 2.0, 3), entry("b", 4.0, 2)]))
    assert (metrics["device_read_gib_s"], metrics["device_read_pct"]) == (2.0, 200.0)


@pytest.mark.parametrize("kind", ["device", "mount"])
def test_a_machine_without_a_count_leaves_no_sum(make_full_result, kind):
    result = make_full_result()
    (entry,) = result[kind]
    result[kind].append({"host": "b", "type": "nfs4"})
    assert f"{kind}_read_pct" not in stage_metrics(result)
    del entry["window"]
    result[kind] = [entry]
    metrics = stage_metrics(result)
    assert f"{kind}_read_pct" in metrics
    assert f"{kind}_read_gib_s" not in metrics


def test_a_ratio_of_nothing_is_no_number(make_result):
    measures = {"ratios": {"hit": {"part": 0, "whole": 0}}}
    assert "hit_pct" not in stage_metrics(make_result(measures=measures))


def test_latencies_of_entries_and_prefix_loads_are_published(make_result):
    latency = {
        "unit": "ns", "upper": [10**6, 4 * 10**6], "count": [1, 1], "sum": 5 * 10**6,
        "min": 10**6, "max": 4 * 10**6,
    }  # fmt: skip
    names = ("prefix_load", "entry_read", "entry_write")
    metrics = stage_metrics(make_result(latency=dict.fromkeys(names, latency)))
    for name in names:
        found = [metrics[f"{name}_{kind}_ms"] for kind in ("mean", "p50", "p95", "p99", "max")]
        assert found == [2.5, 1.0, 4.0, 4.0, 4.0]


def test_latencies_by_size(make_result):
    mib = 2**20
    small = {"below_bytes": 2 * mib, "entries": 4, "bytes": 4 * mib, "sum_ns": 8 * 10**6}
    large = {"below_bytes": 2**30, "entries": 2, "bytes": 2**30, "sum_ns": 10**9}
    sizes = {"read": [small | {"max_ns": 1}, large | {"max_ns": 1}], "write": []}
    metrics = stage_metrics(make_result(sizes=sizes))
    assert {name: value for name, value in metrics.items() if name.startswith("entry_")} == {
        "entry_read_1_to_2_mib_mean_ms": 2.0,
        "entry_read_1_to_2_mib_ms_per_gib": 2048.0,
        "entry_read_512_to_1024_mib_mean_ms": 500.0,
        "entry_read_512_to_1024_mib_ms_per_gib": 1000.0,
    }


@pytest.mark.parametrize(
    ("below_bytes", "name"),
    [
        (2, "1_to_2_bytes"),
        (1024, "512_to_1024_bytes"),
        (4096, "2_to_4_kib"),
        (2**20, "512_to_1024_kib"),
        (2**27, "64_to_128_mib"),
        (2**33, "4_to_8_gib"),
    ],
)
def test_names_of_sizes(below_bytes, name):
    assert size_name(below_bytes) == name


def memory_metrics(plan_of, result, hosts):
    plan = plan_of()
    outcomes = {launch.name: outcome() for launch in plan.launches}
    (entry,) = [
        stage
        for stage in published(plan, outcomes, {"01-run-0": result}, hosts)["stages"]
        if "metrics" in stage
    ]
    return {
        name: value
        for name, value in entry["metrics"].items()
        if "memory" in name or "working_set" in name
    }


def test_the_working_set_against_the_memory_of_the_hosts(plan_of, make_result):
    result = make_result(details={"working_set_bytes": 12 * GIB})
    assert memory_metrics(plan_of, result, hosts_of(memory__total_bytes=24 * GIB)) == {
        "working_set_gib": 12.0,
        "host_memory_gib": 24.0,
        "working_set_to_memory_pct": 50.0,
    }


def test_what_is_not_known_of_memory_is_not_published(plan_of, make_result):
    unknown = hosts_of(memory__total_bytes="unknown")
    result = make_result(details={"working_set_bytes": 12 * GIB})
    assert memory_metrics(plan_of, result, unknown) == {"working_set_gib": 12.0}
    assert memory_metrics(plan_of, make_result(), hosts_of()) == {}


# ---------------------------------------------------------------- the hosts


def load(busy_pct, io_pct=1.0):
    return Load(
        covered_s=2.0, cpu_busy_pct=busy_pct, io_pressure_pct=io_pct, memory_pressure_pct=0.0
    )


def host_metrics(plan_of, make_result, loads, hosts=("a", "b")):
    plan = plan_of({"cluster.hosts": list(hosts)})
    outcomes = {launch.name: outcome() for launch in plan.launches}
    series = Series(interval_s=1.0, hosts={}, loads={"01-run-0": loads})
    document = published(plan, outcomes, {"01-run-0": make_result()}, hosts_of(), series)
    (summary,) = document["metrics"]
    return {
        name: value["mean"] for name, value in summary["values"].items() if name.startswith("host_")
    }


def test_how_busy_the_hosts_were(plan_of, make_result):
    found = host_metrics(plan_of, make_result, {"a": load(20.0), "b": load(60.0, 3.0)})
    assert found == {
        "host_cpu_busy_pct": 40.0,
        "host_cpu_busy_worst_host_pct": 60.0,
        "host_io_pressure_pct": 2.0,
        "host_memory_pressure_pct": 0.0,
    }


def test_a_pressure_that_one_host_does_not_tell_is_not_published(plan_of, make_result):
    found = host_metrics(plan_of, make_result, {"a": load(20.0), "b": load(60.0, None)})
    assert "host_io_pressure_pct" not in found


def test_a_host_without_a_tick_in_the_window_withholds_all(plan_of, make_result):
    assert host_metrics(plan_of, make_result, {"a": load(20.0)}) == {}


def test_the_cluster_and_the_series_are_published(plan_of):
    plan = plan_of()
    outcomes = {launch.name: outcome("failed", "engine", "x") for launch in plan.launches}
    series = Series(interval_s=1.0, hosts={}, loads={})
    document = published(plan, outcomes, {}, hosts_of(), series)
    assert document["cluster"] == totals(hosts_of()).as_document()
    assert document["monitor"] == series.as_document()
    assert published(plan, outcomes, {})["monitor"] is None


def test_context_switches_and_steadiness_have_metrics(make_result):
    result = make_result(timeline={"bin_s": 1, "read_bytes": [5] * 12, "write_bytes": [1] * 12})
    result["window"]["length_s"] = 12.0
    result["ranks"]["context_switches"] = [100, 200]
    metrics = stage_metrics(result)
    assert metrics["context_switches_per_gib"] == 50.0
    assert (metrics["drift_pct"], metrics["bins_cv_pct"]) == (0.0, 0.0)


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
def test_names_end_in_their_unit(name, make_result, make_full_result):
    units = ("_s", "_ms", "_mib", "_bytes", "_gib", "_per_s", "_gib_s", "_pct", "_mismatches")
    assert name in stage_metrics(make_result())
    assert all(metric.endswith(units) for metric in stage_metrics(make_full_result()))


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


# ---------------------------------------------------------------- what other stages tell


def roofline(read_bytes, write_bytes=0):
    moved = {"read_bytes": read_bytes, "write_bytes": write_bytes, "elapsed_s": 1.0, "cpu_s": 0.5}
    return {"window": None, "io": {}, "roofline": {"tool": "fio", **moved}}


@pytest.fixture
def with_rooflines(plan_of, make_result):
    """A published job of two trials, each between two rooflines; bytes that these moved."""

    def make(*read_bytes):
        stages = [
            {"name": "before", "each": "trial"},
            {"name": "run", "each": "trial", "measured": True},
            {"name": "after", "each": "trial"},
        ]
        plan = plan_of({"benchmark.stages": stages, "trials": 2})
        moved = iter(read_bytes)
        results = {
            launch.name: make_result(
                **({} if launch.measured else roofline(next(moved), 2 * 2**30))
            )
            for launch in plan.launches
        }
        return published(plan, {launch.name: outcome() for launch in plan.launches}, results)

    return make


def test_a_measured_stage_is_compared_with_its_rooflines(with_rooflines):
    gib = 2**30
    document = with_rooflines(3 * gib, 5 * gib, 4 * gib, 4 * gib)
    (summary,) = document["metrics"]
    values = {name: spread["mean"] for name, spread in summary["values"].items()}
    # The stage itself moved 2 + 1 GiB/s, each roofline 6 in the mean.
    assert (values["roofline_read_gib_s"], values["roofline_write_gib_s"]) == (4.0, 2.0)
    assert values["of_roofline_pct"] == 50.0
    assert values["roofline_spread_pct"] == pytest.approx((100 * 2 / 6 + 0) / 2)
    assert values["roofline_cpu_s_per_gib"] == pytest.approx(
        ((0.5 / 5 + 0.5 / 7) / 2 + 0.5 / 6) / 2
    )
    assert summary["notes"] == {"roofline": ["fio"]}
    (before,) = [entry for entry in document["stages"] if entry["name"] == "00-before-0"]
    assert before["metrics"] == {
        "roofline_read_gib_s": 3.0,
        "roofline_write_gib_s": 2.0,
        "roofline_cpu_s_per_gib": 0.1,
    }


def test_notes_hold_what_the_numbers_must_be_read_with(plan_of, make_result):
    plan = plan_of({"trials": 2})
    results = {launch.name: make_result() for launch in plan.launches}
    results["01-run-0"]["details"] = {"deviations": ["a", "b"], "window_cut": "the trace ended"}
    results["02-run-1"]["details"] = {"deviations": ["b", "c"], "window_cut": None}
    results["02-run-1"]["search"] = {"limit_ms": 5.0, "fraction": 0.99, "probes": []}
    outcomes = {launch.name: outcome() for launch in plan.launches}
    (summary,) = published(plan, outcomes, results)["metrics"]
    assert summary["notes"] == {
        "deviations": ["a", "b", "c"],
        "window_cut": ["the trace ended"],
        "search": [{"limit_ms": 5.0, "percentile": "p99", "probes": []}],
    }


@pytest.mark.parametrize(("family", "count"), [("kvcache", 1), ("training", 0)])
def test_aggregates_are_those_of_the_family(plan_of, make_result, family, count):
    plan = plan_of()
    outcomes = {launch.name: outcome("failed", "engine", "x") for launch in plan.launches}
    document = collect(
        plan, run_id="a run", version="1.2", benchmark="b", family=family, outcomes=outcomes,
        results={}, hosts=hosts_of(), series=None, evidence={},
    )  # fmt: skip
    assert len(document["aggregates"]) == count
