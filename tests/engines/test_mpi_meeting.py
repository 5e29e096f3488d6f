"""Meetings of real ranks: all hear of whoever leaves, whether they meet in C or in Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.mpi

MPIEXEC = Path(sys.executable).parent / "mpiexec"

MEETINGS = """
import json, sys
from mlps.engines.world import MpiWorld
world = MpiWorld()
meeting = world.open_meeting()
steps, leaver = 50, int(sys.argv[1])
leaves = [False] * (steps - 1) + [world.rank == leaver]
heard = [meeting.meet(each, lambda: None) for each in leaves]
meeting.close()
rows = world.gather([heard, meeting.native is not None])
if world.rank == 0:
    print(json.dumps(rows))
"""

# Ranks of an even number go through their steps in C, the others in Python.
EPOCHS = """
import json, sys
from pathlib import Path
import numpy as np
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.histogram import Histogram
from mlps.engines.meeting import Together
from mlps.engines.training_native.epochs import Loader, run_epoch
from mlps.engines.training_native.reader import READ, Block, Reading, reader_for
from mlps.engines.world import MpiWorld
world = MpiWorld()
steps, fails = 400, int(sys.argv[1])
reads = np.zeros(steps, READ)
reads["batch"] = np.arange(steps)
reads["length"] = 1
block = Block(paths=[sys.argv[2]], numbers=np.zeros(1, np.uint32), reads=reads, batches=steps)
control = Control()
control.start()
control.shards(1)
meeting = world.open_meeting()
together = Together(meeting, control, lambda: None)
core = ("c", "python")[world.rank % 2]
reader = reader_for(Reading(directory=Path("/"), threads=1, look_ahead=2, core=core))
def take():
    if world.rank == fails and control.done >= 17:
        control.fail("told to")
together.idle = take
loader, waits = Loader(reader, iter([block])), Histogram()
times = run_epoch(together, loader, steps=steps, computation_ns=10**6, waits=waits)
reader.close()
meeting.close()
rows = world.gather([None if times is None else times.steps, control.done, control.failure])
if world.rank == 0:
    print(json.dumps(rows))
"""


def run(program, ranks, *words):
    done = subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
def test_all_hear_at_the_same_step_of_the_one_that_leaves(ranks):
    for heard, native in run(MEETINGS, ranks, ranks // 2):
        assert heard == [False] * 49 + [True]
        assert native


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_in_c_and_in_python_make_the_same_steps(ranks, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    assert run(EPOCHS, ranks, -1, path) == [[400, 400, None]] * ranks


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_whichever_fails_all_end_after_the_same_step(fails, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    rows = run(EPOCHS, 3, fails, path)
    assert [times for times, _, _ in rows] == [None] * 3
    assert len({done for _, done, _ in rows}) == 1
    assert [failure for _, _, failure in rows].count("told to") == 1
