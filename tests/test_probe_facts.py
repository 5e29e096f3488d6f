"""The facts of hosts written on paper, of an empty one and of this one."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from unpack import unpack, unpack_host

from mlps.engine.probe import storage
from mlps.engine.probe.facts import read_facts

# What to ask of each host, and what must come out, by dotted name.
HOSTS = {
    "rhel8": (
        {"data_dir": "/data/new/run", "results_dir": None},
        {
            "identity.chassis": "PowerEdge R750",
            "identity.virtual": "none",
            "identity.boot_id": "9c1f3a52-7f0e-4b52-8a67-0d5f4f1c9a01",
            "system.os": "Red Hat Enterprise Linux",
            "system.version": "8.8",
            "system.kernel": "4.18.0-477.10.1.el8_8.x86_64",
            "cpu": {
                "model": "Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz",
                "sockets": 2,
                "cores": 4,
                "threads": 8,
                "numa_nodes": 2,
                "allowed": 4,
            },
            "memory": {
                "total_bytes": 527988396 * 1024,
                "limit_bytes": 64 << 30,
                "swap_bytes": 4194300 * 1024,
                "hugepages_bytes": 1081344 * 1024,
                "transparent_hugepages": "always",
            },
            "cgroup": {
                "version": 1,
                "cpu_cores": "none",
                "memory_bytes": 64 << 30,
                "io": [{"disk": "dm-2", "rbps": 1 << 30}],
            },
            "data_dir": {
                "path": "/data/new/run",
                "exists": False,
                "mount_point": "/data",
                "type": "xfs",
                "source": "/dev/mapper/vg_data-lv_data",
                "options": ["attr2", "noatime", "rw", "sunit=128", "swidth=512"],
                "device": "253:2",
                "total_bytes": "unknown",
                "blocks": ["dm-0"],
            },
            "results_dir": None,
            "blocks": [
                {
                    "name": "dm-0",
                    "kind": "dm",
                    "model": "DGC VRAID",
                    "size_bytes": 20971520000 * 512,
                    "rotational": False,
                    "scheduler": "mq-deadline",
                    "twins": ["sda", "sdb"],
                }
            ],
            "nics": [
                {
                    "name": "bond0",
                    "kind": "bond",
                    "speed_mbit_s": 50000,
                    "driver": "bond",
                    "mtu": 9000,
                    "state": "up",
                    "slaves": ["ens1f0", "ens1f1"],
                },
                {
                    "name": "ib0",
                    "kind": "infiniband",
                    "speed_mbit_s": 200000,
                    "driver": "mlx5_core",
                    "mtu": 2044,
                    "state": "up",
                    "slaves": [],
                },
            ],
            "sysctl": {
                "net.core.rmem_max": "212992",
                "net.ipv4.tcp_rmem": "4096 87380 6291456",
                "sunrpc.tcp_slot_table_entries": "2",
                "vm.dirty_background_ratio": "10",
                "vm.dirty_ratio": "40",
                "vm.swappiness": "10",
            },
            "state": {
                "uptime_s": 1209600.51,
                "load": [12.5, 8.25, 4.0],
                "memory_available_bytes": 510000000 * 1024,
                "dirty_bytes": 128 * 1024,
                "vmstat": {
                    "pgpgin": 2**64 - 1,
                    "pgpgout": 123456789012,
                    "pgmajfault": 4012,
                    "oom_kill": 1,
                },
                "diskstats": {"dm-0": [200, 1600 * 512, 400, 3200 * 512, 55]},
                "netdev": {
                    "bond0": [2**64 - 1, 7, 1234567890123, 3],
                    "ib0": [10, 0, 20, 0],
                },
            },
            "errors": {"data_dir.total_bytes": "not asked below another root"},
        },
    ),
    "ubuntu2204": (
        {"data_dir": "/mnt/data/run", "results_dir": "/snap/core20/1974"},
        {
            "identity.machine_id_sha256": "unknown",
            "identity.chassis": "unknown",
            "cpu.sockets": 1,
            "cpu.cores": 2,
            "cpu.threads": 2,
            "memory.limit_bytes": 32 << 30,
            "cgroup.cpu_cores": 8.0,
            "cgroup.io": [{"disk": "nvme0n1", "rbps": 2097152000, "wbps": 1000000000}],
            "data_dir.blocks": ["nvme0n1", "nvme1n1"],
            "data_dir.source": "/dev/md127",
            "results_dir.type": "squashfs",
            "results_dir.blocks": [],
            "blocks.0.kind": "nvme",
            "blocks.0.model": "SAMSUNG MZQL23T8HCLS-00A07",
            "blocks.1.model": "unknown",
            "nics.0.name": "eno1",
            "nics.0.driver": "ixgbe",
            "nics.1.speed_mbit_s": "unknown",
            "nics.1.state": "down",
            "state.netdev": {"eno1": [100, 2, 200, 4], "eno2": [0, 0, 0, 0]},
        },
    ),
    "debian12": (
        {"data_dir": "/srv/my data", "results_dir": "/srv/share"},
        {
            "system.arch": "x86_64",
            "memory.limit_bytes": "none",
            "memory.swap_bytes": 0,
            "data_dir.mount_point": "/srv/my data",
            "data_dir.device": "0:35",
            "data_dir.blocks": ["sdb", "sdc"],
            "results_dir.type": "cifs",
            "results_dir.options": [
                "domain=LAB", "password=hidden", "relatime", "ro", "username=ann", "vers=3.1.1",
            ],
            "results_dir.blocks": [],
            "blocks.0.kind": "sata",
            "blocks.0.model": "ST16000NM001G-2K",
            "blocks.0.rotational": True,
            "nics": [],
        },
    ),
    "sles15": (
        {"data_dir": "/nvmf", "results_dir": "/home/ann"},
        {
            "system.os": "SLES",
            "cpu.numa_nodes": 8,
            "memory.transparent_hugepages": "never",
            "memory.limit_bytes": "none",
            "data_dir.blocks": ["nvme0n1"],
            "results_dir.type": "nfs4",
            "results_dir.blocks": [],
            "blocks.0.twins": ["nvme0c0n1", "nvme0c1n1"],
            "blocks.0.scheduler": "none",
            "state.diskstats": {"nvme0n1": [150, 1200 * 512, 300, 2400 * 512, 45]},
            "nics.0.speed_mbit_s": "unknown",
            "nics.0.slaves": ["eth0", "eth1"],
            "nics.1.name": "bond1",
            "nics.1.speed_mbit_s": 25000,
        },
    ),
    "amazon2023": (
        {"data_dir": "/scratch", "results_dir": "/scratch/tmp"},
        {
            "identity.virtual": "vm",
            "identity.chassis": "m6i.4xlarge",
            "data_dir.blocks": ["nvme1n1"],
            "results_dir.type": "tmpfs",
            "results_dir.blocks": [],
            "blocks.0.twins": [],
            "nics.0.driver": "ena",
            "nics.0.mtu": 9001,
            "nics.0.speed_mbit_s": "unknown",
        },
    ),
    "docker_cgroup1": (
        {"data_dir": "/data", "results_dir": "/"},
        {
            "identity.virtual": "container",
            "system.os": "Rocky Linux",
            "memory.limit_bytes": 8 << 30,
            "cgroup": {
                "version": 1,
                "cpu_cores": 2.5,
                "memory_bytes": 8 << 30,
                "io": [{"disk": "sda", "rbps": 104857600, "wiops": 500}],
            },
            "data_dir.blocks": ["sda"],
            "blocks.0.kind": "virtio",
            "results_dir.type": "overlay",
            "results_dir.blocks": [],
            "nics.0.name": "eth0",
            "nics.0.kind": "virtual",
            "state.netdev": {"eth0": [5, 0, 6, 0]},
        },
    ),
    "kubernetes_cgroup2": (
        {"data_dir": "/data", "results_dir": None},
        {
            "identity.virtual": "container",
            "cpu.allowed": 2,
            "cgroup": {
                "version": 2,
                "cpu_cores": 1.5,
                "memory_bytes": 4 << 30,
                "io": [{"disk": "rbd0", "wbps": 104857600, "wiops": 1000}],
            },
            "data_dir.type": "ext4",
            "blocks.0.kind": "rbd",
            "nics.0.name": "eth0",
            "nics.1.name": "net1",
            "nics.1.driver": "macvlan",
        },
    ),
    "graviton_lustre": (
        {"data_dir": "/fsx", "results_dir": "/"},
        {
            "identity.virtual": "vm",
            "system.arch": "aarch64",
            "cpu.model": "Arm Neoverse-V1",
            "cpu.sockets": 1,
            "cpu.cores": 2,
            "cgroup.version": 2,
            "cgroup.memory_bytes": "unknown",
            "data_dir.type": "lustre",
            "data_dir.source": "10.0.1.5@tcp:10.0.1.6@tcp:/fsx",
            "data_dir.blocks": [],
            "results_dir.blocks": "unknown",
            "blocks": "unknown",
            "nics.0.speed_mbit_s": "unknown",
        },
    ),
    "centos7": (
        {"data_dir": "/srv", "results_dir": "/srv"},
        {
            "system.version": "7",
            "cpu.sockets": 2,
            "cpu.cores": 2,
            "cpu.threads": 4,
            "cpu.model": "Intel(R) Xeon(R) CPU X5650 @ 2.67GHz",
            "memory.limit_bytes": "none",
            "memory.hugepages_bytes": 8 << 20,
            "data_dir.blocks": ["cciss!c0d0"],
            "blocks.0.scheduler": "deadline",
            "state.memory_available_bytes": "unknown",
            "state.diskstats": {"cciss!c0d0": [10, 80 * 512, 20, 160 * 512, 3]},
            "state.netdev": {"em1": [12345678901234, 0, 5, 0]},
        },
    ),
}  # fmt: skip
KEYS = {
    "mlps_facts": None,
    "unix_s": None,
    "identity": {"boot_id", "machine_id_sha256", "chassis", "virtual"},
    "system": {"os", "version", "kernel", "arch", "python"},
    "cpu": {"model", "sockets", "cores", "threads", "numa_nodes", "allowed"},
    "memory": {
        "total_bytes", "limit_bytes", "swap_bytes", "hugepages_bytes", "transparent_hugepages",
    },
    "cgroup": {"version", "cpu_cores", "memory_bytes", "io"},
    "data_dir": {
        "path", "exists", "mount_point", "type", "source", "options", "device", "total_bytes",
        "blocks",
    },
    "results_dir": None,
    "blocks": None,
    "nics": None,
    "sysctl": None,
    "environment": None,
    "state": {
        "uptime_s", "load", "memory_available_bytes", "dirty_bytes", "vmstat", "diskstats",
        "netdev",
    },
    "errors": None,
}  # fmt: skip


def value_at(facts, dotted):
    for word in dotted.split("."):
        facts = facts[int(word)] if isinstance(facts, list) else facts[word]
    return facts


def leaves(value, path=""):
    """(dotted name, value) of all that is neither mapping nor list; items by their name."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            name = item["name"] if isinstance(item, dict) and "name" in item else "item"
            yield from leaves(item, f"{path}.{name}")
    else:
        yield path.lstrip("."), value


