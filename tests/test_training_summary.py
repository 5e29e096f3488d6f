"""The documents of summary.json, against DLIO's formulas."""

from __future__ import annotations

import pytest
from dlio_keys import DLIO_KEYS
from facts_of_hosts import facts_of
from training_results import GIB, dataset_of, epoch_of, training_of, training_spec

from mlps.engine.host_documents import HostFacts
from mlps.engine.plan import make_plan
from mlps.engine.training_job import training_jobs
from mlps.engine.training_summary import dlio_summaries

COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}
RUN = "03-run-0"


def hosts_of(*memory_gib):
    names = [f"node{number}" for number in range(len(memory_gib))]
    return HostFacts(
        facts={
            name: facts_of(name, memory__total_bytes=size * GIB)
            for name, size in zip(names, memory_gib, strict=True)
        },
        clock_offset_s=dict.fromkeys(names, 0.0),
        without_facts={},
    )


@pytest.fixture
def summaries(make_result):
    """The documents of a job of one trial; 2 epochs, in the second half as fast."""

    def make(changes=None, *, hosts=None, outcome=COMPLETE, result=None, **training):
        spec = training_spec({"trials": 1, **(changes or {})})
        plan = make_plan(spec, python="/python")
        found = make_result(ranks=4, training=training_of(**training), **(result or {}))
        if len(found["training"]["epochs"]) == 2:
            rates = {"samples_dlio_per_s": 100.0, "au_dlio_sum_pct": 4 * 80.0}
            found["training"]["epochs"][0] |= rates
            rates = {"samples_dlio_per_s": 300.0, "au_dlio_sum_pct": 4 * 96.0}
            found["training"]["epochs"][1] |= rates
        found["ranks"]["hosts"] = ["node0"]
        results = {"00-generate": make_result(dataset=dataset_of()), RUN: found}
        outcomes = {launch.name: COMPLETE for launch in plan.launches} | {RUN: outcome}
        hosts = hosts or hosts_of(512)
        return dict(dlio_summaries(plan, training_jobs(spec), outcomes, results, hosts))

    return make


def test_keys_and_their_order(summaries):
    (document,) = summaries().values()
    assert list(document) == DLIO_KEYS
    assert (document["start"], document["end"]) == (
        "2027-01-15T08:00:00.000000",
        "2027-01-15T08:00:03.000000",
    )
    assert (document["num_accelerators"], document["num_hosts"]) == (4, 1)
    assert (document["hostname"], document["epochs"]) == ("node0", 2)
    assert (document["num_files_train"], document["num_files_eval"]) == (320, 0)
    assert document["host_cpu_count"] == [128]
    assert document["host_memory_GB"] == [512.0]
    assert document["data_size_per_host_GB"] == pytest.approx(1.0)


def test_metrics_of_training_are_by_the_formulas_of_dlio(summaries):
    metric = summaries()[RUN]["metric"]
    mib = 1024 / 320
    assert metric == (
        {
            "train_au_percentage": [80.0, 96.0],
            "train_au_mean_percentage": 88.0,
            "train_au_meet_expectation": "fail",
            "train_au_stdev_percentage": 8.0,
            "train_throughput_samples_per_second": [100.0, 300.0],
            "train_throughput_mean_samples_per_second": 200.0,
            "train_throughput_stdev_samples_per_second": 100.0,
            "train_io_mean_MB_per_second": 200 * mib,
            "train_io_stdev_MB_per_second": 100 * mib,
        }
    )


@pytest.mark.parametrize(("least_pct", "word"), [(88, "success"), (88.1, "fail")])
def test_the_expectation_is_met_or_not(summaries, least_pct, word):
    metric = summaries({"benchmark.au_least_pct": least_pct})[RUN]["metric"]
    assert metric["train_au_meet_expectation"] == word


def test_evaluations_and_checkpoints(summaries):
    evaluation = {"computation_s": 0, "batch": 2, "after_epoch": 1, "every_epochs": 1}
    done = {"after_epoch": 1, "steps": 10, "wall_s": 2.0, "read_bytes": GIB}
    saved = {"after_epoch": 1, "written_bytes": GIB, "wall_s": 0.5}
    metric = summaries(
        {"benchmark.evaluation": evaluation},
        evaluations=[done, done | {"wall_s": 4.0}],
        checkpoints=[saved, saved | {"wall_s": 1.0}],
    )[RUN]["metric"]
    assert metric["eval_throughput_samples_per_second"] == [40.0, 20.0]
    assert metric["eval_io_mean_MB_per_second"] == pytest.approx(30 * 1024 / 320)
    assert "eval_au_percentage" not in metric
    assert metric["save_checkpoint_io_mean_GB_per_second"] == 1.5
    assert metric["save_checkpoint_io_stdev_GB_per_second"] == 0.5
    assert metric["save_checkpoint_duration_mean_seconds"] == 0.75
    assert metric["save_checkpoint_duration_stdev_seconds"] == 0.25
    assert metric["checkpoint_size_GB"] == 1.0


@pytest.mark.parametrize(("memory_gib", "caching"), [(1, 0), (2, 1)])
def test_a_host_with_more_memory_than_data_may_cache(summaries, memory_gib, caching):
    assert summaries(hosts=hosts_of(memory_gib))[RUN]["potential_caching"] == [caching]


@pytest.mark.parametrize(
    "given",
    [
        {"outcome": COMPLETE | {"status": "failed"}},
        {"result": {"window": None}},
        {"epochs": 0},
    ],
    ids=["failed", "no window", "no epoch"],
)
def test_a_run_that_did_not_train_has_none(summaries, given):
    assert summaries(**given) == {}


def test_one_epoch_has_no_deviation(summaries):
    document = summaries(epochs=1)[RUN]
    assert document["metric"]["train_au_stdev_percentage"] == 0
    only = epoch_of(1)
    assert document["metric"]["train_au_percentage"] == [only["au_dlio_sum_pct"] / 4]
