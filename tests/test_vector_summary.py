"""The files of vdbbench, from what stages reported."""

from __future__ import annotations

import pytest
from vector_results import GIB, Job, histogram_of, loaded, point_of, section_of

from mlps.engine.vector_job import vector_jobs
from mlps.engine.vector_summary import vector_summaries

DEVICE = {"device": [{"host": "node1", "device": "sda", "read_bytes": 5, "write_bytes": 2}]}
LOAD, RUN = "00-load", "03-run-0"


@pytest.fixture
def summaries(make_result):
    """The documents of a job of one trial whose run had this point."""

    def made(point=None, *, status="complete", load=None, **changes):
        job = Job(make_result, {"trials": 1})
        job.results[RUN] |= {"vectordb": section_of("run", point or point_of()), **changes}
        if load is not None:
            job.results[LOAD]["vectordb"] = load
        job.outcomes[RUN]["status"] = status
        told = vector_summaries(job.plan, vector_jobs(job.spec), job.outcomes, job.results)
        return dict(told)

    return made


def test_the_summary_of_a_run_has_upstreams_keys(summaries):
    assert summaries()[RUN]["summary.json"] == {
        "num_vectors": 10_000,
        "dimension": 128,
        "index_type": "IVF",
        "database": {"database": "native_ivf"},
        "io_class": "direct",
        "engine_version": "1",
        "dataset_fingerprint": "aa" * 32,
        "inserted_vectors": 10_000,
        "throughput_qps": 400,
        "total_time_seconds": 5.0,
        "query_count": 2000,
        "mean_latency_ms": 1.535,
        "p95_latency_ms": 2,
        "p99_latency_ms": 2,
        "p999_latency_ms": 9,
        "amortised_latency_ms": 1.535,
        "latency_definition": "request",
        "recall": 0.97,
        "cache_mode": "direct",
        "bytes_per_query": 256 * 1024,
        "failed_requests": 0,
    }


def test_upstreams_latency_is_that_of_a_batch_over_its_queries(summaries):
    latency = histogram_of(200)
    batch = point_of(batch_size=10, requests=200, latency=latency, service=latency)
    summary = summaries(batch)[RUN]["summary.json"]
    assert (summary["mean_latency_ms"], summary["amortised_latency_ms"]) == (1, 0.1)


def test_the_summary_of_a_load_tells_of_the_index(summaries):
    summary = summaries()[LOAD]["summary.json"]
    assert summary["inserted_vectors"] == 10_000
    assert summary["index_build"] == {
        "insert_s": 2.0,
        "flush_s": 0.5,
        "build_s": 1.5,
        "compact_s": 0.25,
        "reused": False,
        "index_bytes": 2 * 10_000 * 128 * 4,
    }
    assert "statistics.json" not in summaries()[LOAD]


def test_statistics_of_a_run(summaries):
    point = point_of(failed_requests=1, late_requests=2)
    statistics = summaries(point, **DEVICE)[RUN]["statistics.json"]
    batches = [statistics[f"{name}_batches"] for name in ("successful", "failed")]
    assert (statistics["batch_count"], batches) == (2003, [2000, 3])
    latencies = [statistics[f"{name}_latency_ms"] for name in ("min", "median", "p9999", "max")]
    assert latencies == [1, 1, 9, 9]
    assert statistics["p99_batch_time_ms"] == statistics["p99_latency_ms"] == 2
    assert statistics["disk_io"]["applicable"]
    assert statistics["disk_io"]["total_bytes_read"] == 5
    assert statistics["disk_io"]["total_bytes_read_per_sec"] == 1
    assert statistics["mpi"]["ranks_seen"] == [0, 1]
    assert statistics["recall"]["mean_recall"] == 0.97
    assert statistics["recall"]["num_queries_evaluated"] == 1000


def test_what_nobody_counts_is_not_applicable_and_never_0(summaries):
    disk_io = summaries()[RUN]["statistics.json"]["disk_io"]
    assert disk_io == {"applicable": False, "host_count": 1, "hosts_not_applicable": ["node1"]}
    lustre = {"mount": [{"host": "node1", "type": "lustre"}]}
    assert not summaries(**lustre)[RUN]["statistics.json"]["disk_io"]["applicable"]
    carried = {"receive_bytes": GIB, "send_bytes": 0}
    network = {"network": [{"host": "node1", "interfaces": ["eth0"], **carried}]}
    disk_io = summaries(**lustre, **network)[RUN]["statistics.json"]["disk_io"]
    assert disk_io["total_read_formatted"] == "1.00 GiB"


def test_a_run_without_answers_has_no_latencies(summaries):
    nothing = histogram_of(0)
    none = {"queries": 0, "requests": 0, "latency": nothing, "service": nothing}
    point = point_of() | none | {"recall": None}
    files = summaries(point)[RUN]
    assert files["summary.json"]["p999_latency_ms"] is None
    assert files["summary.json"]["amortised_latency_ms"] is None
    assert files["statistics.json"]["max_latency_ms"] is None
    assert files["statistics.json"]["recall"] is None


def test_what_did_not_end_well_has_none(summaries):
    assert list(summaries(status="failed")) == [LOAD]
    assert summaries(load=loaded() | {"load": None})[LOAD]["summary.json"]["num_vectors"] == 10_000
