"""All executors on one suite: io_uring in C, threads in C, threads in Python, on real files."""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.io_core import core as compiled
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import CoreRefused, Fault, Settings, executor_for
from mlps.engines.io_core.files import open_files, preallocate
from mlps.engines.io_core.histogram import EXACT_BITS, bucket_index
from mlps.engines.io_core.operations import LOAD, OPERATION, STORE

CORES = ("uring", "threads", "python")
LENGTH = 64 * 1024
SLOTS = 32

SETTINGS = Settings(
    depth=4,
    key=77,
    pool_seed=1,
    largest_bytes=LENGTH,
    io_size_bytes=16 * 1024,
    verify="all",
    durability="none",
    rings=1,
)


def rows(kind, slots, version=0, request=0, step=0, user=0):
    block = np.zeros(len(slots), OPERATION)
    block["kind"] = kind
    block["length"] = LENGTH
    block["offset"] = np.array(slots) * LENGTH
    block["chunk"] = slots
    block["version"] = version
    block["user"], block["request"], block["step"] = user, request, step
    block["closes"][-1] = 1
    return block


def streams_of(executor, stream):
    """The one stream for the first shard; the others have nothing to do."""
    return [iter(stream), *(iter(()) for _ in range(executor.shards - 1))]


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "segment"
    preallocate(path, SLOTS * LENGTH)
    return path


@pytest.fixture
def execute(path, core):
    """Works off one stream on the file and returns the account."""

    def work(stream, control=None, **changes):
        files = open_files([path], direct=True)
        control, account = control or Control(), Account()
        executor = executor_for(files, replace(SETTINGS, core=core, **changes))
        try:
            control.start()
            executor.execute(streams_of(executor, stream), control, account)
        finally:
            executor.close()
            files.close()
        return account

    return work


def test_what_is_stored_loads_again_and_is_counted_once(execute):
    stored = execute([rows(STORE, range(SLOTS))])
    loaded = execute([rows(LOAD, range(SLOTS))])
    assert (stored.write.total_operations, stored.write.total_bytes) == (SLOTS, SLOTS * LENGTH)
    assert (loaded.read.total_operations, loaded.read.total_bytes) == (SLOTS, SLOTS * LENGTH)
    assert (loaded.checks.operations, loaded.checks.bytes) == (SLOTS, SLOTS * LENGTH)
    assert loaded.read.latency.count == SLOTS
    assert loaded.requests.completed == 1


def test_every_core_writes_what_every_other_verifies(path):
    for writer in CORES:
        for reader in CORES:
            for chosen, kind in ((writer, STORE), (reader, LOAD)):
                files = open_files([path], direct=True)
                executor = executor_for(files, replace(SETTINGS, core=chosen))
                control, account = Control(), Account()
                control.start()
                stream = [rows(kind, range(SLOTS), version=3)]
                executor.execute(streams_of(executor, stream), control, account)
                executor.close()
                files.close()
            assert account.checks.mismatches == 0
            assert account.checks.operations == SLOTS


def test_a_step_begins_when_the_one_before_is_complete(execute):
    """Each load verifies what the step before it has stored, over and over in the same slots."""
    block = np.concatenate(
        [
            rows(kind, range(8), version=turn, step=2 * turn + kind_step)
            for turn in range(50)
            for kind_step, kind in enumerate((STORE, LOAD))
        ]
    )
    block["closes"] = 0
    block["closes"][-1] = 1
    account = execute([block])
    assert (account.checks.operations, account.checks.mismatches) == (400, 0)


def test_a_users_requests_follow_one_another(execute):
    blocks = [
        rows(kind, [user], version=turn, request=2 * turn + half, user=user)
        for turn in range(40)
        for half, kind in enumerate((STORE, LOAD))
        for user in range(6)
    ]
    account = execute(blocks, requests_in_flight=6)
    assert account.checks.operations == 240
    assert account.requests.completed == 480


def test_wrong_data_is_named_with_place_and_both_stamps(execute, path):
    execute([rows(STORE, range(SLOTS))])
    with path.open("r+b") as file:
        file.seek(5 * LENGTH + 3 * 4096)
        file.write(b"\xff" * 8)
    with pytest.raises(EngineError) as caught:
        execute([rows(LOAD, range(SLOTS))])
    text = str(caught.value)
    assert f"wrong data in {path} at offset {5 * LENGTH + 3 * 4096}: expected key " in text
    assert "found key ffffffffffffffff" in text


@pytest.mark.parametrize(
    ("result", "text"),
    [(-errno.EIO, "Input/output error"), (-errno.ENOSPC, "No space left"), (4096, "short ")],
    ids=["EIO", "ENOSPC", "short"],
)
@pytest.mark.parametrize("kind", [LOAD, STORE], ids=["load", "store"])
def test_a_device_that_fails_ends_the_run_with_its_place(execute, path, kind, result, text):
    execute([rows(STORE, range(SLOTS))])
    with pytest.raises(EngineError) as caught:
        execute([rows(kind, range(SLOTS))], fault=Fault(after=7, result=result))
    assert text in str(caught.value)
    assert str(path) in str(caught.value)


def test_only_the_window_counts_and_latencies_stay_inside_it(execute):
    def endless():
        request = 0
        while True:
            yield rows(STORE, range(SLOTS), request=request)
            request += 1

    control = Control(ramp_s=0.1, duration_s=0.3)
    account = execute(endless(), control)
    assert 0 < account.write.window_bytes < account.write.total_bytes
    assert account.write.window_bytes == account.write.window_operations * LENGTH
    drain_s = max(account.last_ns - control.end_ns, 0) / 1e9
    assert account.write.latency.maximum / 1e9 <= 0.1 + 0.3 + drain_s
    assert account.write.timeline.sum() == account.write.window_bytes


def test_a_stop_is_obeyed_at_once(execute):
    def endless():
        request = 0
        while True:
            yield rows(STORE, range(SLOTS), request=request)
            request += 1

    control = Control()
    timer = threading.Timer(0.2, control.stop)
    timer.start()
    begun = time.monotonic()
    execute(endless(), control)
    assert time.monotonic() - begun < 1.5


@given(st.lists(st.integers(0, 2**62), min_size=1))
def test_buckets_in_c_are_those_of_the_histogram(values):
    library = compiled.load_library()
    found = [library.core_bucket(value, EXACT_BITS) for value in values]
    assert found == bucket_index(np.array(values, dtype=np.int64)).tolist()


def test_without_the_compiled_core_python_does_it_and_the_result_says_why(path, monkeypatch):
    def missing():
        raise CoreRefused("not compiled")

    monkeypatch.setattr(compiled, "load_library", missing)
    files = open_files([path], direct=True)
    executor = executor_for(files, SETTINGS)
    assert executor.name == "python_threads"
    assert [(each.core, each.reason) for each in executor.refused] == [
        ("uring", "not compiled"),
        ("threads", "not compiled"),
    ]
    with pytest.raises(EngineError, match=r"io\.core uring does not work here: not compiled"):
        executor_for(files, replace(SETTINGS, core="uring"))
    executor.close()
    files.close()


@pytest.mark.parametrize(
    ("chosen", "name"), [("uring", "uring"), ("threads", "c_threads"), ("python", "python_threads")]
)
def test_the_core_that_ran_has_a_name(path, chosen, name):
    files = open_files([path], direct=True)
    executor = executor_for(files, replace(SETTINGS, core=chosen))
    assert executor.name == name
    executor.close()
    files.close()
