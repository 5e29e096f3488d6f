"""Jobs in the divisions, and how grave in each is what rules find."""

from __future__ import annotations

from typing import Any

import pytest

CLOSED, OPEN = {"division.name": "closed"}, {"division.name": "open"}
DIVISIONS = pytest.mark.parametrize(
    ("changes", "severity"),
    [({}, "warning"), (CLOSED, "error"), (OPEN, "error")],
    ids=["whatif", "closed", "open"],
)
# What any run for trial breaks is a remark in whatif.
FORMS = pytest.mark.parametrize(
    ("changes", "severity"),
    [({}, "info"), (CLOSED, "error"), (OPEN, "error")],
    ids=["whatif", "closed", "open"],
)


def closed_job(workload: str) -> dict[str, Any]:
    """Changes that make a job of a workload one that the closed division judges."""
    return CLOSED | {
        "division.any_workload": False,
        "edition.workloads": [workload],
        # Both directories of these tests are on one file system.
        "preflight.skip": ["CAP-03"],
    }
