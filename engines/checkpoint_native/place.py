"""Where checkpoints are, and whether a run may write there: only over what it made itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..contract import Job
from ..errors import EngineError, storage_error
from ..io_core.directory import remove_files
from ..io_core.files import sync_directory
from ..place import Place, is_in_own, make_place, named, names_in
from .manifest import MANIFEST, forget_manifest, read_manifest

# The checkpoints of a job that keeps none, in the job's own directory.
OWN = "checkpoints"
# Says in a kept directory which run writes there, from before its first file on.
OWNER = "CHECKPOINTS.owner"
_BESIDE = frozenset({MANIFEST, f"{MANIFEST}.new", OWNER})
_ANOTHER = "give another place with benchmark.directory=..."


def make_ready(place: Place, job: Job) -> None:
    """Makes the place one that this run may write to; raises EngineError. For one rank of a stage.

    A manifest of this run is forgotten: the checkpoints are about to be written anew.
    """
    make_place(place, job)
    if place.kept:
        _own(place.directory, job)
    forget_manifest(place.directory)


def is_ours(place: Place, job: Job) -> bool:
    """Whether this run has written there, so that it may remove what it wrote."""
    if place.kept:
        return _owner(place.directory) == job.run_id
    return is_in_own(place, job)


def give_back(place: Place, job: Job) -> None:
    """Leaves a kept directory to any run, if this run's are gone or none was completed."""
    if not place.kept:
        return
    if _owner(place.directory) == job.run_id and set(names_in(place.directory)) == {OWNER}:
        remove_files(place.directory, [OWNER])


def _own(directory: Path, job: Job) -> None:
    """Makes the directory this run's; raises EngineError if it is another's, or not mlps'."""
    names = names_in(directory)
    if MANIFEST in names:
        manifest = read_manifest(directory)
        if manifest.run_id != job.run_id:
            count = len(manifest.checkpoints)
            raise EngineError(
                f"{directory} holds {count} checkpoints of another run, {manifest.run_id}:"
                f" {_ANOTHER}, or read them with benchmark.writes=0"
            )
    elif OWNER not in names:
        _refuse_others(directory, names)
    _be_owner(directory, job.run_id)


def _refuse_others(directory: Path, names: list[str]) -> None:
    others = [name for name in names if name not in _BESIDE]
    if others:
        raise EngineError(
            f"{directory} holds what mlps did not make: {named(others)}. Empty it, or {_ANOTHER}"
        )


def _be_owner(directory: Path, run_id: str) -> None:
    """Says that this run writes here, unless another has said so; raises EngineError."""
    path = directory / OWNER
    try:
        # Of two runs that come at the same moment only one can make it.
        with path.open("xb") as file:
            file.write(json.dumps({"run_id": run_id}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(directory)
        return
    except FileExistsError:
        pass
    except OSError as error:
        raise storage_error(error, "write", path) from error
    owner = _owner(directory)
    if owner != run_id:
        raise EngineError(
            f"{directory} is where another run{'' if owner is None else f', {owner},'} writes"
            f" checkpoints or has left them incomplete: {_ANOTHER}, or empty it if that run is over"
        )


def _owner(directory: Path) -> str | None:
    """The run that writes here; None if it has not yet said so in full."""
    path = directory / OWNER
    try:
        return str(json.loads(path.read_bytes())["run_id"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
