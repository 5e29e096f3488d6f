"""Parsers of the texts of /proc, /sys and cgroups: text in, plain data out.

No text makes them raise: what has not the documented form is left out. Counters are whole numbers
of at most 64 bits. Sizes are bytes, whatever unit the kernel writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

SECTOR_BYTES = 512  # of diskstats, whatever the device's own sectors are
_COUNTER_LIMIT = 1 << 64
_CPU_COLUMNS = (
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice",
)  # fmt: skip
# cgroup v1 says "no limit" with the largest multiple of a page that a signed counter holds.
_V1_NO_LIMIT = 1 << 62


class Disk(NamedTuple):
    """Counters of a block device since it appeared."""

    reads: int
    read_bytes: int
    writes: int
    write_bytes: int
    busy_ms: int
    weighted_ms: int


class Interface(NamedTuple):
    """Counters of a network interface since it appeared."""

    receive_bytes: int
    receive_packets: int
    receive_drops: int
    send_bytes: int
    send_packets: int
    send_drops: int


class MountBytes(NamedTuple):
    """Bytes that a network file system has moved from and to its servers."""

    read_bytes: int
    write_bytes: int


class Mount(NamedTuple):
    """One line of mountinfo. `device` is "major:minor"; both lists of options are as written."""

    device: str
    root: str
    mount_point: str
    options: str
    type: str
    source: str
    super_options: str


def whole(word: str) -> int | None:
    """The counter that a word writes in decimal, or None: the kernel's digits, nothing else."""
    word = word.strip()
    if not word.isascii() or not word.isdigit() or len(word) > 20:
        return None
    number = int(word)
    return number if number < _COUNTER_LIMIT else None


def _lines(text: str) -> list[str]:
    # Not splitlines(): a path may hold the other characters at which it splits.
    return text.split("\n")


def _counters(words: list[str]) -> list[int] | None:
    numbers = [whole(word) for word in words]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) else None


# ---------------------------------------------------------------- memory and processor


def meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo, kB as bytes; numbers without a unit (HugePages_Total) as they are."""
    return dict(_meminfo(text))


def _meminfo(text: str) -> Iterator[tuple[str, int]]:
    for line in _lines(text):
        name, _, rest = line.partition(":")
        words = rest.split()
        number = whole(words[0]) if words else None
        if number is not None and words[1:] in ([], ["kB"]):
            yield name.strip(), number * (1024 if words[1:] else 1)


def vmstat(text: str) -> dict[str, int]:
    """/proc/vmstat, and every other text of lines `name number`."""
    pairs = [line.split() for line in _lines(text)]
    numbers = {pair[0]: whole(pair[1]) for pair in pairs if len(pair) == 2}
    return {name: number for name, number in numbers.items() if number is not None}


def cpuinfo(text: str) -> list[dict[str, str]]:
    """/proc/cpuinfo: one mapping per processor, and last what stands outside of them if anything.

    s390x writes `processor 0: version = FF, ...` without blocks: those are one mapping each.
    """
    blocks: list[dict[str, str]] = []
    rest: dict[str, str] = {}
    block = rest
    for line in _lines(text):
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon:
            block = block if name else rest
            continue
        if re.fullmatch(r"processor( ?\d+)?", name):
            block = {}
            blocks.append(block)
        block.setdefault(name, value.strip())
    return [*blocks, rest] if rest else blocks


def cpu_ticks(text: str) -> dict[str, int]:
    """The line `cpu` of /proc/stat: clock ticks of all processors by kind; {} without one.

    guest and guest_nice are also part of user and nice.
    """
    for line in _lines(text):
        words = line.split()
        if words[:1] == ["cpu"]:
            return dict(zip(_CPU_COLUMNS, _counters(words[1:]) or []))
    return {}


def cpu_list(text: str) -> list[int]:
    """Numbers in a list of processors or nodes: `0-3,8` is [0, 1, 2, 3, 8]."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        low, high = whole(first), whole(last or first)
        if low is not None and high is not None and low <= high < 1 << 16:
            found.update(range(low, high + 1))
    return sorted(found)


def loadavg(text: str) -> list[float] | None:
    """The three averages of /proc/loadavg, or None."""
    numbers = [_seconds(word) for word in text.split()[:3]]
    known = [number for number in numbers if number is not None]
    return known if len(known) == 3 else None


def uptime_s(text: str) -> float | None:
    """/proc/uptime: seconds since the start of the host, or None."""
    words = text.split()
    return _seconds(words[0]) if words else None


def _seconds(word: str) -> float | None:
    number = float(word) if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,9})?", word) else math.nan
    return number if math.isfinite(number) else None


def pressure_us(text: str) -> dict[str, int]:
    """/proc/pressure/*: total microseconds by "some" and "full" (the cpu: from 5.13 on)."""
    found: dict[str, int] = {}
    for line in _lines(text):
        words = line.split()
        total = [whole(word[6:]) for word in words[1:] if word.startswith("total=")]
        if words and words[0] in ("some", "full") and total and total[0] is not None:
            found[words[0]] = total[0]
    return found


# ---------------------------------------------------------------- devices


def diskstats(text: str) -> dict[str, Disk]:
    """/proc/diskstats by the name in /sys/block, from kernels with 11, 15 and 17 counters."""
    disks: dict[str, Disk] = {}
    for line in _lines(text):
        words = line.split()
        numbers = _counters(words[3:14])
        # Partitions of 2.6 had 4 counters, of other meaning.
        if numbers is None or len(numbers) < 11:
            continue
        # cciss/c0d0 is cciss!c0d0 in /sys.
        disks[words[2].replace("/", "!")] = Disk(
            reads=numbers[0],
            read_bytes=numbers[2] * SECTOR_BYTES,
            writes=numbers[4],
            write_bytes=numbers[6] * SECTOR_BYTES,
            busy_ms=numbers[9],
            weighted_ms=numbers[10],
        )
    return disks


