"""Settings of the kernel and the environment that bear on I/O: an allow-list, no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate

from .tree import Tree

_SYSCTL = (
    "fs/aio-max-nr", "fs/nr_open",
    "kernel/io_uring_disabled", "kernel/numa_balancing",
    "net/core/*mem*", "net/core/default_qdisc", "net/core/netdev_max_backlog",
    "net/ipv4/tcp_*mem", "net/ipv4/tcp_congestion_control", "net/ipv4/tcp_mtu_probing",
    "sunrpc/*slot_table_entries",
    "vm/dirty_*", "vm/max_map_count", "vm/min_free_kbytes", "vm/overcommit_memory",
    "vm/swappiness", "vm/vfs_cache_pressure", "vm/zone_reclaim_mode",
)  # fmt: skip
_ENVIRONMENT = (
    "AWS_ENDPOINT_URL*", "AWS_REGION", "CUDA_VISIBLE_DEVICES", "FI_*", "I_MPI_*", "LD_PRELOAD",
    "MALLOC_*", "MPICH_*", "NCCL_*", "OMP_*", "OMPI_MCA_*", "S3_ENDPOINT*", "UCX_*",
)  # fmt: skip
_IS_SYSCTL = re.compile("|".join(map(translate, _SYSCTL)))
_IS_ENVIRONMENT = re.compile("|".join(map(translate, _ENVIRONMENT)))
_VALUE_LIMIT = 200
_ENVIRONMENT_LIMIT_BYTES = 2048
_SECRET_NAME = re.compile(r"(?i)key|secret|token|pass|cred")
_SECRET_VALUE = re.compile(
    r"(?i:key|secret|token|passw|cred)[^=\s]*="
    r"|[^/\s@]*:[^/\s@]+@|://[^/\s]*@"
    r"|\b(AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN"
)


def sysctl(tree: Tree) -> dict[str, str] | str:
    """Values by dotted name; what this kernel does not have is left out."""
    if not tree.names("/proc/sys"):
        return tree.unknown("sysctl", "/proc/sys: nothing there")
    found = {}
    for directory in sorted({pattern.rpartition("/")[0] for pattern in _SYSCTL}):
        for name in tree.names(f"/proc/sys/{directory}"):
            path = f"{directory}/{name}"
            if _IS_SYSCTL.match(path):
                dotted = path.replace("/", ".")
                found[dotted] = tree.fact(f"sysctl.{dotted}", f"/proc/sys/{path}", _words)
    return found


def _words(text: str) -> str:
    return " ".join(text.split())[:_VALUE_LIMIT]


def environment(tree: Tree, env: Mapping[str, str]) -> dict[str, str]:
    """Variables that bear on MPI, network and memory; nothing that looks like a secret."""
    found: dict[str, str] = {}
    left_out, room = 0, _ENVIRONMENT_LIMIT_BYTES
    for name, value in sorted(env.items()):
        if not _IS_ENVIRONMENT.match(name) or is_secret(name, value):
            continue
        value = value if len(value) <= _VALUE_LIMIT else value[:_VALUE_LIMIT] + "..."
        room -= len(name) + len(value) + 6
        if room < 0:
            left_out += 1
        else:
            found[name] = value
    if left_out:
        tree.errors["environment"] = f"{left_out} more variables, left out to stay small"
    return found


def is_secret(name: str, value: str) -> bool:
    """Whether a variable looks as if it told a secret, by its name or its value."""
    if _SECRET_NAME.search(name) or _SECRET_VALUE.search(value):
        return True
    # Long words of mixed signs, or of hexadecimal digits, are what keys look like.
    words = [word for word in re.split(r"[\s,;:.=@]+", value) if not word.startswith("/")]
    return any(_looks_random(word) for word in words if len(word) >= 32)


def _looks_random(word: str) -> bool:
    if re.fullmatch(r"[0-9a-fA-F]+", word):
        return True
    kinds = (r"[a-z]", r"[A-Z]", r"[0-9]")
    return bool(re.fullmatch(r"[\w+/-]+", word)) and all(re.search(kind, word) for kind in kinds)
