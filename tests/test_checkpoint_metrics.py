"""From checkpoints of ranks to throughput, times and shares."""

from __future__ import annotations

import pytest
from checkpoint_results import (
    GIB,
    START_UNIX_S,
    Job,
    checkpoint_of,
    evicted,
    eviction_of,
    layout_of,
    read,
    written,
)
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.checkpoint_job import checkpoint_jobs
from mlps.engine.checkpoint_metrics import (
    checkpoint_metrics,
    checkpoint_rows,
    evictions,
    gap_of,
)
from mlps.engine.collect import collect, stage_metrics
from mlps.engine.host_documents import HostFacts

WRITE, EVICT, READ = "00-write-0", "01-evict-0", "02-read-0"


@pytest.fixture
def metrics_of(make_result):
    """The metrics of a stage that reports this section."""
    return lambda section, **changes: checkpoint_metrics(
        make_result(ranks=4, checkpointing=section, **changes)
    )


# ---------------------------------------------------------------- metrics of a stage


def test_a_stage_of_another_family_has_none(make_result):
    assert checkpoint_metrics(make_result()) == {}
    assert checkpoint_metrics(make_result(checkpointing=None)) == {}
    assert "save_gib_s" not in stage_metrics(make_result())


def test_throughput_is_the_mean_over_checkpoints(metrics_of):
    # 4 GiB in 2 s and in 4 s; rank 0 takes 0.8 of that.
    metrics = metrics_of(written())
    assert metrics["save_gib_s"] == (2 + 1) / 2
    assert metrics["save_rank0_gib_s"] == pytest.approx(1.5 / 0.8)
    assert metrics["save_rank_least_gib_s"] == (0.5 + 0.25) / 2
    assert (metrics["checkpoint_gib"], metrics["save_checkpoints"]) == (4, 2)


def test_times_of_a_write(metrics_of):
    found = [checkpoint_of(number, wall_s=wall) for number, wall in enumerate((2, 5, 3), 1)]
    metrics = metrics_of(written(*found, planned=3))
    names = ("s", "min_s", "median_s", "max_s", "transfer_s", "sync_s")
    assert [metrics[f"save_{name}"] for name in names] == pytest.approx(
        [10 / 3, 2, 3, 5, 2.5, 2.5 / 3]
    )
    assert "save_stall_s" not in metrics
    assert "gap_s" not in metrics


def test_a_read_has_its_own_names_and_makes_nothing_durable(metrics_of):
    metrics = metrics_of(read())
    assert metrics["load_gib_s"] == (4 + 2) / 2
    assert metrics["load_transfer_s"] == pytest.approx(0.75 * 1.5)
    assert not [name for name in metrics if name.startswith("save_gib") or "sync" in name]


def test_how_long_training_was_held_up(metrics_of):
    found = [checkpoint_of(1, stall_s=0.5), checkpoint_of(2, stall_s=1.5)]
    metrics = metrics_of(written(*found))
    assert (metrics["save_stall_s"], metrics["save_stall_max_s"]) == (1.0, 1.5)


def test_what_memory_held_and_storage_counted(metrics_of):
    found = [
        checkpoint_of(1, does="read", resident_pct=0.5, counted_bytes={"device": 3 * GIB}),
        checkpoint_of(2, does="read", resident_pct=0.25, counted_bytes={"device": GIB}),
    ]
    metrics = metrics_of(read(*found))
    assert metrics["load_resident_pct"] == 0.5
    assert (metrics["load_counted_pct"], metrics["load_counted_least_pct"]) == (50, 25)


def test_counts_are_those_of_who_tells_what_storage_served(metrics_of):
    counted = {"device": 0, "mount": 2 * GIB, "network": 4 * GIB}
    found = [checkpoint_of(1, does="read", counted_bytes=counted)]
    nfs = [{"host": "node1", "type": "nfs4"}]
    assert metrics_of(read(*found), mount=nfs)["load_counted_pct"] == 50
    assert metrics_of(read(*found))["load_counted_pct"] == 0


def test_what_nobody_counts_or_sees_is_left_out(metrics_of):
    found = [checkpoint_of(1, does="read", counted_bytes={}, resident_pct=None)]
    metrics = metrics_of(read(*found))
    assert not [name for name in metrics if "counted" in name or "resident" in name]


