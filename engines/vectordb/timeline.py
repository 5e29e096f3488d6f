"""What was answered and read in each second, in bounded memory however long that lasts."""

from __future__ import annotations

from collections.abc import Sequence

from ..contract import Document

BINS_MOST = 3600


class Timeline:
    """Queries and bytes in bins of whole seconds since the start; `size_bytes` None: unknown."""

    def __init__(self) -> None:
        self.bin_s = 1
        self.queries: list[int] = []
        self.size_bytes: list[int] | None = []

    def add(self, second: int, queries: int, size_bytes: int | None) -> None:
        """Adds to what happened in a second; bins get wider where there would be too many."""
        while second // self.bin_s >= BINS_MOST:
            self.widen(2 * self.bin_s)
        at = second // self.bin_s
        _grow(self.queries, at)
        self.queries[at] += queries
        if size_bytes is None:
            self.size_bytes = None
        if self.size_bytes is not None and size_bytes is not None:
            _grow(self.size_bytes, at)
            self.size_bytes[at] += size_bytes

    def widen(self, bin_s: int) -> None:
        """Makes bins of so many seconds, a multiple of what they have."""
        ratio = bin_s // self.bin_s
        self.queries = _joined(self.queries, ratio)
        if self.size_bytes is not None:
            self.size_bytes = _joined(self.size_bytes, ratio)
        self.bin_s = bin_s


def timeline_document(ranks: Sequence[Timeline]) -> Document:
    """The sum over all ranks; bytes null where any rank's are unknown."""
    bin_s = max(rank.bin_s for rank in ranks)
    for rank in ranks:
        rank.widen(bin_s)
    known = [rank.size_bytes for rank in ranks if rank.size_bytes is not None]
    return {
        "bin_s": bin_s,
        "queries": _sums([rank.queries for rank in ranks]),
        "process_bytes": _sums(known) if len(known) == len(ranks) else None,
    }


def _grow(bins: list[int], at: int) -> None:
    """Makes room for a bin."""
    bins.extend([0] * (at + 1 - len(bins)))


def _joined(bins: Sequence[int], ratio: int) -> list[int]:
    return [sum(bins[first : first + ratio]) for first in range(0, len(bins), ratio)]


def _sums(ranks: Sequence[Sequence[int]]) -> list[int]:
    length = max(map(len, ranks))
    return [sum(rank[at] for rank in ranks if at < len(rank)) for at in range(length)]
