"""What a job of training asks of each rank: every key has an effect; what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import yaml
from sections import nested, own_keys

from mlps.engines.contract import Job, merged
from mlps.engines.errors import JobError
from mlps.engines.training_native.checkpoint import names
from mlps.engines.training_native.content import Content
from mlps.engines.training_native.formats import pieces, planned_files
from mlps.engines.training_native.formats.checksum import Tally
from mlps.engines.training_native.place import read_task
from mlps.engines.training_native.stages import TrainingEngine
from mlps.engines.training_native.workload import Between, check_steps, training_of

BASE = yaml.safe_load((resources.files("mlps.conf") / "benchmark/training.yaml").read_text())
SMALL = {
    "dataset": {"train": {"files": 40, "subfolders": 1}, "record_bytes": 4096},
    "evaluation": {"computation_s": 0.1, "batch": 1, "after_epoch": 1, "every_epochs": 1},
    "checkpoint": {"bytes": 1000, "ranks": "first", "after_epoch": 1, "every_epochs": 1},
}
COLUMNS = [
    {"name": "a", "dtype": "float32", "size": 4, "read": True},
    {"name": "b", "dtype": "int8"},
]
PARQUET = {
    "dataset": {
        "format": "parquet",
        "record_bytes": None,
        "samples_per_file": 64,
        "parquet": {"columns": COLUMNS},
    }
}
EVAL = {"dataset": {"eval": {"files": 20, "subfolders": 1}}}


def section(*changes):
    benchmark = merged(BASE, SMALL)
    for change in changes:
        benchmark = merged(benchmark, change)
    return benchmark


def observed(benchmark, tmp_path):
    """All that a section may have an effect on, by what it is."""
    training = training_of(benchmark)
    job = Job(sha256="0", run_id="r", benchmark=benchmark, data_dir=tmp_path, seed=1)
    dataset, task = read_task(job)
    plan = planned_files(dataset)
    file = plan.file(0)
    deal = training.deal(2, 1)
    return {
        "content": b"".join(map(bytes, pieces(dataset, file, Content(dataset.seed), Tally()))),
        "files": [plan.file(number) for number in range(dataset.files)],
        "dataset": dataset,
        "task": task,
        "order": [
            (deal.order(epoch).tolist(), str(deal.sample_order(0, epoch))) for epoch in (1, 2)
        ],
        "steps": (deal.steps, training.steps(deal), training.epochs, training.ceiling_steps),
        "reader": replace(training.reader, batch=0),
        "look_ahead": training.reader.look_ahead_batches,
        "computation": training.computation_ns,
        "evaluation": training.evaluation,
        "checkpoint": (training.checkpoint, list(names(training, range(2)))),
        "needs": TrainingEngine().needs(job, 2),
    }


# Keys: what else is set, another value, and what it has an effect on.
EFFECTS = {
    "dataset.directory": ({}, "other", "task"),
    "dataset.generate": ({}, False, "task"),
    "dataset.check": ({}, "headers", "task"),
    "dataset.format": ({}, "npy", "content"),
    "dataset.train.files": ({}, 42, "steps"),
    "dataset.train.subfolders": ({}, 3, "files"),
    "dataset.eval.files": ({}, 7, "files"),
    "dataset.eval.subfolders": (EVAL, 3, "files"),
    "dataset.samples_per_file": ({}, 2, "steps"),
    "dataset.record_bytes": ({}, 5000, "content"),
    "dataset.record_bytes_stdev": ({}, 500, "files"),
    "dataset.prefix": ({}, "x", "files"),
    "dataset.seed": ({}, 11, "content"),
    "dataset.write_threads": ({}, 9, "needs"),
    "dataset.jpeg_encoding": ({"dataset": {"format": "jpeg"}}, "real", "content"),
    "dataset.parquet.columns": (PARQUET, COLUMNS[:1], "content"),
    "dataset.parquet.row_group_rows": (PARQUET, 16, "content"),
    "dataset.parquet.compression": (PARQUET, "gzip", "content"),
    "dataset.parquet.compat_dictionary": (PARQUET, True, "content"),
    "reader.batch": ({}, 3, "steps"),
    "reader.threads": ({}, 3, "look_ahead"),
    "reader.prefetch_batches": ({}, 9, "look_ahead"),
    "reader.shuffle_files": ({}, False, "order"),
    "reader.shuffle_samples": ({"dataset": {"samples_per_file": 4}}, True, "order"),
    "reader.reseed": ({}, False, "order"),
    "reader.projection": (PARQUET, "chunks", "reader"),
    "reader.gap_bytes": (PARQUET, 9, "reader"),
    "reader.buffer_bytes": ({}, 2**28, "needs"),
    "reader.direct": ({}, True, "reader"),
    "reader.cache": ({}, "keep", "reader"),
    "reader.core": ({}, "python", "reader"),
    "train.epochs": ({}, 3, "checkpoint"),
    "train.computation_s": ({}, 0.3, "computation"),
    "train.steps_max": ({}, 3, "steps"),
    "evaluation.computation_s": ({}, 0.3, "evaluation"),
    "evaluation.batch": ({}, 2, "evaluation"),
    "evaluation.after_epoch": ({}, 2, "evaluation"),
    "evaluation.every_epochs": ({}, 2, "evaluation"),
    "checkpoint.bytes": ({}, 2**30, "needs"),
    "checkpoint.ranks": ({}, "all", "checkpoint"),
    "checkpoint.after_epoch": ({}, 2, "checkpoint"),
    "checkpoint.every_epochs": ({}, 2, "checkpoint"),
    "ceiling.steps": ({}, 9, "steps"),
}  # fmt: skip
# What the workflow engine alone reads; tests of training jobs and rules show their effects.
ELSEWHERE = {"ceiling.when", "au_least_pct", "host_memory_gib"}


def test_every_key_of_the_schema_is_in_the_table():
    assert set(EFFECTS) | ELSEWHERE == set(own_keys("benchmark/training"))


@pytest.mark.parametrize("key", EFFECTS)
def test_each_key_has_an_effect(key, tmp_path):
    around, value, what = EFFECTS[key]
    # Evaluations are on files that are there.
    before = section({"evaluation": None} if key == "dataset.eval.files" else EVAL, around)
    after = merged(before, nested(key, value))
    look = task_of if what == "task" else observed
    assert look(before, tmp_path)[what] != look(after, tmp_path)[what]


def task_of(benchmark, tmp_path):
    """What is to be done with the dataset, be it there or not."""
    job = Job(sha256="0", run_id="r", benchmark=benchmark, data_dir=tmp_path, seed=1)
    return {"task": read_task(job)[1]}


def test_what_a_column_is_has_an_effect(tmp_path):
    before = observed(section(EVAL, PARQUET), tmp_path)
    for change in ({"dtype": "float64"}, {"size": 5}, {"name": "c"}):
        columns = [{**COLUMNS[0], **change}, COLUMNS[1]]
        benchmark = section(EVAL, PARQUET, {"dataset": {"parquet": {"columns": columns}}})
        assert observed(benchmark, tmp_path)["content"] != before["content"]
    columns = [{**COLUMNS[0], "read": False}, COLUMNS[1]]
    benchmark = section(EVAL, PARQUET, {"dataset": {"parquet": {"columns": columns}}})
    assert observed(benchmark, tmp_path)["dataset"] != before["dataset"]


# ---------------------------------------------------------------- what follows, what is refused


@pytest.mark.parametrize(
    ("threads", "prefetch", "ahead"), [(4, 2, 4), (4, 4, 4), (4, 5, 8), (1, 2, 2), (8, 1, 8)]
)
def test_as_many_batches_are_read_ahead_as_upstream_does(threads, prefetch, ahead):
    reader = {"reader": {"threads": threads, "prefetch_batches": prefetch}}
    assert training_of(section(reader)).reader.look_ahead_batches == ahead


@pytest.mark.parametrize(
    ("after", "every", "epochs"),
    [(1, 1, [1, 2, 3, 4, 5, 6]), (5, 2, [5]), (2, 2, [2, 4, 6]), (7, 1, [])],
)
def test_epochs_that_something_follows(after, every, epochs):
    when = Between(after_epoch=after, every_epochs=every)
    assert [epoch for epoch in range(1, 7) if when.follows(epoch)] == epochs


def test_bytes_of_checkpoints_are_those_of_all_epochs_and_writers():
    training = training_of(section({"checkpoint": {"ranks": "all", "every_epochs": 2}}))
    assert training.checkpoint.written_bytes(epochs=5, ranks=3) == 3 * 3 * 1000


def test_nothing_between_epochs_is_null():
    training = training_of(section({"evaluation": None, "checkpoint": None}))
    assert (training.evaluation, training.checkpoint) == (None, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"epochs": 0}}, "train.epochs must be a whole number of at least 1, got 0"),
        ({"reader": {"core": "uring"}}, "reader.core must be one of auto, c, python"),
        ({"reader": {"projection": "chunks"}}, "set reader.projection=all"),
        (
            {"dataset": {"format": "tfrecord", "samples_per_file": 2},
             "reader": {"shuffle_samples": True}},
            "samples of tfrecord files are read as they follow one another",
        ),
        ({"ceiling": {"steps": 1}}, "ceiling.steps must be a whole number of at least 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(JobError, match=said):
        training_of(section(change))


def test_a_dataset_without_a_step_for_all_ranks_is_refused_with_what_it_takes():
    training = training_of(section(EVAL, {"reader": {"batch": 3}}))
    check_steps(training, 13)
    with pytest.raises(JobError, match=r"it takes 42 files"):
        check_steps(training, 14)


def test_evaluations_need_files_for_all_ranks():
    training = training_of(section(EVAL))
    check_steps(training, 20)
    with pytest.raises(JobError, match=r"dataset\.eval has 20 files of 1 samples"):
        check_steps(training, 21)


# ---------------------------------------------------------------- needs


def test_needs_name_what_they_are_made_of(tmp_path):
    benchmark = section(EVAL, {"reader": {"threads": 4, "buffer_bytes": 2**26}})
    found = observed(benchmark, tmp_path)["needs"]
    assert found.memory_bytes_per_rank > 4 * 2**26
    assert "4 buffers 256 MiB" in found.memory_arithmetic
    assert found.disk_bytes >= 60 * 4096
    assert "60 files" in found.disk_arithmetic
    assert found.packages == ("numpy", "mpi4py")


@pytest.mark.parametrize(
    ("dataset", "package"),
    [
        ({"format": "parquet", "record_bytes_stdev": 0}, "pyarrow"),
        ({"format": "hdf5"}, "h5py"),
        ({"format": "tfrecord"}, "google-crc32c"),
        ({"format": "jpeg", "jpeg_encoding": "real"}, "pillow"),
    ],
)
def test_formats_need_their_packages(dataset, package, tmp_path):
    found = observed(section(EVAL, {"dataset": dataset}), tmp_path)["needs"]
    assert found.packages == ("numpy", "mpi4py", package)


def test_lists_of_a_million_files_fit(tmp_path):
    yaml_path = Path(str(resources.files("mlps.conf"))) / "benchmark/training/retinanet_b200.yaml"
    own = yaml.safe_load(yaml_path.read_text())
    own.pop("defaults")
    job = Job(sha256="0", run_id="r", benchmark=merged(BASE, own), data_dir=tmp_path, seed=1)
    assert TrainingEngine().needs(job, 1024).memory_bytes_per_rank < 300 * 2**20
