"""The published numbers of archives as tables for people, as CSV and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, TextIO

from . import archive as files
from .archive import Archive
from .canonical import Document
from .checkpoint_report import (
    CHECKPOINT_METRICS,
    checkpoint_headline,
    phase_of,
    write_checkpoints,
    write_partial,
)
from .errors import ArchiveError
from .evidence import FORM_ERRORS
from .tables import csv_text, numbered, printable, write_table
from .training_report import TRAINING_METRICS, headline_of, is_training, write_training
from .units import GIB
from .vector_report import VECTOR_METRICS, is_search, vector_headline, write_vectors

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

# Begin of names of rates and shares that are no count of the benchmark's own.
COMMON = (
    "device_", "mount_", "network_", "capacity_", "roofline_", "of_roofline_", "working_set_",
    "drift_", "bins_", "host_",
)  # fmt: skip

# A network that carried less reads as 0.00.
LEAST_SHOWN_GIB_S = 0.005

NO_CAPACITY = "no rate met the limit"

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
    """The published numbers of an archive as they can be shown. Raises ArchiveError."""
    result, verdict = read_documents(archive)
    return Published(archive=archive, result=_shown(result), verdict=_shown(verdict))


def read_documents(archive: Archive) -> tuple[Document, Document]:
    """Result and verdict as they were sealed. Raises ArchiveError where they are not."""
    if not archive.sealed:
        raise ArchiveError(
            f"{archive.root} is not sealed: its job is still running, or was killed",
            hint=f"mlps resume {archive.root}",
        )
    result, verdict = files.read_sealed(archive, files.RESULT, files.VERDICT)
    required = ("run_id", "benchmark", "status", "metrics", "ranks", "hosts", "failure")
    if not isinstance(result, dict) or any(key not in result for key in required):
        raise ArchiveError(f"{archive.path(files.RESULT)} is no result")
    if not isinstance(result["metrics"], list) or not isinstance(result["failure"], dict | None):
        raise ArchiveError(f"{archive.path(files.RESULT)} is no result")
    if not isinstance(verdict, dict) or "verdict" not in verdict or "findings" not in verdict:
        raise ArchiveError(f"{archive.path(files.VERDICT)} is no verdict")
    return result, verdict


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever JSON an archive holds
    """A document whose texts can be shown: what moves a cursor is escaped in them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if isinstance(value, dict):
        return {printable(key): _shown(each) for key, each in value.items()}
    return value


def readable(published: Published) -> Published:
    """The same, once its documents have shown that a report can be made of them.

    Raises ArchiveError where they are of another form.
    """
    try:
        write_report(StringIO(), published)
        csv_report([published])
        headline(published.result)
    except FORM_ERRORS as error:
        raise other_form(published.archive, error) from error
    return published


def other_form(archive: Archive, error: Exception) -> ArchiveError:
    """Results that this version of mlps cannot show."""
    return ArchiveError(
        f"{archive.root}: its results are of another form than this version of mlps "
        f"writes: {type(error).__name__}: {error}",
        hint=f"mlps verify {archive.root}",
    )


def write_report(out: TextIO, published: Published) -> None:
    """One archive for a reader: what ran, the verdict, the numbers, the findings."""
    result = published.result
    ranks = numbered(result["ranks"], "rank")
    out.write(
        f"{result['benchmark']} on {ranks}, {numbered(result['hosts'], 'host')}: "
        f"{result['status']}, verdict {published.verdict['verdict']}\n"
    )
    apart = len(result["metrics"]) > 1
    for summary in result["metrics"]:
        out.write("\n" if apart else "")
        _write_summary(out, summary)
    findings = list(_findings(published.verdict["findings"]))
    out.write("\n" if apart and findings else "")
    out.writelines(f"{line}\n" for line in findings)


