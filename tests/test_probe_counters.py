"""Counters as changes: only what moved, nothing negative, nothing of what cannot be read."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.probe import counters as module
from mlps.engine.probe.counters import COLUMNS, CounterFile, Counters, Targets, targets_of

MIB = 2**20

STAT = "cpu  {} 20 300 4000 50 6 7 8 0 0\ncpu0 1 2 3\nintr 1\n"
MEMINFO = "MemTotal: 9 kB\nMemAvailable: {} kB\nCached: 3 kB\nDirty: 2 kB\nWriteback: 1 kB\n"
VMSTAT = "nr_free_pages 5\npgpgin {}\npgpgout 2\npswpin 3\npswpout 4\npgmajfault 5\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\nfull avg10=0.00 total=2\n"
NET = "Inter-| Receive | Transmit\n face |bytes\n  lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n"
NIC = "  {}: {} 2 0 3 0 0 0 0 5 6 0 7 0 0 0 0\n"


class Host:
    """The files of a host below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/stat", STAT.format(10))
        self.write("proc/meminfo", MEMINFO.format(7))
        self.write("proc/vmstat", VMSTAT.format(1))
        for name in ("cpu", "io", "memory"):
            self.write(f"proc/pressure/{name}", PRESSURE.format(1))
        self.nic(eth0=1)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def disk(self, name, reads, sectors, busy_ms=1):
        text = f" {reads} 0 {sectors} 9 2 0 16 9 0 {busy_ms} 4 0 0 0 0 0 0\n"
        self.write(f"sys/class/block/{name}/stat", text)

    def nic(self, **received):
        lines = [NIC.format(name, number) for name, number in received.items()]
        self.write("proc/net/dev", NET + "".join(lines))

    def counters(self, **targets):
        known = {"disks": {}, "nics": [], "mount": None, **targets}
        found = Counters(Targets(**known), self.root)
        found.look()
        return found


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_what_did_not_move_is_not_told(host):
    host.disk("sda", 10, 80)
    counters = host.counters(disks={"sda": []}, nics=["eth0"])
    assert counters.look() == {}
    assert counters.unknown == []
    assert set(counters.columns) == set(COLUMNS) - {"mount"}


def test_counters_are_told_as_differences_and_gauges_as_they_are(host):
    host.disk("sda", 10, 80)
    host.disk("sdb", 10, 80)
    counters = host.counters(disks={"sda": [], "sdb": []}, nics=["eth0"])
    host.write("proc/stat", STAT.format(10 + os.sysconf("SC_CLK_TCK")))
    host.write("proc/meminfo", MEMINFO.format(5))
    host.write("proc/vmstat", VMSTAT.format(4))
    host.write("proc/pressure/io", PRESSURE.format(18))
    host.disk("sdb", 13, 80 + 4096, busy_ms=21)
    host.nic(eth0=101)
    assert counters.look() == {
        "cpu": [1000, 0, 0, 0, 0],
        "memory": [5 * 1024, 3 * 1024, 2 * 1024, 1024],
        "vm": [3 * 1024, 0, 0, 0, 0, 0],
        "pressure": [0, 17, 0, 0, 0],
        "disk": {"sdb": [3, 2 * MIB, 0, 0, 20, 0]},
        "net": {"eth0": [100, 0, 0, 0, 0]},
    }
    assert counters.look() == {}


def test_a_counter_that_fell_is_no_negative_number(host):
    host.disk("sda", 10, 80)
    host.disk("sdb", 10, 80)
    counters = host.counters(disks={"sda": [], "sdb": []}, nics=["eth0"])
    host.disk("sda", 2, 8)
    host.disk("sdb", 20, 160)
    host.nic(eth0=0)
    assert counters.look() == {"reset": ["disk", "net"]}
    host.disk("sda", 3, 8)
    assert counters.look() == {"disk": {"sda": [1, 0, 0, 0, 0, 0]}}


def test_waiting_for_io_may_be_corrected_by_the_kernel(host):
    counters = host.counters()
    host.write("proc/stat", STAT.format(10).replace(" 50 ", " 48 "))
    assert counters.look() == {}
    host.write("proc/stat", STAT.format(10).replace(" 50 ", " 51 "))
    assert counters.look() == {"cpu": [0, 0, 0, 1000 / os.sysconf("SC_CLK_TCK"), 0]}


def test_a_disk_that_goes_and_comes_back(host):
    host.disk("sda", 10, 80)
    counters = host.counters(disks={"sda": []})
    stat = host.root / "sys/class/block/sda/stat"
    # As the kernel does: what is open says that there is no such device.
    stat.write_text("")
    assert counters.look() == {"unknown": ["disk"]}
    host.disk("sda", 1, 8)
    assert counters.look() == {"reset": ["disk"]}
    host.disk("sda", 2, 8)
    assert counters.look() == {"disk": {"sda": [1, 0, 0, 0, 0, 0]}}


def test_an_interface_that_goes(host):
    host.nic(eth0=1, eth1=1)
    counters = host.counters(nics=["eth0", "eth1"])
    host.nic(eth0=5)
    assert counters.look() == {"unknown": ["net"]}


def test_what_a_host_does_not_have_is_unknown_from_the_start(host):
    for name in ("cpu", "io", "memory"):
        (host.root / "proc/pressure" / name).unlink()
    counters = host.counters(disks=None, nics=None)
    assert counters.unknown == ["pressure", "disk", "net"]
    assert set(counters.columns) == {"cpu", "memory", "vm"}
    assert counters.look() == {}


def test_an_interface_is_not_taken_for_another(host):
    host.nic(eth0=1, eth01=1, veth0=1)
    counters = host.counters(nics=["eth0"])
    host.nic(eth0=2, eth01=50, veth0=50)
    assert counters.look() == {"net": {"eth0": [1, 0, 0, 0, 0]}}


