"""From what stages of vector search report to the published numbers. Pure.

A point is requests under one load: that of a run, one rate of a search for a capacity, one value of
a sweep. Queries count when they were answered in time, over the time from the common start of all
clients to the last of them; a latency is that of a request, however many queries it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document
from .counting import counted_bytes, counting_kind
from .latency import percentile_name, percentile_ns
from .plan import Launch, Plan, ended_launches, ended_well
from .units import GIB
from .vector_job import VectorJob

Metrics = dict[str, float | int]

PERCENTILES = (0.50, 0.95, 0.99, 0.999)

# Who else than the clients reads: their process knows nothing of it.
SERVER = "server"
# What goes through the page cache: a backend that counts its reads does not know who served them.
THROUGH_CACHE = ("buffered", "mmap")

# Of a server the counters of devices tell only if they moved this much for a query: a sector.
SERVER_LEAST_BYTES = 512

# So much of what arrives may wait at the end of an open loop, beside one request of each client.
UNSERVED_MOST = 0.02

# What is told of a probe: it is too short for rates and latencies.
PROBED = ("queries", "recall_", "read", "resident_")

# What the report calls those who count reads.
COUNTED_BY = {
    "backend": "as the backend counts",
    "process": "as the kernel counts for the clients",
    "device": "as the block devices count",
    "mount": "as the mounts count",
    "network": "as the networks count",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What queries have read, and who counted it; `reads` is None where only bytes are counted."""

    by: str
    bytes: int
    reads: int | None


def vectordb_of(result: Document) -> Document | None:
    """What a stage reports of vector search; None for other stages."""
    section: Document | None = result.get("vectordb")
    return section


def points_of(result: Document) -> list[Document]:
    """The points of a stage; none for other stages."""
    section = vectordb_of(result)
    return [] if section is None else list(section["points"])


def does(result: Document) -> str | None:
    """What a stage of vector search does; None for other stages."""
    section = vectordb_of(result)
    return None if section is None else str(section["does"])


# ---------------------------------------------------------------- what was read


def reads_of(result: Document, point: Document) -> Reads | None:
    """What a point's queries have read, by who knows best; None where nobody does.

    That is the backend, unless the page cache may have served what it asked for; else the kernel,
    where clients read by themselves and a file system of a network has told it; else the counters
    of the storage, which tell of a stage with one point alone.
    """
    kind = result["vectordb"]["backend"]["io_class"]
    backend, process = point["reads"]["backend"], point["reads"]["process"]
    if backend is not None and kind not in THROUGH_CACHE:
        return Reads(by="backend", bytes=backend["bytes"], reads=backend["reads"])
    if _tells(result, process):
        return Reads(by="process", bytes=process["bytes"], reads=_process_reads(kind, process))
    return _counted(result, point)


def stored_bytes(result: Document, point: Document) -> int | None:
    """Bytes that are known to have come from storage; None where nobody knows.

    On a file system of this machine the kernel decides, whatever a backend says of itself.
    """
    process = point["reads"]["process"]
    if counting_kind(result) == "device" and _tells(result, process):
        return int(process["bytes"])
    reads = reads_of(result, point)
    return None if reads is None else reads.bytes


def _process_reads(kind: str, process: Document) -> int | None:
    """Reads of storage that the kernel counts; calls that the page cache may serve are none."""
    if kind == "mmap":
        return int(process["major_faults"])
    # What is read through io_uring moves bytes, but neither asks for them in calls nor counts any.
    in_calls = process["requested_bytes"] >= process["bytes"]
    return process["calls"] or None if kind == "direct" and in_calls else None


def _tells(result: Document, process: Document | None) -> bool:
    """Whether the kernel's count for the clients says anything: 0 is no count on some networks."""
    if process is None or result["vectordb"]["backend"]["io_class"] == SERVER:
        return False
    return bool(process["bytes"]) or counting_kind(result) == "device"


