"""What adapters share: the record of an index, checked rows, padded results."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_set import spec

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.adapter import (
    begin,
    check_most,
    check_queries,
    check_rows,
    check_spec,
    of_family,
    padded,
    read_record,
    record_of,
    record_path,
    require_begun,
    require_complete,
    unit,
    write_record,
)

RECORD = record_of("some", spec(), {"degree": 3}, "a mark")


def test_a_record_comes_back_as_it_was_written(tmp_path):
    assert read_record(tmp_path, "some") is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path, "some") == RECORD
    write_record(tmp_path, RECORD, 1200)
    assert read_record(tmp_path, "some") == dataclasses.replace(RECORD, stored=1200)
    assert read_record(tmp_path, "other") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": 2}', '{"form": 1, "backend": "some"}'])
def test_what_is_no_record_is_an_error(tmp_path, text):
    record_path(tmp_path, "some").write_text(text)
    with pytest.raises(EngineError, match=r"some\.json is no record of an index"):
        read_record(tmp_path, "some")


def test_only_the_complete_index_that_is_asked_for_will_do(tmp_path):
    with pytest.raises(EngineError, match="holds no index of some"):
        require_complete(tmp_path, RECORD)
    write_record(tmp_path, RECORD)
    with pytest.raises(EngineError, match="did not end"):
        require_complete(tmp_path, RECORD)
    write_record(tmp_path, RECORD, 1200)
    require_complete(tmp_path, dataclasses.replace(RECORD, mark=None))
    for key, value in (("dimension", 3), ("metric", "L2"), ("seed", 8), ("build", {"degree": 4})):
        name = "index.degree" if key == "build" else key
        with pytest.raises(EngineError, match=f"another index: {name}: found"):
            require_complete(tmp_path, dataclasses.replace(RECORD, **{key: value}))


def test_only_an_index_that_is_begun_can_be_joined(tmp_path):
    with pytest.raises(EngineError, match="holds no index of some"):
        require_begun(tmp_path, RECORD)
    begun = dataclasses.replace(RECORD, mark="of the writer")
    write_record(tmp_path, begun)
    assert require_begun(tmp_path, RECORD) == begun
    with pytest.raises(EngineError, match="another index: metric: found COSINE, asked L2"):
        require_begun(tmp_path, dataclasses.replace(RECORD, metric="L2"))
    write_record(tmp_path, begun, 1200)
    with pytest.raises(EngineError, match="an index of some that is complete"):
        require_begun(tmp_path, RECORD)


def test_an_index_begins_where_no_complete_one_is(tmp_path):
    assert begin(tmp_path / "new", RECORD) is None
    write_record(tmp_path, RECORD)
    assert begin(tmp_path, RECORD) == RECORD
    write_record(tmp_path, RECORD, 1200)
    with pytest.raises(EngineError, match="holds an index of some already: drop it first"):
        begin(tmp_path, RECORD)


@pytest.mark.parametrize(
    ("ids", "vectors", "text"),
    [
        ([0], np.ones((1, 15)), r"1 ids need vectors of shape \(1, 16\), got \(1, 15\)"),
        ([0, 1], np.ones((1, 16)), r"2 ids need vectors of shape \(2, 16\)"),
        ([1200], np.ones((1, 16)), "id 1200 is not one of 0 to 1199"),
        ([-1], np.ones((1, 16)), "id -1 is not one"),
        ([5], np.full((1, 16), np.nan), "vector 5 has components that are not finite"),
    ],
)
def test_rows_that_fit_no_index_are_errors(ids, vectors, text):
    with pytest.raises(EngineError, match=text):
        check_rows(np.array(ids), vectors, spec())


def test_rows_have_the_types_of_the_interface():
    ids, vectors = check_rows(np.arange(2, dtype=np.int32), np.ones((2, 16)), spec())
    assert (ids.dtype, vectors.dtype) == (np.int64, np.float32)
    assert check_queries(np.ones((2, 16)), 16).dtype == np.float32
    with pytest.raises(EngineError, match=r"queries must have shape \(n, 16\), got \(16,\)"):
        check_queries(np.ones(16), 16)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"metric": "cosine"}, "metric must be one of COSINE, L2, IP"),
        ({"vectors": 0}, "got 16 and 0"),
    ],
)
def test_what_is_no_index_of_any_backend_is_an_error(changed, text):
    with pytest.raises(JobError, match=text):
        check_spec(dataclasses.replace(spec(), **changed))


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 99), st.floats(-1, 1, width=32)), max_size=6)),
    st.integers(1, 5),
)
def test_rows_are_padded_or_cut_to_k(found, k):
    ids, scores = padded(found, k)
    assert ids.shape == scores.shape == (len(found), k)
    for row, pairs in enumerate(found):
        kept = pairs[:k]
        assert list(zip(ids[row, : len(kept)], scores[row], strict=False)) == kept
        assert (ids[row, len(kept) :] == -1).all() and np.isneginf(scores[row, len(kept) :]).all()


def test_unit_vectors_have_length_1_and_nothing_becomes_of_nothing():
    vectors = np.array([[3, 4], [0, 0]], np.float32)
    assert unit(vectors).tolist() == [[np.float32(0.6), np.float32(0.8)], [0, 0]]


def test_what_would_be_clamped_is_an_error():
    check_most("build", {"degree": 5}, {"degree": 5, "other": 1})
    with pytest.raises(JobError, match=r"build\.degree must be at most 5, got 6"):
        check_most("build", {"degree": 6}, {"degree": 5})


def test_an_index_type_has_its_own_keys_alone():
    families = {"M": ("HNSW",), "nlist": ("IVF",)}
    values = {"M": 3, "nlist": 4, "table": "t", "none": None}
    assert of_family({}, values, "IVF", families, "build") == {"nlist": 4, "table": "t"}
    with pytest.raises(JobError, match=r"build\.M: IVF has no such parameter"):
        of_family({"M": 3}, values, "IVF", families, "build")
