"""Clients as their hosts describe themselves, and against what somebody described."""

from __future__ import annotations

import pytest
from facts_of_hosts import GIB, facts_of
from systems import described

from mlps.engine.host_documents import HostFacts
from mlps.engine.system_clients import client_drift, clients_of, judge_clients


def hosts(*facts, without=()):
    return HostFacts(
        facts={each["mlps_facts"]: each for each in facts},
        clock_offset_s={each["mlps_facts"]: 0.0 for each in facts},
        without_facts=dict.fromkeys(without, "silent"),
    )


EIGHT = hosts(*(facts_of(f"node{n}", cpu__model="EPYC 9354") for n in range(8)))


def found(document, facts):
    return [finding.rule for finding in judge_clients(document, facts)]


def test_hosts_that_are_alike_are_one_client_with_its_quantity():
    facts = [facts_of("node1"), facts_of("node2"), facts_of("node3", cpu__cores=32)]
    first, second = clients_of(hosts(*facts))
    assert (first["quantity"], second["quantity"]) == (2, 1)
    assert first["chassis"] == {
        "model_name": "PowerEdge R7625",
        "cpu_model": "AMD EPYC 9354",
        "cpu_qty": 2,
        "cpu_cores": 64,
        "memory_capacity": 512,
    }
    assert first["networking"] == [
        {"unit_count": 1, "type": "ethernet", "state": "up", "speed": 100.0, "traffic": None}
    ]
    (drive,) = first["drives"]  # the one behind data_dir, not that of the system
    assert (drive["model_name"], drive["interface"], drive["capacity_in_GB"]) == (
        "Micron 9400", "nvme", 3840,
    )  # fmt: skip
    assert first["sysctl"] == [{"name": "vm.dirty_ratio", "value": "20"}]


def test_what_no_host_tells_is_null():
    facts = facts_of(
        cpu__model="unknown", nics="unknown", identity__chassis="unknown", data_dir=None
    )
    (node,) = clients_of(hosts(facts))
    assert node["chassis"]["model_name"] is None
    assert node["chassis"]["cpu_model"] is None
    assert "networking" not in node
    assert "drives" not in node


def test_the_hosts_that_are_described():
    assert found(described(), EIGHT) == []
    assert client_drift(described()["system_under_test"]["clients"], EIGHT) == []


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("SYS-24", {"clients__0__quantity": 7}),
        ("SYS-25", {"clients__0__chassis__memory_capacity": 400}),
        ("SYS-26", {"solution__capabilities__multi_host": False}),
        ("SYS-27", {"clients__0__chassis__cpu_cores": 60}),
        ("SYS-27", {"clients__0__networking__0__speed": 25}),
        ("SYS-27", {"clients__0__operating_system__version": "11"}),
    ],
    ids=["quantity", "memory", "hosts", "cores", "speed", "system"],
)
def test_what_hosts_say_otherwise(rule, changes):
    rules = found(described(**changes), EIGHT)
    assert rules == ([rule] if rule in ("SYS-26", "SYS-27") else [rule, "SYS-27"])


def test_memory_within_10_percent_is_the_same():
    assert found(described(clients__0__chassis__memory_capacity=470), EIGHT) == []


@pytest.mark.parametrize(
    ("name", "value", "rules"),
    [
        ("vm.dirty_ratio", "40", ["SYS-27"]),
        ("vm.dirty_ratio", 20, []),
        ("vm.dirty_ratio", "20\t", []),
        ("vm.dirty_bytes", "1", []),
        ("fs.nr_open", "1", []),
    ],
    ids=["other", "number", "blanks", "hosts do not tell", "of no interest"],
)
def test_settings_that_description_and_hosts_tell_are_compared(name, value, rules):
    told = [{"name": name, "value": value}]
    assert found(described(clients__0__sysctl=told), EIGHT) == rules


def test_drift_is_a_diff_and_its_first_line_is_told():
    document = described(clients__0__chassis__cpu_cores=60)
    drift = client_drift(document["system_under_test"]["clients"], EIGHT)
    assert drift[:2] == ["--- described", "+++ hosts"]
    assert '-  "cpu_cores": 60,' in drift
    assert '+  "cpu_cores": 64,' in drift
    (finding,) = judge_clients(document, EIGHT)
    assert finding.text == 'the hosts say otherwise in 1 place, first: "cpu_cores": 60,'


def test_what_hosts_do_not_know_is_no_drift():
    facts = [
        facts_of(
            f"node{n}",
            cpu__model="unknown",
            nics=[{**facts_of()["nics"][0], "speed_mbit_s": "unknown"}],
        )
        for n in range(8)
    ]
    assert found(described(), hosts(*facts)) == []


def test_hosts_without_facts_are_counted_and_not_compared():
    facts = [facts_of(f"node{n}", memory__total_bytes=GIB) for n in range(7)]
    assert found(described(), hosts(*facts, without=["node7"])) == []
    assert found(described(clients__0__quantity=7), hosts(*facts, without=["node7"])) == ["SYS-24"]
