"""Reads the small files of a host below a root, and notes what could not be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

UNKNOWN = "unknown"

_Fact = TypeVar("_Fact")


class Tree:
    """The files below `root`; `errors` says why a fact is unknown, by its dotted name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.errors: dict[str, str] = {}

    @property
    def is_host(self) -> bool:
        """Whether this is the host itself, whose paths may be asked with system calls."""
        return self.root == Path("/")

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        """The text of a file. Raises OSError. Bytes that are no UTF-8 stay distinct."""
        return self.at(path).read_bytes().decode("utf-8", "surrogateescape")

    def text(self, path: str) -> str:
        """The text of a file that may be missing: without it the empty text."""
        try:
            return self.read(path)
        except (OSError, ValueError):  # ValueError: a null byte in the path
            return ""

    def names(self, path: str) -> list[str]:
        """Sorted names in a directory, none where there is no such directory."""
        try:
            return sorted(entry.name for entry in self.at(path).iterdir())
        except (OSError, ValueError):
            return []

    def exists(self, path: str) -> bool:
        try:
            return self.at(path).exists()
        except (OSError, ValueError):
            return False

    def real(self, path: str) -> str:
        """A path without symbolic links, as seen from the root."""
        root = os.path.realpath(self.root)
        real = os.path.realpath(self.at(path))
        return real if root == "/" else os.path.normpath(f"/{os.path.relpath(real, root)}")

    def fact(self, what: str, path: str, parse: Callable[[str], _Fact | None]) -> _Fact | str:
        """What a file says, or "unknown" with the reason noted under the name of the fact."""
        try:
            text = self.read(path)
        except OSError as error:
            return self.unknown(what, f"{path}: {error.strerror or error}")
        value = parse(text)
        if value is None or value == "":
            return self.unknown(what, f"{path}: it does not say")
        return value

    def known(self, what: str, value: _Fact | None, why: str) -> _Fact | str:
        """A value, or "unknown" in the place of None."""
        return self.unknown(what, why) if value is None else value

    def unknown(self, what: str, why: str) -> str:
        """The value of a fact that cannot be known, and why."""
        self.errors[what] = why[:120]
        return UNKNOWN
