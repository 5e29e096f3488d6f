"""What an executor has done: counters and histograms, filled by its shards."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .histogram import Histogram, Int64s
from .operations import PURPOSES

# Seconds of the window that have a bin each: a day.
TIMELINE_BINS = 86400
# Classes of entries by size: the bit length of a number of bytes.
SIZE_CLASSES = 64


@dataclass(slots=True, kw_only=True)
class Entries:
    """Operations of one kind in one step of a request, taken together; complete in the window.

    `latency` runs from the first submission to the last completion. `sizes` has shape
    (SIZE_CLASSES, 4): entries, their bytes, the sum of their latencies and the longest, in ns.
    """

    latency: Histogram = field(default_factory=Histogram)
    sizes: Int64s = field(default_factory=lambda: np.zeros((SIZE_CLASSES, 4), dtype=np.int64))

    def record(self, entries: Sequence[tuple[int, int]]) -> None:
        """Adds entries, each of so many bytes and ns."""
        self.latency.record([took_ns for _, took_ns in entries])
        for size_bytes, took_ns in entries:
            row = self.sizes[size_bytes.bit_length()]
            row[:3] += (1, size_bytes, took_ns)
            row[3] = max(row[3], took_ns)

    def merge(self, other: Entries) -> None:
        """Adds all that others hold."""
        self.latency.merge(other.latency)
        self.sizes[:, :3] += other.sizes[:, :3]
        np.maximum(self.sizes[:, 3], other.sizes[:, 3], out=self.sizes[:, 3])


@dataclass(slots=True, kw_only=True)
class Flow:
    """Operations in one direction; the window's are those that completed inside it."""

    window_bytes: int = 0
    window_operations: int = 0
    total_bytes: int = 0
    total_operations: int = 0
    latency: Histogram = field(default_factory=Histogram)
    # Bytes that completed in each second of the window.
    timeline: Int64s = field(default_factory=lambda: np.zeros(TIMELINE_BINS, dtype=np.int64))
    entries: Entries = field(default_factory=Entries)

    def merge(self, other: Flow) -> None:
        """Adds all that another flow holds."""
        self.window_bytes += other.window_bytes
        self.window_operations += other.window_operations
        self.total_bytes += other.total_bytes
        self.total_operations += other.total_operations
        self.latency.merge(other.latency)
        if other.window_bytes:
            filled = np.flatnonzero(other.timeline)
            self.timeline[filled] += other.timeline[filled]
        self.entries.merge(other.entries)


@dataclass(slots=True, kw_only=True)
class Checks:
    """Reads that were compared with what had been written; mismatches are blocks."""

    operations: int = 0
    blocks: int = 0
    bytes: int = 0
    mismatches: int = 0

    def merge(self, other: Checks) -> None:
        """Adds all that others have checked."""
        self.operations += other.operations
        self.blocks += other.blocks
        self.bytes += other.bytes
        self.mismatches += other.mismatches


@dataclass(slots=True, kw_only=True)
class Requests:
    """Whole requests that completed inside the window.

    `total` runs from the intended arrival in an open loop, else from the first I/O; `queue` and
    `service` are its parts before and after the first I/O, in an open loop only. `prefix_load`
    runs from where `total` begins to the last of the loads that come before the first store; of
    requests that have such loads, also of those whose rest completes after the window.
    `generated_tokens` are those that the plan lets the completed requests generate.
    """

    completed: int = 0
    total: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)
    prefix_load: Histogram = field(default_factory=Histogram)
    generated_tokens: int = 0
    # Most requests that had arrived and not started; `overloaded` when that ended the run.
    backlog_max: int = 0
    overloaded: bool = False

    def merge(self, other: Requests) -> None:
        """Adds all requests of others; backlogs of shards at different times do not add up."""
        self.completed += other.completed
        self.total.merge(other.total)
        self.queue.merge(other.queue)
        self.service.merge(other.service)
        self.prefix_load.merge(other.prefix_load)
        self.generated_tokens += other.generated_tokens
        self.backlog_max = max(self.backlog_max, other.backlog_max)
        self.overloaded |= other.overloaded


@dataclass(slots=True)
class Tally:
    """One shard's account of one block of operations. Indices of pairs are LOAD and STORE."""

    latencies_ns: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    window_bytes: list[int] = field(default_factory=lambda: [0, 0])
    operations: list[int] = field(default_factory=lambda: [0, 0])
    bytes: list[int] = field(default_factory=lambda: [0, 0])
    timeline: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    purposes: list[int] = field(default_factory=lambda: [0] * PURPOSES)
    # Bytes and ns of each entry.
    entries: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(
        default_factory=lambda: ([], [])
    )
    requests: int = 0
    generated_tokens: int = 0
    prefix_ns: list[int] = field(default_factory=list)
    requests_ns: list[int] = field(default_factory=list)
    queue_ns: list[int] = field(default_factory=list)
    service_ns: list[int] = field(default_factory=list)
    backlog_max: int = 0
    overloaded: bool = False
    last_ns: int = 0
    checks: Checks = field(default_factory=Checks)


class Account:
    """One rank's account of a phase. Shards add their tallies, at most once for each block."""

    def __init__(self) -> None:
        self.read = Flow()
        self.write = Flow()
        self.checks = Checks()
        self.requests = Requests()
        # Operations by purpose, completed inside the window.
        self.window_purposes = [0] * PURPOSES
        # Monotonic clock of the last completion; 0 when there was none.
        self.last_ns = 0
        # Time that shards had room for operations and the planner had none ready.
        self.starved_ns = 0
        self._lock = threading.Lock()

    @property
    def window_requests(self) -> int:
        """Whole requests completed inside the window."""
        return self.requests.completed

    def merge(self, other: Account) -> None:
        """Adds all that another account holds."""
        with self._lock:
            self.read.merge(other.read)
            self.write.merge(other.write)
            self.checks.merge(other.checks)
            self.requests.merge(other.requests)
            for purpose, count in enumerate(other.window_purposes):
                self.window_purposes[purpose] += count
            self.last_ns = max(self.last_ns, other.last_ns)
            self.starved_ns += other.starved_ns

    def forget_requests(self) -> None:
        """Keeps transfers alone, where rows were no requests of anybody."""
        self.requests = Requests()
        for flow in (self.read, self.write):
            flow.entries = Entries()

    def add(self, tally: Tally) -> None:
        """Adds a shard's tally."""
        with self._lock:
            for index, flow in enumerate((self.read, self.write)):
                flow.window_bytes += tally.window_bytes[index]
                flow.window_operations += len(tally.latencies_ns[index])
                flow.total_bytes += tally.bytes[index]
                flow.total_operations += tally.operations[index]
                flow.latency.record(tally.latencies_ns[index])
                flow.entries.record(tally.entries[index])
                for second, moved in tally.timeline[index].items():
                    if second < TIMELINE_BINS:
                        flow.timeline[second] += moved
            for purpose, count in enumerate(tally.purposes):
                self.window_purposes[purpose] += count
            self._add_requests(tally)
            self.last_ns = max(self.last_ns, tally.last_ns)
            self.checks.merge(tally.checks)

    def _add_requests(self, tally: Tally) -> None:
        requests = self.requests
        requests.completed += tally.requests
        requests.total.record(tally.requests_ns)
        requests.queue.record(tally.queue_ns)
        requests.service.record(tally.service_ns)
        requests.prefix_load.record(tally.prefix_ns)
        requests.generated_tokens += tally.generated_tokens
        requests.backlog_max = max(requests.backlog_max, tally.backlog_max)
        requests.overloaded |= tally.overloaded
