"""What the configuration of a training job says of its dataset."""

from __future__ import annotations

from fractions import Fraction

import pytest
from training_results import GIB, training_spec

from mlps.engine.training_job import training_jobs


def only(changes=None, **settings):
    (job,) = training_jobs(training_spec(changes, **settings))
    return job


def test_other_families_train_on_nothing(make_spec):
    assert training_jobs(make_spec()) == ()


def test_a_model_as_it_is_packaged():
    job = only(
        {"cluster.hosts": ["a", "b"], "cluster.ranks_per_host": 4},
        benchmark="training/unet3d_b200",
        fitting=False,
    )
    assert (job.hosts, job.accelerators, job.files, job.epochs) == (2, 8, 7200, 5)
    assert (job.batch, job.samples_per_file, job.record_bytes) == (7, 1, 146_600_628)
    assert round(job.nominal_gib) == 983
    assert (job.epoch.steps, job.epoch.dropped_samples) == (128, 7200 - 128 * 56)
    assert job.least_size(job.memory_bytes(2 * 512 * GIB)).files == 37_501


def test_a_record_that_is_not_whole_stays_exact():
    assert only({"benchmark.dataset.record_bytes": 114660.07}).record_bytes == Fraction("114660.07")


COLUMNS = [
    {"name": "a", "dtype": "float16"},
    {"name": "b", "dtype": "float64", "size": 3, "read": False},
    {"name": "c", "dtype": "bool"},
]


@pytest.mark.parametrize(
    ("record_bytes", "columns", "expected"),
    [(None, COLUMNS, 27), (27, COLUMNS, 27), (5, [], 5), (None, [], 1)],
)
def test_a_record_is_a_row_of_the_columns_unless_told(record_bytes, columns, expected):
    changes = {
        "benchmark.dataset.record_bytes": record_bytes,
        "benchmark.dataset.parquet.columns": columns,
    }
    assert only(changes).record_bytes == expected


def test_sizes_of_types_are_those_of_the_engine():
    from mlps.engine.training_job import _DTYPE_BYTES
    from mlps.engines.training_native.dataset import DTYPE_BYTES

    assert _DTYPE_BYTES == DTYPE_BYTES


def test_options_are_laid_over_the_benchmark():
    options = [
        {"name": "one", "set": {"reader": {"batch": 1}}},
        {"name": "two", "set": {"dataset": {"train": {"files": 5}}, "au_least_pct": 10}},
    ]
    one, two = training_jobs(training_spec({"benchmark.options": options}))
    assert (one.option, one.batch, one.files, one.au_least_pct) == ("one", 1, 320, 90)
    assert (two.option, two.batch, two.files, two.au_least_pct) == ("two", 8, 5, 10)


@pytest.mark.parametrize(
    ("evaluation", "batch"),
    [(None, None), ({"computation_s": 0, "batch": 3, "after_epoch": 1, "every_epochs": 1}, 3)],
)
def test_the_batch_of_evaluations(evaluation, batch):
    assert only({"benchmark.evaluation": evaluation}).evaluation_batch == batch


@pytest.mark.parametrize(
    ("declared_gib", "measured", "memory"),
    [(None, None, None), (8, None, 8 * GIB), (8, 9 * GIB, 9 * GIB), (None, 9 * GIB, 9 * GIB)],
)
def test_memory_is_what_is_known_of_it(declared_gib, measured, memory):
    assert only({"benchmark.host_memory_gib": declared_gib}).memory_bytes(measured) == memory
