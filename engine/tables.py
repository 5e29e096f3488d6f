"""Text for people: tables and styles on a terminal, plain columns and words elsewhere."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal, TextIO

Row = Sequence[str]

# Of more rows than twice this, the first and the last are shown.
ROWS_SHOWN = 10


# Prose is wrapped within this many signs, but its column never has fewer than the least.
PROSE_WIDTH = 100
_PROSE_LEAST = 30


def write_table(
    out: TextIO, header: Row, rows: Sequence[Row], *, right: Sequence[int] = (), prose: bool = False
) -> None:
    """Write a table; columns whose index is in `right` hold numbers.

    With `prose` the last column is wrapped and no other is, so that a row is found by how it
    begins. Without it, every row is one line where there is no terminal, for programs to read.
    """
    if out.isatty():
        _write_rich(out, header, rows, right, prose)
        return
    widths = [max(len(row[index]) for row in (header, *rows)) for index in range(len(header))]
    if prose:
        room = max(PROSE_WIDTH - sum(width + 2 for width in widths[:-1]), _PROSE_LEAST)
        rows = [line for row in rows for line in _wrapped(row, room)]
        widths[-1] = room
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        out.write("  ".join(cells).rstrip() + "\n")


def _wrapped(row: Row, room: int) -> Iterator[Row]:
    """The row with its last cell in as many lines as it takes; what follows the first is below."""
    *cells, text = row
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    yield *cells, lines[0]
    yield from ((*("" for _ in cells), line) for line in lines[1:])


def write_styled(out: TextIO, style: str, text: str, rest: str) -> None:
    """Write text in a style on a terminal, plain elsewhere; what follows it is plain everywhere."""
    if not out.isatty():
        out.write(text + rest)
        return
    from rich.console import Console  # imported late: redirected output needs none of it
    from rich.text import Text

    Console(file=out, soft_wrap=True).print(Text.assemble((text, style), rest), end="")


def shortened(rows: Sequence[Row]) -> Sequence[Row]:
    """The first and the last of many rows, with a row of dots between them."""
    if len(rows) <= 2 * ROWS_SHOWN:
        return rows
    gap = ("...", *("" for _ in rows[0][1:]))
    return [*rows[:ROWS_SHOWN], gap, *rows[-ROWS_SHOWN:]]


def printable(text: str) -> str:
    """Text of unknown origin without what moves a cursor or cannot be written: as escapes.

    Line ends and tabs are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        sign
        if sign.isprintable() or sign in "\n\t"
        else sign.encode("unicode_escape").decode("ascii")
        for sign in text
    )


def numbered(number: object, one: str, many: str | None = None) -> str:
    """A number with its noun: 1 rank, 2 ranks."""
    return f"{number} {noun(number, one, many)}"


def noun(number: object, one: str, many: str | None = None) -> str:
    """The noun that goes with a number; its plural ends in s unless it is given."""
    return one if number == 1 else many or f"{one}s"


def csv_text(header: Row, rows: Sequence[Row]) -> str:
    """The same table as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def _write_rich(
    out: TextIO, header: Row, rows: Sequence[Row], right: Sequence[int], prose: bool
) -> None:
    from rich.box import SIMPLE_HEAD  # imported late: redirected output needs none of it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        whole = prose and index < len(header) - 1
        justify: Literal["left", "right"] = "right" if index in right else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(file=out).print(table)
