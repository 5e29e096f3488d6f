"""Small vectors for tests of vector search, and what is really nearest in them."""

import numpy as np

from mlps.engines.vectordb import recall as engine_recall
from mlps.engines.vectordb import truth as engine_truth
from mlps.engines.vectordb.backend import IndexSpec
from mlps.engines.vectordb.native.writer import IvfWriter


def always(_done, _total):
    """A caller that never ends a build."""
    return True


def unit(vectors):
    """With length 1, as float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(count, dimension, *, seed=0, clusters=40, spread=0.6):
    """Unit vectors around centres."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(clusters, dimension)))
    noise = generator.normal(size=(count, dimension)) * spread / np.sqrt(dimension)
    return unit(centres[generator.integers(0, clusters, count)] + noise)


def near(vectors, count, *, seed=1):
    """Queries beside the first of some vectors."""
    noise = np.random.default_rng(seed).normal(size=(count, vectors.shape[1]))
    return unit(vectors[:count] + 0.05 * unit(noise))


def exact(vectors, queries, metric, k):
    """Ids of the nearest of all, shape (queries, k), in double precision."""
    vectors, queries = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "L2":
        scores = -((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    else:
        scores = queries @ vectors.T
    if metric == "COSINE":
        scores /= np.linalg.norm(vectors, axis=1) * np.linalg.norm(queries, axis=1)[:, None]
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found, truth):
    """The part of the truth that was found, over all queries."""
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return sum(len(set(a) & set(b)) for a, b in pairs) / truth.size


def agreed_recall(found, vectors, queries, metric):
    """The same of vectors and queries; what a result would tell of these answers must be equal."""
    k = found.shape[1]
    truth = engine_truth.exact(
        [(np.arange(len(vectors)), vectors)], queries, metric, k,
        tile_bytes=2**20, alive=lambda _: True,
    )  # fmt: skip
    told = engine_recall.recall(found, truth, k).mean
    own = recall(found, exact(vectors, queries, metric, k))
    assert abs(told - own) <= 1e-9
    return own


def spec_of(vectors, metric="COSINE", **build):
    """The index of these vectors."""
    count, dimension = vectors.shape
    return IndexSpec(dimension=dimension, metric=metric, vectors=count, seed=7, build=build)


def make_index(directory, vectors, spec):
    """A complete index of them."""
    writer = IvfWriter(directory, spec)
    writer.insert(np.arange(len(vectors)), vectors)
    assert writer.build(always)
    writer.close()
