"""Which keys of a job change its core configuration, and which a site may tune."""

from __future__ import annotations

import re

import pytest

from mlps.engine.core_config import ALGORITHM, core_config
from mlps.engine.jobs import prepare

TRAINING = "benchmark=training/unet3d_b200"
CHECKPOINT = "benchmark=checkpointing/llama3_8b"
VECTORS = "benchmark=vectordb/closed_1m_hnsw"
KVCACHE = "benchmark=kvcache"


def core(*overrides):
    return core_config(prepare(overrides).spec)


@pytest.mark.parametrize(
    ("workload", "change"),
    [
        (TRAINING, "benchmark.reader.threads=32"),
        (TRAINING, "benchmark.dataset.train.files=50000"),
        (TRAINING, "data_dir=/tmp"),
        (CHECKPOINT, "benchmark.writes=0"),
        (CHECKPOINT, "benchmark.directory=kept"),
        (VECTORS, "benchmark.dataset.batch_size=500"),
        (KVCACHE, "cluster=2node"),
    ],
)
def test_what_a_site_tunes_does_not_change_it(workload, change):
    assert core(workload, change) == core(workload)


@pytest.mark.parametrize(
    ("workload", "change"),
    [
        (TRAINING, "benchmark.reader.batch=8"),
        (TRAINING, "benchmark.train.computation_s=0.2"),
        (CHECKPOINT, "benchmark.model.layers=16"),
        (VECTORS, "benchmark.index.ef_construction=100"),
        (KVCACHE, "benchmark.duration_s=60"),
    ],
)
def test_a_key_of_the_workload_changes_it(workload, change):
    assert core(workload, change).digest != core(workload).digest


def test_a_number_has_one_digest_however_it_is_written():
    one, other = (core(TRAINING, f"benchmark.train.computation_s={text}") for text in ("1", "1.0"))
    assert one == other


def test_it_names_the_class_in_which_results_are_compared():
    document = core(TRAINING, "division=closed").as_document()
    assert document["algorithm"] == ALGORITHM
    assert re.fullmatch("[0-9a-f]{16}", document["hash"])
    assert document["class"] == {
        "edition": "v3.0",
        "division": "closed",
        "family": "training",
        "model": "unet3d",
        "accelerator": "b200",
    }


def test_a_workload_that_nothing_says_how_to_compare_has_none():
    assert core("benchmark=kvcache/prefix") is None
