"""Training as DLIO's files tell of it: the size of its data, its utilisation, its phases. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from statistics import fmean

from ..canonical import Document
from ..edition import size_rule
from ..rulebook import Severity
from ..rules import Finding
from ..sizing import Demand, dataset_size, epoch_of
from ..tables import numbered
from ..units import GIB, MIB
from .documents import (
    LeafDocuments,
    count_at,
    list_at,
    mapping_at,
    moment_at,
    near,
    number,
    number_at,
    numbers_at,
    same,
    shown,
    text_at,
    value_at,
)
from .upstream_common import judge_means, require

SUMMARY = "summary.json"

# DLIO leaves the reads before the first step out of its utilisation. More of an epoch than this
# left out is more than a start.
LEFT_OUT_MOST = 0.05
# How far utilisation may be from what the throughput comes to; sleeps are never exact.
FIT_PCT = 2.0
# Two times of one moment, from two files.
MOMENT_S = 5.0

_MEANS = (
    ("metric.train_au_percentage", "metric.train_au_mean_percentage",
     "metric.train_au_stdev_percentage"),
    ("metric.train_throughput_samples_per_second",
     "metric.train_throughput_mean_samples_per_second",
     "metric.train_throughput_stdev_samples_per_second"),
)  # fmt: skip

# Upstream's keys and ours, of what no submitter may change (Rules 3.6.2).
_FIXED = (
    ("dataset.format", "dataset.format"),
    ("dataset.num_samples_per_file", "dataset.samples_per_file"),
    ("dataset.record_length_bytes", "dataset.record_bytes"),
    ("dataset.record_length", "dataset.record_bytes"),
    ("dataset.record_length_bytes_stdev", "dataset.record_bytes_stdev"),
    ("reader.batch_size", "reader.batch"),
    ("train.epochs", "train.epochs"),
    ("train.computation_time", "train.computation_s"),
)
_DEFAULTS = {"dataset.samples_per_file": 1, "dataset.record_bytes_stdev": 0}


def settings(leaf: LeafDocuments) -> Mapping[str, object]:
    """What DLIO read, else what the metadata says that it read."""
    for name in ("dlio_config/config.yaml", "configs/config.yaml"):
        found = mapping_at(leaf.named(name), "workload")
        if found:
            return found
    return mapping_at(leaf.metadata, "parameters")


def accelerator_of(leaf: LeafDocuments) -> str:
    """The accelerator that is simulated, in lower case; empty where nothing names it."""
    told = text_at(leaf.metadata, "accelerator") or text_at(leaf.metadata, "args.accelerator_type")
    lines = leaf.named("configs/overrides.yaml")
    if not told and isinstance(lines, list):
        words = [word for word in lines if isinstance(word, str) and word.startswith("workload=")]
        told = words[0].rpartition("_")[2] if words else ""
    return told.lower()


def workload_of(leaf: LeafDocuments, official: Mapping[str, Document]) -> str:
    """The official workload that a run says it is.

    Where no accelerator is named, it is that of the model with this time of computation.
    """
    found = settings(leaf)
    model = text_at(found, "model.name") or text_at(found, "model") or leaf.leaf.model
    accelerator = accelerator_of(leaf)
    if not accelerator:
        step_s = value_at(found, "train.computation_time")
        for name, values in official.items():
            if name.startswith(f"training/{model}_") and same(
                value_at(values, "train.computation_s"), step_s
            ):
                return name
    return f"training/{model}_{accelerator}"


def judge_run(leaf: LeafDocuments, official: Mapping[str, Document]) -> Iterator[Finding]:
    """Findings of one run, by its own files alone."""
    lists = [values for values, _, _ in _MEANS]
    yield from require(
        leaf, SUMMARY, ("num_accelerators", "num_hosts", "num_files_train"), lists=lists
    )
    yield from judge_means(leaf, SUMMARY, _MEANS)
    yield from _judge_settings(leaf, official)
    yield from _judge_size(leaf)
    yield from _judge_threshold(leaf)
    yield from _judge_epochs(leaf)
    yield from _judge_fit(leaf)
    yield from _judge_hosts(leaf)


# ---------------------------------------------------------------- what was run


def _judge_settings(leaf: LeafDocuments, official: Mapping[str, Document]) -> Iterator[Finding]:
    found = settings(leaf)
    name = workload_of(leaf, official)
    if not found:
        yield leaf.finding("UPS-02", "error", "nothing tells the parameters of the workload")
        return
    if name not in official:
        if leaf.leaf.division != "whatif":
            known = ", ".join(sorted(official))
            yield leaf.finding("JOB-01", "error", f"{shown(name)} is none of {known}")
        return
    for upstream, ours in _FIXED:
        told, right = value_at(found, upstream), value_at(official[name], ours)
        right = _DEFAULTS.get(ours) if right is None else right
        if told is None or right is None or same(told, right):
            continue
        grave: Severity = "error" if leaf.leaf.division in ("closed", "unknown") else "warning"
        yield leaf.finding(
            "UPS-05", grave, f"{upstream} is {shown(told)}, and that of {name} is {shown(right)}"
        )
    least, right_pct = number_at(found, "metric.au"), number_at(official[name], "au_least_pct")
    if least is not None and right_pct is not None and 100 * least < right_pct - 1e-6:
        yield leaf.finding(
            "UPS-05", "error", f"metric.au is {least:g}, and that of {name} is {right_pct / 100:g}"
        )


def measured_memory_bytes(leaf: LeafDocuments) -> int | None:
    """The memory of all hosts; of DLIO's list only the sum is right."""
    told = count_at(leaf.metadata, "system_info.total_memory_bytes")
    listed = numbers_at(leaf.named(SUMMARY), "host_memory_GB")
    counted = int(sum(listed) * GIB) if listed and sum(listed) > 0 else None
    known = [size for size in (told, counted) if size]
    return max(known) if known else None


