"""Whoever is to blame for a failed launch is named as the job names it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launches import make_launch

from mlps.engine.blame import blame_output, blame_silent, blame_start, parse_rank_ranges
from mlps.engine.hosts import Host
from mlps.engine.plan import Launch
from mlps.engine.protocol import RankTable
from mlps.engines.contract import rank_ranges

RANK = r"rank (?P<rank>\d+) with PID (?P<pid>\d+) on node (?P<host>\S+)"
PROCESS = r"PID (?P<pid>\d+) RUNNING AT (?P<host>\S+)"
HOST = r"Connection to (?P<host>\S+) closed"


LAUNCH = make_launch(2, 2, 1)
TABLE = RankTable(
    places=(("node1", 7), ("node1", 8), ("node2", 7), ("node2", 8), ("node3", 7)), job_sha256={}
)


@pytest.mark.parametrize(
    ("text", "words", "hosts"),
    [
        ("PID 8 RUNNING AT node2", "rank 3 on node2 (pid 8)", ()),
        ("PID 9 RUNNING AT node2", "a rank on node2 (pid 9)", ()),
        ("rank 4 with PID 99 on node x", "rank 4 on node3 (pid 7)", ()),
        ("Connection to node2 closed", "host node2 (ranks 2-3)", ("node2",)),
        ("Connection to node3.site.org closed", "host node3 (rank 4)", ("node3",)),
        ("Connection to 10.0.0.1 closed", "host 10.0.0.1", ()),
    ],
)
def test_what_a_launcher_says(text, words, hosts):
    blame = blame_output([PROCESS, RANK, HOST], ["", f"a\n{text}\nb"], LAUNCH, TABLE)
    assert (blame.words, blame.hosts) == (words, hosts)


def test_a_rank_before_there_is_a_table():
    text = "rank 1 with PID 99 on node node1"
    assert blame_output([RANK], [text], LAUNCH, None).words == "rank 1 on node1 (pid 99)"


def test_the_first_pattern_counts_not_the_first_line():
    text = "Connection to node1 closed\nPID 8 RUNNING AT node2"
    assert blame_output([PROCESS, HOST], [text], LAUNCH, TABLE).hosts == ()
    assert blame_output([HOST, PROCESS], [text], LAUNCH, TABLE).hosts == ("node1",)


def test_words_that_name_nobody():
    assert blame_output([PROCESS], ["all is well"], LAUNCH, TABLE) is None


@pytest.mark.parametrize(
    ("ranks", "words", "hosts"),
    [
        ([3], "rank 3 on node2 (pid 8)", ()),
        ([2, 3], "node2 (ranks 2-3)", ("node2",)),
        ([4], "rank 4 on node3 (pid 7)", ("node3",)),
        ([1, 2, 3], "rank 1 on node1 (pid 8), node2 (ranks 2-3)", ("node2",)),
    ],
)
def test_silent_ranks(ranks, words, hosts):
    blame = blame_silent(ranks, LAUNCH, TABLE)
    assert (blame.words, blame.hosts) == (words, hosts)


def test_many_silent_ranks_are_counted():
    launch = make_launch(*[2] * 9)
    table = RankTable(places=tuple(("x", pid) for pid in range(18)), job_sha256={})
    blame = blame_silent(range(2, 18), launch, table)
    assert blame.words.endswith("node5 (ranks 8-9) and 4 more")
    assert len(blame.hosts) == 8


@pytest.mark.parametrize(
    ("started", "words"),
    [
        (["node1", "node2"], "node3"),
        (["node2.site.org"], "node1,node3"),
        (["node1", "node2", "node3"], None),
        (["n1", "n2"], None),
    ],
)
def test_hosts_that_have_not_started(started, words):
    output = "".join(f"mlps: started on {name}\n" for name in started)
    blame = blame_start(LAUNCH, output, set)
    assert (blame and blame.words) == words


def test_hosts_that_have_not_connected():
    launch = make_launch(1, 1)
    hosts = (
        Host(name="127.0.0.1", slots=1, ranks=1),
        Host(name="127.0.0.2", slots=1, ranks=1),
    )
    launch = Launch(**{name: getattr(launch, name) for name in launch.__slots__} | {"hosts": hosts})
    assert blame_start(launch, "", lambda: {"127.0.0.2"}).hosts == ("127.0.0.1",)
    assert blame_start(launch, "", set) is None


@given(st.sets(st.integers(0, 200)))
def test_ranges_come_back(ranks):
    ordered = sorted(ranks)
    assert list(parse_rank_ranges(rank_ranges(ordered))) == ordered


@pytest.mark.parametrize("text", ["a", "-", "1-x", "1.5"])
def test_what_is_no_range(text):
    with pytest.raises(ValueError, match="invalid literal"):
        list(parse_rank_ranges(text))
