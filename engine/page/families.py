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
    """Utilisation of every epoch, of each trial; with the worst rank."""
    figures = []
    for title, entries in _of_trials(source, "epochs"):
        lines = [
            Line(name=word, points=[(each["epoch"], each[name]) for each in entries], dots=True)
            for word, name in (
                ("mean of ranks", "au_dlio_pct"),
                ("worst rank", "au_worst_rank_pct"),
            )
        ]
        chart = line_chart(
            f"Accelerator utilisation of {title}", lines, Axis(label="epoch"), Axis(label="AU, %")
        )
        rows = [
            (
                str(each["epoch"]),
                number(each["au_dlio_pct"]),
                number(each["au_worst_rank_pct"]),
                number(each["wall_s"]),
                number(each["train_gib_s"]),
            )
            for each in entries
        ]
        header = ("epoch", "AU, %", "worst rank, %", "s", "GiB/s")
        data = table(header, rows, right=range(5))
        figures.append(figure(chart, title, legend=[line.name for line in lines], data=data))
    return section("Utilisation by epoch", grid(figures))


def checkpoints(source: Source) -> str:
    """How long every checkpoint took."""
    figures = []
    for title, entries in _of_trials(source, "checkpoints"):
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
    """Recall against queries per second, of all points of a stage."""
    figures = []
    for summary in source.result["metrics"]:
        found = [each for each in _flat(summary, "points") if each.get("recall_mean") is not None]
        points = sorted((each["recall_mean"], each["qps"]) for each in found)
        chart = line_chart(
            f"Queries per second over recall of {named(summary)}",
            [Line(name="point", points=points, dots=True)],
            Axis(label="recall"),
            Axis(label="queries/s"),
        )
        rows = [
            (number(recalled), number(qps)) for recalled, qps in points
        ]  # fmt: skip
        data = table(("recall", "queries/s"), rows, right=(0, 1))
        figures.append(figure(chart, named(summary), data=data))
    return section("Recall and rate", grid(figures))


def _of_trials(source: Source, key: str) -> Iterator[tuple[str, list[Document]]]:
    for summary in source.result["metrics"]:
        for trial, entries in enumerate(summary.get("notes", {}).get(key, [])):
            if entries:
                several = summary["trials"] > 1
                yield named(summary) + (f", trial {trial}" if several else ""), entries


def _flat(summary: Document, key: str) -> Iterator[Document]:
    """Entries of all trials, whether the notes hold one list or one for each trial."""
    for entry in summary.get("notes", {}).get(key, []):
        if isinstance(entry, list):
            yield from entry
        else:
            yield entry
