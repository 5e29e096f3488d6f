"""The page cache: what was read is in it, what was dropped is not, however large the files are."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core import page_cache
from mlps.engines.io_core.page_cache import Residency, evict, residency, resident_pct

MIB = 2**20
WHOLE = 3 * 2**30
# Looks at a file of 3 GiB whose last MiB is in memory, and tells by how much its peak rose.
LOOK = """
import sys
from pathlib import Path
from mlps.engines.io_core.page_cache import residency

def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

small, large = map(Path, sys.argv[1:])
residency([small])
before = peak_kib()
found = residency([large])
print(found.pages, found.resident, peak_kib() - before)
"""


def write(path: Path, size_bytes: int, *, durable: bool = True) -> Path:
    with path.open("wb") as file:
        file.write(os.urandom(size_bytes))
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return path


@pytest.fixture
def cached(tmp_path):
    """Two durable files in memory."""
    paths = [write(tmp_path / name, MIB + 1) for name in ("a", "b")]
    if resident_pct(paths) != 100:
        pytest.skip("this file system keeps nothing in the page cache")
    return paths


def test_files_are_dropped(tmp_path, cached):
    assert residency(cached) == Residency(pages=514, resident=514)
    assert evict(tmp_path, ["a", "b"]) == 2
    assert resident_pct(cached) < 50


def test_what_was_read_again_is_seen(tmp_path, cached):
    evict(tmp_path, ["a", "b"])
    cached[1].read_bytes()
    found = residency(cached)
    assert found is not None
    assert 257 <= found.resident < 2 * 257


def test_what_is_not_durable_is_dropped_only_once_it_is(tmp_path, cached):
    path = write(tmp_path / "new", 8 * MIB, durable=False)
    assert evict(tmp_path, ["new"], durable=True) == 1
    assert resident_pct([path]) < 1


def test_a_file_that_is_not_there_is_named(tmp_path):
    for durable in (False, True):
        with pytest.raises(EngineError, match=r"drop from the page cache .*/none: No such file"):
            evict(tmp_path, ["none"], durable=durable)


def test_storage_that_does_not_take_the_data_is_named(tmp_path, monkeypatch):
    def fails(_):
        raise OSError(5, "Input/output error")

    write(tmp_path / "a", 1)
    monkeypatch.setattr(page_cache.os, "fdatasync", fails)
    with pytest.raises(EngineError, match=r"make durable .*/a: Input/output error"):
        evict(tmp_path, ["a"], durable=True)


def test_what_cannot_be_found_out_is_none(tmp_path):
    (tmp_path / "empty").touch()
    assert resident_pct([tmp_path / "empty"]) is None
    assert resident_pct([tmp_path / "none"]) is None
    assert resident_pct([]) is None
    assert residency([tmp_path / "none"]) is None
    assert residency([tmp_path / "empty"]) == Residency(pages=0, resident=0)
    assert residency([]) == Residency(pages=0, resident=0)


def test_parts_in_percent():
    assert Residency(pages=8, resident=2).pct == 25
    assert Residency(pages=0, resident=0).pct == 0


def test_stretches_make_up_the_whole(cached, monkeypatch):
    monkeypatch.setattr(page_cache, "_STRETCH_BYTES", 16 * mmap.PAGESIZE)
    looks = []
    assert residency(cached, lambda: not looks.append(0)) == Residency(pages=514, resident=514)
    assert len(looks) == 2 * 17


def test_a_count_that_is_ended_is_none(cached, monkeypatch):
    monkeypatch.setattr(page_cache, "_STRETCH_BYTES", 64 * mmap.PAGESIZE)
    answers = iter([True, True, False])
    assert residency(cached, lambda: next(answers)) is None


def test_huge_files_take_little_memory(tmp_path):
    small = write(tmp_path / "small", MIB)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(WHOLE)
        file.seek(WHOLE - MIB)
        file.write(os.urandom(MIB))
    words = [sys.executable, "-c", LOOK, str(small), str(tmp_path / "large")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    pages, resident, more_kib = map(int, done.stdout.split())
    assert pages == WHOLE // mmap.PAGESIZE
    assert MIB // mmap.PAGESIZE <= resident < pages / 100
    assert more_kib < 8 * 1024
