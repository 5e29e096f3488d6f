"""From epochs of ranks to utilisation, throughput and stalls."""

from __future__ import annotations

import pytest
from training_results import GIB, Step, dataset_of, epoch_of, training_of, training_spec

from mlps.engine.collect import collect, stage_metrics
from mlps.engine.host_documents import HostFacts
from mlps.engine.plan import make_plan
from mlps.engine.training_job import training_jobs
from mlps.engine.training_metrics import (
    ceilings,
    dataset_metrics,
    datasets,
    epoch_rows,
    evaluation_metrics,
    training_metrics,
)

COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}
SHARES = ("compute_pct", "stall_load_pct", "stall_meeting_pct", "overshoot_pct", "engine_pct")


@pytest.fixture
def trained(make_result):
    """A result of 4 ranks, unless told otherwise, that trained."""

    def make(*, ranks=4, **training):
        return make_result(ranks=ranks, training=training_of(ranks=ranks, **training))

    return make


# ---------------------------------------------------------------- metrics of a stage


def test_a_stage_that_did_not_train_has_none(make_result):
    assert training_metrics(make_result()) == {}
    assert training_metrics(make_result(training=None)) == {}
    assert training_metrics(make_result(training=training_of(epochs=0))) == {}
    assert "au_nominal_pct" not in stage_metrics(make_result())


def test_utilisation_is_the_mean_over_ranks(trained):
    # One rank, 10 steps of 0.1 s: in the other 9 it waits 0.004 s, meets 0.002 s and loses 0.001 s.
    metrics = training_metrics(trained(ranks=1, epochs=1))
    window_s = 9 * (0.101 + 0.004) + 10 * 0.003
    assert metrics["au_nominal_pct"] == pytest.approx(100 * 0.9 / window_s)
    assert metrics["au_dlio_pct"] == pytest.approx(100 * 0.909 / window_s)
    assert metrics["au_wall_pct"] == pytest.approx(100 * 1.0 / (window_s + 0.05 + 0.101))
    assert metrics["au_worst_rank_pct"] == pytest.approx(metrics["au_nominal_pct"])


def test_utilisation_is_the_mean_over_epochs_and_the_worst_of_all(trained):
    result = trained(epochs=2)
    slow = epoch_of(2, step=Step(load_s=0.1))
    result["training"]["epochs"][1] = slow
    first, second = epoch_rows(result)
    metrics = training_metrics(result)
    for name in ("au_nominal_pct", "au_dlio_pct", "au_wall_pct"):
        assert metrics[name] == pytest.approx((first[name] + second[name]) / 2)
    assert metrics["au_worst_rank_pct"] == slow["au_nominal_worst_pct"]
    assert second["au_nominal_pct"] < first["au_nominal_pct"]


def test_the_shares_of_time_add_up_to_all_of_it(trained):
    metrics = training_metrics(trained(epochs=3, step=Step(load_s=0.03, more_s=0.01)))
    assert sum(metrics[name] for name in SHARES) == pytest.approx(100)
    assert all(metrics[name] > 0 for name in SHARES)
    assert metrics["stall_load_pct"] > metrics["stall_meeting_pct"] > metrics["engine_pct"]


def test_throughput_is_over_the_wall_of_the_epochs(trained):
    result = trained(epochs=2)
    wall_s = sum(epoch["wall_s"] for epoch in result["training"]["epochs"])
    result["training"]["epochs"][0]["read_bytes"] = 3 * GIB
    metrics = training_metrics(result)
    assert metrics["samples_per_s"] == pytest.approx(2 * 4 * 10 * 8 / wall_s)
    assert metrics["train_gib_s"] == pytest.approx(4 / wall_s)
    assert metrics["nominal_gib_s"] == pytest.approx(2 / wall_s)
    assert metrics["samples_dlio_per_s"] == result["training"]["epochs"][0]["samples_dlio_per_s"]


