"""Typed reading of a part of the job: each engine turns its section into dataclasses with it.

The caller has checked the job against its schemas; this holds for jobs that come another way too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .contract import Document
from .errors import JobError

Choice = TypeVar("Choice", bound=str)


class Section:
    """A mapping of the job whose values are read by type; every getter raises JobError.

    `name` is its dotted key, empty for the benchmark itself.
    """

    def __init__(self, values: Document, name: str = "") -> None:
        self._values = values
        self._name = name

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def value(self, key: str) -> object:
        """The value as it is."""
        if key not in self._values:
            raise JobError(f"the benchmark has no {self._dotted(key)}")
        return self._values[key]

    def section(self, key: str) -> Section:
        """A mapping below this one."""
        value = self.value(key)
        if not isinstance(value, dict):
            raise JobError(f"{self._dotted(key)} must be a mapping, got {value!r}")
        return Section(value, self._dotted(key))

    def count(self, key: str, least: int = 1) -> int:
        """A whole number."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise JobError(
                f"{self._dotted(key)} must be a whole number of at least {least}, got {value!r}"
            )
        return value

    def count_or_none(self, key: str, least: int = 1) -> int | None:
        """A whole number, or None for null and for a key that is not there."""
        return self.count(key, least) if key in self else None

    def number(self, key: str, least: float = 0.0) -> float:
        """A number."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise JobError(
                f"{self._dotted(key)} must be a number of at least {least:g}, got {value!r}"
            )
        return float(value)

    def positive(self, key: str) -> float:
        """A number above 0."""
        value = self.number(key)
        if value == 0:
            raise JobError(f"{self._dotted(key)} must be above 0")
        return value

    def positive_or_none(self, key: str) -> float | None:
        """A number above 0, or None for null and for a key that is not there."""
        return self.positive(key) if key in self else None

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.value(key)
        if not isinstance(value, bool):
            raise JobError(f"{self._dotted(key)} must be true or false, got {value!r}")
        return value

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.value(key)
        if not isinstance(value, str) or not value:
            raise JobError(f"{self._dotted(key)} must be a text, got {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.value(key)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise JobError(f"{self._dotted(key)} must be a list of texts, got {value!r}")
        return tuple(value)

    def choice(self, key: str, choices: Sequence[Choice]) -> Choice:
        """One of some words."""
        value = self.value(key)
        for choice in choices:
            if choice == value:
                return choice
        raise JobError(f"{self._dotted(key)} must be one of {', '.join(choices)}, got {value!r}")

    def _dotted(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key
