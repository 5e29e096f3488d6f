"""Benchmarks of the training family as their users start them, as small as they can be."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = pytest.mark.mpi

TINY = (
    "benchmark=training/quick",
    "benchmark.dataset.record_bytes=100000",
    "benchmark.dataset.record_bytes_stdev=0",
    "benchmark.train.computation_s=0.01",
    "benchmark.ceiling.steps=12",
    "preflight.skip=[CAP-03]",
    "monitor.interval_s=null",
)

SLOW = ("benchmark.train.computation_s=5", "benchmark.ceiling.when=never")


@pytest.fixture
def trained(place, memory, load):
    """Runs a job whose data are in memory; returns what it printed, and its archive."""

    def run(*words, exit_code=0):
        text, archive = place.archived(*TINY, f"data_dir={memory}", *words, exit_code=exit_code)
        assert place.run("verify", str(archive)).returncode == 0
        return text, archive

    return run


def shape(text):
    """A report without its figures."""
    return re.sub(r"[0-9][0-9,.]*", "#", text)


def test_a_quick_run_reports_what_a_user_wants_to_know(trained, memory, load):
    text, archive = trained()
    assert list(memory.iterdir()) == []
    lines = shape(text).splitlines()
    assert lines[:2] == [
        "training/quick on # ranks, # host: complete, verdict WHATIF",
        "run, mean of # trial",
    ]
    assert lines[2].startswith("accelerator utilisation (AU) # %, # % asked for: ")
    assert any(line.startswith("AU without reads # %, as DLIO computes it # %") for line in lines)
    assert sum(re.fullmatch(r"( +#)+( +-)?", line) is not None for line in lines) == 3  # epochs
    (summary,) = load(archive / "result.json")["metrics"]
    values = summary["values"]
    for name in ("au_nominal_pct", "au_dlio_pct", "au_wall_pct", "au_engine_ceiling_pct"):
        assert 0 < values[name]["mean"] <= 100.5, name
    assert values["train_gib_s"]["mean"] > 0
    assert values["batch_wait_p99_ms"]["mean"] > 0
    assert [epoch["steps"] for epoch in summary["notes"]["epochs"][0]] == [12, 12, 12]


def test_a_dataset_is_made_once_and_stays_for_other_jobs(trained, memory, load):
    words = ("benchmark.dataset.directory=kept",)
    trained(*words, "stages=[generate]")
    before = {path: path.stat().st_mtime_ns for path in (memory / "kept").rglob("*.npz")}
    _, archive = trained(*words, "stages=[generate,run,cleanup]")
    made = load(archive / "stages/00-generate/result.json")["dataset"]
    assert (made["written_files"], made["checked_files"]) == (0, 104)
    after = {path: path.stat().st_mtime_ns for path in (memory / "kept").rglob("*.npz")}
    assert before == after
    assert [path.name for path in memory.iterdir()] == ["kept"]


def test_a_dataset_that_differs_is_refused_before_anything_starts(place, memory, trained):
    trained("benchmark.dataset.directory=kept", "stages=[generate]")
    archives = place.archives()
    done = place.run(
        *TINY, f"data_dir={memory}", "benchmark.dataset.directory=kept",
        "benchmark.dataset.train.files=97",
    )  # fmt: skip
    assert done.returncode == 3
    assert "dataset.train.files: found 96, asked 97" in done.stderr
    assert place.archives() == archives


def test_files_that_mlps_did_not_make_are_refused_by_name_and_stay(place, memory):
    foreign = memory / "kept" / "holiday.jpg"
    foreign.parent.mkdir()
    foreign.write_bytes(b"x")
    done = place.run(*TINY, f"data_dir={memory}", "benchmark.dataset.directory=kept")
    assert done.returncode == 3
    assert "holiday.jpg" in done.stderr
    assert "dataset.generate=false" in done.stderr
    assert foreign.read_bytes() == b"x"


def test_a_file_that_was_cut_short_is_refused_by_name(place, memory, trained):
    words = ("benchmark.dataset.directory=kept",)
    trained(*words, "stages=[generate]")
    victim = sorted((memory / "kept").rglob("*.npz"))[5]
    victim.write_bytes(victim.read_bytes()[:-1])
    done = place.run(*TINY, f"data_dir={memory}", *words, "stages=[generate]")
    assert done.returncode == 4
    assert victim.name in done.stderr


def test_trials_after_a_warm_up_give_one_figure(trained, load, place):
    words = ("trials=2", "benchmark.train.epochs=1", "benchmark.ceiling.when=never")
    _, archive = trained(*words)
    stages = sorted(path.name for path in (archive / "stages").iterdir())
    assert stages == ["00-generate", "01-warmup", "02-run-0", "03-run-1", "04-cleanup"]
    (summary,) = load(archive / "result.json")["metrics"]
    assert (summary["trials"], summary["complete"]) == (2, True)
    printed = json.loads(place.run("report", "--dlio", str(archive)).stdout)
    assert len(printed) == 2
    for own in printed.values():
        assert len(own["metric"]["train_au_percentage"]) == 1


def test_a_stopped_run_is_interrupted_and_leaves_nothing(place, memory, load, wait_for):
    words = [word for word in TINY if not word.startswith("benchmark.train.computation_s")]
    process = place.start(*words, f"data_dir={memory}", *SLOW)
    wait_for(lambda: place.ranks("--stage warmup"), "the ranks of the warm-up", 60)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert list(memory.iterdir()) == []
    assert place.leftovers() == []
    assert load(place.archive() / "verdict.json")["verdict"] == "INVALID"
