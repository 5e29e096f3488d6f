"""What a launcher is told, and what it cannot do."""

from __future__ import annotations

import pytest

from mlps.engine.errors import ConfigError
from mlps.engine.jobs import prepare

QUICK = "benchmark=kvcache/quick"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["launcher=process", "cluster.ranks_per_host=1", "launcher.interface=ib0"],
            "launcher.interface (command line: launcher.interface=ib0): launcher process has no "
            "argument for it",
        ),
        (
            ["launcher=srun", "launcher.interface=ib0"],
            "launcher.interface (command line: launcher.interface=ib0): launcher srun has no "
            "argument for it\n  hint: 'launcher.extra_args=[...]' takes any argument of srun",
        ),
        (
            ["launcher=mpich", "launcher.pmi=pmi2"],
            "launcher.pmi (command line: launcher.pmi=pmi2): launcher mpich has no argument for it",
        ),
        (
            ["launcher=process"],
            "launcher.name (conf/launcher/process.yaml): starts one rank, but the job has 2\n"
            "  hint: cluster.ranks_per_host=1 or launcher=mpich",
        ),
        (
            ["launcher=process", "cluster.hosts=[node1]", "cluster.ranks_per_host=1"],
            "launcher.name (conf/launcher/process.yaml): starts its rank on this machine, but the "
            "job's host is node1\n  hint: cluster=local, or launcher=mpich",
        ),
        (
            ["launcher=srun", "cluster.hosts=['a:2','b:1']", "cluster.ranks_per_host=slots"],
            "cluster.ranks_per_host (command line: cluster.ranks_per_host=slots): launcher srun "
            "starts as many ranks on every host, but these have 1, 2",
        ),
        (
            ["cluster.hosts=['2001:db8::1']"],
            "cluster.hosts (command line: cluster.hosts=['2001:db8::1']): launcher mpich does not "
            "take the address 2001:db8::1\n  hint: give it a name in /etc/hosts and list that",
        ),
    ],
)
def test_refused(words, text):
    with pytest.raises(ConfigError) as caught:
        prepare([QUICK, *words])
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("name", ["mpich", "openmpi", "openmpi4", "salloc"])
def test_hosts_may_differ_in_their_ranks(name):
    words = ["cluster.hosts=['a:2','b:1']", "cluster.ranks_per_host=slots", f"launcher={name}"]
    argv = prepare([QUICK, *words]).plan.launches[0].argv
    assert "a:2,b:1" in argv


@pytest.mark.parametrize(
    ("name", "setting"),
    [("mpich", "oversubscribe=true"), ("mpich", "run_as_root=true"), ("srun", "run_as_root=true")],
)
def test_a_setting_that_needs_no_argument_is_no_problem(name, setting):
    plain = prepare([QUICK, "cluster=2node", f"launcher={name}"])
    asked = prepare([QUICK, "cluster=2node", f"launcher={name}", f"launcher.{setting}"])
    assert asked.plan.launches[0].argv == plain.plan.launches[0].argv
