"""The summary.json that DLIO would have written of a run of training, from an archive alone.

Formulas are DLIO's: I/O is samples times their nominal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, pstdev

from .canonical import Document
from .dlio_summary import Data, checkpoint_metric, summary_of
from .host_documents import HostFacts
from .plan import Plan, measured_launches
from .training_job import TrainingJob
from .training_metrics import datasets, ranks_of, training_of
from .units import GIB, MIB


def dlio_summaries(
    plan: Plan,
    jobs: Sequence[TrainingJob],
    outcomes: Mapping[str, Document],
    results: Mapping[str, Document],
    hosts: HostFacts,
) -> Iterator[tuple[str, Document]]:
    """By name of a measured launch that trained to its end: the document of summary.json."""
    left = datasets(plan, outcomes, results)
    for name, job, result in measured_launches(jobs, plan, outcomes, results):
        if result["window"] is None or training_of(result) is None:
            continue
        dataset = left[name][1] if name in left else None
        yield name, training_summary(job, dataset, result, hosts)


def training_summary(
    job: TrainingJob, dataset: Document | None, result: Document, hosts: HostFacts
) -> Document:
    """The document of summary.json of a stage that trained, measured or not."""
    ranks = ranks_of(result)
    size_gib = _data_size_per_host_gib(job, ranks, len(result["ranks"]["hosts"]))
    files = (job.files, job.eval_files)
    if dataset is not None:
        files = (dataset["train_files"], dataset["eval_files"])
    return summary_of(
        [result],
        _metric(job, result),
        hosts,
        data=Data(files=files, samples_per_file=job.samples_per_file, size_per_host_gib=size_gib),
        epochs=len(result["training"]["epochs"]),
    )


def _data_size_per_host_gib(job: TrainingJob, ranks: int, hosts: int) -> float:
    """DLIO's: what the ranks of a host read in an epoch, rounded down to whole samples."""
    samples = (ranks // hosts) * job.samples_per_file * job.files // ranks
    return float(samples * job.record_bytes / GIB)


# ---------------------------------------------------------------- metrics


def _metric(job: TrainingJob, result: Document) -> Document:
    training, ranks = result["training"], ranks_of(result)
    shares = [epoch["au_dlio_sum_pct"] / ranks for epoch in training["epochs"]]
    mean_pct = fmean(shares)
    return {
        "train_au_percentage": shares,
        "train_au_mean_percentage": mean_pct,
        "train_au_meet_expectation": "success" if mean_pct >= job.au_least_pct else "fail",
        "train_au_stdev_percentage": pstdev(shares),
        **_throughput("train", [epoch["samples_dlio_per_s"] for epoch in training["epochs"]], job),
        **_evaluation(job, training["evaluations"], ranks),
        **_checkpoints(training["checkpoints"]),
    }


def _throughput(phase: str, samples_per_s: Sequence[float], job: TrainingJob) -> Document:
    mean, deviation = fmean(samples_per_s), pstdev(samples_per_s)
    mib = float(job.record_bytes) / MIB
    return {
        f"{phase}_throughput_samples_per_second": [*samples_per_s],
        f"{phase}_throughput_mean_samples_per_second": mean,
        f"{phase}_throughput_stdev_samples_per_second": deviation,
        f"{phase}_io_mean_MB_per_second": mean * mib,
        f"{phase}_io_stdev_MB_per_second": deviation * mib,
    }


def _evaluation(job: TrainingJob, evaluations: Sequence[Document], ranks: int) -> Document:
    """Of whole evaluations: their first steps were not timed apart, so that there is no AU."""
    batch = job.evaluation_batch
    if batch is None:
        return {}
    rates = [
        ranks * batch * evaluation["steps"] / evaluation["wall_s"]
        for evaluation in evaluations
        if evaluation["wall_s"]
    ]
    return _throughput("eval", rates, job) if rates else {}


def _checkpoints(checkpoints: Sequence[Document]) -> Document:
    timed = [checkpoint for checkpoint in checkpoints if checkpoint["wall_s"]]
    return checkpoint_metric(
        "save",
        [(checkpoint["written_bytes"], checkpoint["wall_s"]) for checkpoint in timed],
    )
