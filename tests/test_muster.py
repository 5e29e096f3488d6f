"""Judgement of the trial launch, and one real launch on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlps.engine.hosts import Host
from mlps.engine.muster import Muster, call_muster, judge_muster, last_words
from mlps.engine.plan import make_plan
from mlps.engine.protocol import RankTable
from mlps.engine.rank_environment import find_program, rank_environment
from mlps.engine.reach import Probed
from mlps.engine.signals import StopRequests
from mlps.engine.supervise import Outcome

DATA = Path("/data")
HOSTS = tuple(Host(name=f"n{number}", slots=4, ranks=2) for number in (1, 2))
PROBED = [Probed(name=f"n{n}", here=False, facts={"mlps_host": f"node{n}"}) for n in (1, 2)]
PLACES = ("node1", "node1", "node2", "node2")


def muster(places=PLACES, errors=(), words="", **outcome):
    table = RankTable(places=tuple((host, 100 + n) for n, host in enumerate(places)), job_sha256={})
    status = "failed" if errors else "complete"
    keys = {
        "name": "00-muster",
        "status": status,
        "result": {"errors": [dict(e) for e in errors], "details": {}},
        "table": table,
    }
    return Muster(hosts=HOSTS, outcome=Outcome(**(keys | outcome)), words=words)


def judge(found):
    return list(judge_muster(found, PROBED, DATA))


def unseen(rank, host):
    message = "does not see the file that rank 0 wrote in /data"
    return {"rank": rank, "host": host, "message": message}


def test_a_muster_that_is_complete():
    assert judge(muster()) == []


def test_cap_02_names_hosts_as_the_job_does_and_ranks():
    found = judge(muster(errors=[unseen(2, "node2"), unseen(3, "node2")]))
    assert [(finding.rule, finding.host, finding.text) for finding in found] == [
        (
            "CAP-02",
            "n2",
            "/data is not the directory that n1 has: rank 2, 3 did not see the file that rank 0 "
            "wrote there",
        )
    ]


@pytest.mark.parametrize(
    ("places", "text"),
    [
        (("node1",) * 4, "4 ranks on node1 instead of 2 ranks on node[1-2]"),
        (
            ("node1", "node2", "node2", "node2"),
            "1 rank on node1, 3 ranks on node2 instead of 2 ranks on node[1-2]",
        ),
    ],
)
def test_env_11_fires_where_ranks_are_elsewhere(places, text):
    (found,) = judge(muster(places))
    assert (found.rule, found.text) == (
        "ENV-11",
        f"the launcher put ranks elsewhere than planned: {text}",
    )


def test_env_11_fires_where_two_hosts_are_one_machine():
    one = [Probed(name=f"n{n}", here=False, facts={"mlps_host": "node1"}) for n in (1, 2)]
    (found,) = judge_muster(muster(("node1",) * 4), one, DATA)
    assert found.text == "2 hosts of the job call themselves by 1 names: 4 ranks on node1"


def test_env_11_fires_with_the_launchers_words_where_nothing_came():
    failed = muster(
        status="failed", message="it ended with exit status 1", result=None, table=None,
        words="ORTE was unable to reach node2",
    )  # fmt: skip
    (found,) = judge(failed)
    assert found.rule == "ENV-11"
    assert found.text == (
        "a trial launch on all hosts failed: it ended with exit status 1; it said: ORTE was unable "
        "to reach node2"
    )


def test_env_11_fires_where_a_rank_has_another_error():
    error = {"rank": 0, "host": "node1", "message": "cannot write /data/x: No space"}
    (found,) = judge(muster(errors=[error], message="rank 0 on node1: cannot write"))
    assert "cannot write" in found.text


def test_last_words_are_without_rulers_and_events(tmp_path):
    log = tmp_path / "log"
    log.write_text('-----\nThe   value\n\n{"event": "ranks"}\n was not found.\n=====\n')
    assert last_words(log) == "The value was not found."
    other = tmp_path / "other"
    other.write_text("\n")
    assert last_words(other, log) == "The value was not found."
    assert last_words(tmp_path / "nowhere") == ""


@pytest.mark.mpi
def test_a_real_launch_leaves_nothing(make_spec, tmp_path, monkeypatch, nothing_left):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "data").mkdir()
    spec = make_spec({"data_dir": str(tmp_path / "data"), "cluster.ranks_per_host": 2})
    env = rank_environment(spec, "x", os.environ)
    found = call_muster(
        spec,
        spec.cluster.hosts,
        plan=make_plan(spec, python=sys.executable),
        program=find_program("mpiexec", env),
        environ=os.environ,
        stops=StopRequests(),
    )
    assert found.outcome.status == "complete", found
    assert found.as_document()["sentinel"]["seen"] is True
    assert list((tmp_path / "data").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.mpi
def test_a_launcher_that_hangs_is_ended_at_its_limit(make_spec, tmp_path, nothing_left):
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\necho waiting for a daemon >&2\nsleep 1000\n")
    program.chmod(0o755)
    spec = make_spec({"data_dir": str(tmp_path), "preflight.launch_limit_s": 1})
    found = call_muster(
        spec,
        spec.cluster.hosts,
        plan=make_plan(spec, python=sys.executable),
        program=program,
        environ=os.environ,
        stops=StopRequests(),
    )
    (finding,) = judge_muster(found, [], tmp_path)
    assert finding.rule == "ENV-11"
    assert "1 s" in finding.text
    assert finding.text.endswith("it said: waiting for a daemon")
