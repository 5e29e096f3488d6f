"""Checkpointing as DLIO's files tell of it: sizes, numbers, the time between phases. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..canonical import Document
from ..checkpoint_rules import SUBSET_RANKS
from ..edition import checkpoint_form, memory_times, official
from ..rulebook import Severity
from ..rules import Finding
from ..units import GIB
from .documents import (
    LeafDocuments,
    count_at,
    mapping_at,
    moment_at,
    number_at,
    shown,
    text_at,
    value_at,
)
from .layout import MODELS
from .upstream_common import require
from .upstream_training import declared_memory_bytes, measured_memory_bytes, settings

SUMMARY = "summary.json"

# A checkpoint is not smaller than Table 2 has it, but for what its rounding hides.
SIZE_SHARE = 0.03
# Mean of rates over size by mean time, which spread makes differ.
RATE_SHARE = 0.05

_PHASES = ("save", "load")


def judge_run(leaf: LeafDocuments) -> Iterator[Finding]:
    """Findings of one leaf, by its own files alone."""
    summary = leaf.named(SUMMARY)
    phases = phases_of(leaf)
    keys = ["num_accelerators", "num_hosts", "metric.checkpoint_size_GB"]
    for phase in phases:
        keys += [f"metric.{phase}_checkpoint_io_mean_GB_per_second",
                 f"metric.{phase}_checkpoint_duration_mean_seconds"]  # fmt: skip
    yield from require(leaf, SUMMARY, keys)
    if summary is not None and not phases:
        yield leaf.finding(
            "CKP-08",
            "error",
            "tells neither of written checkpoints nor of read ones",
            file=SUMMARY,
        )
    yield from _judge_ranks(leaf)
    yield from _judge_counts(leaf, phases)
    yield from _judge_size(leaf)
    yield from _judge_rates(leaf, phases)
    yield from _judge_memory(leaf)
    if value_at(settings(leaf), "checkpoint.fsync") is False:
        yield leaf.finding("CKP-06", "error", "checkpoint.fsync is false (Rules 4.3.2)")


def phases_of(leaf: LeafDocuments) -> tuple[str, ...]:
    """Of save and load, what the summary has metrics of."""
    metric = mapping_at(leaf.named(SUMMARY), "metric")
    return tuple(
        phase for phase in _PHASES if any(key.startswith(f"{phase}_checkpoint") for key in metric)
    )


def _form_of(model: str) -> Document | None:
    """Rules 4.6.1 and Table 2 as mlps runs a model: accelerators and GiB of a checkpoint."""
    if model not in MODELS["checkpointing"]:
        return None
    form: Document = official(f"checkpointing/{model.replace('-', '_')}")["accelerator"]
    return form


def _judge_ranks(leaf: LeafDocuments) -> Iterator[Finding]:
    summary, model = leaf.named(SUMMARY), leaf.leaf.model
    ranks, hosts = count_at(summary, "num_accelerators"), count_at(summary, "num_hosts")
    asked = count_at(leaf.metadata, "num_processes")
    if ranks is None:
        return
    if asked is not None and asked != ranks:
        yield leaf.finding(
            "UPS-14", "error", f"metadata has {asked} processes, the summary {ranks} accelerators"
        )
    form = _form_of(model)
    right = None if form is None else form["count"]
    if right is not None and leaf.leaf.division in ("closed", "unknown") and ranks != right:
        if ranks == SUBSET_RANKS:
            yield leaf.finding(
                "CKP-07",
                "error",
                f"a subset of {ranks} accelerators is for llama3-8b alone (Rules 4.3.5)",
            )
        else:
            yield leaf.finding(
                "CKP-02", "error", f"has {ranks} accelerators, {model} takes {right} (Rules 4.6.1)"
            )
    if not hosts:
        return
    each, over = ranks / hosts, checkpoint_form().ranks_per_host_over
    if each <= over:
        grave: Severity = "error" if each < over else "warning"
        yield leaf.finding(
            "CKP-09",
            grave,
            f"has {each:g} accelerators on each host, and more than "
            f"{over} are asked for (Rules 4.6.2)",
        )


def _judge_counts(leaf: LeafDocuments, phases: Sequence[str]) -> Iterator[Finding]:
    found = settings(leaf)
    for phase, name in (("save", "num_checkpoints_write"), ("load", "num_checkpoints_read")):
        told = [
            count
            for document, key in (
                (found, f"checkpoint.{name}"),
                (leaf.metadata, f"args.{name}"),
            )
            if (count := count_at(document, key)) is not None
        ]
        if not told:
            continue
        count = checkpoint_form().checkpoints
        if told[0] not in (0, count):
            yield leaf.finding(
                "CKP-08",
                "error",
                f"{name} is {told[0]}, a score takes {count} or none (Rules 4.6.3)",
            )
        if (told[0] > 0) != (phase in phases) and leaf.named(SUMMARY) is not None:
            having = "has" if phase in phases else "has no"
            yield leaf.finding(
                "CKP-03", "error", f"{name} is {told[0]}, and the summary {having} {phase}_* values"
            )


def _judge_size(leaf: LeafDocuments) -> Iterator[Finding]:
    size_gib = number_at(leaf.named(SUMMARY), "metric.checkpoint_size_GB")
    ranks = count_at(leaf.named(SUMMARY), "num_accelerators")
    form = _form_of(leaf.leaf.model)
    if size_gib is None or form is None:
        return
    table_gib = form["checkpoint_gib"]
    if size_gib < table_gib * (1 - SIZE_SHARE):
        yield leaf.finding(
            "CKP-07",
            "error",
            f"a checkpoint has {size_gib:,.2f} GiB, {leaf.leaf.model} has {table_gib:,.0f} GiB",
            file=SUMMARY,
        )
    accelerator = text_at(leaf.metadata, "accelerator").lower()
    memory_gb = checkpoint_form().accelerator_memory_gb.get(accelerator)
    if ranks and memory_gb is not None and ranks * memory_gb * 1e9 < size_gib * GIB:
        yield leaf.finding(
            "CKP-01",
            "error",
            f"{ranks} {accelerator} of {memory_gb:g} GB do not hold a checkpoint "
            f"of {size_gib:,.2f} GiB (Rules 4.3.4)",
        )
    if memory_gb is None:
        yield leaf.finding(
            "CKP-01",
            "info",
            "whether the accelerators hold a checkpoint is not known: nothing "
            "names one (Rules 4.3.4)",
        )


def _judge_rates(leaf: LeafDocuments, phases: Sequence[str]) -> Iterator[Finding]:
    """UPS-07: the published mean of rates, beside size over mean time."""
    summary = leaf.named(SUMMARY)
    size_gib = number_at(summary, "metric.checkpoint_size_GB")
    for phase in phases:
        rate = number_at(summary, f"metric.{phase}_checkpoint_io_mean_GB_per_second")
        took_s = number_at(summary, f"metric.{phase}_checkpoint_duration_mean_seconds")
        if not size_gib or rate is None or took_s is None or took_s <= 0:
            continue
        whole = size_gib / took_s
        if abs(rate / whole - 1) > RATE_SHARE:
            yield leaf.finding(
                "UPS-07",
                "error",
                f"{phase} is told as {rate:.3f} GiB/s, {size_gib:,.2f} GiB in "
                f"{took_s:.2f} s come to {whole:.3f} GiB/s",
                file=SUMMARY,
            )
        window_s = run_s(leaf)
        if window_s is not None and 0 < window_s < took_s:
            yield leaf.finding(
                "RES-04",
                "error",
                f"{phase} takes {took_s:.2f} s on average, longer than the run of {window_s:.2f} s",
                file=SUMMARY,
            )


def _judge_memory(leaf: LeafDocuments) -> Iterator[Finding]:
    """CKP-04: data of a client against some times its memory (Rules 4.3.1)."""
    memory = [size for size in (measured_memory_bytes(leaf), declared_memory_bytes(leaf)) if size]
    size_gib = number_at(leaf.named(SUMMARY), "metric.checkpoint_size_GB")
    if not memory or size_gib is None or "load" not in phases_of(leaf):
        return
    if size_gib * GIB <= memory_times() * max(memory):
        yield leaf.finding(
            "CKP-04",
            "warning",
            f"a checkpoint of {size_gib:,.2f} GiB is at most {memory_times():g} "
            f"times the memory of {max(memory) / GIB:,.2f} GiB, and nothing shows that caches were "
            "flushed before it was read (Rules 4.3.1)",
        )


def run_s(leaf: LeafDocuments) -> float | None:
    """Seconds from start to end, by the summary."""
    summary = leaf.named(SUMMARY)
    start, end = moment_at(summary, "start"), moment_at(summary, "end")
    return None if start is None or end is None else end - start


def judge_pair(leaves: Sequence[LeafDocuments]) -> Iterator[Finding]:
    """CKP-05, CKP-08: writes, then reads, in one leaf or in two with little time between them."""
    written = [leaf for leaf in leaves if "save" in phases_of(leaf)]
    read = [leaf for leaf in leaves if "load" in phases_of(leaf)]
    if leaves and not (written and read):
        which = "written" if not written else "read"
        yield leaves[0].finding("CKP-08", "error", f"no checkpoint was {which}")
        return
    for before, after in zip(written, read, strict=False):
        if before is after:
            continue
        ended = moment_at(before.metadata, "invocation_end_time")
        begun = moment_at(after.metadata, "invocation_start_time")
        # Both of metadata or both of summaries: one is in UTC, the other in local time.
        if ended is None or begun is None:
            ended = moment_at(before.named(SUMMARY), "end")
            begun = moment_at(after.named(SUMMARY), "start")
        if ended is None or begun is None:
            yield after.finding("CKP-05", "error", "the time between writes and reads is not known")
        elif begun < ended:
            yield after.finding(
                "CKP-05",
                "error",
                f"reads start {ended - begun:.1f} s before writes end: they are "
                "out of order, or clocks differ",
            )
        elif begun - ended > checkpoint_form().gap_s_most:
            yield after.finding(
                "CKP-05",
                "error",
                f"reads start {begun - ended:.1f} s after the last write, at "
                f"most {checkpoint_form().gap_s_most:g} s are allowed (Rules 4.7.1)",
            )
        yield from _judge_same(before, after)


def _judge_same(before: LeafDocuments, after: LeafDocuments) -> Iterator[Finding]:
    for key in ("num_accelerators", "num_hosts", "hostname", "metric.checkpoint_size_GB"):
        one, other = value_at(before.named(SUMMARY), key), value_at(after.named(SUMMARY), key)
        if one is not None and other is not None and one != other:
            yield after.finding(
                "UPS-08",
                "warning",
                f"{key} is {shown(other)}, and {shown(one)} where the checkpoints were written",
            )


def rates_of(leaf: LeafDocuments) -> Mapping[str, float | None]:
    """The metrics of a row: GiB/s and seconds of each phase."""
    summary = leaf.named(SUMMARY)
    return {
        "write_gib_s": number_at(summary, "metric.save_checkpoint_io_mean_GB_per_second"),
        "read_gib_s": number_at(summary, "metric.load_checkpoint_io_mean_GB_per_second"),
        "write_s": number_at(summary, "metric.save_checkpoint_duration_mean_seconds"),
        "read_s": number_at(summary, "metric.load_checkpoint_duration_mean_seconds"),
    }
