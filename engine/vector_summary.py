"""What vdbbench would have written of a run of vector search, from an archive alone.

Of each load and each run a summary.json and a statistics.json with upstream's keys. A latency here
is that of a request. Upstream's own is a batch's time divided by its queries: that stands beside it
as `amortised_latency_ms`. Sizes of I/O are those of storage as far as they are known, else null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .canonical import Document
from .counting import counted_bytes, counting_kind
from .latency import percentile_name, percentile_ns
from .plan import Plan, measured_launches
from .units import GIB
from .vector_job import VectorJob
from .vector_metrics import does, point_metrics, points_of, stages_that

_PERCENTILES = (0.95, 0.99, 0.999, 0.9999)


def vector_summaries(
    plan: Plan,
    jobs: Sequence[VectorJob],
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> Iterator[tuple[str, Document]]:
    """By name of a launch that loaded or ran: its documents, by the names of upstream's files."""
    for job in jobs:
        loads = [*stages_that(plan, outcomes, results, wanted="load", option=job.option)]
        for launch, result in loads:
            yield launch.name, {"summary.json": _load_summary(result)}
        loaded = loads[-1][1] if loads else None
        for name, _, result in measured_launches([job], plan, outcomes, results):
            if does(result) != "run" or not points_of(result):
                continue
            yield (
                name,
                {
                    "summary.json": _run_summary(result, loaded),
                    "statistics.json": _statistics(result),
                },
            )


def _dataset(result: Document) -> Document:
    section = result["vectordb"]
    backend, data = section["backend"], section["dataset"]
    return {
        "num_vectors": data["vectors"],
        "dimension": data["dimension"],
        "index_type": backend["index"],
        "database": {"database": backend["name"]},
        "io_class": backend["io_class"],
        "engine_version": backend["version"],
        "dataset_fingerprint": data["sha256"],
    }


def _load_summary(result: Document) -> Document:
    load = result["vectordb"]["load"]
    if load is None:
        return _dataset(result)
    return _dataset(result) | {
        "inserted_vectors": load["stored"],
        "index_build": {name: load[name] for name in load if name.endswith("_s")}
        | {"reused": load["reused"], "index_bytes": load["index_bytes"]},
    }


def _run_summary(result: Document, loaded: Document | None) -> Document:
    (point,) = points_of(result)[:1]
    metrics = point_metrics(result, point)
    load = None if loaded is None else loaded["vectordb"]["load"]
    return _dataset(result) | {
        "inserted_vectors": None if load is None else load["stored"],
        "throughput_qps": metrics["qps"],
        "total_time_seconds": point["elapsed_s"],
        "query_count": point["queries"],
        **{
            f"{name}_latency_ms": metrics.get(f"latency_{name}_ms")
            for name in ("mean", "p95", "p99", "p999")
        },
        "amortised_latency_ms": _amortised_ms(point),
        "latency_definition": "request",
        "recall": metrics.get("recall_mean"),
        "cache_mode": point["cache"]["mode"],
        "bytes_per_query": metrics.get("read_bytes_per_query"),
        "failed_requests": point["failed_requests"] + point["late_requests"],
    }


def _amortised_ms(point: Document) -> float | None:
    count = sum(point["latency"]["count"])
    if not count:
        return None
    return float(point["latency"]["sum"] / count / 1e6 / point["batch_size"])


def _statistics(result: Document) -> Document:
    (point,) = points_of(result)[:1]
    failed = point["failed_requests"] + point["late_requests"]
    latencies = _latencies(point["latency"])
    return {
        "aggregation": "merged histograms of all ranks",
        "benchmark_phase": "run",
        "batch_count": point["requests"] + failed,
        "successful_batches": point["requests"],
        "failed_batches": failed,
        "total_queries": point["queries"],
        "total_time_seconds": point["elapsed_s"],
        "throughput_qps": point_metrics(result, point)["qps"],
        **{f"{name}_batch_time_ms": value for name, value in latencies.items()},
        **{f"{name}_latency_ms": value for name, value in latencies.items()},
        "disk_io": _disk_io(result, point["elapsed_s"]),
        "mpi": _mpi(result),
        "recall": _recall(point["recall"]),
    }


def _latencies(latency: Document) -> dict[str, float | None]:
    count = sum(latency["count"])
    names = ["min", "mean", "median", "max", *(percentile_name(each) for each in _PERCENTILES)]
    if not count:
        return dict.fromkeys(names)
    percentiles = {
        percentile_name(each): percentile_ns(latency, each) / 1e6 for each in _PERCENTILES
    }
    return {
        "min": latency["min"] / 1e6,
        "mean": latency["sum"] / count / 1e6,
        "median": percentile_ns(latency, 0.5) / 1e6,
        "max": latency["max"] / 1e6,
        **percentiles,
    }


def _disk_io(result: Document, length_s: float) -> Document:
    """What devices, mounts or networks counted; not applicable where nobody does, never 0."""
    kind, hosts = counting_kind(result), result["ranks"]["hosts"]
    names = ("receive", "send") if kind == "network" else ("read", "write")
    read, written = (None if kind is None else counted_bytes(result, kind, name) for name in names)
    if read is None or written is None:
        return {"applicable": False, "host_count": len(hosts), "hosts_not_applicable": hosts}
    document: Document = {
        "applicable": True,
        "aggregation": f"sum over {kind}s of all hosts",
        "duration_seconds": length_s,
        "host_count": len(hosts),
        "hosts_not_applicable": [],
        "total_bytes_read": read,
        "total_bytes_written": written,
        "total_read_formatted": f"{read / GIB:.2f} GiB",
        "total_write_formatted": f"{written / GIB:.2f} GiB",
    }
    if length_s:
        document["total_bytes_read_per_sec"] = read / length_s
        document["total_bytes_written_per_sec"] = written / length_s
    return document


def _mpi(result: Document) -> Document:
    """A result is one of all ranks, or it is none."""
    ranks = len(result["ranks"]["host_index"])
    return {
        "expected_ranks": ranks,
        "rank_count": ranks,
        "ranks_seen": list(range(ranks)),
        "missing_ranks": [],
        "failed_ranks": [],
        "malformed_payload_count": 0,
        "partial_failure": False,
    }


def _recall(recall: Document | None) -> Document | None:
    if recall is None:
        return None
    names = {"mean": "mean", "median": "median", "min": "least", "max": "most"}
    names |= {each: each for each in ("p5", "p95", "p99")}
    return {f"{name}_recall": recall[key] for name, key in names.items()} | {
        "num_queries_evaluated": recall["queries"],
        "within_epsilon": recall["within_epsilon"],
        "aggregation": "over all distinct queries",
    }