def test_a_disk_that_counts_nothing_is_the_sum_of_its_paths(host):
    host.disk("nvme0n1", 0, 0)
    host.write("sys/class/block/nvme0n1/stat", " 0" * 17)
    host.disk("nvme0c0n1", 10, 80)
    host.disk("nvme0c1n1", 10, 80)
    counters = host.counters(disks={"nvme0n1": ["nvme0c0n1", "nvme0c1n1"]})
    host.disk("nvme0c0n1", 15, 80)
    host.disk("nvme0c1n1", 16, 80)
    assert counters.look() == {"disk": {"nvme0n1": [11, 0, 0, 0, 0, 0]}}


def test_very_many_devices_are_told_as_their_sum(host):
    names = [f"sd{number}" for number in range(module.MOST_DISKS + 1)]
    for name in names:
        host.disk(name, 10, 80)
    counters = host.counters(disks={name: [] for name in names})
    host.disk(names[0], 11, 80)
    host.disk(names[1], 12, 80)
    assert counters.look() == {"disk": {f"sum of {len(names)}": [3, 0, 0, 0, 0, 0]}}


MOUNTSTATS = (
    "device rootfs mounted on / with fstype ext4\n"
    "device server:/x mounted on /data with fstype nfs4 statvers=1.1\n"
    "\tbytes:\t1 2 3 4 {} 6 7 8\n"
)


def test_bytes_of_an_nfs_mount(host):
    host.write("proc/self/mountstats", MOUNTSTATS.format(5))
    counters = host.counters(mount=("nfs4", "/data", "server:/x"))
    host.write("proc/self/mountstats", MOUNTSTATS.format(55))
    assert counters.look() == {"mount": [50, 0]}


LLITE = "snapshot_time 1.5 secs.usecs\nread_bytes 2 samples [bytes] 1 9 {}\n"


@pytest.mark.parametrize("place", ["proc/fs/lustre", "sys/kernel/debug/lustre"])
def test_bytes_of_a_lustre_client(host, place):
    for name in ("scratch-ffff01", "scratch-ffff02", "other-ffff03"):
        host.write(f"{place}/llite/{name}/stats", LLITE.format(5))
    counters = host.counters(mount=("lustre", "/data", "10.0.0.1@tcp:10.0.0.2@tcp:/scratch/sub"))
    host.write(f"{place}/llite/scratch-ffff01/stats", LLITE.format(15))
    host.write(f"{place}/llite/other-ffff03/stats", LLITE.format(95))
    assert counters.look() == {"mount": [10, 0]}


def test_a_lustre_client_without_statistics_is_unknown(host):
    counters = host.counters(mount=("lustre", "/data", "10.0.0.1@tcp:/scratch"))
    assert counters.unknown == ["mount"]


def test_other_file_systems_have_no_counters_of_their_own(host):
    counters = host.counters(mount=("ext4", "/", "/dev/sda1"))
    assert counters.unknown == []
    assert "mount" not in counters.columns


# ---------------------------------------------------------------- any numbers

ROWS = st.lists(
    st.lists(st.integers(min_value=0, max_value=2**64), min_size=3, max_size=3),
    min_size=2,
    max_size=6,
)


@given(ROWS)
def test_no_change_is_ever_negative(rows):
    for before, now in pairwise(rows):
        change = module._change(now, before)
        if any(one < other for one, other in zip(now, before, strict=True)):
            assert change is None
        else:
            added = change or [0, 0, 0]
            assert [b + c for b, c in zip(before, added, strict=True)] == now


# ---------------------------------------------------------------- files


def test_a_file_stays_open_and_is_read_anew(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 200_000)
    file = CounterFile(path)
    assert len(file.read()) == 200_000
    before = len(list(Path("/proc/self/fd").iterdir()))
    path.write_bytes(b"b")
    assert file.read() == b"b"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_more_is_read_than_wanted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a" * 2000)
    assert len(CounterFile(path, most_bytes=512).read()) == 512


def test_a_file_that_is_missing_is_looked_for_again(tmp_path):
    file = CounterFile(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        file.read()
    (tmp_path / "file").write_text("x")
    assert file.read() == b"x"


# ---------------------------------------------------------------- targets


def place(*blocks, **more):
    known = {"type": "ext4", "mount_point": "/", "source": "/dev/sda1"}
    return {**known, "blocks": list(blocks), **more}


def block(name, *twins):
    return {"name": name, "twins": list(twins)}


def test_targets_are_the_disks_of_both_directories():
    facts = {
        "data_dir": place("nvme0n1", type="xfs"),
        "results_dir": place("sda", "nvme0n1"),
        "blocks": [block("nvme0n1", "nvme0c0n1"), block("sda")],
        "nics": [{"name": "bond0", "slaves": ["eth0"]}],
    }
    assert targets_of(facts) == Targets(
        disks={"nvme0n1": ["nvme0c0n1"], "sda": []},
        nics=["bond0"],
        mount=("xfs", "/", "/dev/sda1"),
    )


@pytest.mark.parametrize(
    ("data_dir", "results_dir", "disks"),
    [
        pytest.param(None, None, {}, id="no directories"),
        pytest.param(place(), place(), {}, id="no disk behind them, as for NFS"),
        pytest.param(place(blocks="unknown"), None, None, id="unknown"),
        pytest.param(place(blocks="unknown"), place("sda"), {"sda": []}, id="one known"),
    ],
)
def test_targets_where_not_all_is_known(data_dir, results_dir, disks):
    facts = {
        "data_dir": data_dir,
        "results_dir": results_dir,
        "blocks": "unknown",
        "nics": "unknown",
    }
    assert targets_of(facts).disks == disks
    assert targets_of(facts).nics is None