def declared_memory_bytes(leaf: LeafDocuments) -> int | None:
    """The memory of all hosts as the submitter has stated it."""
    each = number_at(leaf.metadata, "args.client_host_memory_in_gb")
    hosts = count_at(leaf.metadata, "args.num_client_hosts") or len(
        list_at(leaf.metadata, "args.hosts")
    )
    return int(each * hosts * GIB) if each and each > 0 and hosts else None


def _judge_size(leaf: LeafDocuments) -> Iterator[Finding]:
    """TRN-01: the files of the run against steps and memory (Rules 3.1.2)."""
    summary, found = leaf.named(SUMMARY), settings(leaf)
    accelerators, files = (
        count_at(summary, "num_accelerators"), count_at(summary, "num_files_train")
    )  # fmt: skip
    batch, record = count_at(found, "reader.batch_size"), record_bytes(found)
    memory = [size for size in (measured_memory_bytes(leaf), declared_memory_bytes(leaf)) if size]
    samples = count_at(found, "dataset.num_samples_per_file") or 1
    if not (accelerators and files and batch and record):
        return
    if not memory:
        yield leaf.finding(
            "TRN-01",
            "warning",
            "whether the dataset is large enough is not known: nothing tells "
            "the memory of the hosts",
        )
        return
    least = dataset_size(
        Demand(
            accelerators=accelerators,
            batch=batch,
            samples_per_file=samples,
            record_bytes=record,
            memory_bytes=max(memory),
            rule=size_rule(),
        )
    )
    if files < least.files:
        yield leaf.finding(
            "TRN-01",
            "error",
            f"the dataset has {files:,} files, Rules 3.1.2 ask for {least.files:,} "
            f"({least.arithmetic()})",
        )


def record_bytes(found: Mapping[str, object]) -> Fraction | None:
    """Bytes of a sample, which may be broken; None where nothing tells them."""
    for key in ("dataset.record_length_bytes", "dataset.record_length"):
        size = number_at(found, key)
        if size is not None and size > 0:
            return Fraction(str(size))
    return None


