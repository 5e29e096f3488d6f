"""From what the stages reported to the published numbers. Pure, so that verify can repeat it.

Every metric's name ends in its unit. Bytes and operations are those that completed inside the
common window of all ranks; percentiles come from the histogram merged over ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .aggregate import FAMILY, aggregates
from .canonical import Document
from .checkpoint_job import CheckpointJob
from .checkpoint_metrics import checkpoint_metrics, checkpoint_notes, told_of_reads
from .counting import counted_bytes
from .foreign_metrics import foreign_metrics
from .host_documents import HostFacts, totals
from .latency import percentile_ns
from .plan import Launch, Plan, ended_well
from .roofline import Around, metrics_against, roofline_metrics, roofline_of, rooflines_around
from .rules import STOPPED
from .search import capacity_metrics, search_document
from .series import Load, Series
from .spread import spread
from .steady import drift_of
from .training_job import TrainingJob
from .training_metrics import dataset_metrics, job_metrics, training_metrics, training_notes
from .units import GIB, KIB, MIB
from .vector_job import VectorJob
from .vector_metrics import told_of_runs, vector_metrics, vector_notes

RESULT_SCHEMA = 1

PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))

# Who counts bytes beside the benchmark, and what they call its reading and its writing.
COUNTED = {
    "device": ("read", "write"),
    "mount": ("read", "write"),
    "network": ("receive", "send"),
}

Metrics = dict[str, float | int]


def collect(
    plan: Plan,
    *,
    run_id: str,
    version: str,
    benchmark: str,
    family: str,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    hosts: HostFacts,
    series: Series | None,
    evidence: Mapping[str, str],
    training: Sequence[TrainingJob] = (),
    checkpointing: Sequence[CheckpointJob] = (),
    searching: Sequence[VectorJob] = (),
) -> Document:
    """The document of result.json.

    `outcomes` and `results` hold, by launch name, what outcome.json and result.json of a stage
    hold; `hosts` are the facts before the first stage, `series` what was sampled since; `evidence`
    the SHA-256 of each of these files; `training` what the job trains on, `checkpointing` what
    checkpoints it writes and reads and `searching` what vectors it searches, for each option.
    """
    machines = totals(hosts)
    metrics = _metrics_by_launch(plan, outcomes, results)
    told = job_metrics(plan, outcomes, results, training)
    told |= told_of_reads(plan, outcomes, results)
    told |= told_of_runs(plan, outcomes, results, searching)
    for name, own in metrics.items():
        own |= memory_metrics(results[name], machines.memory_bytes)
        own |= load_metrics(plan.hosts, {} if series is None else series.loads.get(name, {}))
        own |= told.get(name, {})
    return {
        "schema": RESULT_SCHEMA,
        "mlps_version": version,
        "run_id": run_id,
        "job_sha256": plan.job_sha256,
        "benchmark": benchmark,
        "hosts": len(plan.hosts),
        "ranks": plan.ranks,
        "cluster": machines.as_document(),
        "monitor": None if series is None else series.as_document(),
        "status": overall_status(outcomes.values()),
        "failure": _failure(plan, outcomes),
        "metrics": _summaries(
            plan,
            outcomes,
            results,
            metrics,
            training=training,
            checkpointing=checkpointing,
            searching=searching,
        ),
        "aggregates": aggregates(plan, outcomes, results) if family == FAMILY else [],
        "stages": [
            _stage_entry(launch, outcomes[launch.name], metrics) for launch in plan.launches
        ],
        "evidence": dict(sorted(evidence.items())),
    }


def overall_status(outcomes: Iterable[Document]) -> str:
    """complete, failed or interrupted; a failure outweighs an interruption."""
    found = {(outcome["status"], outcome["reason"]) for outcome in outcomes}
    if any(status == "failed" and reason not in STOPPED for status, reason in found):
        return "failed"
    return "complete" if all(status == "complete" for status, _ in found) else "interrupted"


def stage_metrics(result: Document) -> Metrics:
    """All numbers that one stage's report gives. A direction without I/O has no numbers."""
    if "foreign" in result:
        return foreign_metrics(result)
    roofline = roofline_of(result)
    metrics: Metrics = roofline_metrics([] if roofline is None else [roofline])
    metrics |= dataset_metrics(result) | training_metrics(result) | checkpoint_metrics(result)
    metrics |= vector_metrics(result)
    window = result["window"]
    if window is None:
        return metrics
    length_s = window["length_s"]
    metrics["window_s"] = length_s
    metrics["drain_s"] = window["drain_s"]
    for direction, io in sorted(result["io"].items()):
        if io["window_operations"] and length_s > 0:
            metrics |= _direction(direction, io, length_s, result["ranks"])
    for name, latency in sorted(result.get("latency", {}).items()):
        if latency["count"]:
            metrics |= _latency(name, latency, sum(latency["count"]))
    metrics |= _sizes(result)
    metrics |= capacity_metrics(result.get("search"))
    metrics |= _measures(result, length_s)
    metrics |= _costs(result)
    metrics |= _counted(result)
    metrics |= _steadiness(result)
    metrics["verified_bytes"] = result["verify"]["bytes"]
    metrics["verify_mismatches"] = result["verify"]["mismatches"]
    return metrics


