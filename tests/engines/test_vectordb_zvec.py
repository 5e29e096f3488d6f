"""zvec: what it stores, finds, reads and lets go of."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from embedded_backend import EmbeddedBackend
from vector_set import QUERIES, spec

from mlps.engines.errors import EngineError, JobError
from mlps.engines.vectordb.backends import backend_of

TESTS = str(Path(__file__).parents[1])
pytest.importorskip("zvec", reason="zvec has no package for this Python")

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from vector_set import QUERIES, spec
from mlps.engines.vectordb.backends import backend_of
def read_bytes():
    return int(Path("/proc/self/io").read_text().split("read_bytes: ")[1].split()[0])
reader = backend_of("zvec").reader(Path(sys.argv[1]), spec(max_degree=24, search_list_size=40), {})
before = read_bytes()
reader.search(QUERIES, 10)
print(reader.io().io_class, reader.moved(), read_bytes() - before)
"""


class TestZvec(EmbeddedBackend):
    """DiskANN that reads past the page cache."""

    name = "zvec"
    build: ClassVar = {"max_degree": 24, "search_list_size": 40}
    search: ClassVar = {"search_ef": 100}
    other: ClassVar = {"max_degree": 32, "search_list_size": 40}
    differs = "index.max_degree: found 24, asked 32"

    def test_another_process_reads_it_beside_this_one_and_from_storage(self, place, reader):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), TESTS],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        io_class, moved, read_bytes = done.stdout.split()
        assert moved == "None"
        if io_class == "direct":
            assert int(read_bytes) >= 4096 * len(QUERIES)
        assert reader.io().io_class == io_class


def test_drop_leaves_a_directory_that_is_not_its_own(tmp_path):
    (tmp_path / "zvec").mkdir()
    backend_of("zvec").drop(tmp_path)
    assert (tmp_path / "zvec").is_dir()


@pytest.mark.parametrize(
    ("build", "search", "text"),
    [
        ({"max_degre": 3}, {}, "index.max_degre: no such parameter; did you mean max_degree"),
        ({}, {"ef": 3}, "search.ef: no such parameter"),
        ({"search_list_size": 200}, {}, "index.search_list_size must be at most 100"),
        ({"pq_chunks": 17}, {}, "index.pq_chunks must be at most 16"),
        ({}, {"search_ef": 0}, "search.search_ef must be at least 1"),
    ],
)
def test_wrong_parameters_are_errors(build, search, text):
    with pytest.raises(JobError, match=text):
        backend_of("zvec").check(spec(**build), search)


@pytest.mark.parametrize(
    ("vectors", "chunks", "limit_mib"), [(100_000, 96, 110), (1_000_000, 0, 101 + 61), (10, 8, 101)]
)
def test_a_process_that_searches_gives_zvec_no_memory_to_keep_the_index_in(
    tmp_path, monkeypatch, vectors, chunks, limit_mib
):
    import zvec

    given = {}
    monkeypatch.setattr(zvec, "init", lambda **options: given.update(options))
    asked = replace(spec(pq_chunks=chunks), vectors=vectors, dimension=128)
    with pytest.raises(EngineError, match="no index"):
        backend_of("zvec").reader(tmp_path, asked, {})
    assert given["memory_limit_mb"] == limit_mib
