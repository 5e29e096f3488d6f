"""Which division would take a job, and what is told of those that would not."""

from __future__ import annotations

import pytest

from mlps.engine.rules import Finding
from mlps.engine.standing import in_division, standing


def errors_of(number):
    return [
        Finding(rule="JOB-02", severity="error", key=f"key{index}", text="may not be changed")
        for index in range(number)
    ]


def test_a_job_without_errors_stands_in_the_strictest_division():
    found = standing("closed", {"closed": [], "open": [], "whatif": []})
    assert (found.strictest, list(found.lines())) == ("closed", [])


def test_a_job_that_breaks_closed_is_told_that_open_takes_it():
    found = standing("closed", {"closed": errors_of(1), "open": [], "whatif": []})
    assert found.strictest == "open"
    assert list(found.lines()) == ["division=open would take it"]


def test_whatif_names_the_first_errors_of_stricter_divisions_and_counts_the_others():
    found = standing("whatif", {"closed": errors_of(5), "open": [], "whatif": []})
    assert list(found.lines()) == [
        "division=open would take it",
        "INVALID in closed:",
        "  JOB-02 key0: may not be changed",
        "  JOB-02 key1: may not be changed",
        "  JOB-02 key2: may not be changed",
        "  and 2 more: division=closed shows them",
    ]


def test_a_job_that_no_division_takes_has_no_strictest_one():
    found = standing("open", {name: errors_of(1) for name in ("closed", "open", "whatif")})
    assert found.strictest is None
    assert found.as_document()["barred"].keys() == {"closed", "open", "whatif"}


def test_warnings_bar_from_no_division():
    warning = Finding(rule="CAP-03", severity="warning", text="is slow")
    assert standing("whatif", {"closed": [warning], "open": [], "whatif": []}).strictest == "closed"


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1"],
        ["seed=1", "division=whatif"],
        ["+division=a", "seed=1"],
        ["++division.may_change=[seed]", "division.name=closed", "seed=1"],
    ],
)
def test_the_division_of_a_command_line_is_replaced(words):
    assert in_division(words, "open") == ["seed=1", "division=open"]
