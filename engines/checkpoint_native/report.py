"""From what each rank did of each checkpoint to what a stage of checkpointing reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..contract import Document
from ..io_core.meter import Moved
from ..io_core.page_cache import Residency
from ..moved import counted

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A checkpoint of a rank, which began `start_s` after the stage's window did.

    `took_ns` is from the common start to the end of the rank's part. `resident` is what was in
    memory before a read, None where that cannot be seen; `stall_ns` None without training.
    """

    number: int
    size_bytes: int
    start_s: float
    took_ns: int
    transfer_ns: int
    sync_ns: int
    moved: tuple[Moved, ...]
    resident: Residency | None = None
    stall_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """Files that a rank will read, after they have left the page cache of its host.

    `leads_host`: of each host one rank does; only that runs a program of the site.
    """

    leads_host: bool
    files: int
    size_bytes: int
    took_ns: int
    resident: Residency | None


def checkpoint_documents(
    ranks: Sequence[Sequence[Record]], hosts: Sequence[str], *, writes: bool
) -> list[Document]:
    """The checkpoints that all ranks have completed, from the records and hosts of all ranks."""
    return [_checkpoint(records, hosts, writes=writes) for records in zip(*ranks, strict=False)]


def eviction_document(ranks: Sequence[Evicted], method: str) -> Document:
    """What the ranks have dropped; the longest counts, and what is in memory of all files."""
    return {
        "method": method,
        "hosts": sum(each.leads_host for each in ranks),
        "files": sum(each.files for each in ranks),
        "bytes": sum(each.size_bytes for each in ranks),
        "elapsed_s": _seconds(max(each.took_ns for each in ranks)),
        "resident_pct": _resident_pct([each.resident for each in ranks]),
    }


def _checkpoint(ranks: Sequence[Record], hosts: Sequence[str], *, writes: bool) -> Document:
    took_ns = [rank.took_ns for rank in ranks]
    straggler = took_ns.index(max(took_ns))
    stalls_ns = [rank.stall_ns for rank in ranks if rank.stall_ns is not None]
    return {
        "number": ranks[0].number,
        "bytes": sum(rank.size_bytes for rank in ranks),
        "start_s": round(ranks[0].start_s, 6),
        "wall_s": _seconds(max(took_ns)),
        "rank_least_s": _seconds(min(took_ns)),
        "rank_median_s": _seconds(median(took_ns)),
        "rank0_s": _seconds(took_ns[0]),
        "straggler": straggler,
        "straggler_host": hosts[straggler],
        "rank_least_gib_s": _least_gib_s(ranks),
        "transfer_most_s": _seconds(max(rank.transfer_ns for rank in ranks)),
        "sync_most_s": _seconds(max(rank.sync_ns for rank in ranks)),
        "resident_pct": None if writes else _resident_pct([rank.resident for rank in ranks]),
        "counted_bytes": counted([rank.moved for rank in ranks], outward=writes),
        "stall_s": _seconds(max(stalls_ns)) if stalls_ns else None,
    }


def _least_gib_s(ranks: Sequence[Record]) -> float:
    """Of ranks that have files at all: some parallelisms leave ranks without."""
    speeds = [rank.size_bytes / _GIB / (rank.took_ns / 1e9) for rank in ranks if rank.size_bytes]
    return round(min(speeds), 6)


def _resident_pct(ranks: Sequence[Residency | None]) -> float | None:
    """Of the pages of all files; None where any rank cannot see it."""
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks):
        return None
    pages = sum(rank.pages for rank in known)
    return round(100 * sum(rank.resident for rank in known) / pages, 4) if pages else 0.0


def _seconds(ns: float) -> float:
    return round(ns / 1e9, 6)
