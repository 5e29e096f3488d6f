"""Which metrics stand first, by family: name in result.json, words, unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..canonical import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A metric that is shown first; with its name in result.json, what it is, and its unit."""

    name: str
    label: str
    unit: str


def _rows(*rows: tuple[str, str, str]) -> tuple[Headline, ...]:
    return tuple(Headline(name=name, label=label, unit=unit) for name, label, unit in rows)


TRAINING = _rows(
    ("au_nominal_pct", "accelerator utilisation (AU)", "%"),
    ("train_gib_s", "read by training", "GiB/s"),
    ("samples_per_s", "samples read", "samples/s"),
    ("au_worst_rank_pct", "AU of the worst rank and epoch", "%"),
)
CHECKPOINTING = _rows(
    ("save_gib_s", "checkpoint write", "GiB/s"),
    ("save_s", "time to write a checkpoint", "s"),
    ("load_gib_s", "checkpoint read", "GiB/s"),
    ("load_s", "time to read a checkpoint", "s"),
)
VECTORDB = _rows(
    ("capacity_qps", "highest rate within the limit", "queries/s"),
    ("qps", "query rate", "queries/s"),
    ("recall_mean", "recall, mean", ""),
    ("latency_p95_ms", "query latency p95", "ms"),
    ("latency_p99_ms", "query latency p99", "ms"),
    ("query_read_gib_s", "read by queries", "GiB/s"),
)
KVCACHE = _rows(
    ("capacity_requests_per_s", "highest rate within the limit", "requests/s"),
    ("read_gib_s", "read", "GiB/s"),
    ("write_gib_s", "write", "GiB/s"),
    ("requests_per_s", "request rate", "requests/s"),
    ("prefix_load_p95_ms", "prefix load p95", "ms"),
    ("read_p95_ms", "read latency p95", "ms"),
)


def headlines_of(values: Document) -> Sequence[Headline]:
    """The metrics to show first of a stage's values, those that there are."""
    if "au_nominal_pct" in values:
        rows = TRAINING
    elif "save_gib_s" in values or "load_gib_s" in values:
        rows = CHECKPOINTING
    elif "qps" in values:
        rows = VECTORDB
    else:
        rows = KVCACHE
    return [row for row in rows if row.name in values and values[row.name]["mean"] is not None]
