"""What an executor has done: counters and histograms, filled by its shards."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from .histogram import Histogram
from .operations import PURPOSES


@dataclass(slots=True, kw_only=True)
class Flow:
    """Operations in one direction; the window's are those that completed inside it."""

    window_bytes: int = 0
    window_operations: int = 0
    total_bytes: int = 0
    total_operations: int = 0
    latency: Histogram = field(default_factory=Histogram)


@dataclass(slots=True, kw_only=True)
class Checks:
    """Reads that were compared with what had been written; mismatches are blocks."""

    operations: int = 0
    blocks: int = 0
    bytes: int = 0
    mismatches: int = 0


@dataclass(slots=True)
class Tally:
    """One shard's account of one block of operations. Indices of pairs are LOAD and STORE."""

    latencies_ns: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    window_bytes: list[int] = field(default_factory=lambda: [0, 0])
    operations: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    purposes: list[int] = field(default_factory=lambda: [0] * PURPOSES)
    requests: int = 0
    last_ns: int = 0
    checks: Checks = field(default_factory=Checks)


class Account:
    """One rank's account of a phase. Shards add their tallies, at most once for each block."""

    def __init__(self) -> None:
        self.read = Flow()
        self.write = Flow()
        self.checks = Checks()
        # Operations by purpose and whole requests, both completed inside the window.
        self.window_purposes = [0] * PURPOSES
        self.window_requests = 0
        # Monotonic clock of the last completion; 0 when there was none.
        self.last_ns = 0
        self._lock = threading.Lock()

    def add(self, tally: Tally) -> None:
        """Adds a shard's tally."""
        with self._lock:
            for index, flow in enumerate((self.read, self.write)):
                flow.window_bytes += tally.window_bytes[index]
                flow.window_operations += len(tally.latencies_ns[index])
                flow.total_bytes += tally.bytes[index]
                flow.total_operations += tally.operations[index]
                flow.latency.record(tally.latencies_ns[index])
            for purpose, count in enumerate(tally.purposes):
                self.window_purposes[purpose] += count
            self.window_requests += tally.requests
            self.last_ns = max(self.last_ns, tally.last_ns)
            self.checks.operations += tally.checks.operations
            self.checks.blocks += tally.checks.blocks
            self.checks.bytes += tally.checks.bytes
            self.checks.mismatches += tally.checks.mismatches
