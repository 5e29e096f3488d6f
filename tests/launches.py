"""A launch for tests that start none, or another program in its place."""

from __future__ import annotations

from mlps.engine.hosts import Host
from mlps.engine.plan import Launch


def make_launch(*ranks: int) -> Launch:
    """A run stage on node1, node2 ... with so many ranks on each."""
    hosts = tuple(
        Host(name=f"node{number}", slots=count, ranks=count)
        for number, count in enumerate(ranks, 1)
    )
    return Launch(
        index=1,
        stage="run",
        option=None,
        trial=0,
        measured=True,
        when="success",
        undone_by=None,
        argv=(),
        hosts=hosts,
        hostfile=None,
        time_limit_s=20,
        start_limit_s=20,
        silence_limit_s=20,
    )
