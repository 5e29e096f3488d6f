"""Counters of a host in groups, read from files that stay open, told as changes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Union

from . import procfs
from .storage import disk_counters

# A line of the series has to stay below the 4,096 bytes that a pipe takes in one piece. More
# devices than these are told as their sum.
MOST_DISKS = 24
MOST_NICS = 12

Values = Union[list[int], dict[str, list[int]]]

COLUMNS = {
    "cpu": ("user_ms", "system_ms", "idle_ms", "iowait_ms", "steal_ms"),
    "memory": ("available_bytes", "cached_bytes", "dirty_bytes", "writeback_bytes"),
    "vm": (
        "page_in_bytes", "page_out_bytes", "swap_in_pages", "swap_out_pages", "major_faults",
        "direct_scan_pages",
    ),
    "pressure": (
        "cpu_some_us", "io_some_us", "io_full_us", "memory_some_us", "memory_full_us",
    ),
    "disk": ("reads", "read_bytes", "writes", "write_bytes", "busy_ms", "weighted_ms"),
    "net": ("receive_bytes", "receive_packets", "send_bytes", "send_packets", "drops"),
    "mount": ("read_bytes", "write_bytes"),
}  # fmt: skip

_CPU = (("user", "nice"), ("system", "irq", "softirq"), ("idle",), ("iowait",), ("steal",))
_MEMORY = ("MemAvailable", "Cached", "Dirty", "Writeback")
# Columns of vm: what they are summed from, and bytes or pages of one.
_VM = (
    (("pgpgin",), 1024),
    (("pgpgout",), 1024),
    (("pswpin",), 1),
    (("pswpout",), 1),
    (("pgmajfault",), 1),
    # Up to Linux 4.7 there was one for each zone of memory.
    (("pgscan_direct", "pgscan_direct_dma", "pgscan_direct_dma32", "pgscan_direct_normal"), 1),
)
_PRESSURE = (
    ("cpu", "some"),
    ("io", "some"),
    ("io", "full"),
    ("memory", "some"),
    ("memory", "full"),
)
_CHUNK_BYTES = 1 << 16


class Targets(NamedTuple):
    """What of a host is looked at; None where it is not known.

    `disks` holds the paths to each disk, none for most. `mount` is type, mount point and source of
    the file system of data_dir.
    """

    disks: dict[str, list[str]] | None
    nics: list[str] | None
    mount: tuple[str, str, str] | None


class Group(NamedTuple):
    """Values that are read together. Gauges are told as they are, counters as changes."""

    read: Callable[[], Values]
    is_gauge: bool = False
    never_falls: bool = False


def targets_of(facts: dict[str, Any]) -> Targets:
    """The disks behind the directories of the facts, the network interfaces, and the mount."""
    places = [facts[key] for key in ("data_dir", "results_dir") if facts.get(key)]
    behind = [place.get("blocks", "unknown") for place in places]
    twins = {block["name"]: block["twins"] for block in _known(facts.get("blocks"))}
    names = sorted({name for blocks in behind for name in _known(blocks)})
    disks = {name: twins.get(name, []) for name in names}
    nics = facts.get("nics")
    data_dir = facts.get("data_dir") or {}
    mount = tuple(str(data_dir.get(key)) for key in ("type", "mount_point", "source"))
    return Targets(
        disks=None if not disks and "unknown" in behind else disks,
        nics=[nic["name"] for nic in nics] if isinstance(nics, list) else None,
        mount=(mount[0], mount[1], mount[2]) if data_dir else None,
    )


def _known(values: object) -> list[Any]:
    return values if isinstance(values, list) else []


# ---------------------------------------------------------------- files


class CounterFile:
    """A file that the kernel writes anew for each reader. It stays open: a look costs little."""

    def __init__(self, path: Path, most_bytes: int = 1 << 24) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._descriptor: int | None = None

    def read(self) -> bytes:
        """Its text up to the most bytes. Raises OSError; the next look opens it again."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._read(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = None
            raise

    def _read(self, descriptor: int) -> bytes:
        chunks: list[bytes] = []
        length = 0
        while length < self._most_bytes:
            wanted = min(_CHUNK_BYTES, self._most_bytes - length)
            chunk = os.pread(descriptor, wanted, length)
            if not chunk:
                break
            chunks.append(chunk)
            length += len(chunk)
        return b"".join(chunks)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# ---------------------------------------------------------------- groups


