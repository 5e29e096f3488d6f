"""What all hosts together did over time, from the lines of timeseries.jsonl, in few points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..canonical import Document

# Points of a line on a page.
BUCKETS = 200
# Moments that are kept while lines are read; of a longer job two moments become one.
MOMENTS = 20_000

SUMS = (
    "disk_read_bytes", "disk_write_bytes", "mount_read_bytes", "mount_write_bytes",
    "net_receive_bytes", "net_send_bytes",
)  # fmt: skip

# How a tick names the sum of more devices than it tells one by one.
_SUM = "sum of "


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What of a host's samples counts as its data_dir: the names of disks, and the mount."""

    disks: frozenset[str]
    mount: bool

    def counts(self, disk: str) -> bool:
        """Whether a disk is one of these; a sum has the disks of results_dir in it, if any."""
        return disk in self.disks or (disk.startswith(_SUM) and bool(self.disks))


_NOTHING = Behind(disks=frozenset(), mount=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Rates in bytes per second of all hosts together; times in seconds since 1970.

    Each point is (middle of the bucket, least, mean, most) over the moments in it.
    """

    points: Mapping[str, Sequence[tuple[float, float, float, float]]]
    hosts: int


@dataclass(slots=True)
class _Reading:
    behind: Mapping[str, Behind]
    width_s: float = 1.0
    moments: dict[int, list[float]] = field(default_factory=dict)


def read_rates(lines: Iterable[bytes], behind: Mapping[str, Behind]) -> Rates | None:
    """The rates of all hosts; None where nothing was sampled. Lines that are cut are left out.

    `behind` has what counts of the disks and mounts of each host, by its name: a disk that several
    hosts show, being containers of one machine, is behind one of them.
    """
    reading, starts = _Reading(behind), dict[str, Document]()
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["kind"] == "series":
            reading.width_s = float(entry["interval_s"])
        elif entry["kind"] == "start":
            starts[entry["host"]] = entry
        elif entry["kind"] == "tick" and not entry.get("partial"):
            _take(reading, starts[entry["host"]], entry)
    if not reading.moments:
        return None
    return Rates(points=_points(reading), hosts=len(starts))


def _take(reading: _Reading, start: Document, entry: Document) -> None:
    end_unix_s = start["start_unix_s"] + entry["n"] * start["interval_s"]
    length_s = entry.get("dt_ms", 1000 * start["interval_s"]) / 1000
    if length_s <= 0:
        return
    moved = _moved(start["columns"], entry, reading.behind.get(entry["host"], _NOTHING))
    moment = reading.moments.setdefault(int(end_unix_s / reading.width_s), [0.0] * len(SUMS))
    for index, name in enumerate(SUMS):
        # A share of the width: hosts tick at different times, and a tick may be a long one.
        moment[index] += moved[name] * min(1.0, reading.width_s / length_s) / reading.width_s
    if len(reading.moments) > MOMENTS:
        _halve(reading)


def _moved(
    columns: Mapping[str, Sequence[str]], entry: Document, behind: Behind
) -> dict[str, float]:
    """Bytes by what moved them; a tick tells only of devices that did something."""
    counted = [
        *(
            ("disk", values)
            for name, values in entry.get("disk", {}).items()
            if behind.counts(name)
        ),
        *([("mount", entry["mount"])] if behind.mount and "mount" in entry else []),
        *(("net", values) for values in entry.get("net", {}).values()),
    ]
    found = dict.fromkeys(SUMS, 0.0)
    for kind, values in counted:
        for column, value in zip(columns[kind], values, strict=True):
            if f"{kind}_{column}" in found:
                found[f"{kind}_{column}"] += value
    return found


def _halve(reading: _Reading) -> None:
    """Make one moment of two; rates are means of both."""
    merged: dict[int, list[float]] = {}
    for key, rates in reading.moments.items():
        sums = merged.setdefault(key // 2, [0.0] * len(SUMS))
        for index, rate in enumerate(rates):
            sums[index] += rate / 2
    reading.moments, reading.width_s = merged, 2 * reading.width_s


def _points(reading: _Reading) -> dict[str, list[tuple[float, float, float, float]]]:
    keys = sorted(reading.moments)
    per = -(-(keys[-1] - keys[0] + 1) // BUCKETS)
    buckets: dict[int, list[int]] = {}
    for key in keys:
        buckets.setdefault((key - keys[0]) // per, []).append(key)
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in SUMS}
    for inner in buckets.values():
        middle = reading.width_s * (inner[0] + inner[-1]) / 2
        for index, name in enumerate(SUMS):
            rates = [reading.moments[key][index] for key in inner]
            found[name].append((middle, min(rates), sum(rates) / len(rates), max(rates)))
    return found


def thinned(values: Sequence[float], most: int = BUCKETS) -> list[tuple[float, float]]:
    """(place, mean) of at most `most` groups of neighbours."""
    per = max(1, -(-len(values) // most))
    return [
        (start + (min(per, len(values) - start) - 1) / 2, _mean(values[start : start + per]))
        for start in range(0, len(values), per)
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
