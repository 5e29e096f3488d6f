"""Host lists: ranges such as node[01-08] stand for their names and are kept short in the job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_RANGE = re.compile(r"\[([0-9,-]+)\]")


def expand_hosts(patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of all hosts, in order: ("node[01-03]",) gives node01, node02, node03.

    Raises ValueError for a range that runs backwards or is not of numbers, and for a host twice.
    """
    names = tuple(name for pattern in patterns for name in _expand(pattern))
    twice = sorted({name for name in names if names.count(name) > 1}) if _repeats(names) else []
    if twice:
        raise ValueError(f"host {', '.join(twice)} is listed twice")
    return names


def is_local(names: Sequence[str]) -> bool:
    """Whether all hosts are this machine by name, so that no host needs to be named."""
    return all(name in LOCAL_NAMES for name in names)


def _repeats(names: Sequence[str]) -> bool:
    return len(set(names)) < len(names)


def _expand(pattern: str) -> Iterator[str]:
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    head, tail = pattern[: match.start()], pattern[match.end() :]
    for number in _numbers(match.group(1), pattern):
        for rest in _expand(tail):
            yield f"{head}{number}{rest}"


def _numbers(text: str, pattern: str) -> Iterator[str]:
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"{pattern!r}: {part!r} is not a range; the form is node[01-08,12]")
        if int(last or first) < int(first):
            raise ValueError(f"{pattern!r}: the range {part!r} runs backwards")
        for number in range(int(first), int(last or first) + 1):
            yield str(number).zfill(len(first))