# ---------------------------------------------------------------- utilisation


def _judge_threshold(leaf: LeafDocuments) -> Iterator[Finding]:
    """TRN-02: the mean of the epochs against the workload's own threshold; DLIO's word beside."""
    summary = leaf.named(SUMMARY)
    shares = numbers_at(summary, "metric.train_au_percentage")
    least = number_at(settings(leaf), "metric.au")
    if not shares or least is None:
        return
    mean_pct = fmean(shares)
    word = text_at(summary, "metric.train_au_meet_expectation")
    if mean_pct < 100 * least:
        yield leaf.finding(
            "TRN-02",
            "error",
            f"accelerator utilisation {mean_pct:.2f} % is below the {100 * least:g} % asked for",
            file=SUMMARY,
        )
    if word and (word == "success") != (mean_pct >= 100 * least):
        yield leaf.finding(
            "UPS-06",
            "error",
            f"train_au_meet_expectation says {shown(word)}, the mean is {mean_pct:.2f} %",
            file=SUMMARY,
        )
    if max(shares) > 100 or min(shares) < 0:
        yield leaf.finding("UPS-06", "error", "an utilisation is outside 0 to 100 %", file=SUMMARY)


def stats_of(leaf: LeafDocuments) -> tuple[str, object] | None:
    """The epochs as rank 0 has timed them: the file's name and its document."""
    return next(leaf.ending("per_epoch_stats.json"), None)


def _judge_epochs(leaf: LeafDocuments) -> Iterator[Finding]:
    """TRN-06, UPS-06, UPS-13: epochs by their own times."""
    stats = stats_of(leaf)
    if stats is None or not isinstance(stats[1], dict):
        return
    file, epochs = stats
    asked = count_at(settings(leaf), "train.epochs")
    shares = numbers_at(leaf.named(SUMMARY), "metric.train_au_percentage") or []
    made = len(mapping_at({"epochs": epochs}, "epochs"))
    if asked is not None and made != asked:
        yield leaf.finding(
            "TRN-06",
            "error",
            f"has {numbered(made, 'epoch')}, and {asked} were asked for",
            file=file,
        )
    elif shares and len(shares) != made:
        yield leaf.finding(
            "UPS-14",
            "error",
            f"has {numbered(made, 'epoch')}, the summary {len(shares)}",
            file=file,
        )
    yield from _judge_moments(leaf, file, mapping_at({"epochs": epochs}, "epochs"))
    for index, share in enumerate(shares, 1):
        yield from _judge_share(leaf, file, mapping_at(epochs, str(index)), index, share)


def _judge_moments(
    leaf: LeafDocuments, file: str, epochs: Mapping[str, object]
) -> Iterator[Finding]:
    start, end = (moment_at(leaf.named(SUMMARY), name) for name in ("start", "end"))
    last = start
    for name, epoch in epochs.items():
        first, until = moment_at(epoch, "start"), moment_at(epoch, "end")
        if first is None or until is None:
            yield leaf.finding("UPS-02", "error", f"epoch {shown(name)} has no times", file=file)
            return
        if until < first or (last is not None and first < last - MOMENT_S):
            yield leaf.finding("UPS-13", "error", f"epoch {shown(name)} is out of order", file=file)
            return
        for part, block in (("", epoch), ("block1.", value_at(epoch, "block1"))):
            told, begun = number_at(block, "duration"), moment_at(block, "start")
            ended = moment_at(block, "end")
            # The epoch's own duration is that of its blocks; what saves results comes after.
            if (
                part
                and None not in (told, begun, ended)
                and abs((ended or 0) - (begun or 0) - (told or 0)) > max(1.0, 0.02 * (told or 0))
            ):
                yield leaf.finding(
                    "UPS-14",
                    "error",
                    f"{part}duration of epoch {shown(name)} is not the time "
                    "between its start and its end",
                    file=file,
                )
        last = until
    if end is not None and last is not None and last > end + MOMENT_S:
        yield leaf.finding("UPS-13", "error", "the last epoch ends after the run", file=file)


