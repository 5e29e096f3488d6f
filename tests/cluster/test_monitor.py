"""Facts and samples of many hosts: by ssh, by a launcher, and where a host or a sampler is lost."""

from __future__ import annotations

import gzip
import json
import signal
import time

import pytest

from mlps.engine.host_documents import read_hosts

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

SAMPLER = "sys.version_info <"


@pytest.fixture
def ways(openmpi5):
    """Every way to ask hosts: overrides, and the environment where the launcher is found."""
    root = "launcher.run_as_root=true"
    return {
        "ssh": (["launcher=mpich"], {}),
        "mpich": (["launcher=mpich", "monitor.via=launcher"], {}),
        "openmpi": (["launcher=openmpi", root, "monitor.via=launcher"], openmpi5),
    }


@pytest.fixture(params=["ssh", "mpich", "openmpi"])
def way(request, ways):
    return ways[request.param]


def facts(place, *words, **settings):
    """Exit code and facts of a cluster."""
    ssh = f"launcher.ssh={place.cluster.ssh}"
    done = place.run("facts", "--json", "data_dir=data", ssh, *words, **settings)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def shape(value):
    """The keys of a document at all depths, without those that are names."""
    if not isinstance(value, dict):
        return None
    named = ("sysctl", "environment", "errors", "diskstats", "netdev")
    return {key: key in named or shape(below) for key, below in value.items()}


def lines_of(archive):
    packed = archive / "timeseries.jsonl.gz"
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else None
    text = data or (archive / "timeseries.jsonl").read_bytes()
    return text.split(b"\n")


def kinds(archive, host):
    found = [json.loads(line) for line in lines_of(archive) if line]
    return [line["kind"] for line in found if line.get("host") == host]


def test_eight_hosts_tell_the_same_in_every_way(make_place, ways):
    place = make_place(8)
    names = place.cluster.names
    found = {}
    for way, (words, env) in ways.items():
        code, document = facts(place, "cluster=8node", *words, **env)
        assert (code, document["without_facts"]) == (0, {}), way
        hosts = read_hosts(document)
        assert list(hosts.facts) == names
        assert [each["mlps_facts"] for each in hosts.facts.values()] == names
        assert len(json.dumps(document)) < 64 * 1024
        found[way] = shape(hosts.facts["node1"])
    code, document = facts(place, "cluster=local")
    found["here"] = shape(read_hosts(document).facts["localhost"])
    assert code == 0
    assert all(each == found["here"] for each in found.values())


def test_a_host_that_does_not_answer_is_named_and_the_others_are_kept(make_place, ways):
    place = make_place(4)
    place.cluster.nodes[2].link_down()
    for way, (words, env) in ways.items():
        words = [*words, "preflight.ssh_limit_s=2", "preflight.launch_limit_s=6"]
        code, document = facts(place, "cluster=4node", *words, **env)
        assert code == 3, way
        assert list(document["without_facts"]) == ["node3"], way
        assert list(document["own"]) == ["node1", "node2", "node4"], way


def test_slurm_tells_of_its_hosts_too(make_slurm_place, load, wait_for):
    place = make_slurm_place(2)
    within = ["salloc", "-N2", "-n2", "--quiet"]
    code, document = facts(place, "cluster=slurm", "launcher=srun", within=within)
    assert code == 0
    hosts = read_hosts(document)
    assert [each["mlps_facts"] for each in hosts.facts.values()] == place.cluster.names
    # Slurm gives away nodes that still clear up after an allocation; their first step may fail.
    states = ["sinfo", "-h", "-N", "-o", "%T"]
    idle = ["idle", "idle"]
    wait_for(
        lambda: place.cluster.head.run(states, env=place.env).stdout.split() == idle, "nodes", 30
    )
    words = ["cluster=slurm", "launcher=srun", "launcher.ssh=null", "monitor.interval_s=0.2"]
    done = place.run(*place.small(*words), within=within)
    assert done.returncode == 0, done.stderr + done.stdout
    assert load(place.archive() / "result.json")["monitor"]["died"] == 0
    for name in place.cluster.names:
        found = kinds(place.archive(), name)
        assert (found[0], found[-1]) == ("start", "end")


def test_a_job_has_the_facts_and_the_samples_of_each_host(make_place, way, load):
    words, env = way
    place = make_place(4, **env)
    sampled = ["benchmark.duration_s=2", "monitor.interval_s=0.2"]
    done = place.run(*place.small("cluster=4node", *words, *sampled))
    assert done.returncode == 0, done.stderr + done.stdout
    archive, names = place.archive(), place.cluster.names
    for name in ("hosts-start.json", "hosts-end.json"):
        hosts = read_hosts(load(archive / name))
        assert [each["mlps_facts"] for each in hosts.facts.values()] == names
    result = load(archive / "result.json")
    assert result["cluster"]["hosts"] == 4
    assert result["cluster"]["machines"] == 1  # they are containers of this one
    assert (result["monitor"]["hosts"], result["monitor"]["died"]) == (4, 0)
    assert "host_cpu_busy_pct" in result["metrics"][0]["values"]
    for name in names:
        found = kinds(archive, name)
        assert (found[0], found[-1]) == ("start", "end")
        assert found.count("tick") > 10
    assert place.run("verify", str(archive)).returncode == 0
    assert place.leftovers() == []


@pytest.fixture
def running(make_place, wait_for):
    """A long job on two hosts in its run stage, with samples that came."""
    started = []

    def start(*words, **env):
        place = make_place(2, **env)
        long = ("benchmark.duration_s=60", "monitor.interval_s=0.1")
        process = place.start(*place.small("cluster=2node", *long, *words))
        started.append(process)
        wait_for(lambda: list(place.results_dir.glob("*/stages/01-run-0/stdout.log")), "a run", 60)
        archive = place.archive()
        wait_for(lambda: kinds(archive, "node2").count("tick") > 5, "samples", 20)
        return place, process, archive

    yield start
    for process in started:
        with process:
            process.kill()


def test_a_sampler_that_dies_is_a_finding_and_no_failure(running, load, wait_for):
    place, process, archive = running("launcher=mpich", "benchmark.duration_s=3")
    assert place.cluster.nodes[1].kill(SAMPLER)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "warning MON-03 node2 monitor: its sampler ended early" in stdout
    found = kinds(archive, "node2")
    assert found[-1] == "died"
    assert kinds(archive, "node1")[-1] == "end"
    assert load(archive / "result.json")["monitor"]["died"] == 1
    assert place.run("verify", str(archive)).returncode == 0


def test_mlps_killed_keeps_its_samples_and_leaves_no_sampler(running, way, wait_for):
    words, env = way
    place, process, archive = running(*words, **env)
    process.send_signal(signal.SIGKILL)
    killed_unix_s = time.time()
    process.wait(10)
    wait_for(lambda: not place.leftovers(), "the end of all processes", 15)
    *whole, last = lines_of(archive)
    assert last == b""  # no line was cut off
    found = [json.loads(line) for line in whole]
    for name in place.cluster.names:
        (start,) = (each for each in found if each["kind"] == "start" and each["host"] == name)
        ticks = [each["n"] for each in found if each["kind"] == "tick" and each["host"] == name]
        # A sampler that gets no time leaves a tick out, and says so by its number.
        assert ticks == sorted(set(ticks))
        due = (killed_unix_s - start["start_unix_s"]) / 0.1
        assert ticks[-1] > due - 5  # two of them on their way, on a machine that is busy
        assert len(ticks) > 0.8 * due - 5