def assert_schema(facts):
    assert list(facts) == list(KEYS)
    assert {name: set(facts[name]) for name, keys in KEYS.items() if keys} == {
        name: keys for name, keys in KEYS.items() if keys
    }
    said = {name: value for name, value in facts.items() if name != "errors"}
    for name, value in leaves(said):
        assert value is not None or name in ("data_dir", "results_dir")
        if value == "unknown":
            words = name.split(".")
            above = {".".join(words[:count]) for count in range(1, len(words) + 1)}
            assert above & set(facts["errors"]), f"{name}: nobody says why"
    assert len(json.dumps(facts, separators=(",", ":"))) < 8192


# ---------------------------------------------------------------- hosts on paper


@pytest.mark.parametrize("name", HOSTS)
def test_facts_of_a_host(name, tmp_path):
    request, expected = HOSTS[name]
    facts = read_facts(request, unpack_host(name, tmp_path), {})
    assert {dotted: value_at(facts, dotted) for dotted in expected} == expected
    assert_schema(facts)


def test_there_is_no_host_without_expectations():
    assert {path.stem for path in Path(__file__).with_name("host_trees").iterdir()} == set(HOSTS)


def test_of_an_empty_host_nothing_is_known(tmp_path):
    facts = read_facts({"data_dir": "/data", "results_dir": None}, tmp_path, {})
    assert_schema(facts)
    own = ("arch", "python", "exists", "path", "mlps_facts", "unix_s")
    known = {
        name: value
        for name, value in leaves({**facts, "errors": {}})
        if value != "unknown" and name.split(".")[-1] not in own
    }
    assert known == {"results_dir": None}


