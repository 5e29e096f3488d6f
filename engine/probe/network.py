"""The network interfaces of this host that carry data out of it."""

from __future__ import annotations

import re
import socket
from typing import Any

from .procfs import whole
from .tree import UNKNOWN, Tree

_NET = "/sys/class/net"
_TYPES = {"1": "ethernet", "32": "infiniband"}
_CONTAINER_KINDS = ("veth", "macvlan", "ipvlan", "netkit")
_NO_ARP = 0x80  # IFF_NOARP, which dummy and ifb have


def interfaces(tree: Tree) -> list[dict[str, Any]] | str:
    """Facts of each physical interface and bond, or of a container's virtual ones."""
    names = tree.names(_NET)
    if not names:
        return tree.unknown("nics", f"{_NET}: nothing there")
    if tree.is_host:
        # A /sys from before this process entered its network namespace shows those of another.
        own = {(name, str(index)) for index, name in socket.if_nameindex()}
        names = [name for name in names if (name, _line(tree, f"{name}/ifindex")) in own]
        if set(names) <= {"lo"} and len(own) > 1:
            return tree.unknown("nics", f"{_NET} shows another network namespace")
    bonds = {name: slaves(tree, name) for name in names if tree.exists(f"{_NET}/{name}/bonding")}
    inside = {slave for found in bonds.values() for slave in found}
    physical = [name for name in names if _is_physical(tree, name) and name not in inside]
    nics = [_nic(tree, name) for name in physical]
    nics += [_bond(tree, name, found) for name, found in bonds.items() if found]
    if not nics:
        nics = [{**_nic(tree, name), "kind": "virtual"} for name in names if _leaves(tree, name)]
    return sorted(nics, key=lambda nic: str(nic["name"]))


def slaves(tree: Tree, bond: str) -> list[str]:
    """Names of the interfaces in a bond."""
    return tree.text(f"{_NET}/{bond}/bonding/slaves").split()


def _is_physical(tree: Tree, name: str) -> bool:
    """Whether there is hardware behind an interface, counted by no other interface.

    A virtual function below a synthetic interface (Azure, virtio failover) is counted there.
    """
    if not tree.exists(f"{_NET}/{name}/device"):
        return False
    master = tree.real(f"{_NET}/{name}/master").rpartition("/")[2]
    return master == "master" or not tree.exists(f"{_NET}/{master}/device")


def _leaves(tree: Tree, name: str) -> bool:
    """Whether a virtual interface is up and its other end is outside, as in a container."""
    path = f"{_NET}/{name}"
    if _line(tree, f"{name}/operstate") not in ("up", "unknown") or tree.exists(f"{path}/master"):
        return False
    kind = re.search(r"(?m)^DEVTYPE=(.*)$", tree.text(f"{path}/uevent"))
    if kind:
        return kind[1] in _CONTAINER_KINDS
    # veth has no DEVTYPE, and the number of its other end may be the same as its own.
    if _line(tree, f"{name}/type") != "1" or tree.exists(f"{path}/tun_flags"):
        return False
    flags = re.fullmatch(r"0x([0-9a-f]{1,8})", _line(tree, f"{name}/flags"))
    speaks_arp = flags is not None and not int(flags[1], 16) & _NO_ARP
    own, other = whole(_line(tree, f"{name}/ifindex")), whole(_line(tree, f"{name}/iflink"))
    return speaks_arp or (bool(other) and own != other)


def _nic(tree: Tree, name: str) -> dict[str, Any]:
    what = f"nics.{name}"
    kind = _TYPES.get(_line(tree, f"{name}/type"), UNKNOWN)
    if kind == UNKNOWN:
        tree.unknown(f"{what}.kind", f"type {_line(tree, f'{name}/type') or 'not there'}")
    return {
        "name": name,
        "kind": kind,
        "speed_mbit_s": _speed_mbit_s(tree, what, name),
        "driver": _driver(tree, what, name),
        "mtu": tree.fact(f"{what}.mtu", f"{_NET}/{name}/mtu", whole),
        "state": tree.fact(f"{what}.state", f"{_NET}/{name}/operstate", _state),
        "slaves": [],
    }


def _bond(tree: Tree, name: str, found: list[str]) -> dict[str, Any]:
    """A bond: as fast as its slaves together, or as one of them where only one is active."""
    facts = {**_nic(tree, name), "kind": "bond", "slaves": found}
    speeds = [_speed_mbit_s(tree, f"nics.{name}.{slave}", slave) for slave in found]
    known = [speed for speed in speeds if isinstance(speed, int)]
    one_active = _line(tree, f"{name}/bonding/mode").startswith("active-backup")
    if len(known) == len(found):
        tree.errors.pop(f"nics.{name}.speed_mbit_s", None)
        facts["speed_mbit_s"] = max(known) if one_active else sum(known)
    else:
        facts["speed_mbit_s"] = tree.unknown(f"nics.{name}.speed_mbit_s", "a slave does not say")
    return facts


def _speed_mbit_s(tree: Tree, what: str, name: str) -> int | str:
    speed = whole(_line(tree, f"{name}/speed"))
    # -1 and 2^32-1 are what drivers say without a link, 0 what some say that never know.
    if speed and speed != 0xFFFFFFFF:
        return speed
    rate = _infiniband_rate_mbit_s(tree, name)
    return rate or tree.unknown(f"{what}.speed_mbit_s", "the driver does not say (no link?)")


def _infiniband_rate_mbit_s(tree: Tree, name: str) -> int | None:
    """Rate of the port of an IPoIB interface: "200 Gb/sec (4X HDR)"."""
    port = _line(tree, f"{name}/dev_port")
    number = (whole(port) or 0) + 1
    for adapter in tree.names(f"{_NET}/{name}/device/infiniband"):
        text = tree.text(f"{_NET}/{name}/device/infiniband/{adapter}/ports/{number}/rate")
        rate = re.match(r"([0-9]+(?:\.[0-9]+)?) Gb/sec", text)
        if rate:
            return round(float(rate[1]) * 1000)
    return None


def _driver(tree: Tree, what: str, name: str) -> str:
    if not tree.exists(f"{_NET}/{name}/device"):
        kind = re.search(r"(?m)^DEVTYPE=(.+)$", tree.text(f"{_NET}/{name}/uevent"))
        return kind[1] if kind else "virtual"
    driver = tree.real(f"{_NET}/{name}/device/driver").rpartition("/")[2]
    return driver if driver != "driver" else tree.unknown(f"{what}.driver", "no driver link")


def _state(text: str) -> str | None:
    state = text.strip()  # some drivers never say, and then the kernel says "unknown"
    return None if state == UNKNOWN else state


def _line(tree: Tree, path: str) -> str:
    return tree.text(f"{_NET}/{path}").strip()
