"""Archives of closed-shaped runs, one of each family: made once by mlps itself, to be copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
FAMILIES = ("training", "checkpointing", "kvcache", "vectordb")

# File systems in memory alone: what they hold cannot be dropped from it, so no read is cold.
IN_MEMORY = ("tmpfs", "ramfs")


def file_system(path: Path) -> str:
    """The type of the file system that holds a directory."""
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    for parent in (path, *path.parents):
        if str(parent) in mounts:
            return mounts[str(parent)]
    return "unknown"


def run_small(family: str, data_dir: Path, results_dir: Path) -> Path:
    """The archive of a closed-shaped run."""
    words = (
        f"benchmark=small/{family}", "edition=small", "division=closed", "monitor.interval_s=1",
        f"data_dir={data_dir}", f"results_dir={results_dir}",
    )  # fmt: skip
    done = subprocess.run(
        [Path(sys.executable).with_name("mlps"), *words],
        cwd=data_dir,
        env={**os.environ, "MLPS_CONF_PATH": str(HERE / "small_conf")},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    (archive,) = results_dir.iterdir()
    return archive


@pytest.fixture(scope="session")
def closed_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The archives by family. Their data and results are on two file systems."""
    data_dir = tmp_path_factory.mktemp("closed")
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == data_dir.stat().st_dev:
        pytest.skip("a closed run needs two file systems, and /dev/shm is not a second one")
    if file_system(data_dir) in IN_MEMORY:
        pytest.skip("temporary files are in memory here, where no read of a checkpoint is cold")
    with tempfile.TemporaryDirectory(dir=shared, prefix="mlps-tests-") as results:
        found = {}
        for family in FAMILIES:
            results_dir = Path(results, family)
            results_dir.mkdir()
            found[family] = run_small(family, data_dir, results_dir)
        assert list(data_dir.iterdir()) == []
        yield {
            family: Path(shutil.copytree(path, tmp_path_factory.mktemp(family) / path.name))
            for family, path in found.items()
        }
