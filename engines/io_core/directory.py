"""The job's own directory in the storage under test: claimed once, recognised, removed by name."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

from ..errors import EngineError, storage_error
from .files import sync_directory, write_whole

MARKER = "MLPS_JOB"


def claim(directory: Path, job_sha256: str) -> None:
    """Makes the directory with its marker, or takes the one that this same job has made before."""
    try:
        directory.mkdir()
    except FileExistsError:
        recognise(directory, job_sha256)
        return
    except OSError as error:
        raise storage_error(error, "make directory", directory) from error
    write_whole(directory / MARKER, job_sha256.encode() + b"\n")
    sync_directory(directory.parent)


def recognise(directory: Path, job_sha256: str) -> None:
    """Checks that this job owns the directory; raises EngineError naming it."""
    found = _owner(directory)
    if found is None:
        missing = "does not exist" if not directory.is_dir() else f"has no file {MARKER}"
        raise EngineError(
            f"{directory} {missing}: was the job prepared, and do all hosts see the same data_dir?"
        )
    if found != job_sha256:
        raise EngineError(
            f"{directory} belongs to another job (SHA-256 {found[:16]}, not {job_sha256[:16]})"
        )


def make_directory(path: Path) -> None:
    """Makes one directory unless it is there; raises EngineError."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(error, "make directory", path) from error


def remove_files(directory: Path, names: Iterable[str]) -> int:
    """Removes the named files as far as they exist and returns how many those were."""
    removed = 0
    for name in names:
        path = directory / name
        try:
            path.unlink()
            removed += 1
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise storage_error(error, "remove", path) from error
    return removed


def remove_if_empty(directory: Path) -> list[str]:
    """Removes a directory if nothing is in it, else returns the paths of what it holds."""
    try:
        directory.rmdir()
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return sorted(str(path) for path in directory.iterdir())
        raise storage_error(error, "remove directory", directory) from error
    return []


def is_own(directory: Path, job_sha256: str) -> bool:
    """Whether this job may remove what is in it: False if there is no directory or no marker.

    Raises EngineError if the directory belongs to another job.
    """
    if _owner(directory) is None:
        return False
    recognise(directory, job_sha256)
    return True


def release(directory: Path, job_sha256: str, subdirectories: Iterable[str]) -> list[str]:
    """Removes the subdirectories that are empty, and if nothing else is left marker and directory.

    Returns the paths of what was left. A directory of another job is not touched: EngineError.
    """
    if not directory.is_dir():
        return []
    if is_own(directory, job_sha256):
        # By name, not by listing: a network file system may still list what others have removed.
        for name in subdirectories:
            remove_if_empty(directory / name)
        rest = sorted(str(path) for path in directory.iterdir() if path.name != MARKER)
        if rest:
            return rest  # the marker stays: it tells that what is left is this job's
        remove_files(directory, [MARKER])
    return remove_if_empty(directory)


def _owner(directory: Path) -> str | None:
    try:
        return (directory / MARKER).read_text("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, "read", directory / MARKER) from error
