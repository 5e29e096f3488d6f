"""The file system that holds a directory, and its own count of what it moved."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .counts import ROOT, Counter, Counts

_NFS = ("nfs", "nfs4")
# Of the line "bytes:" of mountstats: what servers have sent, and what they were sent.
_SERVER_READ = 4
_SERVER_WRITE = 5
# Where Lustre has the statistics of a client's mounts; older versions first.
_LLITE = ("proc/fs/lustre/llite", "sys/kernel/debug/lustre/llite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A line of mountinfo; `number` is the device number of what is mounted: `0:52`."""

    number: str
    point: str
    type: str
    source: str


def mount_of(directory: Path, root: Path = ROOT) -> Mount | None:
    """The mount that holds a directory, None where it cannot be told."""
    try:
        where = os.path.realpath(directory)
        device = directory.stat().st_dev
        text = (root / "proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    holding = [mount for mount in mounts_in(text) if _holds(mount.point, where)]
    # A deeper mount may lie hidden under a later one. Subvolumes of btrfs have numbers of their
    # own, which no line shows: then the deepest mount is taken.
    shown = [mount for mount in holding if mount.number == number] or holding
    return max(reversed(shown), key=lambda mount: len(mount.point), default=None)


def mounts_in(mountinfo: str) -> Iterator[Mount]:
    """The mounts of a text of /proc/self/mountinfo; what is no such line is left out."""
    for words in (line.split(" ") for line in mountinfo.splitlines()):
        if "-" not in words[6:-2]:
            continue
        kind, source = words[words.index("-", 6) + 1 :][:2]
        yield Mount(
            number=words[2], point=_unescaped(words[4]), type=kind, source=_unescaped(source)
        )


def mount_counter(mount: Mount, machine: str, root: Path = ROOT) -> Counter:
    """The mount with its own count, if its kind of file system keeps one that can be read.

    Of NFS that is what servers moved. Of Lustre it is what programs moved: its client may have had
    some of that in memory.
    """
    read: Callable[[], Counts] | None = None
    if mount.type in _NFS:
        read = partial(_read_nfs, root / "proc/self/mountstats", mount.point)
    elif mount.type == "lustre" and (stats := _llite_stats(mount, root)) is not None:
        read = partial(_read_llite, stats)
    facts = {"type": mount.type}
    return Counter(kind="mount", machine=machine, name=mount.number, facts=facts, read=read)


def nfs_counts(mountstats: str, point: str) -> Counts:
    """What the servers of an NFS mount moved, by /proc/self/mountstats; raises ValueError."""
    found, ours = None, False
    for words in (line.split() for line in mountstats.splitlines()):
        if words[:1] == ["device"] and "on" in words[:-1]:
            ours = _unescaped(words[words.index("on") + 1]) == point
        elif ours and words[:1] == ["bytes:"] and len(words) > _SERVER_WRITE + 1:
            found = words[1:]
    if found is None:
        raise ValueError(f"no line of bytes for {point}")
    return Counts(int(found[_SERVER_READ]), int(found[_SERVER_WRITE]))


def llite_counts(stats: str) -> Counts:
    """What programs moved over a mount of Lustre, by its llite stats; raises ValueError.

    Nothing was read or written as long as there is no line of it.
    """
    # read_bytes 7 samples [bytes] 4096 1048576 5246976 [sum of squares]
    sums = {"read_bytes": 0, "write_bytes": 0}
    lines = [line.split() for line in stats.splitlines()]
    if not any(words[:1] == ["snapshot_time"] for words in lines):
        raise ValueError("no statistics of Lustre")
    for words in lines:
        if words[:1] and words[0] in sums and len(words) > 6:
            sums[words[0]] = int(words[6])
    return Counts(sums["read_bytes"], sums["write_bytes"])


def _read_nfs(mountstats: Path, point: str) -> Counts:
    return nfs_counts(mountstats.read_text("utf-8", "surrogateescape"), point)


def _read_llite(stats: Path) -> Counts:
    return llite_counts(stats.read_text("ascii", "replace"))


def _llite_stats(mount: Mount, root: Path) -> Path | None:
    """The statistics of a mount, if the file system is mounted once and its are open to us."""
    # Sources are 10.0.0.1@tcp:/scratch, directories scratch-ffff8e0c41b67800.
    name = mount.source.rpartition(":/")[2].partition("/")[0]
    for place in _LLITE:
        try:
            found = [path / "stats" for path in (root / place).iterdir()]
        except OSError:
            continue
        ours = [path for path in found if path.parent.name.rpartition("-")[0] == name]
        if len(ours) == 1 and os.access(ours[0], os.R_OK):
            return ours[0]
    return None


def _holds(point: str, where: str) -> bool:
    return where == point or where.startswith(point.rstrip("/") + "/")


def _unescaped(text: str) -> str:
    r"""Spaces and the like stand as \040 in these files."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