def test_a_checkpoint_of_no_time_has_no_rate(metrics_of):
    found = [checkpoint_of(1) | {"wall_s": 0.0}]
    assert metrics_of(written(*found))["save_gib_s"] == 0


def test_an_eviction_has_its_figures(metrics_of):
    assert metrics_of(evicted(resident_pct=0.25)) == {
        "evicted_files": 16,
        "evicted_gib": 8.0,
        "evicted_s": 0.5,
        "evicted_resident_pct": 0.25,
    }
    assert "evicted_resident_pct" not in metrics_of(evicted(resident_pct=None))


@pytest.mark.parametrize(("ended_before_s", "gap_s"), [(15, 20), (-7, -2), (-5, 0)])
def test_the_gap_is_from_the_last_write_to_the_first_read(make_result, ended_before_s, gap_s):
    # The first read begins 5 s after the start of the window.
    result = make_result(ranks=4, checkpointing=read(ended_before_s=ended_before_s))
    assert gap_of(result) == gap_s
    metrics = checkpoint_metrics(result)
    assert metrics["gap_s"] == gap_s
    # The second read begins after 15 s and takes 2.
    assert metrics["save_to_load_s"] == 100 + 15 + 2


def test_without_a_source_or_a_window_there_is_no_gap(make_result):
    assert gap_of(make_result(checkpointing=written())) is None
    assert gap_of(make_result(checkpointing=read(source=None))) is None
    assert gap_of(make_result(checkpointing=read(), window=None)) is None
    assert gap_of(make_result(checkpointing=read() | {"checkpoints": []})) is None


def test_rows_are_what_each_checkpoint_did(make_result):
    first, second = checkpoint_rows(make_result(ranks=4, checkpointing=written()))
    assert first == {
        "number": 1,
        "wall_s": 2.0,
        "gib_s": 2.0,
        "rank0_gib_s": 2.5,
        "rank_least_gib_s": 0.5,
        "rank_median_s": 1.5,
        "rank_least_s": 1.0,
        "straggler": 3,
        "straggler_host": "node1",
        "transfer_s": 1.5,
        "sync_s": 0.5,
        "counted_by": "device",
        "counted_pct": 100.0,
    }
    assert (second["number"], second["gib_s"]) == (2, 1.0)
    assert checkpoint_rows(make_result()) == []


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=12))
def test_means_lie_between_extremes(make_result, walls_s):
    found = [checkpoint_of(number, wall_s=wall) for number, wall in enumerate(walls_s, 1)]
    section = written(*found, planned=len(found))
    metrics = checkpoint_metrics(make_result(ranks=4, checkpointing=section))
    least, most = metrics["save_min_s"], metrics["save_max_s"]
    assert (least, most) == (min(walls_s), max(walls_s))
    for name in ("save_s", "save_median_s"):
        assert least * (1 - 1e-9) <= metrics[name] <= most * (1 + 1e-9)
    assert 4 / most * (1 - 1e-9) <= metrics["save_gib_s"] <= 4 / least * (1 + 1e-9)
    assert metrics["save_rank0_gib_s"] >= metrics["save_gib_s"] >= metrics["save_rank_least_gib_s"]


# ---------------------------------------------------------------- a whole job


class Collected(Job):
    """A job of which numbers are published."""

    def fail(self, name, *, reason="engine", status="failed", done=1):
        self.outcomes[name] |= {"status": status, "reason": reason, "message": "no space"}
        del self.results[name]["checkpointing"]["checkpoints"][done:]

    def collected(self):
        return collect(
            self.plan, run_id="r", version="1", benchmark="b", family="checkpointing",
            outcomes=self.outcomes, results=self.results, evidence={}, series=None,
            hosts=HostFacts(facts={}, clock_offset_s={}, without_facts={}),
            checkpointing=checkpoint_jobs(self.spec),
        )  # fmt: skip

    def summaries(self):
        return {each["stage"]: each for each in self.collected()["metrics"]}


@pytest.fixture
def make_job(make_result):
    return lambda changes=None: Collected(make_result, changes)


@pytest.fixture
def job(make_job):
    return make_job()


def test_a_job_publishes_both_phases_and_what_was_dropped(job):
    found = job.summaries()
    assert set(found) == {"write", "read"}
    assert found["write"]["values"]["save_gib_s"]["mean"] == 1.5
    assert found["read"]["values"]["load_gib_s"]["mean"] == 3
    assert found["read"]["values"]["evicted_resident_pct"]["mean"] == 0
    assert "evicted_resident_pct" not in found["write"]["values"]


