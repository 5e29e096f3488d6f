"""All facts of this host, as one document of plain data.

What cannot be known is "unknown", with the reason under `errors`; never null, never 0.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from . import network, procfs, settings, storage
from .limits import limits
from .tree import UNKNOWN, Tree

Devices = Union[list[dict[str, Any]], str]

_DMI = "/sys/class/dmi/id"
_CPU = "/sys/devices/system/cpu"
# What makers of boards forget to fill in.
_PLACEHOLDER = re.compile(
    r"(?i)(to be filled.*|default string|system product name|system name|not (specified|available|"
    r"applicable)|none|null|unknown|undefined|empty|product name|o\.?e\.?m\.?|type1\w*|[0x .\-]*|"
    r"0?123456789)"
)
_CONTAINER_FILES = (
    "/.dockerenv", "/run/.containerenv", "/run/systemd/container", "/.singularity.d",
    "/singularity",
)  # fmt: skip
_CONTAINER_GROUP = re.compile(r"/(docker|lxc|kubepods|libpod|garden|containerd|crio)\b")
_VIRTUAL_MAKERS = re.compile(
    r"(?i)qemu|kvm|vmware|virtualbox|innotek|xen|bochs|parallels|google compute|virtual machine|"
    r"openstack|amazon ec2|alibaba cloud ecs|bhyve|rhev|nutanix ahv|cloud hypervisor|firecracker"
)
# Implementers and parts of ARM, which writes no name; as lscpu knows them.
_ARM_PARTS = {
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0x41", "0xd83"): "Arm Neoverse-V3",
    ("0x46", "0x001"): "Fujitsu A64FX",
    ("0x48", "0xd01"): "HiSilicon Kunpeng-920",
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1a",
}
_VMSTAT = (
    "pgpgin", "pgpgout", "pswpin", "pswpout", "pgmajfault", "pgscan_direct", "pgsteal_direct",
    "oom_kill", "compact_stall", "numa_miss", "nr_dirty", "nr_writeback", "workingset_refault_file",
)  # fmt: skip


def read_facts(
    request: Mapping[str, Any], root: Path = Path("/"), env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The facts of the host whose files are below `root`.

    Of a directory on a mount that does not answer, what its mount says is given all the same.
    """
    tree = Tree(root)
    data = _directory(tree, "data_dir", request)
    results = _directory(tree, "results_dir", request)
    group = limits(tree, data.layers if data else [])
    disks = _blocks(tree, [place.facts["blocks"] for place in (data, results) if place])
    nics = network.interfaces(tree)
    facts: dict[str, Any] = {
        "mlps_facts": platform.node(),
        "unix_s": round(time.time(), 3),
        "identity": _identity(tree),
        "system": _system(tree),
        "cpu": _cpu(tree),
        "memory": _memory(tree, group["memory_bytes"]),
        "cgroup": group,
        "data_dir": data and data.facts,
        "results_dir": results and results.facts,
        "blocks": disks,
        "nics": nics,
        "sysctl": settings.sysctl(tree),
        "environment": settings.environment(tree, os.environ if env is None else env),
        "state": _state(tree, disks, nics),
        "errors": tree.errors,
    }
    return {name: _printable(value) for name, value in facts.items()}


def _directory(tree: Tree, what: str, request: Mapping[str, Any]) -> storage.Directory | None:
    path = request.get(what)
    return storage.directory(tree, what, str(path)) if path else None


def _blocks(tree: Tree, found: list[Any]) -> Devices:
    """Facts of the disks behind the directories, each once."""
    names = sorted({name for names in found if names != UNKNOWN for name in names})
    if not names and UNKNOWN in found:
        return tree.unknown("blocks", "what is behind the directories is unknown")
    return [storage.block(tree, name) for name in names]