def _counted(result: Document, point: Document) -> Reads | None:
    kind = counting_kind(result)
    if kind is None or len(points_of(result)) > 1:
        return None
    count = counted_bytes(result, kind, "receive" if kind == "network" else "read")
    if count is None:
        return None
    of_server = result["vectordb"]["backend"]["io_class"] == SERVER
    if of_server and count < SERVER_LEAST_BYTES * max(point["queries"], 1):
        return None
    return Reads(by=kind, bytes=count, reads=None)


# ---------------------------------------------------------------- values of a point


def point_row(result: Document, point: Document) -> Document:
    """The values of a point, as notes hold them; only what there is."""
    row: Document = {"purpose": point["purpose"]}
    if point["parameter"] is not None:
        row |= {"parameter": point["parameter"]["name"], "value": point["parameter"]["value"]}
    for name in ("target_qps", "arrivals", "lag_most_s"):
        if point[name] is not None:
            row[name] = point[name]
    row |= point_metrics(result, point)
    reads = reads_of(result, point)
    return row | ({} if reads is None else {"reads_by": reads.by})


def point_metrics(result: Document, point: Document) -> Metrics:
    """The numbers of a point."""
    queries, elapsed_s = point["queries"], point["elapsed_s"]
    metrics: Metrics = {"queries": queries, "elapsed_s": elapsed_s}
    metrics["qps"] = queries / elapsed_s if elapsed_s else 0.0
    metrics |= _latency("latency", point["latency"])
    if point["target_qps"] is not None:
        metrics |= _latency("service", point["service"])
        metrics["unserved_requests"] = point["unserved"] or 0
    metrics |= _recall(point["recall"])
    metrics |= _reads(result, point)
    metrics["failed_requests"] = point["failed_requests"]
    metrics["late_requests"] = point["late_requests"]
    for name in ("resident_before_pct", "resident_after_pct"):
        if point["cache"][name] is not None:
            metrics[name] = point["cache"][name]
    return metrics


def _latency(name: str, latency: Document) -> Metrics:
    count = sum(latency["count"])
    if not count:
        return {}
    metrics: Metrics = {f"{name}_mean_ms": latency["sum"] / count / 1e6}
    for fraction in PERCENTILES:
        metrics[f"{name}_{percentile_name(fraction)}_ms"] = percentile_ns(latency, fraction) / 1e6
    return metrics | {f"{name}_max_ms": latency["max"] / 1e6}


def _recall(recall: Document | None) -> Metrics:
    if recall is None:
        return {}
    return {
        "recall_mean": recall["mean"],
        "recall_p5": recall["p5"],
        "recall_least": recall["least"],
        "recall_within_epsilon": recall["within_epsilon"],
    }


def _reads(result: Document, point: Document) -> Metrics:
    reads, queries = reads_of(result, point), point["queries"]
    if reads is None or not queries:
        return {}
    metrics: Metrics = {"read_bytes_per_query": reads.bytes / queries}
    if reads.reads is not None:
        metrics["reads_per_query"] = reads.reads / queries
    if point["elapsed_s"]:
        metrics["query_read_gib_s"] = reads.bytes / GIB / point["elapsed_s"]
    return metrics


def unserved_most(point: Document) -> float:
    """So many requests may wait at the end of an open loop that keeps up."""
    return float(UNSERVED_MOST * (point["arrivals"] or 0) + point["clients"])


def keeps_up(point: Document) -> bool:
    """Whether every request was answered, and in time, but for those of the very end."""
    lost = point["failed_requests"] + point["late_requests"]
    return not lost and (point["unserved"] or 0) <= unserved_most(point)


# ---------------------------------------------------------------- metrics of a stage


def vector_metrics(result: Document) -> Metrics:
    """What one stage comes to, by its result alone."""
    section = vectordb_of(result)
    if section is None:
        return {}
    if section["does"] == "load" and section["load"] is not None:
        return _load(section["load"], section["dataset"])
    if section["does"] == "truth" and section["truth"] is not None:
        return _truth(section["truth"])
    if section["does"] in ("probe", "run") and section["points"]:
        metrics = point_metrics(result, section["points"][0])
        if section["does"] == "probe":
            told = {name: value for name, value in metrics.items() if name.startswith(PROBED)}
            return {f"probe_{name}": value for name, value in told.items()}
        return metrics | _processor(result, metrics["queries"])
    return {}


