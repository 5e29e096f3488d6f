"""Who is to blame for a launch that failed, in words: whom its launcher named, who is silent.

Names of hosts are as the job lists them where that can be told, else as the hosts name themselves.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from .hosts import host_ranges
from .plan import Launch
from .protocol import RankTable

# What the first rank on each of several hosts says before it waits for all others.
_STARTED = re.compile(r"^mlps: started on (\S+)$", re.MULTILINE)
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """Ranks or hosts in words, and the hosts of the job of which nothing can be expected now."""

    words: str
    hosts: tuple[str, ...] = ()


def blame_output(
    patterns: Sequence[str], texts: Sequence[str], launch: Launch, table: RankTable | None
) -> Blame | None:
    """The rank or the host that a launcher named in its output; the first pattern that fits."""
    for pattern in patterns:
        for text in texts:
            match = re.search(pattern, text)
            if match is not None:
                return _blame_match(match.groupdict(), launch, table)
    return None


def blame_silent(ranks: Sequence[int], launch: Launch, table: RankTable) -> Blame:
    """Ranks that are not heard: whole hosts of them in one word each."""
    parts, lost = [], []
    for name, here in _ranks_of_hosts(launch):
        silent = [rank for rank in here if rank in ranks]
        if silent == list(here):
            lost.append(name)
        if silent and silent == list(here) and len(here) > 1:
            parts.append(_host(name, here))
        else:
            parts += [table.name(rank) for rank in silent]
    more = f" and {len(parts) - _MOST_NAMED} more" if len(parts) > _MOST_NAMED else ""
    return Blame(words=", ".join(parts[:_MOST_NAMED]) + more, hosts=tuple(lost))


def blame_hosts(names: Sequence[str], launch: Launch) -> Blame:
    """Hosts of the job that were lost."""
    lost = [_host(name, ranks) for name, ranks in _ranks_of_hosts(launch) if name in names]
    return Blame(words=f"host {', '.join(lost)}", hosts=tuple(names))


def blame_start(launch: Launch, output: str, connected: Callable[[], Set[str]]) -> Blame | None:
    """Hosts of which nothing came before a limit; None where that cannot be told.

    Ranks say where they start. Where none has, `connected` gives the hosts' addresses from which
    the launcher's helpers have connected to it.
    """
    names = [host.name for host in launch.hosts]
    started = {_short(name) for name in _STARTED.findall(output)}
    here = [name for name in names if _short(name) in started]
    if not started:
        peers = connected()
        here = [name for name in names if not peers.isdisjoint(_addresses(name))]
    missing = [name for name in names if name not in here]
    if not here or not missing or len(here) < len(started):
        return None  # nothing is known, or the hosts call themselves by other names than the job
    return Blame(words=host_ranges(missing), hosts=tuple(missing))


def _addresses(name: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
    except OSError:
        return set()


def _blame_match(found: dict[str, str | None], launch: Launch, table: RankTable | None) -> Blame:
    host, pid = found.get("host"), found.get("pid")
    if pid is None and found.get("rank") is None:
        return _blame_host(host or "?", launch)
    rank = table.find(host=host, pid=int(pid or -1)) if table else None
    if rank is None and found.get("rank"):
        rank = int(found["rank"] or 0)
    if rank is not None and table is not None:
        return Blame(words=table.name(rank))
    named = f"rank {rank}" if rank is not None else "a rank"
    return Blame(words=named + (f" on {host}" if host else "") + (f" (pid {pid})" if pid else ""))


def _blame_host(name: str, launch: Launch) -> Blame:
    for listed, ranks in _ranks_of_hosts(launch):
        if _short(listed) == _short(name):
            return Blame(words=f"host {_host(listed, ranks)}", hosts=(listed,))
    return Blame(words=f"host {name}")


def _host(name: str, ranks: range) -> str:
    numbers = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]}-{ranks[-1]}"
    return f"{name} ({numbers})"


def _ranks_of_hosts(launch: Launch) -> Iterator[tuple[str, range]]:
    """The hosts with their ranks, which are numbered block-wise over them."""
    first = 0
    for host in launch.hosts:
        yield host.name, range(first, first + host.ranks)
        first += host.ranks


def _short(name: str) -> str:
    """A host's name without its domain; an address as it is."""
    return name if name.replace(".", "").isdigit() or ":" in name else name.partition(".")[0]


def parse_rank_ranges(text: str) -> Iterable[int]:
    """The ranks of "0-2,7". Raises ValueError."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
