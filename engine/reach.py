"""Asks every host of a job for its facts: this one directly, others by ssh or by the launcher."""

from __future__ import annotations

import json
import math
import platform
import re
import shlex
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import psutil

from .canonical import Document
from .children import Answer, Command, Line, run_all
from .host_probe import MARK
from .hosts import LOCAL_NAMES
from .launch import Argv

# What a probe takes on a host that is busy, after the connection stands.
PROBE_MARGIN_S = 4.0

# Between a launch that brought nothing and the next try.
AGAIN_AFTER_S = 1.0

Kind = Literal[
    "name", "refused", "unreachable", "host_key", "host_key_changed", "login", "closed", "python",
    "mlps", "package", "probe", "rubbish", "limit", "launch_limit", "silent", "ssh",
]  # fmt: skip

# What ssh says, in order: the first that matches names the trouble.
SSH_TROUBLE: Sequence[tuple[str, Kind]] = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED", "host_key_changed"),
    (r"Host key verification failed|No .* host key is known", "host_key"),
    (r"Could not resolve hostname|Name or service not known|Unknown host", "name"),
    (r"Connection refused", "refused"),
    (r"timed out|No route to host|Network is unreachable|Host is down", "unreachable"),
    (r"Permission denied|Too many authentication failures", "login"),
    (r"Connection (closed|reset)|kex_exchange_identification|banner exchange", "closed"),
)

