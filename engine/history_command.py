"""`mlps history`: the archives of a results directory, oldest first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .arguments import parser_of, print_json
from .errors import ArchiveError
from .history import read_history
from .tables import write_table


def history(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps history [RESULTS_DIR]`."""
    parser = parser_of("history")
    parser.add_argument("results_dir", nargs="?", type=Path, default=Path("results"))
    results_dir = parser.parse_args(arguments).results_dir.absolute()
    if not results_dir.is_dir():
        raise ArchiveError(f"{results_dir} is not a directory", hint="mlps history RESULTS_DIR")
    entries = read_history(results_dir)
    if as_json:
        print_json([entry.as_document(results_dir) for entry in entries])
        return 0
    rows = [
        (entry.run_id, entry.status, entry.verdict or "", entry.headline or "") for entry in entries
    ]
    write_table(sys.stdout, ("run", "status", "verdict", "result"), rows)
    return 0
