"""The parts of a page that one family alone has: epochs, checkpoints, recall against rate."""

from __future__ import annotations

from collections.abc import Iterator

from ..canonical import Document
from .axes import number
from .markup import figure, grid, section, table
from .sections import named
from .source import Source
from .svg import Axis, Line, bar_chart, line_chart


def epochs(source: Source) -> str:
    """Utilisation of every epoch and trial: the one that is judged, and that of the worst rank."""
    figures = []
    for title, notes, entries in _of_trials(source, "epochs"):
        asked_pct = (notes.get("training") or {}).get("au_least_pct")
        drawn = {
            "mean of ranks": [each["au_nominal_pct"] for each in entries],
            "worst rank": [each["au_worst_rank_pct"] for each in entries],
            "asked for": [] if asked_pct is None else [asked_pct] * len(entries),
        }
        lines = [
            Line(
                name=name,
                points=[(each["epoch"], y) for each, y in zip(entries, values, strict=True)],
                dots=name != "asked for",
            )
            for name, values in drawn.items()
            if values
        ]
        chart = line_chart(
            f"Accelerator utilisation of {title}", lines, Axis(label="epoch"), Axis(label="AU, %")
        )
        rows = [
            (str(each["epoch"]), *(number(each.get(name)) for name in _EPOCH)) for each in entries
        ]
        data = table(("epoch", *_EPOCH.values()), rows, right=range(6))
        figures.append(figure(chart, title, legend=[line.name for line in lines], data=data))
    return section("Utilisation by epoch", grid(figures))


_EPOCH = {
    "au_nominal_pct": "AU, %",
    "au_dlio_pct": "DLIO's AU, %",
    "au_worst_rank_pct": "worst rank, %",
    "wall_s": "s",
    "train_gib_s": "GiB/s",
}


def checkpoints(source: Source) -> str:
    """How long every checkpoint took."""
    figures = []
    for title, _, entries in _of_trials(source, "checkpoints"):
        bars = [(str(each["number"]), each["wall_s"]) for each in entries if "number" in each]
        chart = bar_chart(f"Checkpoints of {title}", bars, "checkpoint", Axis(label="s"))
        rows = [
            (str(each["number"]), number(each["wall_s"]), number(each.get("gib_s")))
            for each in entries
            if "number" in each
        ]
        data = table(("checkpoint", "s", "GiB/s"), rows, right=range(3))
        figures.append(figure(chart, title, data=data))
    return section("Duration of checkpoints", grid(figures))


def recall(source: Source) -> str:
    """What recall costs: the rate at each value of the sweep, beside that of the runs."""
    figures = []
    for summary in source.result["metrics"]:
        swept = [
            each
            for each in summary["notes"].get("sweep", [])
            if each.get("recall_mean") is not None
        ]
        if not swept:
            continue  # runs have one recall, which is among the numbers
        curve = sorted((each["recall_mean"], each["qps"]) for each in swept)
        lines = [Line(name="sweep", points=curve, dots=True)]
        means = {name: each["mean"] for name, each in summary["values"].items()}
        if "qps" in means and "recall_mean" in means:
            run = (means["recall_mean"], means["qps"])
            lines.append(Line(name="mean of the runs", points=[run], dots=True))
        chart = line_chart(
            f"Queries per second over recall of {named(summary)}",
            lines,
            Axis(label="recall"),
            Axis(label="queries/s"),
        )
        rows = [
            (
                str(each.get("value", "")),
                number(each["recall_mean"]),
                number(each["qps"]),
                number(each.get("latency_p95_ms")),
                "yes" if each["front"] else "",
            )
            for each in swept
        ]
        parameter = str(swept[0].get("parameter", "value"))
        header = (parameter, "recall", "queries/s", "p95, ms", "no other has more of both")
        data = table(header, rows, right=range(4))
        legend = [line.name for line in lines]
        figures.append(figure(chart, named(summary), legend=legend, data=data))
    return section("Recall and rate", grid(figures))


_AGGREGATES = {
    "aggregated_read_bandwidth_gbps": "read, GiB/s",
    "aggregated_write_bandwidth_gbps": "write, GiB/s",
    "aggregated_avg_throughput_tokens_per_sec": "tokens/s",
    "aggregated_storage_throughput_tokens_per_sec": "tokens/s of storage time",
    "aggregated_device_read_p95_ms": "entry read p95, ms",
    "aggregated_device_write_p95_ms": "entry write p95, ms",
    "aggregated_p95_latency_ms": "request p95, ms",
}


def aggregates(source: Source) -> str:
    """The figures of Rules 6.3.4 for kvcache, of each option."""
    entries = source.result.get("aggregates", [])
    columns = [name for name in _AGGREGATES if any(entry[name] for entry in entries)]
    rows = [
        (named(entry), str(entry["trial_count"]), *(number(entry[name]) for name in columns))
        for entry in entries
    ]
    header = ("", "trials", *(_AGGREGATES[name] for name in columns))
    note = "As Rules 6.3.4 ask: sums over ranks, means over trials, latencies of the worst rank."
    shown = table(header, rows, right=range(1, len(header)))
    return section("Aggregates", shown, note=note)


def _of_trials(source: Source, key: str) -> Iterator[tuple[str, Document, list[Document]]]:
    """Title, notes and the entries of a key, of each trial that has some."""
    for summary in source.result["metrics"]:
        notes = summary.get("notes", {})
        for trial, entries in enumerate(notes.get(key, [])):
            if entries:
                several = summary["trials"] > 1
                yield named(summary) + (f", trial {trial}" if several else ""), notes, entries
