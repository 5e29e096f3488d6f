"""The executor of Python threads, on real files."""

from __future__ import annotations

import errno
import os
import threading
import time

import numpy as np
import pytest

from mlps.engines.errors import EngineError
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.blocks import BLOCK_BYTES, Stamper, as_blocks
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import Settings
from mlps.engines.io_core.files import open_files, preallocate
from mlps.engines.io_core.operations import LOAD, OPERATION, STORE
from mlps.engines.io_core.threads import ThreadExecutor

LENGTH = 4 * BLOCK_BYTES
SLOTS = 16
KEY = 77


def rows(kind, slots, version=0, closes=0):
    block = np.zeros(len(slots), OPERATION)
    block["kind"] = kind
    block["purpose"] = 3
    block["length"] = LENGTH
    block["offset"] = np.array(slots) * LENGTH
    block["chunk"] = slots
    block["version"] = version
    block["closes"] = closes
    return block


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "segment"
    preallocate(path, SLOTS * LENGTH)
    return path


@pytest.fixture
def execute(path):
    """Works off streams on the file and returns the account."""
    opened = []

    def work(streams, control=None, account=None, direct=True, **changes):
        opened.append(files := open_files([path], direct=direct))
        settings = {
            "depth": len(streams),
            "key": KEY,
            "pool_seed": 1,
            "largest_bytes": LENGTH,
            "verify": "all",
            "durability": "none",
        }
        control, account = control or Control(), account or Account()
        executor = ThreadExecutor(files, Settings(**(settings | changes)))
        control.start()
        executor.execute([iter(stream) for stream in streams], control, account)
        return account

    yield work
    for files in opened:
        files.close()


def stamps_ok(path, slot, version):
    data = path.read_bytes()[slot * LENGTH : (slot + 1) * LENGTH]
    blocks = np.frombuffer(data, "<u8").reshape(-1, 512)
    return Stamper(KEY, 4).verify(blocks, slot, version) is None


@pytest.mark.parametrize("direct", [True, False])
def test_what_is_stored_is_on_disk_and_loads_again(execute, path, direct):
    stored = execute([[rows(STORE, [0, 1], 5)], [rows(STORE, [2], 6)]], direct=direct)
    assert [stamps_ok(path, slot, version) for slot, version in ((0, 5), (1, 5), (2, 6))] == [
        True
    ] * 3
    assert not stamps_ok(path, 0, 6)
    loaded = execute([[rows(LOAD, [0, 1], 5)], [rows(LOAD, [2], 6)]], direct=direct)

    assert stored.write.total_operations == stored.write.window_operations == 3
    assert stored.write.window_bytes == stored.write.total_bytes == 3 * LENGTH
    assert stored.read.total_operations == 0
    assert loaded.read.latency.count == 3
    assert loaded.checks.operations == 3
    assert loaded.checks.blocks == 12
    assert loaded.window_purposes[3] == 3


