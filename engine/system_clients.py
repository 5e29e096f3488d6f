"""The clients of a system, as their hosts describe themselves, and as somebody described them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from .canonical import Document, canonical_json, pretty_json
from .host_documents import UNKNOWN, HostFacts
from .rules import Finding
from .system_file import ROOT
from .tables import numbered
from .units import GIB

# Settings of the kernel that a description tells of.
SYSCTLS = ("vm.dirty_*", "net.core.*", "net.ipv4.tcp_*", "kernel.numa_balancing")

# By how much the memory of hosts may differ from what is described (Rules 2.1.9).
MEMORY_SHARE = 0.10

_INTERFACES = ("nvme", "sas", "sata")
_NETWORKS = ("ethernet", "infiniband")


def clients_of(hosts: HostFacts) -> list[Document]:
    """The hosts as a description has them: those that are alike once, with their quantity.

    What no host tells is null.
    """
    found: dict[bytes, tuple[Document, int]] = {}
    for facts in hosts.facts.values():
        node = _node(facts)
        form = canonical_json(node)
        found[form] = (node, found.get(form, (node, 0))[1] + 1)
    return [node | {"quantity": count} for node, count in found.values()]


def _node(facts: Document) -> Document:
    system, cpu = facts["system"], facts["cpu"]
    drives, networks = _drives(facts), _networks(facts["nics"])
    return {
        "friendly_description": None,
        "quantity": 0,
        "chassis": {
            "model_name": _known(facts["identity"]["chassis"]),
            "cpu_model": _known(cpu["model"]),
            "cpu_qty": _known(cpu["sockets"]),
            "cpu_cores": _known(cpu["cores"]),
            "memory_capacity": _gib(facts["memory"]["total_bytes"]),
        },
        **({"networking": networks} if networks else {}),
        **({"drives": drives} if drives else {}),
        "operating_system": {"name": _known(system["os"]), "version": _known(system["version"])},
        **_sysctl(facts.get("sysctl")),
    }


def _known(value: Any) -> Any:  # noqa: ANN401 - any fact
    return None if value == UNKNOWN else value


def _whole(value: float) -> float:
    """The same number, without a fraction that is none."""
    return int(value) if float(value).is_integer() else value


def _gib(size: object) -> int | None:
    return round(size / GIB) if isinstance(size, int) else None


def _networks(nics: object) -> list[Document]:
    """Interfaces that are alike once; what they carry only people know."""
    counted = Counter(
        (
            nic["kind"] if nic["kind"] in _NETWORKS else "other",
            nic["state"] if nic["state"] in ("up", "down") else None,
            None if nic["speed_mbit_s"] == UNKNOWN else _whole(nic["speed_mbit_s"] / 1000),
        )
        for nic in (nics if isinstance(nics, list) else [])
    )
    return [
        {"unit_count": count, "type": kind, "state": state}
        | ({"speed": speed, "traffic": None} if state == "up" else {})
        for (kind, state, speed), count in counted.items()
    ]


def _drives(facts: Document) -> list[Document]:
    """The drives behind data_dir; others are not part of what is measured."""
    place, blocks = facts["data_dir"], facts["blocks"]
    names = place["blocks"] if place and isinstance(place["blocks"], list) else []
    counted = Counter(
        (
            _known(block["model"]),
            block["kind"] if block["kind"] in _INTERFACES else "other",
            "HDD" if block["rotational"] is True else None,
            _known(block["size_bytes"]),
        )
        for block in (blocks if isinstance(blocks, list) else [])
        if block["name"] in names
    )
    return [
        {
            "unit_count": count,
            "vendor_name": None,
            "model_name": model,
            "interface": interface,
            "media_type": media,
            "capacity_in_GB": None if size is None else round(size / 1e9),
        }
        for (model, interface, media, size), count in counted.items()
    ]


def _sysctl(settings: object) -> Document:
    found = [
        {"name": name, "value": str(value)}
        for name, value in (settings.items() if isinstance(settings, dict) else ())
        if any(fnmatchcase(name, form) for form in SYSCTLS) and value != UNKNOWN
    ]
    return {"sysctl": found} if found else {}


# ---------------------------------------------------------------- against a description


def judge_clients(description: Document, hosts: HostFacts) -> Iterator[Finding]:
    """SYS-24 to SYS-27 of a description that fits the schema, by the facts of the hosts that ran.

    Hosts without facts leave what only facts tell unjudged.
    """
    system = description[ROOT]
    clients, ran = system["clients"], len(hosts.names)
    described = sum(client["quantity"] for client in clients)
    if described != ran:
        text = f"{described} clients are described, {ran} hosts ran"
        yield _finding("SYS-24", f"{ROOT}.clients", text)
    if ran > 1 and not system["solution"]["capabilities"]["multi_host"]:
        text = f"false, but {ran} hosts ran"
        yield _finding("SYS-26", f"{ROOT}.solution.capabilities.multi_host", text)
    if hosts.without_facts:
        return
    yield from _judge_memory(clients, hosts)
    drift = client_drift(clients, hosts)
    if drift:
        (first, *_) = [
            line for line in drift if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        text = f"the hosts say otherwise in {_changes(drift)}, first: {first[1:].strip()}"
        hint = "mlps system check FILE --against ARCHIVE shows all"
        yield Finding(
            rule="SYS-27", severity="warning", key=f"{ROOT}.clients", text=text, hint=hint
        )


def _finding(rule: str, key: str, text: str) -> Finding:
    return Finding(rule=rule, severity="error", key=key, text=text)


def _changes(drift: Sequence[str]) -> str:
    count = sum(1 for line in drift if line.startswith("+") and not line.startswith("+++"))
    count = max(count, sum(1 for line in drift if line[:1] == "-" and line[:3] != "---"))
    return numbered(count, "place")


def _judge_memory(clients: Sequence[Document], hosts: HostFacts) -> Iterator[Finding]:
    sizes = [facts["memory"]["total_bytes"] for facts in hosts.facts.values()]
    capacities = [client["chassis"]["memory_capacity"] for client in clients]
    if not all(isinstance(size, int) for size in sizes) or None in capacities:
        return
    told = sum(client["quantity"] * client["chassis"]["memory_capacity"] for client in clients)
    mean_told = told / sum(client["quantity"] for client in clients)
    mean = sum(sizes) / len(sizes) / GIB
    if abs(mean - mean_told) > MEMORY_SHARE * mean_told:
        text = f"{mean_told:,.1f} GiB a client are described, the hosts have {mean:,.1f} GiB"
        yield _finding("SYS-25", f"{ROOT}.clients.0.chassis.memory_capacity", text)


def client_drift(clients: Sequence[Document], hosts: HostFacts) -> list[str]:
    """A unified diff from what is described to what the hosts say, of what hosts can say.

    Memory within 10 % is the same. Empty where nothing differs.
    """
    said = sorted((_comparable(node) for node in clients_of(hosts)), key=canonical_json)
    told = sorted((_comparable(node) for node in clients), key=canonical_json)
    told = [_leaving(node, said[min(i, len(said) - 1)]) for i, node in enumerate(told)]
    # People describe some settings, and another kernel has others: what both tell is compared.
    known = _settings(told) & _settings(said)
    left, right = (
        pretty_json([_with_settings(node, known) for node in nodes]).decode().splitlines()
        for nodes in (told, said)
    )
    return list(difflib.unified_diff(left, right, "described", "hosts", lineterm="", n=1))


def _settings(nodes: Sequence[Document]) -> set[str]:
    return {name for node in nodes for name in node["sysctl"]}


def _with_settings(node: Document, names: Collection[str]) -> Document:
    settings = node["sysctl"].items()
    return node | {"sysctl": {name: value for name, value in settings if name in names}}


def _comparable(node: Document) -> Document:
    """What both hosts and people tell of a client."""
    chassis, system = node["chassis"], node["operating_system"]
    networks = [
        {key: network[key] for key in ("unit_count", "type", "state")}
        | {"speed": _whole(network["speed"]) if network.get("speed") else None}
        for network in node.get("networking", [])
    ]
    return {
        "quantity": node["quantity"],
        **{key: chassis.get(key) for key in ("cpu_model", "cpu_qty", "cpu_cores")},
        "memory_capacity": chassis.get("memory_capacity"),
        "operating_system": f"{system['name']} {system['version']}",
        "networking": sorted(networks, key=canonical_json),
        "sysctl": {
            each["name"]: " ".join(str(each["value"]).split())
            for each in node.get("sysctl", [])
            if any(fnmatchcase(each["name"], form) for form in SYSCTLS)
        },
    }


def _leaving(told: Document, said: Document) -> Document:
    """What is described, without what hosts do not know, and with their memory where it is near."""
    found = {key: value if said[key] is not None else None for key, value in told.items()}
    capacity, memory = told["memory_capacity"], said["memory_capacity"]
    if capacity and memory and abs(memory - capacity) <= MEMORY_SHARE * capacity:
        found["memory_capacity"] = memory
    speeds = {network["speed"] for network in said["networking"]}
    if None in speeds:
        found["networking"] = [network | {"speed": None} for network in told["networking"]]
    return found
