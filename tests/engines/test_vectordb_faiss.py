"""faiss: what it stores, finds, reads and lets go of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from embedded_backend import EmbeddedBackend
from vector_set import DIMENSION, QUERIES, K, held, load, recall, spec

from mlps.engines.errors import JobError
from mlps.engines.vectordb.backends import backend_of

TESTS = str(Path(__file__).parents[1])
pytest.importorskip("faiss", reason="faiss has no package for this Python")

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from vector_set import QUERIES, spec
from mlps.engines.vectordb.backends import backend_of
of = spec(nlist=30, kmeans_rounds=8)
reader = backend_of("faiss").reader(Path(sys.argv[1]), of, {"nprobe": 8})
print(reader.search(QUERIES, 10)[0].tolist())
"""


class TestFaiss(EmbeddedBackend):
    """Inverted lists that are mapped."""

    name = "faiss"
    build: ClassVar = {"nlist": 30, "kmeans_rounds": 8}
    search: ClassVar = {"nprobe": 8}
    other: ClassVar = {"nlist": 32}
    differs = "index.nlist: found 30, asked 32"

    def test_another_process_finds_the_same_beside_this_one(self, place, reader):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), TESTS],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        (found,) = (line for line in done.stdout.splitlines() if line.startswith("[["))
        assert found == str(reader.search(QUERIES, K)[0].tolist())

    def test_it_maps_its_lists_and_cannot_count_what_it_reads(self, place, reader):
        assert str(place / "faiss.lists") in held(place)
        assert (reader.io().io_class, reader.moved()) == ("mmap", None)

    def test_with_all_lists_it_is_exact(self, place):
        reader = self.backend.reader(place, spec(**self.build), {"nprobe": 30})
        assert recall(reader.search(QUERIES, K)[0], "COSINE") == 1.0
        reader.close()

    def test_parts_make_the_index_that_the_whole_makes(self, reader, tmp_path, monkeypatch):
        monkeypatch.setattr("mlps.engines.vectordb.faiss_backend.PART_BYTES", 4 * DIMENSION * 500)
        load(self.backend, tmp_path, spec(**self.build))
        of_parts = self.backend.reader(tmp_path, spec(**self.build), self.search)
        ids, _ = of_parts.search(QUERIES, K)
        of_parts.close()
        assert not held(tmp_path)
        assert (ids == reader.search(QUERIES, K)[0]).all()
        assert not list(tmp_path.glob("*part*"))


def test_drop_leaves_files_that_are_not_its_own(tmp_path):
    (tmp_path / "faiss.index").write_text("of somebody else")
    backend_of("faiss").drop(tmp_path)
    assert (tmp_path / "faiss.index").exists()


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"nlists": 3}, {}, "index.nlists: no such parameter; did you mean nlist"),
        ({}, {"probe": 3}, "search.probe: no such parameter; did you mean nprobe"),
        ({"nlist": 1201}, {}, "index.nlist is 1201, and there are 1200 vectors"),
        ({"nlist": 30, "sample": 29}, {}, "index.sample must be between index.nlist"),
        ({"nlist": 30}, {"nprobe": 31}, "search.nprobe is 31, and the index has 30 lists"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        backend_of("faiss").check(spec(**build), search)
