"""What is counted of a client's requests while it asks; nothing is kept of a single one."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..io_core.control import Control
from ..io_core.histogram import Histogram
from .process_reads import ProcessCounter, ProcessReads
from .timeline import Timeline

_SECOND_NS = 10**9
# What a longer request has read is noted with it.
_SLOW_NS = _SECOND_NS // 10
# So many times are put into a histogram at once.
_AT_ONCE = 1024


@dataclass(slots=True, kw_only=True)
class Counts:
    """What one rank's requests came to.

    `requests` and `queries` were answered in time; `last_ns` is when the last of them ended, from
    the start. `asked` are queries, answered or not. `arrivals` are requests whose time came before
    the window ended, `unserved` those of them that were not begun; `lag_ns` is the most between
    arrival and begin.
    """

    requests: int = 0
    queries: int = 0
    asked: int = 0
    failed: int = 0
    late: int = 0
    first_failure: str | None = None
    arrivals: int = 0
    unserved: int = 0
    lag_ns: int = 0
    last_ns: int = 0
    timeline: Timeline = field(default_factory=Timeline)
    process: ProcessReads | None = None


class Tally:
    """Counts and times of one rank's window.

    There are times of what was answered in time alone: `latency` from the arrival of a request in
    an open loop, `service` from its begin, in ns.
    """

    def __init__(self, limit_ns: int) -> None:
        self.counts = Counts()
        self.latency = Histogram()
        self.service = Histogram()
        self._limit_ns = limit_ns
        self._latencies: list[int] = []
        self._services: list[int] = []
        self._control = Control()
        self._start_ns = 0
        self._counter = ProcessCounter()
        self._before: ProcessReads | None = None
        self._seen_bytes: int | None = None
        # Queries that are not in the timeline yet, all of one second, and when that ends.
        self._pending = 0
        self._second = 0
        self._second_ends_ns = 0

    def begin(self, control: Control) -> None:
        """The first request comes now; what is read is told to the control."""
        control.shards(1)
        self._control = control
        self._start_ns = control.start_ns
        self._second_ends_ns = self._start_ns + _SECOND_NS
        self._before = self._counter.read()
        self._seen_bytes = None if self._before is None else self._before.read_bytes

    def answered(self, due_ns: int, begun_ns: int, ended_ns: int, queries: int) -> None:
        """A request that was due at a moment, begun and answered; it may be late."""
        latency_ns, counts = ended_ns - due_ns, self.counts
        if latency_ns > self._limit_ns:
            counts.late += 1
            return
        slow = ended_ns - begun_ns > _SLOW_NS
        if ended_ns >= self._second_ends_ns:
            self._turn_to(ended_ns, slow=slow)
        counts.requests += 1
        counts.queries += queries
        self._pending += queries
        counts.last_ns = ended_ns - self._start_ns
        self._latencies.append(latency_ns)
        self._services.append(ended_ns - begun_ns)
        if len(self._latencies) == _AT_ONCE:
            self._record()
        if slow:
            self._note()

    def end(self) -> None:
        """No more requests come."""
        after = self._note()
        self._counter.close()
        if self._before is not None and after is not None:
            self.counts.process = after.since(self._before)
        self._record()

    def _turn_to(self, ended_ns: int, *, slow: bool) -> None:
        """A request ends in another second than those before it, and may have read all that time.

        What a short one has read is in the second before.
        """
        if self._pending and not slow:
            self._note()
        elif self._pending:
            self._put(None if self._seen_bytes is None else 0)
        self._second = (ended_ns - self._start_ns) // _SECOND_NS
        self._second_ends_ns = self._start_ns + (self._second + 1) * _SECOND_NS

    def _note(self) -> ProcessReads | None:
        """What was read since the last note was read in this second; all that is read by now."""
        now = self._counter.read()
        moved = None
        if now is not None and self._seen_bytes is not None and self._before is not None:
            moved = now.read_bytes - self._seen_bytes
            self._seen_bytes = now.read_bytes
            self._control.read_bytes[0] = now.read_bytes - self._before.read_bytes
        self._put(moved)
        return now

    def _put(self, read_bytes: int | None) -> None:
        self.counts.timeline.add(self._second, self._pending, read_bytes)
        self._pending = 0

    def _record(self) -> None:
        self.latency.record(self._latencies)
        self.service.record(self._services)
        self._latencies.clear()
        self._services.clear()
