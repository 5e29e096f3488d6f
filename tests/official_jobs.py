"""Jobs of packaged benchmarks, with some of their keys changed."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

from mlps.engine.compose import compose
from mlps.engine.spec import SWEEP_KEYS, JobSpec, build


@cache
def _official(benchmark):
    composed = compose([f"benchmark={benchmark}"], conf_dirs=(), cwd=Path("/nowhere"))
    document = {key: value for key, value in composed.values.items() if key not in SWEEP_KEYS}
    return document | {"data_dir": "/data", "results_dir": "/results"}


def official_spec(benchmark, changes) -> JobSpec:
    """The job of a packaged benchmark with these dotted keys changed."""
    document = copy.deepcopy(_official(benchmark))
    for key, value in changes.items():
        *parents, name = key.split(".")
        part = document
        for parent in parents:
            part = part[parent]
        part[name] = value
    return build(document, {})
