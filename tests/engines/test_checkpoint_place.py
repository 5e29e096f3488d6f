"""Where checkpoints are, and that nothing is written over what another run or program made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlps.engines import place as places
from mlps.engines.checkpoint_native.manifest import MANIFEST, Manifest, write_manifest
from mlps.engines.checkpoint_native.place import OWN, OWNER, give_back, make_ready
from mlps.engines.contract import Job
from mlps.engines.errors import EngineError, JobError
from mlps.engines.io_core.directory import MARKER, is_own
from mlps.engines.place import Place


def place_of(job):
    return places.place_of(job, OWN)


@pytest.fixture
def job(tmp_path):
    """A job that keeps its checkpoints below data_dir."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    return Job(
        sha256="a" * 64,
        run_id="one",
        benchmark={"directory": "kept"},
        data_dir=data_dir,
        seed=42,
    )


@pytest.fixture
def kept(job):
    """Its place, not yet made."""
    return place_of(job)


def kept_at(job, directory):
    return replace(job, benchmark={"directory": str(directory)})


def complete(directory, run_id, checkpoints=(1, 2)):
    """What a run leaves that has completed checkpoints."""
    for number in checkpoints:
        (directory / f"global_epoch1_step{number}").mkdir(exist_ok=True)
    manifest = Manifest(
        run_id=run_id,
        job_sha256="b" * 64,
        identity={},
        key=2**63 + 1,
        seed=1,
        row_bytes=4096,
        hosts=("here",),
        checkpoints=checkpoints,
        start_unix_s=1,
        end_unix_s=2,
    )
    write_manifest(directory, manifest)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


# ---------------------------------------------------------------- where it is


def test_a_job_that_keeps_none_has_them_in_its_own_directory(job):
    place = place_of(replace(job, benchmark={"directory": None}))
    assert place == Place(directory=job.directory / OWN, kept=False)


def test_kept_checkpoints_are_below_data_dir(job):
    there = Place(directory=job.data_dir / "kept", kept=True)
    assert place_of(job) == place_of(kept_at(job, job.data_dir / "kept")) == there


@pytest.mark.parametrize(
    "word", ["../out", ".", "a/../../b", "/", "{data_dir}", "{data_dir}/..", "/elsewhere"]
)
def test_no_other_directory_is_taken(job, word):
    with pytest.raises(JobError, match=r"benchmark.directory must be a directory below /.*/data"):
        place_of(kept_at(job, word.format(data_dir=job.data_dir)))


# ---------------------------------------------------------------- an own place


def test_an_own_place_is_made_in_the_directory_of_the_job(job):
    job = replace(job, benchmark={"directory": None})
    place = place_of(job)
    make_ready(place, job)
    assert is_own(job.directory, job.sha256)
    assert names(job.directory) == [MARKER, OWN]
    complete(place.directory, job.run_id)
    make_ready(place, job)
    assert names(place.directory) == ["global_epoch1_step1", "global_epoch1_step2"]


def test_the_directory_of_another_job_is_not_taken(job):
    job = replace(job, benchmark={"directory": None})
    make_ready(place_of(job), job)
    other = replace(job, sha256="b" * 64)
    with pytest.raises(EngineError, match=r"mlps-one belongs to another job"):
        make_ready(place_of(other), other)


# ---------------------------------------------------------------- a kept place


def test_a_kept_place_is_made_with_what_is_above_it(job):
    deep = kept_at(job, "a/b/c")
    make_ready(place_of(deep), deep)
    assert names(job.data_dir / "a/b/c") == [OWNER]
    assert not job.directory.exists()


def test_the_top_of_a_new_file_system_is_empty(job, kept):
    (kept.directory / "lost+found").mkdir(parents=True)
    make_ready(kept, job)
    assert names(kept.directory) == [OWNER, "lost+found"]


def test_a_run_writes_over_its_own_checkpoints(job, kept):
    make_ready(kept, job)
    complete(kept.directory, job.run_id)
    make_ready(kept, job)
    assert MANIFEST not in names(kept.directory)
    # It was ended in the middle of writing them, and starts again.
    make_ready(kept, job)
    (kept.directory / OWNER).unlink()
    complete(kept.directory, job.run_id)
    make_ready(kept, job)
    assert names(kept.directory)[0] == OWNER


def test_checkpoints_of_another_run_are_not_written_over(job, kept):
    kept.directory.mkdir()
    complete(kept.directory, "zero")
    before = names(kept.directory)
    with pytest.raises(EngineError) as raised:
        make_ready(kept, job)
    assert str(raised.value) == (
        f"{kept.directory} holds 2 checkpoints of another run, zero: give another place with"
        " benchmark.directory=..., or read them with benchmark.writes=0"
    )
    assert names(kept.directory) == before


def test_a_damaged_manifest_is_not_written_over(job, kept):
    kept.directory.mkdir()
    (kept.directory / MANIFEST).write_text("{")
    with pytest.raises(EngineError, match=r"is damaged"):
        make_ready(kept, job)


def test_where_another_run_writes_no_second_one_does(job, kept):
    make_ready(kept, job)
    other = replace(job, run_id="two")
    with pytest.raises(EngineError, match=r"another run, one, writes checkpoints or has left them"):
        make_ready(kept, other)
    assert json.loads((kept.directory / OWNER).read_bytes()) == {"run_id": "one"}
    (kept.directory / OWNER).write_text("")
    with pytest.raises(EngineError, match=r"where another run writes checkpoints"):
        make_ready(kept, other)


def test_what_others_have_made_is_named(job, kept):
    kept.directory.mkdir()
    for name in ("a", "b", "c", "d", "e", "f", "g"):
        (kept.directory / name).touch()
    with pytest.raises(EngineError) as raised:
        make_ready(kept, job)
    assert str(raised.value) == (
        f"{kept.directory} holds what mlps did not make: a, b, c, d, e and 2 more. Empty it, or"
        " give another place with benchmark.directory=..."
    )
    assert names(kept.directory) == list("abcdefg")


def test_a_file_is_no_place(job, kept):
    kept.directory.touch()
    with pytest.raises(EngineError, match=r"cannot make directory .*/kept"):
        make_ready(kept, job)


def test_a_place_that_was_given_back_is_any_runs(job, kept):
    make_ready(kept, job)
    give_back(kept, replace(job, run_id="two"))
    assert names(kept.directory) == [OWNER]
    give_back(kept, job)
    assert names(kept.directory) == []
    other = replace(job, run_id="two")
    make_ready(kept, other)
    complete(kept.directory, "two")
    before = names(kept.directory)
    give_back(kept, other)
    assert names(kept.directory) == before


def test_there_may_be_nothing_to_give_back(job, kept):
    give_back(kept, job)
    own = replace(job, benchmark={"directory": None})
    make_ready(place_of(own), own)
    give_back(place_of(own), own)
    assert names(job.directory) == [MARKER, OWN]
