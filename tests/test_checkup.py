"""What `mlps doctor` shows: who was asked, each rule with its state, what to type."""

from __future__ import annotations

import io
import json

import pytest

from mlps.engine.checkup import MOST_ROWS, checkup_document, states, write_checkup
from mlps.engine.needs import Needs
from mlps.engine.preflight import Machine
from mlps.engine.reach import Probed, Trouble
from mlps.engine.rule_rows import JOB_RULES, SKIPPABLE
from mlps.engine.rules import Finding

GIB = 2**30
FACTS = {
    "mlps_host": "n",
    "python": "3.12.4",
    "mlps": {"version": "1.0", "content_sha256": "a"},
    "mpi": {"library": "MPICH Version: 5.0.2", "error": None},
    "cpus": 8,
    "cpus_allowed": 8,
    "memory_available_bytes": 10 * GIB,
    "data_dir": {"free_bytes": 20 * GIB},
}


def host(name, **changes):
    return Probed(name=name, here=False, facts=FACTS | changes, clock_offset_s=-0.004)


def machine(*probed, findings=(), **changes):
    keys = {
        "program": None,
        "launcher_version": "HYDRA build details:; Version: 5.0.2",
        "needs": Needs(disk_bytes=GIB, memory_bytes_per_rank=GIB, disk_arithmetic="1 GiB"),
        "probed": probed,
        "muster": None,
        "fs_separation": {"same_filesystem": False},
        "lockfile": None,
        "findings": findings,
    }
    return Machine(**(keys | changes))


@pytest.fixture
def shown(make_spec):
    def show(found, hosts, out=None):
        out = out or io.StringIO()
        write_checkup(out, found, make_spec({"cluster.hosts": hosts, "cluster.ranks_per_host": 1}))
        return out.getvalue()

    return show


def error(rule="ENV-04", **more):
    return Finding(rule=rule, severity="error", text="is away", hint="ping it", **more)


def test_hosts_that_are_alike_share_a_row(shown):
    lost = Probed(name="n3", here=False, trouble=Trouble(kind="name", text=""))
    text = shown(machine(host("n1"), host("n2"), lost, host("n4", cpus_allowed=2)), ["n[1-4]"])
    assert text.splitlines()[:4] == [
        "kvcache/quick: 4 ranks on n[1-4], launcher mpich",
        "data_dir /data, results_dir /results",
        "None: MPICH 5.0.2",
        "needs 1.00 GiB in data_dir and 1.00 GiB of memory a rank",
    ]
    rows = [line.split("  ") for line in text.split("\n\n")[1].splitlines()[1:]]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    common = ["ssh", "3.12.4", "1.0", "MPICH 5.0.2"]
    assert cells == [
        ["n[1-2]", *common, "8", "10.0 GiB", "20.0 GiB", "+0.0 s"],
        ["n3", "not reached", *["-"] * 7],
        ["n4", *common, "2 of 8", "10.0 GiB", "20.0 GiB", "+0.0 s"],
    ]


def test_very_many_rows_are_cut(shown):
    hosts = [host(f"n{n}", memory_available_bytes=n * GIB) for n in range(1, 101)]
    text = shown(machine(*hosts), ["n[1-100]"])
    assert f"and {100 - MOST_ROWS} rows more; --json has all" in text


def test_every_rule_has_one_state(make_spec):
    spec = make_spec({"cluster.hosts": ["n1", "n2"]})
    found = dict(
        (rule, state)
        for state, rule in states(
            machine(host("n1"), findings=(error("ENV-04"), error("CAP-01"))), spec
        )
    )
    assert list(found) == list(SKIPPABLE)
    assert (found["ENV-04"], found["CAP-01"], found["ENV-05"]) == ("error", "error", "ok")
    unchecked = {rule for rule, state in found.items() if state == "not checked"}
    assert unchecked == {"ENV-11", "CAP-02", "PKG-03"}


def test_what_was_not_asked_is_not_ok(make_spec):
    spec = make_spec({"cluster.hosts": ["n1"]})
    nobody = machine(
        Probed(name="n1", here=False), needs=None, fs_separation={"same_filesystem": None}
    )
    ok = [rule for state, rule in states(nobody, spec) if state == "ok"]
    assert ok == ["ENV-01", "ENV-02", "ENV-04", "ENV-10", "ENV-17", "DIR-02", "DIR-03"]


@pytest.mark.parametrize(
    ("findings", "end"),
    [
        ((), "ready\n"),
        (
            (error(host="n2"), error("DIR-01")),
            "error ENV-04 n2: is away\n  hint: ping it\nerror DIR-01: is away\n  hint: ping it\n"
            "not ready: 2 to mend\n",
        ),
    ],
    ids=["ready", "not ready"],
)
def test_the_end_says_what_to_type(shown, findings, end):
    text = shown(machine(host("n1"), findings=findings), ["n1"])
    assert text.endswith("\n\n" + end)
    assert f"{JOB_RULES['ENV-01'].text}\n" in text
    assert "\x1b" not in text


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_colours(shown, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown(machine(host("n1"), findings=(error(),)), ["n1"], Terminal())
    assert "\x1b[" in text
    assert "is away" in text


def test_the_document_has_all_facts():
    lost = Probed(name="n3", here=False, trouble=Trouble(kind="name", text="x"))
    document = checkup_document(machine(host("n1"), lost, findings=(error(),)))
    assert json.loads(json.dumps(document)) == document
    assert document["ready"] is False
    assert document["hosts"][0]["facts"]["python"] == "3.12.4"
    assert document["hosts"][1]["trouble"] == {"kind": "name", "text": "x"}
