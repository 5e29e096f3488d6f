"""The user's files: what other programs wrote is read, any range of it, and damage is refused."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.vectordb import sources
from mlps.engines.vectordb.sources import fingerprint, open_source, published_truth, rows
from mlps.engines.vectordb.truth import exact

VECTORS = np.random.default_rng(1).standard_normal((1000, 6)).astype(np.float32)
FORMATS = ["fvecs", "fbin", "npy", "parquet", "hdf5"]


def write(path, vectors=VECTORS):
    """A file of its format, by other means than those that read it."""
    if path.suffix == ".fvecs":
        path.write_bytes(
            b"".join(struct.pack(f"<i{len(row)}f", len(row), *row) for row in vectors.tolist())
        )
    elif path.suffix == ".fbin":
        flat = vectors.reshape(-1).tolist()
        path.write_bytes(struct.pack(f"<II{len(flat)}f", *vectors.shape, *flat))
    elif path.suffix == ".npy":
        np.save(path, vectors)
    elif path.suffix == ".parquet":
        table = pa.table({"id": range(len(vectors)), "emb": vectors.tolist()})
        table = table.set_column(1, "emb", table["emb"].cast(pa.list_(pa.float32())))
        pq.write_table(table, path, row_group_size=300)
    else:
        with h5py.File(path, "w") as file:
            file["train"] = vectors
            file["test"] = vectors[:5]
    return path


def all_of(source):
    parts = list(rows(source, 0, source.vectors))
    return np.concatenate([vectors for _, vectors in parts])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A source of each format."""
    place = tmp_path_factory.mktemp("sources")
    return {kind: open_source(write(place / f"data.{kind}")) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(30, 9000))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_range_is_read(kind, opened, monkeypatch, first, count, piece_bytes):
    monkeypatch.setattr(sources, "_PIECE_BYTES", piece_bytes)
    count = min(count, 1000 - first)
    source = opened[kind]
    assert (source.vectors, source.dimension) == (1000, 6)
    taken = list(rows(source, first, count))
    assert [int(at) for ids, _ in taken for at in ids] == [*range(first, first + count)]
    assert all(len(ids) <= max(piece_bytes // 24, 1) for ids, _ in taken)
    for ids, vectors in taken:
        assert vectors.dtype == np.float32
        assert (vectors == VECTORS[ids]).all()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_other_floats_become_float32(dtype, tmp_path):
    vectors = VECTORS.astype(dtype)
    np.save(tmp_path / "a.npy", vectors)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["other"] = vectors
    expected = vectors.astype(np.float32)
    assert (all_of(open_source(tmp_path / "a.npy")) == expected).all()
    assert (all_of(open_source(tmp_path / "a.hdf5", "other")) == expected).all()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.list_(pa.float16()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 6),
    ],
    ids=str,
)
def test_every_list_of_parquet_is_read(kind, tmp_path):
    values = VECTORS[:50].astype(np.float16)
    flat = pa.array(values.reshape(-1)).cast(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        column = pa.FixedSizeListArray.from_arrays(flat, 6)
    else:
        maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        column = maker.from_arrays(np.arange(51) * 6, flat)
    pq.write_table(pa.table({"v": column}), tmp_path / "a.parquet")
    assert (all_of(open_source(tmp_path / "a.parquet")) == values.astype(np.float32)).all()


def test_a_column_is_named_where_there_are_several(tmp_path):
    lists = pa.array(VECTORS[:3].tolist())
    pq.write_table(pa.table({"a": lists, "b": lists, "n": [1, 2, 3]}), tmp_path / "t.parquet")
    with pytest.raises(EngineError, match=r"columns with lists are \['a', 'b'\]: name one"):
        open_source(tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", "b").name == "b"
    with pytest.raises(EngineError, match="it has no column c"):
        open_source(tmp_path / "t.parquet", "c")


@pytest.mark.parametrize("kind", FORMATS)
def test_memory_is_bounded_by_the_piece(kind, tmp_path):
    vectors = np.ones((30000, 256), dtype=np.float32)
    path = tmp_path / f"large.{kind}"
    if kind == "parquet":
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 256)
        pq.write_table(pa.table({"emb": column}), path)
    elif kind == "fvecs":
        framed = np.insert(vectors.view("<i4"), 0, 256, axis=1)
        path.write_bytes(framed.tobytes())
    elif kind == "fbin":
        path.write_bytes(struct.pack("<II", 30000, 256) + vectors.tobytes())
    else:
        write(path, vectors)
    del vectors
    source = open_source(path)
    tracemalloc.start()
    try:
        assert sum(len(ids) for ids, _ in rows(source, 0, 30000)) == 30000
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 32 * 2**20


# ---------------------------------------------------------------- fingerprints


@pytest.mark.parametrize("kind", FORMATS)
def test_content_changes_the_fingerprint_and_the_place_does_not(kind, tmp_path):
    one = fingerprint(open_source(write(tmp_path / f"one.{kind}")))
    same = tmp_path / f"same.{kind}"
    same.write_bytes((tmp_path / f"one.{kind}").read_bytes())
    assert fingerprint(open_source(same)) == one
    changed = VECTORS.copy()
    changed[500, 3] += 1
    other = fingerprint(open_source(write(tmp_path / f"other.{kind}", changed)))
    assert other["sample_sha256"] != one["sample_sha256"]
    assert (one["vectors"], one["dimension"], one["format"]) == (1000, 6, kind)
    fewer = fingerprint(open_source(write(tmp_path / f"fewer.{kind}", VECTORS[:999])))
    assert fewer["vectors"] == 999


def test_the_fingerprint_looks_at_both_ends_of_a_large_file(tmp_path):
    vectors = np.zeros((20000, 256), dtype=np.float32)
    whole = fingerprint(open_source(write(tmp_path / "a.npy", vectors)))
    for at in (0, -1):
        changed = vectors.copy()
        changed[at, at] = 1
        assert fingerprint(open_source(write(tmp_path / "a.npy", changed))) != whole


# ---------------------------------------------------------------- ann-benchmarks


@pytest.mark.parametrize(
    ("distance", "metric"), [("angular", "COSINE"), ("euclidean", "L2"), ("dot", "IP")]
)
def test_the_truth_of_a_published_file_is_the_own_one(distance, metric, tmp_path):
    wide, queries = VECTORS.astype(np.float64), VECTORS[:20].astype(np.float64) + 0.1
    products = queries @ wide.T
    if distance == "angular":
        lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(wide, axis=1)
        distances = 1 - products / lengths
    elif distance == "euclidean":
        distances = np.sqrt(((queries[:, None] - wide[None]) ** 2).sum(axis=2))
    else:
        distances = -products
    order = np.argsort(distances, axis=1)[:, :10]
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["distance"] = distance
        file["train"], file["test"] = VECTORS, queries.astype(np.float32)
        file["neighbors"] = order.astype(np.int32)
        file["distances"] = np.take_along_axis(distances, order, axis=1).astype(np.float32)
    found, published = published_truth(tmp_path / "a.hdf5")
    test = all_of(open_source(tmp_path / "a.hdf5", "test"))
    data = open_source(tmp_path / "a.hdf5")
    own = exact(rows(data, 0, 1000), test, found, 10, tile_bytes=2**20, alive=lambda done: True)
    assert found == metric
    assert (own.ids == published.ids).all()
    assert own.covered == published.covered
    assert np.abs(own.scores - published.scores).max() < 1e-5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"distance": "jaccard"}, "its distance is jaccard, known are angular"),
        ({"neighbors": None}, "has no dataset neighbors"),
        ({"neighbors": [[0, 1000]]}, "names ids that are none of its 1000 vectors"),
        ({"distances": [[0.0]]}, "neighbors and distances have different shapes"),
    ],
    ids=["distance", "missing", "ids", "shapes"],
)
def test_a_published_truth_that_cannot_be_is_refused(change, text, tmp_path):
    content = {
        "distance": "angular",
        "train": VECTORS,
        "neighbors": [[0, 1]],
        "distances": [[0.0, 0.1]],
    } | change
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.attrs["distance"] = content.pop("distance")
        for name, values in content.items():
            if values is not None:
                file[name] = values
    with pytest.raises(EngineError, match=text):
        published_truth(tmp_path / "a.hdf5")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("kind", FORMATS)
