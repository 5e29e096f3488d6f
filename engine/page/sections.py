"""The parts of a page that every family has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..canonical import Document
from ..latency import percentile_ns
from ..series import windows_of
from ..tables import numbered
from ..units import GIB
from .axes import number
from .headlines import headlines_of
from .markup import details, figure, grid, section, table, text
from .samples import Rates, thinned
from .source import Source
from .svg import Axis, Line, line_chart

# Stages of which charts are drawn; a job of many options has a table of all.
STAGES_DRAWN = 12
ROWS_SHOWN = 200

_GOOD = {"CLOSED": "good", "OPEN": "good", "WHATIF": "mid", "INVALID": "bad"}
_DISTRIBUTIONS = ("read", "write")
_QUANTILES = (0.01, 0.05, *(step / 20 for step in range(2, 19)), 0.95, 0.98, 0.99, 0.995, 0.999, 1)


def badge(verdict: str) -> str:
    """The verdict as a mark."""
    return f'<span class="badge {_GOOD.get(verdict, "bad")}">{text(verdict)}</span>'


def pairs(entries: Sequence[tuple[str, object]]) -> str:
    """Names and values; values that are unknown are left out."""
    inner = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries if value != ""
    )
    return f"<dl>{inner}</dl>" if inner else ""


def findings(entries: Sequence[Document]) -> str:
    """Errors and warnings first; remarks are folded away."""

    def listed(chosen: Sequence[Document]) -> str:
        inner = "".join(_finding(entry) for entry in chosen)
        return f'<ul class="findings">{inner}</ul>' if inner else ""

    grave = [
        entry
        for severity in ("error", "warning")
        for entry in entries
        if entry["severity"] == severity
    ]
    rest = [entry for entry in entries if entry["severity"] == "info"]
    shown = listed(grave[:ROWS_SHOWN]) or "<p>No errors, no warnings.</p>"
    return section(
        "Findings",
        shown + details(f"{len(rest)} for information", listed(rest[:ROWS_SHOWN])),
        note="" if len(grave) <= ROWS_SHOWN else f"The first {ROWS_SHOWN} of {len(grave)}.",
    )


def _finding(entry: Document) -> str:
    place = " ".join(filter(None, (entry.get("host"), entry.get("key"))))
    hint = f'<div class="note">hint: {text(entry["hint"])}</div>' if entry.get("hint") else ""
    where = f" <code>{text(place)}</code>" if place else ""
    return (
        f'<li class="{text(entry["severity"])}"><b>{text(entry["severity"])}</b> '
        f'<span class="rule">{text(entry["rule"])}</span>{where}<div>{text(entry["text"])}</div>'
        f"{hint}</li>"
    )


def named(summary: Document) -> str:
    """Stage and option of a summary."""
    return " ".join(filter(None, (summary["stage"], summary["option"])))


def interval(values: Document) -> str:
    """The 95 % interval of a mean over trials, or nothing."""
    if values.get("ci95_low") is None:
        return ""
    return f"{number(values['ci95_low'])} to {number(values['ci95_high'])}"


def numbers(source: Source) -> str:
    """The headline numbers of each measured stage, and all others folded away."""
    parts = []
    for summary in source.result["metrics"]:
        values = summary["values"]
        trials = f"{summary['trials']} of {numbered(summary['trials_planned'], 'trial')}"
        parts.append(f"<h3>{text(named(summary))}</h3>")
        if not summary["complete"]:
            parts.append(f'<p class="note">{trials}: no numbers, because some are missing.</p>')
            continue
        parts.append(f'<div class="cards">{"".join(_cards(values))}</div>')
        rows = [
            (
                name,
                number(each["mean"]),
                number(each["min"]),
                number(each["max"]),
                interval(each),
                number(each["cv_pct"]),
            )
            for name, each in values.items()
        ]
        header = ("metric", "mean", "least", "most", "95 % interval", "cv, %")
        shown = details(f"all metrics, {trials}", table(header, rows, right=(1, 2, 3, 4, 5)))
        parts.append(shown)
    several = any(each["complete"] and each["trials"] > 1 for each in source.result["metrics"])
    note = "Means over trials; 95 %: the interval of the mean." if several else ""
    return section("Numbers", "".join(parts), note=note)


def _cards(values: Document) -> Iterator[str]:
    for row in headlines_of(values):
        each = values[row.name]
        spread = interval(each)
        shown = f"95 %: {spread}" if spread else ""
        yield (
            f'<div class="card"><span>{text(row.label)}</span><b>{number(each["mean"])} '
            f"<small>{text(row.unit)}</small></b><span>{text(shown)}</span></div>"
        )


def throughput(source: Source) -> str:
    """What each stage moved by the second, and what devices and networks counted all the while."""
    figures = []
    for stage, result in source.measured[:STAGES_DRAWN]:
        lines = list(_timeline(result))
        figures.append(_rate_figure(f"Throughput of {stage.name}", stage.name, lines))
    counted = [] if source.rates is None else list(_counted(source, source.rates))
    note = (
        "Charts of hosts: a line is the mean of the samples in a moment, its band goes from the "
        "least to the most; measured windows are shaded."
    )
    shown = grid([*figures, *counted])
    return section("Throughput over time", shown, note=note if any(counted) else "")


_COUNTED = (
    ("block devices of data_dir", {"read": "disk_read_bytes", "write": "disk_write_bytes"}),
    ("mount of data_dir", {"read": "mount_read_bytes", "write": "mount_write_bytes"}),
    ("network", {"received": "net_receive_bytes", "sent": "net_send_bytes"}),
)


def _counted(source: Source, rates: Rates) -> Iterator[str]:
    """What hosts counted during the whole job."""
    zero = min(points[0][0] for points in rates.points.values() if points)
    windows = windows_of({stage.name: result for stage, result in source.measured}).values()
    spans = [(each.start_unix_s - zero, each.end_unix_s - zero) for each in windows]
    for kind, names in _COUNTED:
        lines = [
            Line(
                name=word,
                points=[(at - zero, mean / GIB) for at, _, mean, _ in rates.points[name]],
                band=[(at - zero, low / GIB, high / GIB) for at, low, _, high
                      in rates.points[name]],
            )
            for word, name in names.items()
        ]  # fmt: skip
        title = f"{kind}, {numbered(rates.hosts, 'host')}, whole job"
        yield _rate_figure(title, title, lines, spans)


def _rate_figure(
    title: str, caption: str, lines: Sequence[Line], spans: Sequence[tuple[float, float]] = ()
) -> str:
    """Rates over time; nothing where nothing moved, or there is but one moment."""
    if not any(len(line.points) > 1 and any(y for _, y in line.points) for line in lines):
        return ""
    chart = line_chart(title, lines, _time(), Axis(label="GiB/s"), spans=spans)
    return figure(chart, caption, legend=[line.name for line in lines], data=_points(lines))


def _time() -> Axis:
    return Axis(label="time, s")


def _timeline(result: Document) -> Iterator[Line]:
    timeline = result.get("timeline") or {}
    for direction in _DISTRIBUTIONS:
        moved = timeline.get(f"{direction}_bytes", [])
        if any(moved):
            width_s = timeline["bin_s"]
            points = [((at + 0.5) * width_s, value / width_s / GIB) for at, value in thinned(moved)]
            yield Line(name=direction, points=points)


def _points(lines: Sequence[Line]) -> str:
    """The points of lines as a table; a long one is thinned, the archive has the rest."""
    rows = [
        (line.name, number(line.points[at][0]), number(line.points[at][1]))
        for line in lines
        for at in range(0, len(line.points), max(1, -(-len(line.points) // 40)))
    ]
    return table(("", "time, s", "GiB/s"), rows, right=(1, 2))


def latencies(source: Source) -> str:
    """Share of operations that took no longer, by latency; of the merged histograms."""
    figures = []
    for stage, result in source.measured[:STAGES_DRAWN]:
        found = dict(_histograms(result))
        lines = [
            Line(name=name, points=[(percentile_ns(each, q) / 1e6, 100 * q) for q in _QUANTILES])
            for name, each in found.items()
        ]
        chart = line_chart(
            f"Latency of {stage.name}",
            lines,
            Axis(label="latency, ms", log=True),
            Axis(label="operations no slower, %"),
        )
        rows = [
            (name, *(number(percentile_ns(each, q) / 1e6) for q in (0.5, 0.95, 0.99, 0.999, 1)))
            for name, each in found.items()
        ]
        header = ("ms", "p50", "p95", "p99", "p99.9", "max")
        data = table(header, rows, right=(1, 2, 3, 4, 5))
        figures.append(figure(chart, stage.name, legend=list(found), data=data))
    return section("Latency distribution", grid(figures))


def _histograms(result: Document) -> Iterator[tuple[str, Document]]:
    for direction in _DISTRIBUTIONS:
        yield from _filled(direction, result.get("io", {}).get(direction, {}).get("latency"))
    for name in ("request", "prefix_load"):
        yield from _filled(name.replace("_", " "), result.get("latency", {}).get(name))
    for point in ((result.get("vectordb") or {}).get("points") or [])[:1]:
        yield from _filled("query", point["latency"])


def _filled(name: str, latency: Document | None) -> Iterator[tuple[str, Document]]:
    if latency and sum(latency["count"]):
        yield name, latency


def ranks(source: Source) -> str:
    """How far ranks are apart: the slowest, the median and the fastest of each stage."""
    figures, rows = [], []
    for stage, result in source.measured[:STAGES_DRAWN]:
        told, window_s = result.get("ranks") or {}, result["window"]["length_s"]
        if "read_bytes" not in told:
            continue  # a foreign program tells nothing of its ranks
        moved = [
            (read + write) / GIB / window_s if window_s else 0.0
            for read, write in zip(told["read_bytes"], told["write_bytes"], strict=True)
        ]
        if len(moved) < 2 or not any(moved):
            continue
        order = sorted(range(len(moved)), key=lambda rank: moved[rank])
        line = Line(
            name="rank",
            points=thinned([moved[rank] for rank in order]),
            dots=len(moved) <= 32,
        )
        chart = line_chart(
            f"Throughput of each rank of {stage.name}",
            [line],
            Axis(label="ranks, slowest first"),
            Axis(label="GiB/s"),
        )
        figures.append(figure(chart, stage.name))
        median = [("median", order[len(order) // 2])] if len(order) > 2 else []
        for word, rank in (("slowest", order[0]), *median, ("fastest", order[-1])):
            host = told["hosts"][told["host_index"][rank]] if "hosts" in told else ""
            p99 = told["read_p99_ns"][rank] if "read_p99_ns" in told else None
            p99_ms = number(None if p99 is None else p99 / 1e6)
            rows.append((stage.name, word, str(rank), host, number(moved[rank]), p99_ms))
    header = ("stage", "", "rank", "host", "GiB/s", "read p99, ms")
    return section("Ranks", grid(figures) + table(header, rows, right=(2, 4, 5)))


def configuration(source: Source) -> str:
    """Values that are not those of the packaged files, and where each comes from."""
    rows = [
        (key, _value(source.job, key), _default(origin), origin["where"])
        for key, origin in sorted(source.origins.items())
        if origin["from"] != "packaged"
    ]
    shown = table(("key", "value", "packaged", "set by"), rows[:ROWS_SHOWN])
    note = "" if rows else "Every value is that of the packaged files."
    inner = shown or f'<p class="note">{note}</p>'
    return section("Differences from the packaged configuration", inner)


def _default(origin: Document) -> str:
    return _short(origin["default"]) if "default" in origin else ""


def _value(job: Document, key: str) -> str:
    value: object = job
    for name in key.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return ""
    return _short(value)


def _short(value: object) -> str:
    shown = "none" if value is None else str(value)
    return shown if len(shown) <= 200 else f"{shown[:200]} ..."


def hosts(facts: Mapping[str, Document]) -> str:
    """What the machines are; hosts alike stand together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, each in facts.items():
        alike.setdefault(_traits(each), []).append(name)
    rows = [
        (_some(names), *traits) for traits, names in sorted(alike.items(), key=lambda item: item[1])
    ]
    header = ("hosts", "system", "processor", "threads", "memory, GiB", "data_dir")
    return section("Hosts", table(header, rows[:ROWS_SHOWN], right=(3, 4)))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} ... ({len(names)} hosts)"


def _traits(facts: Document) -> tuple[str, ...]:
    system, cpu = facts.get("system", {}), facts.get("cpu", {})
    memory = facts.get("memory", {}).get("total_bytes")
    place = facts.get("data_dir", {})
    return (
        f"{system.get('os', '')} {system.get('version', '')}, {system.get('kernel', '')}",
        str(cpu.get("model", "")),
        str(cpu.get("threads", "")),
        f"{memory / GIB:.1f}" if isinstance(memory, (int, float)) else str(memory or ""),
        " ".join(str(place.get(key, "")) for key in ("type", "source")),
    )


def stages(source: Source) -> str:
    """Every stage with how it ended and how long it took."""
    rows = [
        (
            stage.name,
            stage.outcome["status"],
            number(stage.outcome.get("elapsed_s")),
            stage.outcome.get("message") or "",
        )
        for stage in source.stages
    ]
    shown = table(("stage", "status", "s", ""), rows[:ROWS_SHOWN], right=(2,))
    return section("Stages", shown)
