"""The parsers of /proc: the documented forms, odd lines, and no text that makes them raise."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.probe import procfs

COUNTER = st.integers(0, 2**64 - 1)
NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=12)
WORDS = [
    *[
        "cpu",
        "some",
        "full",
        "total=",
        "bytes:",
        "device",
        "mounted",
        "on",
        "with",
        "fstype",
        "nfs",
        "-",
        "-1",
        "0",
        "7",
        "8:0",
        "rbps=1",
        ":",
    ],
    *[
        "99999999999999999999",
        "²",
        "½",
        "1_0",
        "nan",
        "inf",
        "kB",
        "[bytes]",
        "samples",
        "read_bytes",
        "\\040",
        "\\777",
    ],
    *("processor", "\n", "\t"),
]
GARBAGE = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
)
PARSERS = (
    "bonding", "cgroup_paths", "cpu_list", "cpu_max_cores", "cpu_ticks", "cpuinfo", "diskstats",
    "io_max", "loadavg", "lustre_bytes", "meminfo", "memory_limit_bytes", "mountinfo", "net_dev",
    "nfs_bytes", "pressure_us", "throttle", "unescaped", "uptime_s", "vmstat", "whole",
)  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@given(text=GARBAGE)
def test_no_text_makes_a_parser_raise(name, text):
    getattr(procfs, name)(text)


def test_every_parser_is_tried():
    functions = {name for name, _ in inspect.getmembers(procfs, inspect.isfunction)}
    assert {name for name in functions - {"NamedTuple"} if name[0] != "_"} == set(PARSERS)


@pytest.mark.parametrize(
    ("word", "number"),
    [("0", 0), (" 7\n", 7), (str(2**64 - 1), 2**64 - 1), (str(2**64), None), ("-1", None),
     ("", None), ("1_0", None), ("٣", None), ("²", None), ("9" * 5000, None), ("max", None)],
)  # fmt: skip
def test_counters_are_the_digits_of_the_kernel(word, number):
    assert procfs.whole(word) == number


# ---------------------------------------------------------------- memory and processor


@given(st.dictionaries(NAME, st.integers(0, 2**54 - 1)))
def test_meminfo_is_bytes(sizes):
    text = "".join(f"{name + ':':16}{size:>8} kB\n" for name, size in sizes.items())
    assert procfs.meminfo(text) == {name: size * 1024 for name, size in sizes.items()}


def test_meminfo_counts_pages_without_a_unit():
    text = "HugePages_Total:     16\nHugepagesize:       2048 kB\nOdd: 5 MB\nOdd2: kB\nno colon\n"
    assert procfs.meminfo(text) == {"HugePages_Total": 16, "Hugepagesize": 2 << 20}


@given(st.dictionaries(NAME, COUNTER))
def test_vmstat(counters):
    text = "".join(f"{name} {number}\n" for name, number in counters.items())
    assert procfs.vmstat(text) == counters


def test_cpuinfo_has_a_block_for_each_processor():
    text = "processor\t: 0\nmodel name\t: A: B\n\nprocessor\t: 1\nmodel name\t: A: B\n\n"
    assert procfs.cpuinfo(text) == [
        {"processor": "0", "model name": "A: B"},
        {"processor": "1", "model name": "A: B"},
    ]


def test_cpuinfo_of_arm_ends_with_its_hardware():
    text = "processor\t: 0\nCPU part\t: 0xd0c\n\nHardware\t: Board\n"
    assert procfs.cpuinfo(text) == [{"processor": "0", "CPU part": "0xd0c"}, {"Hardware": "Board"}]


def test_cpuinfo_of_s390x_has_no_blocks():
    text = "vendor_id       : IBM/S390\nprocessor 0: version = FF\nprocessor 1: version = FF\n"
    assert procfs.cpuinfo(text) == [
        {"processor 0": "version = FF"},
        {"processor 1": "version = FF"},
        {"vendor_id": "IBM/S390"},
    ]


@given(st.lists(COUNTER, min_size=4, max_size=10))
def test_cpu_ticks(ticks):
    text = f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 2 3 4\nintr 5\n"
    assert list(procfs.cpu_ticks(text).values()) == ticks
    assert list(procfs.cpu_ticks(text))[:4] == ["user", "nice", "system", "idle"]


def test_cpu_ticks_without_the_line():
    assert procfs.cpu_ticks("cpu0 1 2 3 4\n") == {}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8\n", [0, 1, 2, 3, 8]), ("5", [5]), ("", []), ("3-1,x,7-", [7]), ("0-99999999", [])],
)
def test_lists_of_processors(text, numbers):
    assert procfs.cpu_list(text) == numbers


def test_load_and_uptime():
    assert procfs.loadavg("0.20 1.18 12.10 1/100 999\n") == [0.2, 1.18, 12.1]
    assert procfs.loadavg("0.20 nan 1") is None
    assert procfs.loadavg("0.20 0.1") is None
    assert procfs.uptime_s("350735.47 234388.90\n") == 350735.47
    assert procfs.uptime_s("") is None


@given(some=COUNTER, full=COUNTER)
def test_pressure(some, full):
    text = (
        f"some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\n"
        f"full avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
    )
    assert procfs.pressure_us(text) == {"some": some, "full": full}
    assert procfs.pressure_us(text.splitlines()[0]) == {"some": some}


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize("length", [11, 15, 17], ids=["2.6 to 4.17", "4.18", "5.5 and later"])
@given(data=st.data())
def test_diskstats_of_all_kernels(length, data):
    counters = data.draw(st.lists(COUNTER, min_size=length, max_size=length))
    text = f" 259       0 nvme0n1 {' '.join(map(str, counters))}\n   8  1 sda1 1 2 3 4\n"
    disk = procfs.Disk(
        reads=counters[0],
        read_bytes=counters[2] * 512,
        writes=counters[4],
        write_bytes=counters[6] * 512,
        busy_ms=counters[9],
        weighted_ms=counters[10],
    )
    assert procfs.diskstats(text) == {"nvme0n1": disk}


def test_diskstats_has_the_names_of_sys():
    assert list(procfs.diskstats("104 0 cciss/c0d0" + " 1" * 11)) == ["cciss!c0d0"]


@given(st.lists(COUNTER, min_size=16, max_size=16), st.sampled_from(["", " "]))
def test_net_dev(counters, space):
    text = (
        "Inter-|   Receive                          |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n"
        f"  eth0:{space}{' '.join(map(str, counters))}\neth0:1: 1 2 3\n"
    )
    assert procfs.net_dev(text) == {
        "eth0": procfs.Interface(
            receive_bytes=counters[0],
            receive_packets=counters[1],
            receive_drops=counters[3],
            send_bytes=counters[8],
            send_packets=counters[9],
            send_drops=counters[11],
        )
    }


def test_net_dev_keeps_an_alias_apart():
    assert list(procfs.net_dev("eth0:1:" + " 5" * 16)) == ["eth0:1"]


def test_bonding():
    text = (
        "Ethernet Channel Bonding Driver: v5.15.0\n\nBonding Mode: IEEE 802.3ad Dynamic link"
        " aggregation\nMII Status: up\n\nSlave Interface: eth0\nMII Status: up\nSpeed: 25000 Mbps\n"
        "\nSlave Interface: eth1\nMII Status: down\n"
    )
    expected = procfs.Bond(mode="IEEE 802.3ad Dynamic link aggregation", slaves=["eth0", "eth1"])
    assert procfs.bonding(text) == expected


# ---------------------------------------------------------------- mounts


def escaped(path):
    return "".join(f"\\{ord(sign):03o}" if sign in " \t\n\\#" else sign for sign in path)


@given(
    point=st.text(st.characters(exclude_characters="\0"), min_size=1).map("/{}".format),
    optional=st.lists(st.sampled_from(["shared:1", "master:2", "propagate_from:3", "unbindable"])),
)
def test_mountinfo_of_any_path(point, optional):
    words = ["36", "35", "98:0", "/root", escaped(point), "rw,noatime", *optional]
    text = " ".join([*words, "-", "ext4", "/dev/my\\040disk", "rw,errors=continue"]) + "\n"
    assert procfs.mountinfo(f"1 2 odd line\n{text}") == [
        procfs.Mount(
            device="98:0",
            root="/root",
            mount_point=point,
            options="rw,noatime",
            type="ext4",
            source="/dev/my disk",
            super_options="rw,errors=continue",
        )
    ]


def test_mountinfo_keeps_an_empty_source():
    mounts = procfs.mountinfo("36 35 0:40 / /mnt rw -  overlay\n36 35 0:41 / /m rw - tmpfs  rw\n")
    assert [(mount.mount_point, mount.source) for mount in mounts[-1:]] == [("/m", "")]


@given(st.lists(COUNTER, min_size=8, max_size=8))
def test_nfs_bytes_are_those_of_the_servers(counters):
    text = (
        "device proc mounted on /proc with fstype proc\n"
        "bytes:\t9 9 9 9 9 9 9 9\n"
        "device server:/e x mounted on /my\\040data with fstype nfs4 statvers=1.1\n"
        "\topts:\trw,vers=4.1\n\tage:\t3\n"
        f"\tbytes:\t{' '.join(map(str, counters))}\n"
        "device server:/e mounted on /old with fstype nfs statvers=1.1\n\tbytes:\t1 2 3\n"
    )
    expected = procfs.MountBytes(read_bytes=counters[4], write_bytes=counters[5])
    assert procfs.nfs_bytes(text) == {"/my data": expected}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "snapshot_time             1387996456.205023 secs.usecs\n"
            "read_bytes                11 samples [bytes] 4096 1048576 8392704\n"
            "write_bytes               3 samples [bytes] 1 2 5 9\nopen 3 samples [regs]\n",
            (8392704, 5),
        ),
        ("read_bytes 1 samples [bytes] 1 1 18446744073709551615\n", (2**64 - 1, 0)),
        ("snapshot_time 1.2 secs.nsecs\n", (0, 0)),
        ("open 3 samples [regs]\n", None),
    ],
    ids=["documented", "huge", "nothing yet", "no stats"],
)
def test_lustre_bytes(text, expected):
    assert procfs.lustre_bytes(text) == expected


# ---------------------------------------------------------------- control groups


def test_cgroup_paths():
    text = "11:cpu,cpuacct:/slurm/job_1:2\n1:name=systemd:/init.scope\n0::/user.slice\nodd\nx::/y\n"
    assert procfs.cgroup_paths(text) == {
        "cpu": "/slurm/job_1:2",
        "cpuacct": "/slurm/job_1:2",
        "name=systemd": "/init.scope",
        "": "/user.slice",
    }


@pytest.mark.parametrize(
    ("text", "limit"),
    [("max\n", None), ("9223372036854771712\n", None), ("18446744073709551615\n", None),
     ("17179869184\n", 1 << 34), ("0\n", 0)],
    ids=["v2", "v1", "v1 before 3.19", "16 GiB", "none left"],
)  # fmt: skip
def test_memory_limit(text, limit):
    assert procfs.memory_limit_bytes(text) == limit


@pytest.mark.parametrize(
    ("text", "cores"),
    [("max 100000\n", None), ("150000 100000\n", 1.5), ("-1\n100000\n", None), ("1 0", None)],
    ids=["v2 without", "v2", "v1 without", "odd"],
)
def test_cpu_max(text, cores):
    assert procfs.cpu_max_cores(text) == cores


@given(COUNTER)
def test_io_limits(limit):
    text = f"8:16 rbps={limit} wbps=max riops=max wiops=120\n259:0 rbps=max\nodd rbps=1\n"
    assert procfs.io_max(text) == {"8:16": {"rbps": limit, "wiops": 120}}
    assert procfs.throttle(f"8:16 {limit}\nTotal 3\n") == {"8:16": limit}
