"""The comparison of a rank's checkpoints with fio, on small files."""

from __future__ import annotations

import importlib
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "checkpoint.py"


@pytest.mark.skipif(shutil.which("fio") is None, reason="there is no fio")
def test_every_way_has_a_line_and_nothing_is_left_behind(tmp_path):
    words = ["--pairs", "1", "--size", "0.03125", "--pause", "0"]
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path, *words],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    # A name of up to 20 characters, then the figures with their extremes.
    assert [line[:20].strip() for line in lines if "[" in line] == [
        "fio", "fio, same data", "mlps",
        "fio", "fio, crc32c", "mlps, content", "mlps, all", "mlps, sampled", "mlps, none",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_what_was_too_short_for_a_clock_has_no_ratio(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    peer = importlib.import_module("peer")
    one, none = (peer.Run(moved_bytes=2**30, elapsed_s=1, cpu_s=cpu_s) for cpu_s in (1, 0))
    assert peer.ratio([one, none], [one, one], peer.cpu_s_per_gib) == 0.5
    assert math.isnan(peer.ratio([one, one], [one, none], peer.cpu_s_per_gib))
