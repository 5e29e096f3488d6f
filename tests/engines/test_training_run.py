"""Runs of training: what is read, how the steps of real ranks hang together, what ends them.

Where ranks have nothing to do with each other, the stage runs in this process as its only rank.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.mpi


def change(training, **sections):
    for name, values in sections.items():
        own = training.changes.get(name)
        training.changes[name] = {**own, **values} if isinstance(own, dict) else values


def files_of(training):
    return sorted(training.dataset.rglob("*.npz"))


@pytest.fixture
def made(training):
    """A job whose dataset is there."""
    training.solo("generate")
    return training


@pytest.fixture(scope="module")
def ran(fast_place, make_training_bench):
    """A run of three epochs of six steps by two ranks: its job, its result, its events."""
    with tempfile.TemporaryDirectory(dir=fast_place) as place:
        training = make_training_bench(Path(place))
        change(training, train={"computation_s": 0.1})
        change(
            training,
            checkpoint={"bytes": 1000, "ranks": "first", "after_epoch": 3, "every_epochs": 1},
        )
        training.solo("generate")
        with training.launch("run", "--trial", "0", ranks=2) as launched:
            result = launched.result()
            launched.finish()
        yield training, result, launched.events


# ---------------------------------------------------------------- what is read


def test_every_epoch_reads_every_file_once(ran):
    training, result, _ = ran
    own = result["training"]
    total = sum(path.stat().st_size for path in files_of(training))
    assert result["status"] == "complete"
    assert [epoch["epoch"] for epoch in own["epochs"]] == [1, 2, 3]
    assert [epoch["read_bytes"] for epoch in own["epochs"]] == [total] * 3
    assert [epoch["steps"] for epoch in own["epochs"]] == [6] * 3
    assert result["io"]["read"]["total_bytes"] == 3 * total
    assert result["io"]["read"]["total_operations"] == 3 * 24
    assert sum(result["latency"]["batch_wait"]["count"]) == 3 * 6 * 2
    assert sum(result["latency"]["batch_read"]["count"]) == 3 * 6 * 2
    assert own["eviction"]["files"] == 24


def test_the_parts_of_an_epoch_and_its_utilisation(ran):
    _, result, _ = ran
    for epoch in result["training"]["epochs"]:
        parts = sum(epoch[f"{name}_sum_s"] for name in ("load", "compute", "meeting"))
        assert 2 * 6 * 0.1 <= epoch["compute_sum_s"] <= parts <= epoch["block_sum_s"]
        assert epoch["block_sum_s"] <= 2 * epoch["wall_s"]
        counted_s = epoch["block_sum_s"] - epoch["first_step_sum_s"]
        # Both ranks end at the same step, so the mean of their shares is about that of the sums.
        nominal_pct = 100 * 2 * 5 * 0.1 / counted_s
        assert epoch["au_nominal_sum_pct"] / 2 == pytest.approx(nominal_pct, rel=0.05)
        assert epoch["au_nominal_worst_pct"] <= epoch["au_nominal_sum_pct"] / 2
        assert epoch["au_nominal_sum_pct"] <= epoch["au_dlio_sum_pct"] <= 200
        assert epoch["au_worst_rank"] in (0, 1)


def test_steps_are_told_while_they_go_on(ran):
    _, _, events = ran
    told = [event for event in events if event.get("phase") == "training"]
    assert {event["unit"] for event in told} == {"steps"}
    assert {event["total"] for event in told} == {2 * 3 * 6}
    done = [event["done"] for event in told]
    assert done == sorted(done)
    assert any(0 < each < 36 for each in done)
    assert any(event["read_bytes"] > 0 for event in told)


def test_only_rank_0_writes_a_checkpoint_of_the_first(ran):
    _, result, _ = ran
    (checkpoint,) = result["training"]["checkpoints"]
    assert (checkpoint["after_epoch"], checkpoint["written_bytes"]) == (3, 1000)


@pytest.mark.parametrize("ranks", [0, 3])
def test_any_number_of_ranks_makes_equal_steps(made, ranks):
    own = made.stage("run", "--trial", "0", ranks=ranks)["training"]
    steps = 24 // max(ranks, 1) // 2
    assert (own["steps_planned"], own["dropped_samples"]) == (steps, 0)
    assert [epoch["steps"] for epoch in own["epochs"]] == [steps] * 3


def test_what_is_left_over_is_dropped(training):
    change(training, dataset={"train": {"files": 25, "subfolders": 1}})
    training.solo("generate")
    own = training.solo("run")["training"]
    assert (own["steps_planned"], own["dropped_samples"]) == (12, 1)


def test_an_epoch_ends_after_the_most_steps(made):
    change(made, train={"steps_max": 4})
    result = made.solo("run")
    assert [epoch["steps"] for epoch in result["training"]["epochs"]] == [4] * 3
    assert result["io"]["read"]["total_operations"] == 3 * 4 * 2


@pytest.mark.parametrize("core", ["c", "python"])
def test_both_readers_do_the_same(made, core):
    change(made, reader={"core": core})
    result = made.solo("run")
    assert result["core"]["name"] == {"c": "c", "python": "python_threads"}[core]
    assert result["io"]["read"]["total_operations"] == 3 * 24
    assert [epoch["steps"] for epoch in result["training"]["epochs"]] == [12] * 3


SEVERAL = {
    "raw": {"samples_per_file": 5},
    "hdf5": {"samples_per_file": 5},
    "npz": {"samples_per_file": 5},
    "tfrecord": {"samples_per_file": 5},
    "parquet": {"samples_per_file": 1000, "record_bytes": 100},
}
IN_ORDER = ("tfrecord", "parquet")


@pytest.mark.parametrize(
    ("form", "shuffled"),
    [
        (form, shuffled)
        for form in SEVERAL
        for shuffled in (False, True)[: 1 + (form not in IN_ORDER)]
    ],
)
def test_formats_with_several_samples_a_file(training, form, shuffled):
    dataset = SEVERAL[form]
    change(training, dataset={"format": form, "record_bytes_stdev": 0, **dataset})
    change(training, reader={"batch": 7, "shuffle_samples": shuffled})
    training.solo("generate")
    own = training.solo("run")["training"]
    samples = 24 * dataset["samples_per_file"]
    assert [epoch["steps"] for epoch in own["epochs"]] == [samples // 7] * 3
    one = own["epochs"][0]["read_bytes"]
    record_bytes = training.job["benchmark"]["dataset"]["record_bytes"]
    if form == "npz" and shuffled:  # each sample takes its whole file
        assert one > 4 * samples * record_bytes
    else:
        assert 0.9 * samples * record_bytes < one < 1.4 * samples * record_bytes


@pytest.mark.parametrize("projection", ["all", "span", "chunks"])
def test_a_projection_reads_less(training, projection):
    columns = [
        {"name": f"c{number}", "dtype": "float32", "read": number in (2, 4)} for number in range(8)
    ]
    parquet = {
        "columns": columns,
        "row_group_rows": 500,
        "compression": "none",
        "compat_dictionary": False,
    }
    change(
        training,
        dataset={
            "format": "parquet",
            "record_bytes": None,
            "record_bytes_stdev": 0,
            "samples_per_file": 1000,
            "parquet": parquet,
        },
        reader={"batch": 100, "projection": projection},
        train={"epochs": 1},
    )
    training.solo("generate")
    result = training.solo("run")
    columns_read = {"all": 8, "span": 3, "chunks": 2}[projection]
    nominal = 24 * 1000 * 4 * columns_read
    (epoch,) = result["training"]["epochs"]
    assert nominal < epoch["read_bytes"] < 1.15 * nominal
    assert result["io"]["read"]["total_operations"] == 24 * 2 * (2 if projection == "chunks" else 1)


def test_direct_reads_take_the_same_bytes(training, tmp_path):
    training.data_dir = tmp_path
    change(training, reader={"direct": True})
    training.solo("generate")
    result = training.solo("run")
    total = sum(path.stat().st_size for path in files_of(training))
    assert result["core"]["direct"] is (result["core"]["direct_refused"] is None)
    assert result["training"]["epochs"][0]["read_bytes"] == total


# ---------------------------------------------------------------- the page cache


def test_files_are_dropped_from_memory_before_and_while_they_are_read(training, tmp_path):
    training.data_dir = tmp_path
    training.solo("generate")
    for path in files_of(training):
        path.read_bytes()
    own = training.solo("run")["training"]
    assert own["eviction"]["files"] == 24
    assert own["eviction"]["sampled_files"] > 0
    assert own["eviction"]["resident_pct"] in (0, None)


def test_files_stay_in_memory_when_they_are_to(made):
    change(made, reader={"cache": "keep"})
    assert made.solo("run")["training"]["eviction"] is None


# ---------------------------------------------------------------- the ceiling


def test_the_ceiling_takes_steps_without_reads_and_needs_no_file(made):
    for path in files_of(made):
        path.unlink()
    result = made.stage("ceiling", ranks=2)
    own = result["training"]
    assert result["status"] == "complete"
    assert own["reads"] is False
    assert [epoch["steps"] for epoch in own["epochs"]] == [6, 6]
    assert result["io"] == {}
    assert all(epoch["read_bytes"] == 0 for epoch in own["epochs"])
    assert (own["evaluations"], own["checkpoints"], own["eviction"]) == ([], [], None)


# ---------------------------------------------------------------- between epochs


def test_evaluations_and_checkpoints_come_when_they_are_to(training):
    change(
        training,
        dataset={"eval": {"files": 9, "subfolders": 1}},
        evaluation={"computation_s": 0.001, "batch": 2, "after_epoch": 2, "every_epochs": 1},
        checkpoint={"bytes": 100_001, "ranks": "all", "after_epoch": 1, "every_epochs": 2},
    )
    training.solo("generate")
    result = training.stage("run", "--trial", "0", ranks=2)
    own = result["training"]
    assert [each["after_epoch"] for each in own["evaluations"]] == [2, 3]
    assert [each["steps"] for each in own["evaluations"]] == [2, 2]
    assert [each["after_epoch"] for each in own["checkpoints"]] == [1, 3]
    assert [each["written_bytes"] for each in own["checkpoints"]] == [200_002] * 2
    assert result["io"]["write"]["total_bytes"] == 400_004
    read = sum(each["read_bytes"] for name in ("epochs", "evaluations") for each in own[name])
    assert result["io"]["read"]["total_bytes"] == read
    found = sorted(path.name for path in training.directory.glob("checkpoint-*"))
    assert found == ["checkpoint-1-0", "checkpoint-1-1", "checkpoint-3-0", "checkpoint-3-1"]
    data = (training.directory / found[0]).read_bytes()
    assert len(data) == 100_001
    assert len(np.unique(np.frombuffer(data, dtype=np.uint8))) == 256
    left = training.stage("cleanup", ranks=2)["details"]["left"]
    assert left == []
    assert not training.directory.exists()


# ---------------------------------------------------------------- what ends it


def test_a_file_that_is_gone_fails_all_ranks_and_is_named(made):
    victim = files_of(made)[7]
    victim.unlink()
    result = made.stage("run", "--trial", "0", ranks=2)
    assert result["status"] == "failed"
    assert result["training"] is None
    assert str(victim) in result["errors"][0]["message"]


def test_a_file_that_became_shorter_is_named(made):
    change(made, reader={"cache": "keep"})
    victim = files_of(made)[7]
    os.truncate(victim, victim.stat().st_size - 1)
    result = made.solo("run")
    assert result["status"] == "failed"
    assert str(victim) in result["errors"][0]["message"]


def test_no_dataset_is_said(training):
    result = training.solo("run")
    assert result["status"] == "failed"
    assert "there is no dataset" in result["errors"][0]["message"]


def test_another_dataset_is_refused_with_the_key_that_differs(made):
    change(made, dataset={"record_bytes": 20_001})
    result = made.solo("run")
    assert result["status"] == "failed"
    assert "dataset.record_bytes: found 20000, asked 20001" in result["errors"][0]["message"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"reader": {"batch": 25}}, "too few for one step of 1 ranks with a batch of 25"),
        (
            {"dataset": {"format": "tfrecord", "samples_per_file": 2},
             "reader": {"shuffle_samples": True}},
            "set reader.shuffle_samples=false",
        ),
        ({"reader": {"projection": "span"}}, "set reader.projection=all"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_read(training, sections, said):
    change(training, **sections)
    result = training.solo("run")
    assert result["status"] == "failed"
    assert said in result["errors"][0]["message"]


@pytest.mark.parametrize(("core", "ranks"), [("c", 2), ("python", 0)])
def test_a_stop_ends_all_ranks_within_a_moment(made, core, ranks):
    change(made, train={"computation_s": 100}, reader={"core": core})
    with made.launch("run", "--trial", "0", ranks=ranks) as launched:
        launched.events_until(lambda event: event.get("phase") == "training")
        time.sleep(0.2)
        began = time.monotonic()
        launched.say("stop")
        result = launched.result()
        launched.finish()
    assert result["status"] == "stopped"
    assert result["errors"] == []
    assert time.monotonic() - began < 10


def test_a_rank_that_hangs_is_named_and_ends_the_others(made):
    made.changes["silence_limit_s"] = 2
    change(made, train={"computation_s": 0.05, "epochs": 1000})
    with made.launch("run", "--trial", "0", ranks=2) as launched:
        ranks = launched.events_until(lambda event: event["event"] == "ranks")["ranks"]
        launched.events_until(lambda event: event.get("phase") == "training" and event["done"] > 0)
        os.kill(ranks[1][1], signal.SIGSTOP)
        stderr = launched.finish()
    assert "heard nothing of ranks 1" in stderr
