"""What `mlps facts` shows of the hosts of a cluster."""

from __future__ import annotations

import io

import pytest
from facts_of_hosts import GIB, facts_of

from mlps.engine.facts_report import MOST_KINDS, facts_document, write_facts
from mlps.engine.host_documents import HostFacts
from mlps.engine.rules import Finding


def shown(*facts, without=None, findings=()):
    known = {each["mlps_facts"]: each for each in facts}
    hosts = HostFacts(
        facts=known, clock_offset_s=dict.fromkeys(known, 0.0), without_facts=without or {}
    )
    out = io.StringIO()
    write_facts(out, hosts, findings)
    return out.getvalue()


def line(text, label):
    (found,) = (row for row in text.splitlines() if row.strip().startswith(f"{label} "))
    return found.removeprefix(f"  {label:<13}")


def test_hosts_alike_are_shown_once():
    assert shown(facts_of("node1"), facts_of("node2")) == (
        "node[1-2]\n"
        "  system       Debian GNU/Linux 12, kernel 6.1.0-28-amd64, x86_64, PowerEdge R7625\n"
        "  processors   2 x AMD EPYC 9354: 64 cores, 128 threads, 8 NUMA nodes\n"
        "  memory       512.0 GiB\n"
        "  network      eth0 100 Gbit/s (mlx5_core, MTU 9000)\n"
        "  data_dir     /data: xfs /dev/nvme0n1p1 on /data, 3,500.0 GiB; "
        "nvme0n1 nvme Micron 9400 3,576.0 GiB\n"
        "  results_dir  /results: ext4 /dev/sda1 on /, 100.0 GiB; sda sata 112.0 GiB\n"
        "\n"
        "in all: 2 hosts, 128 cores, 1,024.0 GiB memory\n"
    )


def test_hosts_that_differ_stand_apart():
    text = shown(facts_of("a"), facts_of("b", cpu__cores=32, cpu__threads=64, cpu__allowed=64))
    assert [row for row in text.splitlines() if row[:1] not in ("", " ")] == [
        "a",
        "b",
        "in all: 2 hosts, 96 cores, 1,024.0 GiB memory",
    ]


def test_hosts_without_facts_are_named():
    text = shown(facts_of("a"), without={"n1": "no route to host", "n2": "no route to host"})
    assert "n[1-2]: no facts: no route to host\n" in text
    assert text.endswith("in all: 3 hosts, cores unknown, memory unknown\n")


def test_findings_stand_at_the_end():
    finding = Finding(rule="ENV-16", severity="warning", text="unlike")
    assert shown(facts_of(), findings=[finding]).endswith("warning ENV-16: unlike\n")


def test_many_kinds_of_hosts_are_cut():
    text = shown(*[facts_of(f"n{n}", cpu__cores=n) for n in range(MOST_KINDS + 3)])
    assert "and 3 kinds of hosts more; --json has all" in text


@pytest.mark.parametrize(
    ("changes", "label", "text"),
    [
        (
            {
                "identity__virtual": "vm",
                "identity__chassis": "unknown",
                "system__version": "unknown",
            },
            "system",
            "Debian GNU/Linux, kernel 6.1.0-28-amd64, x86_64, a virtual machine",
        ),
        (
            {"cpu__allowed": 16, "cpu__sockets": 1, "cpu__numa_nodes": 1},
            "processors",
            "AMD EPYC 9354: 64 cores, 128 threads, 1 NUMA node, 16 of them allowed",
        ),
        (
            {"memory__limit_bytes": 64 * GIB, "memory__swap_bytes": GIB},
            "memory",
            "512.0 GiB, limited to 64.0 GiB, swap 1.0 GiB",
        ),
        ({"memory__total_bytes": "unknown"}, "memory", "unknown"),
        ({"cgroup__cpu_cores": 2.5}, "limits", "processors as 2.5 cores"),
        (
            {"cgroup__io": [{"device": "259:0", "rbps": 1000}]},
            "limits",
            "I/O of the devices behind data_dir",
        ),
        ({"nics": []}, "network", "none"),
        ({"nics": "unknown"}, "network", "unknown"),
        (
            {"data_dir__exists": False, "data_dir__blocks": [], "data_dir__total_bytes": "unknown"},
            "data_dir",
            "/data (does not exist yet): xfs /dev/nvme0n1p1 on /data",
        ),
        ({"data_dir__type": "unknown"}, "data_dir", "/data: file system unknown"),
        (
            {"results_dir": facts_of()["data_dir"] | {"path": "/data/results"}},
            "results_dir",
            "/data/results: on the same file system",
        ),
    ],
)
def test_each_line_says_what_there_is(changes, label, text):
    assert line(shown(facts_of(**changes)), label) == text


def test_a_link_that_is_down_and_a_speed_that_nobody_knows():
    nic = facts_of()["nics"][0] | {"speed_mbit_s": "unknown", "state": "down", "driver": "unknown"}
    assert line(shown(facts_of(nics=[nic])), "network") == "eth0 speed unknown (MTU 9000, down)"


def test_a_place_that_was_not_asked_for_has_no_line():
    assert "data_dir" not in shown(facts_of(data_dir=None))


def test_the_document_has_the_findings():
    hosts = HostFacts(facts={"a": facts_of("a")}, clock_offset_s={"a": 0.0}, without_facts={})
    finding = Finding(rule="ENV-16", severity="warning", text="unlike")
    document = facts_document(hosts, [finding])
    assert document["findings"] == [finding.as_document()]
    assert document["totals"]["memory_bytes"] == 512 * GIB