def _findings(findings: Sequence[Document]) -> Iterator[str]:
    """Errors and warnings; what was found in several stages is told once."""
    keys: dict[tuple[str, str, str, str], list[str]] = {}
    for finding in findings:
        if finding["severity"] != "info":
            host = finding["host"] or ""
            about = (finding["severity"], finding["rule"], host, finding["text"])
            keys.setdefault(about, []).append(finding["key"])
    for (severity, rule, host, text), places in keys.items():
        place = " ".join(filter(None, (host, ", ".join(filter(None, places)))))
        yield f"{severity} {rule}{f' {place}' if place else ''}: {text}"


def _write_summary(out: TextIO, summary: Document) -> None:
    option = f", option {summary['option']}" if summary["option"] else ""
    trials = f"{summary['trials']} of {numbered(summary['trials_planned'], 'trial')}"
    values, notes = summary["values"], summary.get("notes", {})
    if not summary["complete"]:
        out.write(f"{summary['stage']}{option}: {trials}; no numbers, because some are missing\n")
        write_partial(out, notes)
        return
    out.write(f"{summary['stage']}{option}, mean of {numbered(summary['trials'], 'trial')}\n")
    if "search" in notes:
        out.write(f"{_capacity(values) or NO_CAPACITY}\n")
    for trial, search in enumerate(notes.get("search", [])):
        _write_search(out, search, f" of trial {trial}" if summary["trials"] > 1 else "")
    directions: tuple[str, ...] = ("read", "write")
    shown: Sequence[tuple[str, str]] = DIRECTION_ROWS
    if "training" in notes and is_training(values):
        write_training(out, values, notes)
        # Throughput is that of epochs; here evaluations and checkpoints are in it.
        directions = tuple(each for each in directions if f"{each}_ops_per_s" in values)
        shown = DIRECTION_ROWS[1:]
    if "checkpointing" in notes:
        write_checkpoints(out, values, notes)
        # Throughput is that of checkpoints; here the pauses between them are in it.
        directions = tuple(each for each in directions if f"{each}_ops_per_s" in values)
        shown = DIRECTION_ROWS[2:]
    if "vectordb" in notes and is_search(values):
        write_vectors(out, values, notes)
    rows = [
        (label, *(_mean(values, f"{direction}_{name}") for direction in directions))
        for name, label in shown
    ]
    rows = [row for row in rows if any(row[1:])]
    if rows:
        write_table(out, ("", *directions), rows, right=range(1, len(directions) + 1))
    out.writelines(f"{line}\n" for line in _facts(values, notes))


def _write_search(out: TextIO, search: Document, of_trial: str) -> None:
    latency = f"prefix load {search['percentile']}"
    out.write(
        f"search{of_trial} for the highest rate with {latency} <= {search['limit_ms']:g} ms\n"
    )
    rows = [
        (
            _number(probe["rate_per_s"]),
            _number(probe["completed_per_s"]),
            _number(probe["prefix_load_ms"]),
            ("met" if probe["met"] else "missed")
            + (" when confirmed" if probe["purpose"] == "confirm" else ""),
        )
        for probe in search["probes"]
    ]
    header = ("requests/s", "completed/s", f"{latency}, ms", "limit")
    write_table(out, header, rows, right=(0, 1, 2))


