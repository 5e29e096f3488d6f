"""What each backend of vectors that works in this process must do; a subclass names it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from vector_set import (
    IDS,
    QUERIES,
    SET,
    VECTORS,
    K,
    assert_scores_are_exact,
    going_on,
    held,
    load,
    recall,
    spec,
)

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.backends import backend_of


class EmbeddedBackend:
    """Tests of the backend `name`, built and searched with these parameters.

    `other` are parameters of another index, and `differs` is what then is said.
    """

    name: str
    build: ClassVar[dict]
    search: ClassVar[dict]
    other: ClassVar[dict]
    differs: str

    @property
    def backend(self):
        return backend_of(self.name)

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory):
        """A complete index."""
        directory = tmp_path_factory.mktemp(cls.name)
        (directory / "of_somebody_else").write_text("kept")
        load(backend_of(cls.name), directory, spec(**cls.build))
        return directory

    @pytest.fixture
    def reader(self, place):
        reader = self.backend.reader(place, spec(**self.build), self.search)
        yield reader
        reader.close()

    def test_it_finds_the_nearest_with_their_scores(self, reader):
        ids, found = reader.search(QUERIES, K)
        assert (ids.dtype, found.dtype, ids.shape) == (np.int64, np.float32, (len(QUERIES), K))
        assert recall(ids, "COSINE") >= 0.95
        assert_scores_are_exact(ids, found, "COSINE")

    @pytest.mark.parametrize("metric", ["L2", "IP"])
    def test_other_metrics_score_higher_what_is_nearer(self, tmp_path, metric):
        load(self.backend, tmp_path, spec(metric, **self.build))
        reader = self.backend.reader(tmp_path, spec(metric, **self.build), {})
        ids, found = reader.search(QUERIES, K)
        reader.close()
        assert recall(ids, metric) >= 0.9
        assert_scores_are_exact(ids, found, metric)

    def test_rows_end_in_no_id_where_fewer_vectors_are_there(self, reader):
        ids, found = reader.search(QUERIES[:2], VECTORS + 3)
        assert (ids[:, -3:] == -1).all()
        assert np.isneginf(found[:, -3:]).all()
        assert sorted(ids[0][ids[0] >= 0]) == sorted(set(ids[0]) - {-1})

    def test_close_lets_go_of_every_file(self, place):
        first, second = (self.backend.reader(place, spec(**self.build), {}) for _ in range(2))
        first.search(QUERIES[:1], K)
        assert held(place)
        first.close()
        second.close()
        second.close()
        assert not held(place)
        with pytest.raises(EngineError, match="is closed"):
            first.search(QUERIES, K)

    def test_its_data_are_all_files_it_reads(self, place, reader):
        assert reader.search(QUERIES[:1], K)
        paths = self.backend.data_paths(place)
        assert {path for path in held(place) if Path(path).stat().st_size} <= {
            str(path) for path in paths
        }
        assert sum(path.stat().st_size for path in paths) > SET.nbytes

    def test_an_id_that_is_there_is_not_stored_again(self, tmp_path):
        writer = self.backend.writer(tmp_path, spec(**self.build))
        assert writer.insert(IDS[:5], SET[:5]) == 5
        assert writer.insert(IDS[3:7], SET[3:7]) == 2
        assert writer.count() == 7
        with pytest.raises(EngineError, match="7 of 1200 vectors are stored"):
            writer.build(going_on)
        writer.close()

    def test_a_build_that_is_told_to_end_leaves_no_index(self, tmp_path):
        writer = self.backend.writer(tmp_path, spec(**self.build))
        for first in range(0, VECTORS, 600):
            writer.insert(IDS[first : first + 600], SET[first : first + 600])
        assert not writer.build(lambda done, total: False)
        writer.close()
        with pytest.raises(EngineError, match="did not end"):
            self.backend.reader(tmp_path, spec(**self.build), {})
        self.backend.writer(tmp_path, spec(**self.build)).close()  # begins anew

    def test_another_index_than_the_one_there_is_refused(self, place):
        with pytest.raises(EngineError, match=rf"another index: {self.differs}"):
            self.backend.reader(place, spec(**self.other), {})
        with pytest.raises(EngineError, match=f"holds an index of {self.name} already"):
            self.backend.writer(place, spec(**self.build))

    def test_drop_removes_what_it_made(self, tmp_path):
        (tmp_path / "of_somebody_else").write_text("kept")
        writer = self.backend.writer(tmp_path, spec(**self.build))
        writer.insert(IDS[:5], SET[:5])
        writer.close()
        self.backend.drop(tmp_path)
        self.backend.drop(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["of_somebody_else"]

    def test_without_the_package_the_error_names_the_extra(self, place, monkeypatch):
        monkeypatch.setitem(sys.modules, self.name, None)
        text = rf"backend {self.name} needs {self.name}.*pip install 'mlps\[vectordb"
        with pytest.raises(EngineError, match=text):
            self.backend.reader(place, spec(**self.build), {})

    def test_nobody_joins_its_writer(self, place):
        with pytest.raises(EngineError, match=f"an index of {self.name} has one writer alone"):
            self.backend.join(place, spec(**self.build))

    def test_it_takes_about_what_it_says(self, place):
        of = spec(**self.build)
        said = self.backend.estimate(of, self.search)
        there = sum(path.stat().st_size for path in self.backend.data_paths(place))
        # A small index has parts of one size beside what grows with it.
        assert there <= said.index_bytes + 2**20
        assert said.index_bytes <= said.building_bytes
        assert f"{VECTORS:,} x " in said.disk

    def test_all_parameters_are_told(self):
        found = self.backend.check(spec(**self.build), self.search)
        keys = self.backend.describe()
        assert set(found.build) == set(keys.build_keys)
        assert set(found.search) == set(keys.search_keys)
        assert found.build.items() >= self.build.items()
        assert found.search.items() >= self.search.items()
