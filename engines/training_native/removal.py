"""The stage that removes what a job has made in the storage under test, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..io_core.control import Control
from ..io_core.directory import is_own, release, remove_files, remove_if_empty
from ..stage import Session
from .checking import index_of, shared_out
from .dataset import Dataset
from .manifest import MANIFEST, TABLE
from .place import OWN, forget_generation, read_task

# What else is to be removed from the job's directory, by each rank; gives what is left of it.
Removal = Callable[[Session, Control], list[str]]


def cleanup(session: Session, also: Removal = lambda *_: []) -> None:
    """Removes what the job has made: its own dataset, `also` more, and its directory.

    All files are shared out among the ranks that are here, so those stand in for any that are lost.
    """
    dataset, task = session.agree(lambda: read_task(session.job))
    job, lists = session.job, session.outcome.lists
    lists["left"] = []
    owned = session.agree(lambda: is_own(job.directory, job.sha256))
    numbers = range(session.rank, dataset.files if owned and task.own else 0, session.ranks)

    def remove(control: Control) -> None:
        for removed in shared_out(
            partial(_remove, task.directory, dataset, numbers),
            range(len(numbers)),
            task.write_threads,
            control,
        ):
            control.done += removed
        if owned:
            lists["left"] += also(session, control)

    def release_directory(_: Control) -> None:
        if session.rank != 0:
            return
        if owned and task.own:
            lists["left"] += _remove_folders(task.directory, dataset)
        lists["left"] += release(job.directory, job.sha256, [OWN])

    session.phase("removing", remove, unit="files", total=len(numbers))
    session.phase("releasing", release_directory, unit="files", total=0)


def _remove(directory: Path, dataset: Dataset, numbers: range, places: range) -> int:
    """Removes some files with their indexes; returns how many of the files there were."""
    removed = 0
    for place in places:
        path = dataset.path(numbers[place])
        removed += remove_files(directory, [path])
        if dataset.format == "tfrecord":
            remove_files(directory, [index_of(dataset, numbers[place], path)])
    return removed


def _remove_folders(directory: Path, dataset: Dataset) -> list[str]:
    """Removes what is beside the files, and the folders; returns the paths of what is left."""
    forget_generation(directory)
    names = [name + draft for name in (MANIFEST, TABLE) for draft in ("", ".new")]
    remove_files(directory, names)
    left: list[str] = []
    for folder in reversed(dataset.directories):
        left += remove_if_empty(directory / folder)
    return left
