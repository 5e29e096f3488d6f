"""The probe on eight hosts: each once, under its own name, in every way that reaches it."""

from __future__ import annotations

import json
import signal
import sys

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

# Collects facts, watches for a moment or until it is killed, and says what it found.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from mlps.engine.collection import collect_facts, watched_hosts
from mlps.engine.compose import compose
from mlps.engine.jobs import plan_here
from mlps.engine.monitor import Monitor
from mlps.engine.processes import adopt_orphans
from mlps.engine.spec import SWEEP_KEYS, build

adopt_orphans()
via, seconds, *overrides = sys.argv[1:]
composed = compose(["benchmark=kvcache/quick", *overrides], conf_dirs=(), cwd=Path.cwd())
keys = {key: value for key, value in composed.values.items() if key not in SWEEP_KEYS}
spec = build(keys | {"data_dir": os.getcwd(), "results_dir": os.getcwd()}, {})
plan = plan_here(spec)
probed = collect_facts(spec, plan, os.environ, via=via)
facts = {host.name: host.facts for host in probed}
trouble = {host.name: host.trouble.text for host in probed if host.trouble}
with open("series", "ab", buffering=0) as output:
    watched = watched_hosts(spec, plan, os.environ, interval_s=0.2, via=via)
    monitor = Monitor(watched, output, interval_s=0.2, via=via, start_limit_s=20)
    monitor.start()
    time.sleep(float(seconds))
    summary = monitor.stop()
ends = {host.name: [host.ended, host.said] for host in summary.hosts}
print(json.dumps({"facts": facts, "trouble": trouble, "ends": ends}))
"""

NAMES = [f"node{number}" for number in range(1, 9)]

# In the command of each probe.
PROBE = "-E -s -S -c"

WAYS = ["ssh", "mpich", "openmpi", "srun"]


@pytest.fixture
def way(request):
    """Makes hosts; gives them, the arguments of the program, and its environment."""

    def make(name, count):
        if name == "srun":
            slurm = request.getfixturevalue("make_slurm")(count)
            within = ["salloc", f"-N{count}", f"-n{count}"]
            return slurm.cluster, within, ["launcher", "1", "launcher=srun"], slurm.env
        env = request.getfixturevalue("openmpi5") if name == "openmpi" else {}
        cluster = request.getfixturevalue("make_hosts")(count)
        words = {
            "ssh": ["ssh", "1"],
            "mpich": ["launcher", "1", "launcher=mpich"],
            "openmpi": ["launcher", "1", "launcher=openmpi", "launcher.run_as_root=true"],
        }[name]
        return cluster, [], [*words, f"launcher.ssh={cluster.ssh}"], env

    return make


def hosts(count):
    return f'cluster.hosts=["node[1-{count}]"]'


def argv(within, words, count):
    common = [hosts(count), "cluster.ranks_per_host=1"]
    return [*within, sys.executable, "-c", PROGRAM, *words, *common]


def lines(directory):
    return [json.loads(line) for line in (directory / "series").read_bytes().splitlines()]


@pytest.mark.parametrize("name", WAYS)
def test_eight_hosts_each_once_under_their_own_names(way, tmp_path, wait_for, name):
    cluster, within, words, env = way(name, 8)
    done = cluster.head.run(argv(within, words, 8), cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["trouble"] == {}
    assert [facts["mlps_facts"] for facts in found["facts"].values()] == NAMES
    assert len({json.dumps(sorted(facts)) for facts in found["facts"].values()}) == 1
    assert found["ends"] == {node: ["stopped", None] for node in NAMES}
    series = lines(tmp_path)
    assert series[0]["hosts"] == ["node[1-8]"]
    for node in NAMES:
        kinds = [line["kind"] for line in series if line.get("host") == node]
        assert kinds[0] == "start" and kinds[-1] == "end" and kinds.count("tick") >= 3
    wait_for(lambda: not cluster.processes(PROBE), "the end of all that was started")


@pytest.mark.parametrize("name", ["ssh", "mpich", "openmpi"])
def test_a_host_that_does_not_answer_is_named_and_the_others_are_kept(way, tmp_path, name):
    cluster, within, words, env = way(name, 3)
    cluster.node("node2").kill_sshd()
    done = cluster.head.run(argv(within, words, 3), cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["trouble"]) == ["node2"]
    assert found["facts"]["node1"]["mlps_facts"] == "node1"
    assert found["facts"]["node3"]["mlps_facts"] == "node3"
    assert found["ends"]["node2"][0] == "died"


@pytest.mark.parametrize("name", WAYS)
def test_a_kill_of_mlps_leaves_no_sampler_on_any_host(way, tmp_path, wait_for, name):
    cluster, within, words, env = way(name, 2)
    words[1] = "60"
    with cluster.head.start(argv(within, words, 2), cwd=tmp_path, env=env) as process:
        path = tmp_path / "series"
        wait_for(lambda: path.exists() and path.read_bytes().count(b"tick") > 8, "ticks", 60)
        assert cluster.processes(PROBE)
        cluster.head.kill("adopt_orphans", signal.SIGKILL)
        wait_for(lambda: not cluster.processes(PROBE), "the end of all samplers", 20)
        process.kill()
    *whole, _rest = path.read_bytes().split(b"\n")
    assert all(json.loads(line) for line in whole)
