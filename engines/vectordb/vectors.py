"""The vectors of a dataset, made from its declaration: any range of ids, by any number of ranks.

A vector is a pure function of the dataset and its id, bit by bit the same on every machine. All
have the length 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .random import (
    CENTRES,
    COMPONENTS,
    LABELS,
    Ids,
    Rows,
    Vectors,
    normal_numbers,
    uniform_numbers,
    words_from,
)

# Of the way in which vectors are made, should it ever change.
GENERATOR = 1
BLOCK_VECTORS = 4096
# With these, sums of squares of whole numbers stay below 2**53, where each one is exact.
MOST_DIMENSIONS = 2**16
_WIDEST_SPREAD = 7.0
_MOST_CENTRES_BYTES = 2**30
# What is worked on at a time stays in the processor's caches.
_TILE_NUMBERS = 2**15

Distribution = Literal["clustered", "uniform", "normal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What decides every vector. `clusters` and `cluster_spread` are 0 unless it is clustered.

    The vectors of a cluster lie around its centre, `cluster_spread` times as far from it as centres
    are from the origin, and are then normalised. With 1.5, an IVF index with a list for each of
    1000 clusters, of which 8 are read, finds of the ten nearest of 100,000 vectors of 128
    dimensions 0.88 for planted queries with noise 0.05 and 0.95 for independent ones; with 1.4 and
    1.6 it is 0.95 and 0.81 for planted ones. With 1.0 it finds all: clusters are too far apart.
    """

    vectors: int
    dimension: int
    distribution: Distribution
    seed: int
    clusters: int = 0
    cluster_spread: float = 0.0

    @property
    def raw_bytes(self) -> int:
        """Of all components."""
        return self.vectors * self.dimension * 4

    @property
    def blocks(self) -> int:
        """How many blocks hold all vectors."""
        return -(-self.vectors // BLOCK_VECTORS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Where random numbers of vectors come from: a dataset's, or those of queries like them."""

    seed: int
    labels: int
    components: int


def dataset_of(section: Section) -> Dataset:
    """The dataset that a job declares; raises JobError."""
    distribution = section.choice("distribution", get_args(Distribution))
    clustered = distribution == "clustered"
    dataset = Dataset(
        vectors=section.count("num_vectors"),
        dimension=section.count("dimension"),
        distribution=distribution,
        seed=section.count("seed", least=0),
        clusters=section.count("clusters") if clustered else 0,
        cluster_spread=section.positive("cluster_spread") if clustered else 0.0,
    )
    _check(dataset)
    return dataset


def block(dataset: Dataset, number: int) -> Vectors:
    """The vectors with ids from number * BLOCK_VECTORS on, shape (rows, dimension)."""
    if not 0 <= number < dataset.blocks:
        raise ValueError(f"block {number} is none of {dataset.blocks}")
    first = number * BLOCK_VECTORS
    return drawn(dataset, own(dataset), first, min(BLOCK_VECTORS, dataset.vectors - first))


def rows(dataset: Dataset, first: int, count: int) -> Iterator[tuple[Ids, Vectors]]:
    """Ids from the first on and their vectors, never more than a block at a time."""
    if not 0 <= first <= first + count <= dataset.vectors:
        raise ValueError(f"ids {first} to {first + count} are not in {dataset.vectors} vectors")
    end = first + count
    while first < end:
        some = min(end - first, BLOCK_VECTORS - first % BLOCK_VECTORS)
        ids = np.arange(first, first + some, dtype=np.int64)
        yield ids, drawn(dataset, own(dataset), first, some)
        first += some


def own(dataset: Dataset) -> Draw:
    """The numbers of the dataset's own vectors."""
    return Draw(seed=dataset.seed, labels=LABELS, components=COMPONENTS)


def drawn(dataset: Dataset, draw: Draw, first: int, count: int) -> Vectors:
    """Vectors distributed like the dataset's, from the first-th of a draw on."""
    vectors = np.empty((count, dataset.dimension), dtype=np.float32)
    numbers = Rows(seed=draw.seed, stream=draw.components, first=first, width=dataset.dimension)
    labels = _labels(dataset, draw, first, count)
    tile = max(_TILE_NUMBERS // dataset.dimension, 1)
    for begin in range(0, count, tile):
        part = slice(begin, min(begin + tile, count))
        parts = numbers.next(part.stop - begin)
        if dataset.distribution == "uniform":
            whole = uniform_numbers(parts)
        else:
            whole = normal_numbers(parts)
        if dataset.clusters:
            # Each step is rounded by itself, and rint makes whole numbers of them again.
            whole *= np.float32(dataset.cluster_spread)
            whole += _centres(dataset)[labels[part]]
            np.rint(whole, out=whole)
        _normalised(whole, out=vectors[part])
    return vectors


def fingerprint(dataset: Dataset) -> Document:
    """All that decides the vectors, and the SHA-256 of the first and of the last block."""
    document: Document = {
        "generator": GENERATOR,
        "vectors": dataset.vectors,
        "dimension": dataset.dimension,
        "distribution": dataset.distribution,
        "seed": dataset.seed,
    }
    if dataset.clusters:
        document["clusters"] = dataset.clusters
        document["cluster_spread"] = dataset.cluster_spread
    document["first_block_sha256"] = digest(block(dataset, 0))
    document["last_block_sha256"] = digest(block(dataset, dataset.blocks - 1))
    return document


def digest(vectors: Vectors) -> str:
    """The SHA-256 of components, as little-endian floats."""
    return hashlib.sha256(np.ascontiguousarray(vectors, dtype="<f4").data).hexdigest()


def _check(dataset: Dataset) -> None:
    if dataset.dimension > MOST_DIMENSIONS:
        raise JobError(f"dataset.dimension is {dataset.dimension}, at most {MOST_DIMENSIONS}")
    if dataset.cluster_spread > _WIDEST_SPREAD:
        raise JobError(
            f"dataset.cluster_spread is {dataset.cluster_spread:g}, at most {_WIDEST_SPREAD:g}:"
            " such clusters are none any more, distribution=normal is what they look like"
        )
    centres_bytes = dataset.clusters * dataset.dimension * 4
    if centres_bytes > _MOST_CENTRES_BYTES:
        raise JobError(
            f"the centres of {dataset.clusters} clusters are {centres_bytes} bytes, which each rank"
            f" would hold in memory: at most {_MOST_CENTRES_BYTES}; lower dataset.clusters"
        )


def _labels(dataset: Dataset, draw: Draw, first: int, count: int) -> Ids:
    """The cluster of each vector."""
    if not dataset.clusters:
        return np.zeros(0, dtype=np.int64)
    words = words_from(seed=draw.seed, stream=draw.labels, first=first, count=count)
    return (words % np.uint64(dataset.clusters)).astype(np.int64)


@lru_cache(maxsize=1)
def _centres(dataset: Dataset) -> Vectors:
    """The centres of all clusters, shape (clusters, dimension), in whole numbers."""
    centres = np.empty((dataset.clusters, dataset.dimension), dtype=np.float32)
    numbers = Rows(seed=dataset.seed, stream=CENTRES, first=0, width=dataset.dimension)
    tile = max(_TILE_NUMBERS // dataset.dimension, 1)
    for begin in range(0, dataset.clusters, tile):
        part = centres[begin : begin + tile]
        part[:] = normal_numbers(numbers.next(len(part)))
    centres.setflags(write=False)
    return centres


def _normalised(whole: Vectors, out: Vectors) -> None:
    """Gives rows of whole numbers the length 1, whose squares float64 adds without rounding."""
    wide = whole.astype(np.float64)
    squares = np.einsum("ij,ij->i", wide, wide)
    nothing = squares == 0
    if nothing.any():
        whole[nothing, 0], squares[nothing] = 1, 1
    scale = (1 / np.sqrt(squares)).astype(np.float32)
    np.multiply(whole, scale[:, np.newaxis], out=out)
