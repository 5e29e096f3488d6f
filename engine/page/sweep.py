"""The page of a sweep: a table of its jobs, and each headline number over each key that varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..canonical import Document
from ..tables import numbered
from . import sections
from .axes import number
from .document import whole
from .headlines import Headline, headlines_of
from .markup import figure, grid, section, table, text
from .svg import Axis, Line, bar_chart, line_chart

FIGURES_DRAWN = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptJob:
    """One job of a sweep: its entry in sweep.json and, where it has an archive, its result."""

    entry: Document
    result: Document | None

    def varied(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The values of the keys that the sweep varies."""
        told = dict(word.lstrip("+").partition("=")[::2] for word in self.entry["overrides"])
        return {key: told[key] for key in keys if key in told}


def sweep_page(document: Document, jobs: Sequence[SweptJob]) -> bytes:
    """The page of a sweep; the same documents give the same bytes."""
    swept = [str(key) for key in document["swept"]]
    counts = ", ".join(
        f"{sum(job.entry['verdict'] == name for job in jobs)} {name}"
        for name in dict.fromkeys(job.entry["verdict"] or "none" for job in jobs)
    )
    inner = (
        f"<header><h1>Sweep over {text(', '.join(swept))}</h1>"
        f'<p class="sub">{text(document["sweep"])}</p>'
        f"<p>{text(numbered(len(jobs), 'job'))}: {text(counts)}</p>"
        f"<p><code>mlps -m {text(' '.join(document['overrides']))}</code></p></header>"
        + section("Curves", grid(_curves(swept, jobs)[:FIGURES_DRAWN]))
        + section("Jobs", _jobs(swept, jobs))
        + sections.pairs((("exit code", document["exit_code"]),))
    )
    return whole(f"Sweep over {', '.join(swept)}", inner)


def _jobs(swept: Sequence[str], jobs: Sequence[SweptJob]) -> str:
    rows = [
        (
            str(job.entry["number"]),
            *(job.varied(swept).get(key, "") for key in swept),
            job.entry["status"],
            job.entry["verdict"] or "",
            job.entry["headline"] or job.entry["message"] or "",
            (job.entry["archive"] or "").rpartition("/")[2],
        )
        for job in jobs
    ]
    return table(("job", *swept, "status", "verdict", "result", "archive"), rows, right=(0,))


def _curves(swept: Sequence[str], jobs: Sequence[SweptJob]) -> list[str]:
    """A figure per key, stage and headline number; one line per value of all other keys."""
    figures = []
    for key in swept:
        found: dict[tuple[str, Headline], dict[str, list[tuple[str, float]]]] = {}
        for job in jobs:
            values = job.varied(swept)
            if key not in values or job.result is None:
                continue
            rest = ", ".join(f"{name}={value}" for name, value in values.items() if name != key)
            for summary in job.result["metrics"] if job.result["metrics"] else ():
                if summary["complete"]:
                    for row in headlines_of(summary["values"]):
                        place = (sections.named(summary), row)
                        mean = summary["values"][row.name]["mean"]
                        point = (values[key], mean)
                        found.setdefault(place, {}).setdefault(rest, []).append(point)
        for place, lines in found.items():
            figures += _figures(key, *place, lines)
    return figures


def _figures(
    key: str, stage: str, row: Headline, found: Mapping[str, Sequence[tuple[str, float]]]
) -> list[str]:
    """One chart of all lines; of values that are no numbers, bars for each value of the others."""
    if all(_is_number(value) for points in found.values() for value, _ in points):
        return [_curve(key, stage, row, found)]
    return [_bars(key, stage, row, rest, points) for rest, points in found.items()]


def _bars(
    key: str, stage: str, row: Headline, rest: str, points: Sequence[tuple[str, float]]
) -> str:
    unit = row.unit or row.label
    title = f"{stage}: {row.label}" + (f", {rest}" if rest else "")
    data = table((key, unit), [(value, number(mean)) for value, mean in points], right=(1,))
    return figure(bar_chart(title, points, key, Axis(label=unit)), title, data=data)


def _curve(
    key: str, stage: str, row: Headline, found: Mapping[str, Sequence[tuple[str, float]]]
) -> str:
    title, unit = f"{stage}: {row.label}", row.unit or row.label
    rows = [(rest, value, number(mean)) for rest, points in found.items() for value, mean in points]
    lines = [
        Line(
            name=rest or row.label,
            points=sorted((float(value), mean) for value, mean in points),
            dots=True,
        )
        for rest, points in found.items()
    ]
    chart = line_chart(title, lines, Axis(label=key), Axis(label=unit))
    data = table(("others", key, unit), rows, right=(2,))
    return figure(chart, title, legend=[line.name for line in lines][:6], data=data)


def _is_number(value: str) -> bool:
    try:
        return abs(float(value)) < float("inf")
    except ValueError:
        return False
