"""Rooflines: which ones a measured stage is compared with, and how."""

from __future__ import annotations

import pytest

from mlps.engine.roofline import roofline_of, rooflines_around

GIB = 2**30


def roofline(read_gib, write_gib=0.0, **changes):
    """A roofline stage of 2 s that moved so much in each of them."""
    return {
        "tool": "fio",
        "read_bytes": int(read_gib * 2 * GIB),
        "write_bytes": int(write_gib * 2 * GIB),
        "elapsed_s": 2.0,
        "cpu_s": 0.5,
        **changes,
    }


def stages(*names, each="trial"):
    return [
        {"name": name, "each": "trial", "measured": True}
        if name.startswith("run")
        else {"name": name, "each": each}
        for name in names
    ]


def around(plan, make_result, rates, *, failed=()):
    """(before, after) in GiB/s by measured launch; `rates` are those of roofline launches."""
    results = {
        name: make_result(window=None, io={}, roofline=roofline(rate))
        for name, rate in rates.items()
    }
    outcomes = {
        launch.name: {"status": "failed" if launch.name in failed else "complete"}
        for launch in plan.launches
    }
    found = rooflines_around(plan, outcomes, results)
    return {
        name: tuple(side and side.gib_s for side in (pair.before, pair.after))
        for name, pair in found.items()
    }


def test_a_roofline_of_a_stage():
    found = roofline_of({"roofline": roofline(3, 1)})
    assert (found.tool, found.read_gib_s, found.write_gib_s, found.gib_s) == ("fio", 3, 1, 4)
    assert found.cpu_s_per_gib == 0.5 / 8


@pytest.mark.parametrize(
    "result",
    [{}, {"roofline": None}, {"roofline": roofline(0)}, {"roofline": roofline(1, elapsed_s=0)}],
    ids=["not told", "null", "nothing moved", "no time"],
)
def test_a_stage_without_a_roofline(result):
    assert roofline_of(result) is None


def test_rooflines_of_every_trial(plan_of, make_result):
    plan = plan_of({"benchmark.stages": stages("before", "run", "after"), "trials": 2})
    rates = {"00-before-0": 1, "02-after-0": 2, "03-before-1": 3, "05-after-1": 4}
    assert around(plan, make_result, rates) == {"01-run-0": (1, 2), "04-run-1": (3, 4)}


def test_rooflines_around_all_trials(plan_of, make_result):
    changes = {"benchmark.stages": stages("before", "run", "after", each="option"), "trials": 3}
    rates = {"00-before": 1, "04-after": 2}
    assert around(plan_of(changes), make_result, rates) == {
        f"0{trial + 1}-run-{trial}": (1, 2) for trial in range(3)
    }


def test_the_nearest_ones_count(plan_of, make_result):
    plan = plan_of({"benchmark.stages": stages("a", "b", "run", "c", "d")})
    rates = {"00-a-0": 1, "01-b-0": 2, "03-c-0": 3, "04-d-0": 4}
    assert around(plan, make_result, rates) == {"02-run-0": (2, 3)}


def test_a_roofline_of_another_option_is_none(plan_of, make_result):
    options = [{"name": name, "set": {}} for name in ("x", "y")]
    plan = plan_of({"benchmark.stages": stages("a", "run", "b"), "benchmark.options": options})
    rates = {"00-a-x-0": 1, "02-b-x-0": 2, "05-b-y-0": 3}
    assert around(plan, make_result, rates) == {"01-run-x-0": (1, 2), "04-run-y-0": (None, 3)}


def test_a_roofline_that_failed_is_none(plan_of, make_result):
    plan = plan_of({"benchmark.stages": stages("a", "run", "b")})
    rates = {"00-a-0": 1, "02-b-0": 2}
    assert around(plan, make_result, rates, failed=["02-b-0"]) == {"01-run-0": (1, None)}
    assert around(plan, make_result, rates, failed=list(rates)) == {}
