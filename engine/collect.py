"""From what the stages reported to the published numbers. Pure, so that verify can repeat it.

Every metric's name ends in its unit. Bytes and operations are those that completed inside the
common window of all ranks; percentiles come from the histogram merged over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from .canonical import Document
from .plan import Launch, Plan
from .rules import STOPPED
from .spread import spread

GIB = 2**30
MIB = 2**20

RESULT_SCHEMA = 1

PERCENTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))

Metrics = dict[str, float | int]


def collect(
    plan: Plan,
    *,
    run_id: str,
    version: str,
    benchmark: str,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    evidence: Mapping[str, str],
) -> Document:
    """The document of result.json.

    `outcomes` and `results` hold, by launch name, what outcome.json and result.json of a stage
    hold; `evidence` the SHA-256 of each of those files.
    """
    stages = [_stage_entry(launch, outcomes[launch.name], results) for launch in plan.launches]
    return {
        "schema": RESULT_SCHEMA,
        "mlps_version": version,
        "run_id": run_id,
        "job_sha256": plan.job_sha256,
        "benchmark": benchmark,
        "hosts": len(plan.hosts),
        "ranks": plan.ranks,
        "status": overall_status(outcomes.values()),
        "failure": _failure(plan, outcomes),
        "metrics": _summaries(plan, outcomes, results),
        "stages": stages,
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
    metrics: Metrics = {}
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
    metrics |= _measures(result, length_s)
    metrics |= _costs(result)
    metrics |= _device(result)
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


def _device(result: Document) -> Metrics:
    """Bytes that the block devices moved, in percent of those that the benchmark moved."""
    metrics: Metrics = {}
    for direction in ("read", "write"):
        moved = result["io"].get(direction, {}).get("total_bytes", 0)
        on_device = [entry[f"{direction}_bytes"] for entry in result.get("device", [])]
        if moved and on_device:
            metrics[f"device_{direction}_pct"] = 100 * sum(on_device) / moved
    return metrics


def _costs(result: Document) -> Metrics:
    ranks = result["ranks"]
    moved_gib = sum(io["total_bytes"] for io in result["io"].values()) / GIB
    cpu_s = sum(ranks.get("cpu_user_s", [])) + sum(ranks.get("cpu_system_s", []))
    metrics: Metrics = {"cpu_s": cpu_s}
    if moved_gib > 0:
        metrics["cpu_s_per_gib"] = cpu_s / moved_gib
    if ranks.get("peak_rss_bytes"):
        metrics["peak_rss_max_mib"] = max(ranks["peak_rss_bytes"]) / MIB
    return metrics


def percentile_ns(latency: Document, fraction: float) -> int:
    """Latency that a fraction of all operations did not exceed, in ns, from a merged histogram.

    It is the upper end of the bucket in which that operation lies (at most 0.1 % above it), and
    never more than the longest latency. Raises ValueError for an empty histogram.
    """
    total = sum(latency["count"])
    if total == 0:
        raise ValueError("an empty histogram has no percentiles")
    wanted = max(1, math.ceil(fraction * total))
    seen = 0
    for upper, count in zip(latency["upper"], latency["count"], strict=True):
        seen += count
        if seen >= wanted:
            return int(min(upper, latency["max"]))
    return int(latency["max"])


def _stage_entry(launch: Launch, outcome: Document, results: Mapping[str, Document]) -> Document:
    entry: Document = {
        "name": launch.name,
        "status": outcome["status"],
        "elapsed_s": outcome["elapsed_s"],
    }
    result = results.get(launch.name)
    if result is not None and outcome["status"] in ("complete", "stopped"):
        entry["metrics"] = stage_metrics(result)
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
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> list[Document]:
    """Per measured stage and option: each metric over all trials, withheld where one is missing."""
    groups: dict[tuple[str, str | None], list[Launch]] = {}
    for launch in plan.launches:
        if launch.measured:
            groups.setdefault((launch.stage, launch.option), []).append(launch)
    summaries = []
    for (stage, option), launches in groups.items():
        usable = [
            stage_metrics(results[launch.name])
            for launch in launches
            if outcomes[launch.name]["status"] == "complete" and launch.name in results
        ]
        complete = len(usable) == len(launches)
        summaries.append(
            {
                "stage": stage,
                "option": option,
                "trials": len(usable),
                "trials_planned": len(launches),
                "complete": complete,
                "values": _over_trials(usable) if complete else {},
            }
        )
    return summaries


def _over_trials(trials: Sequence[Metrics]) -> Document:
    names = [name for name in trials[0] if all(name in trial for trial in trials)]
    return {name: spread([trial[name] for trial in trials]) for name in names}
