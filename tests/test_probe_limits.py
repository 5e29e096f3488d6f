"""Limits of control groups: the tightest of a group and all of its parents."""

from __future__ import annotations

import pytest
from unpack import unpack

from mlps.engine.probe.limits import limits
from mlps.engine.probe.tree import Tree

V2 = "== /proc/self/mountinfo\n30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "== /proc/self/mountinfo\n30 1 0:26 {root} /cg/memory rw - cgroup cgroup rw,memory\n"
    "31 1 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
)
DISK = "= /sys/class/block/sda/dev = 8:0\n"


def found(text, directory, disks=()):
    tree = Tree(unpack(text, directory))
    return limits(tree, list(disks)), tree.errors


def test_the_tightest_limit_of_all_parents_applies(tmp_path):
    text = V2 + "= /proc/self/cgroup = 0::/a/b/c\n"
    text += "= /sys/fs/cgroup/a/memory.max = 100\n= /sys/fs/cgroup/a/b/memory.max = 50\n"
    text += "= /sys/fs/cgroup/a/b/c/memory.max = 70\n= /sys/fs/cgroup/a/b/c/cpu.max = max 1\n"
    text += "= /sys/fs/cgroup/a/cpu.max = 100000 200000\n= /sys/fs/cgroup/x/memory.max = 1\n"
    group, errors = found(text, tmp_path)
    assert group == {"version": 2, "cpu_cores": 0.5, "memory_bytes": 50, "io": "none"}
    assert errors == {}


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [("/", "/job", 40), ("/docker/1", "/docker/1/job", 40), ("/docker/1", "/docker/12", 90),
     ("/docker/1", "/../elsewhere", 90)],
    ids=["host", "container", "not below", "out of sight"],
)  # fmt: skip
def test_a_container_sees_its_group_as_the_root(tmp_path, root, path, expected):
    text = V1.format(root=root) + f"= /proc/self/cgroup = 4:memory:{path}\n"
    text += "= /cg/memory/memory.limit_in_bytes = 90\n"
    text += "= /cg/memory/job/memory.limit_in_bytes = 40\n"
    group, _ = found(text, tmp_path)
    assert (group["version"], group["memory_bytes"]) == (1, expected)


def test_version_1_knows_of_parents_out_of_sight(tmp_path):
    text = V1.format(root="/") + "= /proc/self/cgroup = 4:memory:/\n"
    text += "= /cg/memory/memory.limit_in_bytes = 9223372036854771712\n"
    text += "== /cg/memory/memory.stat\ncache 1\nhierarchical_memory_limit 77\n"
    assert found(text, tmp_path)[0]["memory_bytes"] == 77


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "unknown"),
        ("= /proc/self/cgroup = \n", "none"),
        ("= /proc/self/cgroup = 0::/\n", "unknown"),
        (V2 + "= /proc/self/cgroup = 0::/\n= /sys/fs/cgroup/\n", "none"),
        (V2 + "= /proc/self/cgroup = 0::/\n", "unknown"),
    ],
    ids=["no proc", "no groups", "no mount", "no limit", "nothing mounted"],
)
def test_no_limit_is_not_the_same_as_not_known(tmp_path, text, expected):
    group, errors = found(text, tmp_path)
    assert {group[name] for name in ("cpu_cores", "memory_bytes")} == {expected}
    assert ("cgroup.memory_bytes" in errors) == (expected == "unknown")


def test_limits_of_io_are_those_of_the_disks_in_use(tmp_path):
    text = V2 + DISK + "= /proc/self/cgroup = 0::/a/b\n"
    text += "= /sys/fs/cgroup/a/io.max = 8:0 rbps=100 wbps=20 riops=max wiops=max\n"
    text += "= /sys/fs/cgroup/a/b/io.max = 8:0 rbps=max wbps=30 riops=7 wiops=max\n"
    assert found(text, tmp_path, ["sda"])[0]["io"] == [
        {"disk": "sda", "rbps": 100, "wbps": 20, "riops": 7}
    ]


def test_limits_of_other_disks_do_not_count(tmp_path):
    text = V2 + DISK + "= /proc/self/cgroup = 0::/\n= /sys/fs/cgroup/io.max = 8:16 rbps=1\n"
    assert found(text, tmp_path, ["sda"])[0]["io"] == "none"
