"""Files and directories of a job."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import resource
from pathlib import Path

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core import directory, files
from mlps.engines.io_core.blocks import aligned_buffer
from mlps.engines.io_core.page_cache import residency


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "segment"
    files.preallocate(path, 65536)
    return path


def test_preallocation_reserves_the_space(path):
    assert path.stat().st_size == 65536
    assert path.stat().st_blocks * 512 >= 65536
    files.preallocate(path, 32768)
    assert path.stat().st_size == 32768


def reserved(path, size_bytes):
    descriptor = os.open(path, os.O_RDWR)
    try:
        files.reserve(descriptor, size_bytes)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size_bytes", [1, 4096, 1_000_001])
def test_reserved_space_is_there_and_the_size_is_to_the_byte(tmp_path, size_bytes):
    path = tmp_path / "file"
    path.touch()
    found = reserved(path, size_bytes)
    assert found.st_size == size_bytes
    assert found.st_blocks * 512 >= size_bytes
    assert reserved(path, 0).st_size == size_bytes


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINTR, errno.ENOSPC])
def test_what_cannot_be_reserved_has_its_size_at_least(tmp_path, monkeypatch, number):
    path, calls = tmp_path / "file", []
    path.touch()

    class Library:
        class Fallocate:
            def __call__(self, *_):
                calls.append(number)
                ctypes.set_errno(number)
                return 0 if number == errno.EINTR and len(calls) > 1 else -1

        fallocate = Fallocate()

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: Library)
    if number == errno.ENOSPC:
        with pytest.raises(OSError, match="No space left"):
            reserved(path, 5000)
    elif number == errno.EINTR:
        reserved(path, 5000)
        assert len(calls) == 2
    else:
        found = reserved(path, 5000)
        assert (found.st_size, found.st_blocks) == (5000, 0)


def test_direct_io_leaves_nothing_in_the_page_cache(path):
    opened = files.open_files([path], direct=True)
    try:
        assert (opened.direct, opened.direct_refused) == (True, None)
        assert opened.alignment_bytes in (512, 1024, 2048, 4096)
        descriptor = opened.descriptors[0]
        data = aligned_buffer(65536)
        assert os.pwritev(descriptor, [data], 0) == 65536
        assert os.preadv(descriptor, [data], 0) == 65536
        found = residency([path])
        assert (found.pages * mmap.PAGESIZE, found.resident) == (65536, 0)
    finally:
        opened.close()


def refuse_to_open(monkeypatch):
    really = os.open

    def fake(path, flags, *mode):
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return really(path, flags, *mode)

    monkeypatch.setattr(os, "open", fake)


def refuse_by_statx(monkeypatch):
    monkeypatch.setattr(files, "direct_alignment", lambda _: 0)


def want_too_much(monkeypatch):
    monkeypatch.setattr(files, "direct_alignment", lambda _: 8192)


def refuse_to_read(monkeypatch):
    monkeypatch.setattr(files, "direct_alignment", lambda _: None)

    def fake(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "preadv", fake)


@pytest.mark.parametrize(
    ("refuse", "reason"),
    [
        (refuse_to_open, "open with O_DIRECT: Invalid argument"),
        (refuse_by_statx, "the file system does no direct I/O on this file"),
        (refuse_to_read, "the file system does no direct I/O on this file"),
        (want_too_much, "direct I/O wants multiples of 8192 bytes, ours are 4096"),
    ],
)
def test_a_refusal_of_direct_io_is_kept(path, monkeypatch, refuse, reason):
    refuse(monkeypatch)
    opened = files.open_files([path], direct=True)
    opened.close()
    assert (opened.direct, opened.direct_refused) == (False, reason)


def test_alignment_is_tried_where_it_is_not_told(path, monkeypatch):
    told = files.open_files([path], direct=True)
    monkeypatch.setattr(files, "direct_alignment", lambda _: None)
    tried = files.open_files([path], direct=True)
    told.close()
    tried.close()
    assert tried.direct
    assert tried.alignment_bytes <= told.alignment_bytes


def test_another_error_is_no_refusal(path, monkeypatch):
    monkeypatch.setattr(files, "direct_alignment", lambda _: None)

    def fake(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fake)
    with pytest.raises(EngineError, match=r"cannot read .*segment at offset 512: .*\(EIO\)"):
        files.open_files([path], direct=True)


def test_a_missing_file_is_named(tmp_path):
    for direct in (True, False):
        with pytest.raises(EngineError, match=r"cannot open .*/absent: .*\(ENOENT\)"):
            files.open_files([tmp_path / "absent"], direct=direct)


def test_a_whole_file_replaces_another(tmp_path):
    path = tmp_path / "note"
    files.write_whole(path, b"one")
    files.write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("opening", [files.open_files, files.open_directories])
def test_the_limit_of_open_files_is_raised_for_as_many_as_there_are(path, opening):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    place = path if opening is files.open_files else path.parent
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        opened = opening([place] * 40, direct=False)
        assert len(opened.descriptors) == 40
        opened.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_file_system_is_synced_by_any_path_on_it(path):
    files.sync_file_system(path)
    files.sync_file_system(path.parent)
    with pytest.raises(
        EngineError, match=r"cannot sync the file system of .*/absent: .*\(ENOENT\)"
    ):
        files.sync_file_system(path.parent / "absent")


SHA = "a" * 64


def test_a_directory_is_claimed_once_and_again_by_the_same_job(tmp_path):
    place = tmp_path / "job"
    directory.claim(place, SHA)
    directory.claim(place, SHA)
    assert (place / directory.MARKER).read_text() == SHA + "\n"
    with pytest.raises(EngineError, match=f"{place} belongs to another job"):
        directory.claim(place, "b" * 64)


def test_an_existing_directory_without_marker_is_not_claimed(tmp_path):
    place = tmp_path / "job"
    place.mkdir()
    with pytest.raises(EngineError, match=f"{place} has no file MLPS_JOB"):
        directory.claim(place, SHA)
    assert list(place.iterdir()) == []


def test_release_leaves_and_names_what_is_foreign(tmp_path):
    place = tmp_path / "job"
    directory.claim(place, SHA)
    (place / "rank_0000").mkdir()
    (place / "notes").write_text("mine")
    assert directory.release(place, SHA, ["rank_0000"]) == [str(place / "notes")]
    assert not (place / "rank_0000").exists()
    assert (place / directory.MARKER).exists()
    (place / "notes").unlink()
    assert directory.release(place, SHA, ["rank_0000"]) == []
    assert not place.exists()
    assert directory.release(place, SHA, ["rank_0000"]) == []


def test_release_does_not_touch_another_job(tmp_path):
    place = tmp_path / "job"
    directory.claim(place, SHA)
    with pytest.raises(EngineError, match="another job"):
        directory.release(place, "b" * 64, [])
    assert (place / directory.MARKER).exists()
