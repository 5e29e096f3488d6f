"""From what each rank did to the one result of a stage."""

from __future__ import annotations

import hashlib
import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from .contract import Document
from .io_core.account import SIZE_CLASSES, TIMELINE_BINS, Account, Checks, Entries, Flow
from .io_core.control import Control
from .io_core.executor import Refusal
from .io_core.histogram import Histogram, Int64s
from .io_core.meter import Moved
from .moved import merge_moved
from .supervise import Failure, Status
from .world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rank's measured window; `drain_s` is how long the last operation outlasted it."""

    start_unix_s: float
    ramp_s: float
    length_s: float
    drain_s: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A rank's plan: SHA-256 over its first `hashed_operations` operations."""

    sha256: str
    generator: str
    hashed_operations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What carried out the operations of a rank, and how."""

    name: str
    direct: bool
    direct_refused: str | None
    alignment_bytes: int
    durability: str
    io_size_bytes: int
    depth: int
    rings: int
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Processor time of a rank, all threads, and how often they were switched."""

    user_s: float
    system_s: float
    context_switches: int

    def since(self, before: Usage) -> Usage:
        """What was used after `before`."""
        return Usage(
            user_s=self.user_s - before.user_s,
            system_s=self.system_s - before.system_s,
            context_switches=self.context_switches - before.context_switches,
        )


