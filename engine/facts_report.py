"""What `mlps facts` shows: the machines of a cluster, those that are alike together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from .canonical import Document
from .host_documents import NO_LIMIT, UNKNOWN, HostFacts, Totals, hosts_document, totals
from .hosts import host_ranges
from .rules import Finding
from .tables import numbered, write_styled
from .units import GIB

# More kinds of hosts are not read one by one.
MOST_KINDS = 12

_LABEL = 13


def write_facts(out: TextIO, hosts: HostFacts, findings: Sequence[Finding]) -> None:
    """Write the facts of all hosts for people, each kind of host once."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, facts in hosts.facts.items():
        kinds.setdefault(tuple(_lines(facts)), []).append(name)
    for lines, names in list(kinds.items())[:MOST_KINDS]:
        write_styled(out, "bold", host_ranges(names), "\n")
        out.writelines(f"  {line}\n" for line in lines)
        out.write("\n")
    if len(kinds) > MOST_KINDS:
        out.write(f"and {len(kinds) - MOST_KINDS} kinds of hosts more; --json has all\n\n")
    for said, names in _silent(hosts):
        write_styled(out, "bold red", host_ranges(names), f": no facts: {said}\n")
    out.write(f"{_in_all(totals(hosts))}\n")
    for finding in findings:
        style = "yellow" if finding.severity == "warning" else "cyan"
        write_styled(out, style, finding.severity, f"{str(finding)[len(finding.severity) :]}\n")


def facts_document(hosts: HostFacts, findings: Sequence[Finding]) -> Document:
    """The same for programs."""
    return hosts_document(hosts) | {"findings": [finding.as_document() for finding in findings]}


def _silent(hosts: HostFacts) -> Iterator[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name, said in hosts.without_facts.items():
        groups.setdefault(said, []).append(name)
    yield from groups.items()


def _in_all(sums: Totals) -> str:
    hosts = f"{sums.hosts} host{'' if sums.hosts == 1 else 's'}"
    if sums.machines != sums.hosts and sums.memory_bytes is not None:
        hosts += f" on {sums.machines} machine{'' if sums.machines == 1 else 's'}"
    cores = "cores unknown" if sums.cores is None else f"{sums.cores} cores"
    memory = "memory unknown" if sums.memory_bytes is None else f"{_gib(sums.memory_bytes)} memory"
    return f"in all: {hosts}, {cores}, {memory}"


def _lines(facts: Document) -> Iterator[str]:
    """What a reader wants to know of a host, one line for each part of it."""
    for label, text in (
        ("system", _system(facts)),
        ("processors", _cpu(facts["cpu"])),
        ("memory", _memory(facts["memory"])),
        ("limits", _limits(facts["cgroup"])),
        ("network", _nics(facts["nics"])),
        ("data_dir", _place(facts["data_dir"], facts["blocks"])),
        ("results_dir", _results(facts)),
    ):
        if text:
            yield f"{label:<{_LABEL}}{text}"


def _system(facts: Document) -> str:
    system, identity = facts["system"], facts["identity"]
    words = [
        " ".join(word for word in (system["os"], system["version"]) if word != UNKNOWN),
        f"kernel {system['kernel']}",
        system["arch"],
    ]
    if identity["chassis"] != UNKNOWN:
        words.append(identity["chassis"])
    kinds = {"vm": "a virtual machine", "container": "a container"}
    words += [kinds[identity["virtual"]]] if identity["virtual"] in kinds else []
    return ", ".join(word for word in words if word)


def _cpu(cpu: Document) -> str:
    sockets = "" if cpu["sockets"] in (1, UNKNOWN) else f"{cpu['sockets']} x "
    counts = [
        numbered(cpu["cores"], "core"),
        numbered(cpu["threads"], "thread"),
        numbered(cpu["numa_nodes"], "NUMA node"),
    ]
    if cpu["allowed"] not in (cpu["threads"], UNKNOWN):
        counts.append(f"{cpu['allowed']} of them allowed")
    return f"{sockets}{cpu['model']}: {', '.join(counts)}"


def _memory(memory: Document) -> str:
    words = [_size(memory["total_bytes"])]
    if memory["limit_bytes"] not in (NO_LIMIT, UNKNOWN):
        words.append(f"limited to {_size(memory['limit_bytes'])}")
    if memory["swap_bytes"] not in (0, UNKNOWN):
        words.append(f"swap {_size(memory['swap_bytes'])}")
    return ", ".join(words)


def _limits(cgroup: Document) -> str:
    words = []
    if cgroup["cpu_cores"] not in (NO_LIMIT, UNKNOWN):
        words.append(f"processors as {cgroup['cpu_cores']:g} cores")
    if isinstance(cgroup["io"], list) and cgroup["io"]:
        words.append("I/O of the devices behind data_dir")
    return "; ".join(words)


def _nics(nics: object) -> str:
    if not isinstance(nics, list):
        return UNKNOWN
    return ", ".join(_nic(nic) for nic in nics) or "none"


def _nic(nic: Document) -> str:
    words = [str(word) for word in (nic["driver"],) if word != UNKNOWN]
    words += [f"MTU {nic['mtu']}"] if nic["mtu"] != UNKNOWN else []
    words += [str(nic["state"])] if nic["state"] not in ("up", UNKNOWN) else []
    speed = nic["speed_mbit_s"]
    head = f"{nic['name']} {'speed unknown' if speed == UNKNOWN else f'{speed / 1000:g} Gbit/s'}"
    return f"{head} ({', '.join(words)})" if words else head


def _place(place: Document | None, blocks: object) -> str:
    if place is None:
        return ""
    if place["type"] == UNKNOWN:
        return f"{place['path']}: file system unknown"
    missing = "" if place["exists"] is not False else " (does not exist yet)"
    text = f"{place['path']}{missing}: {place['type']} {place['source']} on {place['mount_point']}"
    if place["total_bytes"] != UNKNOWN:
        text += f", {_size(place['total_bytes'])}"
    known = {block["name"]: block for block in blocks} if isinstance(blocks, list) else {}
    names = place["blocks"] if isinstance(place["blocks"], list) else []
    devices = [_block(known[name]) for name in names if name in known]
    return f"{text}; {', '.join(devices)}" if devices else text


def _block(block: Document) -> str:
    words = [block["name"]]
    words += [str(block[key]) for key in ("kind", "model") if block[key] != UNKNOWN]
    words += [_size(block["size_bytes"])] if block["size_bytes"] != UNKNOWN else []
    return " ".join(words)


def _results(facts: Document) -> str:
    data, results = facts["data_dir"], facts["results_dir"]
    if data is not None and results is not None:
        where = ("mount_point", "source", "type")
        if all(data[key] == results[key] for key in where) and data["type"] != UNKNOWN:
            return f"{results['path']}: on the same file system"
    return _place(results, facts["blocks"])


def _size(size: object) -> str:
    return _gib(size) if isinstance(size, int) else str(size)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:,.1f} GiB"
