"""The limits that control groups set for this process: memory, processor, I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from .procfs import (
    Mount,
    cgroup_paths,
    cpu_max_cores,
    io_max,
    memory_limit_bytes,
    mountinfo,
    throttle,
    vmstat,
)
from .tree import Tree

NONE = "none"
_INVISIBLE = "no file system of control groups is visible"
_Number = TypeVar("_Number", int, float)
_THROTTLE = {
    "rbps": "blkio.throttle.read_bps_device",
    "wbps": "blkio.throttle.write_bps_device",
    "riops": "blkio.throttle.read_iops_device",
    "wiops": "blkio.throttle.write_iops_device",
}


def limits(tree: Tree, disks: list[str]) -> dict[str, Any]:
    """The tightest limits of all groups that this process is in; those on the `disks` for I/O."""
    try:
        paths = cgroup_paths(tree.read("/proc/self/cgroup"))
    except OSError as error:
        why = f"/proc/self/cgroup: {error.strerror or error}"
        return {name: tree.unknown(f"cgroup.{name}", why)
                for name in ("version", "cpu_cores", "memory_bytes", "io")}  # fmt: skip
    first = {"memory", "cpu", "blkio"} & set(paths)
    version: Any = 1 if first else 2 if "" in paths else NONE
    if version == NONE:
        return {"version": NONE, "cpu_cores": NONE, "memory_bytes": NONE, "io": NONE}
    mounts = [
        mount
        for mount in mountinfo(tree.text("/proc/self/mountinfo"))
        if mount.type == ("cgroup" if version == 1 else "cgroup2")
    ]

    def groups(controller: str) -> list[str] | None:
        return _groups(mounts, paths, controller if version == 1 else "")

    return {
        "version": version,
        "cpu_cores": _cpu_cores(tree, groups("cpu"), version),
        "memory_bytes": _memory_bytes(tree, groups("memory"), version),
        "io": _io(tree, groups("blkio"), version, disks),
    }


def _groups(mounts: list[Mount], paths: dict[str, str], controller: str) -> list[str] | None:
    """Directories of the group of this process and of its parents; None where none is visible.

    A controller that this host does not have has no group.
    """
    if controller not in paths:
        return []
    for mount in mounts:
        if controller and controller not in mount.super_options.split(","):
            continue
        # A container may see its own group as the root of the mount.
        root = mount.root.rstrip("/")
        path = paths[controller]
        inside = path[len(root) :] if path == root or path.startswith(root + "/") else ""
        parts = [part for part in inside.split("/") if part not in ("", "..")]
        return [
            "/".join([mount.mount_point.rstrip("/"), *parts[:depth]])
            for depth in range(len(parts), -1, -1)
        ]
    return None


def _tightest(
    tree: Tree, what: str, groups: list[str] | None, found: Iterable[_Number | None]
) -> _Number | str:
    known = [number for number in found if number is not None]
    if groups is None or not any(tree.exists(group) for group in groups or ["/"]):
        return tree.unknown(f"cgroup.{what}", _INVISIBLE)
    return min(known) if known else NONE


def _cpu_cores(tree: Tree, groups: list[str] | None, version: int) -> float | str:
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if version == 1 else ("cpu.max",)
    found = [
        cpu_max_cores(" ".join(tree.text(f"{group}/{name}") for name in files))
        for group in groups or ()
    ]
    return _tightest(tree, "cpu_cores", groups, found)


def _memory_bytes(tree: Tree, groups: list[str] | None, version: int) -> int | str:
    name = "memory.limit_in_bytes" if version == 1 else "memory.max"
    texts = [tree.text(f"{group}/{name}") for group in groups or ()]
    if version == 1:
        # Knows the limits of parents that a container does not see.
        stats = [vmstat(tree.text(f"{group}/memory.stat")) for group in groups or ()]
        texts += [str(stat.get("hierarchical_memory_limit", "")) for stat in stats]
    return _tightest(tree, "memory_bytes", groups, [memory_limit_bytes(text) for text in texts])


def _io(
    tree: Tree, groups: list[str] | None, version: int, disks: list[str]
) -> list[dict[str, Any]] | str:
    """Limits on disks, each with its name: [{"disk": "sda", "rbps": 1048576}]."""
    if groups is None:
        return tree.unknown("cgroup.io", _INVISIBLE)
    names = {tree.text(f"/sys/class/block/{disk}/dev").strip(): disk for disk in disks}
    tightest: dict[str, dict[str, int]] = {}
    for group in groups:
        for device, found in _group_io(tree, group, version).items():
            if device in names:
                known = tightest.setdefault(names[device], {})
                for name, number in found.items():
                    known[name] = min(number, known.get(name, number))
    return [{"disk": disk, **found} for disk, found in sorted(tightest.items())] or NONE


def _group_io(tree: Tree, group: str, version: int) -> dict[str, dict[str, int]]:
    if version == 2:
        return io_max(tree.text(f"{group}/io.max"))
    by_device: dict[str, dict[str, int]] = {}
    for name, file in _THROTTLE.items():
        for device, number in throttle(tree.text(f"{group}/{file}")).items():
            by_device.setdefault(device, {})[name] = number
    return by_device
