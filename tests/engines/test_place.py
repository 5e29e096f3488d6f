"""The place of what outlives a stage: the job's own directory, or one that is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlps.engines.contract import Job
from mlps.engines.errors import EngineError, JobError
from mlps.engines.place import Place, difference, is_in_own, make_place, place_of


@pytest.fixture
def job(tmp_path):
    return Job(
        sha256="a" * 64, run_id="one", benchmark={"directory": None}, data_dir=tmp_path, seed=42
    )


def kept_at(job, directory):
    return replace(job, benchmark={"directory": str(directory)})


def test_it_is_the_jobs_own_or_one_below_data_dir(job):
    assert place_of(job, "own") == Place(directory=job.directory / "own", kept=False)
    there = Place(directory=job.data_dir / "a" / "b", kept=True)
    assert place_of(kept_at(job, "a/b"), "own") == there
    assert place_of(kept_at(job, job.data_dir / "a" / "b"), "own") == there


@pytest.mark.parametrize("word", ["/elsewhere", "..", "a/../b", "."])
def test_another_place_is_refused(job, word):
    with pytest.raises(JobError, match=r"benchmark\.directory must be a directory below"):
        place_of(kept_at(job, word), "own")


@pytest.mark.parametrize("directory", [None, "a/b"])
def test_it_is_made_with_what_is_above_it(job, directory):
    job = replace(job, benchmark={"directory": directory})
    place = place_of(job, "own")
    assert not is_in_own(place, job)
    make_place(place, job)
    make_place(place, job)
    assert place.directory.is_dir()
    assert is_in_own(place, job) == (directory is None)
    assert job.directory.exists() == (directory is None)


def test_an_own_place_of_another_job_is_not_taken(job):
    make_place(place_of(job, "own"), job)
    other = replace(job, sha256="b" * 64)
    with pytest.raises(EngineError, match="belongs to another job"):
        is_in_own(place_of(other, "own"), other)


def test_differences_are_told_by_their_keys():
    assert difference({"a": 1, "b": 2.0}, {"b": 2, "a": 1}) is None
    assert difference({"a": 1}, {"a": 2, "b": 3}) == (
        "a: found 1, asked 2; b: found nothing, asked 3"
    )
    found = difference(dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2))
    assert found.endswith("c: found 1, asked 2; and 2 more")
