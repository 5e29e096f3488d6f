"""What a job of checkpointing asks of each rank: every key has an effect; nonsense is refused."""

from __future__ import annotations

from fractions import Fraction
from importlib import resources
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sections import nested, own_keys

from mlps.engines.checkpoint_native.stages import CheckpointEngine
from mlps.engines.checkpoint_native.workload import checkpointing_of, file_numbers
from mlps.engines.contract import Job, merged
from mlps.engines.errors import JobError

BASE = yaml.safe_load((resources.files("mlps.conf") / "benchmark/checkpointing.yaml").read_text())
TRAINING = {"training": {"steps": 4, "computation_s": 0.5, "background": False}}
SUBSET = {"parallelism": {"mode": "subset", "data": 4}}
RANKS = 2


def section(*changes):
    benchmark = BASE
    for change in changes:
        benchmark = merged(benchmark, change)
    return benchmark


def observed(benchmark, data_dir, ranks=RANKS):
    """All that a section may have an effect on, by what it is."""
    job = Job(sha256="0", run_id="r", benchmark=benchmark, data_dir=data_dir, seed=1)
    workload = checkpointing_of(benchmark, ranks)
    return {
        "files": [workload.layout.files(rank) for rank in range(ranks)],
        "layout": workload.layout_document(),
        "needs": CheckpointEngine().needs(job, ranks),
        "counts": (workload.writes, workload.reads, workload.kept_at_once),
        "pause": workload.pause_s,
        "steps": workload.steps,
        "shift": workload.shift,
        "eviction": workload.eviction,
        "io": workload.io,
    }


# By key: what is set besides, another value, and what then differs.
EFFECTS = {
    "model.layers": ({}, 30, "files"),
    "model.hidden": ({}, 4000, "files"),
    "model.ffn": ({}, 14000, "files"),
    "model.heads": ({}, 16, "files"),
    "model.kv_heads": ({}, 4, "files"),
    "model.vocab": ({}, 100, "files"),
    "model.datatype": ({}, "fp32", "files"),
    "model.optimizer_datatype": ({}, "bf16", "files"),
    "parallelism.mode": ({"parallelism": {"data": 4}}, "subset", "files"),
    "parallelism.tensor": ({}, 2, "files"),
    "parallelism.pipeline": ({"parallelism": {"zero": 1}}, 2, "files"),
    "parallelism.data": (SUBSET, 8, "files"),
    "parallelism.zero": ({}, 1, "files"),
    "scale": ({}, 0.5, "files"),
    "writes": ({}, 3, "counts"),
    "reads": ({}, 3, "counts"),
    "time_between_s": ({}, 1, "pause"),
    "training.steps": (TRAINING, 9, "steps"),
    "training.computation_s": (TRAINING, 0.25, "steps"),
    "training.background": (TRAINING, True, "steps"),
    "keep": ({}, "last", "needs"),
    "read_shift": ({}, "host", "shift"),
    "eviction.when": ({}, "never", "eviction"),
    "eviction.method": ({"eviction": {"command": ["true"]}}, "command", "eviction"),
    "eviction.command": (
        {"eviction": {"method": "command", "command": ["true"]}}, ["sync"], "needs",
    ),
    "io.direct": ({}, False, "io"),
    "io.fsync": ({}, False, "io"),
    "io.rename": ({}, True, "io"),
    "io.preallocate": ({}, False, "io"),
    "io.verify": ({}, "none", "io"),
    "io.io_size_bytes": ({}, 2**16, "needs"),
    "io.depth": ({}, 2, "needs"),
    "io.core": ({}, "python", "io"),
}  # fmt: skip
# Of the place, see test_checkpoint_place.py; of what the workflow engine reads, its own tests.
ELSEWHERE = {
    "directory", "accelerator.memory_gib", "accelerator.count", "accelerator.checkpoint_gib",
}  # fmt: skip
# What is refused before, and allowed with another value.
ALONE = {"parallelism.mode", "eviction.method"}


def test_every_key_is_in_the_table():
    assert set(EFFECTS) | ELSEWHERE == set(own_keys("benchmark/checkpointing"))


