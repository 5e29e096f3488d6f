"""Vectors: a pure function of the declaration and the id, of length 1, and distributed as said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.section import Section
from mlps.engines.vectordb.random import (
    DEVIATION,
    Rows,
    normal_numbers,
    uniform_numbers,
    words_from,
)
from mlps.engines.vectordb.vectors import (
    BLOCK_VECTORS,
    MOST_DIMENSIONS,
    Dataset,
    block,
    dataset_of,
    fingerprint,
    rows,
)

SETS = {
    "clustered": Dataset(
        vectors=9000,
        dimension=21,
        distribution="clustered",
        seed=42,
        clusters=50,
        cluster_spread=1.5,
    ),
    "uniform": Dataset(vectors=9000, dimension=21, distribution="uniform", seed=42),
    "normal": Dataset(vectors=9000, dimension=21, distribution="normal", seed=42),
}
WHOLE = {name: np.concatenate([block(data, n) for n in range(3)]) for name, data in SETS.items()}
DECLARED = {
    "num_vectors": 10,
    "dimension": 4,
    "distribution": "clustered",
    "seed": 0,
    "clusters": 2,
    "cluster_spread": 1.5,
}

LARGEST = 33000


# ---------------------------------------------------------------- random numbers


def philox(key, counter):
    """The four words of Philox 4x64 with ten rounds, as its authors describe it."""
    c, (k0, k1), low = list(counter), key, 2**64 - 1
    for _ in range(10):
        a, b = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(b >> 64) ^ c[1] ^ k0, b & low, (a >> 64) ^ c[3] ^ k1, a & low]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & low, (k1 + 0xBB67AE8584CAA73B) & low
    return c


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 20))
def test_words_are_those_of_philox_at_their_counter(seed, first, count):
    expected = [
        philox((seed, 3), (word // 4 + 1, 0, 0, 0))[word % 4]
        for word in range(first, first + count)
    ]
    assert words_from(seed=seed, stream=3, first=first, count=count).tolist() == expected


@given(st.integers(0, 1000), st.lists(st.integers(1, 9), max_size=4), st.integers(1, 40))
def test_rows_are_the_same_whatever_was_asked_before(first, counts, width):
    numbers = Rows(seed=1, stream=2, first=first, width=width)
    taken = [numbers.next(count) for count in counts]
    at = first
    for some in taken:
        for row in some:
            alone = Rows(seed=1, stream=2, first=at, width=width).next(1)
            assert (row == alone[0]).all()
            at += 1


def test_normal_numbers_are_whole_symmetric_and_normal():
    table = normal_numbers(np.arange(2**16, dtype=np.uint16)).astype(np.float64)
    assert (table == np.rint(table)).all()
    assert (table == -table[::-1]).all()
    assert (np.diff(table) >= 0).all()
    assert np.abs(table).max() < LARGEST
    assert table.std() == pytest.approx(DEVIATION, rel=1e-3)
    share = np.array([math.erfc(-x / DEVIATION / math.sqrt(2)) / 2 for x in table[::64]])
    assert np.abs(share - (np.arange(2**16)[::64] + 0.5) / 2**16).max() < 0.003


def test_uniform_numbers_are_odd_and_symmetric():
    numbers = uniform_numbers(np.arange(2**16, dtype=np.uint16))
    assert numbers.tolist() == list(range(-65535, 65536, 2))


# ---------------------------------------------------------------- datasets


@pytest.mark.parametrize("name", SETS)
@given(st.integers(0, 9000), st.integers(0, 9000))
@settings(max_examples=25, deadline=None)
def test_any_range_of_rows_is_the_same_part_of_the_set(name, first, count):
    count = min(count, 9000 - first)
    taken = list(rows(SETS[name], first, count))
    assert sum(len(ids) for ids, _ in taken) == count
    assert max([len(ids) for ids, _ in taken], default=0) <= BLOCK_VECTORS
    for ids, vectors in taken:
        assert vectors.dtype == np.float32
        assert (vectors == WHOLE[name][ids]).all()
    assert np.concatenate([ids for ids, _ in taken] or [[]]).tolist() == [
        *range(first, first + count)
    ]


@given(
    st.integers(1, 60),
    st.integers(0, 2**70),
    st.integers(1, 9),
    st.sampled_from([0.01, 0.5, 1.5, 7.0]),
)
@settings(max_examples=30, deadline=None)
def test_every_vector_has_the_length_1(dimension, seed, clusters, spread):
    data = Dataset(
        vectors=100,
        dimension=dimension,
        distribution="clustered",
        seed=seed,
        clusters=clusters,
        cluster_spread=spread,
    )
    lengths = np.linalg.norm(block(data, 0).astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() < 2e-7


def test_the_widest_vectors_keep_their_sums_exact():
    data = Dataset(
        vectors=2,
        dimension=MOST_DIMENSIONS,
        distribution="clustered",
        seed=1,
        clusters=1,
        cluster_spread=7.0,
    )
    assert (LARGEST * (1 + data.cluster_spread)) ** 2 * MOST_DIMENSIONS < 2**53
    assert np.linalg.norm(block(data, 0)[1].astype(np.float64)) == pytest.approx(1, abs=2e-7)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("clustered", "fdb22471f964", "6ec406409b70"),
        ("uniform", "c9b24751f094", "b67e833cfedd"),
        ("normal", "c4555c1087f0", "3aa29f2c3c7d"),
    ],
)
def test_a_set_is_the_same_for_ever(name, first, last):
    found = fingerprint(SETS[name])
    assert (found["first_block_sha256"][:12], found["last_block_sha256"][:12]) == (first, last)


def test_clusters_lie_around_centres_as_far_as_declared():
    data = replace(SETS["clustered"], dimension=512, vectors=4000, clusters=10)
    # Between vectors of a cluster the cosine is 1 / (1 + spread ** 2), and 0 between others.
    vectors = block(data, 0).astype(np.float64)
    cosines = vectors[:400] @ vectors[400:].T
    same = cosines > 0.15
    assert same.mean() == pytest.approx(1 / 10, abs=0.02)
    assert cosines[same].mean() == pytest.approx(1 / (1 + 1.5**2), abs=0.03)
    assert abs(cosines[~same].mean()) < 0.03


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_the_others_are_centred_in_each_dimension(name):
    vectors = WHOLE[name].astype(np.float64)
    assert np.abs(vectors.mean(axis=0)).max() < 0.01
    assert np.abs((vectors**2).mean(axis=0) * vectors.shape[1] - 1).max() < 0.1


def test_uniform_and_normal_components_are_what_they_say():
    # Of uniform numbers the mean fourth power is 9/5 of the squared mean square, of normal ones 3.
    for name, expected in (("uniform", 1.8), ("normal", 3.0)):
        data = replace(SETS[name], dimension=2048, vectors=100)
        vectors = block(data, 0).astype(np.float64)
        assert (vectors**4).mean() / (vectors**2).mean() ** 2 == pytest.approx(expected, rel=0.03)


def test_a_set_that_grows_keeps_its_vectors():
    larger = replace(SETS["clustered"], vectors=20000)
    assert (block(larger, 1) == block(SETS["clustered"], 1)).all()
    assert len(block(SETS["clustered"], 2)) == 9000 - 2 * BLOCK_VECTORS


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 43},
        {"vectors": 8999},
        {"dimension": 22},
        {"clusters": 51},
        {"cluster_spread": 1.4},
    ],
    ids=str,
)
def test_each_parameter_changes_the_fingerprint(change):
    other = replace(SETS["clustered"], **change)
    assert fingerprint(other) != fingerprint(SETS["clustered"])
    assert (
        fingerprint(other)["last_block_sha256"]
        != (fingerprint(SETS["clustered"])["last_block_sha256"])
    )


def test_a_range_outside_of_the_set_is_a_bug():
    with pytest.raises(ValueError, match="ids 8999 to 9001 are not in 9000 vectors"):
        next(rows(SETS["normal"], 8999, 2))
    with pytest.raises(ValueError, match="block 3 is none of 3"):
        block(SETS["normal"], 3)


# ---------------------------------------------------------------- declarations


def test_a_declaration_is_read():
    assert dataset_of(Section(DECLARED, "dataset")) == Dataset(
        vectors=10, dimension=4, distribution="clustered", seed=0, clusters=2, cluster_spread=1.5
    )
    plain = dataset_of(Section({**DECLARED, "distribution": "normal"}, "dataset"))
    assert (plain.clusters, plain.cluster_spread, plain.raw_bytes) == (0, 0.0, 160)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"distribution": "zipfian"}, "dataset.distribution must be one of clustered, uniform"),
        ({"num_vectors": 0}, "dataset.num_vectors must be a whole number of at least 1, got 0"),
        ({"dimension": 65537}, "dataset.dimension is 65537, at most 65536"),
        ({"cluster_spread": 8}, "dataset.cluster_spread is 8, at most 7"),
        ({"clusters": 10**9}, "the centres of 1000000000 clusters are 16000000000 bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(change, text):
    with pytest.raises(JobError, match=text):
        dataset_of(Section({**DECLARED, **change}, "dataset"))