@pytest.mark.parametrize("name", ["rhel8", "docker_cgroup1"])
def test_each_missing_file_is_told_by_what_is_unknown(name, tmp_path):
    request = {"data_dir": "/data"}
    whole = read_facts(request, unpack_host(name, tmp_path), {})
    for path in [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]:
        text = path.read_bytes()
        path.unlink()
        facts = read_facts(request, tmp_path, {})
        path.write_bytes(text)
        assert_schema(facts)
        assert (
            facts["identity"]["boot_id"] == whole["identity"]["boot_id"] or path.name == "boot_id"
        )


def test_garbage_in_every_file_is_not_believed(tmp_path):
    unpack_host("rhel8", tmp_path)
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        path.write_bytes(b"\xff\x00 garbage -1 : 99999999999999999999999\n" * 3)
    facts = read_facts({"data_dir": "/data"}, tmp_path, {})
    assert list(facts) == list(KEYS)
    assert facts["memory"]["total_bytes"] == "unknown"
    json.dumps(facts).encode()


def test_bytes_that_are_no_utf8_can_be_written(tmp_path):
    unpack(
        "== /proc/self/mountinfo\n1 0 0:5 / / rw - tmpfs tmpfs rw\n"
        "2 1 0:6 / /d@ rw - nfs server:/d@ rw\n= /d@/\n",
        tmp_path,
    )
    (tmp_path / "d@").rename(tmp_path / os.fsdecode(b"d\xe9"))
    file = tmp_path / "proc/self/mountinfo"
    file.write_bytes(file.read_bytes().replace(b"d@", b"d\xe9"))
    facts = read_facts({"data_dir": os.fsdecode(b"/d\xe9")}, tmp_path, {})
    assert (facts["data_dir"]["type"], facts["data_dir"]["mount_point"]) == ("nfs", "/d�")
    json.dumps(facts, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("vendor", "product", "flags", "expected"),
    [
        ("Amazon EC2", "m5.metal", "fpu", "none"),
        ("Amazon EC2", "m7g.large", None, "vm"),
        ("Microsoft Corporation", "Virtual Machine", None, "vm"),
        ("Dell Inc.", "PowerEdge", None, "none"),
        ("", "", "fpu hypervisor", "vm"),
        ("", "", None, "unknown"),
    ],
    ids=["metal", "arm", "Azure", "server", "no firmware", "nothing"],
)
def test_a_virtual_machine_is_known_by_processor_or_maker(
    tmp_path, vendor, product, flags, expected
):
    text = f"= /sys/class/dmi/id/sys_vendor = {vendor}\n"
    text += f"= /sys/class/dmi/id/product_name = {product}\n"
    text += f"== /proc/cpuinfo\nflags\t\t: {flags}\n" if flags else ""
    facts = read_facts({}, unpack(text, tmp_path), {})
    assert facts["identity"]["virtual"] == expected


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("CPU implementer\t: 0x61\nCPU part\t: 0x023\n", "ARM 0x61 0x023"),
        ("processor 0: version = FF,  machine = 3931\n", "version = FF, machine = 3931"),
        ("processor : 0\n", "unknown"),
    ],
    ids=["POWER", "unlisted ARM", "s390x", "nothing"],
)
def test_models_of_other_processors(tmp_path, text, model):
    facts = read_facts({}, unpack(f"== /proc/cpuinfo\n{text}", tmp_path), {})
    assert facts["cpu"]["model"] == model


