"""What memory holds of an index when a run begins and when it has ended, host by host."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract import Document
from ..errors import storage_error
from ..eviction import drop, run_command
from ..io_core.control import Control
from ..io_core.page_cache import Residency, residency
from .workload import Cache

_KEY = "cache.command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The files of an index on one host before a run: how they were evicted and what is left."""

    files: int
    size_bytes: int
    took_ns: int
    resident: Residency | None


def prepare(cache: Cache, paths: Sequence[Path], control: Control) -> Prepared:
    """Evicts files from this host's memory if the mode is cold, and looks what is there.

    Nobody may have them open. Raises EngineError.
    """
    begun_ns = time.monotonic_ns()
    if cache.mode == "cold":
        if cache.command:
            run_command(cache.command, control, _KEY)
        else:
            drop(paths, control)
    took_ns = time.monotonic_ns() - begun_ns
    return Prepared(
        files=len(paths),
        size_bytes=sum(map(_size_bytes, paths)),
        took_ns=took_ns,
        resident=look(paths, control),
    )


def look(paths: Sequence[Path], control: Control) -> Residency | None:
    """How much of some files this host has in memory; None if that cannot be seen."""
    return residency(paths, lambda: not control.stopped)


def cache_document(
    cache: Cache, hosts: Sequence[Prepared], after: Sequence[Residency | None]
) -> Document:
    """What a point tells of caches, from all hosts. All of them have the same files."""
    method = None
    if cache.mode == "cold":
        method = "command" if cache.command else "drop"
    return {
        "mode": cache.mode,
        "method": method,
        "hosts": len(hosts),
        "files": max((host.files for host in hosts), default=0),
        "bytes": max((host.size_bytes for host in hosts), default=0),
        "elapsed_s": round(max((host.took_ns for host in hosts), default=0) / 1e9, 6),
        "resident_before_pct": _pct([host.resident for host in hosts]),
        "resident_after_pct": _pct(after),
    }


def _pct(hosts: Sequence[Residency | None]) -> float | None:
    """Of the pages of all hosts; None where any cannot see it, or there is nothing to see."""
    known = [host for host in hosts if host is not None]
    pages = sum(host.pages for host in known)
    if len(known) < len(hosts) or pages == 0:
        return None
    return round(100 * sum(host.resident for host in known) / pages, 4)


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise storage_error(error, "look at", path) from error
