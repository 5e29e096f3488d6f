"""Which interfaces of the network count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proc_trees import tree

from mlps.engines.io_core.counts import Counts
from mlps.engines.io_core.network import interface_counts, interfaces, network_counters

HEAD = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo
"""


def dev(**moved):
    """A text of /proc/net/dev of what each interface received and sent."""
    return HEAD + "".join(
        f"{name:>6}:{received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
        for name, (received, sent) in moved.items()
    )


def physical(name, kind=1):
    place = f"sys/class/net/{name}"
    return {f"{place}/device/": "", f"{place}/type": f"{kind}\n", f"{place}/flags": "0x1003\n"}


def virtual(name, kind="", *, up=True, link=9, more=""):
    place = f"sys/class/net/{name}"
    files = {
        f"{place}/flags": "0x1003\n" if up else "0x1002\n",
        f"{place}/ifindex": "2\n",
        f"{place}/iflink": f"{link}\n",
        f"{place}/uevent": (f"DEVTYPE={kind}\n" if kind else "") + f"INTERFACE={name}\n",
    }
    return files | ({f"{place}/{more}/": ""} if more else {})


def port(name, layer, received=0, sent=0):
    place = f"sys/class/infiniband/{name}/ports/1"
    return {
        f"{place}/link_layer": f"{layer}\n",
        f"{place}/counters/port_rcv_data": f"{received}\n",
        f"{place}/counters/port_xmit_data": f"{sent}\n",
    }


def host(tmp_path, moved, *files):
    """The counters of a host with these interfaces, by name."""
    texts = {"proc/self/net/dev": dev(**moved), "proc/self/ns/net": ""}
    root = tree(tmp_path, texts | {name: text for each in files for name, text in each.items()})
    return {counter.name: counter for counter in network_counters("boot", root)}


def test_physical_interfaces_count_and_what_is_made_of_them_does_not(tmp_path):
    moved = {"lo": (9, 9), "eth0": (10, 1), "eth1": (20, 2), "bond0": (30, 3), "veth7": (40, 4)}
    others = (virtual("bond0", "bond", link=2), virtual("veth7"))
    counters = host(tmp_path, moved, physical("eth0"), physical("eth1"), *others)
    assert counters["interfaces"].facts == {"interfaces": ["eth0", "eth1"]}
    assert counters["interfaces"].read() == Counts(30, 3)


def test_a_count_is_that_of_a_namespace_of_a_machine(tmp_path):
    counter = host(tmp_path, {"eth0": (1, 1)}, physical("eth0"))["interfaces"]
    namespace = (tmp_path / "proc/self/ns/net").stat().st_ino
    assert (counter.kind, counter.machine) == ("network", f"boot {namespace}")


LEADS_OUT = {
    "veth": (virtual("x"), True),
    "veth with a name": (virtual("x", "veth"), True),
    "macvlan": (virtual("x", "macvlan"), True),
    "ipvlan": (virtual("x", "ipvlan"), True),
    "down": (virtual("x", up=False), False),
    "bridge": (virtual("x", "bridge", link=2), False),
    "vlan": (virtual("x", "vlan"), False),
    "tunnel": (virtual("x", link=2), False),
    "into a container of its own": (virtual("x", more="brport"), False),
    "not of this /sys": ({}, True),
}


@pytest.mark.parametrize(("files", "counts"), LEADS_OUT.values(), ids=LEADS_OUT)
def test_in_a_container_what_leads_out_counts(tmp_path, files, counts):
    root = tree(tmp_path, files)
    assert interfaces(dev(lo=(1, 1), x=(1, 1)), root, ipoib=True) == (["x"] if counts else [])


def test_infiniband_counts_at_its_ports_and_ip_over_it_not_again(tmp_path):
    moved = {"eth0": (1, 2), "ib0": (9, 9)}
    nics = (physical("eth0"), physical("ib0", 32))
    counters = host(tmp_path, moved, *nics, port("mlx5_0", "InfiniBand", 100, 50))
    assert counters["infiniband"].read() == Counts(400, 200)
    assert counters["infiniband"].facts == {"interfaces": ["mlx5_0/1"]}
    assert counters["infiniband"].machine == "boot"
    assert counters["interfaces"].read() == Counts(1, 2)


def test_ip_over_infiniband_counts_where_no_port_is_seen(tmp_path):
    counters = host(tmp_path, {"ib0": (9, 8)}, physical("ib0", 32))
    assert counters["interfaces"].read() == Counts(9, 8)


def test_rdma_over_ethernet_is_named_but_not_counted(tmp_path):
    counters = host(tmp_path, {"eth0": (1, 2)}, physical("eth0"), port("mlx5_1", "Ethernet", 7, 7))
    assert list(counters) == ["interfaces"]
    assert counters["interfaces"].facts == {"interfaces": ["eth0"], "unseen": ["mlx5_1"]}


def test_without_interfaces_there_is_no_counter(tmp_path):
    assert host(tmp_path / "lo", {"lo": (1, 1)}) == {}
    assert network_counters("boot", tree(tmp_path / "none", {})) == []


def test_an_interface_that_is_gone_leaves_no_count(tmp_path):
    counter = host(tmp_path, {"eth0": (1, 1)}, physical("eth0"))["interfaces"]
    (tmp_path / "proc/self/net/dev").write_text(dev(lo=(1, 1)))
    with pytest.raises(ValueError, match="no count of eth0"):
        counter.read()


COUNT = st.integers(0, 2**64 - 1)


@given(st.dictionaries(st.text("abc0.-@", min_size=1), st.tuples(COUNT, COUNT), min_size=1))
def test_counts_are_the_sums_of_any_interfaces(moved):
    sums = Counts(*(sum(each) for each in zip(*moved.values(), strict=True)))
    assert interface_counts(dev(**moved), list(moved)) == sums


def test_this_machine_has_what_the_kernel_lists():
    assert all(min(counter.read()) >= 0 for counter in network_counters("boot"))
