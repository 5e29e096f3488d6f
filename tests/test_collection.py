"""The probe on the hosts of a job, in all three ways, with real processes."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlps.engine.collection import collect_facts, watched_hosts
from mlps.engine.jobs import plan_here
from mlps.engine.launch import JOB_VARIABLE
from mlps.engine.monitor import Monitor

pytestmark = pytest.mark.usefixtures("nothing_left")

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/root"}

# In ssh's place: runs the command here, under the name of the host.
SSH = """#!/bin/sh
while [ "$1" = -o ] || [ "$1" = -T ]; do [ "$1" = -o ] && shift; shift; done
case $1 in
  lost) echo "ssh: connect to host lost port 22: No route to host" >&2; exit 255 ;;
esac
shift
exec sh -c "$*"
"""

# In the place of an MPI launcher: `launcher HOSTS COMMAND`. One host that is lost takes all along.
LAUNCHER = """#!/bin/sh
echo "$1" >> {calls}
hosts=$(echo $1 | tr , ' ')
shift
for host in $hosts; do
  [ $host = lost ] && {{ echo "launcher: lost: not responding" >&2; exit 1; }}
done
for host in $hosts; do
  "$@" < /dev/null | sed "s/^{{\\"\\(mlps_[a-z]*\\)\\":\\"[^\\"]*\\"/{{\\"\\1\\":\\"$host.lan\\"/" &
done
wait
"""


@pytest.fixture
def ssh(tmp_path):
    return script(tmp_path / "ssh", SSH)


@pytest.fixture
def calls(tmp_path):
    """Hosts of each launch."""
    return lambda: (tmp_path / "calls").read_text().splitlines()


@pytest.fixture
def launcher(tmp_path):
    return script(tmp_path / "launcher", LAUNCHER.format(calls=tmp_path / "calls"))


def script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def job(make_spec, tmp_path):
    """A job on these hosts, and its plan."""

    def make(*hosts, **changes):
        spec = make_spec(
            {
                "cluster.hosts": list(hosts),
                "cluster.ranks_per_host": 1,
                "data_dir": str(tmp_path),
                **changes,
            }
        )
        return spec, plan_here(spec)

    return make


@pytest.fixture
def by_launcher(job, launcher):
    """A job that its launcher alone can reach."""

    def make(*hosts):
        spec, plan = job(*hosts)
        changed = replace(
            spec.launcher,
            program=launcher,
            reach="launcher",
            argv=("{hosts}", "{command}"),
            parts={**spec.launcher.parts, "hosts": ("{hosts}",), "local": None},
            host_format="{host}",
        )
        return replace(spec, launcher=changed), plan

    return make


# ---------------------------------------------------------------- facts


def test_this_machine_is_asked_by_a_call(job, tmp_path):
    (host,) = collect_facts(*job("localhost"), ENVIRON)
    assert (host.name, host.here, host.trouble) == ("localhost", True, None)
    assert host.facts["mlps_facts"] == platform.node()
    assert host.facts["data_dir"]["path"] == str(tmp_path)
    assert host.clock_offset_s == 0.0


def test_hosts_by_ssh_each_have_their_own_answer(job, ssh):
    spec, plan = job("node1", "lost", "localhost", **{"launcher.ssh": ssh})
    node1, lost, here = collect_facts(spec, plan, ENVIRON)
    assert (node1.name, node1.here, node1.trouble) == ("node1", False, None)
    assert node1.facts["mlps_facts"] == platform.node()
    assert abs(node1.clock_offset_s) < 5
    assert (lost.facts, lost.trouble.kind) == (None, "unreachable")
    assert here.here and here.facts is not None


def test_all_ways_give_the_same_facts(job, ssh, launcher, by_launcher):
    (here,) = collect_facts(*job("localhost"), ENVIRON)
    (by_ssh,) = collect_facts(*job("node1", **{"launcher.ssh": ssh}), ENVIRON)
    (launched,) = collect_facts(*by_launcher("node1"), ENVIRON)
    assert shape(here.facts) == shape(by_ssh.facts) == shape(launched.facts)


def shape(facts):
    """All keys, but for those named by variables of the environment."""
    return {
        key: sorted(value) if isinstance(value, dict) and key != "environment" else type(value)
        for key, value in facts.items()
    }


def test_one_launch_asks_all_hosts(by_launcher, calls):
    probed = collect_facts(*by_launcher("node1", "node2", "node3"), ENVIRON)
    assert [host.facts["mlps_facts"] for host in probed] == ["node1.lan", "node2.lan", "node3.lan"]
    assert calls() == ["node1,node2,node3"]


def test_a_host_that_takes_its_launch_along_is_named_and_the_others_are_kept(by_launcher, calls):
    node1, lost, node3 = collect_facts(*by_launcher("node1", "lost", "node3"), ENVIRON)
    assert node1.facts is not None and node3.facts is not None
    assert (lost.trouble.kind, lost.trouble.text) == (
        "silent",
        "launcher: lost: not responding (it ended with status 1)",
    )
    whole = "node1,lost,node3"
    assert sorted(calls()) == ["lost", "node1", whole, whole, "node3"]


def test_this_machine_too_is_asked_by_the_launcher_where_told(by_launcher, calls):
    (host,) = collect_facts(*by_launcher("localhost"), ENVIRON, via="launcher")
    assert (host.here, host.facts["mlps_facts"]) == (False, "localhost.lan")
    assert calls() == ["localhost"]


@pytest.mark.mpi
def test_the_real_launcher_of_the_environment(job):
    (host,) = collect_facts(*job("localhost"), ENVIRON, via="launcher")
    assert host.trouble is None
    assert host.facts["mlps_facts"] == platform.node()


def test_a_host_that_nothing_reaches_is_named(job):
    (host,) = collect_facts(*job("node1"), ENVIRON, via="here")
    assert (host.facts, host.trouble.kind) == (None, "silent")


def test_a_launcher_that_is_not_there(by_launcher):
    spec, plan = by_launcher("node1", "node2")
    spec = replace(spec, launcher=replace(spec.launcher, program="/no/launcher"))
    for host in collect_facts(spec, plan, ENVIRON):
        assert "/no/launcher" in host.trouble.text


def test_another_python_may_be_named(job, ssh):
    spec, plan = job("node1", **{"launcher.ssh": ssh})
    (host,) = collect_facts(spec, plan, ENVIRON, python="/no/python")
    assert (host.trouble.kind, host.trouble.text) == ("python", "/no/python cannot be run")


def test_a_job_that_was_stopped_asks_nobody(job, ssh):
    spec, plan = job("node1", **{"launcher.ssh": ssh})
    (host,) = collect_facts(spec, plan, ENVIRON, stopped=lambda: True)
    assert host.facts is None


# ---------------------------------------------------------------- series


def watch(tmp_path, watched):
    path = tmp_path / "series"
    with path.open("ab", buffering=0) as output:
        monitor = Monitor(watched, output, interval_s=0.2, via="ssh")
        monitor.start()
        time.sleep(0.5)
        monitor.stop()
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check(lines, *names):
    assert {line["host"] for line in lines[1:]} == set(names)
    for name in names:
        kinds = [line["kind"] for line in lines if line.get("host") == name]
        assert kinds[0] == "start" and kinds[-2:] == ["tick", "end"]
        assert len(kinds) >= 4
    assert not [line for line in lines for mark in line if mark.startswith("mlps_")]


def test_series_of_hosts_here_and_by_ssh(job, ssh, tmp_path):
    spec, plan = job("localhost", "node1", "node2", **{"launcher.ssh": ssh})
    watched = watched_hosts(spec, plan, ENVIRON, interval_s=0.2)
    assert [one.names for one in watched] == [("localhost",), ("node1",), ("node2",)]
    check(watch(tmp_path, watched), "localhost", "node1", "node2")


@pytest.mark.mpi
def test_series_by_the_real_launcher(job, tmp_path):
    watched = watched_hosts(*job("localhost"), ENVIRON, interval_s=0.2, via="launcher")
    check(watch(tmp_path, watched), "localhost")


def test_one_launch_watches_all_hosts(by_launcher):
    spec, plan = by_launcher("node1", "node2", "localhost")
    here, launch = watched_hosts(spec, plan, ENVIRON, interval_s=0.2)
    assert here.names == ("localhost",)
    assert launch.names == ("node1", "node2")
    assert launch.argv[1] == "node1,node2"
    assert not launch.has_life_line
    assert (launch.stdin, max(map(len, launch.argv)) < 65536) == (b"", True)


def test_a_sampler_by_ssh_has_a_connection_of_its_own(job, ssh):
    spec, plan = job("node1", **{"launcher.ssh": ssh})
    (watched,) = watched_hosts(spec, plan, ENVIRON, interval_s=10, python="/usr/bin/python3")
    words = watched.argv
    assert words[:3] == (ssh, "-o", "BatchMode=yes")
    assert "ControlPath=none" in words and "ServerAliveInterval=15" in words
    assert words[-2] == "node1" and words[-1].startswith(
        "/usr/bin/python3 -E -s -S -c 'import sys;"
    )
    assert JOB_VARIABLE not in watched.env


def test_a_lost_host_is_said_and_the_others_are_watched(job, ssh, tmp_path):
    spec, plan = job("node1", "lost", **{"launcher.ssh": ssh})
    lines = watch(tmp_path, watched_hosts(spec, plan, ENVIRON, interval_s=0.2))
    last = {line["host"]: line for line in lines[1:]}
    assert last["node1"]["kind"] == "end"
    assert last["lost"]["kind"] == "died"
    assert last["lost"]["said"] == "ssh: connect to host lost port 22: No route to host"


def test_hosts_out_of_reach_are_not_watched(job):
    assert watched_hosts(*job("node1"), ENVIRON, interval_s=1, via="here") == ()
