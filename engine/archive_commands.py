"""The commands that read archives. Each takes its arguments and returns an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from . import archive as files
from .archive import Archive
from .arguments import parser_of, print_json
from .canonical import Document
from .errors import ArchiveError
from .report import headline, read_published, readable
from .tables import write_table


def history(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps history`: the archives of a results directory, oldest first."""
    parser = parser_of("history")
    parser.add_argument("results_dir", nargs="?", type=Path, default=Path("results"))
    results_dir = parser.parse_args(arguments).results_dir.absolute()
    if not results_dir.is_dir():
        raise ArchiveError(f"{results_dir} is not a directory", hint="mlps history RESULTS_DIR")
    entries = [_history_entry(archive) for archive in files.listed_archives(results_dir)]
    if as_json:
        print_json(entries)
    else:
        names = ("run_id", "status", "verdict", "headline")
        rows = [tuple(str(entry[name] or "") for name in names) for entry in entries]
        write_table(sys.stdout, ("run", "status", "verdict", "result"), rows)
    return 0


def _history_entry(archive: Archive) -> Document:
    entry: Document = {"run_id": archive.run_id, "path": str(archive.root)}
    if not archive.sealed:
        return entry | {"status": "unfinished", "verdict": None, "headline": None}
    try:
        published = readable(read_published(archive))
    except ArchiveError as error:
        return entry | {"status": "unreadable", "verdict": None, "headline": error.message}
    return entry | {
        "status": published.result["status"],
        "verdict": published.verdict["verdict"],
        "headline": headline(published.result),
    }
