"""From what stages of checkpointing report to the published numbers. Pure.

A checkpoint takes from the common start of all ranks until the last of them has done its part, of
a write until that is durable. Numbers of a stage are means over its checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Literal

from .canonical import Document
from .checkpoint_job import CheckpointJob
from .counting import counting_kind
from .plan import Launch, Plan, ended_launches, ended_well
from .units import GIB

Metrics = dict[str, float | int]
Phase = Literal["save", "load"]

# Ends of a launch whose result was found to be one: what it had completed until then counts.
WITH_RESULT = ("engine", "exit", "stop")

# What the names of metrics begin with, by what a stage does.
PHASES: Mapping[str, Phase] = {"write": "save", "read": "load"}


def checkpointing_of(result: Document) -> Document | None:
    """What a stage reports of checkpointing; None for other stages."""
    section: Document | None = result.get("checkpointing")
    return section


def done_of(result: Document) -> Document | None:
    """The same, of a stage that wrote or read at least one checkpoint."""
    section = checkpointing_of(result)
    return section if section is not None and section["checkpoints"] else None


def layout_bytes(layout: Document) -> int:
    """Bytes of one checkpoint of all ranks, as it is written."""
    return int(layout["model_bytes"] + layout["optimizer_bytes"])


# ---------------------------------------------------------------- metrics of a stage


def checkpoint_metrics(result: Document) -> Metrics:
    """What one stage's checkpoints come to, by its result alone."""
    section = checkpointing_of(result)
    if section is None:
        return {}
    metrics: Metrics = _eviction(section["eviction"])
    if not section["checkpoints"]:
        return metrics
    phase, rows = PHASES[section["does"]], checkpoint_rows(result)
    metrics["checkpoint_gib"] = layout_bytes(section["layout"]) / GIB
    metrics[f"{phase}_checkpoints"] = len(rows)
    metrics |= {f"{phase}_{name}": value for name, value in _over_checkpoints(rows).items()}
    return metrics | _between(result, section)


def _over_checkpoints(rows: Sequence[Document]) -> Metrics:
    walls_s = [row["wall_s"] for row in rows]
    metrics: Metrics = {
        name: fmean(row[name] for row in rows)
        for name in ("gib_s", "rank0_gib_s", "rank_least_gib_s")
    }
    metrics |= {"s": fmean(walls_s), "min_s": min(walls_s), "median_s": median(walls_s)}
    metrics["max_s"] = max(walls_s)
    for name in ("transfer_s", "sync_s"):
        if name in rows[0]:
            metrics[name] = fmean(row[name] for row in rows)
    if stalls_s := _known(rows, "stall_s"):
        metrics |= {"stall_s": fmean(stalls_s), "stall_max_s": max(stalls_s)}
    if resident_pct := _known(rows, "resident_pct"):
        metrics["resident_pct"] = max(resident_pct)
    if counted_pct := _known(rows, "counted_pct"):
        metrics |= {"counted_pct": fmean(counted_pct), "counted_least_pct": min(counted_pct)}
    return metrics


def _known(rows: Sequence[Document], name: str) -> list[float]:
    """A value of all checkpoints that have it."""
    return [row[name] for row in rows if name in row]


def _eviction(eviction: Document | None) -> Metrics:
    if eviction is None:
        return {}
    metrics: Metrics = {
        "evicted_files": eviction["files"],
        "evicted_gib": eviction["bytes"] / GIB,
        "evicted_s": eviction["elapsed_s"],
    }
    if eviction["resident_pct"] is not None:
        metrics["evicted_resident_pct"] = eviction["resident_pct"]
    return metrics


def _between(result: Document, section: Document) -> Metrics:
    """What only the clocks of writing and reading together tell."""
    source, gap_s = section["source"], gap_of(result)
    if source is None or gap_s is None:
        return {}
    last = section["checkpoints"][-1]
    ended_unix_s = result["window"]["start_unix_s"] + last["start_s"] + last["wall_s"]
    return {"gap_s": gap_s, "save_to_load_s": ended_unix_s - source["start_unix_s"]}


def gap_of(result: Document) -> float | None:
    """From the end of the last write to the start of the first read; None where nothing is read.

    By the clocks of the rank 0 of both, so that it may come out negative.
    """
    section, window = done_of(result), result["window"]
    if section is None or section["source"] is None or window is None:
        return None
    began_unix_s = window["start_unix_s"] + section["checkpoints"][0]["start_s"]
    return float(began_unix_s - section["source"]["end_unix_s"])


# ---------------------------------------------------------------- single checkpoints


def checkpoint_rows(result: Document) -> list[Document]:
    """The values of each checkpoint, as the notes of a summary hold them."""
    section = done_of(result)
    if section is None:
        return []
    kind = counting_kind(result)
    return [_row(each, section["does"], kind) for each in section["checkpoints"]]


