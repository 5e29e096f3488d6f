"""What the sampler of a host costs, how exact its ticks are, and how long its lines.

    python benchmarks/sampler_ticks.py [SECONDS]

Each interval is run for so many seconds (60) and for ten ticks at the least. The processor time is
that between the first line and the last; the start of a sampler is told apart.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlps.engine.bootstrap import boot_argument, boot_argv, payload

INTERVALS_S = (0.1, 1.0, 10.0)
LATE_MS = 20.0
HOSTS, TICKS = 1000, 360


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of a sampler."""

    interval_s: float
    ticks: tuple[dict[str, Any], ...]
    end: dict[str, Any]
    start_cpu_s: float
    cpu_pct: float
    line_bytes: float


def measure(interval_s: float, seconds: float, directory: str) -> Measured:
    """Run a sampler of this machine and end it as a job does."""
    request = {
        "mode": "series",
        "data_dir": directory,
        "results_dir": directory,
        "interval_s": interval_s,
    }
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # In a session of its own, as a job starts it.
    argv = boot_argv(sys.executable)
    with subprocess.Popen(argv, start_new_session=True, **pipes) as process:
        assert process.stdin and process.stdout
        process.stdin.write(payload(request))
        process.stdin.flush()
        process.stdout.readline()
        begun, before_s = time.monotonic(), cpu_s(process.pid)
        # What it says meanwhile fits into the pipe, or is read at once.
        lines: list[bytes] = []
        while time.monotonic() - begun < max(seconds, 10.5 * interval_s):
            lines.append(process.stdout.readline())
        used_s, took_s = cpu_s(process.pid) - before_s, time.monotonic() - begun
        process.stdin.close()
        *_, last = process.stdout.read().splitlines()
    return Measured(
        interval_s=interval_s,
        ticks=tuple(json.loads(line) for line in lines),
        end=json.loads(last),
        start_cpu_s=before_s,
        cpu_pct=used_s / took_s * 100,
        line_bytes=sum(map(len, lines)) / len(lines),
    )


def cpu_s(pid: int) -> float:
    """Time that a process of one thread has had on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def row(run: Measured) -> str:
    late = sorted(tick["late_ms"] for tick in run.ticks)
    missed = run.end["missed"]
    cells = (
        f"{run.interval_s:g}", f"{len(late)}", f"{missed}", f"{sum(ms > LATE_MS for ms in late)}",
        f"{late[len(late) // 2]:.2f}", f"{late[int(len(late) * 0.99)]:.2f}", f"{late[-1]:.2f}",
        f"{run.cpu_pct:.3f}", f"{run.start_cpu_s:.3f}", f"{run.line_bytes:.0f}",
    )  # fmt: skip
    return "".join(f"{cell:>10}" for cell in cells)


def size_of_all(runs: list[Measured]) -> tuple[int, int]:
    """Bytes of the series of many hosts as archived, plain and compressed.

    Ticks of this machine stand for those of others. Each group of a line is drawn by itself and its
    numbers are varied, so that lines repeat no more than those of different hosts do.
    """
    chance = random.Random(42)
    seen = [tick for run in runs for tick in run.ticks if run.interval_s >= 1]
    groups = [name for name in seen[0] if name not in ("mlps_tick", "n")]
    lines = []
    for number in range(1, TICKS + 1):
        for host in range(1, HOSTS + 1):
            line: dict[str, Any] = {"host": f"node{host:04d}", "kind": "tick", "n": number}
            for name in groups:
                tick = chance.choice(seen)
                line |= {name: varied(tick[name], chance)} if name in tick else {}
            lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
    data = b"".join(lines)
    return len(data), len(gzip.compress(data, 6))


def varied(value: object, chance: random.Random) -> object:
    """The same with other numbers of the same size."""
    if isinstance(value, dict):
        return {name: varied(item, chance) for name, item in value.items()}
    if isinstance(value, list):
        return [varied(item, chance) for item in value]
    assert isinstance(value, int | float)
    changed = value * chance.uniform(0.7, 1.3)
    return round(changed) if isinstance(value, int) else round(changed, 2)


def main() -> None:
    """Measure each interval and print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    names = ("every s", "ticks", "missed", "late", "median ms", "p99 ms", "most ms", "cpu %",
             "start s", "bytes")  # fmt: skip
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print("".join(f"{name:>10}" for name in names))
    runs = []
    with tempfile.TemporaryDirectory() as directory:
        for interval_s in INTERVALS_S:
            runs.append(measure(interval_s, seconds, directory))
            print(row(runs[-1]), flush=True)
    argument = len(boot_argument({"mode": "series", "interval_s": 10}))
    plain, packed = (size / 1e6 for size in size_of_all(runs))
    print(f"the probe as an argument: {argument} bytes")
    print(f"{HOSTS} hosts, {TICKS} ticks: {plain:.0f} MB, compressed {packed:.0f} MB")


if __name__ == "__main__":
    main()
