"""What the configuration of a job of vector search says that it is judged by."""

from __future__ import annotations

import pytest
from vector_results import vector_spec

from mlps.engine.jobs import prepare
from mlps.engine.plan import make_plan
from mlps.engine.rules import judge_job
from mlps.engine.vector_job import vector_jobs, vector_table


def only(changes=None, **settings):
    (job,) = vector_jobs(vector_spec(changes, **settings))
    return job


def stages(changes=None):
    plan = make_plan(vector_spec(changes), python="/python")
    return [(launch.stage, launch.when, launch.undone_by) for launch in plan.launches]


def test_other_families_search_nothing(make_spec):
    assert vector_jobs(make_spec()) == ()


def test_a_job_as_it_is_packaged():
    job = only(benchmark="vectordb/closed_10m_hnsw", fitting=False)
    assert (job.backend, job.index_type, job.k) == ("milvus", "HNSW", 10)
    assert (job.vectors, job.dimension, job.trials) == (10_000_000, 1536, 5)
    assert (job.cache_mode, job.cache_command) == ("cold", ())
    assert (job.runtime_s, job.queries, job.target_qps) == (300, None, None)
    quick = only(fitting=False)
    assert (quick.index_type, quick.cache_command, quick.clients) == (None, None, 1)


COUNTED = {"benchmark.run.mode": "query_count", "benchmark.run.queries": 500}
OPEN = {"benchmark.run.load": "open", "benchmark.run.target_qps": 100}
PROGRAM = {"benchmark.cache.method": "command"}

# What the workflow engine reads of the family's keys: what is set besides, another value, and what
# then is different.
EFFECTS = {
    "database.backend": ({}, "zvec", {"backend": "zvec"}),
    "dataset.path": ({}, "/data/base.fvecs", {"vectors": None, "dimension": None}),
    "dataset.num_vectors": ({}, 500, {"vectors": 500}),
    "dataset.dimension": ({}, 64, {"dimension": 64}),
    "index.index_type": ({}, "HNSW", {"index_type": "HNSW"}),
    "search.k": ({}, 20, {"k": 20}),
    "recall.least": ({}, 0.5, {"recall_least": 0.5}),
    "cache.mode": ({}, "warm", {"cache_mode": "warm"}),
    "cache.method": ({}, "command", {"cache_command": ()}),
    "cache.command": (PROGRAM, ["/x"], {"cache_command": ("/x",)}),
    "cache.resident_most_pct": ({}, 5, {"resident_most_pct": 5}),
    "cache.memory_ratio": ({}, 3, {"memory_ratio": 3}),
    "run.mode": ({}, "query_count", {"runtime_s": None}),
    "run.runtime_s": ({}, 60, {"runtime_s": 60}),
    "run.queries": (COUNTED, 700, {"queries": 700}),
    "run.load": (OPEN, "closed", {"target_qps": None}),
    "run.target_qps": (OPEN, 200, {"target_qps": 200}),
    "capacity.percentile": ({}, 0.95, {"capacity_fraction": 0.95}),
    "capacity.limit_ms": ({}, 20, {"capacity_limit_ms": 20}),
}


@pytest.mark.parametrize("key", EFFECTS)
def test_each_key_has_an_effect(key):
    around, value, expected = EFFECTS[key]
    before, after = only(around), only({**around, f"benchmark.{key}": value})
    for name, wanted in expected.items():
        assert getattr(after, name) == wanted != getattr(before, name)


def test_keys_that_choose_stages():
    chosen = {"capacity.when": "success", "sweep.when": "success", "cleanup": "never"}
    words = [f"benchmark.{key}={value}" for key, value in chosen.items()]
    job = prepare(["benchmark=vectordb/quick", *words])
    planned = {launch.stage for launch in job.plan.launches}
    assert {stage for stage, _, _ in stages()} ^ planned == {"capacity", "sweep", "cleanup"}


def test_a_directory_keeps_index_and_truth():
    undone = {stage: undone_by for stage, _, undone_by in stages()}
    kept = {stage: by for stage, _, by in stages({"benchmark.directory": "vectors"})}
    assert (undone["load"], undone["truth"]) == ("cleanup", "cleanup")
    assert (kept["load"], kept["truth"]) == (None, None)


SITES = [
    "benchmark.database.host=db1",
    "benchmark.database.port=19531",
    "benchmark.cache.command=[/x]",
    "benchmark.index.max_degree=48",
    "benchmark.search.search_ef=300",
    "benchmark.run.batch_size=10",
]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ([], []),
        (
            ["benchmark.dataset.seed=7", "benchmark.search.k=5"],
            ["benchmark.dataset.seed", "benchmark.search.k"],
        ),
    ],
)
def test_closed_lets_a_submitter_change_what_the_rules_name(words, keys):
    job = prepare(["benchmark=vectordb/closed_1m_diskann", "division=closed", *SITES, *words])
    findings = judge_job(job.spec, job.composition.origins)
    assert sorted(each.key for each in findings if each.rule == "JOB-02") == keys


def test_ranks_and_trials_are_those_of_the_job():
    job = only({"cluster.hosts": ["a", "b"], "cluster.ranks_per_host": 3, "trials": 7})
    assert (job.clients, job.trials) == (6, 7)


def test_options_are_laid_over_the_benchmark():
    options = [{"name": "one", "set": {}}, {"name": "two", "set": {"search": {"k": 3}}}]
    one, two = vector_jobs(vector_spec({"benchmark.options": options}))
    assert [(job.option, job.k) for job in (one, two)] == [("one", 10), ("two", 3)]


def test_the_table_of_the_edition():
    table = vector_table(vector_spec())
    assert (table.provisional, table.recall_least, table.queries_least) == (True, 0.95, 10_000)
    assert table.scales == ((1_000_000, 1536), (10_000_000, 1536))
    assert "provisional" in table.told_by
    published = vector_table(vector_spec({"edition.vectordb.status": "published"}))
    assert published.told_by == ""