def test_a_read_knows_the_eviction_since_the_last_write(job):
    plan, outcomes, results = job.plan, job.outcomes, job.results
    assert evictions(plan, outcomes, results) == {READ: eviction_of()}
    results[EVICT]["checkpointing"]["eviction"] = None
    assert evictions(plan, outcomes, results) == {}
    own = eviction_of(method="command")
    results[READ]["checkpointing"]["eviction"] = own
    assert evictions(plan, outcomes, results) == {READ: own}


def test_an_eviction_of_the_trial_before_does_not_count(make_job):
    job = make_job({"trials": 2})
    second = [launch.name for launch in job.plan.launches if launch.trial == 1]
    del job.results[next(name for name in second if "evict" in name)]
    assert list(evictions(job.plan, job.outcomes, job.results)) == [READ]


def test_notes_tell_what_the_numbers_are_of(make_job):
    job = make_job({"benchmark.accelerator.checkpoint_gib": 5, "benchmark.accelerator.count": 4})
    notes = job.summaries()["read"]["notes"]
    assert set(notes) == {"checkpointing", "checkpoints"}
    assert notes["checkpointing"] == {
        "does": "read",
        "planned": 2,
        "parameters": 2**29,
        "scale": 1.0,
        "checkpoint_gib": 4.0,
        "formula_gib": 4.0,
        "table_gib": 5,
        "durable": True,
        "accelerators_gib": None,
        "files": 8,
        "rank_gib_least": 1.0,
        "rank_gib_most": 1.0,
        "directory": "/data/checkpoints",
        "kept": False,
        "shift": 0,
        "crossed_ranks": 0,
        "training": None,
        "eviction": eviction_of(),
        "written_by": "20261123T120000Z-checkpointing-1a2b3c4d",
    }
    assert [[row["number"] for row in trial] for trial in notes["checkpoints"]] == [[1, 2]]


def test_computed_and_written_sizes_are_told_apart(job):
    layout = layout_of(scale=0.5, formula_bytes=8 * GIB)
    job.results[WRITE]["checkpointing"]["layout"] = layout
    setting = job.summaries()["write"]["notes"]["checkpointing"]
    assert (setting["checkpoint_gib"], setting["formula_gib"], setting["scale"]) == (4, 8, 0.5)


@pytest.mark.parametrize(
    ("status", "reason"), [("failed", "engine"), ("failed", "exit"), ("stopped", "stop")]
)
def test_checkpoints_of_a_stage_that_did_not_end_well_are_kept_as_partial(job, status, reason):
    job.fail(WRITE, status=status, reason=reason)
    summary = job.summaries()["write"]
    assert (summary["complete"], summary["values"]) == (False, {})
    (part,) = summary["notes"]["partial"]
    assert (part["stage"], part["status"], part["partial"]) == (WRITE, status, "1 of 2")
    assert [row["number"] for row in part["checkpoints"]] == [1]
    assert "checkpoints" not in summary["notes"]
    assert summary["notes"]["checkpointing"]["planned"] == 2


def test_of_trials_the_whole_and_the_partial_ones_are_told_apart(make_job):
    job = make_job({"trials": 2})
    last = [launch.name for launch in job.plan.launches if launch.stage == "write"][1]
    job.fail(last)
    notes = job.summaries()["write"]["notes"]
    assert len(notes["checkpoints"]) == 1
    assert [part["stage"] for part in notes["partial"]] == [last]


@pytest.mark.parametrize("reason", ["protocol", "rank_died", "no_result", "silent"])
def test_a_result_that_cannot_be_used_has_no_partial_one(job, reason):
    job.fail(WRITE, reason=reason)
    job.results[WRITE]["checkpointing"]["checkpoints"] = [{"number": "rubbish"}]
    assert job.summaries()["write"]["notes"] == {}


def test_a_stage_that_failed_in_its_first_checkpoint_has_no_partial_one(job):
    job.fail(WRITE, done=0)
    assert job.summaries()["write"]["notes"] == {}


def test_moments_of_these_results_are_those_of_the_window(make_result):
    assert make_result()["window"]["start_unix_s"] == START_UNIX_S
