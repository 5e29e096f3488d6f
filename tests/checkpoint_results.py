"""What stages of checkpointing report, as by hand: ranks that differ in how long they take."""

from __future__ import annotations

import copy

from official_jobs import official_spec

from mlps.engine.plan import make_plan
from mlps.engine.spec import JobSpec

GIB = 2**30

# When the window of a result begins, as tests have it.
START_UNIX_S = 1.8e9


def layout_of(**changes):
    """A checkpoint of 4 ranks: 1 GiB of model and 3 GiB of optimizer, each in a file of a rank."""
    layout = {
        "parameters": 2**29,
        "scale": 1.0,
        "formula_bytes": 4 * GIB,
        "model_bytes": GIB,
        "optimizer_bytes": 3 * GIB,
        "model_files": 4,
        "optimizer_files": 4,
        "rank_bytes_least": GIB,
        "rank_bytes_most": GIB,
    }
    return layout | changes


def checkpoint_of(number, *, wall_s=2.0, does="write", **changes):
    """A checkpoint of 4 GiB; the ranks take a half, three quarters and all of the time."""
    checkpoint = {
        "number": number,
        "bytes": 4 * GIB,
        "start_s": 10.0 * (number - 1) + 5,
        "wall_s": wall_s,
        "rank_least_s": wall_s / 2,
        "rank_median_s": 0.75 * wall_s,
        "rank0_s": 0.8 * wall_s,
        "straggler": 3,
        "straggler_host": "node1",
        "rank_least_gib_s": 1 / wall_s,
        "transfer_most_s": 0.75 * wall_s,
        "sync_most_s": 0.25 * wall_s if does == "write" else 0,
        "resident_pct": None if does == "write" else 0.0,
        "counted_bytes": {"device": 4 * GIB},
        "stall_s": None,
    }
    return checkpoint | changes


def eviction_of(**changes):
    """The files of 4 ranks and 2 checkpoints, all of them gone."""
    eviction = {
        "method": "drop",
        "hosts": 1,
        "files": 16,
        "bytes": 8 * GIB,
        "elapsed_s": 0.5,
        "resident_pct": 0.0,
    }
    return eviction | changes


def written(*checkpoints, **changes):
    """The section `checkpointing` of a stage that wrote two checkpoints, of 2 and 4 s."""
    found = list(checkpoints) or [checkpoint_of(1), checkpoint_of(2, wall_s=4.0)]
    return _section("write", found, **changes)


def read(*checkpoints, ended_before_s=15.0, **changes):
    """That of a stage that read them, of 1 and 2 s, 20 s after they were written."""
    found = list(checkpoints) or [
        checkpoint_of(1, wall_s=1.0, does="read"),
        checkpoint_of(2, wall_s=2.0, does="read"),
    ]
    source = {
        "run_id": "20261123T120000Z-checkpointing-1a2b3c4d",
        "job_sha256": "ab" * 32,
        "start_unix_s": START_UNIX_S - 100,
        "end_unix_s": START_UNIX_S - ended_before_s,
        "checkpoints": 2,
    }
    return _section("read", found, **{"source": source, "crossed_ranks": 0} | changes)


def evicted(**changes):
    """That of a stage that dropped their files from memory."""
    return _section("evict", [], planned=0, eviction=eviction_of(**changes))


def _section(does, checkpoints, **changes):
    section = {
        "does": does,
        "layout": layout_of(),
        "directory": "/data/checkpoints",
        "kept": False,
        "shift": 0,
        "crossed_ranks": None,
        "training": None,
        "eviction": None,
        "source": None,
        "planned": 2,
        "checkpoints": checkpoints,
    }
    return copy.deepcopy(section | changes)


# 4 ranks and 2 checkpoints: what the sections above report.
FITTING = {
    "cluster.ranks_per_host": 4,
    "benchmark.writes": 2,
    "benchmark.reads": 2,
    "benchmark.scale": 1,
}


def checkpoint_spec(changes=None, *, benchmark="checkpointing/quick", fitting=True) -> JobSpec:
    """A job of checkpointing with some dotted keys changed."""
    return official_spec(benchmark, {**(FITTING if fitting else {}), **(changes or {})})


COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}


class Job:
    """A job whose stages all ended well and reported what fits its configuration."""

    def __init__(self, make_result, changes=None):
        self.spec = checkpoint_spec(changes)
        self.plan = make_plan(self.spec, python="/python")
        sections = {"write": written, "evict": evicted, "read": read}
        self.results = {
            launch.name: make_result(ranks=4, checkpointing=sections[launch.stage]())
            for launch in self.plan.launches
            if launch.stage in sections
        }
        self.outcomes = {launch.name: dict(COMPLETE) for launch in self.plan.launches}

    def section(self, name):
        """What a stage reported of checkpointing."""
        return self.results[name]["checkpointing"]
