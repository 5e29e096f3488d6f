"""What stages of training report, as by hand: ranks that differ in how long they wait."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from official_jobs import official_spec

from mlps.engine.spec import JobSpec

GIB = 2**30
MIB = 2**20


@dataclass(frozen=True)
class Step:
    """The times of each step, in s; `first_load_s` is how long a rank waits for its first batch."""

    computation_s: float = 0.1
    load_s: float = 0.004
    overshoot_s: float = 0.001
    meeting_s: float = 0.002
    engine_s: float = 0.001
    first_load_s: float = 0.05
    # Each rank waits so much longer than the one before it.
    more_s: float = 0.001


def epoch_of(number, *, ranks=4, steps=10, batch=8, read_bytes=GIB, step=Step(), counted=None):
    """An epoch of ranks that all make these steps."""
    loads = [(steps - 1) * (step.load_s + rank * step.more_s) for rank in range(ranks)]
    computed_s = step.computation_s + step.overshoot_s
    beside_s = steps * (computed_s + step.meeting_s + step.engine_s)
    blocks = [step.first_load_s + load_s + beside_s for load_s in loads]
    first_s = step.first_load_s + computed_s
    dlio = [100 * (steps - 1) * computed_s / (block_s - first_s) for block_s in blocks]
    nominal = [100 * (steps - 1) * step.computation_s / (block_s - first_s) for block_s in blocks]
    return {
        "epoch": number,
        "steps": steps,
        "start_s": (number - 1) * max(blocks),
        "wall_s": max(blocks),
        "block_sum_s": sum(blocks),
        "load_sum_s": sum(loads) + ranks * step.first_load_s,
        "compute_sum_s": ranks * steps * computed_s,
        "meeting_sum_s": ranks * steps * step.meeting_s,
        "first_step_sum_s": ranks * first_s,
        "au_dlio_sum_pct": sum(dlio),
        "au_dlio_worst_pct": min(dlio),
        "au_nominal_sum_pct": sum(nominal),
        "au_nominal_worst_pct": min(nominal),
        "au_worst_rank": ranks - 1,
        "samples_dlio_per_s": sum((steps - 1) * batch / (block - first_s) for block in blocks),
        "read_bytes": read_bytes,
        "counted_read_bytes": {"device": read_bytes} if counted is None else counted,
    }


def training_of(*, epochs=2, ranks=4, steps=10, batch=8, reads=True, step=Step(), **changes):
    """The section `training` of a result."""
    read_bytes = GIB if reads else 0
    section = {
        "reads": reads,
        "computation_s": step.computation_s,
        "batch": batch,
        "record_bytes": GIB / (ranks * steps * batch),
        "steps_planned": steps,
        "dropped_samples": 0,
        "threads": 2,
        "look_ahead_batches": 2,
        "eviction": {"files": 320, "sampled_files": 32, "resident_pct": 0.0} if reads else None,
        "epochs": [
            epoch_of(
                number, ranks=ranks, steps=steps, batch=batch, read_bytes=read_bytes, step=step
            )
            for number in range(1, epochs + 1)
        ],
        "evaluations": [],
        "checkpoints": [],
    }
    return copy.deepcopy(section | changes)


def dataset_of(**changes):
    """The section `dataset`: 320 files for training, 8 of each rank and step; none were there."""
    section = {
        "directory": "/data/training",
        "format": "npz",
        "made_by": "mlps",
        "train_files": 320,
        "eval_files": 0,
        "samples_per_file": 1,
        "bytes": GIB,
        "nominal_bytes": GIB,
        "written_files": 320,
        "written_bytes": GIB,
        "checked": "sizes",
        "checked_files": 0,
        "manifest_sha256": "ab" * 32,
    }
    return section | changes


# 4 ranks with batches of 8, 2 epochs of 10 steps, 320 files: what the sections above report.
FITTING = {
    "cluster.ranks_per_host": 4,
    "benchmark.dataset.train.files": 320,
    "benchmark.dataset.eval.files": 0,
    "benchmark.dataset.record_bytes": GIB / 320,
    "benchmark.reader.batch": 8,
    "benchmark.train.epochs": 2,
    "benchmark.evaluation": None,
    "benchmark.checkpoint": None,
    "benchmark.au_least_pct": 90,
}


def training_spec(changes=None, *, benchmark="training/quick", fitting=True) -> JobSpec:
    """A job of training with some dotted keys changed."""
    return official_spec(benchmark, {**(FITTING if fitting else {}), **(changes or {})})
