"""Which interfaces count: hardware once, bonds as one, of a container its ends."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from unpack import unpack

from mlps.engine.probe.network import interfaces
from mlps.engine.probe.tree import Tree

NET = "/sys/class/net"


def hardware(name, *, speed="1000", driver="e1000", **files):
    """An interface with a device behind it."""
    lines = {"type": "1", "mtu": "1500", "operstate": "up", "speed": speed, **files}
    text = "".join(f"= {NET}/{name}/{file} = {line}\n" for file, line in lines.items())
    text += f"= /sys/devices/pci/{name}/driver -> /sys/bus/drivers/{driver}\n"
    text += f"= /sys/bus/drivers/{driver}/\n"
    return text + f"= {NET}/{name}/device -> /sys/devices/pci/{name}\n"


def virtual(name, **files):
    lines = {"type": "1", "mtu": "1500", "operstate": "up", "flags": "0x1003", **files}
    return "".join(f"= {NET}/{name}/{file} = {line}\n" for file, line in lines.items())


def bond(name, slaves, mode):
    text = virtual(name, uevent="DEVTYPE=bond")
    text += f"= {NET}/{name}/bonding/slaves = {' '.join(slaves)}\n"
    return text + f"= {NET}/{name}/bonding/mode = {mode}\n"


def found(text, directory):
    tree = Tree(unpack(text, directory))
    return interfaces(tree), tree.errors


def test_an_interface_with_hardware(tmp_path):
    nics, errors = found(hardware("eth0") + virtual("veth0") + virtual("lo", type="772"), tmp_path)
    assert nics == [
        {
            "name": "eth0",
            "kind": "ethernet",
            "speed_mbit_s": 1000,
            "driver": "e1000",
            "mtu": 1500,
            "state": "up",
            "slaves": [],
        }
    ]
    assert errors == {}


@pytest.mark.parametrize(
    ("mode", "speed"),
    [("802.3ad 4", 35000), ("balance-rr 0", 35000), ("active-backup 1", 25000)],
)
def test_a_bond_is_as_fast_as_what_it_uses(tmp_path, mode, speed):
    text = hardware("a", speed="25000") + hardware("b", speed="10000")
    (nic,), errors = found(text + bond("bond0", ["a", "b"], mode), tmp_path)
    assert (nic["name"], nic["kind"], nic["slaves"]) == ("bond0", "bond", ["a", "b"])
    assert nic["speed_mbit_s"] == speed
    assert errors == {}


def test_a_bond_with_a_slave_without_link_has_no_known_speed(tmp_path):
    text = hardware("a", speed="25000") + hardware("b", speed="-1")
    (nic,), errors = found(text + bond("bond0", ["a", "b"], "802.3ad 4"), tmp_path)
    assert nic["speed_mbit_s"] == "unknown"
    assert errors["nics.bond0.speed_mbit_s"] == "a slave does not say"


def test_a_bond_without_slaves_is_none(tmp_path):
    nics, _ = found(hardware("eth0") + bond("bond0", [], "802.3ad 4"), tmp_path)
    assert [nic["name"] for nic in nics] == ["eth0"]


@pytest.mark.parametrize("speed", ["-1", "0", "4294967295", "", "fast"])
def test_no_speed_is_unknown(tmp_path, speed):
    (nic,), errors = found(hardware("eth0", speed=speed), tmp_path)
    assert nic["speed_mbit_s"] == "unknown"
    assert list(errors) == ["nics.eth0.speed_mbit_s"]


@pytest.mark.parametrize(("port", "speed"), [("0", 400000), ("1", 2500)])
def test_infiniband_says_the_rate_of_its_port(tmp_path, port, speed):
    text = hardware("ib0", type="32", speed="-1", dev_port=port)
    adapter = "/sys/devices/pci/ib0/infiniband/mlx5_0/ports"
    text += f"= {adapter}/1/rate = 400 Gb/sec (4X NDR)\n= {adapter}/2/rate = 2.5 Gb/sec (1X SDR)\n"
    (nic,), _ = found(text, tmp_path)
    assert (nic["kind"], nic["speed_mbit_s"]) == ("infiniband", speed)


def test_a_virtual_function_below_a_synthetic_interface_is_counted_there(tmp_path):
    text = hardware("eth0", driver="hv_netvsc") + hardware("enP1s2", driver="mlx5_core")
    nics, _ = found(text + f"= {NET}/enP1s2/master -> {NET}/eth0\n", tmp_path)
    assert [nic["name"] for nic in nics] == ["eth0"]


def test_a_port_of_a_bridge_still_counts(tmp_path):
    text = hardware("eth0") + virtual("br0", uevent="DEVTYPE=bridge")
    nics, _ = found(text + f"= {NET}/eth0/master -> {NET}/br0\n", tmp_path)
    assert [nic["name"] for nic in nics] == ["eth0"]


@pytest.mark.parametrize(
    ("files", "counts"),
    [
        ({"ifindex": "2", "iflink": "9"}, True),
        ({"ifindex": "2", "iflink": "2"}, True),
        ({"uevent": "DEVTYPE=macvlan"}, True),
        ({"uevent": "DEVTYPE=ipvlan"}, True),
        ({"operstate": "unknown"}, True),
        ({"operstate": "down"}, False),
        ({"uevent": "DEVTYPE=bridge"}, False),
        ({"uevent": "DEVTYPE=vlan", "ifindex": "2", "iflink": "9"}, False),
        ({"flags": "0x83", "ifindex": "2", "iflink": "2"}, False),
        ({"tun_flags": "0x1002"}, False),
        ({"type": "772"}, False),
        ({"master": "br0"}, False),
    ],
    ids=["veth", "veth of equal numbers", "macvlan", "ipvlan", "mute", "down", "bridge", "vlan",
         "dummy", "tap", "loopback", "port of a bridge"],
)  # fmt: skip
def test_without_hardware_the_ends_of_a_container_count(tmp_path, files, counts):
    nics, _ = found(virtual("eth0", **files), tmp_path)
    assert [nic["kind"] for nic in nics] == ["virtual"] * counts


def test_an_interface_without_files_is_named_all_the_same(tmp_path):
    (nic,), errors = found(f"= {NET}/eth0/device/\n", tmp_path)
    assert nic == {
        "name": "eth0",
        **dict.fromkeys(("kind", "speed_mbit_s", "driver", "mtu", "state"), "unknown"),
        "slaves": [],
    }
    assert {f"nics.eth0.{name}" for name in ("kind", "speed_mbit_s", "driver", "mtu", "state")} == {
        *errors
    }


@pytest.mark.parametrize(
    ("own", "expected"),
    [([(1, "lo")], []), ([(1, "lo"), (987654, "eth0")], "unknown")],
    ids=["no interface", "one that is elsewhere"],
)
def test_interfaces_of_another_namespace_are_not_taken_for_own(monkeypatch, own, expected):
    monkeypatch.setattr(socket, "if_nameindex", lambda: own)
    tree = Tree(Path("/"))
    assert interfaces(tree) == expected
    assert ("nics" in tree.errors) == (expected == "unknown")


def test_the_interfaces_of_this_host_are_there():
    nics = interfaces(Tree(Path("/")))
    physical = {path.parent.name for path in Path(NET).glob("*/device")}
    assert {nic["name"] for nic in nics} >= physical or any(nic["slaves"] for nic in nics)
    assert {nic["name"] for nic in nics} <= {path.name for path in Path(NET).iterdir()}
    assert "lo" not in {nic["name"] for nic in nics}
