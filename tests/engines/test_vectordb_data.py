"""Vectors and queries of a job, wherever they come from."""

from __future__ import annotations

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.vectordb.data import data_of

VECTORS = np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same vectors in files, with 20 queries in one of them."""
    place = tmp_path_factory.mktemp("files")
    np.save(place / "vectors.npy", VECTORS)
    with h5py.File(place / "both.hdf5", "w") as file:
        file["train"], file["test"] = VECTORS, VECTORS[:20] * 2
    pq.write_table(pa.table({"v": list(VECTORS)}), place / "vectors.parquet")
    return place


@pytest.fixture
def of_file(vector_benchmark, files):
    """A job whose vectors are a file's; queries have keys of their own."""

    def make(name, query=None, **dataset):
        path = str(files / name)
        dataset = {"path": path, "num_vectors": None, **dataset}
        return vector_benchmark(dataset=dataset, query={"num_query_vectors": None, **(query or {})})

    return make


def all_of(data):
    parts = list(data.rows(0, data.vectors))
    ids = np.concatenate([ids for ids, _ in parts])
    assert (ids == np.arange(data.vectors)).all()
    return np.concatenate([vectors for _, vectors in parts])


def test_generated_data_are_what_the_job_says(vector_benchmark):
    data = data_of(vector_benchmark())
    assert (data.vectors, data.dimension, data.query_count, data.raw_bytes) == (600, 16, 12, 38400)
    assert (data.distribution, data.source, data.mode) == ("clustered", None, "planted")
    assert all_of(data).shape == (600, 16)
    assert (data.query_vectors(3, 2) == data.query_vectors(0, 12)[3:5]).all()
    assert data.fingerprint()["vectors"] == 600
    assert data.queries_fingerprint()["count"] == 12


def test_a_file_brings_vectors_dimension_and_queries(of_file, files):
    hdf5 = str(files / "both.hdf5")
    data = data_of(of_file("both.hdf5", {"path": hdf5, "name": "test"}))
    assert (data.vectors, data.dimension, data.query_count, data.mode) == (300, 8, 20, "file")
    assert (all_of(data) == VECTORS).all()
    assert (data.query_vectors(5, 4) == 2 * VECTORS[5:9]).all()
    assert data.distribution is None
    assert str(data.source) == hdf5
    assert data.packages == ("h5py",)
    asked = data.queries_fingerprint()
    assert (asked["count"], asked["mode"], asked["name"]) == (20, "file", "test")


def test_the_first_so_many_of_a_file_are_taken(of_file, files):
    query = {"path": str(files / "both.hdf5"), "name": "test", "num_query_vectors": 7}
    data = data_of(of_file("vectors.npy", query, num_vectors=100))
    assert (data.vectors, data.query_count) == (100, 7)
    assert (all_of(data) == VECTORS[:100]).all()
    assert data.fingerprint()["vectors"] == 100
    assert data.queries_fingerprint()["count"] == 7
    with pytest.raises(ValueError, match="not in 100 vectors"):
        data.rows(90, 20)


@pytest.mark.parametrize("name", ["vectors.npy", "both.hdf5"])
def test_planted_queries_lie_beside_vectors_of_a_file(of_file, name):
    planted = {"num_query_vectors": 40, "noise": 0.02}
    data = data_of(of_file(name, planted, num_vectors=200))
    queries = data.query_vectors(0, 40)
    distances = ((queries[:, None] - VECTORS[None]) ** 2).sum(axis=2)
    nearest = distances.argmin(axis=1)
    assert (nearest < 200).all()
    assert len(set(nearest.tolist())) > 20
    lengths = np.linalg.norm(VECTORS[nearest], axis=1)
    assert np.allclose(np.linalg.norm(queries, axis=1), lengths, rtol=1e-5)
    assert (np.sqrt(distances.min(axis=1)) < 0.2 * lengths).all()
    assert (data.query_vectors(11, 3) == queries[11:14]).all()
    fingerprint = data.queries_fingerprint()
    assert (fingerprint["count"], fingerprint["mode"]) == (40, "planted")


@given(first=st.integers(0, 600), count=st.integers(0, 600), size=st.integers(1, 700))
def test_batches_are_the_rows_in_portions(vector_benchmark, first, count, size):
    data = data_of(vector_benchmark())
    count = min(count, data.vectors - first)
    batches = list(data.batches(first, count, size))
    assert [len(ids) for ids, _ in batches[:-1]] == [size] * (len(batches) - 1)
    ids = [number for ids, _ in batches for number in ids.tolist()]
    assert ids == list(range(first, first + count))
    if batches:
        expected = np.concatenate([vectors for _, vectors in data.rows(first, count)])
        assert (np.concatenate([vectors for _, vectors in batches]) == expected).all()


def test_batches_may_be_larger_than_what_is_made_at_a_time(vector_benchmark):
    data = data_of(vector_benchmark(dataset={"num_vectors": 10_000, "dimension": 2}))
    assert [len(ids) for ids, _ in data.batches(10, 9_000, 5_000)] == [5_000, 4_000]


def test_other_data_and_other_queries_have_other_fingerprints(of_file, files):
    whole, part = data_of(of_file("vectors.npy", {"num_query_vectors": 5})), None
    part = data_of(of_file("vectors.npy", {"num_query_vectors": 5}, num_vectors=299))
    assert whole.fingerprint() != part.fingerprint()
    noisier = data_of(of_file("vectors.npy", {"num_query_vectors": 5, "noise": 0.06}))
    assert whole.queries_fingerprint() != noisier.queries_fingerprint()
    assert whole.fingerprint() == noisier.fingerprint()


INDEPENDENT = {"mode": "independent", "num_query_vectors": 5}
WRONG = {
    "independent": (("vectors.npy", INDEPENDENT), {}, r"query\.mode is independent.*planted"),
    "parquet": (
        ("vectors.parquet", {"num_query_vectors": 5}),
        {},
        r"planted queries need single vectors of .*parquet, which parquet does not",
    ),
    "too many": (
        ("vectors.npy", {"num_query_vectors": 5}),
        {"num_vectors": 301},
        r"num_vectors is 301, and .*npy has 300: benchmark\.dataset\.num_vectors=300 takes all",
    ),
    "too many queries": (
        ("both.hdf5", {"path": "both.hdf5", "name": "test", "num_query_vectors": 21}),
        {},
        r"query\.num_query_vectors is 21, and .* has 20",
    ),
    "other dimension": (
        ("vectors.npy", {"path": "narrow.npy"}),
        {},
        r"query\.path: the queries of .*narrow\.npy have 5 dimensions, the vectors have 8",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_an_error_by_its_key(of_file, files, name):
    np.save(files / "narrow.npy", VECTORS[:, :5])
    (file, query), dataset, text = WRONG[name]
    if "path" in query:
        query = {**query, "path": str(files / query["path"])}
    with pytest.raises(JobError, match=text):
        data_of(of_file(file, query, **dataset))


def test_a_path_is_a_whole_one(vector_benchmark):
    with pytest.raises(JobError, match=r"dataset\.path must be a whole path, got 'v\.npy'"):
        data_of(vector_benchmark(dataset={"path": "v.npy"}))
