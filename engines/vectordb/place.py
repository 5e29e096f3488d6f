"""Where index and truth are: the record of what is there, and who may change it.

The record is written before anything else is made, and again when the index is complete. So what is
beside it can be told, reused by any job that wants the same, and removed if it was not completed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..contract import Document, Job, sha256_hex
from ..errors import EngineError, storage_error
from ..io_core.directory import make_directory, remove_files, remove_if_empty
from ..io_core.files import write_whole
from ..owner import Right
from ..place import Place, difference, is_in_own, make_place, named, names_in
from .backends import backend_of

# Index and truth of a job that keeps neither, in the job's own directory.
OWN = "vectordb"
INDEX = "index"
TRUTH = "truth-"
RECORD = "VECTORDB.json"
OWNER = "VECTORDB.owner"
# Of the record, should its form ever change.
_FORM = 1
_NAME_DIGITS = 16
_OTHER = "give another place with benchmark.directory=..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An index that a run has begun, or completed, with all that decides it by dotted keys."""

    run_id: str
    backend: str
    identity: Document
    complete: bool = False


def right_to_write(place: Place) -> Right:
    """The right to make the index of a place."""
    return Right(
        file=place.directory / OWNER,
        directory=place.directory,
        thing="index",
        doing="makes",
        key="benchmark.directory",
    )


def truth_name(benchmark: Document) -> str:
    """The file of the truth of a job: those with other queries have another one beside it."""
    dataset = {key: value for key, value in benchmark["dataset"].items() if key != "batch_size"}
    declared = {
        "dataset": dataset,
        "query": benchmark["query"],
        "depth": benchmark["truth"]["depth"],
        "metric": benchmark["index"]["metric_type"],
    }
    return f"{TRUTH}{sha256_of(declared)[:_NAME_DIGITS]}"


def sha256_of(document: Document) -> str:
    """Of its canonical form."""
    return sha256_hex(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def index_directory(place: Place) -> Path:
    """Where the backend keeps the index."""
    return place.directory / INDEX


def make_ready(place: Place, job: Job) -> None:
    """Makes the directory; raises EngineError where it holds what mlps did not make."""
    make_place(place, job)
    names = names_in(place.directory)
    if RECORD not in names:
        ours = (RECORD, f"{RECORD}.new", OWNER, INDEX)
        others = [name for name in names if name not in ours and not name.startswith(TRUTH)]
        if others:
            raise EngineError(
                f"{place.directory} holds what mlps did not make: {named(others)}."
                f" Empty it, or {_OTHER}"
            )


def is_there(place: Place, wanted: Kept) -> bool:
    """Whether the index is there, complete; raises EngineError where another one is."""
    found = read_record(place)
    if found is None or not found.complete:
        return False
    differs = difference(found.identity, wanted.identity)
    if differs is not None:
        raise EngineError(
            f"{place.directory} holds another index, which run {found.run_id} made ({differs}):"
            f" {_OTHER}"
        )
    return True


def begin(place: Place, wanted: Kept) -> None:
    """Says that this index will be there; removes what is left of one that was not completed."""
    remove_index(place)
    _write(place, wanted)
    make_directory(index_directory(place))


def complete(place: Place, wanted: Kept) -> None:
    """Says that it is there."""
    _write(place, replace(wanted, complete=True))


def remove_index(place: Place) -> list[str]:
    """Removes an index and its record, by name; returns paths of what others left beside it.

    Raises EngineError, and leaves the record, while a server that holds it does not answer.
    """
    found = read_record(place)
    if found is None:
        return []
    directory = index_directory(place)
    if directory.is_dir():
        backend_of(found.backend).drop(directory)
    left = remove_if_empty(directory)
    remove_files(place.directory, [RECORD, f"{RECORD}.new"])
    return left


def remove_own(place: Place, job: Job, truth: str) -> list[str]:
    """Removes what this job has made and does not keep; returns paths of what is left.

    `truth` is the name of its truth. In a place that is kept that is an index which this run has
    begun and not completed.
    """
    if place.kept:
        found = read_record(place)
        if found is None or found.complete or found.run_id != job.run_id:
            return []
        left = remove_index(place)
        remove_files(place.directory, [OWNER])
        return left
    if not is_in_own(place, job):
        return []
    left = remove_index(place)
    remove_files(place.directory, [truth, f"{truth}.new", OWNER])
    return left or remove_if_empty(place.directory)


def read_record(place: Place) -> Kept | None:
    """What is said to be there; None if nothing is. Raises EngineError for what is no record."""
    path = place.directory / RECORD
    try:
        document = dict(json.loads(path.read_bytes()))
        form = document.pop("form")
        if form != _FORM:
            raise ValueError(f"it is of form {form}, this version of mlps reads form {_FORM}")
        return Kept(**document)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is damaged, or no record of an index: {error!r}") from error


def _write(place: Place, kept: Kept) -> None:
    text = json.dumps({"form": _FORM, **asdict(kept)}, indent=1, sort_keys=True) + "\n"
    write_whole(place.directory / RECORD, text.encode())
