"""The launches of a job: which, how often, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.plan import ended_launches, make_plan, nearest, without_hosts

PYTHON = "/opt/python3"


def names(plan):
    return [launch.name for launch in plan.launches]


def options(count):
    return [{"name": f"opt{number}", "set": {}} for number in range(count)]


def test_quick(plan_of):
    plan = plan_of({"trials": 2})
    assert names(plan) == ["00-prepare", "01-run-0", "02-run-1", "03-cleanup"]
    assert [launch.measured for launch in plan.launches] == [False, True, True, False]
    assert [launch.when for launch in plan.launches] == ["success", "success", "success", "always"]
    assert plan.launches[0].undone_by == "cleanup"


def test_a_stage_without_lost_hosts(make_spec):
    changes = {"cluster.hosts": ["node[1-3]"], "cluster.ranks_per_host": 2}
    spec = make_spec(changes)
    plan = make_plan(spec, python=PYTHON)
    launch = without_hosts(spec, plan, plan.launches[-1], ["node2"])
    assert "node1:2,node3:2" in launch.argv
    assert (launch.ranks, launch.argv[-4:]) == (4, ("--stage", "cleanup", "--ranks", "6"))
    assert (launch.name, launch.when) == ("02-cleanup", "always")


def test_no_host_is_left(make_spec):
    spec = make_spec({"cluster.hosts": ["node[1-2]"]})
    plan = make_plan(spec, python=PYTHON)
    with pytest.raises(ValueError, match=r"all hosts were lost: node\[1-2\]"):
        without_hosts(spec, plan, plan.launches[-1], ["node1", "node2"])


def test_stages_of_an_option_stay_together(plan_of):
    assert names(plan_of({"trials": 2, "benchmark.options": options(2)})) == [
        "00-prepare-opt0",
        "01-run-opt0-0",
        "02-run-opt0-1",
        "03-cleanup-opt0",
        "04-prepare-opt1",
        "05-run-opt1-0",
        "06-run-opt1-1",
        "07-cleanup-opt1",
    ]


def test_trials_of_neighbours_alternate(plan_of):
    stages = [
        {"name": "setup", "each": "job"},
        {"name": "a", "each": "trial"},
        {"name": "b", "each": "trial"},
        {"name": "c", "each": "option"},
        {"name": "end", "each": "job"},
    ]
    assert names(plan_of({"trials": 2, "benchmark.stages": stages})) == [
        "00-setup", "01-a-0", "02-b-0", "03-a-1", "04-b-1", "05-c", "06-end",
    ]  # fmt: skip


def test_arguments_of_a_rank(plan_of):
    plan = plan_of({"benchmark.options": options(1), "trials": 2})
    command = [PYTHON, "-P", "-m", "mlps.engines.kvcache_native"]
    assert [list(launch.argv[3:]) for launch in plan.launches] == [
        [*command, "--stage", "prepare", "--option", "opt0"],
        [*command, "--stage", "run", "--option", "opt0", "--trial", "0"],
        [*command, "--stage", "run", "--option", "opt0", "--trial", "1"],
        [*command, "--stage", "cleanup", "--option", "opt0"],
    ]


def test_selected_stages_keep_their_order(plan_of):
    assert names(plan_of({"stages": ["cleanup", "prepare"]})) == ["00-prepare", "01-cleanup"]


def test_a_stage_that_never_runs_is_left_out(plan_of, make_document):
    stages = make_document()["benchmark"]["stages"]
    stages[-1]["when"] = "never"
    assert names(plan_of({"benchmark.stages": stages})) == ["00-prepare", "01-run-0"]


def test_the_document_is_the_plan(plan_of):
    plan = plan_of({"cluster.hosts": ["a", "b"], "cluster.python": "/x/python"})
    document = plan.as_document()
    assert (document["python"], document["hosts"], document["ranks"]) == (
        "/x/python",
        ["a", "b"],
        4,
    )
    assert document["job_sha256"] == plan.job_sha256
    assert document["rank_variables"] == list(plan.variables)
    for entry, launch in zip(document["launches"], plan.launches, strict=True):
        for key, value in entry.items():
            actual = getattr(launch, key)
            assert (list(actual) if key == "argv" else actual) == value


stage_lists = st.lists(st.sampled_from(["job", "option", "trial"]), min_size=1, max_size=6)


@given(each=stage_lists, option_count=st.integers(0, 4), trials=st.integers(1, 5))
def test_every_stage_runs_as_often_as_it_says(plan_of, each, option_count, trials):
    stages = [{"name": f"s{number}", "each": kind} for number, kind in enumerate(each)]
    plan = plan_of(
        {
            "trials": trials,
            "benchmark.stages": stages,
            "benchmark.options": options(option_count),
        }
    )
    times = {"job": 1, "option": max(1, option_count), "trial": max(1, option_count) * trials}
    assert [launch.index for launch in plan.launches] == list(range(len(plan.launches)))
    assert len(set(names(plan))) == len(plan.launches)
    for stage in stages:
        own = [launch for launch in plan.launches if launch.stage == stage["name"]]
        assert len(own) == times[stage["each"]]
        assert len({(launch.option, launch.trial) for launch in own}) == len(own)


@given(each=stage_lists, trials=st.integers(1, 3))
def test_stages_of_one_option_and_trial_are_in_order(plan_of, each, trials):
    stages = [{"name": f"s{number}", "each": kind} for number, kind in enumerate(each)]
    changes = {"trials": trials, "benchmark.stages": stages, "benchmark.options": options(2)}
    for option in ("opt0", "opt1"):
        for trial in range(trials):
            own = [
                launch.stage
                for launch in plan_of(changes).launches
                if launch.option in (None, option) and launch.trial in (None, trial)
            ]
            assert own == [stage["name"] for stage in stages]


def test_trials_of_a_measured_stage_and_option_are_a_group(plan_of):
    plan = plan_of({"benchmark.options": options(2), "trials": 2})
    groups = plan.measured
    assert list(groups) == [("run", "opt0"), ("run", "opt1")]
    assert [[launch.trial for launch in group] for group in groups.values()] == [[0, 1], [0, 1]]


def test_there_is_a_pause_between_options_and_nowhere_else(plan_of):
    plan = plan_of({"benchmark.options": options(3), "benchmark.option_delay_s": 90})
    paused = [launch.name for launch in plan.launches if launch.delay_before_s]
    assert paused == ["03-prepare-opt1", "06-prepare-opt2"]
    assert {launch.delay_before_s for launch in plan.launches} == {0.0, 90}


def test_launches_that_ended_well_have_a_result(plan_of):
    plan = plan_of({"trials": 2})
    outcomes = {name: {"status": "complete"} for name in names(plan)}
    outcomes["01-run-0"] = {"status": "failed"}
    results = {name: {} for name in names(plan)[:3]}
    found = ended_launches(plan, outcomes, results)
    assert [launch.name for launch in found] == ["00-prepare", "02-run-1"]


@pytest.mark.parametrize(
    ("found", "of", "name"),
    [
        (["00-prepare-opt0"], "01-run-opt0-0", "00-prepare-opt0"),
        (["00-prepare-opt0"], "04-run-opt1-0", None),
        (["02-cleanup-opt0"], "01-run-opt0-0", "02-cleanup-opt0"),
        (["00-prepare-opt0", "02-cleanup-opt0"], "01-run-opt0-0", "00-prepare-opt0"),
        (["01-run-opt0-0"], "01-run-opt0-0", None),
    ],
)
def test_the_nearest_launch_that_has_something(plan_of, found, of, name):
    stages = [
        {"name": "prepare", "each": "option"},
        {"name": "run", "each": "trial"},
        {"name": "cleanup", "each": "option"},
    ]
    plan = plan_of({"benchmark.options": options(2), "benchmark.stages": stages})
    (launch,) = [launch for launch in plan.launches if launch.name == of]
    assert nearest(dict.fromkeys(found), launch, plan.launches) == name
