"""What devices, mounts and networks moved during a stage, from what all ranks have read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .contract import Document
from .io_core.counts import Counts, Kind
from .io_core.meter import Moved, Span

# What the two directions of a count are called.
_DIRECTIONS: Mapping[Kind, tuple[str, str]] = {
    "device": ("read_bytes", "write_bytes"),
    "mount": ("read_bytes", "write_bytes"),
    "network": ("receive_bytes", "send_bytes"),
}


def merge_moved(ranks: Sequence[Sequence[Moved]], hosts: Sequence[str]) -> Document:
    """Of each kind one entry for each counter, under the first host that read it.

    All ranks of a machine read the same counter, each when its own I/O began and ended: together
    they moved what lies between the lowest and the highest count. The longest window holds.
    """
    merged: Document = {kind: [] for kind in _DIRECTIONS}
    seen: dict[tuple[Kind, str, str], list[tuple[str, Moved]]] = {}
    for moved_in_rank, host in zip(ranks, hosts, strict=True):
        for moved in moved_in_rank:
            key = (moved.kind, moved.machine, moved.name)
            seen.setdefault(key, []).append((host, moved))
    for (kind, _, _), readings in seen.items():
        host, first = readings[0]
        entry = {"host": host, **first.facts}
        counts = dict(_counts(kind, [moved for _, moved in readings]))
        # A mount is told of for its type, be there a count or not.
        if counts or kind == "mount":
            merged[kind].append(entry | counts)
    return merged


def counted(ranks: Sequence[Sequence[Moved]], *, outward: bool) -> dict[str, int]:
    """Bytes in or out by the counters of all machines, of each kind that counts everywhere."""
    merged = merge_moved(ranks, [""] * len(ranks))
    found = {}
    for kind, names in _DIRECTIONS.items():
        counts = [entry.get(names[outward]) for entry in merged[kind]]
        if counts and None not in counts:
            found[str(kind)] = sum(counts)
    return found


def _counts(kind: Kind, readings: Sequence[Moved]) -> Iterator[tuple[str, object]]:
    lowest = _each(min, (moved.first for moved in readings))
    highest = _each(max, (moved.last for moved in readings))
    if lowest is None or highest is None or min(highest.since(lowest)) < 0:
        return
    yield from _named(kind, highest.since(lowest)).items()
    windows = [moved.window for moved in readings if moved.window is not None]
    if windows:
        longest: Span = max(windows, key=lambda window: window.length_s)
        yield "window", {"length_s": round(longest.length_s, 9), **_named(kind, longest.moved)}


def _each(choose: Callable[[Iterable[int]], int], counts: Iterable[Counts | None]) -> Counts | None:
    known = [count for count in counts if count is not None]
    if not known:
        return None
    return Counts(choose(count.inward for count in known), choose(count.outward for count in known))


def _named(kind: Kind, counts: Counts) -> Document:
    return dict(zip(_DIRECTIONS[kind], counts, strict=True))
