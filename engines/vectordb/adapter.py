"""What the adapters of other engines share: the record of an index, checked rows, padded results.

The record is a small file beside the index, or in place of it where a server keeps that. It is
written before anything else is made, so that all that was made can be found and removed, and again
when the index is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..errors import EngineError, JobError
from ..io_core.directory import make_directory
from ..io_core.files import write_whole
from .backend import NO_ID, Ids, IndexSpec, Scores, Value, Vectors
from .metrics import Metric

_FORM = 1
# Of keys that only some index types have: those types.
Families = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An index that an adapter has begun (`stored` is None) or completed, with its full build.

    `mark` is what the adapter has written upon what it made on a server, to know it again.
    """

    backend: str
    dimension: int
    metric: str
    vectors: int
    seed: int
    build: Mapping[str, Value]
    mark: str | None = None
    stored: int | None = None


def record_of(
    backend: str, spec: IndexSpec, build: Mapping[str, Value], mark: str | None = None
) -> Record:
    """The record of an index that is begun; `build` holds all keys, those derived too."""
    return Record(
        backend=backend,
        dimension=spec.dimension,
        metric=spec.metric,
        vectors=spec.vectors,
        seed=spec.seed,
        build=build,
        mark=mark,
    )


def record_path(directory: Path, backend: str) -> Path:
    """Where the record of a backend lies."""
    return directory / f"{backend}.json"


def write_record(directory: Path, record: Record, stored: int | None = None) -> None:
    """Puts the record in place, whole and durable; `stored` makes it that of a complete index."""
    body = {"form": _FORM, **_identity(record), "mark": record.mark, "stored": stored}
    text = json.dumps(body, indent=1, sort_keys=True) + "\n"
    write_whole(record_path(directory, record.backend), text.encode())


def read_record(directory: Path, backend: str) -> Record | None:
    """The record there; None if there is none; raises EngineError for one that is no record."""
    path = record_path(directory, backend)
    try:
        body = json.loads(path.read_bytes())
        if body.pop("form") != _FORM:
            raise ValueError("of another form")
        return Record(**body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(f"{path} is no record of an index: {error}") from error


def begin(directory: Path, record: Record) -> Record | None:
    """Checks that no complete index is there; returns the record of one that did not end."""
    make_directory(directory)
    found = read_record(directory, record.backend)
    if found is not None and found.stored is not None:
        raise EngineError(f"{directory} holds an index of {record.backend} already: drop it first")
    return found


def require_complete(directory: Path, asked: Record) -> None:
    """Raises EngineError unless the complete index that is asked for is there."""
    found = _found(directory, asked)
    if found.stored is None:
        raise EngineError(f"{directory}: the build of {asked.backend} did not end; build it anew")


def require_begun(directory: Path, asked: Record) -> Record:
    """The record of the index that is asked for, which another process has begun; EngineError."""
    found = _found(directory, asked)
    if found.stored is not None:
        raise EngineError(f"{directory} holds an index of {asked.backend} that is complete")
    return found


def check_spec(spec: IndexSpec) -> None:
    """Raises JobError for what is no index of any backend."""
    if spec.dimension < 1 or spec.vectors < 1:
        raise JobError(
            f"an index needs a dimension and vectors, got {spec.dimension} and {spec.vectors}"
        )
    if spec.metric not in get_args(Metric):
        raise JobError(f"metric must be one of {', '.join(get_args(Metric))}, got {spec.metric!r}")


def check_rows(ids: Ids, vectors: Vectors, spec: IndexSpec) -> tuple[Ids, Vectors]:
    """Ids and vectors in the types and shapes of the spec, or EngineError."""
    ids = np.ascontiguousarray(ids, dtype=np.int64)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.shape != (len(ids), spec.dimension):
        raise EngineError(
            f"{len(ids)} ids need vectors of shape ({len(ids)}, {spec.dimension}),"
            f" got {vectors.shape}"
        )
    outside = (ids < 0) | (ids >= spec.vectors)
    if outside.any():
        raise EngineError(f"id {ids[outside.argmax()]} is not one of 0 to {spec.vectors - 1}")
    wrong = ~np.isfinite(vectors).all(axis=1)
    if wrong.any():
        raise EngineError(f"vector {ids[wrong.argmax()]} has components that are not finite")
    return ids, vectors


def check_all_stored(stored: int, spec: IndexSpec) -> None:
    """Raises EngineError if vectors are missing, or there are too many."""
    if stored != spec.vectors:
        raise EngineError(f"{stored} of {spec.vectors} vectors are stored: no index is built")


def check_queries(queries: Vectors, dimension: int) -> Vectors:
    """Queries in their type and shape, or EngineError."""
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise EngineError(f"queries must have shape (n, {dimension}), got {queries.shape}")
    return queries


def padded(found: Sequence[Sequence[tuple[int, float]]], k: int) -> tuple[Ids, Scores]:
    """Rows of (id, score), best first, as arrays of width k; short rows end in NO_ID."""
    ids = np.full((len(found), k), NO_ID, np.int64)
    scores = np.full((len(found), k), -np.inf, np.float32)
    for row, pairs in enumerate(found):
        for column, (number, score) in enumerate(pairs[:k]):
            ids[row, column], scores[row, column] = number, score
    return ids, scores


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; those of length 0 stay."""
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def check_most(name: str, values: Mapping[str, Any], most: Mapping[str, float]) -> None:
    """Raises JobError for a number above what the engine takes: it would clamp it silently."""
    for key, limit in most.items():
        if key in values and values[key] > limit:
            raise JobError(f"{name}.{key} must be at most {limit:g}, got {values[key]!r}")


def of_family(
    given: Mapping[str, Value],
    values: Mapping[str, Value | None],
    index_type: str,
    families: Families,
    name: str,
) -> dict[str, Value]:
    """The values without keys of other index families; raises JobError if such a key was given."""
    for key, types in families.items():
        if key in given and index_type not in types:
            raise JobError(f"{name}.{key}: {index_type} has no such parameter")
    return {
        key: value
        for key, value in values.items()
        if value is not None and (key not in families or index_type in families[key])
    }


def _found(directory: Path, asked: Record) -> Record:
    """The record there, of this index and no other; raises EngineError."""
    found = read_record(directory, asked.backend)
    if found is None:
        raise EngineError(f"{directory} holds no index of {asked.backend}")
    there, wanted = _keys(found), _keys(asked)
    for key in {**wanted, **there}:
        if there.get(key) != wanted.get(key):
            raise EngineError(
                f"{directory} holds another index: {key}: found {there.get(key)},"
                f" asked {wanted.get(key)}"
            )
    return found


def _keys(record: Record) -> dict[str, Any]:
    """The same with a key for each parameter."""
    found = _identity(record)
    build = found.pop("build")
    return found | {f"index.{key}": value for key, value in build.items()}


def _identity(record: Record) -> dict[str, Any]:
    return {
        "backend": record.backend,
        "dimension": record.dimension,
        "metric": record.metric,
        "vectors": record.vectors,
        "seed": record.seed,
        "build": dict(record.build),
    }
