"""Fixtures of the tests that need several hosts; without what they need the tests are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster import hosts, slurm
from cluster.hosts import Cluster, make_cluster
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