def _judge_share(
    leaf: LeafDocuments, file: str, epoch: object, index: int, share: float
) -> Iterator[Finding]:
    """UPS-06: an epoch's compute, by the workload, over the length of its block."""
    compute_s = epoch_compute_s(leaf)
    block_s = number_at(epoch, "block1.duration")
    if compute_s is None or block_s is None or block_s <= 0 or share <= 0:
        return
    if block_s < compute_s * (1 - FIT_PCT / 100):
        yield leaf.finding(
            "UPS-06",
            "error",
            f"epoch {index} took {block_s:.2f} s, and its steps compute for {compute_s:.2f} s",
            file=file,
        )
    left_out = 1 - 100 * compute_s / share / block_s
    if left_out > LEFT_OUT_MOST:
        yield leaf.finding(
            "UPS-06",
            "error",
            f"utilisation of epoch {index} is told as {share:.2f} %; its block of {block_s:.2f} s "
            f"gives {100 * compute_s / block_s:.2f} %, and no start takes {100 * left_out:.0f} % "
            "of an epoch",
            file=file,
        )


def epoch_compute_s(leaf: LeafDocuments) -> float | None:
    """Time that a rank computes in an epoch: its whole batches (Rules 3.3.2)."""
    summary, found = leaf.named(SUMMARY), settings(leaf)
    ranks, files = count_at(summary, "num_accelerators"), count_at(summary, "num_files_train")
    batch = count_at(found, "reader.batch_size")
    step_s = number_at(found, "train.computation_time")
    samples = count_at(summary, "num_samples_per_file")
    if not (ranks and files and batch and samples) or step_s is None or step_s <= 0:
        return None
    return epoch_of(files=files, samples_per_file=samples, ranks=ranks, batch=batch).steps * step_s


def _judge_fit(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-06, UPS-07: throughput against utilisation, and I/O against throughput."""
    summary, found = leaf.named(SUMMARY), settings(leaf)
    rates = numbers_at(summary, "metric.train_throughput_samples_per_second")
    shares = numbers_at(summary, "metric.train_au_percentage")
    ranks, batch = count_at(summary, "num_accelerators"), count_at(found, "reader.batch_size")
    step_s = number_at(found, "train.computation_time")
    if not rates:
        return
    if shares and ranks and batch and step_s and step_s > 0:
        by_rate = 100 * fmean(rates) * step_s / batch / ranks
        if abs(by_rate - fmean(shares)) > FIT_PCT:
            yield leaf.finding(
                "UPS-06",
                "error",
                f"utilisation is told as {fmean(shares):.2f} %, and the throughput of "
                f"{fmean(rates):.2f} samples/s comes to {by_rate:.2f} %",
                file=SUMMARY,
            )
    record = record_bytes(found)
    told = number_at(summary, "metric.train_io_mean_MB_per_second")
    if record is not None and told is not None:
        right = fmean(rates) * float(record) / MIB
        if not near(told, right, 1e-3):
            yield leaf.finding(
                "UPS-07",
                "error",
                f"metric.train_io_mean_MB_per_second is {told:g}, samples times their bytes give "
                f"{right:g} MiB/s",
                file=SUMMARY,
            )


def _judge_hosts(leaf: LeafDocuments) -> Iterator[Finding]:
    summary = leaf.named(SUMMARY)
    ranks, hosts = count_at(summary, "num_accelerators"), count_at(summary, "num_hosts")
    if ranks and hosts and ranks % hosts:
        yield leaf.finding(
            "JOB-04",
            "error",
            f"{ranks} accelerators are not the same number on each of {hosts} hosts (Rules 3.3.6)",
            file=SUMMARY,
        )


def read_gib_s(leaf: LeafDocuments) -> float | None:
    """Read bandwidth in GiB/s: samples times their bytes over the time that DLIO counts."""
    mib_s = number(value_at(leaf.named(SUMMARY), "metric.train_io_mean_MB_per_second"))
    return None if mib_s is None else mib_s / 1024
