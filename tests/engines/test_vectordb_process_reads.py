"""What the kernel says that this process has read, without the looks at it."""

from __future__ import annotations

import os

import pytest

from mlps.engines.vectordb.process_reads import ProcessCounter, ProcessReads


@pytest.fixture
def counter():
    counter = ProcessCounter()
    yield counter
    counter.close()


def test_bytes_and_calls_are_those_of_reads(counter, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    descriptor = os.open(path, os.O_RDONLY)
    before = counter.read()
    for _ in range(5):
        os.pread(descriptor, 10_000, 0)
    moved = counter.read().since(before)
    os.close(descriptor)
    # Other threads of the tests' process may read as well.
    assert 50_000 <= moved.requested_bytes < 60_000
    assert 5 <= moved.calls < 20


def test_looking_counts_for_nothing(counter):
    first, *_, last = [counter.read() for _ in range(100)]
    assert last.since(first).calls < 10
    assert last.since(first).requested_bytes < 2_000


def test_what_is_not_there_is_unknown(tmp_path):
    assert ProcessCounter(tmp_path / "gone").read() is None
    (tmp_path / "other").write_text("rchar: x\n")
    for text in ("rchar: 1\n", "what\n", "rchar: x\nsyscr: 1\nread_bytes: 0\n"):
        (tmp_path / "io").write_text(text)
        counter = ProcessCounter(tmp_path / "io")
        assert counter.read() is None
        counter.close()
        counter.close()


def test_differences():
    a = ProcessReads(read_bytes=5, requested_bytes=7, calls=2, major_faults=1)
    b = ProcessReads(read_bytes=9, requested_bytes=8, calls=4, major_faults=1)
    assert b.since(a) == ProcessReads(read_bytes=4, requested_bytes=1, calls=2, major_faults=0)
