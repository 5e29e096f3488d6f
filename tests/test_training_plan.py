"""What a plan says of a dataset, and that it asks no other host."""

from __future__ import annotations

import json

import psutil
import pytest
from training_results import GIB, training_spec

from mlps.engine import training_plan
from mlps.engine.commands import plan
from mlps.engine.training_plan import Sizing, sizing_lines, sizing_of

OTHERS = {"cluster.hosts": ["node1", "node2"]}


def lines(spec, measured_bytes):
    sizing = sizing_of(spec)
    return [*sizing_lines(Sizing(jobs=sizing.jobs, measured_bytes=measured_bytes))]


def test_the_plan_of_another_family_has_no_sizing(make_spec):
    assert sizing_of(make_spec()) is None


def test_this_machine_tells_its_memory():
    measured = sizing_of(training_spec()).measured_bytes
    assert 0 < measured <= psutil.virtual_memory().total


def test_no_other_host_is_asked(monkeypatch):
    def refuse(_request):
        raise AssertionError("asked")

    monkeypatch.setattr(training_plan, "read_facts", refuse)
    assert sizing_of(training_spec(OTHERS)).measured_bytes is None


def test_a_dataset_that_is_too_small_is_told_what_to_type():
    assert lines(training_spec(), 11 * GIB) == [
        "least dataset (Rules 3.1.2): steps: 500 x 4 accelerators x batch 8 / 1 samples a file = "
        "16,000 files; memory: 5 x 11.00 GiB / 3,355,443 bytes a file = 17,600 files; at least "
        "17,600 files, 55.0 GiB",
        "dataset: 320 files, 1.0 GiB nominal: too small, benchmark.dataset.train.files=17600",
        "each epoch: 10 steps of each of 4 ranks, 0 samples are left over",
    ]


def test_a_dataset_that_is_large_enough():
    spec = training_spec({"benchmark.dataset.train.files": 17_605})
    assert lines(spec, 11 * GIB)[1:] == [
        "dataset: 17,605 files, 55.0 GiB nominal: enough for 11.0 GiB of memory",
        "each epoch: 550 steps of each of 4 ranks, 5 samples are left over",
    ]


def test_memory_that_is_not_known_is_no_zero():
    spec = training_spec({"benchmark.dataset.train.files": 16_000})
    first, second, _ = lines(spec, None)
    assert "memory: not known here, benchmark.host_memory_gib=GIB declares it" in first
    assert second == (
        "dataset: 16,000 files, 50.0 GiB nominal: enough for the steps; the memory of the hosts is "
        "not known before they are asked, to plan with it: benchmark.host_memory_gib=GIB"
    )


def test_an_epoch_that_ends_before_the_dataset_does():
    spec = training_spec({"benchmark.train.steps_max": 3})
    assert lines(spec, GIB)[2] == (
        "each epoch: 3 steps of each of 4 ranks, ended by benchmark.train.steps_max (of 10), "
        "0 samples are left over"
    )


@pytest.mark.parametrize(
    ("files", "memory_gib", "enough"),
    [(16_000, None, None), (15_999, None, False), (17_600, 11, True), (17_599, 11, False)],
)
def test_the_document(files, memory_gib, enough):
    jobs = sizing_of(training_spec({"benchmark.dataset.train.files": files})).jobs
    measured = None if memory_gib is None else memory_gib * GIB
    document = Sizing(jobs=jobs, measured_bytes=measured).as_document()
    assert document["measured_memory_bytes"] == measured
    (dataset,) = document["datasets"]
    assert dataset["enough"] is enough
    assert (dataset["option"], dataset["files"], dataset["memory_bytes"]) == (None, files, measured)
    assert dataset["least_files_for_steps"] == 16_000
    assert dataset["least_files_for_memory"] == (None if memory_gib is None else 17_600)
    assert dataset["steps_per_epoch"] == files // 32
    assert dataset["dropped_samples"] == files % 32


def test_a_plan_prints_the_sizing_and_counts_by_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_plan, "_memory_here", lambda _spec: 8 * GIB)
    words = ["benchmark=training/quick", "launcher=process", "cluster.ranks_per_host=1"]
    assert plan(words, config_dirs=(), as_json=False) == 0
    out = capsys.readouterr().out
    assert "\nleast dataset (Rules 3.1.2): steps: 500 x 1 accelerator x batch 4 / 1" in out
    assert "\ndataset: 96 files, 0.4 GiB nominal: too small, benchmark.dataset.train.files=" in out
    assert "\nwarning TRN-01 benchmark.dataset.train.files: the dataset has 96 files" in out
    assert plan([*words, "division=closed"], config_dirs=(), as_json=True) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["sizing"]["measured_memory_bytes"] == 8 * GIB
    assert document["sizing"]["datasets"][0]["enough"] is False
    severities = {finding["rule"]: finding["severity"] for finding in document["findings"]}
    assert severities["TRN-01"] == "error"
    assert plan(["benchmark=kvcache/quick"], config_dirs=(), as_json=True) == 0
    assert "sizing" not in json.loads(capsys.readouterr().out)
