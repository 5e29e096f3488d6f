"""Running an archived job again, going on with one, and many jobs at the same time."""

from __future__ import annotations

import subprocess

import pytest
from systems import text_of

pytestmark = pytest.mark.mpi


def test_rerun_runs_the_same_job_from_any_directory(place, tmp_path_factory, load):
    description = place.root / "filer.yaml"
    description.write_text(text_of("onprem"))
    assert place.run(*place.small("system.file=filer.yaml")).returncode == 0
    description.unlink()
    first = place.archive()
    assert load(first / "job.json")["system"]["name"] == "filer"
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    done = subprocess.run(
        [place.mlps, "rerun", first], cwd=elsewhere, env=place.env(), capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert list(elsewhere.iterdir()) == []
    (second,) = set(place.archives()) - {first}
    assert (second / "job.json").read_bytes() == (first / "job.json").read_bytes()
    assert load(second / "environment.json")["links"] == {"rerun_of": first.name}
    assert place.run("verify", str(second)).returncode == 0


def test_resume_makes_again_what_was_cleaned_and_keeps_finished_trials(place, load, wait_for):
    process = place.start(*place.small("trials=2", "benchmark.duration_s=2"))
    wait_for(lambda: place.ranks("--stage run --trial 1"), "the second trial")
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    first = place.archive()

    done = place.run("resume", str(first))

    assert done.returncode == 0, done.stderr
    (second,) = set(place.archives()) - {first}
    assert load(second / "environment.json")["links"] == {"resumed_from": first.name}
    kept = "stages/01-run-0/result.json"
    assert (second / kept).read_bytes() == (first / kept).read_bytes()
    result = load(second / "result.json")
    assert (result["status"], result["metrics"][0]["trials"]) == ("complete", 2)
    assert place.run("verify", str(second)).returncode == 0
    assert list(place.data_dir.iterdir()) == []


def test_resume_of_a_finished_job_is_refused(place, finished):
    done = place.run("resume", str(finished))
    assert done.returncode == 6
    assert "every stage is finished, there is nothing to resume" in done.stderr


def test_resume_of_a_running_job_is_refused(place, wait_for):
    process = place.start(*place.small("benchmark.duration_s=30"))
    wait_for(lambda: place.ranks("--stage run"), "the run stage")
    done = place.run("resume", str(place.archive()))
    process.terminate()
    process.communicate(timeout=60)
    assert done.returncode == 6
    assert f"its job is still running (pid {process.pid})" in done.stderr


def test_jobs_at_once_give_an_archive_each(place):
    """Eight begin in the same second or two: enough to meet each other, each with its own MPI."""
    # So long that each of them moves something while the others take its processor.
    long = "benchmark.duration_s=3"
    job = place.small("cluster.ranks_per_host=1", "benchmark.start_limit_s=120", long)
    processes = [place.start(*job) for _ in range(8)]
    outputs = [process.communicate(timeout=240) for process in processes]

    codes = [process.returncode for process in processes]
    assert codes == [0] * 8, [err for _, err in outputs if "error" in err][:1]
    assert len(place.archives()) == 8
    assert place.run("verify", str(place.results_dir)).returncode == 0
    assert list(place.data_dir.iterdir()) == []
