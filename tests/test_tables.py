"""Tables for people and for spreadsheets."""

from __future__ import annotations

import csv
import io
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.tables import ROWS_SHOWN, csv_text, shortened, write_styled, write_table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_columns_are_aligned_and_lines_do_not_end_in_spaces():
    out = io.StringIO()
    write_table(
        out, ("", "read", "write"), [("GiB/s", "12.5", ""), ("p99", "1", "2")], right=(1, 2)
    )
    assert out.getvalue() == (
        "       read  write\n"
        "GiB/s  12.5\n"
        "p99       1      2\n"
    )  # fmt: skip


def test_a_table_without_rows_is_its_header():
    out = io.StringIO()
    write_table(out, ("run", "status"), [])
    assert out.getvalue() == "run  status\n"


def test_a_terminal_gets_the_same_cells(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = Terminal()
    write_table(out, ("run", "result"), [("a", "[bold]not markup")], right=(1,))
    lines = out.getvalue().splitlines()
    assert any("run" in line and "result" in line for line in lines)
    assert any("[bold]not markup" in line for line in lines)


LONG = "one word after the other, " * 5 + "to the end"


@pytest.mark.parametrize(
    ("name", "room"), [("A-01", 94), ("a name of fifty signs" + "x" * 29, 48), ("x" * 90, 30)]
)
def test_prose_is_wrapped_below_itself_and_its_row_begins_the_line(name, room):
    out = io.StringIO()
    write_table(out, ("rule", "text"), [(name, LONG), ("B-02", "short")], prose=True)
    header, first, *rest, last = out.getvalue().splitlines()
    indent = len(name) + 2
    assert (header[:indent].strip(), header[indent:]) == ("rule", "text")
    assert (first[:indent], last) == (f"{name}  ", "B-02".ljust(indent) + "short")
    assert {line[:indent] for line in rest} == {" " * indent}
    texts = [line[indent:] for line in (first, *rest)]
    assert " ".join(texts) == LONG
    assert max(map(len, texts)) <= room
    # No line takes fewer words than there is room for.
    assert all(len(f"{one} {two.split()[0]}") > room for one, two in itertools.pairwise(texts))


def test_prose_without_text_is_a_line():
    out = io.StringIO()
    write_table(out, ("a", "b"), [("x", ""), ("y", "z" * 200)], prose=True)
    assert out.getvalue() == f"a  b\nx\ny  {'z' * 200}\n"


@pytest.mark.parametrize("columns", [100, 60, 40])
def test_prose_fits_a_terminal_and_names_stay_whole(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    write_table(out, ("rule", "text"), [("3.3.1 OVERRUN", LONG)], prose=True)
    lines = re.sub(r"\x1b\[\d*m", "", out.getvalue()).splitlines()
    assert max(map(len, lines)) <= columns
    (row,) = [line for line in lines if "3.3.1 OVERRUN" in line]
    assert "one word" in row


@given(st.integers(0, 5 * ROWS_SHOWN))
def test_of_many_rows_the_first_and_the_last_are_shown(count):
    rows = [(str(number), "x") for number in range(count)]
    shown = shortened(rows)
    assert len(shown) == min(count, 2 * ROWS_SHOWN + (count > 2 * ROWS_SHOWN))
    if count > 2 * ROWS_SHOWN:
        assert shown[ROWS_SHOWN] == ("...", "")
        assert [*shown[:ROWS_SHOWN], *shown[-ROWS_SHOWN:]] == (
            rows[:ROWS_SHOWN] + rows[-ROWS_SHOWN:]
        )
    else:
        assert shown == rows


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"))


@given(st.lists(st.tuples(cells, cells), max_size=5))
def test_csv_keeps_every_cell(rows):
    text = csv_text(("a", "b"), rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["a", "b"], *map(list, rows)]


def test_a_word_has_its_style_on_a_terminal_alone(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain, terminal = io.StringIO(), Terminal()
    for out in (plain, terminal):
        write_styled(out, "bold", "node1", " [red]as it stands\n")
    assert plain.getvalue() == "node1 [red]as it stands\n"
    assert terminal.getvalue() == "\x1b[1mnode1\x1b[0m [red]as it stands\n"
