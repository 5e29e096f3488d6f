"""Facts of hosts as the probe states them, for the tests of what is made of them."""

from __future__ import annotations

import copy

GIB = 2**30

FACTS = {
    "mlps_facts": "node1",
    "unix_s": 1.8e9,
    "identity": {
        "boot_id": "boot-node1",
        "machine_id_sha256": "0123456789abcdef",
        "chassis": "PowerEdge R7625",
        "virtual": "none",
    },
    "system": {
        "os": "Debian GNU/Linux",
        "version": "12",
        "kernel": "6.1.0-28-amd64",
        "arch": "x86_64",
        "python": "3.11.2",
    },
    "cpu": {
        "model": "AMD EPYC 9354",
        "sockets": 2,
        "cores": 64,
        "threads": 128,
        "numa_nodes": 8,
        "allowed": 128,
    },
    "memory": {
        "total_bytes": 512 * GIB,
        "limit_bytes": "none",
        "swap_bytes": 0,
        "hugepages_bytes": 0,
        "transparent_hugepages": "madvise",
    },
    "cgroup": {"version": 2, "cpu_cores": "none", "memory_bytes": "none", "io": []},
    "data_dir": {
        "path": "/data",
        "exists": True,
        "mount_point": "/data",
        "type": "xfs",
        "source": "/dev/nvme0n1p1",
        "options": ["noatime", "rw"],
        "device": "259:1",
        "total_bytes": 3500 * GIB,
        "blocks": ["nvme0n1"],
    },
    "results_dir": {
        "path": "/results",
        "exists": True,
        "mount_point": "/",
        "type": "ext4",
        "source": "/dev/sda1",
        "options": ["relatime", "rw"],
        "device": "8:1",
        "total_bytes": 100 * GIB,
        "blocks": ["sda"],
    },
    "blocks": [
        {
            "name": "nvme0n1",
            "kind": "nvme",
            "model": "Micron 9400",
            "size_bytes": 3576 * GIB,
            "rotational": False,
            "scheduler": "none",
            "twins": [],
        },
        {
            "name": "sda",
            "kind": "sata",
            "model": "unknown",
            "size_bytes": 112 * GIB,
            "rotational": True,
            "scheduler": "mq-deadline",
            "twins": [],
        },
    ],
    "nics": [
        {
            "name": "eth0",
            "kind": "ethernet",
            "speed_mbit_s": 100_000,
            "driver": "mlx5_core",
            "mtu": 9000,
            "state": "up",
            "slaves": [],
        }
    ],
    "sysctl": {"vm.dirty_ratio": "20"},
    "environment": {},
    "state": {
        "uptime_s": 1000.5,
        "load": [0.1, 0.2, 0.3],
        "memory_available_bytes": 500 * GIB,
        "dirty_bytes": 0,
        "vmstat": {"pgmajfault": 7},
        "diskstats": {"nvme0n1": [1, 4096, 2, 8192, 3]},
        "netdev": {"eth0": [10, 0, 20, 0]},
    },
    "errors": {},
}


def facts_of(name="node1", **changes):
    """The facts of a host; a change names its place: cpu__threads=64, nics=[...]."""
    facts = copy.deepcopy(FACTS)
    facts["mlps_facts"] = name
    facts["identity"]["boot_id"] = f"boot-{name}"
    for place, value in changes.items():
        section, _, key = place.partition("__")
        if key:
            facts[section][key] = value
        else:
            facts[section] = value
    return facts