# ---------------------------------------------------------------- this host


def test_facts_of_this_host(tmp_path):
    facts = read_facts({"data_dir": str(tmp_path / "new"), "results_dir": "/proc"})
    assert_schema(facts)
    assert facts["mlps_facts"] == platform.node()
    assert abs(facts["unix_s"] - time.time()) < 60
    assert facts["system"]["kernel"] == platform.release()
    assert facts["memory"]["total_bytes"] == psutil.virtual_memory().total
    assert facts["cpu"]["threads"] == psutil.cpu_count()
    assert facts["cpu"]["cores"] == (psutil.cpu_count(logical=False) or "unknown")
    assert facts["cpu"]["allowed"] == len(os.sched_getaffinity(0))
    assert facts["state"]["uptime_s"] == pytest.approx(time.time() - psutil.boot_time(), abs=60)
    usage = os.statvfs(tmp_path)
    assert facts["data_dir"]["total_bytes"] == usage.f_blocks * usage.f_frsize
    assert facts["data_dir"]["exists"] is False
    assert facts["results_dir"]["type"] == "proc"
    assert facts["results_dir"]["blocks"] == []
    assert list(tmp_path.iterdir()) == []


def test_facts_are_read_in_a_moment():
    def once():
        start = time.process_time()
        read_facts({"data_dir": "/", "results_dir": "/tmp"})
        return time.process_time() - start

    assert min(once() for _ in range(5)) < 0.05