def _load(load: Document, dataset: Document) -> Metrics:
    metrics: Metrics = {"stored_vectors": load["stored"]}
    for name in ("insert_s", "flush_s", "build_s", "compact_s"):
        if not load["reused"] and load[name] is not None:
            metrics[name] = load[name]
    if not load["reused"] and load["insert_s"]:
        metrics["insert_vectors_per_s"] = load["inserted"] / load["insert_s"]
        parts_s = sum(load[name] or 0 for name in ("insert_s", "flush_s", "build_s"))
        metrics["load_vectors_per_s"] = load["inserted"] / parts_s
    if load["index_bytes"] is not None:
        metrics["index_gib"] = load["index_bytes"] / GIB
        metrics["index_to_raw_pct"] = 100 * load["index_bytes"] / dataset["raw_bytes"]
    return metrics


def _truth(truth: Document) -> Metrics:
    metrics: Metrics = {"truth_covered_pct": 100 * truth["covered"]}
    if not truth["reused"] and truth["elapsed_s"] is not None:
        metrics["truth_s"] = truth["elapsed_s"]
    return metrics


def _processor(result: Document, queries: float) -> Metrics:
    ranks = result["ranks"]
    used_s = sum(ranks.get("cpu_user_s", [])) + sum(ranks.get("cpu_system_s", []))
    return {"cpu_ms_per_query": 1000 * used_s / queries} if queries else {}


# ---------------------------------------------------------------- capacity and sweep


def capacity_rows(job: VectorJob, result: Document) -> list[Document]:
    """Every rate that was tried, and whether it met the limit."""
    return [point_row(result, point) | {"met": _met(job, point)} for point in points_of(result)]


def _met(job: VectorJob, point: Document) -> bool:
    latency, recall = point["latency"], point["recall"]
    if not sum(latency["count"]) or not keeps_up(point):
        return False
    if recall is not None and recall["mean"] < job.recall_least:
        return False
    return percentile_ns(latency, job.capacity_fraction) / 1e6 <= job.capacity_limit_ms


def capacity_of(job: VectorJob, result: Document) -> Document | None:
    """The last rate that met the limit when it was confirmed; None where none did."""
    rows = capacity_rows(job, result)
    confirmed = [row for row in rows if row["purpose"] == "confirm" and row["met"]]
    return confirmed[-1] if confirmed else None


def capacity_metrics(job: VectorJob, result: Document) -> Metrics:
    """What is published of a search for a capacity: the rate, and what was seen at it."""
    found = capacity_of(job, result)
    if found is None:
        return {}
    confirmed = [point for point in points_of(result) if point["purpose"] == "confirm"]
    point = [each for each in confirmed if _met(job, each)][-1]
    name = percentile_name(job.capacity_fraction)
    metrics: Metrics = {
        "capacity_qps": found["target_qps"],
        "capacity_answered_qps": found["qps"],
        f"capacity_latency_{name}_ms": percentile_ns(point["latency"], job.capacity_fraction) / 1e6,
    }
    if "recall_mean" in found:
        metrics["capacity_recall_mean"] = found["recall_mean"]
    return metrics


def sweep_rows(result: Document) -> list[Document]:
    """The values of each run of a sweep, and whether no other one has more of both.

    Such runs are the Pareto front of recall and rate.
    """
    rows = [point_row(result, point) for point in points_of(result)]
    return [row | {"front": not any(_beats(other, row) for other in rows)} for row in rows]


def _beats(other: Document, row: Document) -> bool:
    """Whether another run is at least as good in both, and better in one."""
    pairs = [(each.get("recall_mean", 0.0), each["qps"]) for each in (other, row)]
    (recall, rate), (own_recall, own_rate) = pairs
    return recall >= own_recall and rate >= own_rate and (recall, rate) != (own_recall, own_rate)


