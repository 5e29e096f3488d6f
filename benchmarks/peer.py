"""What a contender of a benchmark moved and used, how it compares, and fio as one of them."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

GIB = 2**30
# From glibc 2.35 on; older ones take no notice.
_HUGE_PAGE_ENV = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


@dataclass(frozen=True, slots=True)
class Run:
    """What one run moved, up to its last completion, and what it used."""

    moved_bytes: int
    elapsed_s: float
    cpu_s: float


def gib_s(run: Run) -> float:
    """Throughput."""
    return run.moved_bytes / GIB / run.elapsed_s


def cpu_s_per_gib(run: Run) -> float:
    """Processor time by what it has moved."""
    return run.cpu_s / (run.moved_bytes / GIB)


def spread(numbers: Iterable[float]) -> str:
    """Median, least and most."""
    values = list(numbers)
    return f"{statistics.median(values):.3f} [{min(values):.3f}-{max(values):.3f}]"


def ratio(runs: Sequence[Run], others: Sequence[Run], of: Callable[[Run], float]) -> float:
    """Median of the ratios of pairs; not a number where one of the others was too short to see."""
    pairs = [(of(a), of(b)) for a, b in zip(runs, others, strict=True)]
    return statistics.median(a / b for a, b in pairs) if all(b for _, b in pairs) else math.nan


def run_fio(direction: str, options: Mapping[str, str | int]) -> Run:
    """One job of fio with io_uring, direct, with fixed buffers; `direction` is read or write."""
    common: dict[str, str | int] = {
        "ioengine": "io_uring",
        "direct": 1,
        "fixedbufs": 1,
        "registerfiles": 1,
        "numjobs": 1,
        "output-format": "json",
    }
    command = ["fio", *(f"--{name}={value}" for name, value in (common | {**options}).items())]
    # It leaves files of its own where it is started.
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=_HUGE_PAGE_ENV, cwd=place
        )
    # Warnings may stand before the document.
    (job,) = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    return Run(
        moved_bytes=job[direction]["io_bytes"],
        # In whole milliseconds.
        elapsed_s=max(job[direction]["runtime"], 1) / 1e3,
        cpu_s=(job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3,
    )
