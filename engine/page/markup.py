"""Pieces of HTML. All text is escaped here; what is already HTML is passed in `inner`."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from ..tables import Row

# Cells of more letters are broken into lines.
LONG = 30
# After these a path, a dotted key or an assignment may be broken; never within a number.
_BREAKS = re.compile(r"([/=,_]|\.(?=[a-z_]))(?=\S)")


def text(value: object) -> str:
    """A value as text of a page: a name with HTML in it does nothing."""
    return html.escape(str(value), quote=True)


def breakable(value: object) -> str:
    """The same, with places where a long name or path may go on in the next line."""
    return _BREAKS.sub(r"\1<wbr>", text(value))


def section(title: str, inner: str, *, note: str = "") -> str:
    """A part of the page with its heading; nothing where it has no content."""
    if not inner:
        return ""
    lead = f'<p class="note">{text(note)}</p>' if note else ""
    return f"<section><h2>{text(title)}</h2>{lead}{inner}</section>\n"


def table(header: Row, rows: Sequence[Row], *, right: Sequence[int] = ()) -> str:
    """A table that scrolls within itself; columns whose index is in `right` hold numbers."""

    def shape(index: int, cell: str) -> str:
        if index in right:
            return f" class=n>{text(cell)}"
        return f" class=long>{breakable(cell)}" if len(cell) > LONG else f">{text(cell)}"

    def cells(tag: str, row: Row) -> str:
        return "".join(f"<{tag}{shape(index, cell)}</{tag}>" for index, cell in enumerate(row))

    if not rows:
        return ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{cells("th", header)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, inner: str) -> str:
    """A part that is closed until somebody opens it."""
    return f"<details><summary>{text(summary)}</summary>{inner}</details>" if inner else ""


def figure(chart: str, caption: str, *, legend: Sequence[str] = (), data: str = "") -> str:
    """A chart with its caption, the names of its lines and its numbers as a table."""
    if not chart:
        return ""
    names = "".join(
        f'<span class="key"><i class="k{index}"></i>{text(name)}</span>'
        for index, name in enumerate(legend)
    )
    shown = f'<div class="legend">{names}</div>' if len(legend) > 1 else ""
    numbers = details("numbers", data)
    return f"<figure><figcaption>{text(caption)}</figcaption>{shown}{chart}{numbers}</figure>"


def grid(figures: Sequence[str]) -> str:
    """Figures side by side where there is room."""
    inner = "".join(figures)
    return f'<div class="grid">{inner}</div>' if inner else ""
