"""The results table of a tree: a row for each workload, whatever it lacks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..canonical import Document
from .documents import LeafDocuments, number_at, text_at
from .layout import FAMILY_DIRECTORIES, Family
from .upstream_checkpointing import rates_of
from .upstream_kvcache import OPTIONS, option_metrics
from .upstream_training import accelerator_of, read_gib_s
from .upstream_vectordb import iops_of, recall_of

PREFIX = ("category", "orgname", "systemname", "benchmark_type", "model", "accelerator")
# The columns that reviewers of v3.0 have for each family; a run that warms up does not count.
COLUMNS: dict[Family, tuple[str, ...]] = {
    "training": ("Read B/W (GiB/s)",),
    "checkpointing": (
        "Write B/W (GiB/s)", "Read B/W (GiB/s)", "Write Duration (secs)", "Read Duration (secs)",
    ),
    "vectordb": (
        "Queries per Sec", "Query Latency (ms)", "Recall Percentage", "Storage IOPs",
        "Read B/W (GiB/s)",
    ),
    "kvcache": tuple(
        f"Option {option} {name}"
        for option in OPTIONS
        for name in (
            "Throughput (tok/s)", "Read B/W (GiB/s)", "Write B/W (GiB/s)", "P95 Read Latency (ms)",
        )
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One workload of one system: its metrics in the order of the family's columns."""

    prefix: tuple[str, ...]
    family: Family
    values: tuple[float | None, ...]
    path: str
    issues: int

    def as_document(self) -> Document:
        """What `mlps report --json` holds of a tree."""
        return {
            **dict(zip(PREFIX, self.prefix, strict=True)),
            "metrics": dict(zip(COLUMNS[self.family], self.values, strict=True)),
            "issues": self.issues,
            "path": self.path,
        }


def row_of(path: str, leaves: Sequence[LeafDocuments], issues: int) -> Row:
    """The row of a workload with at least one leaf."""
    first = leaves[0].leaf
    accelerator = next((name for each in leaves if (name := accelerator_of(each))), "")
    return Row(
        prefix=(
            first.division,
            first.org,
            first.system,
            FAMILY_DIRECTORIES[first.family],
            first.model,
            accelerator,
        ),
        family=first.family,
        values=_values(leaves),
        path=path,
        issues=issues,
    )


def _values(leaves: Sequence[LeafDocuments]) -> tuple[float | None, ...]:
    runs = [leaf for leaf in leaves if leaf.leaf.phase in ("run", "")]
    match leaves[0].leaf.family:
        case "training":
            counted = runs[1:] if len(runs) > 5 else runs
            return (_mean([read_gib_s(leaf) for leaf in counted]),)
        case "checkpointing":
            rates = [rates_of(leaf) for leaf in runs]
            names = ("write_gib_s", "read_gib_s", "write_s", "read_s")
            return tuple(_mean([each[name] for each in rates]) for name in names)
        case "vectordb":
            return _search(runs)
        case "kvcache":
            return tuple(
                _mean(list(values))
                for option in OPTIONS
                for values in zip(*(option_metrics(leaf, option) for leaf in runs), strict=True)
            ) or tuple(None for _ in COLUMNS["kvcache"])


def _search(runs: Sequence[LeafDocuments]) -> tuple[float | None, ...]:
    summaries = [leaf.named("summary.json") for leaf in runs]
    recalls = [None if (found := recall_of(leaf)) is None else 100 * found for leaf in runs]
    disks = [iops_of(leaf) for leaf in runs]
    return (
        _mean([number_at(summary, "throughput_qps") for summary in summaries]),
        _mean([number_at(summary, "mean_latency_ms") for summary in summaries]),
        _mean(recalls),
        _mean([reads for reads, _ in disks]),
        _mean([gib_s for _, gib_s in disks]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def has_row(row: Row) -> bool:
    """Whether a workload has any number to publish."""
    return any(value is not None for value in row.values)


def image_of(leaf: LeafDocuments) -> str:
    """The pointer of a leaf to its code image, as it is written."""
    return leaf.texts.get(".mlps-code-image", "").strip() or text_at(leaf.metadata, "code_image")
