"""Rules about what was seen of the hosts: where each fires, and where it does not."""

from __future__ import annotations

import pytest
from facts_of_hosts import GIB, facts_of

from mlps.engine.host_documents import HostFacts
from mlps.engine.monitor_rules import judge_cpu, judge_hosts, judge_series
from mlps.engine.series import HostSeries, Series

NIC = facts_of()["nics"][0]


def hosts_of(*facts, without=None):
    known = {each["mlps_facts"]: each for each in facts}
    return HostFacts(
        facts=known, clock_offset_s=dict.fromkeys(known, 0.0), without_facts=without or {}
    )


def changed(before=None, after=None):
    """Findings about a host that was so before and is so after."""
    start, end = facts_of(**(before or {})), facts_of(**(after or {}))
    return [str(finding) for finding in judge_hosts(hosts_of(start), hosts_of(end))]


def test_hosts_that_stay_as_they_are():
    assert changed() == []


def test_mon_01_a_host_without_facts():
    silent = hosts_of(without={"n1": "no route", "n2": "no route", "n3": "no python3"})
    found = judge_hosts(hosts_of(facts_of("n1")), silent)
    assert [str(finding) for finding in found] == [
        "warning MON-01 n[1-2] monitor: it stated no facts after the last stage: no route",
        "warning MON-01 n3 monitor: it stated no facts after the last stage: no python3",
    ]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (
            {},
            {"identity__boot_id": "another"},
            "error MON-02 node1 cluster.hosts: it was started anew while the job ran",
        ),
        (
            {},
            {"data_dir__source": "/dev/sda1", "data_dir__type": "ext4"},
            "error MON-02 node1 data_dir: another file system: xfs /dev/nvme0n1p1 on /data "
            "before, ext4 /dev/sda1 on /data after",
        ),
        (
            {},
            {"results_dir__mount_point": "/results"},
            "warning MON-02 node1 results_dir: another file system: ext4 /dev/sda1 on / "
            "before, ext4 /dev/sda1 on /results after",
        ),
        (
            {},
            {"data_dir__options": ["ro", "noatime"]},
            "warning MON-02 node1 data_dir: mounted with other options: lost rw, gained ro",
        ),
        (
            {},
            {"memory__total_bytes": 500 * GIB},
            "warning MON-02 node1 cluster.hosts: it lost memory: 512.00 GiB before, "
            "500.00 GiB after",
        ),
        (
            {},
            {"cpu__threads": 64},
            "warning MON-02 node1 cluster.hosts: its hardware threads: 128 before, 64 after",
        ),
        (
            {"cgroup__cpu_cores": 4.0},
            {"cgroup__cpu_cores": 2.0},
            "warning MON-02 node1 cluster.hosts: its processor limit of the control group: "
            "4.0 before, 2.0 after",
        ),
        (
            {},
            {"nics": []},
            "warning MON-02 node1 cluster.hosts: its network interface eth0 has gone",
        ),
        (
            {},
            {"nics": [NIC | {"speed_mbit_s": 10_000}]},
            "warning MON-02 node1 cluster.hosts: its network interface eth0: 100000 Mbit/s "
            "before, 10000 after",
        ),
    ],
)
def test_mon_02_fires(before, after, text):
    assert changed(before, after) == [text]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"identity__boot_id": "unknown"}, {}),
        ({}, {"data_dir__type": "unknown"}),
        ({}, {"memory__total_bytes": 511 * GIB}),
        ({}, {"memory__total_bytes": 600 * GIB}),
        ({"cpu__threads": "unknown"}, {}),
        ({"nics": "unknown"}, {}),
        ({}, {"nics": [NIC | {"speed_mbit_s": "unknown"}]}),
        ({}, {"nics": [NIC, NIC | {"name": "eth1"}]}),
        ({"data_dir": None}, {"data_dir": None}),
    ],
)
def test_mon_02_does_not_fire(before, after):
    assert changed(before, after) == []


def test_mon_02_tells_of_many_hosts_once():
    names = [f"n{number}" for number in range(1, 9)]
    start = hosts_of(*[facts_of(name) for name in names])
    end = hosts_of(*[facts_of(name, cpu__threads=64) for name in names])
    (finding,) = judge_hosts(start, end)
    assert finding.host == "n[1-8]"


# ---------------------------------------------------------------- the time series


def sampled(**changes):
    given = {"ticks": 1000, "missed": 0, "late": 0, "cpu_s": 0.1, "ended": "stopped", "said": ""}
    return HostSeries(**(given | changes))


def judged(hosts, names=("n1", "n2")):
    series = Series(interval_s=1, hosts=hosts, loads={})
    return [str(finding) for finding in judge_series(series, names)]


def test_mon_03_does_not_fire_for_whole_series():
    assert judged({"n1": sampled(), "n2": sampled(missed=10, late=500)}) == []


LACKS = "; the time series lacks what it would have seen"


@pytest.mark.parametrize(
    ("hosts", "text"),
    [
        (
            {"n1": sampled()},
            f"warning MON-03 n2 monitor: its sampler took no sample{LACKS}",
        ),
        (
            {"n1": sampled(), "n2": sampled(ended="died", said="signal 9")},
            f"warning MON-03 n2 monitor: its sampler ended early: signal 9{LACKS}",
        ),
        (
            dict.fromkeys(("n1", "n2"), sampled(ended="open")),
            f"warning MON-03 n[1-2] monitor: its sampler ended early{LACKS}",
        ),
        (
            {"n1": sampled(), "n2": sampled(ticks=98, missed=2)},
            f"warning MON-03 n2 monitor: its sampler missed 2 of 100 ticks{LACKS}",
        ),
    ],
)
def test_mon_03_fires(hosts, text):
    assert judged(hosts) == [text]


def test_mon_04_fires_for_busy_hosts_alone():
    (finding,) = judge_cpu("01-run-0", {"n1": 94.9, "n2": 95.0, "n3": 99.25})
    assert str(finding) == (
        "warning MON-04 n[2-3] 01-run-0: its processors were busy for 99.2 % of the window: the "
        "numbers may be those of the host and not of the storage\n"
        "  hint: more hosts, or fewer ranks on each"
    )


def test_mon_04_does_not_fire_for_hosts_that_have_processors_left():
    assert list(judge_cpu("01-run-0", {"n1": 94.9})) == []
