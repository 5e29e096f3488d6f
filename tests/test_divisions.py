"""What the packaged divisions let a submitter change, on packaged workloads."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from mlps.engine.compose import flatten
from mlps.engine.jobs import prepare
from mlps.engine.options import find_options
from mlps.engine.rules import judge_job

UNET3D, RETINANET = "training/unet3d_b200", "training/retinanet_b200"
LLAMA, MILVUS = "checkpointing/llama3_8b", "vectordb/closed_1m_hnsw"
CACHE = "benchmark.cache.command=[restart]"


def judged(benchmark, division, *changes):
    words = [f"benchmark={benchmark}", f"division={division}", *changes]
    job = prepare(words + ([CACHE] if benchmark == MILVUS else []))
    return [(found.rule, found.key) for found in judge_job(job.spec, job.composition.origins)]


@pytest.mark.parametrize(
    ("benchmark", "change"),
    [
        (UNET3D, "benchmark.reader.threads=32"),
        (UNET3D, "benchmark.reader.direct=true"),
        (LLAMA, "benchmark.writes=0"),
        (MILVUS, "benchmark.search.search_ef=300"),
        ("kvcache", "cluster.ranks_per_host=4"),
        ("kvcache", "benchmark.duration_s=300"),
    ],
)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_closed_and_open_take_what_a_site_tunes(benchmark, division, change):
    assert judged(benchmark, division, change) == []


@pytest.mark.parametrize(
    ("benchmark", "change"),
    [
        (UNET3D, "benchmark.dataset.format=hdf5"),
        (LLAMA, "benchmark.io.depth=16"),
        (MILVUS, "benchmark.search.k=20"),
        ("kvcache", "benchmark.rag=true"),
        ("kvcache", "seed=7"),
    ],
)
def test_open_takes_what_closed_refuses(benchmark, change):
    assert judged(benchmark, "open", change) == []
    assert judged(benchmark, "closed", change) == [("JOB-02", change.partition("=")[0])]


@pytest.mark.parametrize(
    ("benchmark", "change"),
    [
        (UNET3D, "benchmark.train.computation_s=0.1"),
        (UNET3D, "seed=7"),
        (RETINANET, "benchmark.reader.direct=true"),
        (LLAMA, "benchmark.model.layers=16"),
        (MILVUS, "benchmark.run.runtime_s=60"),
    ],
)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_neither_takes_another_workload(benchmark, division, change):
    assert judged(benchmark, division, change) == [("JOB-02", change.partition("=")[0])]


def test_open_has_workloads_that_closed_has_not():
    workload = "vectordb/open_1m_pgvector"
    assert judged(workload, "open") == []
    assert judged(workload, "closed") == [("JOB-01", "benchmark.name")]


def test_a_refused_key_is_told_the_nearest_that_may_be_changed():
    job = prepare([f"benchmark={UNET3D}", "division=closed", "benchmark.dataset.eval.files=3"])
    (found,) = judge_job(job.spec, job.composition.origins)
    assert found.hint is not None
    assert found.hint.endswith("may be changed is benchmark.dataset.train.files")


def test_all_that_a_division_names_exists():
    job = prepare([f"benchmark={UNET3D}"])
    edition = job.spec.document["edition"]
    packaged = {option.name for option in find_options("benchmark", ())}
    scored = {*edition["workloads"], *edition["workloads_open"]}
    assert scored <= packaged
    keys = {}
    for name in scored:
        job = prepare([f"benchmark={name}"] + ([CACHE] if "closed" in name else []))
        found = flatten(job.spec.document)
        keys.setdefault(job.spec.family, set()).update(found)
        keys[name] = set(found)
    for division in ("closed", "open"):
        lists = prepare([f"benchmark={UNET3D}", f"division={division}"]).spec.document["division"]
        for name, patterns in lists["may_change_in"].items():
            for pattern in patterns:
                assert any(fnmatchcase(key, pattern) for key in keys[name]), (name, pattern)
