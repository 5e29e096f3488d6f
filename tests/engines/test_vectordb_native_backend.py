"""The own index as the load generator sees it."""

from contextlib import closing

import numpy as np
import pytest
from vector_data import agreed_recall, always, clustered, near, spec_of

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.backends import backend_of
from mlps.engines.vectordb.native.layout import HEADER, LISTS, TABLE

VECTORS = clustered(2000, 8)
SPEC = spec_of(VECTORS, nlist=16)


@pytest.fixture
def backend():
    return backend_of("native_ivf")


def build(backend, directory):
    writer = backend.writer(directory, SPEC)
    assert writer.insert(np.arange(2000), VECTORS) == 2000
    writer.flush()
    assert writer.build(always)
    writer.compact()
    assert writer.count() == 2000
    writer.close()


def test_it_says_what_it_is(backend):
    told = backend.describe()
    assert (told.name, told.index, told.io_class) == ("native_ivf", "IVF_FLAT", "direct")
    assert told.several_readers
    assert set(told.build_keys) == {"nlist", "kmeans_rounds", "sample"}
    assert {key: form.default for key, form in told.search_keys.items()} == {
        "nprobe": 8, "reads_in_flight": 4, "io": "auto",
    }  # fmt: skip


def test_from_vectors_to_neighbours(backend, tmp_path):
    backend.check(SPEC, {"nprobe": 16})
    build(backend, tmp_path)
    queries = near(VECTORS, 10)
    with closing(backend.reader(tmp_path, SPEC, {"nprobe": 2})) as reader:
        assert agreed_recall(reader.search(queries, 10)[0], VECTORS, queries, "COSINE") < 1.0
    with closing(backend.reader(tmp_path, SPEC, {"nprobe": 16})) as reader:
        assert agreed_recall(reader.search(queries, 10)[0], VECTORS, queries, "COSINE") == 1.0
    assert reader.moved().read_bytes == 10 * sum(
        path.stat().st_size for path in backend.data_paths(tmp_path)
    )


def test_a_misspelt_parameter_is_an_error_with_the_right_one(backend):
    with pytest.raises(JobError, match=r"search\.nprobes: .* did you mean nprobe\?"):
        backend.check(SPEC, {"nprobes": 4})


def test_drop_removes_what_the_writer_made_and_nothing_else(backend, tmp_path):
    build(backend, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [HEADER, LISTS, TABLE]
    (tmp_path / "MLPS_IVF.mine").write_text("not the writer's")
    backend.drop(tmp_path)
    backend.drop(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["MLPS_IVF.mine"]
    with pytest.raises(EngineError, match="holds no index"):
        backend.reader(tmp_path, SPEC, {})


def test_drop_removes_a_part_of_an_index_too(backend, tmp_path):
    writer = backend.writer(tmp_path, SPEC)
    writer.insert(np.arange(5), VECTORS[:5])
    writer.close()
    backend.drop(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_dropped_can_be_built_again(backend, tmp_path):
    build(backend, tmp_path)
    backend.drop(tmp_path)
    build(backend, tmp_path)
