"""The queries of a dataset, made from their declaration like its vectors.

A query is a pure function of the dataset, of the queries' seed and of its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .random import (
    DEVIATION,
    QUERY_BASES,
    QUERY_COMPONENTS,
    QUERY_LABELS,
    QUERY_NOISE,
    Ids,
    Rows,
    Vectors,
    normal_numbers,
    words_from,
)
from .vectors import Dataset, Draw, digest, drawn, own

_MOST_NOISE = 1.0
# Components of planted queries are whole 2**-20th until they are normalised: with this and the
# bound of the noise, sums of their squares fit into 64 bits.
_UNIT = 2**20
_QUERIES_AT_ONCE = 256

Mode = Literal["planted", "independent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What decides every query.

    A planted query is a vector of the dataset, each component moved by `noise` times a normal
    number of deviation 1, and then normalised. So noise moves it by about noise * sqrt(dimension)
    of its length. An independent query (noise 0) is distributed like the dataset's vectors.
    """

    count: int
    mode: Mode
    noise: float
    seed: int


def queries_of(section: Section) -> Queries:
    """The queries that a job declares; raises JobError."""
    mode = section.choice("mode", get_args(Mode))
    queries = Queries(
        count=section.count("num_query_vectors"),
        mode=mode,
        noise=section.number("noise") if mode == "planted" else 0.0,
        seed=section.count("seed", least=0),
    )
    if queries.noise > _MOST_NOISE:
        raise JobError(f"query.noise is {queries.noise:g}, at most {_MOST_NOISE:g}")
    return queries


def query_vectors(dataset: Dataset, queries: Queries, first: int, count: int) -> Vectors:
    """Queries from the first-th on, shape (count, dimension)."""
    if not 0 <= first <= first + count <= queries.count:
        raise ValueError(f"queries {first} to {first + count} are not in {queries.count}")
    if queries.mode == "independent":
        draw = Draw(seed=queries.seed, labels=QUERY_LABELS, components=QUERY_COMPONENTS)
        return drawn(dataset, draw, first, count)
    vectors = np.empty((count, dataset.dimension), dtype=np.float32)
    bases = base_ids(queries, dataset.vectors, first, count)
    for number, base in enumerate(bases.tolist()):
        vectors[number] = drawn(dataset, own(dataset), base, 1)[0]
    move(vectors, queries, first)
    return vectors


def base_ids(queries: Queries, vectors: int, first: int, count: int) -> Ids:
    """Which of so many vectors the planted queries, from the first-th on, lie beside."""
    words = words_from(seed=queries.seed, stream=QUERY_BASES, first=first, count=count)
    return (words % np.uint64(vectors)).astype(np.int64)


def fingerprint(dataset: Dataset, queries: Queries) -> Document:
    """All that decides the queries beside the data, and SHA-256 of the first and of the last."""
    return {
        "count": queries.count,
        "mode": queries.mode,
        "noise": queries.noise,
        "seed": queries.seed,
        "first_sha256": digest(query_vectors(dataset, queries, 0, 1)),
        "last_sha256": digest(query_vectors(dataset, queries, queries.count - 1, 1)),
    }


def move(vectors: Vectors, queries: Queries, first: int) -> None:
    """Adds the noise of queries to their bases of length 1, and gives them that length again."""
    if not queries.noise:
        return
    width = vectors.shape[1]
    numbers = Rows(seed=queries.seed, stream=QUERY_NOISE, first=first, width=width)
    for begin in range(0, len(vectors), _QUERIES_AT_ONCE):
        part = vectors[begin : begin + _QUERIES_AT_ONCE]
        moved = normal_numbers(numbers.next(len(part))).astype(np.float64)
        moved *= queries.noise * (_UNIT / DEVIATION)
        moved += part.astype(np.float64) * _UNIT
        whole = np.rint(moved).astype(np.int64)
        squares = np.einsum("ij,ij->i", whole, whole)
        # Only noise that undoes a vector of few dimensions leaves nothing: it stays as it was.
        there = squares > 0
        length = np.sqrt(squares[there].astype(np.float64))
        part[there] = whole[there] / length[:, np.newaxis]
