"""Which mount holds a directory, which disks are behind it, and what may be told of both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from unpack import unpack

from mlps.engine.probe import storage
from mlps.engine.probe.procfs import Disk, Mount, mountinfo
from mlps.engine.probe.tree import Tree


def mount(point, *, device="0:9", kind="ext4", source="none", options="rw", super_options="rw"):
    return Mount(
        device=device,
        root="/",
        mount_point=point,
        options=options,
        type=kind,
        source=source,
        super_options=super_options,
    )


# ---------------------------------------------------------------- mounts


@pytest.mark.parametrize(
    ("path", "device", "expected"),
    [
        ("/data/x", "8:1", "/data"),
        ("/data", "8:1", "/data"),
        ("/database", "0:5", "/"),
        ("/data/inner/y", "8:2", "/data/inner"),
        ("/data/inner/y", "0:77", "/data/inner"),
        ("/data/inner/y", "8:1", "/data"),
        ("/", None, "/"),
    ],
    ids=["inside", "itself", "same letters", "innermost", "subvolume", "hidden", "root"],
)
def test_the_mount_of_a_path(path, device, expected):
    mounts = [
        mount("/", device="0:5"),
        mount("/data/inner", device="8:2"),
        mount("/data", device="8:1"),
    ]
    assert storage.mount_of(mounts, path, device).mount_point == expected


def test_of_two_mounts_at_one_point_the_last_is_seen():
    mounts = [mount("/data", kind="ext4"), mount("/data", kind="nfs4")]
    assert storage.mount_of(mounts, "/data", None).type == "nfs4"
    assert storage.mount_of([mount("/data")], "/other", None) is None


@pytest.mark.parametrize(
    ("options", "super_options", "expected"),
    [
        ("rw,noatime", "rw,data=ordered", ["data=ordered", "noatime", "rw"]),
        ("ro", "rw,x", ["ro", "x"]),
        ("rw", "ro", ["ro"]),
        ("rw", "password=a,user=b", ["password=hidden", "rw", "user=b"]),
        ("rw", "password2=a=b,SecretKey=c", ["SecretKey=hidden", "password2=hidden", "rw"]),
        ("rw", "url=http://me:pw@host/x", ["rw", "url=http://hidden@host/x"]),
        ("rw", "", ["rw"]),
    ],
    ids=["both", "mount ro", "system ro", "password", "variants", "login in address", "none"],
)
def test_options_tell_no_secret(options, super_options, expected):
    found = storage.mount_options(mount("/", options=options, super_options=super_options))
    assert found == expected


def test_an_option_of_any_length_stays_short():
    (found, _) = storage.mount_options(mount("/", super_options="lowerdir=" + "/layer:" * 5000))
    assert len(found) == 123
    assert found.endswith("...")


def test_any_number_of_options_stays_short():
    layers = ",".join(f"lowerdir+=/layer{index}" for index in range(500))
    found = storage.mount_options(mount("/", super_options=layers))
    assert (len(found), found[-1]) == (41, "...")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("filer:/vol", "filer:/vol"),
        ("10.0.0.1@tcp:10.0.0.2@tcp:/fs", "10.0.0.1@tcp:10.0.0.2@tcp:/fs"),
        ("admin@a1b2.cephfs=/", "admin@a1b2.cephfs=/"),
        ("https://me:pw@dav/x", "https://hidden@dav/x"),
        ("me:pw@host:/x", "hidden@host:/x"),
        ("//me:pw@nas/share", "//hidden@nas/share"),
    ],
)
def test_a_source_tells_no_password(source, shown):
    assert storage.without_login(source) == shown


# ---------------------------------------------------------------- directories of this host


def test_a_directory_of_this_host(tmp_path):
    tree = Tree(Path("/"))
    found = storage.directory(tree, "data_dir", str(tmp_path))
    device = tmp_path.stat().st_dev
    told = subprocess.run(
        ["findmnt", "-rnT", tmp_path, "-o", "TARGET,FSTYPE,SOURCE"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert [found.facts[name] for name in ("mount_point", "type")] == told[:2]
    assert found.facts["device"] == f"{os.major(device)}:{os.minor(device)}"
    assert found.facts["exists"] is True
    assert not tree.errors


def test_a_relative_path_and_a_link_are_followed(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("/proc/sys")
    monkeypatch.chdir(tmp_path)
    facts = storage.directory(Tree(Path("/")), "data_dir", "link/vm").facts
    assert (facts["path"], facts["type"]) == (str(tmp_path / "link/vm"), "proc")


def test_a_directory_that_may_not_be_looked_at_is_told(monkeypatch):
    def refused(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refused)
    tree = Tree(Path("/"))
    facts = storage.directory(tree, "data_dir", "/proc/1/cwd/x").facts
    assert (facts["exists"], facts["total_bytes"], facts["type"]) == ("unknown", "unknown", "proc")
    assert tree.errors["data_dir"] == "/proc/1/cwd/x: Permission denied"


# ---------------------------------------------------------------- layers

PCI = "/sys/devices/pci0000:00"
LAYERS = f"""
= {PCI}/host0/block/sda/size = 100
= {PCI}/host0/block/sda/sda1/partition = 1
= {PCI}/host0/block/sda/sda2/partition = 2
= /sys/class/block/sda -> {PCI}/host0/block/sda
= /sys/class/block/sda1 -> {PCI}/host0/block/sda/sda1
= /sys/class/block/sda2 -> {PCI}/host0/block/sda/sda2
= /sys/devices/virtual/block/dm-0/dm/name = vg-data
= /sys/devices/virtual/block/dm-0/dm/uuid = LVM-x
= /sys/devices/virtual/block/dm-0/slaves/sda1 -> /sys/class/block/sda1
= /sys/devices/virtual/block/dm-0/slaves/sda2 -> /sys/class/block/sda2
= /sys/class/block/dm-0 -> /sys/devices/virtual/block/dm-0
= /sys/devices/virtual/block/dm-1/slaves/dm-0 -> /sys/class/block/dm-0
= /sys/devices/virtual/block/dm-1/slaves/loop0 -> /sys/class/block/loop0
= /sys/devices/virtual/block/dm-1/slaves/dm-1 -> /sys/class/block/dm-1
= /sys/class/block/dm-1 -> /sys/devices/virtual/block/dm-1
= /sys/class/block/loop0/size = 5
= /sys/dev/block/253:1 -> /sys/devices/virtual/block/dm-1
= /sys/dev/block/8:1 -> {PCI}/host0/block/sda/sda1
= /dev/mapper/vg-data = no link: made without udev
"""


@pytest.mark.parametrize(
    ("device", "kind", "source", "expected"),
    [
        ("8:1", "ext4", "/dev/sda1", ["sda"]),
        ("253:1", "xfs", "/dev/mapper/top", ["dm-1", "dm-0", "sda", "loop0"]),
        ("0:40", "btrfs", "/dev/sda2", ["sda"]),
        ("0:40", "btrfs", "/dev/mapper/vg-data", ["dm-0", "sda"]),
        ("0:40", "bcachefs", "/dev/sda1:/dev/sda2", ["sda"]),
        ("0:40", "nfs4", "filer:/x", []),
        ("0:40", "zfs", "tank/data", []),
        ("0:40", "gpfs", "/dev/gpfs0", []),
        ("0:40", "btrfs", "/dev/gone", None),
        ("8:99", "ext4", "/dev/sdx", None),
    ],
    ids=["partition", "layers and a loop of them", "btrfs", "btrfs on LVM", "bcachefs", "NFS",
         "ZFS", "GPFS", "btrfs unseen", "unseen"],
)  # fmt: skip
def test_layers_of_block_devices(tmp_path, device, kind, source, expected):
    tree = Tree(unpack(LAYERS, tmp_path))
    found = storage.layers(tree, "data_dir", mount("/d", kind=kind, source=source), device)
    assert found == expected
    assert ("data_dir.blocks" in tree.errors) == (expected is None)


def test_leaves_are_disks_and_no_loops(tmp_path):
    tree = Tree(unpack(LAYERS, tmp_path))
    assert storage.leaves(tree, ["dm-1", "dm-0", "sda", "loop0", "zram0", "ram3"]) == ["sda"]


# ---------------------------------------------------------------- disks


@pytest.mark.parametrize(
    ("name", "place", "kind"),
    [
        ("nvme0n1", "pci0/nvme/nvme0", "nvme"),
        ("vda", "pci0/virtio1", "virtio"),
        ("xvda", "vbd-768", "xen"),
        ("md127", "virtual", "md"),
        ("md_d0", "virtual", "md"),
        ("dm-3", "virtual", "dm"),
        ("mmcblk0", "mmc0", "mmc"),
        ("sda", "pci0/ata1/host0", "sata"),
        ("sda", "pci0/usb1/host0", "usb"),
        ("sda", "pci0/virtio3/host0", "virtio"),
        ("sda", "host0/session1/target", "iscsi"),
        ("sda", "pci0/host0/rport-1:0-0", "fc"),
        ("sda", "pci0/host0/port-0:0/end_device-0:0", "sas"),
        ("sda", "LNXSYSTM:00/VMBUS:01/host0", "hyperv"),
        ("sda", "pci0/host0", "scsi"),
        ("nbd0", "virtual", "nbd"),
        ("pmem0", "ndbus0", "pmem"),
        ("0", "virtual", "unknown"),
    ],
)
def test_how_a_disk_is_attached(tmp_path, name, place, kind):
    text = f"= /sys/devices/{place}/block/{name}/size = 1\n"
    text += f"= /sys/class/block/{name} -> /sys/devices/{place}/block/{name}\n"
    assert storage.disk_kind(Tree(unpack(text, tmp_path)), name) == kind


def test_twins_are_the_paths_of_the_same_namespace(tmp_path):
    names = ("nvme0n1", "nvme0n1p1", "nvme0c0n1", "nvme0c1n1", "nvme0c0n12", "nvme1c0n1", "nvme1n1")
    tree = Tree(unpack("".join(f"= /sys/class/block/{name}/\n" for name in names), tmp_path))
    assert storage.twins(tree, "nvme0n1") == ["nvme0c0n1", "nvme0c1n1"]
    assert storage.twins(tree, "nvme1n1") == ["nvme1c0n1"]
    assert storage.twins(tree, "nvme0n1p1") == []


COUNTING = Disk(reads=4, read_bytes=4096, writes=6, write_bytes=8192, busy_ms=7, weighted_ms=9)
SILENT = Disk(*[0] * 6)


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        ({"head": COUNTING, "a": COUNTING, "b": COUNTING}, COUNTING),
        ({"head": SILENT, "a": COUNTING, "b": COUNTING}, Disk(8, 8192, 12, 16384, 7, 18)),
        ({"a": COUNTING}, COUNTING),
        ({"head": SILENT}, SILENT),
        ({"other": COUNTING}, None),
    ],
    ids=["both count", "only paths count", "only paths are there", "idle", "not there"],
)
def test_a_disk_with_two_paths_is_counted_once(disks, expected):
    assert storage.disk_counters(disks, "head", ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("text", "choice"),
    [("none\n", "none"), ("[none] mq-deadline\n", "none"), ("noop [deadline] cfq", "deadline"),
     ("always [madvise] never\n", "madvise"), ("", "")],
)  # fmt: skip
def test_the_choice_in_brackets(text, choice):
    assert storage.chosen(text) == choice


def test_facts_of_the_disks_of_this_host_are_those_of_lsblk():
    listed = subprocess.run(
        ["lsblk", "-dbnro", "NAME,SIZE,ROTA"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    rows = [row for row in rows if not row[0].startswith(("loop", "zram", "sr", "ram"))]
    tree = Tree(Path("/"))
    found = [storage.block(tree, name) for name, _, _ in rows]
    assert [(disk["size_bytes"], disk["rotational"]) for disk in found] == [
        (int(size), rotational == "1") for _, size, rotational in rows
    ]


def test_every_mount_of_this_host_is_found_by_its_own_point():
    mounts = mountinfo(Path("/proc/self/mountinfo").read_text())
    for place in mounts:
        found = storage.mount_of(mounts, place.mount_point, None)
        assert found.mount_point == place.mount_point
