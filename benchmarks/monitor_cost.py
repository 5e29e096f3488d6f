"""Whether sampling the hosts changes what a job measures: pairs of jobs with and without, ABBA.

    python benchmarks/monitor_cost.py [PAIRS] [SECONDS] [INTERVAL_S] [DATA_DIR]

Every pair is two jobs of SECONDS (20) each: with samples every INTERVAL_S (1), and without. The
order turns round from pair to pair, so that a drift of the storage falls on both. The difference is
given with its 95 % bootstrap interval; 0 inside of it means that none was found.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from mlps.engine.spread import bootstrap_interval

MLPS = Path(sys.executable).parent / "mlps"


def throughput(place: Path, data_dir: Path, seconds: float, interval: str) -> tuple[float, float]:
    """GiB/s of reads and writes together, and the sampler's processor time in % of a core."""
    words = (
        "benchmark=kvcache/quick",
        f"benchmark.duration_s={seconds:g}",
        f"data_dir={data_dir}",
        f"results_dir={place}",
        f"monitor.interval_s={interval}",
    )
    done = subprocess.run([MLPS, *words, "--json"], check=True, capture_output=True)
    result = json.loads(done.stdout)["result"]
    values = result["metrics"][0]["values"]
    elapsed_s = sum(stage["elapsed_s"] for stage in result["stages"])
    cpu_s = 0.0 if result["monitor"] is None else result["monitor"]["sampler_cpu_s"]
    gib_s = values["read_gib_s"]["mean"] + values["write_gib_s"]["mean"]
    return float(gib_s), 100 * cpu_s / elapsed_s


def main() -> None:
    """Measure all pairs and print them."""
    words = sys.argv[1:]
    pairs = int(words[0]) if words else 5
    seconds = float(words[1]) if len(words) > 1 else 20.0
    interval = words[2] if len(words) > 2 else "1"
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data_dir = Path(words[3]) if len(words) > 3 else place
        differences = []
        print(f"{'pair':<6}{'with':>10}{'without':>10}{'difference':>12}{'sampler CPU':>14}")
        for pair in range(pairs):
            found = {}
            for kind in (interval, "null") if pair % 2 == 0 else ("null", interval):
                found[kind] = throughput(place / "results", data_dir, seconds, kind)
            (sampled, cpu_pct), (bare, _) = found[interval], found["null"]
            differences.append(100 * (sampled - bare) / bare)
            print(
                f"{pair:<6}{sampled:>10.3f}{bare:>10.3f}{differences[-1]:>+10.2f} %"
                f"{cpu_pct:>12.2f} %",
                flush=True,
            )
    low, high = bootstrap_interval(differences)
    mean = statistics.fmean(differences)
    print(f"difference {mean:+.2f} %, 95 % interval {low:+.2f} to {high:+.2f} %")


if __name__ == "__main__":
    main()
