"""The published numbers of archives as tables for people, as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from . import archive as files
from .archive import Archive
from .canonical import Document
from .errors import ArchiveError
from .tables import csv_text, write_table
from .units import GIB

# What a table shows of a direction, in order: metric name without its direction, label.
DIRECTION_ROWS = (
    ("gib_s", "GiB/s"),
    ("ops_per_s", "operations/s"),
    ("mean_ms", "latency mean, ms"),
    ("p50_ms", "latency p50, ms"),
    ("p95_ms", "latency p95, ms"),
    ("p99_ms", "latency p99, ms"),
    ("p99_worst_rank_ms", "latency p99 of the worst rank, ms"),
    ("max_ms", "latency max, ms"),
)

CSV_HEADER = (
    "run_id", "benchmark", "verdict", "stage", "option", "trials", "metric", "mean", "min", "max",
    "cv_pct", "ci95_low", "ci95_high",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What an archive publishes: result.json and verdict.json."""

    archive: Archive
    result: Document
    verdict: Document

    def as_document(self) -> Document:
        return {
            "path": str(self.archive.root),
            "verdict": self.verdict["verdict"],
            "findings": self.verdict["findings"],
            "result": self.result,
        }


def read_published(archive: Archive) -> Published:
    """The published numbers of a sealed archive. Raises ArchiveError."""
    if not archive.sealed:
        raise ArchiveError(
            f"{archive.root} is not sealed: its job is still running, or was killed",
            hint=f"mlps resume {archive.root}",
        )
    result = files.read_document(archive.path(files.RESULT))
    verdict = files.read_document(archive.path(files.VERDICT))
    required = ("run_id", "benchmark", "status", "metrics", "ranks", "hosts", "failure")
    if not isinstance(result, dict) or any(key not in result for key in required):
        raise ArchiveError(f"{archive.path(files.RESULT)} is no result")
    if not isinstance(verdict, dict) or "verdict" not in verdict or "findings" not in verdict:
        raise ArchiveError(f"{archive.path(files.VERDICT)} is no verdict")
    return Published(archive=archive, result=result, verdict=verdict)


def write_report(out: TextIO, published: Published) -> None:
    """One archive for a reader: what ran, the verdict, the numbers, the findings."""
    result = published.result
    ranks = _count(result["ranks"], "rank")
    out.write(
        f"{result['benchmark']} on {ranks}, {_count(result['hosts'], 'host')}: "
        f"{result['status']}, verdict {published.verdict['verdict']}\n"
    )
    for summary in result["metrics"]:
        _write_summary(out, summary)
    for finding in published.verdict["findings"]:
        if finding["severity"] != "info":
            place = f" {finding['key']}" if finding["key"] else ""
            out.write(f"{finding['severity']} {finding['rule']}{place}: {finding['text']}\n")


def _write_summary(out: TextIO, summary: Document) -> None:
    option = f", option {summary['option']}" if summary["option"] else ""
    trials = f"{summary['trials']} of {_count(summary['trials_planned'], 'trial')}"
    if not summary["complete"]:
        out.write(f"{summary['stage']}{option}: {trials}; no numbers, because some are missing\n")
        return
    values = summary["values"]
    rows = [
        (label, *(_mean(values, f"{direction}_{name}") for direction in ("read", "write")))
        for name, label in DIRECTION_ROWS
    ]
    out.write(f"{summary['stage']}{option}, mean of {_count(summary['trials'], 'trial')}\n")
    write_table(out, ("", "read", "write"), [row for row in rows if any(row[1:])], right=(1, 2))
    out.write("\n".join(_facts(values)) + "\n")


def _facts(values: Document) -> Iterator[str]:
    for name in ("request", "queue"):
        if f"{name}_p50_ms" in values:
            shown = ", ".join(
                f"{q} {_mean(values, f'{name}_{q}_ms')}" for q in ("p50", "p95", "p99")
            )
            yield f"{name} latency, ms: {shown}"
    for suffix, unit in (("_per_s", "/s"), ("_pct", " %")):
        own = [name for name in values if name.endswith(suffix) and not _is_common(name)]
        if own:
            yield ", ".join(
                f"{name.removesuffix(suffix).replace('_', ' ')} {_mean(values, name)}{unit}"
                for name in own
            )
    if "cpu_s_per_gib" in values:
        yield f"client CPU {values['cpu_s_per_gib']['mean']:.3f} s per GiB"
    if "verified_bytes" in values:
        yield (
            f"verified {values['verified_bytes']['mean'] / GIB:.2f} GiB, "
            f"{values['verify_mismatches']['max']:.0f} mismatches"
        )
    shares = [
        f"{direction} {values[f'device_{direction}_pct']['mean']:.1f} %"
        for direction in ("read", "write")
        if f"device_{direction}_pct" in values
    ]
    if shares:
        yield f"of these bytes the block device moved: {', '.join(shares)}"
    if "window_s" in values:
        yield (
            f"window {values['window_s']['mean']:.2f} s, drain {values['drain_s']['max']:.2f} s, "
            f"peak memory of a rank {values['peak_rss_max_mib']['max']:.0f} MiB"
        )


def _is_common(name: str) -> bool:
    """Whether a rate or share has a place of its own in every report."""
    return name.endswith("_ops_per_s") or name.startswith("device_")


def csv_report(reports: Sequence[Published]) -> str:
    """One line per archive, stage, option and metric; full precision."""
    rows = [
        (
            published.result["run_id"],
            published.result["benchmark"],
            published.verdict["verdict"],
            summary["stage"],
            summary["option"] or "",
            str(summary["trials"]),
            name,
            *(_cell(spread[column]) for column in CSV_HEADER[7:]),
        )
        for published in reports
        for summary in published.result["metrics"]
        for name, spread in summary["values"].items()
    ]
    return csv_text(CSV_HEADER, rows)


def headline(result: Document) -> str:
    """The few numbers that a table of many jobs shows of one."""
    parts = []
    for summary in result["metrics"]:
        values = summary["values"]
        rates = [
            f"{direction} {values[f'{direction}_gib_s']['mean']:.2f} GiB/s"
            for direction in ("read", "write")
            if f"{direction}_gib_s" in values
        ]
        prefix = f"{summary['option']}: " if summary["option"] else ""
        parts += [prefix + ", ".join(rates)] if rates else []
    return "; ".join(parts)


def _mean(values: Document, name: str) -> str:
    if name not in values:
        return ""
    mean = values[name]["mean"]
    return f"{mean:,.0f}" if mean >= 1000 else f"{mean:.3f}"


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
