"""A foreign program on several hosts: where it runs, and that nothing of it is left on any."""

from __future__ import annotations

import json
import os
import signal

import pytest
import yaml
from foreign_benchmark import FOREIGN
from workplace import PATIENT

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

PROGRAM = """
import os, socket, subprocess, sys, time
if sys.argv[1] == "hang":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    time.sleep(300)
print("host", socket.gethostname(), "rate: 10 MB/s")
"""

BENCHMARK = FOREIGN | {
    "programs": [{"program": "python3", "version": ["python3", "--version"], "install": {}}],
    "settings": {"script": "prog.py", "mode": "good"},
    "commands": {
        "run": {
            "argv": [
                "python3", "{benchmark.settings.script}", "{benchmark.settings.mode}",
                "{host}",
            ],
            "outputs": {"log": "stdout"},
            "metrics": {
                "read_mib_s": {
                    "output": "log", "regex": "rate: ([0-9]+)", "unit": "MB/s", "processes": "sum",
                }
            },
        }
    },
}  # fmt: skip


@pytest.fixture
def make_job(make_place):
    """A place with the program, and the words of a job of it on four hosts."""

    def make(flavour, *more):
        words, env = flavour
        place = make_place(4, **env)
        script = place.root / "prog.py"
        script.write_text(PROGRAM)
        path = place.root / "conf/benchmark/foreign.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("# A program of a test\n" + yaml.safe_dump(BENCHMARK))
        return place, [
            "benchmark=foreign", "cluster=4node", "data_dir=data", *PATIENT, *words,
            f"launcher.ssh={place.cluster.ssh}", f"benchmark.settings.script={script}", *more,
        ]  # fmt: skip

    return make


def running(place):
    return [process for _, process in place.leftovers() if "prog.py hang" in process.command]


@pytest.mark.parametrize("flavour", ["openmpi"], indirect=True)
def test_each_rank_is_on_its_host_and_its_output_in_the_archive(make_job, flavour, wait_for):
    place, words = make_job(flavour, "cluster.ranks_per_host=2")
    done = place.run(*words)
    assert done.returncode == 0, done.stderr
    stage = place.archive() / "stages/00-run-0"
    result = json.loads((stage / "result.json").read_text())
    hosts = [result["ranks"]["hosts"][index] for index in result["ranks"]["host_index"]]
    assert hosts == [name for name in place.cluster.names for _ in range(2)]
    for rank, host in enumerate(hosts):
        assert f"host {host} " in (stage / f"outputs/log-{rank}").read_text()
    assert result["foreign"]["metrics"]["read_mib_s"] == pytest.approx(80e6 / 2**20)
    assert place.run("verify", str(place.archive())).returncode == 0
    assert list(place.data_dir.iterdir()) == []
    wait_for(lambda: not place.leftovers(), "the end of all processes", 10)


def test_one_process_on_each_host(make_job, wait_for):
    place, words = make_job((["launcher=mpich"], {}), "cluster.ranks_per_host=2")
    done = place.run(*words, "+benchmark.commands.run.start=host")
    assert done.returncode == 0, done.stderr
    outputs = place.archive() / "stages/00-run-0/outputs"
    assert len(list(outputs.iterdir())) == 4


@pytest.mark.parametrize(
    ("flavour", "number"),
    [("openmpi", signal.SIGKILL), ("mpich", signal.SIGTERM)],
    indirect=["flavour"],
)
def test_nothing_is_left_on_any_host_when_it_is_ended(make_job, flavour, wait_for, number):
    place, words = make_job(flavour, "benchmark.settings.mode=hang")
    with place.start(*words) as process:
        wait_for(lambda: len(running(place)) >= 4, "the program on all hosts", 60)
        (mlps,) = [p for _, p in place.leftovers() if "bin/mlps benchmark=foreign" in p.command][:1]
        os.kill(mlps.outer_pid, number)
        process.communicate(timeout=60)
    wait_for(lambda: not place.leftovers(), "the end of all processes", 10)


@pytest.mark.parametrize("flavour", ["openmpi"], indirect=True)
def test_a_time_limit_ends_it_on_all_hosts(make_job, flavour, wait_for):
    limits = ["benchmark.settings.mode=hang", "benchmark.time_limit_s=8"]
    place, words = make_job(flavour, *limits)
    done = place.run(*words)
    assert done.returncode == 4
    assert "failed (time_limit)" in done.stdout
    assert list(place.data_dir.iterdir()) == []
    wait_for(lambda: not place.leftovers(), "the end of all processes", 10)


def test_a_host_that_is_cut_off_is_named(make_job, wait_for):
    place, words = make_job((["launcher=mpich"], {}), "benchmark.settings.mode=hang")
    with place.start(*words) as process:
        wait_for(lambda: len(running(place)) >= 4, "the program on all hosts", 60)
        helper = [
            p for host, p in place.leftovers() if host == "node3" and "hydra_pmi_proxy" in p.command
        ]
        for found in helper:
            os.kill(found.outer_pid, signal.SIGKILL)
        _, stderr = process.communicate(timeout=100)
    assert process.returncode == 4
    assert "node3" in stderr
    wait_for(lambda: not place.leftovers(), "the end of all processes", 10)
