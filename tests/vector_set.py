"""A few vectors in clusters, their exact neighbours, and what tests of any backend ask about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import vector_data

from mlps.engines.vectordb.backend import IndexSpec

DIMENSION = 16
VECTORS = 1200
K = 10
IDS = np.arange(VECTORS)
# Of unequal lengths: each metric has an order of its own.
LENGTHS = np.random.default_rng(3).uniform(0.5, 2, (VECTORS, 1)).astype(np.float32)
SET = LENGTHS * vector_data.clustered(VECTORS, DIMENSION, clusters=30)
QUERIES = 2 * vector_data.near(SET[::60], 20)


def spec(metric="COSINE", **build):
    return IndexSpec(dimension=DIMENSION, metric=metric, vectors=VECTORS, seed=7, build=build)


def scores(metric):
    """Exact scores of all vectors for each query, in double precision."""
    q, v = QUERIES.astype(np.float64), SET.astype(np.float64)
    if metric == "L2":
        return -((q[:, None] - v[None]) ** 2).sum(axis=2)
    if metric == "COSINE":
        q, v = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (q, v))
    return q @ v.T


def recall(ids, metric):
    return vector_data.agreed_recall(ids, SET, QUERIES, metric)


def going_on(done, total):
    """Lets a build go on."""
    assert 0 <= done <= total
    return True


def load(backend, directory, of, *, batch=500):
    """Inserts the set in batches and builds; the writer is closed."""
    writer = backend.writer(directory, of)
    try:
        for first in range(0, VECTORS, batch):
            part = slice(first, first + batch)
            assert writer.insert(IDS[part], SET[part]) == len(IDS[part])
        writer.flush()
        assert writer.count() == VECTORS
        assert writer.build(going_on)
        writer.compact()
        assert writer.count() == VECTORS
    finally:
        writer.close()


def assert_scores_are_exact(ids, found, metric):
    """What a backend says of a vector's nearness is so, and the nearest come first."""
    exact = np.take_along_axis(scores(metric), ids, axis=1)
    assert np.allclose(found, exact, rtol=1e-4, atol=1e-4)
    assert (np.diff(found, axis=1) <= 0).all()


def held(directory: Path):
    """Files below a directory that this process has open or mapped."""
    inside = f"{directory.resolve()}/"
    found = {
        line.split(maxsplit=5)[5].strip()
        for line in Path("/proc/self/maps").read_text().splitlines()
        if inside in line
    }
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            path = str(descriptor.readlink())
        except OSError:
            continue
        if path.startswith(inside):
            found.add(path)
    return found
