"""Centroids of lists by k-means over a sample, and the list that a vector belongs to.

The same sample, seed and library of linear algebra give the same centroids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..backend import Vectors
from .settings import tile_rows

Labels = NDArray[np.int32]
# Told of so many vectors looked at.
Looked = Callable[[int], None]
_SAMPLE, _FIRST = 1, 2


def sample_of(vectors: int, count: int, seed: int) -> NDArray[np.int64]:
    """Ids of a sample, ascending: one of each of `count` equal parts of all."""
    edges = np.arange(count + 1, dtype=np.int64) * vectors // count
    words = _words(seed, _SAMPLE, count)
    return edges[:-1] + (words % np.diff(edges).astype(np.uint64)).astype(np.int64)


def centroids_of(
    sample: Vectors, nlist: int, rounds: int, seed: int, *, unit: bool, looked: Looked
) -> Vectors:
    """Centroids, shape (nlist, dimension); with `unit` their length is 1. The sample is larger."""
    first = np.sort(np.argsort(_words(seed, _FIRST, len(sample)), kind="stable")[:nlist])
    centroids = sample[first]
    for _ in range(rounds):
        centroids = _moved(sample, centroids, looked)
        if unit:
            normalise(centroids)
    return centroids


def nearest(vectors: Vectors, centroids: Vectors) -> tuple[Labels, Vectors]:
    """For each vector the nearest centroid, and a closeness that orders vectors by it.

    The closeness is half of (the vector's squared length - its squared distance).
    """
    scores = vectors @ centroids.T
    scores -= half_squares(centroids)
    labels = scores.argmax(axis=1)
    return labels.astype(np.int32), scores[np.arange(len(labels)), labels]


def half_squares(vectors: Vectors) -> Vectors:
    """Half of the squared lengths, shape (rows,)."""
    squares: Vectors = np.einsum("ij,ij->i", vectors, vectors)
    return squares / np.float32(2)


def normalise(vectors: Vectors) -> None:
    """Gives vectors the length 1, in place; what has none stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    lengths[lengths == 0] = 1
    vectors /= lengths.astype(np.float32)[:, None]


def _moved(sample: Vectors, centroids: Vectors, looked: Looked) -> Vectors:
    """The means of the vectors nearest to each centroid."""
    nlist, dimension = centroids.shape
    sums = np.zeros((nlist, dimension), dtype=np.float64)
    members = np.zeros(nlist, dtype=np.int64)
    distances = np.empty(len(sample), dtype=np.float32)
    tile = tile_rows(dimension, nlist)
    for first in range(0, len(sample), tile):
        part = sample[first : first + tile]
        labels, closeness = nearest(part, centroids)
        distances[first : first + tile] = half_squares(part) - closeness
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        sums[present] += np.add.reduceat(part[order], starts, axis=0)
        members += np.bincount(labels, minlength=nlist)
        looked(len(part))
    means = (sums / np.maximum(members, 1)[:, None]).astype(np.float32)
    # A centroid that lost all vectors begins anew at one of those that lie farthest from theirs.
    empty = np.flatnonzero(members == 0)
    means[empty] = sample[np.argsort(-distances, kind="stable")[: len(empty)]]
    return means


def _words(seed: int, stream: int, count: int) -> NDArray[np.uint64]:
    """Random words; raw ones, which no release of numpy changes."""
    key = np.array([seed, stream], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key).random_raw(count), dtype=np.uint64)
