"""What all ranks have read becomes one entry for each counter."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.io_core.counts import Counts
from mlps.engines.io_core.meter import Moved, Span
from mlps.engines.moved import counted, merge_moved


def moved(first, last, *, kind="device", machine="m", name="sda", window=None, facts=None):
    return Moved(
        kind=kind,
        machine=machine,
        name=name,
        facts={"device": name} if facts is None else facts,
        first=first if first is None else Counts(*first),
        last=last if last is None else Counts(*last),
        window=window if window is None else Span(length_s=window[0], moved=Counts(*window[1])),
    )


def test_hosts_that_are_containers_of_one_machine_have_one_count():
    ranks = [
        [moved((10, 0), (15, 7))],
        [moved((12, 1), (19, 5))],
        [moved((0, 0), (4, 0), machine="n")],
        [moved((3, 0), (4, 0), name="sdb")],
    ]
    found = merge_moved(ranks, ["node1", "node2", "node3", "node2"])["device"]
    assert found == [
        {"host": "node1", "device": "sda", "read_bytes": 9, "write_bytes": 7},
        {"host": "node3", "device": "sda", "read_bytes": 4, "write_bytes": 0},
        {"host": "node2", "device": "sdb", "read_bytes": 1, "write_bytes": 0},
    ]


def test_the_longest_window_holds():
    ranks = [[moved((0, 0), (9, 9), window=(length_s, (length_s, 1)))] for length_s in (2, 5, 3)]
    ranks.append([moved((0, 0), (9, 9))])
    (entry,) = merge_moved(ranks, ["a"] * 4)["device"]
    assert entry["window"] == {"length_s": 5, "read_bytes": 5, "write_bytes": 1}


def test_a_network_receives_and_sends():
    facts = {"interfaces": ["eth0"]}
    ranks = [[moved((1, 2), (3, 9), kind="network", facts=facts, window=(1.0, (1, 2)))]]
    assert merge_moved(ranks, ["a"])["network"] == [
        {
            "host": "a",
            "interfaces": ["eth0"],
            "receive_bytes": 2,
            "send_bytes": 7,
            "window": {"length_s": 1.0, "receive_bytes": 1, "send_bytes": 2},
        }
    ]


def test_a_mount_is_told_of_without_counts_and_a_device_is_not():
    mount = moved(None, None, kind="mount", facts={"type": "xfs"})
    found = merge_moved([[mount, moved(None, None)], []], ["a", "b"])
    assert found == {"device": [], "mount": [{"host": "a", "type": "xfs"}], "network": []}


def test_counts_that_began_anew_or_of_which_one_is_missing_are_none():
    assert merge_moved([[moved((9, 9), (1, 10))]], ["a"])["device"] == []
    assert merge_moved([[moved((9, 9), None)]], ["a"])["device"] == []
    # What one rank could not read another one has.
    (entry,) = merge_moved([[moved((9, 9), None)], [moved(None, (10, 12))]], ["a", "a"])["device"]
    assert (entry["read_bytes"], entry["write_bytes"]) == (1, 3)


@given(
    st.lists(st.integers(0, 2**40), min_size=2, max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=8),
)
def test_ranks_of_a_machine_moved_what_lies_between_the_first_and_the_last_reading(steps, spans):
    """Of a count that grows by `steps`, each rank reads from one to another."""
    spans = [sorted(at % len(steps) for at in span) for span in spans]
    total = [sum(steps[: at + 1]) for at in range(len(steps))]
    ranks = [[moved((total[begin], 0), (total[end], 0))] for begin, end in spans]
    (entry,) = merge_moved(ranks, ["a"] * len(ranks))["device"]
    begin, end = min(begin for begin, _ in spans), max(end for _, end in spans)
    assert entry["read_bytes"] == sum(steps[begin + 1 : end + 1])


def test_bytes_of_a_direction_are_those_of_kinds_that_count_everywhere():
    network = {"kind": "network", "facts": {"interfaces": ["eth0"]}}
    ranks = [
        [moved((1, 2), (3, 9)), moved((0, 0), (5, 6), **network)],
        [moved((0, 0), (10, 20), machine="n"), moved((0, 0), None, kind="mount", facts={})],
    ]
    assert counted(ranks, outward=False) == {"device": 12, "network": 5}
    assert counted(ranks, outward=True) == {"device": 27, "network": 6}
    assert counted([[], []], outward=True) == {}
