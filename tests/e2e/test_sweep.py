"""Sweeps: one archive per job, one sweep.json, every failure shown when it happens."""

from __future__ import annotations

import signal

import pytest

pytestmark = pytest.mark.mpi


def sweep_file(place):
    (path,) = place.results_dir.glob("sweeps/*/sweep.json")
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith("job-")] == []
    return path


def test_three_values_give_three_archives_and_one_table(place, load):
    done = place.run("-m", *place.small("benchmark.users=1,2,4"))

    assert done.returncode == 0, done.stderr
    document = load(sweep_file(place))
    assert [job["status"] for job in document["jobs"]] == ["complete"] * 3
    assert sorted(job["archive"] for job in document["jobs"]) == [str(p) for p in place.archives()]
    users = [load(path / "job.json")["benchmark"]["users"] for path in place.archives()]
    assert sorted(users) == [1, 2, 4]
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["job", "overrides", "status", "verdict", "result"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert all("benchmark.users=" in row and "GiB/s" in row for row in rows)


def test_a_job_that_fails_in_the_middle_does_not_take_the_others_along(place, load):
    done = place.run("-m", *place.small("benchmark.users=1,0,2"))

    assert done.returncode == 2
    jobs = load(sweep_file(place))["jobs"]
    assert [(job["status"], job["exit_code"]) for job in jobs] == [
        ("complete", 0),
        ("refused", 2),
        ("complete", 0),
    ]
    assert len(place.archives()) == 2
    lines = done.stderr.splitlines()
    failed = next(n for n, line in enumerate(lines) if line.startswith("job 2 refused: "))
    assert "expected an integer >= 1" in lines[failed]
    assert failed < next(n for n, line in enumerate(lines) if line.startswith("job 3/3: "))


def test_fail_fast_skips_what_comes_after_a_failure(place, load):
    done = place.run("-m", *place.small("benchmark.users=1,0,2", "fail_fast=true"))

    assert done.returncode == 2
    jobs = load(sweep_file(place))["jobs"]
    assert [job["status"] for job in jobs] == ["complete", "refused", "skipped"]
    assert len(place.archives()) == 1


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


def test_job_directories_name_the_sweep_they_are_of(place, load):
    place.run("-m", *place.small("seed=1,2"))
    sweep = sweep_file(place).parent.name
    links = [load(path / "environment.json")["links"] for path in place.archives()]
    assert sorted(links, key=lambda link: link["job"]) == [
        {"sweep": sweep, "job": 1},
        {"sweep": sweep, "job": 2},
    ]
