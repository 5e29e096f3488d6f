"""What mlps itself costs: start-up, planning, and its share of a quick job outside the stages.

    python benchmarks/engine_overhead.py [REPEATS]

Each figure is the median of all repeats, with the least and the most beside it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MLPS = Path(sys.executable).parent / "mlps"
QUICK = "benchmark=kvcache/quick"
LARGE = (QUICK, 'cluster.hosts=["node[001-128]"]', "cluster.ranks_per_host=8")
SUITE = ("benchmark=kvcache", 'cluster.hosts=["node[0001-1024]"]')


def timed_s(*words: str) -> float:
    """Wall time of one command."""
    begun = time.perf_counter()
    subprocess.run([MLPS, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def own_share_s() -> float:
    """Wall time of a short quick job less the time of its stages."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "data").mkdir()
        words = (f"data_dir={place / 'data'}", f"results_dir={place / 'results'}")
        wall_s = timed_s(QUICK, *words, "benchmark.duration_s=0.5", "benchmark.ramp_s=0.1")
        (path,) = (place / "results").glob("*/result.json")
        stages = json.loads(path.read_bytes())["stages"]
        return wall_s - sum(float(stage["elapsed_s"]) for stage in stages)


ROWS: tuple[tuple[str, Callable[[], float]], ...] = (
    ("mlps --help", lambda: timed_s("--help")),
    ("mlps plan", lambda: timed_s("plan", QUICK)),
    ("mlps plan, 1,024 ranks on 128 hosts", lambda: timed_s("plan", *LARGE)),
    ("mlps plan, kvcache on 1,024 hosts", lambda: timed_s("plan", *SUITE)),
    ("a quick job outside its stages", own_share_s),
)


def main() -> None:
    """Measure all rows in turn, round after round, and print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    samples: dict[str, list[float]] = {name: [] for name, _ in ROWS}
    for _ in range(repeats):
        for name, measure in ROWS:
            samples[name].append(measure())
    print(f"{'':<38}{'median s':>10}{'least':>8}{'most':>8}")
    for name, values in samples.items():
        print(f"{name:<38}{statistics.median(values):>10.2f}{min(values):>8.2f}{max(values):>8.2f}")


if __name__ == "__main__":
    main()
