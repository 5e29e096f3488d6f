"""Turns a launch into an argv by filling the launcher's YAML. The only module that builds one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .hosts import is_local
from .spec import Launcher

# The job and the run's name travel to every rank in these variables.
JOB_VARIABLE = "MLPS_JOB"
RUN_VARIABLE = "MLPS_RUN_ID"


def build_argv(
    launcher: Launcher, command: Sequence[str], *, hosts: Sequence[str], ranks_per_host: int
) -> tuple[str, ...]:
    """The argv that starts `command` once for each rank, block-wise over the hosts."""
    named = [
        launcher.host_format.replace("{host}", host).replace("{ranks}", str(ranks_per_host))
        for host in hosts
    ]
    words = {"{ranks}": str(ranks_per_host * len(hosts)), "{hosts}": ",".join(named)}
    lists = {
        "{hosts_argv}": () if is_local(hosts) else launcher.hosts_argv,
        "{forward}": tuple(_forward(launcher)),
        "{extra_args}": launcher.extra_args,
        "{command}": tuple(command),
    }
    program = () if launcher.program is None else (launcher.program,)
    return (*program, *_fill(launcher.argv, words, lists))


def rank_variables(launcher: Launcher) -> tuple[str, ...]:
    """Names of all variables that ranks get, the job's own first."""
    return tuple(dict.fromkeys((JOB_VARIABLE, RUN_VARIABLE, *launcher.forward_env, *launcher.env)))


def _forward(launcher: Launcher) -> Iterator[str]:
    for name in rank_variables(launcher):
        for word in launcher.forward_argv:
            yield word.replace("{name}", name)


def _fill(
    template: Sequence[str], words: Mapping[str, str], lists: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    for item in template:
        if item == "{command}" and item in lists:
            yield from lists[item]  # verbatim: a path may hold braces
        elif item in lists:
            yield from _fill(lists[item], words, {})
        else:
            for place, value in words.items():
                item = item.replace(place, value)
            yield item
