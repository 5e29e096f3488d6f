"""Facts of many hosts in one document: what is shared stands once, and nothing is lost."""

from __future__ import annotations

import json

import pytest
from facts_of_hosts import GIB, facts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engine.host_documents import (
    HostFacts,
    host_facts_of,
    hosts_document,
    hosts_text,
    read_hosts,
    totals,
    traits_of,
)
from mlps.engine.host_rules import judge_likeness
from mlps.engine.reach import Probed, Trouble


def hosts_of(facts, without=None):
    return HostFacts(
        facts=facts, clock_offset_s=dict.fromkeys(facts, 0.25), without_facts=without or {}
    )


def cluster(count, **changes):
    names = [f"node{number}" for number in range(1, count + 1)]
    return hosts_of({name: facts_of(name, **changes) for name in names})


def test_what_asking_has_brought():
    found = host_facts_of(
        [
            Probed(name="a", here=False, facts=facts_of("a"), clock_offset_s=0.5),
            Probed(name="b", here=False, trouble=Trouble(kind="login", text="Permission denied")),
            Probed(name="c", here=False),
        ]
    )
    assert found.names == ("a", "b", "c")
    assert found.facts == {"a": facts_of("a")}
    assert found.clock_offset_s == {"a": 0.5}
    assert found.without_facts == {"b": "Permission denied", "c": "it was not asked"}


def test_hosts_alike_share_what_they_have():
    document = hosts_document(cluster(8))
    assert document["shared"]["cpu"] == [
        {"hosts": ["node[1-8]"], "value": facts_of()["cpu"]},
    ]
    assert list(document["own"]) == [f"node{number}" for number in range(1, 9)]
    own = document["own"]["node3"]
    assert (own["mlps_facts"], own["clock_offset_s"]) == ("node3", 0.25)


def test_a_host_that_differs_stands_apart():
    hosts = cluster(3)
    hosts.facts["node2"]["cpu"]["threads"] = 64
    groups = hosts_document(hosts)["shared"]["cpu"]
    assert [(group["hosts"], group["value"]["threads"]) for group in groups] == [
        (["node1", "node3"], 128),
        (["node2"], 64),
    ]


def test_eight_hosts_are_small_and_a_thousand_little_more():
    assert len(hosts_text(cluster(8))) < 16 * 1024
    assert len(hosts_text(cluster(1000))) < 1024 * 1024


def test_the_text_is_the_document():
    hosts = cluster(2)
    hosts.without_facts["node9"] = "it has gone"
    text = hosts_text(hosts)
    assert json.loads(text) == hosts_document(hosts)
    assert text.startswith(b'{\n "schema":1,\n "shared":{\n  "system":[{"hosts":["node[1-2]"]')
    assert json.loads(hosts_text(hosts_of({}))) == hosts_document(hosts_of({}))


values = st.recursive(
    st.one_of(st.integers(), st.text(max_size=4), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(max_examples=30)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=6), st.booleans())
def test_reading_is_the_inverse_of_writing(sections, silent):
    facts = {
        f"n{number}": facts_of(f"n{number}", sysctl=one, environment=other)
        for number, (one, other) in enumerate(sections)
    }
    hosts = hosts_of(facts, {"x": "gone"} if silent else None)
    assert read_hosts(json.loads(hosts_text(hosts))) == hosts


@pytest.mark.parametrize("document", [{}, {"own": 1}, {"own": {}, "shared": {"cpu": [{}]}}])
def test_another_form_is_refused(document):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        read_hosts(document)


# ---------------------------------------------------------------- likeness


def test_hosts_are_compared_by_their_facts():
    hosts = cluster(2)
    hosts.facts["node2"] = facts_of(
        "node2", memory__total_bytes=64 * GIB, cpu__threads=64, system__kernel="6.2", nics=[]
    )
    assert [finding.text for finding in judge_likeness(traits_of(hosts))] == [
        "memory of the hosts differs: 64.0 to 512.0 GiB",
        "cores of the hosts differ: 128 on node1; 64 on node2",
        "network interfaces of the hosts differ: 1 x 100 Gbit/s on node1; none on node2",
        "kernel of the hosts differ: 6.1.0-28-amd64 on node1; 6.2 on node2",
    ]


def test_what_is_unknown_differs_from_nothing():
    hosts = cluster(2)
    hosts.facts["node2"] = facts_of(
        "node2",
        memory__total_bytes="unknown",
        cpu__threads="unknown",
        system__kernel="unknown",
        system__version="unknown",
        nics="unknown",
    )
    assert list(judge_likeness(traits_of(hosts))) == []


# ---------------------------------------------------------------- sums


def test_memory_and_cores_of_all_hosts():
    sums = totals(cluster(4)).as_document()
    assert sums == {
        "hosts": 4,
        "machines": 4,
        "memory_bytes": 4 * 512 * GIB,
        "least_memory_bytes": 512 * GIB,
        "most_memory_bytes": 512 * GIB,
        "cores": 256,
        "threads": 512,
    }


def test_containers_of_one_machine_count_it_once():
    hosts = cluster(4)
    for facts in hosts.facts.values():
        facts["identity"]["boot_id"] = "one"
    sums = totals(hosts)
    assert (sums.hosts, sums.machines) == (4, 1)
    assert (sums.memory_bytes, sums.cores) == (512 * GIB, 64)


def test_containers_with_limits_count_what_they_may_use():
    hosts = cluster(2, memory__limit_bytes=100 * GIB)
    for facts in hosts.facts.values():
        facts["identity"]["boot_id"] = "one"
    assert totals(hosts).memory_bytes == 200 * GIB


def test_a_limit_above_the_memory_is_none():
    assert totals(cluster(1, memory__limit_bytes=600 * GIB)).memory_bytes == 512 * GIB


def test_hosts_of_unknown_boots_are_machines_of_their_own():
    assert totals(cluster(3, identity__boot_id="unknown")).machines == 3


@pytest.mark.parametrize(
    ("hosts", "key"),
    [
        (cluster(2, memory__total_bytes="unknown"), "memory_bytes"),
        (cluster(2, cpu__cores="unknown"), "cores"),
        (hosts_of({"a": facts_of("a")}, {"b": "gone"}), "memory_bytes"),
        (hosts_of({"a": facts_of("a")}, {"b": "gone"}), "threads"),
        (hosts_of({}), "memory_bytes"),
    ],
)
def test_a_sum_that_lacks_a_host_is_unknown(hosts, key):
    assert totals(hosts).as_document()[key] == "unknown"
