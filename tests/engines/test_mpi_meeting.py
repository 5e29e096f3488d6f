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
for leaver in map(int, sys.argv[1:]):
    meeting = world.open_meeting()
    leaves = [False] * 49 + [world.rank == leaver]
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
steps = 400
reads = np.zeros(steps, READ)
reads["batch"] = np.arange(steps)
reads["length"] = 1
block = Block(paths=[sys.argv[1]], numbers=np.zeros(1, np.uint32), reads=reads, batches=steps)
core = ("c", "python")[world.rank % 2]
def run(fails):
    control = Control()
    control.start()
    control.shards(1)
    meeting = world.open_meeting()
    together = Together(meeting, control, lambda: None)
    reader = reader_for(Reading(directory=Path("/"), threads=1, look_ahead=2, core=core))
    def take():
        if world.rank == fails and control.done >= 17:
            control.fail("told to")
    together.idle = take
    loader, waits = Loader(reader, iter([block])), Histogram()
    times = run_epoch(together, loader, steps=steps, computation_ns=10**6, waits=waits)
    reader.close()
    meeting.close()
    return [None if times is None else times.steps, control.done, control.failure]
for fails in map(int, sys.argv[2:]):
    rows = world.gather(run(fails))
    if world.rank == 0:
        print(json.dumps(rows))
"""


def run(program, ranks, *words):
    """What the ranks tell of each of their meetings."""
    done = subprocess.run(
        [MPIEXEC, "-n", str(ranks), sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_all_hear_at_the_same_step_of_the_one_that_leaves(ranks):
    leavers = sorted({0, ranks // 2, ranks - 1})
    meetings = run(MEETINGS, ranks, *leavers)
    assert meetings == [[[[False] * 49 + [True], True]] * ranks] * len(leavers)


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_in_c_and_in_python_make_the_same_steps_and_end_after_the_same(ranks, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    whole, *failed = run(EPOCHS, ranks, path, -1, *range(ranks))
    assert whole == [[400, 400, None]] * ranks
    assert len(failed) == ranks
    for fails, rows in enumerate(failed):
        assert [times for times, _, _ in rows] == [None] * ranks
        assert len({done for _, done, _ in rows}) == 1
        assert [failure for _, _, failure in rows].count("told to") == 1
        assert rows[fails][2] == "told to"
