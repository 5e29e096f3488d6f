"""Sweeps: one archive per job, one sweep.json, every failure shown when it happens."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

pytestmark = pytest.mark.mpi

ONE_RANK = "cluster.ranks_per_host=1"


def sweep_file(place):
    (path,) = place.results_dir.glob("sweeps/*/sweep.json")
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith("job-")] == []
    return path


def test_two_values_give_two_archives_and_one_table(place, load):
    done = place.run("-m", *place.small("benchmark.users=1,2", ONE_RANK))

    assert done.returncode == 0, done.stderr
    path = sweep_file(place)
    document = load(path)
    assert [job["status"] for job in document["jobs"]] == ["complete"] * 2
    assert sorted(job["archive"] for job in document["jobs"]) == [str(p) for p in place.archives()]
    users = [load(path / "job.json")["benchmark"]["users"] for path in place.archives()]
    assert sorted(users) == [1, 2]
    links = [load(path / "environment.json")["links"] for path in place.archives()]
    assert sorted(links, key=lambda link: link["job"]) == [
        {"sweep": path.parent.name, "job": 1},
        {"sweep": path.parent.name, "job": 2},
    ]
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["job", "overrides", "status", "verdict", "result"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all("benchmark.users=" in row and "GiB/s" in row for row in rows)


# That the others run without it: in other processes, below, and in tests/test_sweep.py.
def test_fail_fast_skips_what_comes_after_a_failure(place, load):
    done = place.run("-m", *place.small("benchmark.users=1,0,2", ONE_RANK, "fail_fast=true"))

    assert done.returncode == 2
    jobs = load(sweep_file(place))["jobs"]
    assert [(job["status"], job["exit_code"]) for job in jobs] == [
        ("complete", 0),
        ("refused", 2),
        ("skipped", 0),
    ]
    assert len(place.archives()) == 1
    lines = done.stderr.splitlines()
    (failed,) = (line for line in lines if line.startswith("job 2 refused: "))
    assert "expected an integer >= 1" in failed


def test_ctrl_c_ends_the_job_that_runs_and_skips_the_rest(place, load, wait_for):
    process = place.start("-m", *place.small("benchmark.users=1,2", "benchmark.duration_s=60"))
    wait_for(lambda: place.ranks("--stage run"), "the first job's run stage")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    jobs = load(sweep_file(place))["jobs"]
    assert [job["status"] for job in jobs] == ["interrupted", "skipped"]
    assert place.leftovers() == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["benchmark=kvcache/quick,nosuch"], "nosuch"),
        (["benchmark=kvcache/quick", "seed=1,[2"], "cannot be read"),
        (["benchmark=kvcache/quick", "seed=1,2", "seed=3"], "set twice"),
    ],
    ids=["unknown option", "grammar", "twice"],
)
def test_a_sweep_that_cannot_start_leaves_nothing(place, words, text):
    done = place.run("-m", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert text in done.stderr
    assert [path.name for path in place.root.iterdir()] == ["data"]


# ---------------------------------------------------------------- in processes of submitit


def test_jobs_in_other_processes_end_as_others_do(place, load):
    """A relative data_dir, a user's options and an own --config-dir reach the processes."""
    own = place.root / "own" / "cluster"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# Mine\ndefaults: [local]\nname: mine\n")
    sweep = ("benchmark.users=1,0,2", ONE_RANK, "hydra/launcher=submitit_local", "cluster=mine")
    words = place.small(*sweep)
    done = place.run("-m", "--config-dir", "own", *words)

    assert done.returncode == 2, done.stderr
    jobs = load(sweep_file(place))["jobs"]
    assert [job["status"] for job in jobs] == ["complete", "refused", "complete"], done.stderr
    assert sorted(jobs[n]["archive"] for n in (0, 2)) == [str(p) for p in place.archives()]
    assert [load(path / "job.json")["cluster"]["name"] for path in place.archives()] == ["mine"] * 2
    said = [re.sub(r"process \d+", "process N", line) for line in done.stderr.splitlines()]
    assert said[:5] == [
        "job 1/3: benchmark.users=1: process N",
        "job 1/3 runs",
        said[2],
        "job 2/3: benchmark.users=0: process N",
        said[4],
    ]
    assert re.fullmatch(r"job 1/3 complete: read \S+ GiB/s, write \S+ GiB/s", said[2])
    assert place.leftovers() == []


def _group(pid):
    """A process and those below it that a terminal would signal with it."""
    own = psutil.Process(pid)
    below = own.children(recursive=True)
    return [own, *(child for child in below if os.getpgid(child.pid) == os.getpgid(pid))]


@pytest.mark.parametrize("to_all", [True, False], ids=["the whole group", "mlps alone"])
def test_ctrl_c_reaches_a_job_in_another_process_once(place, load, wait_for, to_all):
    process = place.start(
        "-m",
        *place.small(
            "benchmark.users=1,2", "benchmark.duration_s=60", "hydra/launcher=submitit_local"
        ),
    )
    wait_for(lambda: place.ranks("--stage run"), "the first job's run stage")
    for child in _group(process.pid):
        if to_all or child.pid == process.pid:
            child.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130, said
    jobs = load(sweep_file(place))["jobs"]
    assert [job["status"] for job in jobs] == ["interrupted", "skipped"]
    assert jobs[0]["message"] == "stage 01-run-0 stop: stopped by SIGTERM"
    assert jobs[1]["message"] == "stopped by SIGINT before it was submitted"
    assert place.leftovers() == []


def test_a_job_whose_process_is_killed_is_lost_and_the_next_one_runs(place, load, wait_for):
    words = place.small("benchmark.users=1,2", ONE_RANK, "benchmark.duration_s=3")
    process = place.start("-m", *words, "hydra/launcher=submitit_local")
    wait_for(lambda: place.ranks("--stage run"), "the first job's run stage")
    for child in psutil.Process(process.pid).children(recursive=True):
        if "submitit.core._submit" in child.cmdline():
            child.kill()
    _, said = process.communicate(timeout=90)

    assert process.returncode == 4, said
    lost, after = load(sweep_file(place))["jobs"]
    assert (lost["status"], lost["exit_code"], after["status"]) == ("lost", 4, "complete")
    assert "and left no outcome in" in lost["message"]
    assert "_log.err" in lost["message"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["hydra/launcher=submitit_slurm"], "submits the jobs of a sweep, and this is a single"),
        (["-m", "hydra/launcher=submitit_slurm"], "sbatch, squeue, scancel not found on PATH"),
    ],
    ids=["a single job", "no Slurm"],
)
def test_a_launcher_that_cannot_submit_leaves_nothing(place, words, text):
    done = place.run(*words, *place.small(), PATH=str(place.root))
    assert done.returncode in (2, 3), done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not place.results_dir.exists()