def _facts(values: Document, notes: Document) -> Iterator[str]:
    """One line each, from what users wait for to what it cost and how far to trust it."""
    if "measured_by" in notes:
        yield from _foreign(values, notes)
        return
    yield from _latencies(values)
    yield from _measures(values)
    entries = _directions(values, "entry_{}_p95_ms", "")
    if entries:
        yield f"entry latency p95, ms: {entries}"
    if "cpu_s_per_gib" in values:
        switches = _mean(values, "context_switches_per_gib")
        yield f"client CPU {values['cpu_s_per_gib']['mean']:.3f} s per GiB" + (
            f", {switches} context switches per GiB" if switches else ""
        )
    if "host_cpu_busy_pct" in values:
        yield _hosts(values)
    compares = not (is_training(values) or is_search(values) or phase_of(values) == "save")
    if "verified_bytes" in values and (compares or not _nothing_compared(values)):
        yield (
            f"verified {values['verified_bytes']['mean'] / GIB:.2f} GiB, "
            f"{values['verify_mismatches']['max']:.0f} mismatches"
        )
    for kind, who in (("device", "block device"), ("mount", "mount")):
        shares = _directions(values, f"{kind}_{{}}_pct", " %", digits=1)
        if shares:
            yield f"of these bytes the {who} moved: {shares}"
    if phase_of(values) is None and (counted := "; ".join(_counted(values))):
        yield counted
    if "of_roofline_pct" in values:
        yield _roofline(values, notes)
    if "working_set_to_memory_pct" in values:
        yield (
            f"working set {values['working_set_gib']['mean']:.2f} GiB, "
            f"{values['working_set_to_memory_pct']['mean']:.1f} % of the memory of the hosts "
            f"({values['host_memory_gib']['mean']:.2f} GiB)"
        )
    if "window_s" in values:
        yield _window(values, notes)
    if "deviations" in notes:
        deviations = numbered(len(notes["deviations"]), "stated deviation")
        yield f"{deviations} from upstream: see result.json"


def _foreign(values: Document, notes: Document) -> Iterator[str]:
    """All that a foreign program reports and that has no place in the table of directions."""
    yield from (f"{name}: {_mean(values, name)}" for name in _foreign_names(values))
    if "program_cpu_s" in values:
        yield (
            f"ran {values['program_elapsed_s']['mean']:.2f} s, CPU "
            f"{values['program_cpu_s']['mean']:.2f} s, peak memory of a process "
            f"{values['program_peak_rss_max_mib']['max']:.0f} MiB"
        )
    if "host_cpu_busy_pct" in values:
        yield _hosts(values)
    yield f"measured by {', '.join(notes['measured_by'])}, not by mlps"


def _foreign_names(values: Document) -> list[str]:
    """Metrics that only the foreign program's benchmark names."""
    known = {f"{word}_{name}" for word in ("read", "write") for name, _ in DIRECTION_ROWS}
    own = ("program_", "host_")
    return [name for name in values if name not in known and not name.startswith(own)]


def _nothing_compared(values: Document) -> bool:
    return not values["verified_bytes"]["max"] and not values["verify_mismatches"]["max"]


def _foreign_headline(values: Document) -> str:
    rates = _directions(values, "{}_gib_s", " GiB/s", digits=2)
    names = _foreign_names(values)[:2]
    return rates or ", ".join(f"{name} {_mean(values, name)}" for name in names)


def _counted(values: Document) -> Iterator[str]:
    """What moved in the window by the counts of those that moved it; a network only if it did."""
    for who, names in (
        ("block device", (("device_read", "read"), ("device_write", "write"))),
        ("mount", (("mount_read", "read"), ("mount_write", "write"))),
        ("network", (("network_receive", "received"), ("network_send", "sent"))),
    ):
        rates = [
            (verb, values[f"{name}_gib_s"]["mean"])
            for name, verb in names
            if f"{name}_gib_s" in values
        ]
        if who != "network" or any(rate >= LEAST_SHOWN_GIB_S for _, rate in rates):
            shown = ", ".join(f"{verb} {rate:.2f} GiB/s" for verb, rate in rates)
            yield from [f"{who} {shown}"] if rates else []


def _latencies(values: Document) -> Iterator[str]:
    for name in ("prefix_load", "request", "queue"):
        if f"{name}_p50_ms" in values:
            shown = ", ".join(
                f"{q} {_mean(values, f'{name}_{q}_ms')}" for q in ("p50", "p95", "p99")
            )
            yield f"{name.replace('_', ' ')} latency, ms: {shown}"


def _measures(values: Document) -> Iterator[str]:
    """The benchmark's own rates in one line, its ratios in another."""
    for suffix, unit in (("_per_s", "/s"), ("_pct", " %")):
        own = [name for name in values if name.endswith(suffix) and not _is_common(name)]
        if own:
            yield ", ".join(
                f"{name.removesuffix(suffix).replace('_', ' ')} {_mean(values, name)}{unit}"
                for name in own
            )


