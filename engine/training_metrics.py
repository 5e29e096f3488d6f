"""From what stages of training report to the published numbers. Pure.

A rank is an accelerator; its block of an epoch goes from the common start to the end of its last
step. Utilisations are means over ranks, then over epochs; shares of time are of all blocks of all
ranks and epochs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from .canonical import Document
from .counting import counting_kind
from .plan import Plan, ended_launches, nearest
from .training_job import TrainingJob
from .units import GIB

Metrics = dict[str, float | int]


def training_of(result: Document) -> Document | None:
    """What a stage reports of training, if it made an epoch."""
    training: Document | None = result.get("training")
    return training if training is not None and training["epochs"] else None


def ranks_of(result: Document) -> int:
    """Ranks of a stage, each of which is an accelerator."""
    return len(result["ranks"]["host_index"])


# ---------------------------------------------------------------- metrics of a stage


def training_metrics(result: Document) -> Metrics:
    """What one stage's epochs, evaluations and checkpoints come to, by the result alone."""
    training = training_of(result)
    if training is None:
        return {}
    ranks = ranks_of(result)
    rows = epoch_rows(result)
    metrics = _utilisation(training["epochs"], rows)
    metrics |= _shares(training, ranks)
    metrics |= _throughput(training, ranks)
    shares = [row["counted_pct"] for row in rows if "counted_pct" in row]
    if shares:
        metrics["epoch_counted_pct"] = fmean(shares)
        metrics["epoch_counted_least_pct"] = min(shares)
    return metrics | _evaluations(training) | _checkpoints(training["checkpoints"])


def epoch_rows(result: Document) -> list[Document]:
    """The values of each epoch, as the notes of a summary hold them."""
    training = training_of(result)
    if training is None:
        return []
    kind = counting_kind(result)
    return [_epoch_row(training, epoch, ranks_of(result), kind) for epoch in training["epochs"]]


def _epoch_row(training: Document, epoch: Document, ranks: int, kind: str | None) -> Document:
    steps, wall_s, block_s = epoch["steps"], epoch["wall_s"], epoch["block_sum_s"]
    computing_s = ranks * steps * training["computation_s"]
    row: Document = {
        "epoch": epoch["epoch"],
        "steps": steps,
        "wall_s": wall_s,
        "au_nominal_pct": epoch["au_nominal_sum_pct"] / ranks,
        "au_dlio_pct": epoch["au_dlio_sum_pct"] / ranks,
        "au_wall_pct": 100 * computing_s / block_s if block_s else 0.0,
        "au_worst_rank_pct": epoch["au_nominal_worst_pct"],
        "au_worst_rank": epoch["au_worst_rank"],
        "samples_per_s": ranks * steps * training["batch"] / wall_s if wall_s else 0.0,
    }
    if training["reads"]:
        row["train_gib_s"] = epoch["read_bytes"] / GIB / wall_s if wall_s else 0.0
    counted = None if kind is None else epoch["counted_read_bytes"].get(kind)
    if counted is not None and epoch["read_bytes"]:
        row["counted_by"] = kind
        row["counted_pct"] = 100 * counted / epoch["read_bytes"]
    return row


def _utilisation(epochs: Sequence[Document], rows: Sequence[Document]) -> Metrics:
    metrics: Metrics = {
        name: fmean(row[name] for row in rows)
        for name in ("au_nominal_pct", "au_dlio_pct", "au_wall_pct")
    }
    metrics["au_worst_rank_pct"] = min(row["au_worst_rank_pct"] for row in rows)
    metrics["samples_dlio_per_s"] = fmean(epoch["samples_dlio_per_s"] for epoch in epochs)
    return metrics


def _shares(training: Document, ranks: int) -> Metrics:
    """What the time of all ranks went to, in percent of it; together 100."""
    epochs = training["epochs"]
    block_s, load_s, computed_s, meeting_s = (
        sum(epoch[f"{part}_sum_s"] for epoch in epochs)
        for part in ("block", "load", "compute", "meeting")
    )
    if not block_s:
        return {}
    asked_s = ranks * training["computation_s"] * sum(epoch["steps"] for epoch in epochs)
    return {
        "compute_pct": 100 * asked_s / block_s,
        "stall_load_pct": 100 * load_s / block_s,
        "stall_meeting_pct": 100 * meeting_s / block_s,
        "overshoot_pct": 100 * (computed_s - asked_s) / block_s,
        "engine_pct": 100 * (block_s - load_s - computed_s - meeting_s) / block_s,
    }


def _throughput(training: Document, ranks: int) -> Metrics:
    """Of all epochs over the sum of their times, each from the common start to its last rank."""
    epochs = training["epochs"]
    wall_s = sum(epoch["wall_s"] for epoch in epochs)
    if not wall_s:
        return {}
    samples = ranks * training["batch"] * sum(epoch["steps"] for epoch in epochs)
    metrics: Metrics = {"samples_per_s": samples / wall_s}
    if training["reads"]:
        read_bytes = sum(epoch["read_bytes"] for epoch in epochs)
        metrics["train_gib_s"] = read_bytes / GIB / wall_s
        metrics["nominal_gib_s"] = samples * training["record_bytes"] / GIB / wall_s
    return metrics


