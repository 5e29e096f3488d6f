"""The Slurm that other tests stand on is a real one, of the hosts of its test."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.cluster


def test_srun_starts_tasks_on_every_host(make_slurm):
    slurm = make_slurm(2)
    done = slurm.cluster.head.run(["srun", "-N2", "-n4", "hostname"], env=slurm.env)
    assert sorted(done.stdout.split()) == ["node1", "node1", "node2", "node2"], done.stderr


def test_an_allocation_is_described_in_the_environment(make_slurm):
    slurm = make_slurm(2)
    words = [
        "salloc",
        "-N2",
        "-n2",
        "sh",
        "-c",
        'hostname; echo "$SLURM_JOB_NODELIST"; srun hostname',
    ]
    first, hosts, *tasks = slurm.cluster.head.run(words, env=slurm.env).stdout.split()
    assert (first, hosts, sorted(tasks)) == ("head", "node[1-2]", ["node1", "node2"])


def test_a_cancelled_job_leaves_no_process(make_slurm, wait_for):
    slurm = make_slurm(1)
    head, (node,) = slurm.cluster.head, slurm.cluster.nodes
    with head.start(["srun", "-J", "long", "sleep", "1234"], env=slurm.env) as job:
        wait_for(lambda: node.processes("sleep 1234"), "a task in node1")
        assert head.run(["scancel", "-n", "long"], env=slurm.env).returncode == 0
        assert job.wait(timeout=20) != 0
    wait_for(lambda: not node.processes("sleep 1234"), "an end of the task")
