"""`mlps package ARCHIVE... --org NAME --out DIR`: what is handed in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .archive import archives_at
from .arguments import parser_of, print_json
from .package.write import Wish, make_package
from .rules import errors
from .tables import numbered, printable


def package(arguments: Sequence[str], *, as_json: bool) -> int:
    """Write a package; 7 where something is missing that a submission must have."""
    wish = wish_of(arguments)
    made = make_package(wish)
    if as_json:
        document = {
            "path": str(wish.out),
            "files": made.files,
            "size_bytes": made.size_bytes,
            "workloads": [each.workload for each in made.packed],
            "findings": [finding.as_document() for finding in made.findings],
        }
        print_json(document)
    else:
        for each in made.packed:
            sys.stdout.write(f"{printable(each.run_id)} -> {printable(each.workload)}\n")
        files = numbered(made.files, "file")
        sys.stdout.write(f"{printable(str(wish.out))}: {files}, {made.size_bytes / 1e6:.1f} MB\n")
    for finding in made.findings:
        sys.stderr.write(f"{finding}\n")
    return 7 if errors(made.findings) else 0


def wish_of(arguments: Sequence[str]) -> Wish:
    """What the arguments ask for. Raises ConfigError."""
    parser = parser_of("package")
    parser.add_argument("archives", nargs="+", type=Path, metavar="ARCHIVE")
    parser.add_argument("--org", required=True, help="the name of the submitter")
    parser.add_argument("--out", required=True, type=Path, help="a new directory")
    parser.add_argument(
        "--system", action="append", type=Path, default=[], help="NAME.yaml, a description"
    )
    parser.add_argument("--pdf", action="append", type=Path, default=[], help="NAME.pdf beside it")
    options = parser.parse_args(arguments)
    paths = {path.absolute(): None for given in options.archives for path in archives_at(given)}
    return Wish(
        archives=tuple(paths),
        org=options.org,
        out=options.out.absolute(),
        systems=tuple(options.system),
        pdfs=tuple(options.pdf),
    )
