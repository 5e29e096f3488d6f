"""What the engine judges while a test runs: rules that fire, and functions that are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest.mock import patch

import pytest
from rule_cases import RULE_CASES, Case

from mlps.engine.rules import Finding

ENGINE = "mlps.engine."
# It makes findings anew that an archive holds: nobody has judged anything.
READER = "rules:from_document"


@dataclass
class Record:
    """`fired`: of each rule that fired, the functions that were under way; `called`: all others."""

    fired: dict[str, set[str]] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)


def _name(frame: FrameType) -> str | None:
    """A function of the engine as module:name; of others None."""
    module = str(frame.f_globals.get("__name__", ""))
    return f"{module[len(ENGINE) :]}:{frame.f_code.co_name}" if module.startswith(ENGINE) else None


def _under_way(frame: FrameType | None) -> Iterator[str]:
    """Functions of the engine from this one outwards."""
    while frame is not None:
        if (name := _name(frame)) is not None:
            yield name
        frame = frame.f_back


@contextmanager
def recorded(*, calls: bool) -> Iterator[Record]:
    """Records the findings that the engine makes; where it is asked for, also its calls."""
    record = Record()
    original = Finding.__init__
    seen: set[CodeType] = set()

    def made(self: Finding, **fields: Any) -> None:
        original(self, **fields)
        under_way = [*_under_way(sys._getframe(1))]
        if under_way and under_way[0] != READER:
            record.fired.setdefault(fields["rule"], set()).update(under_way)

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code not in seen:
            seen.add(frame.f_code)
            if (name := _name(frame)) is not None:
                record.called.add(name)

    with patch.object(Finding, "__init__", made):
        before = sys.getprofile()
        if calls:
            sys.setprofile(profile)
        try:
            yield record
        finally:
            sys.setprofile(before)


def node_of(item: pytest.Item) -> str:
    """A test as the table names it."""
    return f"{item.path.relative_to(Path(__file__).parent).as_posix()}::{item.name}"


def cases_of(node: str) -> tuple[dict[str, Case], dict[str, Case]]:
    """The rules that a test fires by the table, and those that it shows to be silent."""
    fires = {rule: case for rule, case in RULE_CASES.items() if case.fires == node}
    silent = {rule: case for rule, case in RULE_CASES.items() if case.silent == node}
    return fires, silent


def refuted(record: Record, fires: dict[str, Case], silent: dict[str, Case]) -> list[str]:
    """What the table says of a test and what is not so."""
    wrong = [
        f"{rule} did not fire in {case.judge}"
        for rule, case in fires.items()
        if case.judge not in record.fired.get(rule, ())
    ]
    wrong += [f"{rule} fired" for rule in silent if rule in record.fired]
    wrong += [
        f"{rule} was not judged: {case.judge} was not called"
        for rule, case in silent.items()
        if case.judge not in record.called
    ]
    return wrong
