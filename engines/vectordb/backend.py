"""What an engine of vector search is to the load generator: one writer, then readers of it.

Ids are 0 to n-1, each inserted once; scores are higher for what is nearer, as in `metrics`.
Errors that users can mend are EngineError and JobError.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, JobError
from .metrics import Metric

# What a query does to the storage. direct: reads past the page cache; buffered: through it; mmap:
# page faults; server: another process reads; memory: nothing is read.
IoClass = Literal["direct", "buffered", "mmap", "server", "memory"]
Value = int | float | str
Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Scores = NDArray[np.float32]
# Told of parts done and of all there are; False ends the work.
Alive = Callable[[int, int], bool]
# What a result has where fewer than k vectors were found: this id, with a score of minus infinity.
NO_ID = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSpec:
    """An index: of which vectors, and how it is built. `build` has the backend's own keys."""

    dimension: int
    metric: Metric
    vectors: int
    seed: int
    build: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A parameter of a backend. A default of None is one that the backend derives from the spec.

    `least` bounds numbers, `choices` are all texts there are (none: any text). `section` is where
    the benchmark has it, if not where its like are.
    """

    types: tuple[type, ...]
    default: Value | None
    least: float | None = None
    choices: tuple[str, ...] = ()
    section: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A backend in words. `io_class` is what it means to do; a reader tells what it really does.

    With `several_writers` vectors can be inserted by several processes, see `Backend.join`.
    `packages` are distributions of Python that it needs beside numpy.
    """

    name: str
    version: str
    index: str
    io_class: IoClass
    several_readers: bool
    build_keys: Mapping[str, Key]
    search_keys: Mapping[str, Key]
    several_writers: bool = False
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """All parameters of an index and of searches in it, those derived too."""

    build: Mapping[str, Value]
    search: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an index takes, in bytes, as its backend reckons beforehand; `disk` tells how.

    `index_bytes` is the complete one, `building_bytes` the most while it is made, `writer_bytes`
    and `reader_bytes` the memory of the process that makes it and of one that searches.
    """

    index_bytes: int
    building_bytes: int
    writer_bytes: int
    reader_bytes: int
    disk: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What the searches of a reader have asked of storage so far."""

    read_bytes: int
    reads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """What a reader really does where it is, and why if that is not what the backend means to."""

    io_class: IoClass
    reason: str | None = None


class Inserter(Protocol):
    """One that brings vectors into an index."""

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors, shape (rows, dimension); returns how many were really stored."""
        ...

    def flush(self) -> None:
        """Makes durable all that it has inserted."""
        ...

    def close(self) -> None:
        """Lets go of everything."""
        ...


class Writer(Inserter, Protocol):
    """The one that makes an index; nobody reads it before it is closed."""

    def build(self, alive: Alive) -> bool:
        """Makes the index complete and durable; False where `alive` ended that before."""
        ...

    def compact(self) -> None:
        """Gives back what the built index has no use for."""
        ...

    def count(self) -> int:
        """Vectors stored, by whomever."""
        ...


class Reader(Protocol):
    """A searcher of a complete index, for one thread at a time."""

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest of each query, best first, shapes (queries, k); short rows end in NO_ID."""
        ...

    def moved(self) -> Moved | None:
        """What searches have asked of storage; None if the backend cannot know."""
        ...

    def io(self) -> Io:
        """What searches do to the storage, here."""
        ...

    def close(self) -> None:
        """Lets go of every file, mapping and thread."""
        ...


class Backend(Protocol):
    """A kind of index, with where it keeps one: a directory of its own."""

    def describe(self) -> Description:
        """What it is; needs no package of others."""
        ...

    def check(self, spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
        """All parameters, with those that were not given.

        Raises JobError for what it cannot build or search so, and for keys it does not know.
        """
        ...

    def estimate(self, spec: IndexSpec, search: Mapping[str, Value]) -> Estimate:
        """What such an index takes."""
        ...

    def join(self, directory: Path, spec: IndexSpec) -> Inserter:
        """Brings vectors into what the writer of another process has begun, until that builds.

        Raises EngineError where nothing is begun, and if the backend has one writer alone.
        """
        ...

    def writer(self, directory: Path, spec: IndexSpec) -> Writer:
        """Begins an index; what is left of one that was not completed is removed."""
        ...

    def reader(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> Reader:
        """Opens a complete index; raises EngineError where there is none or it is another one."""
        ...

    def data_paths(self, directory: Path) -> tuple[Path, ...]:
        """The files that searches read: for eviction, capacity and checks of the file system."""
        ...

    def drop(self, directory: Path) -> None:
        """Removes what a writer has made there, by name, and nothing else."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A backend out of what it is and of what does each part of its work; see `Backend`."""

    description: Description
    checks: Callable[[IndexSpec, Mapping[str, Value]], Parameters]
    estimates: Callable[[IndexSpec, Mapping[str, Value]], Estimate]
    writes: Callable[[Path, IndexSpec], Writer]
    reads: Callable[[Path, IndexSpec, Mapping[str, Value]], Reader]
    files: Callable[[Path], tuple[Path, ...]]
    removes: Callable[[Path], None]
    joins: Callable[[Path, IndexSpec], Inserter] | None = None

    def describe(self) -> Description:
        """See `Backend`."""
        return self.description

    def check(self, spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
        """See `Backend`."""
        return self.checks(spec, search)

    def estimate(self, spec: IndexSpec, search: Mapping[str, Value]) -> Estimate:
        """See `Backend`."""
        return self.estimates(spec, search)

    def join(self, directory: Path, spec: IndexSpec) -> Inserter:
        """See `Backend`."""
        if self.joins is None:
            raise EngineError(f"an index of {self.description.name} has one writer alone")
        return self.joins(directory, spec)

    def writer(self, directory: Path, spec: IndexSpec) -> Writer:
        """See `Backend`."""
        return self.writes(directory, spec)

    def reader(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> Reader:
        """See `Backend`."""
        return self.reads(directory, spec, search)

    def data_paths(self, directory: Path) -> tuple[Path, ...]:
        """See `Backend`."""
        return self.files(directory)

    def drop(self, directory: Path) -> None:
        """See `Backend`."""
        self.removes(directory)


def settings(
    given: Mapping[str, Value], keys: Mapping[str, Key], name: str
) -> dict[str, Value | None]:
    """All keys with the given values or their defaults; `name` is what errors call the mapping.

    Raises JobError for a key that is not one, with the nearest there is, and for a wrong value.
    """
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1, cutoff=0.5)
            meant = f"did you mean {near[0]}?" if near else f"there are {_listed(keys)}"
            raise JobError(f"{name}.{key}: no such parameter; {meant}")
    for key, value in given.items():
        _check_value(f"{keys[key].section or name}.{key}", value, keys[key])
    return {key: given.get(key, form.default) for key, form in keys.items()}


def _check_value(name: str, value: object, form: Key) -> None:
    # A whole number does for any number; a bool is none.
    types = (*form.types, int) if float in form.types else form.types
    if isinstance(value, bool) or not isinstance(value, types):
        words = " or ".join(each.__name__ for each in form.types)
        raise JobError(f"{name} must be of type {words}, got {value!r}")
    if form.least is not None and isinstance(value, int | float) and not value >= form.least:
        raise JobError(f"{name} must be at least {form.least:g}, got {value!r}")
    if form.choices and isinstance(value, str) and value not in form.choices:
        raise JobError(f"{name} must be one of {', '.join(form.choices)}, got {value!r}")


def _listed(keys: Mapping[str, Key]) -> str:
    return ", ".join(sorted(keys)) or "none"
