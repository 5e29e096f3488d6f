"""Hosts as users write them: names, ranges node[01-08], slots node1:4, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

# A hostfile is handed to a launcher as an open file of this number, so that an argv can name it
# before it exists and nothing of it stays behind.
HOSTFILE_DESCRIPTOR = 199
HOSTFILE = f"/dev/fd/{HOSTFILE_DESCRIPTOR}"

_RANGE = re.compile(r"\[([0-9,-]*)\]")
# No name may begin with a hyphen: programs would take it for a switch.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]|\[[0-9,-]*\])*")
_BRACKETED = re.compile(r"\[(?P<address>[^\]]*:[^\]]*)\](?P<rest>.*)")
_NUMBERED = re.compile(r"(?P<head>.*?)(?P<number>[0-9]+)(?P<tail>[^0-9]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """A host and the most ranks it may have; None where its entry does not say."""

    name: str
    slots: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host of a job: the most ranks it may have, and those it has."""

    name: str
    slots: int
    ranks: int


def expand_hosts(patterns: Sequence[str]) -> tuple[Slots, ...]:
    """All hosts in order: ("node[01-02]:4", "::1") gives node01 and node02 of 4 slots, then ::1.

    Raises ValueError for what is no host, for a range that runs backwards or is not of numbers,
    and for a host twice.
    """
    hosts = tuple(host for pattern in patterns for host in _expand(pattern))
    names = [host.name for host in hosts]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"host {', '.join(twice)} is listed twice")
    return hosts


def is_local(names: Sequence[str]) -> bool:
    """Whether all hosts are this machine by name, so that no host needs to be named."""
    return all(name in LOCAL_NAMES for name in names)


def is_ipv6(name: str) -> bool:
    """Whether a host is an IPv6 address, with or without a zone."""
    try:
        IPv6Address(name)
    except AddressValueError:
        return False
    return True


def host_ranges(names: Sequence[str]) -> str:
    """Names written short, in their order: `node[01-03],login1`."""
    return ",".join(_short_forms(names))


def host_patterns(hosts: Sequence[Slots]) -> list[str]:
    """The short list that `expand_hosts` would read as these hosts."""
    patterns: list[str] = []
    start = 0
    while start < len(hosts):
        slots, end = hosts[start].slots, start
        while end < len(hosts) and hosts[end].slots == slots:
            end += 1
        for form in _short_forms([host.name for host in hosts[start:end]]):
            named = f"[{form}]" if slots is not None and is_ipv6(form) else form
            patterns.append(named if slots is None else f"{named}:{slots}")
        start = end
    return patterns


# ---------------------------------------------------------------- reading


def _expand(pattern: str) -> Iterator[Slots]:
    if is_ipv6(pattern):
        yield Slots(name=pattern)
        return
    bracketed = _BRACKETED.fullmatch(pattern)
    if bracketed is not None:
        if not is_ipv6(bracketed["address"]):
            raise ValueError(f"{pattern!r}: {bracketed['address']!r} is no IPv6 address")
        yield Slots(name=bracketed["address"], slots=_slots(bracketed["rest"], pattern))
        return
    names, colon, slots = pattern.partition(":")
    if not _NAME.fullmatch(names):
        raise ValueError(
            f"{pattern!r} is no host; the forms are node1, node[01-08], node1:4 (slots), "
            "10.0.0.1 and [2001:db8::1]:4"
        )
    for name in _names(names, pattern):
        yield Slots(name=name, slots=_slots(colon + slots, pattern))


def _slots(text: str, pattern: str) -> int | None:
    """The number after a colon. A Slurm-like `node1:4` is 4; nothing is None."""
    if not text:
        return None
    digits = text.removeprefix(":")
    if not text.startswith(":") or not (digits.isascii() and digits.isdigit()) or not int(digits):
        raise ValueError(f"{pattern!r}: {text!r} is no number of slots; the form is node1:4")
    return int(digits)


def _names(text: str, pattern: str) -> Iterator[str]:
    match = _RANGE.search(text)
    if match is None:
        yield text
        return
    head, tail = text[: match.start()], text[match.end() :]
    for number in _numbers(match.group(1), pattern):
        for rest in _names(tail, pattern):
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


# ---------------------------------------------------------------- writing


def _short_forms(names: Sequence[str]) -> list[str]:
    """Neighbours that count up in their last number, joined."""
    forms: list[str] = []
    start = 0
    while start < len(names):
        end = start + 1
        while end < len(names) and _follows(names[end - 1], names[end]):
            end += 1
        forms.append(_range(names[start], names[end - 1]) if end - start > 1 else names[start])
        start = end
    return forms


def _split(name: str) -> tuple[str, str, str] | None:
    match = None if is_ipv6(name) else _NUMBERED.fullmatch(name)
    # In 10.0.0.1 the digits are an address, which reads better whole.
    if match is None or not match["head"].strip("0123456789."):
        return None
    return match["head"], match["number"], match["tail"]


def _follows(before: str, after: str) -> bool:
    one, other = _split(before), _split(after)
    if one is None or other is None or (one[0], one[2]) != (other[0], other[2]):
        return False
    return str(int(one[1]) + 1).zfill(len(one[1])) == other[1]


def _range(first: str, last: str) -> str:
    one, other = _split(first), _split(last)
    assert one is not None and other is not None
    return f"{one[0]}[{one[1]}-{other[1]}]{one[2]}"