def sweep_metrics(job: VectorJob, result: Document) -> Metrics:
    """What is published of a sweep: the highest rate of a run that found enough."""
    rates = [
        row["qps"] for row in sweep_rows(result) if row.get("recall_mean", 0.0) >= job.recall_least
    ]
    return {"sweep_best_qps": max(rates)} if rates else {}


# ---------------------------------------------------------------- what other stages tell of a run


def stages_that(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    *,
    wanted: str,
    option: str | None,
) -> Iterator[tuple[Launch, Document]]:
    """Stages that did this for an option or for all of them, and ended well; with their results."""
    for launch in ended_launches(plan, outcomes, results):
        result = results[launch.name]
        if does(result) == wanted and launch.option in (None, option):
            yield launch, result


def told_of_runs(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    jobs: Sequence[VectorJob],
) -> dict[str, Metrics]:
    """By name of a launch: the metrics that its result alone does not give."""
    found: dict[str, Metrics] = {}
    for job in jobs:
        told = dict(_told_of(plan, outcomes, results, job))
        of_load = {name: value for each in ("load", "truth") for name, value in told[each].items()}
        after = told["capacity"] | told["sweep"]
        runs = stages_that(plan, outcomes, results, wanted="run", option=job.option)
        found |= {launch.name: of_load | after for launch, _ in runs if launch.measured}
        for wanted in ("capacity", "sweep"):
            stages = stages_that(plan, outcomes, results, wanted=wanted, option=job.option)
            found |= {launch.name: told[wanted] for launch, _ in stages}
    return found


def _told_of(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    job: VectorJob,
) -> Iterator[tuple[str, Metrics]]:
    for wanted in ("load", "truth", "capacity", "sweep"):
        metrics: Metrics = {}
        for _, result in stages_that(plan, outcomes, results, wanted=wanted, option=job.option):
            metrics = job_metrics(job, result)
        yield wanted, metrics


def job_metrics(job: VectorJob, result: Document) -> Metrics:
    """All numbers of a stage, also those that depend on what the job asks for."""
    if does(result) == "capacity":
        return capacity_metrics(job, result)
    if does(result) == "sweep":
        return sweep_metrics(job, result)
    return vector_metrics(result)


# ---------------------------------------------------------------- the notes of a summary


def vector_notes(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    *,
    job: VectorJob | None,
    launches: Sequence[Launch],
) -> Document:
    """What the numbers of runs must be read with; only what there is. `launches` were planned."""
    runs = [
        results[launch.name]
        for launch in launches
        if ended_well(launch, outcomes, results) and points_of(results[launch.name])
    ]
    if job is None or not runs:
        return {}
    told = {
        wanted: [
            result
            for _, result in stages_that(plan, outcomes, results, wanted=wanted, option=job.option)
        ]
        for wanted in ("load", "truth", "capacity", "sweep")
    }
    notes: Document = {
        "vectordb": _setting(runs[0], told["load"], told["truth"]),
        "points": [point_row(result, points_of(result)[0]) for result in runs],
    }
    if told["capacity"]:
        notes["capacity"] = {
            "percentile": percentile_name(job.capacity_fraction),
            "limit_ms": job.capacity_limit_ms,
            "recall_least": job.recall_least,
            "points": capacity_rows(job, told["capacity"][-1]),
        }
    if told["sweep"]:
        notes["sweep"] = sweep_rows(told["sweep"][-1])
    return notes


def _setting(result: Document, loads: Sequence[Document], truths: Sequence[Document]) -> Document:
    section, point = result["vectordb"], result["vectordb"]["points"][0]
    reads = reads_of(result, point)
    return {
        "backend": section["backend"],
        "dataset": section["dataset"],
        "queries": section["queries"],
        "directory": section["directory"],
        "kept": section["kept"],
        "k": point["k"],
        "batch_size": point["batch_size"],
        "clients": point["clients"],
        "target_qps": point["target_qps"],
        "cache_mode": point["cache"]["mode"],
        "cache_method": point["cache"]["method"],
        "reads_by": None if reads is None else reads.by,
        "load": loads[-1]["vectordb"]["load"] if loads else None,
        "truth": truths[-1]["vectordb"]["truth"] if truths else None,
    }
