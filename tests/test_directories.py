"""The rules of data_dir and results_dir, from facts of hosts and on real directories."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mlps.engine.directories import (
    judge_data_dir,
    judge_results_dir,
    judge_separation,
    judge_space,
    probe_separation,
)
from mlps.engine.reach import Probed

GIB = 2**30

# Keys that rules ask of the evidence.
KEYS = {
    "version", "method", "data_or_chkpt_path", "results_path", "data_or_chkpt_realpath",
    "results_realpath", "same_filesystem", "probed_at", "probed_by_rank", "probed_by_host",
}  # fmt: skip


def host(name="node1", **changes):
    data_dir = {
        "path": "/data", "nearest": "/data", "exists": True, "is_directory": True,
        "write_error": None, "free_bytes": 4 * GIB, "type": "nfs4", "source": "srv:/x",
    }  # fmt: skip
    return Probed(name=name, here=False, facts={"data_dir": data_dir | changes})


def said(findings):
    return [(finding.rule, finding.host, finding.text, finding.hint) for finding in findings]


@pytest.mark.parametrize(
    ("changes", "text", "hint"),
    [
        (
            {"exists": False, "is_directory": False, "nearest": "/"},
            "/data does not exist",
            "mkdir -p /data, or data_dir=DIRECTORY",
        ),
        ({"is_directory": False}, "/data is not a directory", "data_dir=DIRECTORY"),
        (
            {"write_error": "Permission denied"},
            "/data cannot be written: Permission denied",
            "mend its permissions or its space: ls -ld /data; df -h /data",
        ),
        (
            {"error": "Stale file handle", "exists": False},
            "/data cannot be looked at: Stale file handle",
            "mend its mount or its permissions",
        ),
    ],
    ids=["missing", "file", "unwritable", "stale"],
)
def test_dir_01_fires_on_the_host_that_shows_it(changes, text, hint):
    found = judge_data_dir([host(), host("node2", **changes)])
    assert said(found) == [("DIR-01", "node2", text, hint)]


def test_dir_01_is_silent_for_a_directory_that_can_be_written():
    assert list(judge_data_dir([host(), host("node2")])) == []


def test_dir_01_says_nothing_of_a_host_without_facts():
    assert list(judge_data_dir([host(), Probed(name="node2", here=False)])) == []


def test_cap_01_counts_the_least_space_of_all_hosts():
    hosts = [host(), host("node2", free_bytes=2 * GIB), host("node3", free_bytes=GIB)]
    found = list(judge_space(hosts, 3 * GIB, "3 x 1 GiB"))
    assert [(finding.rule, finding.host) for finding in found] == [
        ("CAP-01", "node2"), ("CAP-01", "node3"),
    ]  # fmt: skip
    assert {finding.text for finding in found} == {
        "/data has 1.00 GiB free, the job needs 3.00 GiB (3 x 1 GiB); 2.00 GiB are missing"
    }


def test_cap_01_is_silent_with_just_enough_space():
    assert list(judge_space([host(free_bytes=3 * GIB)], 3 * GIB, "")) == []


def test_cap_01_takes_the_nearest_parent_of_what_is_missing():
    (found,) = judge_space([host(exists=False, nearest="/mnt", free_bytes=0)], GIB, "1 GiB")
    assert found.text.startswith("/mnt, for /data, has 0.00 GiB free")


# ---------------------------------------------------------------- results_dir


def test_dir_02_is_silent_where_results_dir_can_be_made(tmp_path):
    assert list(judge_results_dir(tmp_path / "a/b/c")) == []
    assert list(tmp_path.iterdir()) == []


def test_dir_02_fires_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert said(judge_results_dir(tmp_path / "file" / "results")) == [
        ("DIR-02", None, f"{tmp_path}/file is not a directory", "results_dir=DIRECTORY")
    ]


def test_dir_02_fires_where_nothing_can_be_written():
    (found,) = judge_results_dir(Path("/proc/results"))
    assert (found.rule, found.severity) == ("DIR-02", "error")
    assert found.text.startswith("/proc cannot be written: ")


# ---------------------------------------------------------------- both


def judge(data, results, severity="error"):
    return list(judge_separation(data, results, probe_separation(data, results, ()), severity))


@pytest.mark.parametrize("through", ["itself", "link"])
def test_dir_03_fires_where_both_are_one(tmp_path, through):
    data = results = tmp_path / "data"
    data.mkdir()
    if through == "link":
        results = tmp_path / "link"
        results.symlink_to(data)
    (found,) = judge(data, results)
    assert found.rule == "DIR-03"
    assert found.text.startswith(f"{data} is also results_dir")
    assert list(data.iterdir()) == []


def test_dir_03_fires_also_where_the_directory_is_on_other_hosts_only():
    path = Path("/nowhere/data")
    assert [finding.rule for finding in judge(path, path)] == ["DIR-03"]


def test_cap_03_fires_where_a_link_can_be_made_and_leaves_none(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for severity in ("error", "info"):
        (found,) = judge(data, tmp_path / "results", severity)
        assert (found.rule, found.severity) == ("CAP-03", severity)
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_cap_03_is_silent_on_two_file_systems(tmp_path):
    other = Path("/dev/shm")
    if other.stat().st_dev == tmp_path.stat().st_dev or not os.access(other, os.W_OK):
        pytest.skip("no second file system")
    assert judge(tmp_path, other / "mlps-no-such-directory") == []
    evidence = probe_separation(tmp_path, other, ())
    assert (evidence["same_filesystem"], evidence["skipped"]) == (False, None)


def test_the_evidence_has_the_keys_of_the_rules(tmp_path):
    evidence = probe_separation(tmp_path, tmp_path / "r", ())
    assert set(evidence) >= KEYS
    assert evidence["method"] == "link_exdev"
    assert evidence["same_filesystem"] is True
    assert evidence["probed_by_rank"] is None


def test_the_evidence_is_made_also_where_the_probe_is_skipped(tmp_path):
    evidence = probe_separation(tmp_path / "nowhere", tmp_path, ())
    assert set(evidence) >= KEYS
    assert evidence["same_filesystem"] is None
    assert evidence["skipped"] == "data_dir is no directory on this machine"


def test_another_storage_of_a_machine_without_ranks_says_nothing(tmp_path):
    evidence = probe_separation(tmp_path, tmp_path / "r", [host()])
    assert evidence["skipped"].startswith("data_dir is nfs4 of srv:/x on node1, but ")
    assert list(judge_separation(tmp_path, tmp_path / "r", evidence, "error")) == []


def test_where_links_cannot_tell_the_device_does(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    evidence = probe_separation(tmp_path, tmp_path / "r", ())
    assert (evidence["method"], evidence["same_filesystem"]) == ("st_dev", True)
    assert evidence["link_error"] == "Operation not permitted"
    assert list(tmp_path.iterdir()) == []


def test_exdev_means_two_file_systems(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert judge(tmp_path, tmp_path / "r") == []
