"""The description of a system under test as a file holds it, with the line of every key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .canonical import Document
from .errors import ArchiveError
from .plain_files import located_yaml, read_text

# A description with thousands of drives in lines of their own has some 100 KiB.
SIZE_LIMIT_BYTES = 1 << 20

ROOT = "system_under_test"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFile:
    """A description, and where each dotted key of it stands: `file:line`.

    `option` is the name that an option of the group gives its system; a file as a submission has it
    gives none, and is named for its system itself (Rules 2.1.8).
    """

    path: Path
    option: str | None
    description: Document
    where: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the system is called."""
        return self.path.stem if self.option is None else self.option


def read_system(path: Path) -> SystemFile:
    """A file with `system_under_test` at its root, or below `description` as an option has it.

    Raises ArchiveError where it cannot be read, is no YAML, or describes no system.
    """
    text = read_text(path, SIZE_LIMIT_BYTES)
    document, lines = located_yaml(text, str(path))
    prefix, option = "", None
    if isinstance(document, dict) and ROOT not in document and "description" in document:
        option = document.get("name")
        document, prefix = document["description"], "description."
    if not isinstance(document, dict) or ROOT not in document:
        raise ArchiveError(
            f"{path} describes no system: it has no {ROOT}",
            hint="files of v1.0 and v2.0 have another form; mlps system init NAME makes a skeleton",
        )
    where = {
        key.removeprefix(prefix): f"{path}:{line}"
        for key, line in lines.items()
        if key.startswith(prefix)
    }
    description: Document = {str(key): _plain(value) for key, value in document.items()}
    return SystemFile(
        path=path,
        option=option if isinstance(option, str) else None,
        description=description,
        where=where,
    )


def _plain(value: object) -> object:
    """A value of YAML as JSON has it: dates, and keys of mappings, are text."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
