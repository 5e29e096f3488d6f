"""A directory on a cluster of a test, from which `mlps` is started in `head`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import CompletedProcess

from workplace import JobDirectory

from .hosts import Cluster, Running, Started


@dataclass(frozen=True)
class Place(JobDirectory):
    """A directory that all hosts share, and the environment of the shell in `head`."""

    cluster: Cluster
    env: Mapping[str, str]
    # Processes that belong to the hosts themselves.
    own: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        own = {process.outer_pid for _, process in self.cluster.processes()}
        object.__setattr__(self, "own", frozenset(own))
        self.data_dir.mkdir(parents=True)

    def run(
        self, *words: str, within: Sequence[str] = (), timeout: float = 120.0, **env: str
    ) -> CompletedProcess[str]:
        """Run `mlps`, or a program that runs it: `within=["salloc", "-N2"]`."""
        return self.cluster.head.run(
            [*within, self.mlps, *words], cwd=self.root, env={**self.env, **env}, timeout=timeout
        )

    def start(self, *words: str, within: Sequence[str] = (), **env: str) -> Started:
        return self.cluster.head.start(
            [*within, self.mlps, *words], cwd=self.root, env={**self.env, **env}
        )

    def small(self, *more: str) -> tuple[str, ...]:
        """Overrides of the small job with one rank on each host; `more` replaces its own."""
        ssh = f"launcher.ssh={self.cluster.ssh}"
        return super().small("cluster.ranks_per_host=1", ssh, *more)

    def leftovers(self) -> list[tuple[str, Running]]:
        """Processes of all hosts that were not there before; not a new sshd."""
        return [
            (host, process)
            for host, process in self.cluster.processes()
            if process.outer_pid not in self.own and "[listener]" not in process.command
        ]