def test_a_mount_that_does_not_answer_does_not_hold_the_probe(monkeypatch):
    monkeypatch.setattr(storage, "MOUNT_LIMIT_S", 0.05)
    answers = threading.Event()
    statvfs = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: answers.wait(9) and statvfs(path))
    start = time.monotonic()
    facts = read_facts({"data_dir": "/proc/x", "results_dir": None})
    assert time.monotonic() - start < 5
    answers.set()
    assert facts["errors"]["data_dir"] == "/proc/x: no answer in 0.05 s"
    place = facts["data_dir"]
    assert (place["exists"], place["total_bytes"], place["type"]) == ("unknown", "unknown", "proc")
    assert_schema(facts)


def test_the_environment_is_that_of_the_process_or_the_given_one(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert read_facts({})["environment"]["OMP_NUM_THREADS"] == "7"
    assert read_facts({}, env={"UCX_TLS": "rc"})["environment"] == {"UCX_TLS": "rc"}


def test_the_probe_needs_nothing_but_its_own_directory(tmp_path):
    package = Path(storage.__file__).parent
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from probe.facts import read_facts; "
        "import json; print(json.dumps(read_facts({'data_dir': '/'})))"
    )
    words = [sys.executable, "-ISB", "-W", "error", "-c", program, str(package.parent)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True, cwd=tmp_path, env={})
    assert_schema(json.loads(done.stdout))
    assert done.stderr == b""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13", "3.14"])
def test_the_probe_runs_with_other_pythons(version, tmp_path):
    python = other_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    unpack_host("rhel8", tmp_path)
    program = (
        "import json, pathlib, sys; sys.path.insert(0, sys.argv[1]); "
        "from probe.facts import read_facts; "
        "print(json.dumps(read_facts({'data_dir': '/data'}, pathlib.Path(sys.argv[2]), {})))"
    )
    words = [python, "-ISBc", program, str(Path(storage.__file__).parents[1]), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, timeout=60, check=True)
    facts = json.loads(done.stdout)
    assert_schema(facts)
    assert facts["system"]["python"].startswith(version)
    expected = read_facts({"data_dir": "/data"}, tmp_path, {})
    assert {name for name in facts if facts[name] != expected[name]} == {"unix_s", "system"}


def other_python(version):
    """A Python on the PATH, or one that pyenv holds there; None where it does not run."""
    found = shutil.which(f"python{version}")
    words = [found, "-c", "import sys; print(sys.executable)"]
    env = {**os.environ, "PYENV_VERSION": version}
    done = found and subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    return done.stdout.strip() if done and done.returncode == 0 else None
