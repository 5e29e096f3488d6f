"""The probe on all hosts of a job: the facts of each, and the processes that watch them.

A host is asked in one of three ways: `here` on this machine, `ssh` each by itself, `launcher` all
by one launch with one process on each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from .bootstrap import boot_argument, boot_argv, payload
from .canonical import Document
from .children import Command, run_all
from .hosts import Host
from .launch import JOB_VARIABLE, RUN_VARIABLE, Argv, build_argv
from .plan import Plan
from .probe.facts import read_facts
from .rank_environment import find_program, rank_environment
from .reach import (
    PROBE_MARGIN_S,
    Probed,
    Question,
    Trouble,
    by_launcher,
    by_ssh,
    from_launch,
    is_here,
    own_addresses,
    ssh_argv,
)
from .samplers import Watched
from .spec import JobSpec

FACTS_MARK = "mlps_facts"

Via = Literal["ssh", "launcher", "here"]

# Launches at a time where each is for one host that was silent in the one for all.
LAUNCHES_AT_ONCE = 16
# Of a connection that lasts as long as the job: it is its own, and notices that its host has gone.
_LONG_SSH = (
    "ControlMaster=no", "ControlPath=none", "ServerAliveInterval=15", "ServerAliveCountMax=4",
)  # fmt: skip


def collect_facts(
    spec: JobSpec,
    plan: Plan,
    environ: Mapping[str, str],
    *,
    via: Via | None = None,
    python: str | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[Probed, ...]:
    """All hosts of the job in its order, with their facts or with why there are none.

    `via` None is what the launcher can; `python` None is that of the ranks.
    """
    ways = _Ways.of(spec, plan, environ, via=via, python=python)
    request = _request(spec, "facts")
    found: dict[str, Probed] = {}
    if ways.here:
        facts = read_facts(request)
        found |= {
            name: Probed(name=name, here=True, facts=facts, clock_offset_s=0.0)
            for name in ways.here
        }
    if ways.by_ssh:
        found |= by_ssh(
            ways.by_ssh,
            Question(argv=boot_argv(ways.python), stdin=payload(request), mark=FACTS_MARK),
            ssh=ways.ssh,
            env=ways.bare_env,
            limit_s=spec.preflight.ssh_limit_s,
            stopped=stopped,
        )
    if ways.by_launcher:
        found |= _facts_by_launcher(ways, request, stopped)
    out_of_reach = Trouble(kind="silent", text="it is not this machine, and nothing reaches it")
    return tuple(
        found.get(name, Probed(name=name, here=False, trouble=out_of_reach))
        for name in spec.cluster.names
    )


def watched_hosts(
    spec: JobSpec,
    plan: Plan,
    environ: Mapping[str, str],
    *,
    interval_s: float,
    via: Via | None = None,
    python: str | None = None,
) -> tuple[Watched, ...]:
    """The processes that bring the series of the job's hosts. Hosts out of reach have none."""
    ways = _Ways.of(spec, plan, environ, via=via, python=python)
    request = _request(spec, "series") | {"interval_s": interval_s, "life_line": "stdin"}
    watched = [
        Watched(
            names=(name,),
            argv=boot_argv(sys.executable),
            env=ways.bare_env,
            stdin=payload(request),
        )
        for name in ways.here
    ]
    limit_s = spec.preflight.ssh_limit_s
    remote = boot_argv(ways.python)
    watched += [
        Watched(
            names=(name,),
            argv=ssh_argv(ways.ssh, name, remote, limit_s=limit_s, options=_LONG_SSH),
            env=ways.bare_env,
            stdin=payload(request),
        )
        for name in ways.by_ssh
    ]
    if ways.by_launcher:
        # A rank's standard input may be closed from the beginning.
        argv = ways.launch(ways.by_launcher, request | {"life_line": "parent"})
        watched.append(
            Watched(
                names=tuple(host.name for host in ways.by_launcher),
                argv=argv.words,
                env=ways.env,
                hostfile=argv.hostfile,
                has_life_line=False,
            )
        )
    return tuple(watched)


def way_of(spec: JobSpec, via: Via | None) -> Via:
    """How the hosts of a job that are not this machine are asked; `here` where there are none."""
    addresses = own_addresses()
    if via != "launcher" and all(is_here(name, addresses) for name in spec.cluster.names):
        return "here"
    return via or ("here" if spec.launcher.reach == "none" else spec.launcher.reach)


def _request(spec: JobSpec, mode: str) -> Document:
    return {
        "mode": mode,
        "data_dir": str(spec.data_dir),
        "results_dir": str(spec.results_dir),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ways:
    """How each host of a job is reached, and with what."""

    spec: JobSpec
    plan: Plan
    env: Mapping[str, str]
    python: str
    here: tuple[str, ...]
    by_ssh: tuple[str, ...]
    by_launcher: tuple[Host, ...]

    @classmethod
    def of(
        cls,
        spec: JobSpec,
        plan: Plan,
        environ: Mapping[str, str],
        *,
        via: Via | None,
        python: str | None,
    ) -> _Ways:
        addresses = own_addresses()
        here = {
            host.name
            for host in spec.cluster.hosts
            if via != "launcher" and is_here(host.name, addresses)
        }
        others = tuple(host for host in spec.cluster.hosts if host.name not in here)
        way = via or spec.launcher.reach
        return cls(
            spec=spec,
            plan=plan,
            env=rank_environment(spec, "probe", environ),
            python=python or plan.python,
            here=tuple(name for name in spec.cluster.names if name in here),
            by_ssh=tuple(host.name for host in others) if way == "ssh" else (),
            by_launcher=tuple(replace(host, ranks=1) for host in others)
            if way == "launcher"
            else (),
        )

    @property
    def ssh(self) -> str:
        return self.spec.launcher.ssh or "ssh"

    @property
    def bare_env(self) -> Mapping[str, str]:
        """The environment of the ranks without the job, which a probe does not need."""
        own = (JOB_VARIABLE, RUN_VARIABLE)
        return {name: value for name, value in self.env.items() if name not in own}

    def launch(self, hosts: Sequence[Host], request: Document) -> Argv:
        """One process of the probe on each host. Its environment is `env`: it goes by names."""
        launcher = self.spec.launcher
        program = find_program(launcher.program or self.python, self.env, launcher.beside)
        return build_argv(
            launcher,
            (*boot_argv(self.python), boot_argument(request)),
            hosts=hosts,
            program=None if program is None else str(program),
            variables=self.plan.variables,
        )


def _facts_by_launcher(
    ways: _Ways, request: Document, stopped: Callable[[], bool]
) -> dict[str, Probed]:
    """One launch for all hosts. One that is lost may take all with it: the silent are asked again,
    each in a launch of its own."""
    hosts = ways.by_launcher
    limit_s = ways.spec.preflight.launch_limit_s
    found = by_launcher(
        [host.name for host in hosts],
        ways.launch(hosts, request),
        env=ways.env,
        limit_s=limit_s,
        mark=FACTS_MARK,
        stopped=stopped,
    )
    silent = [host for host in hosts if found[host.name].facts is None]
    if not silent or len(hosts) == 1:
        return found
    launches = [ways.launch([host], request) for host in silent]
    commands = [
        Command(
            argv=argv.words,
            env=ways.env,
            limit_s=limit_s + PROBE_MARGIN_S,
            hostfile=argv.hostfile,
        )
        for argv in launches
    ]
    answers = run_all(commands, at_once=LAUNCHES_AT_ONCE, stopped=stopped)
    for host, answer in zip(silent, answers, strict=True):
        found |= from_launch([host.name], answer, FACTS_MARK)
    return found
