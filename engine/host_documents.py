"""The facts of a job's hosts as hosts-start.json and hosts-end.json hold them, and their sums.

What hosts share stands there once, so that a thousand hosts alike take little more than eight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document, canonical_json
from .host_rules import Traits, network_of
from .hosts import Slots, expand_hosts, host_patterns
from .reach import Probed

HOSTS_SCHEMA = 1

UNKNOWN = "unknown"
NO_LIMIT = "none"

# What is a host's own, or changes from moment to moment.
OWN = ("mlps_facts", "unix_s", "identity", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The facts of all hosts at one moment, by the job's names for them, in its order.

    `clock_offset_s` tells how far a host's clock is ahead of that of the machine that asked.
    """

    facts: Mapping[str, Document]
    clock_offset_s: Mapping[str, float | None]
    without_facts: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All hosts, those with facts first."""
        return (*self.facts, *self.without_facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the machines of a job; None where a host does not tell.

    Hosts that are containers of one machine (by the id of its boot) count its cores once, and of
    its memory no more than there is.
    """

    hosts: int
    machines: int
    memory_bytes: int | None
    least_memory_bytes: int | None
    most_memory_bytes: int | None
    cores: int | None
    threads: int | None

    def as_document(self) -> Document:
        """What result.json holds of them."""
        return {
            "hosts": self.hosts,
            "machines": self.machines,
            "memory_bytes": _told(self.memory_bytes),
            "least_memory_bytes": _told(self.least_memory_bytes),
            "most_memory_bytes": _told(self.most_memory_bytes),
            "cores": _told(self.cores),
            "threads": _told(self.threads),
        }


def host_facts_of(probed: Sequence[Probed]) -> HostFacts:
    """What asking all hosts has brought."""
    known = [(host, host.facts) for host in probed if host.facts is not None]
    return HostFacts(
        facts={host.name: facts for host, facts in known},
        clock_offset_s={host.name: host.clock_offset_s for host, _ in known},
        without_facts={
            host.name: "it was not asked" if host.trouble is None else host.trouble.text
            for host in probed
            if host.facts is None
        },
    )


# ---------------------------------------------------------------- the document


def hosts_document(hosts: HostFacts) -> Document:
    """The facts for the archive: a section that several hosts share stands there once."""
    sections = dict.fromkeys(key for facts in hosts.facts.values() for key in facts)
    return {
        "schema": HOSTS_SCHEMA,
        "shared": {
            section: _groups(hosts.facts, section) for section in sections if section not in OWN
        },
        "own": {
            name: {
                "clock_offset_s": hosts.clock_offset_s[name],
                **{section: facts[section] for section in OWN if section in facts},
            }
            for name, facts in hosts.facts.items()
        },
        "without_facts": dict(hosts.without_facts),
        "totals": totals(hosts).as_document(),
    }


def hosts_text(hosts: HostFacts) -> bytes:
    """That document as a file: a line for each group of hosts and for each host."""
    document = hosts_document(hosts)
    lines = []
    for key, value in document.items():
        if not isinstance(value, dict) or key == "totals":
            lines.append(f'"{key}":{_compact(value)}')
            continue
        rows = [f"  {_compact(name)}:{_compact(row)}" for name, row in value.items()]
        lines.append(f'"{key}":{{\n' + ",\n".join(rows) + "\n }" if rows else f'"{key}":{{}}')
    return ("{\n " + ",\n ".join(lines) + "\n}\n").encode()


def read_hosts(document: Document) -> HostFacts:
    """The facts in a document. Raises KeyError, TypeError or ValueError for another form."""
    own: dict[str, Document] = {
        name: {key: value for key, value in row.items() if key != "clock_offset_s"}
        for name, row in document["own"].items()
    }
    for section, groups in document["shared"].items():
        for group in groups:
            for host in expand_hosts(group["hosts"]):
                own[host.name][section] = group["value"]
    return HostFacts(
        facts=own,
        clock_offset_s={name: row["clock_offset_s"] for name, row in document["own"].items()},
        without_facts=dict(document["without_facts"]),
    )


def _groups(facts: Mapping[str, Document], section: str) -> list[Document]:
    """Hosts with one value, and the value."""
    found: dict[bytes, tuple[object, list[str]]] = {}
    for name, own in facts.items():
        if section in own:
            value = own[section]
            found.setdefault(canonical_json(value), (value, []))[1].append(name)
    return [
        {"hosts": host_patterns([Slots(name=name) for name in names]), "value": value}
        for value, names in found.values()
    ]


def _compact(value: object) -> str:
    return canonical_json(value).decode()


# ---------------------------------------------------------------- sums


def totals(hosts: HostFacts) -> Totals:
    """Memory and cores of all machines, each counted once."""
    machines: dict[str, list[Document]] = {}
    for name, facts in hosts.facts.items():
        machines.setdefault(machine_of(name, facts), []).append(facts)
    complete = not hosts.without_facts and bool(machines)
    memory = [_memory_bytes(group) for group in machines.values()] if complete else [None]
    known = [size for size in memory if size is not None]
    whole = len(known) == len(memory)
    return Totals(
        hosts=len(hosts.names),
        machines=len(machines),
        memory_bytes=sum(known) if whole else None,
        least_memory_bytes=min(known) if whole else None,
        most_memory_bytes=max(known) if whole else None,
        cores=_sum(machines.values(), "cores") if complete else None,
        threads=_sum(machines.values(), "threads") if complete else None,
    )


def machine_of(name: str, facts: Document) -> str:
    """What tells a host's machine from others: the id of its boot, else the host's own name."""
    boot_id = facts["identity"]["boot_id"]
    return name if boot_id == UNKNOWN else str(boot_id)


def host_memory_bytes(facts: Document) -> int | None:
    """Memory that a host may use: its own, or what its control group leaves it."""
    total, limit = facts["memory"]["total_bytes"], facts["memory"]["limit_bytes"]
    if not isinstance(total, int):
        return None
    return min(total, limit) if isinstance(limit, int) else total


def traits_of(hosts: HostFacts) -> list[Traits]:
    """In what hosts should be alike, by their facts."""
    return [
        Traits(
            name=name,
            memory_bytes=host_memory_bytes(facts),
            cores=_known(facts["cpu"]["threads"]),
            kernel=_known(facts["system"]["kernel"]),
            distribution=_known(f"{facts['system']['os']} {facts['system']['version']}"),
            network=network_of(facts["nics"]),
        )
        for name, facts in hosts.facts.items()
    ]


def _known(value: object) -> str | None:
    return None if UNKNOWN in str(value).split() else str(value)


def _memory_bytes(group: Sequence[Document]) -> int | None:
    sizes = [host_memory_bytes(facts) for facts in group]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return min(sum(known), max(int(facts["memory"]["total_bytes"]) for facts in group))


def _sum(machines: Iterable[Sequence[Document]], key: str) -> int | None:
    counts = [group[0]["cpu"][key] for group in machines]
    return sum(counts) if all(isinstance(count, int) for count in counts) else None


def _told(value: int | None) -> int | str:
    return UNKNOWN if value is None else value
