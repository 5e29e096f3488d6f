"""Inserted vectors wait in the places of their ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_data import clustered

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.native.spill import Spill

VECTORS = clustered(50, 3)


@pytest.fixture
def spill(tmp_path):
    made = Spill(tmp_path / "spill", 50, 3)
    yield made
    made.close()


@given(st.permutations(range(50)), st.integers(1, 50))
def test_order_and_portions_make_no_difference(tmp_path_factory, order, portion):
    path = tmp_path_factory.mktemp("spill") / "spill"
    spill = Spill(path, 50, 3)
    for first in range(0, 50, portion):
        ids = np.array(order[first : first + portion])
        assert spill.insert(ids, VECTORS[ids]) == len(ids)
    assert spill.first_missing() is None
    assert spill.read(0, 50).tobytes() == VECTORS.tobytes() == path.read_bytes()
    spill.close()


def test_it_knows_what_is_missing(spill):
    assert (spill.count(), spill.first_missing()) == (0, 0)
    spill.insert(np.array([0, 1, 5]), VECTORS[[0, 1, 5]])
    assert (spill.count(), spill.first_missing()) == (3, 2)


def test_some_vectors_are_read_by_id(spill):
    spill.insert(np.arange(50), VECTORS)
    assert spill.read_some(np.array([3, 4, 40])).tobytes() == VECTORS[[3, 4, 40]].tobytes()
    assert spill.read(7, 4).tobytes() == VECTORS[7:11].tobytes()


@pytest.mark.parametrize("ids", [[4, 9], [7, 7], [8, 7, 6, 7]], ids=["before", "at once", "mixed"])
def test_no_vector_comes_twice(spill, ids):
    spill.insert(np.array([9]), VECTORS[:1])
    with pytest.raises(EngineError, match=r"vector [97] was inserted before"):
        spill.insert(np.array(ids), VECTORS[: len(ids)])
    assert spill.count() == 1


def test_nothing_is_a_number_of_vectors_too(spill):
    assert spill.insert(np.zeros(0, dtype=np.int64), VECTORS[:0]) == 0


def test_one_writer_at_a_time_has_it(spill, tmp_path):
    with pytest.raises(EngineError, match=r"another writer has .*spill"):
        Spill(tmp_path / "spill", 50, 3)


def test_a_file_that_somebody_cut_is_an_error(spill, tmp_path):
    spill.insert(np.arange(50), VECTORS)
    with (tmp_path / "spill").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(EngineError, match="spill ends at byte 100"):
        spill.read(0, 50)


def test_storage_that_cannot_is_an_error_by_name(tmp_path):
    with pytest.raises(EngineError, match=r"cannot open .*nowhere/spill: .*ENOENT"):
        Spill(tmp_path / "nowhere" / "spill", 50, 3)
