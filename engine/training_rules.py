"""What must hold of training: the size of its dataset, its utilisation, its epochs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from .canonical import Document
from .counting import COUNTED_LEAST_BYTES, COUNTERS, counting_kind
from .plan import Plan, ended_launches, measured_launches
from .rules import Finding, breach
from .spec import JobSpec
from .training_job import TrainingJob, training_jobs
from .training_metrics import (
    ceilings,
    datasets,
    ranks_of,
    training_metrics,
    training_of,
)
from .units import GIB

# An utilisation this near to that without reads is no fault of the storage.
CEILING_MARGIN_PCT = 2.0

# The least part of an epoch's bytes that storage must have served.
SERVED_LEAST = 0.9

# More of the files than this, still in memory once they were dropped, is told.
RESIDENT_MOST_PCT = 1.0

# How far the bytes of an epoch may be from those of the files that it went through.
BYTES_TOLERANCE = 0.1


def judge_dataset_size(spec: JobSpec, measured_bytes: int | None) -> list[Finding]:
    """Whether the dataset is as large as Rules 3.1.2 ask for, once the hosts were asked."""
    unknown = [
        Finding(
            rule="TRN-01",
            severity=breach(spec),
            key="benchmark.host_memory_gib",
            text="whether the dataset is large enough is not known: no host has told its memory, "
            "and none is declared",
            hint="benchmark.host_memory_gib=GIB",
        )
        for job in training_jobs(spec)[:1]
        if job.memory_bytes(measured_bytes) is None
    ]
    return unknown + judge_known_size(spec, measured_bytes)


def judge_client_memory(spec: JobSpec, ranks: int, memory_bytes: int | None) -> Iterator[Finding]:
    """TRN-09: memory of the clients for each accelerator that they simulate (Rules 3.3.3)."""
    if memory_bytes is None or not training_jobs(spec):
        return
    each_bytes = memory_bytes / ranks
    least_bytes = spec.document["edition"]["training"]["memory_of_accelerator_bytes"]
    if each_bytes < least_bytes:
        yield Finding(
            rule="TRN-09",
            severity="warning",
            key="cluster.ranks_per_host",
            text=f"the hosts have {each_bytes / 1e9:.2f} GB of memory for each of {ranks} "
            f"accelerators, Rules 3.3.3 ask for about {least_bytes / 1e9:g}",
        )


def judge_known_size(spec: JobSpec, measured_bytes: int | None) -> list[Finding]:
    """Datasets that are too small already by what is known: steps, declared or measured memory."""
    findings = []
    for job in training_jobs(spec):
        memory_bytes = job.memory_bytes(measured_bytes)
        least = job.least_size(memory_bytes)
        if job.files >= least.files:
            continue
        of_option = "" if job.option is None else f" of option {job.option}"
        told = least.steps_arithmetic() if memory_bytes is None else least.arithmetic()
        findings.append(
            Finding(
                rule="TRN-01",
                severity=breach(spec),
                key="benchmark.dataset.train.files",
                text=f"the dataset{of_option} has {job.files:,} files, Rules 3.1.2 ask for "
                f"{least.files:,} ({told})",
                hint=f"benchmark.dataset.train.files={least.files}",
            )
        )
    return findings


def judge_utilisation(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[Finding]:
    """Whether accelerators were as busy as the benchmark asks for, and whose fault it is if not."""
    ceiling_pct = ceilings(plan, outcomes, results)
    findings = []
    for name, job, result in measured_launches(training_jobs(spec), plan, outcomes, results):
        if training_of(result) is None:
            continue
        metrics = training_metrics(result)
        nominal_pct, least_pct = metrics["au_nominal_pct"], job.au_least_pct
        if nominal_pct < least_pct:
            text, hint = _fault(metrics, least_pct, ceiling_pct.get(name))
            findings.append(
                Finding(
                    rule="TRN-02",
                    severity=breach(spec),
                    key=name,
                    text=f"accelerator utilisation {_down(nominal_pct)} % is below the "
                    f"{least_pct:g} % that are asked for; {text}",
                    hint=hint,
                )
            )
        findings += _two_verdicts(name, metrics, least_pct)
    return findings


def judge_training(
    spec: JobSpec,
    plan: Plan,
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
) -> list[Finding]:
    """Whether measured epochs were whole, of their dataset, and read from storage."""
    findings = [*_foreign(spec, plan, outcomes, results)]
    left = datasets(plan, outcomes, results)
    for name, job, result in measured_launches(training_jobs(spec), plan, outcomes, results):
        findings += _whole(name, job, result)
        findings += _from_memory(name, job, result)
        findings += _resident(name, result)
        if name in left:
            findings += _of_dataset(name, job, result, left[name])
    return findings


# ---------------------------------------------------------------- utilisation


def _fault(
    metrics: Mapping[str, float], least_pct: float, ceiling_pct: float | None
) -> tuple[str, str]:
    """What held up the accelerators, and what to do."""
    if ceiling_pct is None:
        text = "the stage ceiling was not run: nothing tells slow storage from a slow engine"
        return text, "benchmark.ceiling.when=success, and no ceiling left out of stages"
    without = f"without reads it was {_down(ceiling_pct)} %"
    near = metrics["au_nominal_pct"] >= ceiling_pct - CEILING_MARGIN_PCT
    if ceiling_pct < least_pct or near:
        text = "engine, network or hosts are the limit, the storage was not judged"
        return f"{without}: {text}", "fewer ranks on each host, or faster hosts and network"
    waited_pct = metrics.get("stall_load_pct", 0.0)
    text = f"the storage is the limit, ranks waited for batches {waited_pct:.1f} % of the time"
    return f"{without}: {text}", "fewer accelerators, more benchmark.reader.threads"


def _down(share_pct: float) -> str:
    """Two digits, never rounded up to what it is compared with."""
    return f"{math.floor(100 * share_pct) / 100:.2f}"


def _two_verdicts(name: str, metrics: Mapping[str, float], least_pct: float) -> Iterator[Finding]:
    nominal_pct, dlio_pct = metrics["au_nominal_pct"], metrics["au_dlio_pct"]
    if (nominal_pct >= least_pct) == (dlio_pct >= least_pct):
        return
    verdicts = [
        f"{pct:.3f} % {'reaches' if pct >= least_pct else 'misses'} it"
        for pct in (nominal_pct, dlio_pct)
    ]
    yield Finding(
        rule="TRN-03",
        severity="warning",
        key=name,
        text=f"two ways to compute the utilisation disagree on {least_pct:g} %: by the computation "
        f"that was asked for {verdicts[0]}, by the measured one, as DLIO does, {verdicts[1]}",
    )


# ---------------------------------------------------------------- epochs


def _whole(name: str, job: TrainingJob, result: Document) -> Iterator[Finding]:
    training = training_of(result)
    epochs = [] if training is None else training["epochs"]
    made = [epoch["epoch"] for epoch in epochs]
    planned = 0 if training is None else training["steps_planned"]
    texts = []
    if made != [*range(1, job.epochs + 1)]:
        told = ", ".join(map(str, made)) or "none"
        texts.append(f"epochs 1 to {job.epochs} were to be made, {told} were")
    texts += [
        f"epoch {epoch['epoch']} has {epoch['steps']} of {planned} steps"
        for epoch in epochs
        if epoch["steps"] != planned
    ]
    yield from (Finding(rule="TRN-06", severity="error", key=name, text=text) for text in texts)


def _from_memory(name: str, job: TrainingJob, result: Document) -> Iterator[Finding]:
    training, kind = training_of(result), counting_kind(result)
    if training is None or kind is None:
        return
    shares = {
        epoch["epoch"]: epoch["counted_read_bytes"][kind] / epoch["read_bytes"]
        for epoch in training["epochs"]
        if epoch["read_bytes"] >= COUNTED_LEAST_BYTES and kind in epoch["counted_read_bytes"]
    }
    cached = {number: share for number, share in shares.items() if share < SERVED_LEAST}
    if not cached:
        return
    told = ", ".join(f"epoch {number} {100 * share:.1f} %" for number, share in cached.items())
    yield Finding(
        rule="TRN-04",
        severity="info" if job.keeps_cache else "warning",
        key=name,
        text=f"memory served epochs: of what they read {COUNTERS[kind]} moved less than "
        f"{100 * SERVED_LEAST:g} % ({told})",
        hint="benchmark.reader.cache=drop"
        if job.keeps_cache
        else "benchmark.reader.direct=true, or a dataset larger than all memory",
    )


def _resident(name: str, result: Document) -> Iterator[Finding]:
    eviction = (result.get("training") or {}).get("eviction")
    if eviction is None or (eviction["resident_pct"] or 0) <= RESIDENT_MOST_PCT:
        return
    yield Finding(
        rule="TRN-05",
        severity="warning",
        key=name,
        text=f"{eviction['resident_pct']:.1f} % of {eviction['sampled_files']:,} files that were "
        "looked at were still in the page cache after they had been dropped",
        hint="nothing else may read or hold the files of the dataset",
    )


# ---------------------------------------------------------------- the dataset


def _foreign(
    spec: JobSpec, plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> Iterator[Finding]:
    if not training_jobs(spec):
        return
    for launch in ended_launches(plan, outcomes, results):
        dataset = results[launch.name].get("dataset")
        if dataset is not None and dataset["made_by"] == "other":
            yield Finding(
                rule="TRN-07",
                severity="info",
                key=launch.name,
                text=f"the files in {dataset['directory']} were not made by mlps: only their "
                f"{dataset['checked']} were checked",
            )


def _of_dataset(
    name: str, job: TrainingJob, result: Document, left: tuple[str, Document]
) -> Iterator[Finding]:
    """Whether a stage trained on what another has left."""
    stage, dataset = left
    pairs = (
        ("files", job.files, dataset["train_files"]),
        ("files for evaluation", job.eval_files, dataset["eval_files"]),
        ("samples a file", job.samples_per_file, dataset["samples_per_file"]),
    )
    for what, asked, found in pairs:
        if asked != found:
            text = f"the job asks for {asked:,} {what}, {stage} left {found:,}"
            yield Finding(rule="TRN-08", severity="error", key=name, text=text)
    training = training_of(result)
    if training is None or not _reads_all(dataset):
        return
    held_bytes = _bytes_of_epoch(training, ranks_of(result), dataset)
    wrong = [
        f"epoch {epoch['epoch']} {epoch['read_bytes'] / GIB:.2f} GiB"
        for epoch in training["epochs"]
        if abs(epoch["read_bytes"] - held_bytes) > BYTES_TOLERANCE * held_bytes
    ]
    if wrong:
        yield Finding(
            rule="TRN-08",
            severity="warning",
            key=name,
            text=f"the files of an epoch hold {held_bytes / GIB:.2f} GiB by what {stage} left, but "
            f"other bytes were read: {', '.join(wrong)}",
        )


def _reads_all(dataset: Document) -> bool:
    """Whether an epoch reads whole files: of Parquet it may read some columns alone."""
    return bool(dataset["samples_per_file"] == 1 and dataset["format"] != "parquet")


def _bytes_of_epoch(training: Document, ranks: int, dataset: Document) -> float:
    """What the files of an epoch's steps hold, were all files of the mean size."""
    files: Sequence[int] = (dataset["train_files"], dataset["eval_files"])
    trained = ranks * training["steps_planned"] * training["batch"]
    return float(dataset["bytes"] * trained / sum(files)) if sum(files) else 0.0