def test_what_lies_between_stamps_is_not_repeated_in_other_shards(execute, path):
    execute([[rows(STORE, [0])], [rows(STORE, [1])]])
    words = np.fromfile(path, "<u8")[: 2 * LENGTH // 8].reshape(8, 512)[:, 4:]
    assert len({row.tobytes() for row in words}) == 8


def steady(_descriptor, views, _offset):
    """A store that takes 5 ms, whatever else the disk has to do."""
    time.sleep(0.005)
    return len(views[0])


def test_only_completions_inside_the_window_count(execute, monkeypatch):
    monkeypatch.setattr(os, "pwritev", steady)
    control = Control(ramp_s=0.15, duration_s=0.15)

    def endless():
        while True:
            yield rows(STORE, [0], closes=1)

    account = execute([endless(), endless()], control)
    assert 0 < account.write.window_operations < account.write.total_operations
    assert account.write.latency.count == account.write.window_operations
    assert account.window_requests == account.write.window_operations
    assert account.window_purposes[3] == account.write.window_operations
    # About as many before the window as inside it; far from all or none.
    assert 0.1 < account.write.window_operations / account.write.total_operations < 0.9
    assert sum(control.written_bytes) == account.write.total_bytes
    longest_ns = account.write.latency.maximum
    assert longest_ns <= 0.3e9 + max(account.last_ns - control.end_ns, 0)


def test_what_completes_after_the_end_is_the_drain(execute, monkeypatch):
    really = os.pwritev

    def slow(*arguments):
        time.sleep(0.2)
        return really(*arguments)

    monkeypatch.setattr(os, "pwritev", slow)
    control = Control(duration_s=0.1)
    account = execute([[rows(STORE, [0, 1])]], control)
    assert (account.write.total_operations, account.write.window_operations) == (1, 0)
    assert account.window_purposes[3] == 0
    assert account.last_ns >= control.end_ns + 0.05e9


def test_a_stop_cuts_the_window(execute, monkeypatch):
    monkeypatch.setattr(os, "pwritev", steady)
    control = Control(duration_s=60)

    def endless():
        while True:
            yield rows(STORE, [0])

    timer = threading.Timer(0.2, control.stop)
    timer.start()
    started_s = time.monotonic()
    account = execute([endless()], control)
    timer.join()
    assert time.monotonic() - started_s < 5
    assert 0.1 < control.length_s < 5
    assert account.write.total_operations - account.write.window_operations <= 1


@pytest.mark.parametrize("where", [0, 3])
def test_wrong_data_is_named_with_place_and_both_stamps(execute, path, where):
    execute([[rows(STORE, [0, 1], 5)]])
    with path.open("r+b") as file:
        file.seek(LENGTH + where * BLOCK_BYTES)
        file.write(bytes(32))
    account = Account()
    with pytest.raises(EngineError) as caught:
        execute([[rows(LOAD, [0, 1], 5)]], account=account)
    offset = LENGTH + where * BLOCK_BYTES
    assert str(caught.value) == (
        f"wrong data in {path} at offset {offset}:"
        f" expected key {KEY:016x} chunk 1 version 5 block {where}, found zeros"
        " (1 of 4 blocks of this read are wrong)"
    )
    assert account.checks.mismatches == 1
    assert account.read.total_operations == 2


def test_the_first_failure_stops_all_shards(execute):
    def endless():
        while True:
            yield rows(STORE, [0])

    with pytest.raises(EngineError, match="wrong data"):
        execute([endless(), [rows(LOAD, [9])]])


@pytest.mark.parametrize("kind", [LOAD, STORE])
def test_a_short_transfer_is_a_failure(execute, path, kind, monkeypatch):
    if kind == LOAD:
        os.truncate(path, LENGTH + BLOCK_BYTES)
    else:
        really = os.pwritev
        monkeypatch.setattr(
            os, "pwritev", lambda fd, views, offset: really(fd, [views[0][:BLOCK_BYTES]], offset)
        )
    action = "read" if kind == LOAD else "write"
    expected = f"short {action} of {path} at offset {LENGTH}: {BLOCK_BYTES} of {LENGTH} bytes"
    with pytest.raises(EngineError) as caught:
        execute([[rows(kind, [1])]])
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("call", "kind", "changes"),
    [
        ("preadv", LOAD, {}),
        ("pwritev", STORE, {}),
        ("fdatasync", STORE, {"durability": "fdatasync"}),
    ],
)
def test_a_failed_call_is_named(execute, path, monkeypatch, call, kind, changes):
    really = getattr(os, call)

    def fail(descriptor, *arguments):
        if call == "preadv" and arguments[1] != LENGTH:
            return really(descriptor, *arguments)  # a try at alignment
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(EngineError) as caught:
        execute([[rows(kind, [1])]], **changes)
    action = "read" if kind == LOAD else "write"
    assert str(caught.value) == (
        f"cannot {action} {path} at offset {LENGTH}: Input/output error (EIO)"
    )


def test_a_bug_in_a_planner_is_raised_as_it_is(execute):
    def broken():
        yield rows(STORE, [0])
        raise ZeroDivisionError("planner")

    with pytest.raises(ZeroDivisionError, match="planner"):
        execute([broken()])


def test_nothing_is_verified_when_nothing_shall_be(execute, path):
    account = execute([[rows(LOAD, [0])]], verify="none")  # never written: all zeros
    assert account.checks.operations == 0
    assert account.read.window_operations == 1


def test_the_view_of_blocks_shares_the_buffer():
    data = bytearray(BLOCK_BYTES)
    as_blocks(memoryview(data))[0, 0] = 1
    assert data[0] == 1
