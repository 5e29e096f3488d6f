"""The network interfaces that carry what this host receives and sends, and their counts.

Physical ones, which have a device: the links of a bond, but not the bond, nor what else is made of
them. In a container without any, the virtual ones that lead out of it. InfiniBand counts at its
ports, past the kernel's network; RDMA over Ethernet does as well, but counts nowhere in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .counts import ROOT, Counter, Counts

# /sys/class/net/*/type of IP over InfiniBand.
_IPOIB = "32"
# Kinds of virtual interfaces that lead out of a container, as uevent names them; veth has no name.
_LEADING_OUT = ("", "veth", "macvlan", "ipvlan")
_IS_UP = 1
# Of a line of /proc/net/dev.
_RECEIVED = 0
_SENT = 8
# Ports of InfiniBand count in words.
_WORD_BYTES = 4


def network_counters(machine: str, root: Path = ROOT) -> list[Counter]:
    """What counts the bytes that this host receives and sends.

    Interfaces count for each network namespace apart, ports of InfiniBand for the whole machine.
    """
    counters = []
    ports = _ports(root, "InfiniBand")
    if ports:
        read = partial(_read_ports, ports)
        names = [f"{port.parts[-3]}/{port.name}" for port in ports]
        facts = {"interfaces": names}
        counters.append(
            Counter(kind="network", machine=machine, name="infiniband", facts=facts, read=read)
        )
    dev, namespace = root / "proc/self/net/dev", root / "proc/self/ns/net"
    try:
        names = interfaces(dev.read_text("utf-8", "replace"), root, ipoib=not ports)
        apart = f"{machine} {namespace.stat().st_ino}"
    except OSError:
        return counters
    if names:
        unseen = sorted({port.parts[-3] for port in _ports(root, "Ethernet")})
        facts = {"interfaces": names} | ({"unseen": unseen} if unseen else {})
        read = partial(_read_interfaces, dev, names)
        counters.append(
            Counter(kind="network", machine=apart, name="interfaces", facts=facts, read=read)
        )
    return counters


def interfaces(dev: str, root: Path = ROOT, *, ipoib: bool) -> list[str]:
    """Interfaces that count, of those that a text of /proc/net/dev lists."""
    net = root / "sys/class/net"
    listed = [name for name in _lines(dev) if name != "lo"]
    physical = [name for name in listed if (net / name / "device").exists()]
    if not physical:
        return [name for name in listed if _leads_out(net / name)]
    return [name for name in physical if ipoib or _read_word(net / name / "type") != _IPOIB]


def interface_counts(dev: str, names: Sequence[str]) -> Counts:
    """What these interfaces moved, by a text of /proc/net/dev; raises ValueError without one."""
    lines = _lines(dev)
    if missing := [name for name in names if len(lines.get(name, ())) <= _SENT]:
        raise ValueError(f"no count of {', '.join(missing)}")
    return Counts(
        sum(int(lines[name][_RECEIVED]) for name in names),
        sum(int(lines[name][_SENT]) for name in names),
    )


def _lines(dev: str) -> dict[str, list[str]]:
    """Words of the line of each interface; the first number may touch the colon."""
    parts = (line.partition(":") for line in dev.splitlines())
    return {name.strip(): words.split() for name, colon, words in parts if colon}


def _leads_out(interface: Path) -> bool:
    """Whether an interface that is no device is up and carries what leaves this container."""
    if not interface.exists():  # /sys is another namespace's: nothing else is known of it
        return True
    try:
        up = int(_read_word(interface / "flags"), 16) & _IS_UP
    except ValueError:
        return False
    leading = _read_word(interface / "iflink") != _read_word(interface / "ifindex")
    # What is a bridge's port here leads into other containers.
    inward = (interface / "brport").exists()
    return bool(up) and leading and not inward and _kind(interface) in _LEADING_OUT


def _kind(interface: Path) -> str:
    lines = _read_text(interface / "uevent").splitlines()
    return next((line[8:] for line in lines if line.startswith("DEVTYPE=")), "")


def _ports(root: Path, link_layer: str) -> list[Path]:
    found = sorted(root.glob("sys/class/infiniband/*/ports/*"))
    return [port for port in found if _read_text(port / "link_layer").strip() == link_layer]


def _read_interfaces(dev: Path, names: Sequence[str]) -> Counts:
    return interface_counts(dev.read_text("utf-8", "replace"), names)


def _read_ports(ports: Sequence[Path]) -> Counts:
    received, sent = (
        sum(int((port / "counters" / name).read_text("ascii")) for port in ports)
        for name in ("port_rcv_data", "port_xmit_data")
    )
    return Counts(received * _WORD_BYTES, sent * _WORD_BYTES)


def _read_word(path: Path) -> str:
    return _read_text(path).strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
