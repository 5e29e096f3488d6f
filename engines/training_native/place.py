"""Where a dataset is, and what is found there: nothing, a part of it, all of it, or other files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..contract import Job
from ..errors import EngineError, storage_error
from ..io_core.directory import make_directory, remove_files, remove_if_empty
from ..io_core.files import write_whole
from ..owner import Right
from ..place import lasting_directory, make_lasting, named, names_in
from ..section import Section
from .dataset import Dataset, dataset_of
from .journal import EARLIER, journal_names
from .manifest import GENERATING, MANIFEST, TABLE, difference, identity_of, read_manifest

# The dataset of a job that keeps none, in the job's own directory.
OWN = "dataset"
# Says which dataset is being generated; beside the journals.
BEGUN = "dataset.json"
OWNER = "owner"

Found = Literal["nothing", "part", "all", "others"]
Course = Literal["write", "check", "adopt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a job says of its dataset, besides what the dataset is."""

    directory: Path
    own: bool
    generate: bool
    check: Literal["sizes", "headers", "content"]
    write_threads: int


def read_task(job: Job) -> tuple[Dataset, Task]:
    """What the job's dataset is, and what is to be done with it; raises JobError."""
    section = Section(job.benchmark).section("dataset")
    task = Task(
        directory=dataset_directory(job, section),
        own=is_own_dataset(section),
        generate=section.flag("generate"),
        check=section.choice("check", ("sizes", "headers", "content")),
        write_threads=section.count("write_threads"),
    )
    return dataset_of(section), task


def is_own_dataset(section: Section) -> bool:
    """Whether the dataset is in the job's own directory, by the section `dataset`."""
    return section.value("directory") is None


def dataset_directory(job: Job, section: Section) -> Path:
    """Where the dataset is, by the section `dataset`; raises JobError."""
    if is_own_dataset(section):
        return job.directory / OWN
    return lasting_directory(job, section.text("directory"), "dataset.directory")


def course_of(directory: Path, dataset: Dataset, *, generate: bool) -> Course:
    """What is to be done for the dataset to be there; raises EngineError if that cannot be."""
    found, names = _look(directory, dataset)
    if found == "all":
        return "check"
    if generate and found == "others":
        raise EngineError(
            f"{directory} holds what mlps did not make: {named(names)}. Give an empty place with"
            " dataset.directory=..., or take the files as they are with dataset.generate=false"
        )
    if generate:
        return "write"
    if found == "others":
        if dataset.train.folder not in names:
            raise EngineError(
                f"{directory} holds no dataset: there is no {dataset.train.folder} among"
                f" {named(names)}"
            )
        return "adopt"
    what = "is not complete" if found == "part" else "is not there"
    raise EngineError(
        f"the dataset in {directory} {what}, and dataset.generate=false: with"
        " dataset.generate=true it is written"
    )


def _look(directory: Path, dataset: Dataset) -> tuple[Found, list[str]]:
    """What is in a directory, with the names of it; raises EngineError for another dataset."""
    names = names_in(directory)
    if MANIFEST in names:
        read_manifest(directory, dataset)
        return "all", names
    begun = GENERATING in names and _begun(directory / GENERATING / BEGUN, dataset)
    if begun:
        return "part", names
    others = [name for name in names if name not in (GENERATING, TABLE)]
    return ("others" if others else "nothing"), others


def _begun(path: Path, dataset: Dataset) -> bool:
    """Whether a generation of this dataset has begun; raises EngineError for another."""
    try:
        identity = dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(error, "read", path) from error
    except ValueError as error:
        raise EngineError(f"{path} is no description of a dataset: {error}") from error
    differs = difference(identity, dataset, "mlps")
    if differs is not None:
        directory = path.parent.parent
        raise EngineError(f"{directory} holds a part of another dataset ({differs})")
    return True


def begin(directory: Path, dataset: Dataset) -> None:
    """Says which dataset it will be, and makes its folders; raises EngineError."""
    begun = directory / GENERATING / BEGUN
    if not begun.exists():
        write_whole(begun, json.dumps(identity_of(dataset)).encode())
    for folder in dataset.directories:
        make_directory(directory / folder)


def forget_generation(directory: Path) -> None:
    """Removes the journals and what is beside them."""
    generating = directory / GENERATING
    remove_files(generating, [*journal_names(generating), EARLIER, BEGUN, f"{BEGUN}.new", OWNER])
    remove_if_empty(generating)


def right_to_write(directory: Path) -> Right:
    """The right to generate the dataset of a directory."""
    return Right(
        file=directory / GENERATING / OWNER,
        directory=directory,
        thing="dataset",
        doing="generates",
        key="dataset.directory",
    )


def make_place(directory: Path, job: Job) -> None:
    """Makes a dataset's directory, and that of what is known of it; raises EngineError."""
    make_lasting(directory, job)
    make_directory(directory / GENERATING)