@given(st.integers(0, 2**30))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_file_that_was_cut_is_refused(kind, opened, tmp_path, size):
    content = opened[kind].path.read_bytes()
    path = tmp_path / f"cut.{kind}"
    size = size % len(content)
    if kind == "fvecs" and size and size % 28 == 0:
        size -= 1
    path.write_bytes(content[:size])
    with pytest.raises(EngineError, match=r"cut\."):
        all_of(open_source(path))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_shrank_or_went_is_refused(kind, tmp_path):
    source = open_source(write(tmp_path / f"a.{kind}"))
    with pytest.raises(EngineError, match="ends after 1000 of 1001 vectors"):
        all_of(replace(source, vectors=1001))
    source.path.unlink()
    with pytest.raises(EngineError, match=r"cannot read .*: No such file|[Nn]o such file"):
        all_of(source)
    with pytest.raises(EngineError, match=r"a\."):
        open_source(source.path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_components_that_are_not_finite_are_refused_by_id(kind, value, tmp_path):
    vectors = VECTORS.copy()
    vectors[777, 2] = value
    source = open_source(write(tmp_path / f"a.{kind}", vectors))
    with pytest.raises(EngineError, match="vector 777 has components that are not finite"):
        all_of(source)
    assert len(list(rows(source, 0, 700)))


def test_a_number_that_float32_does_not_hold_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0, 2.0], [1e300, 1.0]]))
    with pytest.raises(EngineError, match="vector 1 has components that are not finite"):
        all_of(open_source(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("lists", "text"),
    [
        ([[1.0, 2.0], [1.0]], "vector 1 has 1 dimensions, not 2"),
        ([[1.0, 2.0], None], "vector 1 is null, not 2"),
        ([[1.0, 2.0], [1.0, None]], "has components that are null"),
        ([[], [1.0]], "has no vectors"),
        ([None, [1.0]], "has no vectors"),
    ],
    ids=str,
)
def test_lists_that_are_no_vectors_are_refused(lists, text, tmp_path):
    pq.write_table(
        pa.table({"emb": pa.array(lists, pa.list_(pa.float32()))}), tmp_path / "a.parquet"
    )
    with pytest.raises(EngineError, match=text):
        all_of(open_source(tmp_path / "a.parquet"))


def test_rows_of_fvecs_must_have_one_length(tmp_path):
    path = tmp_path / "a.fvecs"
    path.write_bytes(struct.pack("<i2fi2f", 2, 1.0, 2.0, 3, 1.0, 2.0))
    with pytest.raises(EngineError, match="vector 1 has 3 dimensions, not 2"):
        all_of(open_source(path))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones(4), r"an array of float64 with shape \(4,\) is no rows"),
        (np.ones((4, 2), dtype=np.int32), "an array of int32"),
        (np.asfortranarray(np.ones((4, 2))), "in columns is no rows"),
        (np.ones((0, 2)), r"shape \(0, 2\)"),
    ],
    ids=["flat", "whole numbers", "columns", "empty"],
)
def test_arrays_that_are_no_vectors_are_refused(array, text, tmp_path):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(EngineError, match=text):
        open_source(tmp_path / "a.npy")


def test_what_is_in_hdf5_must_be_vectors(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["ids"] = np.ones((4, 2), dtype=np.int32)
    with pytest.raises(EngineError, match="it has no dataset train"):
        open_source(tmp_path / "a.hdf5")
    with pytest.raises(EngineError, match="ids is an array of int32"):
        open_source(tmp_path / "a.hdf5", "ids")


def test_other_names_are_refused(tmp_path):
    with pytest.raises(EngineError, match=r"known are \.fvecs, \.fbin, \.npy, \.parquet, \.hdf5"):
        open_source(tmp_path / "a.csv")
    with pytest.raises(EngineError, match="none by the name emb"):
        open_source(write(tmp_path / "a.npy"), "emb")


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow.parquet"), ("hdf5", "h5py")])
def test_a_missing_library_is_named_with_its_extra(kind, module, tmp_path, monkeypatch):
    write(tmp_path / f"a.{kind}")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EngineError, match=r"a file in .* needs .*pip install 'mlps\[vectordb\]'"):
        open_source(tmp_path / f"a.{kind}")
