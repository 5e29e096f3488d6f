"""A part of a job on four hosts dies in the middle of its run: it is named, and nothing is left.

MLPS_LIFECYCLE_REPEATS=10 repeats each kind so often; MLPS_LIFECYCLE_SEED=N chooses the same parts
and moments again.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

REPEATS = int(os.environ.get("MLPS_LIFECYCLE_REPEATS", "1"))
SEED = int(os.environ.get("MLPS_LIFECYCLE_SEED", str(random.randrange(10**6))))
GONE_S = 10.0
HELPERS = ("hydra_pmi_proxy", "prted")
LAUNCHERS = ("mpiexec", "prterun", "mpirun")


@pytest.fixture
def mpich():
    return ["launcher=mpich"], {}


@pytest.fixture
def chance(request):
    """Random numbers of this test alone, from the printed seed."""
    sys.stdout.write(f"MLPS_LIFECYCLE_SEED={SEED}\n")
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def start(make_place, wait_for):
    """Starts a long job on four hosts: its place and process, when its run stage is under way."""

    started = []

    def run(flavour, *more):
        words, env = flavour
        place = make_place(4, **env)
        long = ("cluster=4node", "benchmark.duration_s=60", *words, *more)
        process = place.start(*place.small(*long))
        started.append(process)
        wait_for(lambda: process.poll() is not None or progressed(place), "a running stage", 60)
        assert process.poll() is None, process.communicate()
        return place, process

    yield run
    for process in started:
        with process:
            process.kill()


def progressed(place):
    logs = list(place.results_dir.glob("*/stages/01-run-0/stdout.log"))
    return logs and b'"progress"' in logs[0].read_bytes()


def ranks(node, stage="run"):
    """Rank processes of a stage, without those that hold its command as arguments."""
    found = node.processes(f"-m mlps.engines.kvcache_native --stage {stage}")
    return [rank for rank in found if "python" in rank.command.split()[0]]


def of_program(node, names):
    """Processes of these programs."""
    return [
        process
        for process in node.processes()
        if Path(process.command.partition(" ")[0]).name in names
    ]


def said_by_mpich(archive, node, pid):
    """Whether MPICH says of this process that it was the one which ended badly."""
    stage = archive / "stages/01-run-0"
    said = "".join((stage / log).read_text() for log in ("stdout.log", "stderr.log"))
    return f"PID {pid} RUNNING AT {node}\n" in said


def kill(processes):
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.outer_pid, signal.SIGKILL)


def check_end(place, process, load, wait_for, code=4, gone_s=GONE_S):
    """The outcome of the run stage of a job that has ended sealed and has left nothing."""
    nodes = (place.cluster.head, *place.cluster.nodes)
    wait_for(lambda: not any(ranks(node) for node in nodes), "the end of the run's ranks", gone_s)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    assert "Traceback" not in err, err
    wait_for(lambda: not place.leftovers(), "the end of all processes", GONE_S)
    assert list(place.data_dir.iterdir()) == []
    archive = place.archive()
    assert (archive / "MANIFEST.sha256").is_file()
    assert load(archive / "verdict.json")["verdict"] == "INVALID"
    assert place.run("verify", str(archive)).returncode == 7
    return load(archive / "stages/01-run-0/outcome.json")


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_killed_rank(start, flavour, chance, load, wait_for, repeat):
    place, process = start(flavour)
    time.sleep(chance.uniform(0, 2))
    number = chance.randrange(4)
    node = place.cluster.nodes[number]
    (victim,) = ranks(node)
    kill([victim])
    outcome = check_end(place, process, load, wait_for)
    assert outcome["reason"] == "rank_died"
    found = re.match(r"rank (\d) on (node\d) \(pid (\d+)\) died; ", outcome["message"])
    if found.groups() != (str(number), node.name, str(victim.pid)):
        # MPICH names whose end it hears of first: rarely one that it ended itself after the other.
        assert said_by_mpich(place.archive(), found[2], found[3]), outcome["message"]
        assert not said_by_mpich(place.archive(), node.name, victim.pid)
    for host in place.cluster.nodes:
        assert host.run(["ls", "/dev/shm"]).stdout == ""


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_host_without_sshd_and_helper(start, flavour, chance, load, wait_for, repeat):
    place, process = start(flavour)
    time.sleep(chance.uniform(0, 2))
    number = chance.randrange(4)
    node = place.cluster.nodes[number]
    victims = [*node.sessions(), *of_program(node, HELPERS)]
    assert len(victims) >= 2
    chance.shuffle(victims)
    kill(victims)
    outcome = check_end(place, process, load, wait_for)
    assert outcome["reason"] == "host_lost"
    assert outcome["message"].startswith(f"host {node.name} (rank {number}) was lost")
    cleanup = load(place.archive() / "stages/02-cleanup/outcome.json")
    assert (cleanup["status"], cleanup["without_hosts"]) == ("complete", [node.name])
    assert node.name not in cleanup["hosts"]


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_killed_launcher(start, flavour, chance, load, wait_for, repeat):
    place, process = start(flavour)
    time.sleep(chance.uniform(0, 2))
    victims = of_program(place.cluster.head, LAUNCHERS)
    kill(victims)
    outcome = check_end(place, process, load, wait_for)
    assert outcome["reason"] == "launcher_died"
    assert " on head (pid " in outcome["message"]
    assert "was ended by signal 9" in outcome["message"]


def test_a_host_that_cannot_be_reached_any_more(start, mpich, load, wait_for):
    """Silence is all that tells of it: the limit of the job counts, on the host itself as well."""
    place, process = start(mpich, "benchmark.silence_limit_s=3")
    node = place.cluster.node("node3")
    node.link_down()
    began = time.monotonic()
    outcome = check_end_but_sshd(place, process, node, load, wait_for)
    assert time.monotonic() - began < 40
    assert outcome["reason"] == "silence"
    assert outcome["message"].startswith("rank 2 on node3 (pid ")
    assert outcome["lost_hosts"] == ["node3"]


def check_end_but_sshd(place, process, lost, load, wait_for):
    """Its sessions of sshd belong to a host that is not reached, and wait for it to come back."""
    limit_s = 3 + GONE_S
    for node in place.cluster.nodes:
        wait_for(lambda node=node: not ranks(node), f"the end of the run on {node.name}", limit_s)
    wait_for(lambda: not of_program(lost, HELPERS), "the end of the launcher's helper", GONE_S)
    lost.link_up()
    kill(lost.sessions())
    return check_end(place, process, load, wait_for)


def test_mlps_itself_killed(start, mpich, wait_for):
    place, process = start(mpich)
    process.kill()
    process.communicate()
    wait_for(lambda: not place.leftovers(), "the end of all processes", GONE_S)


def test_ctrl_c_drains_and_seals(start, flavour, load, wait_for):
    place, process = start(flavour)
    process.send_signal(signal.SIGINT)
    outcome = check_end(place, process, load, wait_for, code=130)
    assert (outcome["status"], outcome["message"]) == ("stopped", "stopped by SIGINT")
    assert outcome["ranks_reported"] == 4


def test_ctrl_c_twice(start, mpich, load, wait_for):
    place, process = start(mpich)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    outcome = check_end(place, process, load, wait_for, code=130)
    # Ranks may have drained before the second request comes.
    assert outcome["reason"] in ("killed", "stop")


def test_the_time_limit_of_a_stage(start, mpich, load, wait_for):
    place, process = start(mpich, "benchmark.time_limit_s=12")
    outcome = check_end(place, process, load, wait_for, gone_s=12 + GONE_S)
    assert outcome["reason"] == "time_limit"
    assert outcome["message"] == "it took longer than 12 s"


HANGING_SSH = """#!/bin/sh
case "$*" in *node3*hydra_pmi_proxy*|*node3*prted*) [ -e {mark} ] && exec sleep 600 ;; esac
exec {ssh} "$@"
"""


def test_an_ssh_that_never_answers_at_start(make_place, flavour, load, wait_for):
    words, env = flavour
    place = make_place(4, **env)
    ssh, mark = place.root / "ssh", place.root / "hang"
    ssh.write_text(HANGING_SSH.format(ssh=place.cluster.ssh, mark=mark))
    ssh.chmod(0o755)
    limit = "benchmark.start_limit_s=15"
    more = ("cluster=4node", f"launcher.ssh={ssh}", limit, *words)
    process = place.start(*place.small(*more))
    wait_for(lambda: list(place.results_dir.glob("*/stages/00-prepare/argv.json")), "a stage", 60)
    mark.touch()  # from the next stage on, or in this one
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4, out + err
    assert "not all ranks had reported after 15 s: nothing came from node3" in err
    wait_for(lambda: not place.leftovers(), "the end of all processes", GONE_S)
    assert (place.archive() / "MANIFEST.sha256").is_file()
    assert list(place.data_dir.iterdir()) == []