# What Python says on a host where the probe does not start.
PYTHON_TROUBLE: Sequence[tuple[str, Kind]] = (
    (r"No module named '?mlps", "mlps"),
    (r"No module named", "package"),
    (r"[Uu]nknown option:? -P", "python"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a host has no facts: the kind, and what was said about it."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What is known of a host of the job, by the job's name for it."""

    name: str
    here: bool
    facts: Document | None = None
    trouble: Trouble | None = None
    # How far its clock is ahead of this machine's.
    clock_offset_s: float | None = None


def is_here(name: str, addresses: frozenset[str]) -> bool:
    """Whether a host of a job is this machine. Nothing is looked up: that may take for ever."""
    own = platform.node()
    return name in LOCAL_NAMES or name in (own, own.partition(".")[0]) or name in addresses


def own_addresses() -> frozenset[str]:
    """All IP addresses of this machine."""
    families = (socket.AF_INET, socket.AF_INET6)
    return frozenset(
        entry.address.partition("%")[0]
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a host is asked: the program that answers, what it reads, the mark of its answer."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    mark: str = MARK


# ---------------------------------------------------------------- by ssh


def by_ssh(
    names: Sequence[str],
    question: Question,
    *,
    ssh: str,
    env: Mapping[str, str],
    limit_s: float,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Probed]:
    """Facts of each host, all hosts at a time. Adds nothing to known_hosts."""
    commands = [
        Command(
            argv=ssh_argv(ssh, name, question.argv, limit_s=limit_s),
            env=env,
            stdin=question.stdin,
            limit_s=limit_s + PROBE_MARGIN_S,
        )
        for name in names
    ]
    answers = run_all(commands, stopped=stopped)
    return {
        name: _probed(name, answer, question) for name, answer in zip(names, answers, strict=True)
    }


def ssh_argv(
    ssh: str, name: str, remote: Sequence[str], *, limit_s: float, options: Sequence[str] = ()
) -> tuple[str, ...]:
    """The words that run a command on a host, connected within the limit. Nobody is asked."""
    given = ("BatchMode=yes", f"ConnectTimeout={math.ceil(limit_s)}", "UpdateHostKeys=no")
    words = (word for option in (*given, *options) for word in ("-o", option))
    return (ssh, *words, "-T", name, shlex.join(remote))


def _probed(name: str, answer: Answer, question: Question) -> Probed:
    for line in answer.lines:
        facts = parse_facts(line.text, question.mark)
        if facts is not None:
            return _with_facts(Probed(name=name, here=False), facts, line)
    return Probed(name=name, here=False, trouble=trouble_of(answer, question.argv[0]))


def parse_facts(text: str, mark: str = MARK) -> Document | None:
    """The facts of a line, None for one that a shell or a launcher has printed."""
    start = text.find(f'{{"{mark}"')
    if start < 0:
        return None
    try:
        facts, _ = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None
    return facts if "unix_s" in facts else None


def _with_facts(probed: Probed, facts: Document, line: Line) -> Probed:
    offset_s = float(facts["unix_s"]) - line.unix_s
    return replace(probed, facts=facts, clock_offset_s=round(offset_s, 3))


def trouble_of(answer: Answer, python: str) -> Trouble:
    """Why an answer holds no facts, by what ssh or the remote Python has said."""
    if answer.start_error is not None:
        return Trouble(kind="ssh", text=answer.start_error)
    if answer.timed_out:
        return Trouble(kind="limit", text=answer.last_words)
    if answer.exit_status == 255:
        for pattern, kind in SSH_TROUBLE:
            if re.search(pattern, answer.stderr):
                return Trouble(kind=kind, text=answer.last_words)
        return Trouble(kind="closed", text=answer.last_words or "ssh ended with status 255")
    for pattern, kind in PYTHON_TROUBLE:
        # The last line: those before it may quote the source.
        if found := re.findall(f".*{pattern}.*", answer.stderr):
            return Trouble(kind=kind, text=found[-1].strip())
    if answer.exit_status in (126, 127):
        return Trouble(kind="python", text=f"{python} cannot be run")
    if answer.exit_status == 0:
        said = answer.lines[0].text.strip() if answer.lines else ""
        return Trouble(kind="rubbish", text=said[:80])
    words = answer.last_words or f"it ended with status {answer.exit_status}"
    return Trouble(kind="probe", text=words)


# ---------------------------------------------------------------- by the launcher


def by_launcher(
    names: Sequence[str],
    argv: Argv,
    *,
    env: Mapping[str, str],
    limit_s: float,
    mark: str = MARK,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, Probed]:
    """Facts of each host from one launch of the probe with one rank on each host.

    A host that the launch did not reach has the trouble `silent`, or `launch_limit` where it
    was ended at its limit, with the last words of the launcher. A launch that ended well although
    a host said nothing, or ended before any host said something, is made once more: srun was seen
    to lose answers, and to fail on nodes that still clear up after others.
    """
    command = Command(
        argv=argv.words, env=env, limit_s=limit_s + PROBE_MARGIN_S, hostfile=argv.hostfile
    )
    (answer,) = run_all([command], stopped=stopped)
    found = from_launch(names, answer, mark)
    silent = [host.facts is None for host in found.values()]
    if (answer.exit_status == 0 and any(silent)) or (answer.exit_status and all(silent)):
        time.sleep(AGAIN_AFTER_S)
        (answer,) = run_all([command], stopped=stopped)
        again = from_launch(names, answer, mark)
        found |= {name: again[name] for name, host in found.items() if host.facts is None}
    return found


def from_launch(names: Sequence[str], answer: Answer, mark: str) -> dict[str, Probed]:
    """Facts of each host from what a launch on these hosts has answered."""
    found: dict[str, Probed] = {}
    for line in answer.lines:
        facts = parse_facts(line.text, mark)
        name = None if facts is None else name_of(str(facts[mark]), names)
        if facts is not None and name is not None and name not in found:
            found[name] = _with_facts(Probed(name=name, here=False), facts, line)
    kind: Kind = "launch_limit" if answer.timed_out else "silent"
    silent = Trouble(kind=kind, text=answer.start_error or _last_words(answer))
    return {name: found.get(name, Probed(name=name, here=False, trouble=silent)) for name in names}


def _last_words(answer: Answer) -> str:
    """What a launcher said last, which may be of no concern, and how it ended."""
    if answer.exit_status is None:
        return answer.last_words
    ended = f"it ended with status {answer.exit_status}"
    return f"{answer.last_words} ({ended})" if answer.last_words else ended


def name_of(host: str, names: Sequence[str]) -> str | None:
    """The job's name for a host that calls itself `host`."""
    if host in names:
        return host
    if len(names) == 1:
        return names[0]
    short = host.partition(".")[0]
    return next((name for name in names if name.partition(".")[0] == short), None)
