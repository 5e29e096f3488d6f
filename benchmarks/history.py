"""How long `mlps history` takes over many runs: without an index, with it, and after one more run.

    python benchmarks/history.py ARCHIVE [--runs 5000]

ARCHIVE is a sealed archive; links to its files stand in for the other runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def listed(results: Path) -> float:
    """Seconds of the whole command, its start included."""
    start = time.perf_counter()
    words = [str(Path(sys.executable).with_name("mlps")), "history", str(results)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--runs", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.archive.absolute().parents[1]) as place:
        results = Path(place)
        for number in range(options.runs):
            target = results / f"20260101T{number:06}Z-run"
            shutil.copytree(options.archive, target, copy_function=os.link)
        print(f"{options.runs} runs")
        print(f"without an index   {listed(results):6.2f} s")
        print(f"with it            {listed(results):6.2f} s")
        shutil.copytree(options.archive, results / "20270101T000000Z-new", copy_function=os.link)
        print(f"after one more run {listed(results):6.2f} s")


if __name__ == "__main__":
    main()
