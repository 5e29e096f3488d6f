"""What commands take: their paths and flags, and how they write JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .canonical import pretty_json
from .errors import ConfigError


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors of the project's form."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}", hint=f"{self.prog} --help")


def parser_of(command: str) -> Parser:
    """The parser of `mlps COMMAND`."""
    return Parser(prog=f"mlps {command}", allow_abbrev=False)


def one_path(command: str, arguments: Sequence[str]) -> Path:
    """The archive that a command is given. Raises ConfigError."""
    parser = parser_of(command)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    path: Path = parser.parse_args(arguments).archive
    return path


def print_json(document: object) -> None:
    """Write a document to standard output."""
    try:
        sys.stdout.write(pretty_json(document).decode())
    except UnicodeEncodeError:
        # A name of a file that is no UTF-8: escapes say which.
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
