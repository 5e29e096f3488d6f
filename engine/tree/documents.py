"""Values of documents that somebody else has written: taken where they are what they should be.

Pure. Whatever a document holds, nothing here raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ..rules import Finding, Severity
from .layout import Leaf

# Beyond it a number is no measure of anything, and floats lose whole numbers far below.
LARGEST = 1e30

_NUMBER = re.compile(r"[-+]?\d{1,30}(\.\d{1,30})?([eE][-+]?\d{1,2})?")
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafDocuments:
    """What the files of a leaf hold, by relative name; a document that is none is missing here."""

    leaf: Leaf
    files: Mapping[str, int]
    documents: Mapping[str, object] = field(default_factory=dict)
    # The lines of a few short files, such as the pointer to the code image.
    texts: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str) -> object | None:
        """The document of a file of this name."""
        return self.documents.get(name)

    def ending(self, suffix: str) -> Iterator[tuple[str, object]]:
        """Documents whose files end so, by name."""
        for name in sorted(self.documents):
            if name.endswith(suffix):
                yield name, self.documents[name]

    @property
    def metadata(self) -> object | None:
        """The metadata of the invocation: the first file of its name, cut down or not."""
        for name in sorted(self.documents):
            if "/" not in name and is_metadata(name):
                return self.documents[name]
        return None

    def finding(
        self, rule: str, severity: Severity, text: str, *, file: str = "", hint: str | None = None
    ) -> Finding:
        """A finding of this leaf, or of one of its files."""
        key = f"{self.leaf.path}/{file}" if file else self.leaf.path
        return Finding(rule=rule, severity=severity, key=key, text=text, hint=hint)


def is_metadata(name: str) -> bool:
    """Whether a file is the metadata of an invocation; excerpts are marked in their name."""
    return name.endswith(("_metadata.json", "_metadata.EXCERPT.json"))


def value_at(document: object, key: str) -> object | None:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def mapping_at(document: object, key: str) -> dict[str, object]:
    """The mapping at a dotted key; empty where there is none."""
    found = value_at(document, key)
    return found if isinstance(found, dict) else {}


def list_at(document: object, key: str) -> list[object]:
    """The list at a dotted key; empty where there is none."""
    found = value_at(document, key)
    return found if isinstance(found, list) else []


def text_at(document: object, key: str) -> str:
    """The text at a dotted key; empty where there is none."""
    found = value_at(document, key)
    return found if isinstance(found, str) else ""


def number(value: object) -> float | None:
    """A finite number, also one that is written as text; None for all else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = float(value) if _NUMBER.fullmatch(value) else None
    if not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return float(value)


def number_at(document: object, key: str) -> float | None:
    """The number at a dotted key."""
    return number(value_at(document, key))


def count_at(document: object, key: str) -> int | None:
    """The whole number from 0 on at a dotted key."""
    found = number_at(document, key)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def numbers_at(document: object, key: str) -> list[float] | None:
    """The numbers of a list; None where it is no list of numbers."""
    found = value_at(document, key)
    if not isinstance(found, list):
        return None
    values = [number(value) for value in found]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def moment(value: object) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; a time without zone is taken as UTC."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        found = datetime.fromisoformat(value)
        zoned = found if found.tzinfo else datetime.fromisoformat(f"{value}+00:00")
        return zoned.timestamp()
    except (ValueError, OverflowError):
        return None


def moment_at(document: object, key: str) -> float | None:
    """The time at a dotted key."""
    return moment(value_at(document, key))


def typeless(document: object, key: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Dotted keys whose value is a number or a truth value that was written as text."""
    if isinstance(document, dict):
        if depth < 8:
            for name, value in document.items():
                yield from typeless(value, f"{key}.{name}" if key else str(name), depth + 1)
    elif isinstance(document, str) and (
        document.lower() in ("true", "false", "none", "null") or _NUMBER.fullmatch(document)
    ):
        yield key, document


def flat(document: object, key: str = "", depth: int = 0) -> dict[str, object]:
    """Values that are no mappings, by their dotted keys; to a depth that configurations have."""
    if not isinstance(document, dict) or depth > 8:
        return {key: document} if key else {}
    found: dict[str, object] = {}
    for name, value in document.items():
        found |= flat(value, f"{key}.{name}" if key else str(name), depth + 1)
    return found


def same(one: object, other: object) -> bool:
    """Whether two values say the same, whatever type they were written in."""
    numbers = number(one), number(other)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    return _plain(one) == _plain(other)


def _plain(value: object) -> str:
    return "none" if value is None else _text(value).lower()


def near(one: float, other: float, share: float = 1e-6) -> bool:
    """Whether two numbers are the same but for rounding."""
    return math.isclose(one, other, rel_tol=share, abs_tol=1e-9)


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value) if isinstance(value, str) else _text(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _text(value: object) -> str:
    try:
        return str(value)
    except ValueError:
        # An integer of more digits than Python writes.
        return "a number of thousands of digits"