def _evaluations(training: Document) -> Metrics:
    evaluations = training["evaluations"]
    wall_s = sum(evaluation["wall_s"] for evaluation in evaluations)
    if not wall_s:
        return {}
    read_bytes = sum(evaluation["read_bytes"] for evaluation in evaluations)
    return {"eval_s": wall_s / len(evaluations), "eval_gib_s": read_bytes / GIB / wall_s}


def evaluation_metrics(result: Document, batch: int | None) -> Metrics:
    """The samples of evaluations, whose batch is told by the job alone."""
    evaluations = [] if training_of(result) is None else result["training"]["evaluations"]
    wall_s = sum(evaluation["wall_s"] for evaluation in evaluations)
    if batch is None or not wall_s:
        return {}
    steps = sum(evaluation["steps"] for evaluation in evaluations)
    return {"eval_samples_per_s": ranks_of(result) * batch * steps / wall_s}


def _checkpoints(checkpoints: Sequence[Document]) -> Metrics:
    wall_s = sum(checkpoint["wall_s"] for checkpoint in checkpoints)
    if not wall_s:
        return {}
    written_bytes = sum(checkpoint["written_bytes"] for checkpoint in checkpoints)
    return {
        "checkpoint_gib_s": written_bytes / GIB / wall_s,
        "checkpoint_max_s": max(checkpoint["wall_s"] for checkpoint in checkpoints),
    }


def dataset_metrics(result: Document) -> Metrics:
    """What the stage that makes or checks a dataset has left."""
    dataset = result.get("dataset")
    if dataset is None:
        return {}
    return {
        "dataset_files": dataset["train_files"] + dataset["eval_files"],
        "dataset_gib": dataset["bytes"] / GIB,
        "dataset_nominal_gib": dataset["nominal_bytes"] / GIB,
        "dataset_written_files": dataset["written_files"],
        "dataset_written_gib": dataset["written_bytes"] / GIB,
    }


# ---------------------------------------------------------------- what other stages tell of a run


def ceilings(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, float]:
    """By name of a measured launch: the nominal utilisation of the same steps without reads.

    Of the stage next to it, before it or else after it; one that stands for the whole job counts
    for all options.
    """
    found = {
        launch.name: training_metrics(results[launch.name])["au_nominal_pct"]
        for launch in ended_launches(plan, outcomes, results)
        if (training := training_of(results[launch.name])) is not None and not training["reads"]
    }
    return {
        launch.name: found[name]
        for launch in plan.launches
        if launch.measured and (name := nearest(found, launch, plan.launches)) is not None
    }


def datasets(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, tuple[str, Document]]:
    """By name of a launch that trains: which stage left its dataset, and what that reports."""
    found = {
        launch.name: results[launch.name]["dataset"]
        for launch in ended_launches(plan, outcomes, results)
        if results[launch.name].get("dataset") is not None
    }
    return {
        launch.name: (name, found[name])
        for launch in ended_launches(plan, outcomes, results)
        if training_of(results[launch.name]) is not None
        and (name := nearest(found, launch, plan.launches)) is not None
    }


def job_metrics(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    jobs: Sequence[TrainingJob],
) -> dict[str, Metrics]:
    """By name of a launch: the metrics that its result alone does not give."""
    of_options = {job.option: job for job in jobs}
    found: dict[str, Metrics] = {
        launch.name: evaluation_metrics(results[launch.name], job.evaluation_batch)
        for launch in plan.launches
        if launch.name in results and (job := of_options.get(launch.option)) is not None
    }
    for name, au_pct in ceilings(plan, outcomes, results).items():
        found[name] = found.get(name, {}) | {"au_engine_ceiling_pct": au_pct}
    return found


# ---------------------------------------------------------------- the notes of a summary


def training_notes(
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    metrics: Mapping[str, Metrics],
    *,
    job: TrainingJob | None,
    names: Sequence[str],
) -> Document:
    """What the numbers of trials of training must be read with; only what there is.

    `names` are the launches of the trials, `metrics` those of all launches.
    """
    trained = [name for name in names if training_of(results[name]) is not None]
    if not trained:
        return {}
    trials = [results[name] for name in trained]
    notes: Document = {
        "training": _setting(trials, job),
        "epochs": [epoch_rows(trial) for trial in trials],
    }
    left = datasets(plan, outcomes, results).get(trained[0])
    if left is not None:
        stage, dataset = left
        notes["dataset"] = _dataset_note(dataset, metrics.get(stage, {}))
    return notes


def _setting(trials: Sequence[Document], job: TrainingJob | None) -> Document:
    training = trials[0]["training"]
    names = ("computation_s", "batch", "record_bytes", "steps_planned", "dropped_samples")
    evictions = [trial["training"]["eviction"] for trial in trials]
    resident = [each["resident_pct"] for each in evictions if each is not None]
    known = [share for share in resident if share is not None]
    return {
        "au_least_pct": None if job is None else job.au_least_pct,
        **{name: training[name] for name in names},
        "threads": training["threads"],
        "look_ahead_batches": training["look_ahead_batches"],
        "evicted": all(each is not None for each in evictions),
        "resident_pct": max(known) if known else None,
    }


def _dataset_note(dataset: Document, metrics: Metrics) -> Document:
    """The dataset, and how fast it was written where this job has done that."""
    speed = metrics.get("write_gib_s") if dataset["written_files"] else None
    return {**dataset, "write_gib_s": speed}
