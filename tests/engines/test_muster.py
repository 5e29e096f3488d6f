"""The stage muster with real ranks: all see one file, or those that do not say so. None is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import jsonschema
import pytest

from mlps.engines.contract import encode_job
from mlps.engines.io_core.control import Control
from mlps.engines.preflight import muster as module
from mlps.engines.preflight.muster import SENTINEL, PreflightEngine
from mlps.engines.world import host_name

from .conftest import MPIEXEC, RESULTS

pytestmark = pytest.mark.mpi

RANK = [sys.executable, "-P", "-m", "mlps.engines.preflight", "--stage", "muster"]

# Ranks but the first get their own file system at data_dir.
ALONE = """#!/bin/sh
[ "$PMI_RANK" = 0 ] && exec "$@"
exec unshare --mount sh -c 'mount -t tmpfs tmpfs {data} && exec "$@"' - "$@"
"""


def muster(data_dir, *, ranks=2, before=(), benchmark=None):
    """(exit status, events) of a muster of ranks on this machine."""
    job = {"benchmark": benchmark or {"name": "any"}, "data_dir": str(data_dir), "seed": 1}
    env = dict(os.environ) | {
        "MLPS_JOB": encode_job(json.dumps(job).encode()),
        "MLPS_RUN_ID": "0123",
    }
    done = subprocess.run(
        [MPIEXEC, "-n", str(ranks), *before, *RANK],
        input=b"ok\n",
        capture_output=True,
        timeout=60,
        env=env,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_ranks_that_share_a_directory_see_one_file(tmp_path):
    status, events = muster(tmp_path, ranks=3)
    result = events[-1]
    assert (status, result["status"], result["errors"]) == (0, "complete", [])
    sentinel = result["details"]["sentinel"]
    assert sentinel["seen"] == [True] * 3
    assert len(set(sentinel["inode"])) == 1
    assert len(events[0]["ranks"]) == 3
    jsonschema.validate(result, RESULTS.schema)
    assert list(tmp_path.iterdir()) == []


def test_every_rank_that_sees_another_directory_says_so(tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare, to give a rank its own file system")
    data = tmp_path / "data"
    data.mkdir()
    program = tmp_path / "alone"
    program.write_text(ALONE.format(data=data))
    program.chmod(0o755)
    status, events = muster(data, ranks=3, before=[program])
    result = events[-1]
    assert (status, result["status"]) == (4, "failed")
    assert result["errors"] == [
        {
            "rank": rank,
            "host": host_name(),
            "message": f"does not see the file that rank 0 wrote in {data}",
        }
        for rank in (1, 2)
    ]
    assert result["details"]["sentinel"]["seen"] == [True, False, False]
    assert list(data.iterdir()) == []


def test_other_bytes_at_the_path_are_no_sighting(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.1)
    path = tmp_path / "file"
    path.write_bytes(b"other")
    seen = module._look(path, "0" * 64, Control())
    assert seen.sha256 not in (None, "0" * 64)
    with pytest.raises(module.EngineError, match="reads other bytes than rank 0 wrote"):
        module._compare(seen, "0" * 64, tmp_path)


def test_a_directory_that_is_missing_fails_where_it_is_written(tmp_path):
    status, events = muster(tmp_path / "nowhere")
    (error,) = events[-1]["errors"]
    assert status == 4
    assert (error["rank"], error["host"]) == (0, host_name())
    assert error["message"].startswith(f"cannot write {tmp_path}/nowhere/{SENTINEL}0123: No such")


def test_it_asks_nothing_of_the_benchmark():
    assert list(PreflightEngine().stages()) == ["muster"]
