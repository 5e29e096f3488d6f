"""Points in a plane, drawn with characters for a terminal or a file. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 60
HEIGHT = 12

# Values further apart than this are drawn by their logarithms.
_LOGARITHMIC = 10.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A point and the character that stands for it. Of two in one place the later one is seen."""

    x: float
    y: float
    character: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows, and with how many digits its ends are written."""

    name: str
    digits: int


def drawn(marks: Sequence[Mark], across: Axis, up: Axis) -> list[str]:
    """The lines of the plot; none without two points that differ in both directions."""
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    if not marks or min(xs) == max(xs) or min(ys) == max(ys):
        return []
    columns, rows = _cells(xs, WIDTH), _cells(ys, HEIGHT)
    canvas = [[" "] * WIDTH for _ in range(HEIGHT)]
    for mark, column, row in zip(marks, columns, rows, strict=True):
        canvas[HEIGHT - 1 - row][column] = mark.character
    top, bottom = _told(max(ys), up), _told(min(ys), up)
    left = max(len(top), len(bottom))
    labels = [top, *[""] * (HEIGHT - 2), bottom]
    first, last = _told(min(xs), across), _told(max(xs), across)
    scale = ", logarithmic" if _is_wide(ys) else ""
    return [
        f"{up.name}{scale}",
        *(
            f"{label:>{left}} |{''.join(line)}".rstrip()
            for label, line in zip(labels, canvas, strict=True)
        ),
        f"{'':>{left}} +{'-' * WIDTH}",
        f"{'':>{left}}  {first}{last:>{WIDTH - len(first)}}  {across.name}",
    ]


def _cells(values: Sequence[float], count: int) -> list[int]:
    """The cell of each value, of so many between the least and the most."""
    scaled = [math.log(value) for value in values] if _is_wide(values) else values
    least, most = min(scaled), max(scaled)
    return [round((value - least) / (most - least) * (count - 1)) for value in scaled]


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) > _LOGARITHMIC


def _told(value: float, axis: Axis) -> str:
    return f"{value:,.{axis.digits}f}"