def _is_common(name: str) -> bool:
    """Whether a rate or share has a place of its own in every report."""
    return name.endswith("_ops_per_s") or name.startswith(
        (*COMMON, *TRAINING_METRICS, *CHECKPOINT_METRICS, *VECTOR_METRICS)
    )


def _capacity(values: Document) -> str:
    """The highest rate that met the limit, with its latency and throughput; or nothing."""
    if "capacity_requests_per_s" not in values:
        return ""
    (latency,) = (name for name in values if name.startswith("capacity_prefix_load_"))
    percentile = latency.removeprefix("capacity_prefix_load_").removesuffix("_ms")
    rates = _directions(values, "capacity_{}_gib_s", " GiB/s")
    return (
        f"capacity {_mean(values, 'capacity_requests_per_s')} requests/s, prefix load "
        f"{percentile} {_mean(values, latency)} ms, {rates}"
    )


def _roofline(values: Document, notes: Document) -> str:
    apart = ""
    if "roofline_spread_pct" in values:
        apart = f"; before and after {values['roofline_spread_pct']['max']:.1f} % apart"
    return (
        f"{values['of_roofline_pct']['mean']:.1f} % of the roofline "
        f"({', '.join(notes['roofline'])}: {_directions(values, 'roofline_{}_gib_s', ' GiB/s')}, "
        f"{values['roofline_cpu_s_per_gib']['mean']:.3f} CPU s per GiB{apart})"
    )


def _hosts(values: Document) -> str:
    busy, worst = values["host_cpu_busy_pct"], values["host_cpu_busy_worst_host_pct"]
    pressures = [
        f"waiting for {what} {values[name]['mean']:.1f} % of the time"
        for what, name in (("I/O", "host_io_pressure_pct"), ("memory", "host_memory_pressure_pct"))
        if name in values
    ]
    busiest = f" (the busiest {worst['max']:.1f} %)" if worst["max"] > busy["mean"] else ""
    return ", ".join([f"hosts: processors busy {busy['mean']:.1f} %{busiest}", *pressures])


def _window(values: Document, notes: Document) -> str:
    cut = f" (cut: {'; '.join(notes['window_cut'])})" if "window_cut" in notes else ""
    drift = f", drift {values['drift_pct']['mean']:+.1f} %" if "drift_pct" in values else ""
    return (
        f"window {values['window_s']['mean']:.2f} s{cut}, drain {values['drain_s']['max']:.2f} s"
        f"{drift}, peak memory of a rank {values['peak_rss_max_mib']['max']:.0f} MiB"
    )


def _directions(values: Document, form: str, unit: str, *, digits: int | None = None) -> str:
    """`read 1.000 GiB/s, write 2.000 GiB/s` of the directions that there are."""
    return ", ".join(
        f"{direction} {_number(values[name]['mean'], digits)}{unit}"
        for direction in ("read", "write")
        if (name := form.format(direction)) in values
    )


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
    """The few numbers that a table of many jobs shows of one: a capacity, or throughput."""
    parts = []
    for summary in result["metrics"]:
        values = summary["values"]
        if "search" in summary.get("notes", {}):
            shown = _capacity(values) or NO_CAPACITY
        else:
            own = headline_of(values) or checkpoint_headline(values) or vector_headline(values)
            shown = own or _directions(values, "{}_gib_s", " GiB/s", digits=2)
            if "measured_by" in summary.get("notes", {}):
                shown = _foreign_headline(values)
        prefix = f"{summary['option']}: " if summary["option"] else ""
        parts += [prefix + shown] if shown else []
    return "; ".join(parts)


def _mean(values: Document, name: str) -> str:
    return _number(values[name]["mean"]) if name in values else ""


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return ""
    if digits is not None:
        return f"{value:.{digits}f}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