@pytest.mark.parametrize("key", EFFECTS)
def test_each_key_has_an_effect(key, tmp_path):
    around, value, what = EFFECTS[key]
    after = observed(section(around, nested(key, value)), tmp_path)
    before = observed(section() if key in ALONE else section(around), tmp_path)
    assert before[what] != after[what]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"writes": 0, "reads": 0}, "writes and reads are both 0"),
        ({"writes": 0}, "set benchmark.directory"),
        ({"scale": 0}, "scale must be above 0"),
        ({"scale": 2}, "scale must be at most 1, got 2"),
        ({"read_shift": -1}, "read_shift must be a whole number of at least 0, got -1"),
        ({"read_shift": "rack"}, "read_shift must be a whole number of at least 0, got 'rack'"),
        ({"eviction": {"method": "command"}}, "needs eviction.command"),
        ({"eviction": {"command": ["sync"]}}, "is for eviction.method=command"),
        ({"eviction": {"command": [1]}}, "eviction.command must be a list of texts, got [1]"),
        ({"training": {"steps": 0, "computation_s": 1, "background": False}}, "training.steps"),
        ({"parallelism": {"tensor": 3}}, "2 ranks are no multiple"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(JobError, match=None) as caught:
        checkpointing_of(section(change), RANKS)
    assert said in str(caught.value)


def test_reads_alone_are_of_a_directory():
    workload = checkpointing_of(section({"writes": 0, "directory": "kept"}), RANKS)
    assert (workload.writes, workload.reads, workload.kept_at_once) == (0, 10, 0)


@pytest.mark.parametrize(
    ("keep", "writes", "at_once"), [("all", 10, 10), ("last", 10, 2), ("last", 1, 1), ("all", 0, 0)]
)
def test_checkpoints_that_are_there_at_once(keep, writes, at_once, tmp_path):
    benchmark = section({"keep": keep, "writes": writes, "directory": "kept"})
    assert checkpointing_of(benchmark, RANKS).kept_at_once == at_once
    needs = observed(benchmark, tmp_path)["needs"]
    assert (
        needs.disk_bytes == at_once * checkpointing_of(benchmark, RANKS).layout.totals().size_bytes
    )


@given(scale=st.integers(1, 1000), ranks=st.integers(1, 16))
def test_a_scaled_layout_has_that_part_of_each_file(scale, ranks):
    whole = checkpointing_of(section(), ranks).layout
    scaled = checkpointing_of(section({"scale": scale / 1000}), ranks).layout
    part = Fraction(scale, 1000)
    for rank in range(ranks):
        pairs = zip(whole.files(rank), scaled.files(rank), strict=True)
        assert all((a.name, int(part * a.size_bytes)) == (b.name, b.size_bytes) for a, b in pairs)
    total = sum(scaled.rank_bytes(rank) for rank in range(ranks))
    assert total == scaled.totals().size_bytes


def test_no_file_of_a_small_scale_is_empty():
    layout = checkpointing_of(section({"scale": 1e-12}), 8).layout
    assert {file.size_bytes for rank in range(8) for file in layout.files(rank)} == {1}


def test_the_formula_stays_beside_the_scale():
    document = checkpointing_of(section({"scale": 0.25}), 8).layout_document()
    assert document["formula_bytes"] == checkpointing_of(section(), 8).layout.totals().size_bytes
    assert document["scale"] == 0.25


@given(ranks=st.integers(1, 50), files=st.integers(0, 4096))
def test_each_file_of_a_checkpoint_has_a_number_of_its_own(ranks, files):
    ends = [file_numbers(rank, files) for rank in range(ranks)]
    assert all(a.stop <= b.start for a, b in pairwise(ends))


def test_more_files_than_there_are_numbers_are_refused():
    with pytest.raises(JobError, match=r"set parallelism\.pipeline higher"):
        file_numbers(0, 4097)


@pytest.mark.parametrize("name", ["llama3_8b", "llama3_70b", "llama3_405b", "llama3_1t"])
def test_needs_of_the_models_fit_a_rank(name, tmp_path):
    text = (resources.files("mlps.conf") / f"benchmark/checkpointing/{name}.yaml").read_text()
    benchmark = section(yaml.safe_load(text))
    needs = observed(benchmark, tmp_path, benchmark["accelerator"]["count"])["needs"]
    assert needs.memory_bytes_per_rank <= 256 * 2**20
    assert needs.disk_bytes == 10 * sum(
        needs.facts["checkpoint"][f"{state}_bytes"] for state in ("model", "optimizer")
    )