def groups_of(targets: Targets, root: Path) -> dict[str, Group]:
    """The groups that this host has, readable or not."""
    groups = {
        "cpu": Group(read=_cpu(root), never_falls=True),
        "memory": Group(read=_memory(root), is_gauge=True),
        "vm": Group(read=_vm(root)),
        "pressure": Group(read=_pressure(root)),
    }
    if targets.disks:
        groups["disk"] = Group(read=_disks(root, targets.disks))
    if targets.nics:
        groups["net"] = Group(read=_nics(root, targets.nics))
    read = _mount(root, *targets.mount) if targets.mount else None
    if read is not None:
        groups["mount"] = Group(read=read)
    return groups


def _cpu(root: Path) -> Callable[[], Values]:
    # The first line is enough: others tell of each processor and each interrupt.
    file = CounterFile(root / "proc/stat", most_bytes=512)
    tick_ms = 1000 / os.sysconf("SC_CLK_TCK")

    def read() -> Values:
        ticks = procfs.cpu_ticks(_text(file.read()))
        if not ticks:
            raise ValueError("no line cpu")
        return [round(sum(ticks.get(name, 0) for name in names) * tick_ms) for names in _CPU]

    return read


def _memory(root: Path) -> Callable[[], Values]:
    file = CounterFile(root / "proc/meminfo")
    wanted = _lines_of(_MEMORY, b":")

    def read() -> Values:
        known = procfs.meminfo(_text(b"".join(wanted.findall(file.read()))))
        return [known[name] for name in _MEMORY]

    return read


def _vm(root: Path) -> Callable[[], Values]:
    file = CounterFile(root / "proc/vmstat")
    wanted = _lines_of([name for names, _ in _VM for name in names], b" ")

    def read() -> Values:
        known = procfs.vmstat(_text(b"".join(wanted.findall(file.read()))))
        if not known:
            raise ValueError("no counters")
        return [sum(known.get(name, 0) for name in names) * unit for names, unit in _VM]

    return read


def _pressure(root: Path) -> Callable[[], Values]:
    files = {name: CounterFile(root / "proc/pressure" / name) for name in ("cpu", "io", "memory")}

    def read() -> Values:
        totals = {name: procfs.pressure_us(_text(file.read())) for name, file in files.items()}
        return [totals[name][kind] for name, kind in _PRESSURE]

    return read


def _lines_of(names: Iterable[str], colon: bytes) -> re.Pattern[bytes]:
    """Finds the lines of these names among many that nobody needs."""
    words = b"|".join(re.escape(name.encode(errors="surrogateescape")) for name in names)
    return re.compile(rb"^[ ]*(?:" + words + rb")" + colon + rb".*\n", re.MULTILINE)


def _disks(root: Path, disks: dict[str, list[str]]) -> Callable[[], Values]:
    files = {
        disk: {name: CounterFile(root / "sys/class/block" / name / "stat") for name in names}
        for disk, names in ((disk, (disk, *paths)) for disk, paths in disks.items())
    }

    def read() -> Values:
        return _summed({disk: _disk(disk, paths) for disk, paths in files.items()}, MOST_DISKS)

    return read


def _disk(disk: str, files: dict[str, CounterFile]) -> list[int]:
    lines = "\n".join(f"0 0 {name} {_text(file.read())}" for name, file in files.items())
    counters = disk_counters(
        procfs.diskstats(lines), disk, [name for name in files if name != disk]
    )
    if counters is None:
        raise ValueError("no counters")
    return list(counters)


def _nics(root: Path, nics: list[str]) -> Callable[[], Values]:
    file = CounterFile(root / "proc/net/dev")
    wanted = _lines_of(nics, b":")

    def read() -> Values:
        found = procfs.net_dev(_text(b"".join(wanted.findall(file.read()))))
        values = {}
        for name, nic in found.items():
            drops = nic.receive_drops + nic.send_drops
            received = [nic.receive_bytes, nic.receive_packets]
            values[name] = [*received, nic.send_bytes, nic.send_packets, drops]
        if len(values) < len(nics):
            raise ValueError("an interface has gone")
        return _summed(values, MOST_NICS)

    return read


