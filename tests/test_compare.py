"""What differs between two archives."""

from __future__ import annotations

import json

import pytest

from mlps.engine.compare import Side, compare, difference_interval, differences


def side(trials, **changes):
    job = {"seed": 1, "benchmark": {"users": 2}, "division": {"name": "open"}}
    result = {"benchmark": "kvcache/quick", "run_id": "r", "status": "complete"}
    return Side(
        job=job | {"edition": {"name": "v3.0"}},
        environment={},
        facts={},
        result=result | changes,
        trials={("run", None): {"read_gib_s": trials}},
    )


def test_differences_have_dotted_keys():
    found = differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}, "d": 4})
    assert [(each.key, each.a, each.b) for each in found] == [("a.b", 1, 3), ("d", None, 4)]


@pytest.mark.parametrize(
    ("a", "b", "beyond"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], True),
        ([1.0, 1.4, 0.6], [1.1, 0.7, 1.3], False),
        ([1.0], [2.0], None),
    ],
)
def test_more_than_chance(a, b, beyond):
    (metric,) = compare(side(a), side(b)).metrics
    assert metric.beyond_chance is beyond


def test_many_trials_are_sampled_the_same_each_time():
    a, b = [float(number) for number in range(10)], [float(number) for number in range(20, 30)]
    assert difference_interval(a, b) == difference_interval(a, b)
    assert 15 < difference_interval(a, b)[0] < 20


def test_what_is_not_comparable_is_said_and_shown():
    found = compare(side([1.0]), side([2.0], benchmark="kvcache", status="failed"))
    assert len(found.obstacles) == 2
    assert found.metrics[0].difference_pct == pytest.approx(100)


def test_an_archive_does_not_differ_from_itself(mlps, sealed):
    code, out, _ = mlps("compare", sealed.root, sealed.root, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["same_workload"]
    assert not found["configuration"]
    assert {each["difference_pct"] for each in found["metrics"]} <= {0.0, None}
    assert "beyond chance" in mlps("compare", sealed.root, sealed.root)[1]
    assert "| metric |" in mlps("compare", sealed.root, sealed.root, "--markdown")[1]


def test_tables_and_pages_of_an_archive(mlps, sealed, tmp_path):
    code, out, _ = mlps("report", sealed.root, "--table", "--json")
    assert code == 0
    (table,) = json.loads(out)
    told = {key: table["rows"][0][key] for key in ("category", "system", "benchmark", "model")}
    assert list(told.values()) == ["whatif", "undescribed", "kvcache", "quick"]
    assert "organization" not in table["rows"][0]  # an archive does not say whose it is
    assert "| Read B/W (GiB/s) |" in mlps("report", sealed.root, "--markdown")[1]
    page = tmp_path / "page.html"
    assert mlps("report", sealed.root, "--html", page)[0] == 0
    assert page.read_bytes() == (sealed.root / "report.html").read_bytes()
    assert mlps("report", sealed.root, "--html", page)[0] == 2