def _printable(value: object) -> object:
    """The same document with a mark for bytes that are no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(name): _printable(item) for name, item in value.items()}
    return value


# ---------------------------------------------------------------- identity and system


def _identity(tree: Tree) -> dict[str, Any]:
    return {
        "boot_id": tree.fact("identity.boot_id", "/proc/sys/kernel/random/boot_id", str.strip),
        "machine_id_sha256": tree.fact(
            "identity.machine_id_sha256", "/etc/machine-id", _machine_id_sha256
        ),
        "chassis": tree.fact("identity.chassis", f"{_DMI}/product_name", _chassis),
        "virtual": _virtual(tree),
    }


def _machine_id_sha256(text: str) -> str | None:
    """The id itself is confidential, says systemd; a hash tells hosts apart as well."""
    if not re.fullmatch(r"[0-9a-f]{32}", text.strip()):
        return None
    return hashlib.sha256(text.strip().encode()).hexdigest()[:16]


def _chassis(text: str) -> str | None:
    return None if _PLACEHOLDER.fullmatch(text.strip()) else text.strip()


def _virtual(tree: Tree) -> str:
    """Whether this is a container, a virtual machine or none of both."""
    groups = procfs.cgroup_paths(tree.text("/proc/self/cgroup")).values()
    if any(map(tree.exists, _CONTAINER_FILES)) or any(map(_CONTAINER_GROUP.search, groups)):
        return "container"
    words = [tree.text(f"{_DMI}/{name}").strip() for name in ("sys_vendor", "product_name")]
    flags = re.search(r"(?m)^flags\s*:(.*)$", _head(tree, "/proc/cpuinfo"))
    if flags and "hypervisor" in flags[1].split():
        return "vm"
    if _VIRTUAL_MAKERS.search(" ".join(words)) and not words[1].endswith("metal"):
        return "vm"
    if flags or any(words):
        return "none"
    return tree.unknown("identity.virtual", "neither the processor nor the firmware says")


def _head(tree: Tree, path: str) -> str:
    """The first 8 KiB of a file: cpuinfo of 256 processors takes the kernel long to write."""
    try:
        with tree.at(path).open("rb") as file:
            return file.read(8192).decode("utf-8", "replace")
    except OSError:
        return ""


def _system(tree: Tree) -> dict[str, Any]:
    path = "/etc/os-release"
    path = path if tree.exists(path) else "/usr/lib/os-release"
    return {
        "os": tree.fact("system.os", path, lambda text: _os_release(text).get("NAME")),
        "version": tree.fact(
            "system.version", path, lambda text: _os_release(text).get("VERSION_ID")
        ),
        "kernel": tree.fact("system.kernel", "/proc/sys/kernel/osrelease", str.strip),
        "arch": tree.text("/proc/sys/kernel/arch").strip() or platform.machine() or UNKNOWN,
        "python": platform.python_version(),
    }


def _os_release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.split("\n") if not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _, value in pairs}


# ---------------------------------------------------------------- processor and memory


def _cpu(tree: Tree) -> dict[str, Any]:
    online = procfs.cpu_list(tree.text(f"{_CPU}/online"))
    sockets, cores = (
        _groups(tree, online, "core_siblings_list"),
        _groups(tree, online, "thread_siblings_list"),
    )
    if not cores:
        blocks = [
            block for block in procfs.cpuinfo(tree.text("/proc/cpuinfo")) if "core id" in block
        ]
        ids = {(block.get("physical id", ""), block["core id"]) for block in blocks}
        sockets, cores = len({socket for socket, _ in ids}), len(ids)
    why = "neither /sys nor cpuinfo says"
    return {
        "model": tree.fact("cpu.model", "/proc/cpuinfo", _cpu_model),
        "sockets": sockets or tree.unknown("cpu.sockets", why),
        "cores": cores or tree.unknown("cpu.cores", why),
        "threads": len(online) or tree.fact("cpu.threads", "/proc/cpuinfo", _processors),
        "numa_nodes": tree.fact("cpu.numa_nodes", "/sys/devices/system/node/online", _count),
        "allowed": tree.fact("cpu.allowed", "/proc/self/status", _cpus_allowed),
    }


def _groups(tree: Tree, online: list[int], name: str) -> int:
    """Into how many groups a list of siblings parts the processors; 0 where there are no lists."""
    covered: set[int] = set()
    count = 0
    for number in online:
        if number not in covered:
            siblings = procfs.cpu_list(tree.text(f"{_CPU}/cpu{number}/topology/{name}"))
            count += bool(siblings)
            covered.update(siblings)
    return count


def _cpu_model(text: str) -> str | None:
    """The name of the first processor; of ARM, which writes none, its implementer and part."""
    merged: dict[str, str] = {}
    for block in procfs.cpuinfo(text):
        merged = {**block, **merged}
    for name in ("model name", "cpu", "processor 0"):
        if merged.get(name):
            return " ".join(merged[name].split())
    pair = (merged.get("CPU implementer", ""), merged.get("CPU part", ""))
    return _ARM_PARTS.get(pair) or ("ARM {} {}".format(*pair) if all(pair) else None)


def _processors(text: str) -> int | None:
    return sum("core id" in block or any(name.startswith("processor") for name in block)
               for block in procfs.cpuinfo(text)) or None  # fmt: skip


def _count(text: str) -> int | None:
    return len(procfs.cpu_list(text)) or None


def _cpus_allowed(text: str) -> int | None:
    found = re.search(r"(?m)^Cpus_allowed_list:\s*(\S+)", text)
    return _count(found[1]) if found else None


def _memory(tree: Tree, limit_bytes: int | str) -> dict[str, Any]:
    sizes = procfs.meminfo(tree.text("/proc/meminfo"))
    pages = {"Hugetlb": sizes.get("HugePages_Total", 0) * sizes.get("Hugepagesize", 0)}
    huge = {**pages, **sizes}["Hugetlb"] if "HugePages_Total" in sizes else None
    why = "/proc/meminfo: it does not say"
    if limit_bytes == UNKNOWN:
        tree.unknown("memory.limit_bytes", tree.errors["cgroup.memory_bytes"])
    return {
        "total_bytes": sizes.get("MemTotal") or tree.unknown("memory.total_bytes", why),
        "limit_bytes": limit_bytes,
        "swap_bytes": tree.known("memory.swap_bytes", sizes.get("SwapTotal"), why),
        "hugepages_bytes": tree.known("memory.hugepages_bytes", huge, why),
        "transparent_hugepages": tree.fact(
            "memory.transparent_hugepages",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            storage.chosen,
        ),
    }


# ---------------------------------------------------------------- what changes all the time


def _state(tree: Tree, disks: Devices, nics: Devices) -> dict[str, Any]:
    sizes = procfs.meminfo(tree.text("/proc/meminfo"))
    why = "/proc/meminfo: it does not say"
    available = sizes.get("MemAvailable")  # from 3.14 on
    return {
        "uptime_s": tree.fact("state.uptime_s", "/proc/uptime", procfs.uptime_s),
        "load": tree.fact("state.load", "/proc/loadavg", procfs.loadavg),
        "memory_available_bytes": tree.known("state.memory_available_bytes", available, why),
        "dirty_bytes": tree.known("state.dirty_bytes", sizes.get("Dirty"), why),
        "vmstat": tree.fact("state.vmstat", "/proc/vmstat", _vmstat),
        "diskstats": _diskstats(tree, disks),
        "netdev": _netdev(tree, nics),
    }


def _vmstat(text: str) -> dict[str, int] | None:
    numbers = procfs.vmstat(text)
    return {name: numbers[name] for name in _VMSTAT if name in numbers} or None


def _diskstats(tree: Tree, disks: Devices) -> dict[str, list[int]] | str:
    if isinstance(disks, str):
        return tree.unknown("state.diskstats", "the disks are unknown")
    read = tree.fact("state.diskstats", "/proc/diskstats", procfs.diskstats)
    if isinstance(read, str):
        return read
    found = {
        disk["name"]: storage.disk_counters(read, disk["name"], disk["twins"]) for disk in disks
    }
    # Without the weighted time, which says nothing at a single moment.
    return {name: list(counters[:5]) for name, counters in found.items() if counters}


def _netdev(tree: Tree, nics: Devices) -> dict[str, list[int]] | str:
    if isinstance(nics, str):
        return tree.unknown("state.netdev", "the interfaces are unknown")
    read = tree.fact("state.netdev", "/proc/net/dev", procfs.net_dev)
    if isinstance(read, str):
        return read
    return {
        nic["name"]: [
            read[nic["name"]].receive_bytes,
            read[nic["name"]].receive_drops,
            read[nic["name"]].send_bytes,
            read[nic["name"]].send_drops,
        ]
        for nic in nics
        if nic["name"] in read
    }