def net_dev(text: str) -> dict[str, Interface]:
    """/proc/net/dev by interface."""
    interfaces: dict[str, Interface] = {}
    for line in _lines(text):
        # Old kernels write no space after the colon, and an alias has a colon in its name.
        name, colon, rest = line.rpartition(":")
        numbers = _counters(rest.split())
        if colon and numbers is not None and len(numbers) >= 16:
            interfaces[name.strip()] = Interface(
                receive_bytes=numbers[0],
                receive_packets=numbers[1],
                receive_drops=numbers[3],
                send_bytes=numbers[8],
                send_packets=numbers[9],
                send_drops=numbers[11],
            )
    return interfaces


class Bond(NamedTuple):
    """A bond of interfaces. `mode` is the kernel's description of it."""

    mode: str
    slaves: list[str]


def bonding(text: str) -> Bond:
    """/proc/net/bonding/*."""
    pairs = [line.partition(":")[::2] for line in _lines(text)]
    modes = [value.strip() for name, value in pairs if name == "Bonding Mode"]
    slaves = [value.strip() for name, value in pairs if name == "Slave Interface"]
    return Bond(mode=modes[0] if modes else "", slaves=slaves)


# ---------------------------------------------------------------- mounts


def unescaped(word: str) -> str:
    r"""A path as the kernel escapes it: `\040` is a space."""
    if "\\" not in word:
        return word
    return re.sub(r"\\([0-3][0-7]{2})", lambda found: chr(int(found[1], 8)), word)


def mountinfo(text: str) -> list[Mount]:
    """/proc/self/mountinfo, in its order: of two mounts at one point the later hides the other."""
    mounts = []
    for line in _lines(text):
        words = line.split(" ")
        # Between the sixth word and the dash stand optional fields, none or many.
        dash = words.index("-", 6) if "-" in words[6:] else len(words)
        after = words[dash + 1 :]
        if len(after) < 3 or not re.fullmatch(r"[0-9]+:[0-9]+", words[2]):
            continue
        mounts.append(
            Mount(
                device=words[2],
                root=unescaped(words[3]),
                mount_point=unescaped(words[4]),
                options=words[5],
                type=after[0],
                source=unescaped(after[1]),
                super_options=unescaped(" ".join(after[2:])),
            )
        )
    return mounts


def nfs_bytes(text: str) -> dict[str, MountBytes]:
    """/proc/self/mountstats: bytes read from and written to NFS servers, by mount point.

    Mounts of one export share their counters.
    """
    found: dict[str, MountBytes] = {}
    mount_point = ""
    for line in _lines(text):
        words = line.split()
        if words[:1] == ["device"]:
            head = re.match(r"device .* mounted on (\S+) with fstype nfs", line)
            mount_point = unescaped(head[1]) if head else ""
        elif words[:1] == ["bytes:"] and mount_point:
            # Read and written by calls, the same by O_DIRECT, then what the servers moved.
            numbers = _counters(words[1:7])
            if numbers is not None and len(numbers) == 6:
                found[mount_point] = MountBytes(read_bytes=numbers[4], write_bytes=numbers[5])
    return found


def lustre_bytes(text: str) -> MountBytes | None:
    """A Lustre client's llite/*/stats, or None. It writes no line for what has not happened yet."""
    sums = {"read_bytes": 0, "write_bytes": 0}
    known = False
    for line in _lines(text):
        words = line.split()
        known = known or words[:1] == ["snapshot_time"]
        # name, count, "samples", "[bytes]", smallest, largest, sum (and its square)
        number = whole(words[6]) if len(words) >= 7 and words[3] == "[bytes]" else None
        if number is not None and words[0] in sums:
            sums[words[0]] = number
            known = True
    return MountBytes(**sums) if known else None


# ---------------------------------------------------------------- control groups


def cgroup_paths(text: str) -> dict[str, str]:
    """/proc/self/cgroup: path by controller; the unified hierarchy of version 2 stands under ""."""
    paths: dict[str, str] = {}
    for line in _lines(text):
        words = line.split(":", 2)
        if len(words) == 3 and whole(words[0]) is not None and words[2].startswith("/"):
            for controller in words[1].split(","):
                paths[controller] = words[2]
    return paths


def memory_limit_bytes(text: str) -> int | None:
    """memory.max or memory.limit_in_bytes; None where there is no limit."""
    number = whole(text)
    return None if number is None or number >= _V1_NO_LIMIT else number


def cpu_max_cores(text: str) -> float | None:
    """cpu.max ("quota period"), or both files of version 1 in that order; None without a limit."""
    words = text.split()
    numbers = _counters(words[:2])  # "max", and -1 in version 1, are no numbers
    if numbers is None or len(numbers) < 2 or not numbers[0] or not numbers[1]:
        return None
    return numbers[0] / numbers[1]


def io_max(text: str) -> dict[str, dict[str, int]]:
    """io.max: limits (rbps, wbps, riops, wiops) by device number; without those that are "max"."""
    limits: dict[str, dict[str, int]] = {}
    for line in _lines(text):
        device, *pairs = line.split() or [""]
        split = [pair.partition("=") for pair in pairs]
        numbers = {name: whole(value) for name, _, value in split}
        known = {name: number for name, number in numbers.items() if number is not None}
        if re.fullmatch(r"[0-9]+:[0-9]+", device) and known:
            limits[device] = known
    return limits


def throttle(text: str) -> dict[str, int]:
    """blkio.throttle.*_device of version 1: the limit by device number."""
    return {
        device: number
        for device, number in vmstat(text).items()
        if re.fullmatch(r"[0-9]+:[0-9]+", device)
    }
