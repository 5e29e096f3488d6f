"""Sweeps: one job for each combination, and a table of how they ended."""

from __future__ import annotations

import io
import json

import pytest

from mlps.engine import sweep as module
from mlps.engine.errors import ConfigError
from mlps.engine.sweep import parsed_results_dir, planned_jobs, run_sweep, write_sweep


@pytest.fixture
def run(player, tmp_path, monkeypatch):
    """Runs a sweep of jobs that a player plays: its directory, document and messages."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        err = io.StringIO()
        return *run_sweep([*player.overrides, *words], (), err), err.getvalue()

    return run


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["seed=1"], 1),
        (["seed=1,2,3"], 3),
        (["seed=1,2", "benchmark.users=2,4,8"], 6),
        (["seed=range(1,5)"], 4),
        (["seed=choice(1,2)"], 2),
        (["cluster=glob(*)"], None),
        (["benchmark.ramp_s=interval(1,2)"], None),
        (["cluster.hosts=[a,b]"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_planned_jobs(words, count):
    assert planned_jobs(words) == count


def test_the_results_directory_of_a_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parsed_results_dir(["seed=1,2"]) == tmp_path / "results"
    assert parsed_results_dir(["results_dir=a"]) == tmp_path / "a"
    assert parsed_results_dir(["results_dir=a,b"]) == tmp_path / "results"


def test_one_job_for_each_combination(run, player):
    directory, document, _ = run("seed=1,2")
    assert directory.parent == player.results_dir / "sweeps"
    written = json.loads((directory / "sweep.json").read_bytes())
    assert written == json.loads(json.dumps(document))
    assert list(directory.glob("job-*")) == []
    assert document["exit_code"] == 0
    jobs = document["jobs"]
    assert [job["number"] for job in jobs] == [1, 2]
    assert [job["overrides"][-1] for job in jobs] == ["seed=1", "seed=2"]
    assert {(job["status"], job["verdict"]) for job in jobs} == {("complete", "WHATIF")}
    assert jobs[0]["headline"] == "read 2.00 GiB/s, write 1.00 GiB/s"
    assert len({job["archive"] for job in jobs}) == 2

    out = io.StringIO()
    write_sweep(out, document)
    assert [line.split()[:4] for line in out.getvalue().splitlines()] == [
        ["job", "overrides", "status", "verdict"],
        ["1", "seed=1", "complete", "WHATIF"],
        ["2", "seed=2", "complete", "WHATIF"],
    ]


def test_a_refused_job_does_not_stop_the_others(run, player, capfd):
    _, document, _ = run("seed=1,-1,3")
    assert [(job["status"], job["exit_code"]) for job in document["jobs"]] == [
        ("complete", 0), ("refused", 2), ("complete", 0),
    ]  # fmt: skip
    assert document["exit_code"] == 2
    assert document["jobs"][1]["message"].startswith(
        "seed (command line: seed=-1): expected an integer >= 0"
    )
    # It is named when it happens, not at the end.
    messages = capfd.readouterr().err
    assert messages.index("job 2 refused: seed") < messages.index("job 3/3: ")


def test_fail_fast(run, player):
    player.behave({"run-0": "die"})
    _, document, _ = run("seed=1,2", "fail_fast=true")
    assert [(job["status"], job["exit_code"]) for job in document["jobs"]] == [
        ("failed", 4), ("skipped", 0),
    ]  # fmt: skip
    assert document["exit_code"] == 4
    assert document["jobs"][1]["message"] == "an earlier job failed (fail_fast=true)"


def test_a_bug_in_one_job_leaves_the_results_of_the_others(run, monkeypatch, capfd):
    real = module.run_job

    def run_job(request, display, stops):
        if request.spec.document["seed"] == 1:
            raise RuntimeError("a bug")
        return real(request, display, stops)

    monkeypatch.setattr(module, "run_job", run_job)
    _, document, _ = run("seed=1,2")
    assert [(job["status"], job["exit_code"]) for job in document["jobs"]] == [
        ("bug", 1), ("complete", 0),
    ]  # fmt: skip
    assert "RuntimeError: a bug" in capfd.readouterr().err


def test_a_job_that_leaves_no_outcome_is_lost(run, monkeypatch):
    real = module.files.write_whole

    def lose(path, data):
        if path.name != "job-0001.json":
            real(path, data)

    monkeypatch.setattr(module.files, "write_whole", lose)
    _, document, _ = run("seed=1,2")
    assert [(job["status"], job["exit_code"]) for job in document["jobs"]] == [
        ("lost", 4), ("complete", 0),
    ]  # fmt: skip


def test_jobs_after_a_stop_are_skipped(run, monkeypatch):
    real = module.run_job

    def stop_then_run(request, display, stops):
        stops(2, None)
        stops.count = 0  # the first job itself goes on
        report = real(request, display, stops)
        stops.count = 1
        return report

    monkeypatch.setattr(module, "run_job", stop_then_run)
    _, document, _ = run("seed=1,2")
    assert [job["status"] for job in document["jobs"]] == ["complete", "skipped"]
    assert document["jobs"][1]["message"] == "stopped by SIGINT"
    assert document["exit_code"] == 130


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("cluster.hosts=[a", "cannot be read"),
        ("nosuchgroup/x=1,2", "nosuchgroup/x"),
    ],
)
def test_a_sweep_that_cannot_start_leaves_nothing(run, player, word, text):
    with pytest.raises(ConfigError) as caught:
        run(word)
    assert text in str(caught.value)
    assert not player.results_dir.exists()


def test_jobs_know_their_sweep(run, player):
    directory, document, _ = run("seed=7")
    (job,) = document["jobs"]
    environment = json.loads(
        (player.results_dir / job["archive"].rsplit("/", 1)[1] / "environment.json").read_bytes()
    )
    assert environment["links"] == {"sweep": directory.name, "job": 1}
