"""Where a job keeps what outlives it: a directory below data_dir, or a whole path of another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .contract import Job
from .errors import JobError, storage_error
from .io_core.directory import make_directory

NAMED = 5
# What a new file system may hold already.
_IGNORED = frozenset({"lost+found"})


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
