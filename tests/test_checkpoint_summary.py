"""The documents of summary.json, against DLIO's formulas."""

from __future__ import annotations

import pytest
from checkpoint_results import GIB, Job
from dlio_keys import DLIO_KEYS
from facts_of_hosts import facts_of

from mlps.engine.checkpoint_summary import checkpoint_summaries
from mlps.engine.host_documents import HostFacts

HOSTS = HostFacts(
    facts={"node1": facts_of("node1", memory__total_bytes=512 * GIB)},
    clock_offset_s={"node1": 0.0},
    without_facts={},
)
SAVED = [f"save_checkpoint_{name}" for name in (
    "io_mean_GB_per_second", "io_stdev_GB_per_second", "duration_mean_seconds",
    "duration_stdev_seconds",
)]  # fmt: skip
LOADED = [name.replace("save", "load") for name in SAVED]


@pytest.fixture
def summaries(make_result):
    """The documents of a job whose reads have a later window than its writes."""

    def make(changes=None, *, without=None, **outcome):
        job = Job(make_result, changes)
        for name, result in job.results.items():
            if "read" in name:
                result["window"]["start_unix_s"] += 60
            if without and without in name:
                result["window"] = None
        for ended in job.outcomes.values():
            ended |= outcome
        return dict(checkpoint_summaries(job.plan, job.outcomes, job.results, HOSTS))

    return make


def test_writes_and_reads_of_a_trial_are_one_run(summaries):
    ((name, document),) = summaries().items()
    assert name == "00-write-0"
    assert list(document) == DLIO_KEYS
    assert (document["start"], document["end"]) == (
        "2027-01-15T08:00:00.000000",
        "2027-01-15T08:01:03.000000",
    )
    assert (document["num_accelerators"], document["epochs"]) == (4, 0)
    assert document["host_memory_GB"] == [512.0]


def test_metrics_are_by_the_time_of_rank_0(summaries):
    (document,) = summaries().values()
    metric = document["metric"]
    # 4 GiB in 1.6 s and in 3.2 s were written, in 0.8 s and 1.6 s read.
    assert [metric[name] for name in SAVED] == pytest.approx([1.875, 0.625, 2.4, 0.8])
    assert [metric[name] for name in LOADED] == pytest.approx([3.75, 1.25, 1.2, 0.4])
    assert metric["checkpoint_size_GB"] == 4
    assert set(metric) == {*SAVED, *LOADED, "checkpoint_size_GB"}


@pytest.mark.parametrize(
    ("changes", "keys"),
    [({"benchmark.reads": 0}, SAVED), ({"benchmark.writes": 0}, LOADED)],
    ids=["writes alone", "reads alone"],
)
def test_a_run_that_was_split_has_one_phase(summaries, changes, keys):
    (document,) = summaries(changes).values()
    assert set(document["metric"]) == {*keys, "checkpoint_size_GB"}


def test_every_trial_is_a_run(summaries):
    assert list(summaries({"trials": 2})) == ["00-write-0", "03-write-1"]


def test_what_did_not_end_well_or_has_no_window_has_none(summaries):
    assert summaries(status="failed") == {}
    assert list(summaries(without="write")) == ["02-read-0"]