def _direction(direction: str, io: Document, length_s: float, ranks: Document) -> Metrics:
    operations = io["window_operations"]
    metrics: Metrics = {
        f"{direction}_gib_s": io["window_bytes"] / GIB / length_s,
        f"{direction}_ops_per_s": operations / length_s,
    }
    metrics |= _latency(direction, io["latency"], operations)
    metrics[f"{direction}_mean_ms_per_gib"] = (
        io["latency"]["sum"] / 1e6 / (io["window_bytes"] / GIB)
    )
    worst = [value for value in ranks.get(f"{direction}_p99_ns", []) if value is not None]
    if worst:
        metrics[f"{direction}_p99_worst_rank_ms"] = max(worst) / 1e6
    return metrics


def _latency(name: str, latency: Document, count: int) -> Metrics:
    metrics: Metrics = {f"{name}_mean_ms": latency["sum"] / count / 1e6}
    for label, fraction in PERCENTILES:
        metrics[f"{name}_{label}_ms"] = percentile_ns(latency, fraction) / 1e6
    metrics[f"{name}_max_ms"] = latency["max"] / 1e6
    return metrics


def _sizes(result: Document) -> Metrics:
    """Latency of entries by their size: each, and by what they hold."""
    return {
        f"entry_{direction}_{size_name(entry['below_bytes'])}_{name}": value
        for direction, classes in sorted(result.get("sizes", {}).items())
        for entry in classes
        for name, value in (
            ("mean_ms", entry["sum_ns"] / 1e6 / entry["entries"]),
            ("ms_per_gib", entry["sum_ns"] / 1e6 / (entry["bytes"] / GIB)),
        )
    }


def size_name(below_bytes: int) -> str:
    """A class of sizes, from half of its bound up to it: `64_to_128_mib`."""
    least = below_bytes // 2
    for unit, scale in (("gib", GIB), ("mib", MIB), ("kib", KIB)):
        if least >= scale:
            return f"{least // scale}_to_{below_bytes // scale}_{unit}"
    return f"{least}_to_{below_bytes}_bytes"


def _measures(result: Document, length_s: float) -> Metrics:
    """The benchmark's own counts: rates per second of the window, ratios in percent."""
    measures = result.get("measures", {})
    metrics: Metrics = {
        f"{name}_per_s": count / length_s
        for name, count in measures.get("rates", {}).items()
        if length_s > 0
    }
    for name, ratio in measures.get("ratios", {}).items():
        if ratio["whole"]:
            metrics[f"{name}_pct"] = 100 * ratio["part"] / ratio["whole"]
    return metrics


def _counted(result: Document) -> Metrics:
    """What devices, mounts and networks counted: of their own window, and beside the benchmark."""
    metrics: Metrics = {}
    for kind, names in COUNTED.items():
        for direction, name in zip(("read", "write"), names, strict=True):
            key = f"{name}_bytes"
            windows = [entry.get("window") for entry in result.get(kind, [])]
            if windows and all(windows):
                rates = (window[key] / GIB / window["length_s"] for window in windows)
                metrics[f"{kind}_{name}_gib_s"] = sum(rates)
            counted = counted_bytes(result, kind, name)
            moved = result["io"].get(direction, {}).get("total_bytes", 0)
            if kind != "network" and moved and counted is not None:
                metrics[f"{kind}_{name}_pct"] = 100 * counted / moved
    return metrics


def _costs(result: Document) -> Metrics:
    ranks = result["ranks"]
    moved_gib = sum(io["total_bytes"] for io in result["io"].values()) / GIB
    cpu_s = sum(ranks.get("cpu_user_s", [])) + sum(ranks.get("cpu_system_s", []))
    metrics: Metrics = {"cpu_s": cpu_s}
    if moved_gib > 0:
        metrics["cpu_s_per_gib"] = cpu_s / moved_gib
        if ranks.get("context_switches"):
            metrics["context_switches_per_gib"] = sum(ranks["context_switches"]) / moved_gib
    if ranks.get("peak_rss_bytes"):
        metrics["peak_rss_max_mib"] = max(ranks["peak_rss_bytes"]) / MIB
    return metrics


def memory_metrics(result: Document, memory_bytes: int | None) -> Metrics:
    """The working set against the memory that could hold it instead of the storage."""
    metrics: Metrics = {}
    working_set_bytes = result["details"].get("working_set_bytes")
    if working_set_bytes is None:
        return metrics
    metrics["working_set_gib"] = working_set_bytes / GIB
    if memory_bytes is not None:
        metrics["host_memory_gib"] = memory_bytes / GIB
        metrics["working_set_to_memory_pct"] = 100 * working_set_bytes / memory_bytes
    return metrics