def test_without_reads_there_is_no_rate_of_bytes(trained):
    metrics = training_metrics(trained(reads=False))
    assert {"au_nominal_pct", "samples_per_s"} <= set(metrics)
    assert not {"train_gib_s", "nominal_gib_s", "epoch_counted_pct"} & set(metrics)
    assert all("train_gib_s" not in row for row in epoch_rows(trained(reads=False)))


def test_epochs_of_no_time_have_no_rates(trained):
    result = trained(epochs=1, steps=1)
    zeros = dict.fromkeys(("wall_s", "block_sum_s", "load_sum_s", "compute_sum_s"), 0)
    result["training"]["epochs"][0] |= zeros
    metrics = training_metrics(result)
    assert metrics["au_wall_pct"] == 0
    assert not {"samples_per_s", "train_gib_s", *SHARES} & set(metrics)


def test_the_share_that_storage_served_is_told_per_epoch(trained):
    result = trained(epochs=2)
    result["training"]["epochs"][1]["counted_read_bytes"] = {"device": GIB // 4}
    assert [row["counted_pct"] for row in epoch_rows(result)] == [100, 25]
    metrics = training_metrics(result)
    assert (metrics["epoch_counted_pct"], metrics["epoch_counted_least_pct"]) == (62.5, 25)


def test_evaluations_and_checkpoints_have_rates_of_their_own(trained):
    evaluation = {"after_epoch": 1, "steps": 5, "wall_s": 2.0, "read_bytes": GIB}
    result = trained(
        evaluations=[evaluation, evaluation | {"after_epoch": 2, "wall_s": 3.0}],
        checkpoints=[
            {"after_epoch": 1, "written_bytes": GIB, "wall_s": 0.5},
            {"after_epoch": 2, "written_bytes": GIB, "wall_s": 1.5},
        ],
    )
    metrics = training_metrics(result)
    assert (metrics["eval_gib_s"], metrics["eval_s"]) == (0.4, 2.5)
    assert (metrics["checkpoint_gib_s"], metrics["checkpoint_max_s"]) == (1.0, 1.5)
    assert evaluation_metrics(result, 3) == {"eval_samples_per_s": 4 * 3 * 10 / 5}
    assert evaluation_metrics(result, None) == {}
    assert evaluation_metrics(trained(), 3) == {}


def test_a_dataset_has_its_sizes(make_result):
    result = make_result(dataset=dataset_of(nominal_bytes=2 * GIB, eval_files=8, written_files=0))
    assert dataset_metrics(result) == {
        "dataset_files": 328,
        "dataset_gib": 1.0,
        "dataset_nominal_gib": 2.0,
        "dataset_written_files": 0,
        "dataset_written_gib": 1.0,
    }
    assert dataset_metrics(make_result()) == {}
    assert dataset_metrics(make_result(dataset=None)) == {}


def test_a_stage_without_a_window_still_tells_its_dataset_and_epochs(make_result):
    result = make_result(window=None, dataset=dataset_of(), training=training_of(), ranks=4)
    assert {"dataset_gib", "au_nominal_pct"} <= set(stage_metrics(result))


def test_the_wait_for_batches_has_percentiles(make_result):
    latency = make_result()["io"]["read"]["latency"]
    metrics = stage_metrics(make_result(latency={"batch_wait": latency}))
    assert {f"batch_wait_{q}_ms" for q in ("p50", "p95", "p99", "max", "mean")} <= set(metrics)


# ---------------------------------------------------------------- what other stages tell


@pytest.fixture
def job(make_result):
    """A plan of two trials, with what its stages reported."""
    spec = training_spec({"trials": 2})
    plan = make_plan(spec, python="/python")
    results = {}
    for launch in plan.launches:
        sections = {
            "generate": {"dataset": dataset_of()},
            "ceiling": {"training": training_of(reads=False, step=Step(load_s=0, more_s=0))},
            "warmup": {"training": training_of()},
            "run": {"training": training_of()},
        }
        if launch.stage in sections:
            results[launch.name] = make_result(ranks=4, **sections[launch.stage])
    outcomes = {launch.name: dict(COMPLETE) for launch in plan.launches}
    return spec, plan, outcomes, results


def collected(job):
    spec, plan, outcomes, results = job
    return collect(
        plan, run_id="r", version="1", benchmark="training/quick", family="training",
        outcomes=outcomes, results=results, evidence={}, series=None,
        hosts=HostFacts(facts={}, clock_offset_s={}, without_facts={}),
        training=training_jobs(spec),
    )  # fmt: skip


def test_a_run_publishes_the_ceiling_of_its_job(job):
    _, plan, outcomes, results = job
    ceiling_pct = training_metrics(results["01-ceiling"])["au_nominal_pct"]
    assert ceilings(plan, outcomes, results) == {"03-run-0": ceiling_pct, "04-run-1": ceiling_pct}
    (summary,) = collected(job)["metrics"]
    assert summary["values"]["au_engine_ceiling_pct"]["mean"] == ceiling_pct
    of_stages = {stage["name"]: stage.get("metrics", {}) for stage in collected(job)["stages"]}
    assert "au_engine_ceiling_pct" not in of_stages["02-warmup"]


@pytest.mark.parametrize("why", ["it was not run", "it failed", "it read"])
def test_without_a_ceiling_none_is_published(job, why):
    _, plan, outcomes, results = job
    if why == "it was not run":
        del results["01-ceiling"]
    elif why == "it failed":
        outcomes["01-ceiling"]["status"] = "failed"
    else:
        results["01-ceiling"]["training"]["reads"] = True
    assert ceilings(plan, outcomes, results) == {}
    (summary,) = collected(job)["metrics"]
    assert "au_engine_ceiling_pct" not in summary["values"]


def test_stages_that_train_know_their_dataset(job):
    _, plan, outcomes, results = job
    found = datasets(plan, outcomes, results)
    assert {name: stage for name, (stage, _) in found.items()} == {
        name: "00-generate" for name in ("01-ceiling", "02-warmup", "03-run-0", "04-run-1")
    }
    del results["00-generate"]
    assert datasets(plan, outcomes, results) == {}


def test_the_summary_tells_what_its_numbers_are_of(job):
    (summary,) = collected(job)["metrics"]
    notes = summary["notes"]
    assert notes["training"] == {
        "au_least_pct": 90,
        "computation_s": 0.1,
        "batch": 8,
        "record_bytes": GIB / 320,
        "steps_planned": 10,
        "dropped_samples": 0,
        "threads": 2,
        "look_ahead_batches": 2,
        "evicted": True,
        "resident_pct": 0.0,
    }
    assert [[row["epoch"] for row in trial] for trial in notes["epochs"]] == [[1, 2], [1, 2]]
    # In the window of the player's result 2 GiB were written in 2 s.
    assert notes["dataset"] == dataset_of() | {"write_gib_s": 1.0}


def test_a_dataset_that_was_there_has_no_speed(job):
    _, _, _, results = job
    results["00-generate"]["dataset"]["written_files"] = 0
    (summary,) = collected(job)["metrics"]
    assert summary["notes"]["dataset"]["write_gib_s"] is None


def test_a_trial_that_is_missing_withholds_the_values_and_not_the_notes(job):
    _, _, outcomes, _ = job
    outcomes["04-run-1"]["status"] = "failed"
    (summary,) = collected(job)["metrics"]
    assert summary["values"] == {}
    assert len(summary["notes"]["epochs"]) == 1


def test_samples_of_evaluations_are_of_the_batch_of_the_job(make_result):
    evaluation = {"computation_s": 0, "batch": 3, "after_epoch": 1, "every_epochs": 1}
    spec = training_spec({"trials": 1, "benchmark.evaluation": evaluation})
    plan = make_plan(spec, python="/python")
    (run,) = (launch.name for launch in plan.launches if launch.measured)
    done = {"after_epoch": 1, "steps": 5, "wall_s": 2.0, "read_bytes": GIB}
    results = {run: make_result(ranks=4, training=training_of(evaluations=[done]))}
    outcomes = {launch.name: dict(COMPLETE) for launch in plan.launches}
    (summary,) = collected((spec, plan, outcomes, results))["metrics"]
    assert summary["values"]["eval_samples_per_s"]["mean"] == 30.0
