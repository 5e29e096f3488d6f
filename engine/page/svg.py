"""Charts as SVG: lines with bands, and bars. Colours and type come from the page's style.

Drawn 360 units wide, so that text has its size on a telephone; wider charts stand side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .axes import Scale, around, from_zero, tick_text
from .markup import text

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 22, 36
# What a letter of 12 units takes at most on average, with the gap to the next name.
LETTER = 8

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a chart; `band` holds (x, least, most) of what its points stand for."""

    name: str
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    dots: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows, with its unit."""

    label: str
    log: bool = False
    zero: bool = True


def line_chart(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, spans: Sequence[Point] = ()
) -> str:
    """Lines over a common x axis; nothing where no line has a point.

    `spans` are parts of the x axis, from and to, that are shaded.
    """
    xs = [point[0] for line in lines for point in line.points if not x.log or point[0] > 0]
    ys = [point[1] for line in lines for point in line.points]
    ys += [value for line in lines for _, least, most in line.band for value in (least, most)]
    if not xs:
        return ""
    low, high = min(xs), max(xs)
    if low == high:
        low, high = (low / 2, high * 2) if x.log else (low - 0.02, high + 0.02)
    across = Scale(low=low, high=high, start=LEFT, end=WIDTH - RIGHT, log=x.log)
    up = _upwards(ys, y)
    drawn = [_span(*span, across) for span in spans if span[0] < high and span[1] > low]
    drawn += [_band(line, index, across, up) for index, line in enumerate(lines)]
    drawn += [_path(line, index, across, up) for index, line in enumerate(lines)]
    ticks = [
        (across.place(value), tick_text(value))
        for value in across.ticks()
        if not _is_between(value, xs)
    ]
    about = f"{y.label} over {x.label}: " + "; ".join(_about(line) for line in lines[:8])
    return _svg(title, about, _frame(ticks, up, x.label, y.label) + "".join(drawn))


def bar_chart(title: str, bars: Sequence[tuple[str, float]], x_label: str, y: Axis) -> str:
    """One bar per name, in order; of many bars only some are named."""
    if not bars:
        return ""
    up = _upwards([value for _, value in bars], y)
    pitch = (WIDTH - LEFT - RIGHT) / len(bars)
    width = max(0.5, min(0.7 * pitch, 40))
    base = up.place(max(up.low, 0))
    drawn, ticks = [], []
    every = -(-len(bars) // 10)
    for index, (name, value) in enumerate(bars):
        middle = LEFT + (index + 0.5) * pitch
        top = up.place(value)
        drawn.append(
            f'<rect class="b" x="{middle - width / 2:.1f}" y="{min(top, base):.1f}" '
            f'width="{width:.1f}" height="{abs(base - top):.1f}"/>'
        )
        if index % every == 0:
            ticks.append((middle, _shortened(name, every * pitch)))
    values = [value for _, value in bars]
    about = f"{y.label} of {len(bars)}, from {tick_text(min(values))} to {tick_text(max(values))}"
    return _svg(title, about, _frame(ticks, up, x_label, y.label) + "".join(drawn))


def _shortened(name: str, width: float) -> str:
    """As much of a name as has room; the numbers below a chart have all of it."""
    most = max(1, int(width / LETTER))
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _is_between(tick: float, xs: Sequence[float]) -> bool:
    """Whether a tick lies between the whole numbers that alone are on the axis."""
    return tick != round(tick) and all(x == round(x) for x in xs)


def _span(start: float, end: float, across: Scale) -> str:
    left, right = across.place(start), across.place(end)
    return (
        f'<rect class="w" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" '
        f'height="{HEIGHT - BOTTOM - TOP}"/>'
    )


def _upwards(values: Sequence[float], y: Axis) -> Scale:
    low, high = from_zero(values) if y.zero else around(values)
    return Scale(low=low, high=high, start=HEIGHT - BOTTOM, end=TOP)


def _about(line: Line) -> str:
    values = [value for _, value in line.points] or [0.0]
    mean = sum(values) / len(values)
    return f"{line.name} from {min(values):.4g} to {max(values):.4g}, mean {mean:.4g}"


def _band(line: Line, index: int, across: Scale, up: Scale) -> str:
    if not line.band:
        return ""
    there = [f"{across.place(x):.1f},{up.place(most):.1f}" for x, _, most in line.band]
    back = [f"{across.place(x):.1f},{up.place(least):.1f}" for x, least, _ in reversed(line.band)]
    return f'<polygon class="a{index % 6}" points="{" ".join((*there, *back))}"/>'


def _path(line: Line, index: int, across: Scale, up: Scale) -> str:
    places = [(across.place(x), up.place(y)) for x, y in line.points if not across.log or x > 0]
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn = f'<polyline class="l{index % 6}" points="{shown}"/>'
    if line.dots or len(places) == 1:
        drawn += "".join(
            f'<circle class="d{index % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places
        )
    return drawn


def _frame(ticks: Sequence[tuple[float, str]], up: Scale, x_label: str, y_label: str) -> str:
    """Grid, ticks and labels."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<line class="g" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick_text(value)}</text>'
        )
    for x, label in ticks:
        at = min(max(x, LEFT), right)
        anchor = "end" if at > right - 12 else "middle"
        parts.append(f'<line class="t" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{text(label)}</text>'
        )
    middle = (LEFT + right) / 2
    parts.append(f'<line class="x" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="4" y="12">{text(y_label)}</text>')
    parts.append(f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{text(x_label)}</text>')
    return "".join(parts)


def _svg(title: str, about: str, inner: str) -> str:
    # An id that follows from the content: the same archive gives the same page.
    mark = hashlib.sha256(f"{title}{about}{inner}".encode()).hexdigest()[:10]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t{mark} d{mark}">'
        f'<title id="t{mark}">{text(title)}</title><desc id="d{mark}">{text(about)}</desc>'
        f"{inner}</svg>"
    )
