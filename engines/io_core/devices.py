"""The block device behind a directory, and its own count of what it moved."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .counts import ROOT, Counter, Counts
from .mounts import Mount

# /sys/dev/block/*/stat counts in sectors of 512 bytes, whatever the device's own sector is.
_SECTOR_BYTES = 512
_SECTORS_READ = 2
_SECTORS_WRITTEN = 6


def device_counter(
    directory: Path, mount: Mount | None, machine: str, root: Path = ROOT
) -> Counter | None:
    """The block device behind a directory, None where there is none or are several.

    Memory and network file systems have none. btrfs shows programs a number that is no device's:
    then the source of its mount tells the device, if it is the only one of the file system.
    """
    try:
        number = directory.stat().st_dev
    except OSError:
        return None
    device = root / f"sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not device.exists():
        only = _only_source(mount, root)
        if only is None:
            return None
        device = only
    name = device.resolve().name
    read = partial(_read, _counting(device, root))
    return Counter(kind="device", machine=machine, name=name, facts={"device": name}, read=read)


def _only_source(mount: Mount | None, root: Path) -> Path | None:
    if mount is None or not mount.source.startswith("/dev/"):
        return None
    # A source such as /dev/mapper/data is a link to the device by its own name.
    name = Path(os.path.realpath(mount.source)).name
    for members in root.glob("sys/fs/btrfs/*/devices"):
        names = [member.name for member in members.iterdir()]
        if name in names and len(names) > 1:
            return None
    device = root / "sys/class/block" / name
    return device if device.exists() else None


def _counting(device: Path, root: Path) -> list[Path]:
    """The files with the counts of a device: its own, or those of the paths that lead to it.

    With older kernels an NVMe disk that several controllers may lead to counts nothing itself.
    """
    own = device / "stat"
    whole = device.resolve()
    if (whole / "partition").exists():
        whole = whole.parent
    disk = re.fullmatch(r"nvme(\d+)n(\d+)", whole.name)
    if disk is None or _has_counted(own):
        return [own]
    paths = (root / "sys/block").glob(f"nvme{disk[1]}c*n{disk[2]}")
    return sorted(path / "stat" for path in paths) or [own]


def _has_counted(stat: Path) -> bool:
    try:
        return any(_read([stat]))
    except (OSError, ValueError):
        return False


def _read(stats: Sequence[Path]) -> Counts:
    every = [device_counts(stat.read_text("ascii")) for stat in stats]
    return Counts(sum(each.inward for each in every), sum(each.outward for each in every))


def device_counts(stat: str) -> Counts:
    """What a device moved, by the text of its `stat`; raises ValueError."""
    fields = [int(word) for word in stat.split()]
    if len(fields) <= _SECTORS_WRITTEN:
        raise ValueError("too few numbers")
    return Counts(fields[_SECTORS_READ] * _SECTOR_BYTES, fields[_SECTORS_WRITTEN] * _SECTOR_BYTES)
