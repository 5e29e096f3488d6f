"""Queries: a pure function of the dataset, their seed and their number; beside what they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.section import Section
from mlps.engines.vectordb.queries import (
    Queries,
    base_ids,
    fingerprint,
    queries_of,
    query_vectors,
)
from mlps.engines.vectordb.vectors import Dataset, block

DATA = Dataset(
    vectors=3000, dimension=40, distribution="clustered", seed=7, clusters=30, cluster_spread=1.5
)
PLANTED = Queries(count=300, mode="planted", noise=0.05, seed=99)
INDEPENDENT = Queries(count=300, mode="independent", noise=0.0, seed=99)
VECTORS = block(DATA, 0)
ALL = {queries: query_vectors(DATA, queries, 0, 300) for queries in (PLANTED, INDEPENDENT)}


@pytest.mark.parametrize("queries", ALL, ids=lambda queries: queries.mode)
@given(st.integers(0, 300), st.integers(0, 300))
@settings(max_examples=20, deadline=None)
def test_any_range_of_queries_is_the_same_part_of_all(queries, first, count):
    count = min(count, 300 - first)
    some = query_vectors(DATA, queries, first, count)
    assert some.dtype == np.float32
    assert (some == ALL[queries][first : first + count]).all()


@pytest.mark.parametrize("queries", ALL, ids=lambda queries: queries.mode)
def test_queries_have_the_length_1_and_differ(queries):
    lengths = np.linalg.norm(ALL[queries].astype(np.float64), axis=1)
    assert np.abs(lengths - 1).max() < 2e-7
    assert len(np.unique(ALL[queries], axis=0)) == 300


def test_a_planted_query_without_noise_is_its_base():
    still = replace(PLANTED, noise=0.0)
    bases = base_ids(still, DATA.vectors, 0, 300)
    assert (query_vectors(DATA, still, 0, 300) == VECTORS[bases]).all()
    assert len(set(bases.tolist())) > 250


def test_noise_is_the_deviation_of_each_component():
    # The deviation of many in many dimensions, seen before the length became 1 again.
    data = replace(DATA, dimension=1000, vectors=100)
    queries = replace(PLANTED, count=50)
    bases = block(data, 0)[base_ids(queries, data.vectors, 0, 50)]
    cosines = (query_vectors(data, queries, 0, 50) * bases).sum(axis=1)
    assert cosines.mean() == pytest.approx(1 / np.sqrt(1 + 1000 * 0.05**2), abs=0.01)


def test_independent_queries_are_no_vectors_but_come_from_the_same_clusters():
    nearest = (ALL[INDEPENDENT] @ VECTORS.T).max(axis=1)
    assert nearest.max() < 0.99
    apart = replace(DATA, seed=8)
    assert nearest.mean() > (ALL[INDEPENDENT] @ block(apart, 0).T).max(axis=1).mean() + 0.05


def test_independent_queries_with_the_seed_of_the_data_are_not_its_vectors():
    same = query_vectors(DATA, replace(INDEPENDENT, seed=DATA.seed), 0, 100)
    assert (same @ VECTORS.T).max() < 0.99


@pytest.mark.parametrize(
    "change", [{"count": 299}, {"noise": 0.06}, {"seed": 98}, {"mode": "independent"}], ids=str
)
def test_each_parameter_changes_the_fingerprint(change):
    found, other = fingerprint(DATA, PLANTED), fingerprint(DATA, replace(PLANTED, **change))
    assert found != other
    assert found["last_sha256"] != other["last_sha256"]


def test_other_data_change_the_fingerprint_of_planted_queries():
    assert fingerprint(replace(DATA, vectors=2999), PLANTED) != fingerprint(DATA, PLANTED)


def test_queries_are_the_same_for_ever():
    found = [fingerprint(DATA, queries)["first_sha256"][:12] for queries in ALL]
    assert found == ["cab4537ff89b", "1cd6ba31cfd2"]


def test_what_was_not_declared_is_a_bug():
    with pytest.raises(ValueError, match="queries 299 to 301 are not in 300"):
        query_vectors(DATA, PLANTED, 299, 2)


def test_a_declaration_is_read():
    values = {"num_query_vectors": 5, "mode": "planted", "noise": 0.05, "seed": 1}
    assert queries_of(Section(values, "query")) == Queries(
        count=5, mode="planted", noise=0.05, seed=1
    )
    independent = queries_of(Section({**values, "mode": "independent"}, "query"))
    assert independent.noise == 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "random"}, "query.mode must be one of planted, independent, got 'random'"),
        ({"num_query_vectors": 0}, "query.num_query_vectors must be a whole number of at least 1"),
        ({"noise": 1.5}, "query.noise is 1.5, at most 1"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(change, text):
    values = {"num_query_vectors": 5, "mode": "planted", "noise": 0.05, "seed": 1}
    with pytest.raises(JobError, match=text):
        queries_of(Section({**values, **change}, "query"))
