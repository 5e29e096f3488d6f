"""The block device behind a directory."""

from __future__ import annotations

import os

import pytest
from proc_trees import tree

from mlps.engines.io_core.counts import Counts
from mlps.engines.io_core.devices import device_counter, device_counts
from mlps.engines.io_core.mounts import Mount

STAT = "  7 0 16 5  9 0 2000000000000 3 0 8 8 0 0 0 0 0 0\n"
BTRFS = Mount(number="0:41", point="/data", type="btrfs", source="/dev/no-such-sda1")


def number_of(path):
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def test_counts_are_sectors_of_512_bytes(tmp_path):
    root = tree(tmp_path / "root", {f"sys/dev/block/{number_of(tmp_path)}/stat": STAT})
    counter = device_counter(tmp_path, None, "m", root)
    assert counter.read() == Counts(16 * 512, 2000000000000 * 512)
    assert (counter.kind, counter.machine) == ("device", "m")


def test_a_device_has_the_name_that_the_kernel_gives_it(tmp_path):
    root = tree(tmp_path / "root", {"sys/devices/block/nvme0n1/stat": STAT, "sys/dev/block/": ""})
    link = root / "sys/dev/block" / number_of(tmp_path)
    link.symlink_to("../../devices/block/nvme0n1")
    counter = device_counter(tmp_path, None, "m", root)
    assert (counter.name, counter.facts) == ("nvme0n1", {"device": "nvme0n1"})


NOTHING = " 0 0 0 0 0 0 0 0 0 0 0\n"
PATHS = {
    "sys/block/nvme3c0n1/stat": "1 0 8 0 1 0 80 0\n",
    "sys/block/nvme3c1n1/stat": "1 0 16 0 1 0 160 0\n",
    "sys/block/nvme3c1n2/stat": STAT,
    "sys/block/nvme31c1n1/stat": STAT,
}


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        ({"nvme3n1/stat": NOTHING}, Counts(24 * 512, 240 * 512)),
        (
            {"nvme3n1/nvme3n1p1/stat": NOTHING, "nvme3n1/nvme3n1p1/partition": "1\n"},
            Counts(24 * 512, 240 * 512),
        ),
        ({"nvme3n1/stat": STAT}, Counts(16 * 512, 2000000000000 * 512)),
        ({"nvme7n1/stat": NOTHING}, Counts(0, 0)),
        ({"sda/stat": NOTHING}, Counts(0, 0)),
    ],
    ids=["disk", "partition", "counts itself", "no paths", "no NVMe"],
)
def test_an_nvme_disk_that_counts_nothing_counts_on_its_paths(tmp_path, files, counts):
    place = "sys/devices/block"
    ours = {f"{place}/{name}": text for name, text in files.items()}
    root = tree(tmp_path / "root", PATHS | ours | {"sys/dev/block/": ""})
    device = (root / next(iter(ours))).parent
    (root / "sys/dev/block" / number_of(tmp_path)).symlink_to(device)
    assert device_counter(tmp_path, None, "m", root).read() == counts


@pytest.mark.parametrize("stat", ["", "1 2 3", "a b c d e f g h"], ids=repr)
def test_what_is_no_count_is_an_error(stat):
    with pytest.raises(ValueError):
        device_counts(stat)


def test_a_directory_without_a_device_has_no_counter(tmp_path):
    assert device_counter(tmp_path / "gone", None, "m") is None
    assert device_counter(tmp_path, None, "m", tree(tmp_path / "root", {})) is None


def test_the_source_of_the_mount_tells_the_only_device_of_btrfs(tmp_path):
    files = {
        "sys/class/block/no-such-sda1/stat": STAT,
        "sys/fs/btrfs/5a3b/devices/no-such-sda1/size": "",
        "sys/fs/btrfs/77aa/devices/sdb/size": "",
        "sys/fs/btrfs/77aa/devices/sdc/size": "",
    }
    root = tree(tmp_path / "root", files)
    assert device_counter(tmp_path, BTRFS, "m", root).name == "no-such-sda1"


def test_btrfs_over_several_devices_has_no_counter(tmp_path):
    files = {
        "sys/class/block/no-such-sda1/stat": STAT,
        "sys/fs/btrfs/5a3b/devices/no-such-sda1/size": "",
        "sys/fs/btrfs/5a3b/devices/sdb/size": "",
    }
    assert device_counter(tmp_path, BTRFS, "m", tree(tmp_path / "root", files)) is None


def test_a_source_that_is_no_device_has_no_counter(tmp_path):
    root = tree(tmp_path / "root", {"sys/class/block/export/stat": STAT})
    nfs = Mount(number="0:52", point="/data", type="nfs4", source="server:/export")
    assert device_counter(tmp_path, nfs, "m", root) is None