def _row(checkpoint: Document, does: str, kind: str | None) -> Document:
    size, wall_s = checkpoint["bytes"], checkpoint["wall_s"]
    row: Document = {
        "number": checkpoint["number"],
        "wall_s": wall_s,
        "gib_s": _gib_s(size, wall_s),
        "rank0_gib_s": _gib_s(size, checkpoint["rank0_s"]),
        "rank_least_gib_s": checkpoint["rank_least_gib_s"],
        "rank_median_s": checkpoint["rank_median_s"],
        "rank_least_s": checkpoint["rank_least_s"],
        "straggler": checkpoint["straggler"],
        "straggler_host": checkpoint["straggler_host"],
        "transfer_s": checkpoint["transfer_most_s"],
    }
    if does == "write":
        row["sync_s"] = checkpoint["sync_most_s"]
    for name in ("resident_pct", "stall_s"):
        if checkpoint[name] is not None:
            row[name] = checkpoint[name]
    counted = None if kind is None else checkpoint["counted_bytes"].get(kind)
    if counted is not None and size:
        row |= {"counted_by": kind, "counted_pct": 100 * counted / size}
    return row


def _gib_s(size_bytes: int, took_s: float) -> float:
    return size_bytes / GIB / took_s if took_s else 0.0


# ---------------------------------------------------------------- what other stages tell of a run


def evictions(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, Document]:
    """By name of a launch that reads: how the files left memory before it, where they did.

    That is what the last stage which did that since the last write reports, or the read itself.
    """
    found: dict[str, Document] = {}
    last: dict[str | None, Document] = {}
    for launch in ended_launches(plan, outcomes, results):
        section = checkpointing_of(results[launch.name])
        if section is None:
            continue
        if section["does"] == "write":
            last.pop(launch.option, None)
        if section["eviction"] is not None:
            last[launch.option] = section["eviction"]
        if section["does"] == "read" and launch.option in last:
            found[launch.name] = last[launch.option]
    return found


def told_of_reads(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, Metrics]:
    """By name of a launch: the metrics that its result alone does not give."""
    return {name: _eviction(found) for name, found in evictions(plan, outcomes, results).items()}


# ---------------------------------------------------------------- the notes of a summary


def checkpoint_notes(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    *,
    job: CheckpointJob | None,
    launches: Sequence[Launch],
) -> Document:
    """What the numbers of trials of checkpointing must be read with; only what there is.

    `launches` are the trials that were planned. Of one that did not end well, the checkpoints that
    it completed are kept and marked as partial.
    """
    whole, broken = [], []
    for launch in launches:
        if done_of(results.get(launch.name, {})) is None:
            continue
        if ended_well(launch, outcomes, results):
            whole.append(launch.name)
        elif outcomes[launch.name]["reason"] in WITH_RESULT:
            broken.append(launch)
    if not whole and not broken:
        return {}
    evicted = evictions(plan, outcomes, results)
    first = whole[0] if whole else broken[0].name
    notes: Document = {
        "checkpointing": _setting(results[first]["checkpointing"], job, evicted.get(first))
    }
    if whole:
        notes["checkpoints"] = [checkpoint_rows(results[name]) for name in whole]
    if broken:
        notes["partial"] = [_partial(launch, outcomes, results[launch.name]) for launch in broken]
    return notes


def _partial(launch: Launch, outcomes: Mapping[str, Document], result: Document) -> Document:
    section = result["checkpointing"]
    done, planned = len(section["checkpoints"]), section["planned"]
    return {
        "stage": launch.name,
        "status": outcomes[launch.name]["status"],
        "partial": f"{done} of {planned}",
        "checkpoints": checkpoint_rows(result),
    }


def _setting(section: Document, job: CheckpointJob | None, evicted: Document | None) -> Document:
    layout = section["layout"]
    return {
        "does": section["does"],
        "planned": section["planned"],
        "parameters": layout["parameters"],
        "scale": layout["scale"],
        "checkpoint_gib": layout_bytes(layout) / GIB,
        "formula_gib": layout["formula_bytes"] / GIB,
        "table_gib": None if job is None else job.table_gib,
        "durable": None if job is None else job.fsync,
        "accelerators_gib": None if job is None else job.all_memory_gib,
        "files": layout["model_files"] + layout["optimizer_files"],
        "rank_gib_least": layout["rank_bytes_least"] / GIB,
        "rank_gib_most": layout["rank_bytes_most"] / GIB,
        "directory": section["directory"],
        "kept": section["kept"],
        "shift": section["shift"],
        "crossed_ranks": section["crossed_ranks"],
        "training": section["training"],
        "eviction": evicted,
        "written_by": None if section["source"] is None else section["source"]["run_id"],
    }