def _summed(values: dict[str, list[int]], most: int) -> dict[str, list[int]]:
    if len(values) <= most:
        return values
    return {f"sum of {len(values)}": [sum(column) for column in zip(*values.values())]}


def _mount(root: Path, kind: str, mount_point: str, source: str) -> Callable[[], Values] | None:
    """Counters of a client of a network file system; None for all other file systems."""
    if kind in ("nfs", "nfs4"):
        file = CounterFile(root / "proc/self/mountstats")
        return lambda: list(procfs.nfs_bytes(_text(file.read()))[mount_point])
    if kind == "lustre":
        files = [CounterFile(path) for path in _lustre_files(root, source)]
        return lambda: _lustre(files)
    return None


def _lustre_files(root: Path, source: str) -> list[Path]:
    """The statistics of the client of `10.0.0.1@tcp:/scratch`, which may be mounted twice."""
    name = source.rpartition(":/")[2].partition("/")[0]
    for place in ("proc/fs/lustre/llite", "sys/kernel/debug/lustre/llite"):
        found = sorted((root / place).glob(f"{name}-*/stats")) if name else []
        if found:
            return found
    return []


def _lustre(files: list[CounterFile]) -> list[int]:
    if not files:
        raise ValueError("no statistics of Lustre")
    rows = [procfs.lustre_bytes(_text(file.read())) for file in files]
    return [sum(column) for column in zip(*(row for row in rows if row is not None))]


# ---------------------------------------------------------------- changes


class Counters:
    """The groups of this host as they change from look to look."""

    def __init__(self, targets: Targets, root: Path) -> None:
        """Looks for the first time: groups that cannot be read now are not asked again."""
        missing = [
            name
            for name, known in (("disk", targets.disks), ("net", targets.nics))
            if known is None
        ]
        groups = groups_of(targets, root)
        self._groups = groups
        self._before: dict[str, Values] = {}
        unreadable = self.look().get("unknown", [])
        self.unknown = [*unreadable, *missing]
        self._groups = {name: group for name, group in groups.items() if name not in unreadable}

    @property
    def columns(self) -> dict[str, list[str]]:
        """What the numbers of each group are."""
        return {name: list(COLUMNS[name]) for name in self._groups}

    def look(self) -> dict[str, Any]:
        """Each group that changed since the last look.

        `reset` names those whose counters began anew in between, `unknown` those that could not be
        read; neither is told as a change, nor is the next change of an unknown one.
        """
        line: dict[str, Any] = {}
        marks: dict[str, list[str]] = {}
        for name, group in self._groups.items():
            try:
                now = group.read()
            except (OSError, ValueError, LookupError):
                self._before.pop(name, None)
                marks.setdefault("unknown", []).append(name)
                continue
            before = self._before.get(name)
            if group.never_falls and isinstance(now, list) and isinstance(before, list):
                now = [max(pair) for pair in zip(now, before)]
            self._before[name] = now
            change = now if group.is_gauge and now != before else _change(now, before)
            if change is None:
                marks.setdefault("reset", []).append(name)
            elif change:
                line[name] = change
        return {**line, **marks}


def _change(now: Values, before: Values | None) -> Values | None:
    """What was added, without devices of which nothing moved; None where a counter fell."""
    if isinstance(now, dict):
        if not isinstance(before, dict) or now.keys() != before.keys():
            return None
        changes = {name: _added(now[name], before[name]) for name in now}
        if any(change is None for change in changes.values()):
            return None
        return {name: change for name, change in changes.items() if change}
    return _added(now, before) if isinstance(before, list) else None


def _added(now: list[int], before: list[int]) -> list[int] | None:
    """The differences, [] where all are 0, None where one is negative."""
    added = [one - other for one, other in zip(now, before)]
    if min(added) < 0:
        return None
    return added if any(added) else []
