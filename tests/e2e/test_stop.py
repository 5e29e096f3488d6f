"""Every way to stop a job ends in a sealed archive that says so, and leaves nothing running."""

from __future__ import annotations

import shutil
import signal

import psutil
import pytest

pytestmark = pytest.mark.mpi

LONG = "benchmark.duration_s=60"


@pytest.fixture
def running(place, wait_for):
    """A job in its run stage, with its two rank processes in rank order."""

    def start(*more: str):
        process = place.start(*place.small(LONG, *more))

        def ranks():
            found = place.ranks("--stage run")
            return len(found) == 2 and sorted(found, key=lambda rank: rank.pid)

        def progressed():
            logs = list(place.results_dir.glob("*/stages/01-run-0/stdout.log"))
            return logs and b'"progress"' in logs[0].read_bytes()

        found = wait_for(ranks, "two ranks in the run stage")
        wait_for(progressed, "the first progress of the run stage")
        return process, found

    return start


def ended(place, process, code: int, load, wait_for):
    """The outcome of the run stage and the text of a job that has ended and left nothing."""
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err, err
    assert place.leftovers() == []
    assert list(place.data_dir.iterdir()) == []
    archive = place.archive()
    assert (archive / "MANIFEST.sha256").is_file()
    assert load(archive / "verdict.json")["verdict"] == "INVALID"
    assert [path.name for path in archive.rglob(".*")] == []
    assert place.run("verify", str(archive)).returncode == 7
    return load(archive / "stages/01-run-0/outcome.json"), err


# SIGTERM: in tests/e2e/test_replay.py and, from Slurm, in tests/cluster.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_one_request_ends_gracefully(place, running, load, wait_for, number):
    process, _ = running()
    process.send_signal(number)
    outcome, _ = ended(place, process, 130, load, wait_for)
    assert (outcome["status"], outcome["reason"]) == ("stopped", "stop")
    assert outcome["message"] == f"stopped by {number.name}"
    assert load(place.archive() / "result.json")["status"] == "interrupted"
    assert load(place.archive() / "result.json")["metrics"][0]["values"] == {}


def test_two_requests_end_at_once(place, running, load, wait_for):
    process, ranks = running()
    for rank in ranks:
        rank.suspend()  # so that the first request cannot be obeyed
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if line == "stopping; once more ends it at once\n":
            break
    process.send_signal(signal.SIGINT)
    outcome, _ = ended(place, process, 130, load, wait_for)
    assert (outcome["status"], outcome["reason"]) == ("failed", "killed")


# Rank 0, the one that speaks for all: in tests/cluster.
def test_a_killed_rank_is_named(place, running, load, wait_for):
    process, ranks = running()
    victim = ranks[1]
    victim.kill()
    outcome, err = ended(place, process, 4, load, wait_for)
    assert (outcome["status"], outcome["reason"]) == ("failed", "rank_died")
    assert outcome["message"].startswith("rank 1 on ")
    assert f"(pid {victim.pid}) died" in outcome["message"]
    assert outcome["message"] in err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_hangs_is_named(place, running, load, wait_for, rank):
    process, ranks = running("benchmark.silence_limit_s=2")
    ranks[rank].suspend()
    outcome, _ = ended(place, process, 4, load, wait_for)
    assert (outcome["status"], outcome["reason"]) == ("failed", "silence")
    assert f"rank {rank} on " in outcome["message"]
    assert "gave no sign of life for" in outcome["message"]


def test_a_killed_launcher(place, running, load, wait_for):
    process, _ = running()
    for child in psutil.Process(process.pid).children():
        child.kill()
    outcome, _ = ended(place, process, 4, load, wait_for)
    assert outcome["status"] == "failed"
    assert "signal 9" in outcome["message"]


def test_the_time_limit(place, load, wait_for):
    stages = (
        "{name: prepare, each: option}",
        "{name: run, each: trial, measured: true, time_limit_s: 2}",
        "{name: cleanup, each: option, when: always}",
    )
    process = place.start(*place.small(LONG, f"benchmark.stages=[{','.join(stages)}]"))
    outcome, _ = ended(place, process, 4, load, wait_for)
    assert (outcome["reason"], outcome["message"]) == ("time_limit", "it took longer than 2 s")


def test_mlps_itself_killed_leaves_no_rank(place, running, wait_for):
    process, _ = running()
    process.kill()
    process.communicate()
    wait_for(lambda: not place.leftovers(), "the end of all ranks", limit_s=15)
    done = place.run("verify", str(place.archive()))
    assert done.returncode == 6
    assert "it has no seal: its job is still running, or was killed" in done.stdout


def test_a_results_directory_that_vanishes(place, running, wait_for):
    process, _ = running()
    shutil.rmtree(place.results_dir)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (6, False), err
    assert "cannot be written: No such file or directory" in err
    assert place.leftovers() == []
    assert list(place.data_dir.iterdir()) == []


def test_a_corrupted_block_fails_the_resumed_run_and_is_named(place, load, wait_for):
    """Prepared data is taken over by a resume, and what has happened to it since is found."""
    process = place.start(*place.small("benchmark.cleanup=success"))
    wait_for(
        lambda: list(place.results_dir.glob("*/stages/00-prepare/outcome.json")), "a prepared job"
    )
    (segment,) = place.data_dir.glob("*/rank_0001/segment_0000.dat")
    hidden = segment.rename(segment.with_suffix(".hidden"))
    process.communicate(timeout=60)
    assert process.returncode == 4
    first = place.archive()
    hidden.rename(segment)
    with segment.open("r+b") as file:
        for offset in range(0, segment.stat().st_size, 4096):
            file.seek(offset)
            file.write(b"\xff" * 16)

    done = place.run("resume", str(first))

    assert done.returncode == 4, done.stderr
    assert "00-prepare: taken over from the archive that is resumed" in done.stderr
    (second,) = set(place.archives()) - {first}
    assert load(second / "environment.json")["links"] == {"resumed_from": first.name}
    outcome = load(second / "stages/01-run-0/outcome.json")
    assert outcome["reason"] == "engine"
    for word in ("rank 1 on ", str(segment), "offset", "expected", "found"):
        assert word in outcome["message"]
