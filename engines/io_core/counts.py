"""Counters of bytes that this host keeps whether a benchmark runs or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ..contract import Document

Kind = Literal["device", "mount", "network"]

ROOT = Path("/")


class Counts(NamedTuple):
    """Bytes that were read or received, and written or sent."""

    inward: int
    outward: int

    def since(self, before: Counts) -> Counts:
        """What was moved after `before`."""
        return Counts(self.inward - before.inward, self.outward - before.outward)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Something that counts the bytes it moves, and how its count is read.

    `machine` is the kernel that counts, or the part of it that counts apart: hosts that are
    containers of one machine see one count under one name. `facts` are what a result says of it.
    `read` raises OSError or ValueError where there is no count now; None: there never is.
    """

    kind: Kind
    machine: str
    name: str
    facts: Document
    read: Callable[[], Counts] | None


def boot_id(root: Path = ROOT) -> str | None:
    """The kernel that runs here, by the id of its boot."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None
