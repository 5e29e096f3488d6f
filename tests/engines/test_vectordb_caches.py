"""Memory of hosts before and after a run, and what a result tells of it."""

from __future__ import annotations

import os

import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.page_cache import Residency
from mlps.engines.vectordb.caches import Prepared, cache_document, look, prepare
from mlps.engines.vectordb.workload import Cache

MIB = 2**20


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_bytes(os.urandom(MIB))
    if look(paths, Control()).pct < 99:
        pytest.skip("this file system keeps nothing in the page cache")
    return paths


def cache(mode="cold", *command):
    return Cache(mode=mode, command=command)


def test_cold_files_are_out_of_memory(files):
    found = prepare(cache(), files, Control())
    assert (found.files, found.size_bytes) == (2, 2 * MIB)
    assert found.resident == Residency(pages=512, resident=0)
    files[0].read_bytes()
    assert look(files, Control()).resident >= 256


@pytest.mark.parametrize("mode", ["direct", "pressure", "warm"])
def test_others_stay_where_they_are(files, mode):
    found = prepare(cache(mode, "/bin/false"), files, Control())
    assert found.resident.pct == 100


def test_a_program_does_it_in_place_of_the_rank(files, tmp_path):
    found = prepare(cache("cold", "/bin/sh", "-c", f"echo x > {tmp_path}/c"), files, Control())
    assert (tmp_path / "c").exists()
    assert found.resident.pct == 100
    with pytest.raises(EngineError, match=r"^cache.command: /bin/false ended with status 1"):
        prepare(cache("cold", "/bin/false"), files, Control())


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(EngineError, match=r"look at .*/gone: No such file"):
        prepare(cache("warm"), [tmp_path / "gone"], Control())


def host(pages=100, resident=0, took_ns=10**9):
    seen = None if pages is None else Residency(pages=pages, resident=resident)
    return Prepared(files=2, size_bytes=4096 * (pages or 0), took_ns=took_ns, resident=seen)


def test_hosts_are_told_together():
    hosts = [host(resident=1), host(resident=2, took_ns=3 * 10**9)]
    after = [Residency(pages=100, resident=100), Residency(pages=100, resident=50)]
    assert cache_document(cache(), hosts, after) == {
        "mode": "cold", "method": "drop", "hosts": 2, "files": 2, "bytes": 409_600,
        "elapsed_s": 3.0, "resident_before_pct": 1.5, "resident_after_pct": 75.0,
    }  # fmt: skip


def test_what_a_host_cannot_see_is_unknown():
    found = cache_document(cache("cold", "drop"), [host(), host(pages=None)], [None, None])
    assert (found["method"], found["resident_before_pct"], found["resident_after_pct"]) == (
        "command", None, None,
    )  # fmt: skip


def test_of_no_files_nothing_is_known():
    found = cache_document(cache("warm"), [host(pages=0)], [Residency(pages=0, resident=0)])
    assert (found["method"], found["resident_before_pct"], found["resident_after_pct"]) == (
        None, None, None,
    )  # fmt: skip
