"""What a job of vector search asks for; what contradicts itself is refused with what to type."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlps.engines.errors import JobError
from mlps.engines.vectordb import workload as module
from mlps.engines.vectordb.backends import backend_of
from mlps.engines.vectordb.workload import workload_of


def test_a_job_becomes_a_workload(vector_benchmark):
    workload = workload_of(vector_benchmark(cache={"mode": "cold"}), ranks=4)
    assert workload.spec.build == {"nlist": 12, "kmeans_rounds": 3}
    assert (workload.spec.vectors, workload.spec.dimension) == (600, 16)
    assert (workload.spec.metric, workload.spec.seed) == ("COSINE", 42)
    assert (workload.search, workload.k, workload.insert_batch) == ({"nprobe": 6}, 10, 250)
    assert (workload.truth_depth, workload.probe_queries) == (10, 12)
    assert (workload.cache.mode, workload.cache.command) == ("cold", ())
    traffic = workload.traffic
    assert (traffic.load, traffic.runtime_s, traffic.queries) == ("closed", 0.2, None)
    assert (workload.capacity, workload.sweep) == (None, None)


def test_keys_of_the_database_are_parameters_of_its_index_too(vector_benchmark):
    database = {"backend": "milvus", "host": "db", "port": 1234}
    index = {"nlist": None, "kmeans_rounds": None, "index_type": "HNSW", "M": 16}
    job = vector_benchmark(database=database, index=index, search={"nprobe": None})
    built = workload_of(job, 1).spec.build
    assert built == {"host": "db", "port": 1234, "index_type": "HNSW", "M": 16}
    with pytest.raises(JobError, match="host is in database and in index"):
        workload_of({**job, "index": {**job["index"], "host": "other"}}, 1)


def test_open_load_capacity_and_sweep(vector_benchmark):
    workload = workload_of(
        vector_benchmark(
            run={"load": "open", "target_qps": 50, "runtime_s": None, "mode": "query_count",
                 "queries": 30},
            capacity={"when": "success"},
            sweep={"when": "success", "parameter": "nprobe", "values": [1, 2]},
            cache={"mode": "cold", "method": "command", "command": ["drop", "it"]},
        ), 1,
    )  # fmt: skip
    assert (workload.traffic.load, workload.traffic.queries) == ("open", 30)
    assert (workload.capacity.fraction, workload.capacity.limit_ms) == (0.99, 100)
    assert (workload.sweep.parameter, workload.sweep.values) == ("nprobe", (1, 2))
    assert workload.cache.command == ("drop", "it")


SWEEP = {"when": "success", "parameter": "nprobe", "values": [1]}
WRONG = [
    ({"database": {"backend": "native"}}, "no backend is called 'native': did you mean native_ivf"),
    ({"index": {"nlists": 3}}, "index.nlists: no such parameter; did you mean nlist?"),
    ({"search": {"probe": 3}}, "search.probe: no such parameter; did you mean nprobe?"),
    ({"index": {"nlist": 601}}, "index.nlist is 601, and there are 600 vectors"),
    ({"search": {"nprobe": 13}}, "search.nprobe is 13, and the index has 12 lists"),
    ({"search": {"k": 11}}, "search.k is 11, and truth.depth is 10: benchmark.truth.depth=11"),
    ({"recall": {"least": 95}}, "recall.least must be at most 1, got 95"),
    ({"run": {"runtime_s": None}}, "run.mode is timed, and run.runtime_s is null: benchmark.run."),
    ({"run": {"queries": 5}}, "run.mode is timed, and run.queries is 5: benchmark.run.queries="),
    (
        {"run": {"mode": "query_count", "queries": 5}},
        "run.mode is query_count, and run.runtime_s is 0.2: benchmark.run.runtime_s=null",
    ),
    (
        {"run": {"mode": "query_count", "runtime_s": None}},
        "run.mode is query_count, and run.queries is null: benchmark.run.queries=...",
    ),
    ({"run": {"load": "open"}}, "run.load is open, and run.target_qps is null"),
    ({"run": {"target_qps": 9}}, "run.load is closed, and run.target_qps is 9: benchmark.run.load"),
    (
        {"run": {"batch_size": 7}},
        "query.num_query_vectors is 12, and 2 ranks with run.batch_size=7 need 14, each its own:"
        " benchmark.query.num_query_vectors=14, or fewer ranks",
    ),
    ({"sweep": {"when": "success"}}, "a sweep needs sweep.parameter, one of: io, nprobe, reads_in"),
    (
        {"sweep": {**SWEEP, "parameter": "probe"}},
        "sweep.parameter is 'probe', no parameter of the search: did you mean nprobe? There are io",
    ),
    ({"sweep": {**SWEEP, "values": []}}, "sweep.values must be a list of values of search.nprobe"),
    ({"sweep": {**SWEEP, "values": [4, 13]}}, "search.nprobe is 13, and the index has 12 lists"),
    ({"capacity": {"when": "success", "percentile": 99}}, "capacity.percentile must be below 1"),
    (
        {"cache": {"mode": "cold", "method": "command"}},
        "cache.method is command, and cache.command is empty: benchmark.cache.command=[...]",
    ),
    ({"cache": {"command": ["x"]}}, "cache.command is for benchmark.cache.method=command, which"),
    (
        {"cache": {"method": "command", "command": ["x"]}},
        "cache.mode is warm, which evicts nothing, and cache.method is command",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_what_cannot_be_is_an_error_with_its_key(vector_benchmark, changes, text):
    with pytest.raises(JobError) as raised:
        workload_of(vector_benchmark(**changes), ranks=2)
    assert text in str(raised.value)


def described_as(monkeypatch, **changes):
    """The own backend, as if it were another kind."""
    native = backend_of("native_ivf")
    other = replace(native, description=replace(native.describe(), **changes))
    monkeypatch.setattr(module, "backend_of", lambda _: other)


@pytest.mark.parametrize("io_class", ["buffered", "mmap", "server", "memory"])
def test_only_what_reads_past_the_page_cache_is_direct(vector_benchmark, monkeypatch, io_class):
    described_as(monkeypatch, io_class=io_class)
    text = f"cache.mode is direct, and searches of native_ivf are of class {io_class}"
    with pytest.raises(JobError, match=text):
        workload_of(vector_benchmark(cache={"mode": "direct"}), 1)


@pytest.mark.parametrize("mode", ["cold", "pressure"])
def test_what_lies_in_memory_is_never_cold(vector_benchmark, monkeypatch, mode):
    described_as(monkeypatch, io_class="memory")
    with pytest.raises(JobError, match=r"reads nothing: benchmark\.cache\.mode=warm"):
        workload_of(vector_benchmark(cache={"mode": mode}), 1)
    workload_of(vector_benchmark(), 1)


def test_one_reader_is_one_rank(vector_benchmark, monkeypatch):
    described_as(monkeypatch, several_readers=False)
    workload_of(vector_benchmark(), 1)
    with pytest.raises(JobError, match="native_ivf has one reader alone, and there are 2 ranks"):
        workload_of(vector_benchmark(), 2)
