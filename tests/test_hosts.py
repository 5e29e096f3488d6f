"""Host lists and their ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.hosts import Slots, expand_hosts, host_patterns, host_ranges, is_ipv6, is_local


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        pytest.param(["a"], ("a",), id="a name"),
        pytest.param(["node[1-3]"], ("node1", "node2", "node3"), id="a range"),
        pytest.param(["node[08-11]"], ("node08", "node09", "node10", "node11"), id="zeros stay"),
        pytest.param(["n[1-2,7]x"], ("n1x", "n2x", "n7x"), id="parts and a tail"),
        pytest.param(["r[1-2]n[1-2]"], ("r1n1", "r1n2", "r2n1", "r2n2"), id="two ranges"),
        pytest.param(["b", "a[2-3]", "a1"], ("b", "a2", "a3", "a1"), id="order is kept"),
        pytest.param(["n[99-101]"], ("n99", "n100", "n101"), id="range grows a digit"),
    ],
)
def test_expand(patterns, names):
    assert names_of(patterns) == names


def names_of(patterns):
    return tuple(host.name for host in expand_hosts(patterns))


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("node1:4", [("node1", 4)]),
        ("node[1-2]:4", [("node1", 4), ("node2", 4)]),
        ("10.0.0.1", [("10.0.0.1", None)]),
        ("10.0.0.1:2", [("10.0.0.1", 2)]),
        ("::1", [("::1", None)]),
        ("2001:db8::17", [("2001:db8::17", None)]),
        ("fe80::1%eth0", [("fe80::1%eth0", None)]),
        ("[2001:db8::1]", [("2001:db8::1", None)]),
        ("[2001:db8::1]:4", [("2001:db8::1", 4)]),
        ("_gateway.example.org:1", [("_gateway.example.org", 1)]),
    ],
)
def test_slots_and_addresses(pattern, hosts):
    assert [(host.name, host.slots) for host in expand_hosts([pattern])] == hosts


NO_HOST = (
    "{!r} is no host; the forms are node1, node[01-08], node1:4 (slots), 10.0.0.1 and "
    "[2001:db8::1]:4"
)


@pytest.mark.parametrize(
    ("patterns", "text"),
    [
        pytest.param(["n[3-1]"], "'n[3-1]': the range '3-1' runs backwards", id="backwards"),
        pytest.param(
            ["n[1-]"], "'n[1-]': '1-' is not a range; the form is node[01-08,12]", id="no end"
        ),
        pytest.param(
            ["n[,1]"], "'n[,1]': '' is not a range; the form is node[01-08,12]", id="empty part"
        ),
        pytest.param(["a", "b", "a"], "host a is listed twice", id="twice"),
        pytest.param(["a:2", "a:3"], "host a is listed twice", id="twice with slots"),
        pytest.param(
            ["a:0"], "'a:0': ':0' is no number of slots; the form is node1:4", id="no slots"
        ),
        pytest.param(
            ["a:b"], "'a:b': ':b' is no number of slots; the form is node1:4", id="slots of letters"
        ),
        pytest.param(
            ["[::1]4"], "'[::1]4': '4' is no number of slots; the form is node1:4", id="no colon"
        ),
        pytest.param(
            ["[1:2]:4"], "'[1:2]:4': '1:2' is no IPv6 address", id="an address that is none"
        ),
        pytest.param(["-oProxyCommand=x"], NO_HOST.format("-oProxyCommand=x"), id="a switch"),
        pytest.param(["a b"], NO_HOST.format("a b"), id="a space"),
        pytest.param(["a;b"], NO_HOST.format("a;b"), id="a shell's word"),
        pytest.param([""], NO_HOST.format(""), id="nothing"),
        pytest.param(["n[1-3]", "n2", "n3"], "host n2, n3 is listed twice", id="twice by range"),
    ],
)
def test_refused(patterns, text):
    with pytest.raises(ValueError) as caught:
        expand_hosts(patterns)
    assert str(caught.value) == text


@given(
    first=st.integers(0, 5000),
    count=st.integers(1, 200),
    width=st.integers(1, 6),
    tail=st.text("xyz"),
)
def test_range_stands_for_its_numbers(first, count, width, tail):
    last = first + count - 1
    names = names_of([f"node[{first:0{width}d}-{last:0{width}d}]{tail}"])
    assert names == tuple(f"node{number:0{width}d}{tail}" for number in range(first, last + 1))


@given(st.lists(st.integers(0, 9999), min_size=1, max_size=40, unique=True))
def test_a_list_of_numbers_stands_for_them_in_order(numbers):
    text = ",".join(map(str, numbers))
    assert names_of([f"n[{text}]"]) == tuple(f"n{number}" for number in numbers)


@pytest.mark.parametrize(
    ("names", "local"),
    [
        (["localhost"], True),
        (["127.0.0.1", "localhost"], True),
        (["localhost", "node1"], False),
        (["node1"], False),
    ],
)
def test_is_local(names, local):
    assert is_local(names) is local


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["node1", "node2", "node3", "login"], "node[1-3],login"),
        (["node08", "node09", "node10"], "node[08-10]"),
        (["n9", "n10"], "n[9-10]"),
        (["n09", "n010"], "n09,n010"),
        (["n1", "n3"], "n1,n3"),
        (["r1n1.lab", "r1n2.lab"], "r1n[1-2].lab"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.1,10.0.0.2"),
        (["::1", "::2"], "::1,::2"),
        ([], ""),
    ],
)
def test_ranges_are_short_and_read_well(names, text):
    assert host_ranges(names) == text


names = st.one_of(
    st.from_regex(r"[a-z]{1,3}[0-9]{0,3}(\.[a-z]{1,2})?", fullmatch=True),
    st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "2001:db8::1"]),
)
entries = st.builds(
    lambda name, slots: Slots(name=name, slots=slots), names, st.none() | st.integers(1, 4096)
)


@given(st.lists(entries, max_size=30, unique_by=lambda host: host.name))
def test_what_is_written_short_is_read_as_the_same_hosts(hosts):
    assert list(expand_hosts(host_patterns(hosts))) == hosts


@given(st.text(max_size=30))
def test_whatever_is_typed_is_hosts_or_one_clear_error(text):
    try:
        hosts = expand_hosts([text])
    except ValueError as error:
        assert repr(text) in str(error) or "listed twice" in str(error)
    else:
        assert all(host.name and not host.name.startswith("-") for host in hosts)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("::1", True), ("fe80::1%eth0", True), ("10.0.0.1", False), ("node1", False)],
)
def test_is_ipv6(name, answer):
    assert is_ipv6(name) is answer
