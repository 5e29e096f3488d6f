"""The backend that the page of vector search shows works as it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlps.engines.errors import JobError
from mlps.engines.vectordb.backend import Backend, IndexSpec
from mlps.engines.vectordb.backends import GROUP

PAGE = (Path(__file__).parent.parent / "docs/vectordb.md").read_text(encoding="utf-8")
SPEC = IndexSpec(dimension=8, metric="COSINE", vectors=50, seed=1)


@pytest.fixture(scope="module")
def backend() -> Backend:
    """The backend of the page."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    names: dict = {}
    exec(code, names)
    made = names["backend"]
    assert f'entry-points."{GROUP}"]\n{made().describe().name} = ' in PAGE
    return made()


def unit(rows):
    vectors = np.random.default_rng(3).normal(size=(rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_it_finds_the_nearest(backend, tmp_path):
    vectors, queries = unit(50), unit(5)
    writer = backend.writer(tmp_path / "own", SPEC)
    for first in (0, 25):
        ids = np.arange(first, first + 25)
        assert writer.insert(ids, vectors[ids]) == 25
    writer.flush()
    assert writer.build(lambda done, total: done == total == 50)
    writer.compact()
    assert writer.count() == 50
    writer.close()
    reader = backend.reader(tmp_path / "own", SPEC, {})
    ids, scores = reader.search(queries, 3)
    exact = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    assert ids.tolist() == np.argsort(-exact, axis=1)[:, :3].tolist()
    assert scores == pytest.approx(-np.sort(-exact, axis=1)[:, :3])
    assert (reader.moved(), reader.io().io_class) == (None, "mmap")
    reader.close()
    (path,) = backend.data_paths(tmp_path / "own")
    assert path.stat().st_size >= backend.estimate(SPEC, {}).index_bytes == 50 * 8 * 4
    backend.drop(tmp_path / "own")
    assert not path.exists()


def test_it_refuses_parameters_that_it_does_not_have(backend):
    assert dict(backend.check(SPEC, {}).build) == {}
    with pytest.raises(JobError, match=r"search\.nprobe: no such parameter"):
        backend.check(SPEC, {"nprobe": 8})
