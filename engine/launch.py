"""Turns a launch into an argv by filling the launcher's YAML. The only module that builds one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .hosts import HOSTFILE, Host, is_local
from .launcher import SETTINGS, Launcher

# The job and the run's name travel to every rank in these variables.
JOB_VARIABLE = "MLPS_JOB"
RUN_VARIABLE = "MLPS_RUN_ID"

# A longer list of hosts goes into a hostfile: the kernel takes 128 KiB in one word, and an argv
# that is archived for every stage has to stay readable.
MAX_HOSTS_WORD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Argv:
    """The words that start a launch, and the text of the hostfile that they name, if any."""

    words: tuple[str, ...]
    hostfile: str | None = None


def build_argv(
    launcher: Launcher,
    command: Sequence[str],
    *,
    hosts: Sequence[Host],
    program: str | None = None,
    variables: Sequence[str] = (),
) -> Argv:
    """The argv that starts `command` once for each rank, block-wise over the hosts.

    `program` is the launcher's program where it was found; its bare name otherwise. `variables` are
    the names of those that ranks get.
    """
    entries = [_entry(launcher.host_format, host) for host in hosts]
    named = ",".join(entries)
    part = _hosts_part(launcher, hosts, named)
    words = {
        "{ranks}": str(sum(host.ranks for host in hosts)),
        "{ranks_per_host}": str(hosts[0].ranks),
        "{host_count}": str(len(hosts)),
        "{hosts}": named,
        "{hostfile}": HOSTFILE,
        "{ssh}": launcher.ssh or "",
        **{f"{{{name}}}": value for name, value in launcher.settings.items()},
    }
    lists: dict[str, Sequence[str]] = {
        "{hosts}": launcher.parts.get(part) or (),
        "{forward}": tuple(_forward(launcher, variables)),
        "{extra_args}": launcher.extra_args,
        "{command}": tuple(command),
    }
    for name in SETTINGS:
        lists[f"{{{name}}}"] = (launcher.parts.get(name) or ()) if name in launcher.settings else ()
    first = () if launcher.program is None else (program or launcher.program,)
    lines = [f"{_entry(launcher.hostfile_format, host)}\n" for host in hosts]
    return Argv(
        words=(*first, *_fill(launcher.argv, words, lists)),
        hostfile="".join(lines) if part == "hostfile" else None,
    )


def rank_variables(launcher: Launcher, present: Collection[str]) -> tuple[str, ...]:
    """Names of all variables that ranks get, the job's own first; `present` can be forwarded.

    Those of the launcher in order of their names, as an archived job has them.
    """
    forwarded = [name for name in launcher.forward_env if name in present or name == "PATH"]
    return tuple(dict.fromkeys((JOB_VARIABLE, RUN_VARIABLE, *forwarded, *sorted(launcher.env))))


def _entry(form: str, host: Host) -> str:
    return form.replace("{host}", host.name).replace("{ranks}", str(host.ranks))


def _hosts_part(launcher: Launcher, hosts: Sequence[Host], named: str) -> str:
    """Which arguments name the hosts: those for this machine, a word, or a file."""
    if launcher.parts.get("local") is not None and is_local([host.name for host in hosts]):
        return "local"
    is_long = len(named) > MAX_HOSTS_WORD_BYTES
    return "hostfile" if is_long and launcher.parts.get("hostfile") is not None else "hosts"


def _forward(launcher: Launcher, variables: Sequence[str]) -> Iterator[str]:
    for name in variables:
        for word in launcher.parts.get("forward") or ():
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
