"""How ranks are started: what the engine reads of a launcher's YAML, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from .canonical import Document
from .cluster import Cluster
from .errors import Problem, problem_at
from .hosts import is_ipv6, is_local

# Settings of a launcher that stand for arguments of its own, in `parts` under the same name.
SETTINGS = ("run_as_root", "oversubscribe", "interface", "binding", "pmi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How a group of ranks is started: arguments with places to fill in.

    `parts` are arguments that are used where they are needed; a launcher that has no such argument
    has None. `settings` are the settings that are not left alone, as text.
    """

    name: str
    program: str | None
    beside: str | None
    mpi: Literal["mpich", "openmpi", "intelmpi"] | None
    many_ranks: bool
    reach: Literal["ssh", "launcher", "none"]
    ssh: str | None
    ipv6: bool
    argv: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...] | None]
    host_format: str
    hostfile_format: str
    settings: Mapping[str, str]
    extra_args: tuple[str, ...]
    forward_env: tuple[str, ...]
    scheduler_env: tuple[str, ...]
    needs_env: tuple[str, ...]
    env: Mapping[str, str]
    died_patterns: tuple[str, ...]
    install: Mapping[str, str]

    @property
    def run_as_root(self) -> bool:
        """Whether it is told that it may run as root."""
        return "run_as_root" in self.settings


def build_launcher(values: Document) -> Launcher:
    """A launcher of a schema-checked job."""
    parts = values["parts"]
    return Launcher(
        name=values["name"],
        program=values["program"],
        beside=values["beside"],
        mpi=values["mpi"],
        many_ranks=values["ranks"] == "many",
        reach=values["reach"],
        ssh=values["ssh"],
        ipv6=values["ipv6"],
        argv=tuple(values["argv"]),
        parts={name: None if part is None else tuple(part) for name, part in parts.items()},
        host_format=values["host_format"],
        hostfile_format=values["hostfile_format"],
        settings={
            name: str(values[name]) for name in SETTINGS if values[name] not in (None, False)
        },
        extra_args=tuple(values["extra_args"]),
        forward_env=tuple(values["forward_env"]),
        scheduler_env=tuple(values["scheduler_env"]),
        needs_env=tuple(values["needs_env"]),
        env=dict(values["env"]),
        died_patterns=tuple(values["died_patterns"]),
        install={name: package for name, package in values["install"].items() if package},
    )


def launcher_problems(
    launcher: Launcher, cluster: Cluster, where: Mapping[str, str]
) -> Iterator[Problem]:
    """What a launcher cannot do for this job."""
    name = launcher.name
    if not launcher.many_ranks and cluster.ranks > 1:
        yield problem_at(
            "launcher.name",
            f"starts one rank, but the job has {cluster.ranks}",
            where,
            hint="cluster.ranks_per_host=1 or launcher=mpich",
        )
    elif not launcher.many_ranks and not is_local(cluster.names):
        yield problem_at(
            "launcher.name",
            f"starts its rank on this machine, but the job's host is {cluster.names[0]}",
            where,
            hint="cluster=local, or launcher=mpich",
        )
    for setting in launcher.settings:
        if launcher.parts.get(setting) is None:
            text = f"launcher {name} has no argument for it"
            hint = f"'launcher.extra_args=[...]' takes any argument of {launcher.program or name}"
            yield problem_at(f"launcher.{setting}", text, where, hint=hint)
    if not cluster.is_even and not _takes_uneven(launcher):
        counts = ", ".join(str(number) for number in sorted({host.ranks for host in cluster.hosts}))
        text = f"launcher {name} starts as many ranks on every host, but these have {counts}"
        yield problem_at("cluster.ranks_per_host", text, where, hint="cluster.ranks_per_host=1")
    addresses = [host for host in cluster.names if is_ipv6(host) and host != "::1"]
    if addresses and not launcher.ipv6:
        text = f"launcher {name} does not take the address {addresses[0]}"
        hint = "give it a name in /etc/hosts and list that"
        yield problem_at("cluster.hosts", text, where, hint=hint)


def _takes_uneven(launcher: Launcher) -> bool:
    """Whether hosts may have different numbers of ranks: no argument holds one number for all."""
    parts = [word for part in launcher.parts.values() for word in part or ()]
    return not any("{ranks_per_host}" in word for word in (*launcher.argv, *parts))
