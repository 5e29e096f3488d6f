"""Which processes are the first of a host, and what MPI's shared memory leaves behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlps.engines.world import starts_a_host

MPIEXEC = Path(sys.executable).with_name("mpiexec")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"MPI_LOCALRANKID": "0"}, False),
        ({"PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}, True),
        ({"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, False),
        ({"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}, False),
        ({"OMPI_COMM_WORLD_RANK": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, True),
        ({"PMI_RANK": "0"}, True),
    ],
)
def test_the_first_rank_of_one_of_several_hosts(environment, expected):
    assert starts_a_host(environment) is expected


@pytest.mark.mpi
def test_killed_ranks_leave_no_shared_memory():
    script = (
        "import os, time\n"
        "from mlps.engines.world import MpiWorld\n"
        "world = MpiWorld()\n"
        "world.barrier()\n"
        "maps = open('/proc/self/maps').read().split()\n"
        "print([word for word in maps if '/dev/shm/mpich' in word][0], flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [MPIEXEC, "-n", "2", sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        name = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert name.startswith("/dev/shm/mpich_shm_")
    time.sleep(0.1)
    assert not Path(name).exists()