def load_metrics(hosts: Sequence[str], loads: Mapping[str, Load]) -> Metrics:
    """How busy the hosts were in a stage's window; nothing where one of them has no tick in it."""
    if any(host not in loads for host in hosts):
        return {}
    busy = [load.cpu_busy_pct for load in loads.values()]
    metrics: Metrics = {
        "host_cpu_busy_pct": sum(busy) / len(busy),
        "host_cpu_busy_worst_host_pct": max(busy),
    }
    for name, shares in (
        ("host_io_pressure_pct", [load.io_pressure_pct for load in loads.values()]),
        ("host_memory_pressure_pct", [load.memory_pressure_pct for load in loads.values()]),
    ):
        known = [share for share in shares if share is not None]
        if len(known) == len(shares):
            metrics[name] = sum(known) / len(known)
    return metrics


def _steadiness(result: Document) -> Metrics:
    drift = drift_of(result)
    if drift is None:
        return {}
    return {"drift_pct": drift.drift_pct, "bins_cv_pct": drift.cv_pct}


def _metrics_by_launch(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, Metrics]:
    """The metrics of every stage that reported numbers, with what other stages tell of it."""
    around = rooflines_around(plan, outcomes, results)
    metrics = {}
    for launch in plan.launches:
        usable = outcomes[launch.name]["status"] in ("complete", "stopped")
        if usable and launch.name in results:
            own = stage_metrics(results[launch.name])
            metrics[launch.name] = own | _against(around.get(launch.name), own)
    return metrics


def _against(around: Around | None, metrics: Metrics) -> Metrics:
    return {} if around is None else metrics_against(around, metrics)


def _stage_entry(launch: Launch, outcome: Document, metrics: Mapping[str, Metrics]) -> Document:
    entry: Document = {
        "name": launch.name,
        "status": outcome["status"],
        "elapsed_s": outcome["elapsed_s"],
    }
    if launch.name in metrics:
        entry["metrics"] = metrics[launch.name]
    return entry


def _failure(plan: Plan, outcomes: Mapping[str, Document]) -> Document | None:
    """The first stage that did not end as it must, and why."""
    for launch in plan.launches:
        outcome = outcomes[launch.name]
        if outcome["status"] in ("failed", "stopped"):
            return {
                "stage": launch.name,
                "reason": outcome["reason"],
                "message": outcome["message"],
            }
    return None


def _summaries(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    metrics: Mapping[str, Metrics],
    *,
    training: Sequence[TrainingJob],
    checkpointing: Sequence[CheckpointJob],
    searching: Sequence[VectorJob],
) -> list[Document]:
    """Per measured stage and option: each metric over all trials, withheld where one is missing."""
    jobs = {job.option: job for job in training}
    savers = {job.option: job for job in checkpointing}
    searchers = {job.option: job for job in searching}
    around = rooflines_around(plan, outcomes, results)
    summaries = []
    for (stage, option), launches in plan.measured.items():
        usable = [launch.name for launch in launches if ended_well(launch, outcomes, results)]
        complete = len(usable) == len(launches)
        summaries.append(
            {
                "stage": stage,
                "option": option,
                "trials": len(usable),
                "trials_planned": len(launches),
                "complete": complete,
                "values": _over_trials([metrics[name] for name in usable]) if complete else {},
                "notes": _notes(
                    [results[name] for name in usable],
                    [around[name] for name in usable if name in around],
                )
                | training_notes(
                    plan, outcomes, results, metrics, job=jobs.get(option), names=usable
                )
                | checkpoint_notes(
                    plan, outcomes, results, job=savers.get(option), launches=launches
                )
                | vector_notes(
                    plan, outcomes, results, job=searchers.get(option), launches=launches
                ),
            }
        )
    return summaries


def _notes(trials: Sequence[Document], around: Sequence[Around]) -> Document:
    """What the numbers must be read with; only what there is."""
    details = [trial["details"] for trial in trials]
    notes = {
        "deviations": _distinct(text for each in details for text in each.get("deviations", [])),
        "window_cut": _distinct(each["window_cut"] for each in details if each.get("window_cut")),
        "roofline": _distinct(roofline.tool for pair in around for roofline in pair.both),
        "measured_by": _distinct(
            trial["foreign"]["measured_by"] for trial in trials if "foreign" in trial
        ),
        "search": [
            search_document(trial["search"]) for trial in trials if trial.get("search") is not None
        ],
    }
    return {name: found for name, found in notes.items() if found}


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _over_trials(trials: Sequence[Metrics]) -> Document:
    names = [name for name in trials[0] if all(name in trial for trial in trials)]
    return {name: spread([trial[name] for trial in trials]) for name in names}
