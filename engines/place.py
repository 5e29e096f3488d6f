"""Where a job keeps what outlives it: a directory below data_dir, or a whole path of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .contract import Job
from .errors import JobError, storage_error
from .io_core.directory import claim, is_own, make_directory
from .section import Section

NAMED = 5
# Of keys that differ, so many are told.
_TOLD = 3
_ABSENT = "nothing"
# What a new file system may hold already.
_IGNORED = frozenset({"lost+found"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory for what a job makes, and whether that stays there after it."""

    directory: Path
    kept: bool


def place_of(job: Job, own: str) -> Place:
    """Where the job's key `directory` says, or `own` in the job's directory; raises JobError."""
    section = Section(job.benchmark)
    if section.value("directory") is None:
        return Place(directory=job.directory / own, kept=False)
    directory = lasting_directory(job, section.text("directory"), "benchmark.directory")
    # Only there is the space looked at, and the file system compared with that of the results.
    if job.data_dir not in directory.parents:
        raise JobError(
            f"benchmark.directory must be a directory below {job.data_dir}, got {str(directory)!r}:"
            " set data_dir to a directory above it"
        )
    return Place(directory=directory, kept=True)


def make_place(place: Place, job: Job) -> None:
    """Makes the directory, one that stays or one of the job's own; raises EngineError."""
    if place.kept:
        make_lasting(place.directory, job)
    else:
        claim(job.directory, job.sha256)
        make_directory(place.directory)


def is_in_own(place: Place, job: Job) -> bool:
    """Whether it is in the job's directory, and that is this job's; raises EngineError."""
    return not place.kept and is_own(job.directory, job.sha256)


def difference(found: Mapping[str, object], wanted: Mapping[str, object]) -> str | None:
    """The first keys in which what is there differs from what a job wants, else None."""
    differs = [
        f"{key}: found {found.get(key, _ABSENT)}, asked {wanted.get(key, _ABSENT)}"
        for key in dict.fromkeys((*wanted, *found))
        if found.get(key, _ABSENT) != wanted.get(key, _ABSENT)
    ]
    if not differs:
        return None
    rest = len(differs) - _TOLD
    return "; ".join(differs[:_TOLD]) + (f"; and {rest} more" if rest > 0 else "")


def lasting_directory(job: Job, named: str, key: str) -> Path:
    """The directory that a key of the job names; raises JobError."""
    directory = job.data_dir / named
    if ".." in directory.parts or directory in (job.data_dir, *job.data_dir.parents):
        raise JobError(
            f"{key} must be a directory below {job.data_dir} or a whole path of"
            f" another, got {named!r}"
        )
    return directory


def make_lasting(directory: Path, job: Job) -> None:
    """Makes such a directory and, below data_dir, those above it; raises EngineError."""
    if job.data_dir in directory.parents:
        for above in reversed(directory.parents):
            if job.data_dir in above.parents:
                make_directory(above)
    make_directory(directory)


def names_in(directory: Path) -> list[str]:
    """What is in a directory, by name; nothing where there is none. Raises EngineError."""
    try:
        found = sorted(path.name for path in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, "list", directory) from error
    return [name for name in found if name not in _IGNORED]


def named(names: Iterable[str], count: int | None = None) -> str:
    """The first of some names, and how many more there are of `count`."""
    every = list(names)
    rest = (len(every) if count is None else count) - len(every[:NAMED])
    return ", ".join(every[:NAMED]) + (f" and {rest} more" if rest else "")