def peak_rss_bytes() -> int:
    """The most memory that this program has held.

    Not getrusage's: that begins with what the process held before it became this program.
    """
    status = Path("/proc/self/status").read_text("ascii", "replace")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def usage_now() -> Usage:
    """What this process has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        user_s=used.ru_utime,
        system_s=used.ru_stime,
        context_switches=used.ru_nvcsw + used.ru_nivcsw,
    )


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a stage leaves in a rank, put together while it goes on: a failed stage has less.

    `rates` are counts of the window, `ratios` a part and its whole; both are added over ranks. In
    the result's details `facts` are rank 0's, `sums` are added and `lists` joined over ranks.
    `search`, `roofline`, `training`, `dataset`, `checkpointing` and `vectordb` have the form of the
    result's. Of rooflines the bytes and processor seconds are added, and the longest counts; of the
    others rank 0's is the result's. `latencies` are histograms beside the account's, of the same
    names in all ranks.
    """

    account: Account | None = None
    window: Window | None = None
    plan: Plan | None = None
    core: Core | None = None
    usage: Usage | None = None
    moved: tuple[Moved, ...] = ()
    rates: dict[str, int] = field(default_factory=dict)
    ratios: dict[str, tuple[int, int]] = field(default_factory=dict)
    facts: Document = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    latencies: dict[str, Histogram] = field(default_factory=dict)
    search: Document | None = None
    roofline: Document | None = None
    training: Document | None = None
    dataset: Document | None = None
    checkpointing: Document | None = None
    vectordb: Document | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    """A histogram without its buckets."""

    total_ns: int
    min_ns: int | None
    max_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counters:
    """A flow without its histogram's buckets."""

    window_bytes: int
    window_operations: int
    total_bytes: int
    total_operations: int
    latency: _Extent
    latency_p99_ns: int | None
    entry_p95_ns: int | None
    entry_sum_ns: int
    # The longest entry of each class of sizes.
    entry_max_ns: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What a rank sends to rank 0 once, apart from its histograms."""

    read: _Counters
    write: _Counters
    latency: dict[str, _Extent]
    backlog_max: int
    overloaded: bool
    requests: int
    request_p95_ns: int | None
    generated_tokens: int
    checks: Checks
    any_io: bool
    window: Window | None
    plan: Plan | None
    core: Core | None
    usage: Usage
    peak_rss_bytes: int
    moved: tuple[Moved, ...]
    rates: dict[str, int]
    ratios: dict[str, tuple[int, int]]
    facts: Document
    sums: dict[str, int]
    lists: dict[str, list[str]]
    search: Document | None
    roofline: Document | None
    training: Document | None
    dataset: Document | None
    checkpointing: Document | None
    vectordb: Document | None


def window_of(control: Control, last_ns: int) -> Window:
    """The window of work that has ended; `last_ns` is the clock of the last completion."""
    control.finish()
    return Window(
        start_unix_s=control.start_unix_s,
        ramp_s=control.ramp_s,
        length_s=control.length_s,
        drain_s=max(last_ns - control.end_ns, 0) / 1e9,
        elapsed_s=control.elapsed_s,
    )


def gather_result(
    world: World, outcome: Outcome, hosts: Sequence[str], status: Status, failures: list[Failure]
) -> Document:
    """The result event without what names the stage; complete on rank 0, empty elsewhere."""
    account = outcome.account or Account()
    latencies = _latencies(account) | outcome.latencies
    records = world.gather(_record(outcome, account, latencies))
    read_counts, write_counts, *others = _summed(world, _counted(account, latencies))
    latency_counts = dict(zip(latencies, others, strict=False))
    timelines, sizes = others[-4:-2], [flat.reshape(SIZE_CLASSES, -1) for flat in others[-2:]]
    if world.rank != 0:
        return {}
    reads, writes = [r.read for r in records], [r.write for r in records]
    any_io = any(record.any_io for record in records)
    window = _merge_windows([r.window for r in records if r.window])
    return {
        "status": status,
        "errors": [
            {"rank": failure.rank, "host": failure.host, "message": failure.message}
            for failure in failures
        ],
        "window": window,
        "io": {"read": _flow(reads, read_counts), "write": _flow(writes, write_counts)}
        if any_io
        else {},
        "latency": {
            name: _merged([r.latency[name] for r in records], counts).export("ns")
            for name, counts in latency_counts.items()
        }
        if any_io
        else {},
        "sizes": {"read": _sizes(reads, sizes[0]), "write": _sizes(writes, sizes[1])}
        if any_io
        else {},
        "search": records[0].search,
        "training": records[0].training,
        "dataset": records[0].dataset,
        "checkpointing": records[0].checkpointing,
        "vectordb": records[0].vectordb,
        "roofline": _merge_rooflines([r.roofline for r in records if r.roofline]),
        "timeline": _timeline(timelines, window["length_s"]) if any_io and window else None,
        "verify": {
            name: sum(getattr(record.checks, name) for record in records)
            for name in (checked.name for checked in fields(Checks))
        },
        "plan": _merge_plans([r.plan for r in records if r.plan]),
        "core": _merge_cores([r.core for r in records]),
        **merge_moved([record.moved for record in records], hosts),
        "measures": _measures(records),
        "ranks": _columns(records, hosts),
        "details": _details(records),
    }


def _counted(account: Account, latencies: Mapping[str, Histogram]) -> list[Int64s]:
    """All counts of a rank that are added over ranks, each array flat and always as long."""
    flows = (account.read, account.write)
    return [
        *(flow.latency.counts for flow in flows),
        *(histogram.counts for histogram in latencies.values()),
        *(flow.timeline for flow in flows),
        *(_size_sums(flow.entries).ravel() for flow in flows),
    ]


def _summed(world: World, arrays: Sequence[Int64s]) -> list[Int64s]:
    """The sums over all ranks of each array, on rank 0.

    In one message, and only of what any rank has filled: each exchange costs ranks that share a
    core more than all the adding.
    """
    filled = [np.flatnonzero(array) for array in arrays]
    spans = world.gather([(int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0) for at in filled])
    widest = world.broadcast([_widest(of_array) for of_array in zip(*spans, strict=True)])
    parts = [array[first:end] for array, (first, end) in zip(arrays, widest, strict=True)]
    packed = np.concatenate(parts)
    total = world.sum_counts(packed) if len(packed) else packed
    sums = [np.zeros_like(array) for array in arrays]
    for result, (first, end) in zip(sums, widest, strict=True):
        result[first:end], total = total[: end - first], total[end - first :]
    return sums


def _widest(spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    held = [span for span in spans if span != (0, 0)]
    return (min(first for first, _ in held), max(end for _, end in held)) if held else (0, 0)


def _record(outcome: Outcome, account: Account, latencies: Mapping[str, Histogram]) -> _Record:
    return _Record(
        read=_counters(account.read),
        write=_counters(account.write),
        latency={name: _extent(histogram) for name, histogram in latencies.items()},
        backlog_max=account.requests.backlog_max,
        overloaded=account.requests.overloaded,
        requests=account.requests.completed,
        request_p95_ns=account.requests.total.percentile(0.95),
        generated_tokens=account.requests.generated_tokens,
        checks=account.checks,
        any_io=account.read.total_operations + account.write.total_operations > 0,
        window=outcome.window,
        plan=outcome.plan,
        core=outcome.core,
        usage=outcome.usage or usage_now(),
        peak_rss_bytes=peak_rss_bytes(),
        moved=outcome.moved,
        rates=outcome.rates,
        ratios=outcome.ratios,
        facts=outcome.facts,
        sums=outcome.sums,
        lists=outcome.lists,
        search=outcome.search,
        roofline=outcome.roofline,
        training=outcome.training,
        dataset=outcome.dataset,
        checkpointing=outcome.checkpointing,
        vectordb=outcome.vectordb,
    )


def _counters(flow: Flow) -> _Counters:
    return _Counters(
        window_bytes=flow.window_bytes,
        window_operations=flow.window_operations,
        total_bytes=flow.total_bytes,
        total_operations=flow.total_operations,
        latency=_extent(flow.latency),
        latency_p99_ns=flow.latency.percentile(0.99),
        entry_p95_ns=flow.entries.latency.percentile(0.95),
        entry_sum_ns=flow.entries.latency.total,
        entry_max_ns=flow.entries.sizes[:, 3].tolist(),
    )


def _latencies(account: Account) -> dict[str, Histogram]:
    """Those of more than one operation, by the names of the result."""
    requests = account.requests
    return {
        "request": requests.total,
        "queue": requests.queue,
        "service": requests.service,
        "prefix_load": requests.prefix_load,
        "entry_read": account.read.entries.latency,
        "entry_write": account.write.entries.latency,
    }


def _size_sums(entries: Entries) -> Int64s:
    """What can be added: number, bytes and ns of each class, shape (SIZE_CLASSES, 3)."""
    return np.ascontiguousarray(entries.sizes[:, :3])


def _extent(histogram: Histogram) -> _Extent:
    return _Extent(total_ns=histogram.total, min_ns=histogram.minimum, max_ns=histogram.maximum)


def merge_histogram(world: World, histogram: Histogram) -> Histogram:
    """The histograms of all ranks in one on rank 0; elsewhere without what it holds."""
    return _merged(world.gather(_extent(histogram)), world.sum_counts(histogram.counts))


def _merged(ranks: Sequence[_Extent], counts: Int64s) -> Histogram:
    histogram = Histogram()
    histogram.counts = counts
    histogram.total = sum(rank.total_ns for rank in ranks)
    histogram.minimum = min(
        (rank.min_ns for rank in ranks if rank.min_ns is not None), default=None
    )
    histogram.maximum = max(
        (rank.max_ns for rank in ranks if rank.max_ns is not None), default=None
    )
    return histogram


def _timeline(flows: Sequence[Int64s], length_s: float) -> Document:
    """Bytes of all ranks in each second of the window, the last one perhaps cut."""
    bins = min(math.ceil(length_s), TIMELINE_BINS)
    read, write = (flow[:bins].tolist() for flow in flows)
    return {"bin_s": 1, "read_bytes": read, "write_bytes": write}


def _flow(ranks: Sequence[_Counters], counts: Int64s) -> Document:
    latency = _merged([rank.latency for rank in ranks], counts)
    return {
        "window_bytes": sum(rank.window_bytes for rank in ranks),
        "window_operations": sum(rank.window_operations for rank in ranks),
        "total_bytes": sum(rank.total_bytes for rank in ranks),
        "total_operations": sum(rank.total_operations for rank in ranks),
        "latency": latency.export("ns"),
    }


def _sizes(ranks: Sequence[_Counters], sums: Int64s) -> list[Document]:
    """Classes that are not empty; class n holds entries below 2^n bytes."""
    longest = np.max([rank.entry_max_ns for rank in ranks], axis=0)
    return [
        {
            "below_bytes": 2**size,
            "entries": int(sums[size, 0]),
            "bytes": int(sums[size, 1]),
            "sum_ns": int(sums[size, 2]),
            "max_ns": int(longest[size]),
        }
        for size in range(SIZE_CLASSES)
        if sums[size, 0]
    ]


def _merge_rooflines(rooflines: Sequence[Document]) -> Document | None:
    if not rooflines:
        return None
    return {
        "tool": rooflines[0]["tool"],
        "read_bytes": sum(each["read_bytes"] for each in rooflines),
        "write_bytes": sum(each["write_bytes"] for each in rooflines),
        "elapsed_s": max(each["elapsed_s"] for each in rooflines),
        "cpu_s": round(sum(each["cpu_s"] for each in rooflines), 6),
    }


def _merge_windows(windows: Sequence[Window]) -> Document | None:
    if not windows:
        return None
    # The longest: a rank that a stop reached later had more time, not more speed.
    return {
        "start_unix_s": round(windows[0].start_unix_s, 6),
        "ramp_s": round(windows[0].ramp_s, 6),
        "length_s": round(max(window.length_s for window in windows), 6),
        "drain_s": round(max(window.drain_s for window in windows), 6),
        "elapsed_s": round(max(window.elapsed_s for window in windows), 6),
    }


def _merge_plans(plans: Sequence[Plan]) -> Document | None:
    if not plans:
        return None
    digest = hashlib.sha256(b"".join(bytes.fromhex(plan.sha256) for plan in plans))
    return {
        "sha256": digest.hexdigest(),
        "generator": plans[0].generator,
        "hashed_operations": plans[0].hashed_operations,
    }


def _merge_cores(cores: Sequence[Core | None]) -> Document | None:
    known = [(rank, core) for rank, core in enumerate(cores) if core is not None]
    if not known:
        return None
    refused = [f"rank {rank}: {core.direct_refused}" for rank, core in known if core.direct_refused]
    first = known[0][1]
    return {
        "name": ", ".join(sorted({core.name for _, core in known})),
        "direct": all(core.direct for _, core in known),
        "direct_refused": refused[0] if refused else None,
        "alignment_bytes": max(core.alignment_bytes for _, core in known),
        "durability": first.durability,
        "io_size_bytes": first.io_size_bytes,
        "depth": first.depth,
        "rings": first.rings,
        # Ranks that were refused the same for the same reason say so once.
        "refused": [
            {"core": refusal.core, "reason": refusal.reason}
            for refusal in dict.fromkeys(r for _, core in known for r in core.refused)
        ],
    }


def _columns(records: Sequence[_Record], hosts: Sequence[str]) -> Document:
    distinct = list(dict.fromkeys(hosts))
    return {
        "host_index": [distinct.index(host) for host in hosts],
        "hosts": distinct,
        "read_bytes": [r.read.window_bytes for r in records],
        "write_bytes": [r.write.window_bytes for r in records],
        "read_p99_ns": [r.read.latency_p99_ns for r in records],
        "write_p99_ns": [r.write.latency_p99_ns for r in records],
        "max_latency_ns": [
            max(r.read.latency.max_ns or 0, r.write.latency.max_ns or 0) or None for r in records
        ],
        "cpu_user_s": [round(r.usage.user_s, 6) for r in records],
        "cpu_system_s": [round(r.usage.system_s, 6) for r in records],
        "peak_rss_bytes": [r.peak_rss_bytes for r in records],
        "plan_sha256": [r.plan.sha256[:16] if r.plan else None for r in records],
        "operations": [r.read.window_operations + r.write.window_operations for r in records],
        "entry_read_p95_ns": [r.read.entry_p95_ns for r in records],
        "entry_write_p95_ns": [r.write.entry_p95_ns for r in records],
        "storage_s": [
            round((r.read.entry_sum_ns + r.write.entry_sum_ns) / 1e9, 6) for r in records
        ],
        "generated_tokens": [r.generated_tokens for r in records],
        "requests": [r.requests for r in records],
        "request_p95_ns": [r.request_p95_ns for r in records],
        "context_switches": [r.usage.context_switches for r in records],
    }


def _measures(records: Sequence[_Record]) -> Document:
    rates: dict[str, int] = {}
    ratios: dict[str, dict[str, int]] = {}
    for record in records:
        for name, count in record.rates.items():
            rates[name] = rates.get(name, 0) + count
        for name, (part, whole) in record.ratios.items():
            ratio = ratios.setdefault(name, {"part": 0, "whole": 0})
            ratio["part"] += part
            ratio["whole"] += whole
    return {"rates": rates, "ratios": ratios}


def _details(records: Sequence[_Record]) -> Document:
    details = dict(records[0].facts)
    if any(record.backlog_max for record in records):  # requests that arrive by themselves
        details["backlog_max"] = max(record.backlog_max for record in records)
        details["overloaded"] = any(record.overloaded for record in records)
    for record in records:
        for name, count in record.sums.items():
            details[name] = details.get(name, 0) + count
        for name, items in record.lists.items():
            details[name] = [*details.get(name, []), *items]
    return details
