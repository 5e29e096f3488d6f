"""The hosts of a job and the ranks on each, from the keys of `cluster`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .canonical import Document
from .errors import Problem, problem_at
from .hosts import Host, Slots, expand_hosts, host_ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Hosts in order, with the ranks on each of them."""

    name: str
    hosts: tuple[Host, ...]
    python: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the hosts."""
        return tuple(host.name for host in self.hosts)

    @property
    def ranks(self) -> int:
        """Ranks in all."""
        return sum(host.ranks for host in self.hosts)

    @property
    def is_even(self) -> bool:
        """Whether all hosts have the same number of ranks."""
        return len({host.ranks for host in self.hosts}) == 1


def build_cluster(document: Document, where: Mapping[str, str], problems: list[Problem]) -> Cluster:
    """The cluster of a schema-checked job; adds to `problems` what does not fit together."""
    values = document["cluster"]
    try:
        listed = expand_hosts(values["hosts"])
    except ValueError as error:
        problems.append(problem_at("cluster.hosts", str(error), where))
        listed = (Slots(name="localhost"),)
    default_slots: int = values["slots_per_host"]
    slots = [host.slots or default_slots for host in listed]
    ranks = _ranks(document, slots, where, problems)
    hosts = tuple(
        Host(name=host.name, slots=most, ranks=count)
        for host, most, count in zip(listed, slots, ranks, strict=True)
    )
    problems += _slot_problems(values, hosts, where)
    return Cluster(name=values["name"], hosts=hosts, python=values["python"])


def _ranks(
    document: Document, slots: Sequence[int], where: Mapping[str, str], problems: list[Problem]
) -> list[int]:
    """Ranks of each host, by Rules 6.3.3.1: of a total, of a number for each, or of the slots."""
    values, count = document["cluster"], len(slots)
    total: int | None = values["ranks"]
    each: int | Literal["slots"] | None = values["ranks_per_host"]
    if each == "slots":
        if total not in (None, sum(slots)):
            text = f"{total} ranks, but the hosts have {sum(slots)} slots and each slot has a rank"
            problems.append(problem_at("cluster.ranks", text, where, hint="cluster.ranks=null"))
        return list(slots)
    if total is None:
        return [each or document["benchmark"]["ranks_per_host"]] * count
    per_host, rest = divmod(total, count)
    if rest or per_host == 0:
        text = f"{total} ranks cannot be the same number on each of {count} hosts"
        hint = f"cluster.ranks={max(per_host, 1) * count}"
        problems.append(problem_at("cluster.ranks", text, where, hint=hint))
    elif each not in (None, per_host):
        text = (
            f"{total} ranks on {count} hosts are {per_host} on each, but ranks_per_host is {each}"
        )
        hint = f"cluster.ranks_per_host={per_host}, or leave one of the two out"
        problems.append(problem_at("cluster.ranks", text, where, hint=hint))
    return [max(per_host, 1)] * count


def _slot_problems(
    values: Document, hosts: Sequence[Host], where: Mapping[str, str]
) -> list[Problem]:
    short = [host for host in hosts if host.ranks > host.slots]
    if not short:
        return []
    key = "cluster.ranks_per_host" if values["ranks"] is None else "cluster.ranks"
    first = short[0]
    if len(short) == len(hosts) and len({host.slots for host in hosts}) == 1:
        text = f"{first.ranks} ranks on a host, but it has {first.slots} slots"
    else:
        names = host_ranges([host.name for host in short if host.slots == first.slots])
        text = f"{first.ranks} ranks on {names}, but it has {first.slots} slots"
    default = first.slots == values["slots_per_host"]
    more = f"cluster.slots_per_host={first.ranks}" if default else "more slots for it"
    hint = f"fewer ranks, or {more}"
    return [problem_at(key, text, where, hint=hint)]
