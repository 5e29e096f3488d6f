"""Values of a JSON document by a path: the part of RFC 9535 that names places. Pure.

`$.jobs[*].read.bw_bytes`: a member by name, also `['a name']`, an element by its number, from the
end where it is negative, and all of them with `*`. No slices, no filters, no search.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

Step = str | int | Literal[None]

_STEP = re.compile(
    r"\.(?:(?P<name>[A-Za-z_][A-Za-z0-9_-]*)|(?P<all>\*))"
    r"|\[(?:(?P<number>-?(?:0|[1-9][0-9]*))|(?P<every>\*)"
    r"|'(?P<single>[^'\\]*)'|\"(?P<double>[^\"\\]*)\")\]"
)


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a path: a name, a number, or None for all. Raises ValueError."""
    if not path.startswith("$"):
        raise ValueError(f"{path!r} is no JSON path: it begins with $")
    steps: list[Step] = []
    end = 1
    while end < len(path):
        match = _STEP.match(path, end)
        if match is None:
            raise ValueError(f"{path!r} is no JSON path that is known here, from {path[end:]!r} on")
        if match["number"] is not None:
            steps.append(int(match["number"]))
        elif match["all"] or match["every"]:
            steps.append(None)
        else:
            names = (match["name"], match["single"], match["double"])
            steps.append(next(name for name in names if name is not None))
        end = match.end()
    return tuple(steps)


def values_at(document: object, steps: Sequence[Step]) -> list[Any]:
    """All values at a path, in the document's order; none where nothing is there."""
    found: list[Any] = [document]
    for step in steps:
        found = [below for value in found for below in _below(value, step)]
    return found


def _below(value: object, step: Step) -> list[Any]:
    if isinstance(value, dict):
        if step is None:
            return list(value.values())
        return [value[step]] if isinstance(step, str) and step in value else []
    if isinstance(value, list):
        if step is None:
            return value
        if isinstance(step, int) and -len(value) <= step < len(value):
            return [value[step]]
    return []
