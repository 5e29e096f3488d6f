"""What the configuration of a checkpointing job says that it is judged by."""

from __future__ import annotations

import pytest
from checkpoint_results import GIB, checkpoint_spec

from mlps.engine.checkpoint_job import checkpoint_jobs


def only(changes=None, **settings):
    (job,) = checkpoint_jobs(checkpoint_spec(changes, **settings))
    return job


def test_other_families_write_no_checkpoints(make_spec):
    assert checkpoint_jobs(make_spec()) == ()


def test_a_model_as_it_is_packaged():
    job = only(
        {"cluster.hosts": [f"node{number}" for number in range(8)], "cluster.ranks_per_host": 8},
        benchmark="checkpointing/llama3_70b",
        fitting=False,
    )
    assert (job.ranks, job.ranks_per_host_least, job.count) == (64, 8, 64)
    assert (job.writes, job.reads, job.scale, job.subset) == (10, 10, 1, False)
    assert (job.fsync, job.evicts, job.trains) == (True, True, False)
    assert (job.memory_gib, job.all_memory_gib, job.table_gib) == (None, None, 912)


TRAINING = {"steps": 2, "computation_s": 0.1, "background": True}


# What the workflow engine reads of the family's keys: another value, and what follows from it.
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("accelerator.memory_gib", 80, {"memory_gib": 80, "all_memory_gib": 320}),
        ("accelerator.count", 8, {"count": 8}),
        ("accelerator.checkpoint_gib", 105, {"table_gib": 105}),
        ("parallelism.mode", "subset", {"subset": True}),
        ("scale", 0.5, {"scale": 0.5}),
        ("writes", 7, {"writes": 7}),
        ("reads", 7, {"reads": 7}),
        ("training", TRAINING, {"trains": True}),
        ("eviction.when", "never", {"evicts": False}),
        ("io.fsync", False, {"fsync": False}),
    ],
)
def test_each_key_has_an_effect(key, value, expected):
    before, after = only(), only({f"benchmark.{key}": value})
    for name, wanted in expected.items():
        assert getattr(after, name) == wanted != getattr(before, name)


def test_accelerators_must_hold_the_larger_of_computed_and_told_size():
    job = only({"benchmark.accelerator.checkpoint_gib": 5})
    assert job.demand_gib(4 * GIB) == 5
    assert job.demand_gib(6 * GIB) == 6
    assert only().demand_gib(6 * GIB) == 6


def test_planned_checkpoints_are_of_the_stage():
    job = only({"benchmark.writes": 3, "benchmark.reads": 5})
    assert [job.planned(does) for does in ("write", "read", "evict")] == [3, 5, 0]


def test_options_are_laid_over_the_benchmark():
    options = [{"name": "one", "set": {}}, {"name": "two", "set": {"io": {"fsync": False}}}]
    one, two = checkpoint_jobs(checkpoint_spec({"benchmark.options": options}))
    assert (one.option, one.fsync) == ("one", True)
    assert (two.option, two.fsync) == ("two", False)


def test_ranks_of_the_smallest_host_count():
    job = only({"cluster.hosts": ["a", "b"], "cluster.ranks_per_host": 6})
    assert (job.ranks, job.ranks_per_host_least) == (12, 6)
