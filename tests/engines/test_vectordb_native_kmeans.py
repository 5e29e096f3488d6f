"""Samples, centroids, and the nearest of these."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_data import clustered, unit

from mlps.engines.vectordb.native import settings
from mlps.engines.vectordb.native.kmeans import centroids_of, nearest, normalise, sample_of


def centroids(sample, nlist, rounds, *, seed=7, unit=False, looked=lambda _count: None):
    return centroids_of(sample, nlist, rounds, seed, unit=unit, looked=looked)


def cost(vectors, found):
    return np.sqrt(((vectors[:, None] - found[None]) ** 2).sum(axis=2)).min(axis=1).mean()


@given(st.integers(1, 3000), st.data())
def test_a_sample_is_ascending_and_spread_over_all_ids(vectors, data):
    count = data.draw(st.integers(1, vectors))
    ids = sample_of(vectors, count, seed=5)
    edges = np.arange(count + 1) * vectors // count
    assert ((ids >= edges[:-1]) & (ids < edges[1:])).all()


def test_another_seed_is_another_sample():
    assert sample_of(10_000, 100, seed=1).tolist() == sample_of(10_000, 100, seed=1).tolist()
    assert sample_of(10_000, 100, seed=1).tolist() != sample_of(10_000, 100, seed=2).tolist()


@pytest.mark.parametrize("unit_length", [False, True])
def test_the_nearest_centroid_is_that_of_the_least_distance(unit_length):
    vectors = clustered(200, 5) * (1 if unit_length else 3)
    found = clustered(17, 5, seed=4) * (1 if unit_length else 2)
    labels, closeness = nearest(vectors, found)
    squares = ((vectors[:, None] - found[None]) ** 2).sum(axis=2)
    assert labels.tolist() == squares.argmin(axis=1).tolist()
    lengths = (vectors**2).sum(axis=1)
    assert np.allclose(closeness, (lengths - squares.min(axis=1)) / 2, atol=1e-4)


def test_rounds_bring_centroids_nearer():
    vectors = clustered(3000, 8)
    costs = [cost(vectors, centroids(vectors, 30, rounds)) for rounds in (1, 3, 12)]
    assert costs[0] > costs[1] > costs[2]


def test_a_centroid_is_the_mean_of_its_vectors(monkeypatch):
    vectors = clustered(500, 6)
    found = centroids(vectors, 5, 60)
    labels, _ = nearest(vectors, found)
    for number in range(5):
        assert np.allclose(found[number], vectors[labels == number].mean(axis=0), atol=1e-5)
    # Tiles decide how much is looked at together, not what is found.
    monkeypatch.setattr(settings, "TILE_BYTES", 4 * 8 * 33)
    assert np.allclose(centroids(vectors, 5, 60), found, atol=1e-5)


def test_the_same_seed_gives_the_same_centroids():
    vectors = clustered(1000, 8)
    first = centroids(vectors, 20, 4)
    assert first.tobytes() == centroids(vectors, 20, 4).tobytes()
    assert first.tobytes() != centroids(vectors, 20, 4, seed=8).tobytes()


def test_a_centroid_without_vectors_begins_anew():
    vectors = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    # Most of the first centroids are equal: all but the first of these lose their vectors.
    found = centroids(vectors, 4, 8)
    assert cost(vectors, found) < 1e-6


def test_centroids_of_unit_vectors_have_length_1():
    found = centroids(clustered(400, 6), 10, 3, unit=True)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_each_round_tells_of_all_vectors():
    looked = []
    centroids(clustered(400, 6), 10, 3, looked=looked.append)
    assert sum(looked) == 1200


def test_vectors_without_length_stay():
    vectors = np.array([[3, 4], [0, 0]], dtype=np.float32)
    normalise(vectors)
    assert vectors.tolist() == [*unit(np.array([[3, 4]])).tolist(), [0, 0]]
