"""Clocks, ranks, copies and sums: where EVD-05 to EVD-07 fire, and where they do not."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from mlps.engine import archive as files
from mlps.engine.evidence import read_evidence
from mlps.engine.evidence_rules import EVIDENCE_RULES, judge_evidence

RUN, OTHER = "01-run-0", "02-run-1"


@pytest.fixture
def judged(sealed):
    """What is found in evidence, or in a copy of it that a function has changed."""
    evidence = read_evidence(sealed)
    environment = files.read_document(sealed.path(files.ENVIRONMENT))

    def judge(change=None, plan=None):
        parts = {
            name: copy.deepcopy(dict(getattr(evidence, name))) for name in ("outcomes", "results")
        }
        told = copy.deepcopy(environment)
        if change is not None:
            change(parts["outcomes"], parts["results"], told)
        changed = replace(evidence, **parts, plan=plan or evidence.plan)
        return [(each.rule, each.key) for each in judge_evidence(changed, told)]

    judge.plan = evidence.plan
    return judge


def later(stamp, by_s):
    return (datetime.fromisoformat(stamp) + timedelta(seconds=by_s)).isoformat()


def moved(name, by_s):
    """Another start of a stage, with its measurement."""

    def change(outcomes, results, _environment):
        outcomes[name]["started_utc"] = later(outcomes[name]["started_utc"], by_s)
        if results[name]["window"] is not None:
            results[name]["window"]["start_unix_s"] += by_s

    return change


def test_nothing_is_found_in_what_a_run_leaves(judged):
    assert judged() == []


def test_the_rules_name_themselves():
    assert [*EVIDENCE_RULES] == ["EVD-05", "EVD-06", "EVD-07"]
    assert {rule.phase for rule in EVIDENCE_RULES.values()} == {"archive"}


# ---------------------------------------------------------------- EVD-05


@pytest.mark.parametrize("by_s", [1.0, -1.0, 0.1])
def test_evd_05_allows_what_clocks_of_hosts_differ(judged, by_s):
    def change(_outcomes, results, _environment):
        results[RUN]["window"]["start_unix_s"] += by_s

    assert judged(change) == []


@pytest.mark.parametrize(
    ("change", "names"),
    [
        pytest.param(moved(OTHER, -3.5), [OTHER], id="while another stage ran"),
        pytest.param(moved("00-prepare", -9), ["00-prepare"], id="before the job"),
        pytest.param(
            lambda _o, r, _e: r[RUN]["window"].update(start_unix_s=1.7e9), [RUN], id="long ago"
        ),
        pytest.param(
            lambda _o, r, _e: r[RUN]["window"].update(elapsed_s=60.0), [RUN], id="too long"
        ),
        pytest.param(
            lambda o, _r, _e: o[RUN].update(elapsed_s=-50.0), [RUN], id="ends before it starts"
        ),
    ],
)
def test_evd_05_fires(judged, change, names):
    assert judged(change) == [("EVD-05", name) for name in names]


def test_evd_05_fires_for_a_pause_that_was_not_made(judged):
    launches = [
        replace(launch, delay_before_s=90.0) if launch.name == OTHER else launch
        for launch in judged.plan.launches
    ]
    assert judged(plan=replace(judged.plan, launches=tuple(launches))) == [("EVD-05", OTHER)]


def test_evd_05_allows_stages_of_the_job_that_was_resumed(judged):
    def change(outcomes, results, environment):
        moved("00-prepare", -9000)(outcomes, results, environment)
        environment["links"]["resumed_from"] = "another"

    assert judged(change) == []


# ---------------------------------------------------------------- EVD-06


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda o, _r, _e: o[RUN].update(name=OTHER), id="outcome of another"),
        pytest.param(lambda o, _r, _e: o[RUN].update(status="stopped"), id="another status"),
        pytest.param(lambda _o, r, _e: r.pop(RUN), id="no result"),
        pytest.param(lambda _o, r, _e: r[RUN]["ranks"].update(hosts=["x"]), id="other host"),
        pytest.param(
            lambda _o, r, _e: r[RUN]["ranks"].update(host_index=[0, 0]), id="more ranks"
        ),
        pytest.param(
            lambda _o, r, _e: r[RUN]["ranks"].update(host_index=[0, 1]), id="more hosts"
        ),
    ],
)  # fmt: skip
def test_evd_06_fires(judged, change):
    assert judged(change) == [("EVD-06", RUN)]


def test_evd_06_fires_for_a_copy(judged):
    def change(_outcomes, results, _environment):
        results[OTHER] = results[RUN] | {"trial": 1, "window": results[OTHER]["window"]}

    assert judged(change) == [("EVD-06", OTHER)]


def test_evd_06_fires_for_a_stage_on_another_host(judged):
    def change(outcomes, results, _environment):
        outcomes[OTHER]["hosts"] = results[OTHER]["ranks"]["hosts"] = ["elsewhere"]

    assert judged(change) == [("EVD-06", OTHER)]


# ---------------------------------------------------------------- EVD-07


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: r["ranks"].update(read_bytes=[1]), id="bytes of ranks"),
        pytest.param(lambda r: r["ranks"].update(operations=[1]), id="operations of ranks"),
        pytest.param(lambda r: r["io"]["write"].update(total_bytes=2**20), id="window"),
        pytest.param(lambda r: r["io"]["read"]["latency"].update(sum=1), id="sum of latencies"),
        pytest.param(lambda r: r["verify"].update(bytes=2**50), id="compared"),
        pytest.param(
            lambda r: r.update(timeline={"bin_s": 1, "read_bytes": [2**50], "write_bytes": [0]}),
            id="timeline",
        ),
    ],
)  # fmt: skip
def test_evd_07_fires(judged, change):
    assert judged(lambda _o, results, _e: change(results[RUN])) == [("EVD-07", RUN)]


def test_evd_07_allows_less_in_the_timeline_than_in_all(judged):
    empty = {"bin_s": 1, "read_bytes": [0], "write_bytes": [0]}
    assert judged(lambda _o, results, _e: results[RUN].update(timeline=empty)) == []
