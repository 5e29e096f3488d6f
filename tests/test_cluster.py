"""Hosts and ranks of a job, by Rules 6.3.3.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.errors import ConfigError
from mlps.engine.rules import judge_job

THREE = ["a:4", "b:4", "c:2"]


@pytest.mark.parametrize(
    ("hosts", "ranks_per_host", "ranks", "counts"),
    [
        pytest.param(["a", "b"], None, None, [2, 2], id="what the benchmark asks for"),
        pytest.param(["a", "b"], 5, None, [5, 5], id="a number for each"),
        pytest.param(["a", "b"], None, 6, [3, 3], id="a total"),
        pytest.param(["a", "b"], 3, 6, [3, 3], id="both, and they agree"),
        pytest.param(THREE, "slots", None, [4, 4, 2], id="as many as slots"),
        pytest.param(THREE, "slots", 10, [4, 4, 2], id="all slots"),
        pytest.param(THREE, 2, None, [2, 2, 2], id="fewer than slots"),
    ],
)
def test_ranks(make_spec, hosts, ranks_per_host, ranks, counts):
    spec = make_spec(
        {
            "cluster.hosts": hosts,
            "cluster.ranks_per_host": ranks_per_host,
            "cluster.ranks": ranks,
        }
    )
    assert [host.ranks for host in spec.cluster.hosts] == counts
    assert spec.cluster.ranks == sum(counts)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            {"cluster.hosts": ["a", "b"], "cluster.ranks": 5},
            "cluster.ranks: 5 ranks cannot be the same number on each of 2 hosts\n"
            "  hint: cluster.ranks=4",
            id="a total that is not even",
        ),
        pytest.param(
            {"cluster.hosts": ["a", "b"], "cluster.ranks": 6, "cluster.ranks_per_host": 2},
            "cluster.ranks: 6 ranks on 2 hosts are 3 on each, but ranks_per_host is 2\n"
            "  hint: cluster.ranks_per_host=3, or leave one of the two out",
            id="both, and they differ",
        ),
        pytest.param(
            {"cluster.hosts": THREE, "cluster.ranks_per_host": "slots", "cluster.ranks": 9},
            "cluster.ranks: 9 ranks, but the hosts have 10 slots and each slot has a rank\n"
            "  hint: cluster.ranks=null",
            id="slots and another total",
        ),
        pytest.param(
            {"cluster.hosts": THREE, "cluster.ranks_per_host": 3},
            "cluster.ranks_per_host: 3 ranks on c, but it has 2 slots\n"
            "  hint: fewer ranks, or more slots for it",
            id="one host with too few slots",
        ),
        pytest.param(
            {"cluster.hosts": ["n[1-4]:1"], "cluster.ranks": 8},
            "cluster.ranks: 2 ranks on a host, but it has 1 slots\n"
            "  hint: fewer ranks, or more slots for it",
            id="all with too few slots",
        ),
        pytest.param(
            {"cluster.hosts": ["a b"]},
            "cluster.hosts: 'a b' is no host; the forms are",
            id="no host",
        ),
    ],
)
def test_refused(make_spec, changes, text):
    with pytest.raises(ConfigError) as caught:
        make_spec(changes)
    assert str(caught.value).startswith(text)


@given(count=st.integers(1, 50), each=st.integers(1, 16))
def test_a_total_and_a_number_for_each_are_two_ways_to_say_one_thing(make_spec, count, each):
    hosts = {"cluster.hosts": [f"n[1-{count}]"]}
    by_total = make_spec({**hosts, "cluster.ranks": count * each})
    by_each = make_spec({**hosts, "cluster.ranks_per_host": each})
    assert by_total.cluster == by_each.cluster


@pytest.mark.parametrize(
    ("division", "severity"), [("whatif", "warning"), ("open", "error"), ("closed", "error")]
)
def test_job_04_fires_for_uneven_ranks(make_spec, division, severity):
    changes = {"cluster.hosts": THREE, "cluster.ranks_per_host": "slots", "division.name": division}
    (finding,) = [item for item in judge_job(make_spec(changes), {}) if item.rule == "JOB-04"]
    assert finding.severity == severity
    assert finding.text == "c has 2 ranks, a has 4"


def test_job_04_does_not_fire_for_even_ranks(make_spec):
    spec = make_spec({"cluster.hosts": THREE, "cluster.ranks_per_host": 2})
    assert [item for item in judge_job(spec, {}) if item.rule == "JOB-04"] == []
