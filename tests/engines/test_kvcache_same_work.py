"""The same job is the same work, whatever carries it out: the same plan, the same operations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mlps.engines.io_core.operations import LOAD
from mlps.engines.kvcache_native.planning import first_requests, plan_sha256
from mlps.engines.kvcache_native.plans import WORKLOADS, Place, planned
from mlps.engines.kvcache_native.traces import survey_trace
from mlps.engines.section import Section

REQUESTS = 12
NAMES = {"uring": "uring", "threads": "c_threads", "python": "python_threads", "noop": "noop"}
LAYOUTS = {"segments": ("noop", "uring", "threads", "python")}
LAYOUTS["file_per_chunk"] = ("noop", "threads", "python")  # a ring has no part in opening files

OPTIONS = [
    {
        "name": f"{core}_{layout}_{depth}",
        "set": {"io": {"core": core}, "layout": layout, "queue_depth": depth},
    }
    for layout, cores in LAYOUTS.items()
    for core, depth in itertools.product(cores, (1, 8))
]


@pytest.fixture(scope="module", params=[*WORKLOADS, "v3 with everything"])
def job(request, new_place, make_bench, make_trace):
    """A job of a workload whose options are all the ways to carry it out, and its plan's rows."""
    place = new_place()
    bench = make_bench(place / "data")
    bench.data_dir.mkdir(parents=True)
    bench.workload = request.param.partition(" ")[0]
    bench.changes = {
        "ramp_s": 0,
        "duration_s": 100,
        "requests": REQUESTS,
        "options": OPTIONS,
    }
    if bench.workload == "trace":
        bench.changes["trace"] = {"path": str(make_trace(place, "mooncake"))}
    if request.param == "v3 with everything":
        everything = {"rag": True, "context_tokens_max": 3000, "capacity_gib": 0.01}
        bench.changes |= everything | {"cpu_cache_gib": 0.002, "stores_in_flight": 1}
    workload = planned(Section(bench.job["benchmark"]))
    survey = survey_trace(workload.trace) if workload.trace else None
    plan = workload.plan(Place(seed=bench.seed, rank=0, ranks=1), survey)
    rows = np.concatenate(list(first_requests(plan.rows(), REQUESTS)))
    return bench, plan_sha256(iter([rows])), rows, set()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option["name"])
def test_each_core_does_exactly_what_is_planned(job, option):
    bench, sha256, rows, prepared = job
    name, layout = option["name"], option["set"]["layout"]
    if layout not in prepared:
        assert bench.solo("prepare", name.replace("noop", "threads"))["status"] == "complete"
        prepared.add(layout)
    result = bench.solo("run", name)

    assert result["errors"] == []
    core = option["set"]["io"]["core"]
    assert result["core"]["name"] == NAMES[core]
    assert result["ranks"]["plan_sha256"] == [sha256[:16]]
    loads = rows[rows["kind"] == LOAD]
    for direction, some in (("read", loads), ("write", rows[rows["kind"] != LOAD])):
        io = result["io"][direction]
        assert (io["total_operations"], io["window_operations"]) == (len(some), len(some))
        assert io["total_bytes"] == some["length"].sum()
    assert result["ranks"]["operations"] == [len(rows)]
    assert result["ranks"]["requests"] == [REQUESTS]
    assert result["measures"]["rates"]["requests"] == REQUESTS
    assert result["verify"]["operations"] == (0 if core == "noop" else len(loads))
    if "generated_tokens" in result["measures"]["rates"]:
        assert result["measures"]["rates"]["generated_tokens"] == rows["tokens"].sum()
    assert result["details"]["window_cut"] == (
        f"each rank had served the {REQUESTS} requests that were asked for"
    )
