"""The file system that holds a directory, and what it counts."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proc_trees import mountinfo, tree

from mlps.engines.io_core.counts import Counts
from mlps.engines.io_core.mounts import (
    Mount,
    llite_counts,
    mount_counter,
    mount_of,
    mounts_in,
    nfs_counts,
)

NFS = """\
device sysfs mounted on /sys with fstype sysfs
device fs1:/a mounted on /mnt/a with fstype nfs4 statvers=1.1
\topts:\trw,vers=4.2,rsize=1048576
\tage:\t1200
\tevents:\t1 2 3
\tbytes:\t11 12 13 14 15 16 17 18
\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)
\txprt:\ttcp 0 0 2 0 24 12 12 0 12 0 2 0 0

device fs1:/b mounted on /mnt/b\\040c with fstype nfs statvers=1.1
\tbytes:\t21 22 23 24 18446744073709551615 26 27 28
"""

LLITE = """\
snapshot_time             1523008010.817348638 secs.nsecs
read_bytes                7 samples [bytes] 4096 1048576 5246976
write_bytes               3 samples [bytes] 1 9 14 90
open                      2 samples [regs]
"""


def lustre(source="10.0.0.1@tcp,10.0.0.2@tcp:10.0.0.3@tcp:/scratch"):
    return Mount(number="0:60", point="/lustre", type="lustre", source=source)


# ---------------------------------------------------------------- which mount it is


def found(tmp_path, *mounts):
    root = tree(tmp_path / "root", {"proc/self/mountinfo": mountinfo(*mounts)})
    return mount_of(tmp_path, root)


def test_the_deepest_mount_holds_a_directory(tmp_path):
    deep = str(tmp_path.parent)
    mount = found(
        tmp_path,
        ("0:98", "/", "overlay", "overlay"),
        ("0:99", deep, "nfs4", "server:/a\\040b"),
        ("0:97", f"{tmp_path}x", "tmpfs", "tmpfs"),
    )
    assert mount == Mount(number="0:99", point=deep, type="nfs4", source="server:/a b")


def test_the_later_of_two_mounts_at_one_place_holds(tmp_path):
    mounts = [("0:98", str(tmp_path), "xfs", "/dev/a"), ("0:99", str(tmp_path), "nfs", "s:/")]
    assert found(tmp_path, *mounts).type == "nfs"


def test_a_deeper_mount_that_lies_hidden_does_not_hold(tmp_path):
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mount = found(tmp_path, ("0:99", str(tmp_path), "nfs", "s:/"), (number, "/", "ext4", "/dev/a"))
    assert mount.type == "ext4"


def test_what_cannot_be_told_is_no_mount(tmp_path):
    assert mount_of(tmp_path / "gone") is None
    assert mount_of(tmp_path, tree(tmp_path / "empty", {})) is None
    assert found(tmp_path, ("0:99", "/elsewhere", "nfs", "s:/")) is None


def test_this_machine_tells_the_mount_of_a_directory(tmp_path):
    assert mount_of(tmp_path).type not in ("", "proc", "sysfs")


@given(st.lists(st.sampled_from(["1", "-", "0:7", "/", "", " ", "\n", "nfs"])))
def test_a_line_of_any_words_is_a_mount_or_none(words):
    text = " ".join(words)
    assert len(list(mounts_in(text))) <= text.count("\n") + 1


WORDS = st.text("abc/:\\- 0123", min_size=1).map(lambda text: text.replace(" ", "\\040"))


@given(st.lists(st.tuples(st.just("0:7"), WORDS, st.sampled_from(["xfs", "fuse.x"]), WORDS)))
def test_every_mount_is_read_with_any_name(mounts):
    read = [(mount.number, mount.type) for mount in mounts_in(mountinfo(*mounts))]
    assert read == [(number, kind) for number, _, kind, _ in mounts]


# ---------------------------------------------------------------- NFS


def test_servers_bytes_of_the_own_mount_count():
    assert nfs_counts(NFS, "/mnt/a") == Counts(15, 16)
    assert nfs_counts(NFS, "/mnt/b c") == Counts(2**64 - 1, 26)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        (NFS, "/sys"),
        (NFS, "/mnt"),
        ("", "/mnt/a"),
        (NFS.replace("11 12 13 14 15 16 17 18", "11 12 13 14 15"), "/mnt/a"),
    ],
    ids=["not NFS", "no mount", "empty", "too short"],
)
def test_a_mount_without_a_line_of_bytes_is_an_error(text, point):
    with pytest.raises(ValueError, match="no line of bytes"):
        nfs_counts(text, point)


def test_nfs_is_read_from_mountstats(tmp_path):
    root = tree(tmp_path, {"proc/self/mountstats": NFS})
    mount = Mount(number="0:52", point="/mnt/a", type="nfs4", source="fs1:/a")
    counter = mount_counter(mount, "m", root)
    assert counter.read() == Counts(15, 16)
    assert (counter.kind, counter.name, counter.facts) == ("mount", "0:52", {"type": "nfs4"})


# ---------------------------------------------------------------- Lustre and others


def test_the_sums_of_lustre_count():
    assert llite_counts(LLITE) == Counts(5246976, 14)
    assert llite_counts("snapshot_time 1 secs.usecs\n") == Counts(0, 0)
    with pytest.raises(ValueError, match="no statistics"):
        llite_counts("")


@pytest.mark.parametrize("place", ["proc/fs/lustre", "sys/kernel/debug/lustre"])
def test_lustre_is_read_where_its_version_has_it(tmp_path, place):
    files = {
        f"{place}/llite/scratch-ffff8e0c41b67800/stats": LLITE,
        f"{place}/llite/scratch2-ffff8e0c41b67801/stats": "",
    }
    counter = mount_counter(lustre(), "m", tree(tmp_path, files))
    assert counter.read() == Counts(5246976, 14)


def test_lustre_that_is_mounted_twice_or_not_open_to_us_has_no_count(tmp_path):
    twice = {f"proc/fs/lustre/llite/scratch-{number}/stats": LLITE for number in (1, 2)}
    assert mount_counter(lustre(), "m", tree(tmp_path / "a", twice)).read is None
    assert mount_counter(lustre(), "m", tree(tmp_path / "b", {})).read is None
    other = {"proc/fs/lustre/llite/home-1/stats": LLITE}
    assert mount_counter(lustre(), "m", tree(tmp_path / "c", other)).read is None


@pytest.mark.parametrize("kind", ["xfs", "fuse.s3fs", "beegfs", "tmpfs"])
def test_others_count_nothing_but_have_a_type(tmp_path, kind):
    mount = Mount(number="0:52", point="/mnt/a", type=kind, source="fs1:/a")
    counter = mount_counter(mount, "m", tree(tmp_path, {"proc/self/mountstats": NFS}))
    assert (counter.read, counter.facts) == (None, {"type": kind})
