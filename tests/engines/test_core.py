"""All executors on one suite: io_uring in C, threads in C, threads in Python, on real files.

What does not depend on bytes holds for the executor without storage too.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.io_core import core as compiled
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.blocks import fill_pool
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import CoreRefused, Fault, Settings, executor_for
from mlps.engines.io_core.failures import chunk_path
from mlps.engines.io_core.files import OpenFiles, open_directories, open_files, preallocate
from mlps.engines.io_core.histogram import EXACT_BITS, bucket_index
from mlps.engines.io_core.operations import LOAD, OPERATION, STORE

CORES = ("uring", "threads", "python")
ALL_CORES = (*CORES, "noop")
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


def by_user(executor, stream):
    """Each shard's part of the stream."""
    blocks = list(stream)
    shards = executor.shards
    return [
        iter([own for block in blocks if len(own := block[block["user"] % shards == shard])])
        for shard in range(shards)
    ]


def carry_out(
    path, stream, control=None, account=None, files=None, dealt=streams_of, late_s=0.0, **changes
):
    """Works off one stream on the file, dealt to the shards, and returns the account."""
    files = files or open_files([path], direct=True)
    control, account = control or Control(), account or Account()
    executor = executor_for(files, replace(SETTINGS, **changes))
    try:
        control.start()
        time.sleep(late_s)
        executor.execute(dealt(executor, stream), control, account)
    finally:
        executor.close()
        files.close()
    return account


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.fixture(scope="module")
def any_path(tmp_path_factory):
    """A file whose content does not matter."""
    path = tmp_path_factory.mktemp("core") / "segment"
    preallocate(path, SLOTS * LENGTH)
    return path


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "segment"
    preallocate(path, SLOTS * LENGTH)
    return path


@pytest.fixture
def execute(path, core):
    """Works off one stream on the file with each core in turn."""

    def work(stream, control=None, **changes):
        return carry_out(path, stream, control, core=core, **changes)

    return work


def request_of(*steps, user=0, request=0, tokens=0):
    """A request: each step a string of operations, L or S, one slot each."""
    kinds = [
        (STORE if letter == "S" else LOAD, n) for n, step in enumerate(steps) for letter in step
    ]
    block = rows([kind for kind, _ in kinds], np.arange(len(kinds)) % SLOTS, 0, request, 0, user)
    block["step"] = [step for _, step in kinds]
    block["tokens"][-1] = tokens
    return block


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


@pytest.mark.parametrize("pool_blocks", [1, 3, 4, 40], ids=lambda blocks: f"{blocks} blocks")
def test_where_content_is_placed_every_core_writes_the_same(path, core, pool_blocks):
    """The pool at the offset, whatever was in flight together, but for the lines with stamps."""
    order = np.random.default_rng(1).permutation(SLOTS)
    pool = fill_pool(SETTINGS.pool_seed, pool_blocks * 4096).tobytes()
    carry_out(path, [rows(STORE, order)], core=core, pool_bytes=pool_blocks * 4096)
    written = path.read_bytes()
    for block in range(SLOTS * LENGTH // 4096):
        at = block % pool_blocks * 4096
        found = written[block * 4096 : (block + 1) * 4096]
        assert found[64:] == pool[at + 64 : at + 4096]
    account = carry_out(
        path,
        [rows(LOAD, order)],
        core=core,
        pool_bytes=pool_blocks * 4096,
        verify="content",
        io_size_bytes=12 * 1024,
    )
    assert account.checks.bytes == SLOTS * LENGTH


def test_what_lies_between_stamps_is_compared_with_the_pool_where_it_shall_be(execute, path):
    execute([rows(STORE, range(SLOTS))], verify="content")
    with path.open("r+b") as file:
        for byte in (100, 200):
            file.seek(5 * LENGTH + 3 * 4096 + byte)
            file.write(b"\xff")
    execute([rows(LOAD, range(SLOTS))])
    with pytest.raises(EngineError) as caught:
        execute([rows(LOAD, range(SLOTS))], verify="content")
    (expected,) = path.read_bytes()[7 * LENGTH + 3 * 4096 + 100 :][:1]
    assert str(caught.value).startswith(
        f"wrong data in {path} at offset {5 * LENGTH + 3 * 4096}:"
        f" expected byte 100 = 0x{expected:02x}, found byte 100 = 0xff (1 of "
    )


def test_data_from_another_pool_is_wrong_though_its_stamps_are_right(execute):
    execute([rows(STORE, range(SLOTS))], verify="content")
    with pytest.raises(EngineError, match="expected byte 64 = "):
        execute([rows(LOAD, range(SLOTS))], verify="content", pool_seed=2)


def test_chunks_files_hold_the_pool_from_its_start(chunk_directory):
    for core in ("threads", "python"):
        for kind in (STORE, LOAD):
            files = open_directories([chunk_directory], direct=True)
            account = carry_out(
                None,
                [rows(kind, range(SLOTS))],
                files=files,
                core=core,
                chunk_files=True,
                verify="content",
            )
        assert account.checks.bytes == SLOTS * LENGTH


@pytest.mark.parametrize("pool_bytes", [0, 100, 4097])
def test_a_pool_is_of_whole_blocks(pool_bytes):
    with pytest.raises(ValueError, match="whole blocks"):
        replace(SETTINGS, pool_bytes=pool_bytes)


@pytest.mark.parametrize("rings", [1, 2])
def test_an_executor_goes_on_with_other_files_and_keeps_none_open(tmp_path, core, rings):
    own = replace(SETTINGS, core=core, rings=rings)
    none = replace(opened([]), paths=(), descriptors=())
    executor = executor_for(none, own)
    control, account = Control(), Account()
    control.start()
    try:
        for turn in range(1, 4):
            paths = [tmp_path / f"{turn}-{n}" for n in range(turn)]
            for path in paths:
                preallocate(path, SLOTS * LENGTH)
            for kind in (STORE, LOAD):
                files = opened(paths)
                executor.reopen(files)
                block = rows(kind, range(SLOTS), version=turn)
                block["file"] = turn - 1
                executor.execute(streams_of(executor, [block]), control, account)
                files.close()
            moved = turn * SLOTS * LENGTH
            assert control.moved_bytes() == (moved, moved)
            assert account.checks.bytes == moved
    finally:
        executor.close()
    assert not (tmp_path / "3-0").read_bytes().strip(b"\0")
    assert (tmp_path / "3-2").read_bytes().strip(b"\0")


def opened(paths):
    return open_files(paths, direct=True)


def test_a_ring_gives_up_the_files_that_it_had_registered(tmp_path):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        preallocate(path, SLOTS * LENGTH)
    first, second = (opened([path]) for path in paths)
    executor = executor_for(first, replace(SETTINGS, core="uring"))
    control = Control()
    control.start()
    try:
        assert registered_files() == [str(paths[0])]
        executor.reopen(second)
        block = rows(STORE, range(SLOTS))
        executor.execute(streams_of(executor, [block]), control, Account())
        assert registered_files() == []
    finally:
        executor.close()
        first.close()
        second.close()
    assert not paths[0].read_bytes().strip(b"\0")
    assert paths[1].read_bytes().strip(b"\0")


def registered_files():
    """What the rings of this process hold, by what the kernel tells of them."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if "io_uring" in str(link.readlink()):
                text = Path(f"/proc/self/fdinfo/{link.name}").read_text()
                if "UserFiles" not in text:
                    pytest.skip("this kernel does not tell")
                part = text.partition("UserFiles:")[2].partition("UserBufs:")[0]
                found += [line.split(": ")[1] for line in part.splitlines() if ": " in line]
    return found


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (-errno.EIO, "cannot {action} {path} at offset {offset}: Input/output error (EIO)"),
        (
            -errno.ENOSPC,
            "cannot {action} {path} at offset {offset}: No space left on device (ENOSPC)",
        ),
        (4096, "short {action} of {path} at offset {offset}: 4096 of {length} bytes"),
        (0, "short {action} of {path} at offset {offset}: 0 of {length} bytes"),
    ],
    ids=["EIO", "ENOSPC", "short", "nothing"],
)
@pytest.mark.parametrize("kind", [LOAD, STORE], ids=["load", "store"])
@pytest.mark.parametrize("core", ALL_CORES)
def test_a_transfer_that_fails_ends_the_run_with_its_place(any_path, core, kind, result, text):
    fault = Fault(after=7, result=result)
    with pytest.raises(EngineError) as caught:
        carry_out(
            any_path, [rows(kind, range(SLOTS))], core=core, depth=1, verify="none", fault=fault
        )
    # Threads of Python move a row at once, the others in pieces.
    length = LENGTH if core == "python" else SETTINGS.io_size_bytes
    action = "read" if kind == LOAD else "write"
    assert str(caught.value) == text.format(
        action=action, path=any_path, offset=6 * length, length=length
    )


@pytest.mark.parametrize("core", ALL_CORES)
def test_after_a_failure_nothing_is_issued_and_what_was_in_flight_is_counted(any_path, core):
    account = Account()
    with pytest.raises(EngineError, match="Input/output error"):
        carry_out(
            any_path,
            [rows(STORE, range(SLOTS), request=n) for n in range(50)],
            account=account,
            core=core,
            fault=Fault(after=20, result=-errno.EIO),
        )
    assert account.write.total_operations <= 20 + SETTINGS.depth


def open_as_it_is(path):
    """Opened as the executors take it, whatever kind of file it is."""
    return OpenFiles(
        paths=(path,),
        descriptors=(os.open(path, os.O_RDWR),),
        direct=False,
        direct_refused=None,
        alignment_bytes=1,
    )


@pytest.mark.parametrize(
    ("device", "kind", "text"),
    [
        (
            "/dev/full",
            STORE,
            "cannot write /dev/full at offset 0: No space left on device (ENOSPC)",
        ),
        (
            "/proc/self/mem",
            LOAD,
            "cannot read /proc/self/mem at offset 0: Input/output error (EIO)",
        ),
    ],
    ids=["ENOSPC", "EIO"],
)
def test_what_the_kernel_refuses_ends_the_run(core, device, kind, text):
    with pytest.raises(EngineError) as caught:
        carry_out(
            Path(device), [rows(kind, [0])], files=open_as_it_is(Path(device)), core=core, depth=1
        )
    assert str(caught.value) == text


def test_a_file_that_is_too_short_ends_the_run(execute, path):
    os.truncate(path, 5 * LENGTH + 4096)
    with pytest.raises(
        EngineError, match=rf"short read of {path} at offset {5 * LENGTH}: 4096 of "
    ):
        execute([rows(LOAD, [5])], depth=1, verify="none")


def test_a_store_that_the_kernel_cuts_short_ends_the_run(execute, path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5 * LENGTH + 4096, before[1]))
    try:
        with pytest.raises(
            EngineError, match=rf"short write of {path} at offset {5 * LENGTH}: 4096 "
        ):
            execute([rows(STORE, [5])], depth=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


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


def test_what_the_end_cuts_short_does_not_count_as_verified(execute):
    def endless():
        request = 0
        while True:
            yield rows(LOAD, range(SLOTS), request=request)
            request += 1

    execute([rows(STORE, range(SLOTS))])
    for _ in range(5):
        account = execute(endless(), Control(duration_s=0.02), io_size_bytes=4096)
        assert account.checks.operations == account.read.total_operations
        assert account.checks.bytes == account.read.total_bytes == 4096 * account.checks.blocks


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


@pytest.mark.parametrize("core", ALL_CORES)
def test_an_entry_is_what_one_step_moves_in_one_direction(any_path, core):
    stream = [request_of("LLLL", "LSLSL", "S"), request_of("S", request=1)]
    account = carry_out(any_path, stream, core=core, verify="none")
    reads, writes = account.read.entries, account.write.entries
    assert (reads.latency.count, writes.latency.count) == (2, 3)
    classes = {(4 * LENGTH).bit_length(): 4 * LENGTH, (3 * LENGTH).bit_length(): 3 * LENGTH}
    assert {n: int(reads.sizes[n, 1]) for n in np.flatnonzero(reads.sizes[:, 0])} == classes
    assert writes.sizes[(2 * LENGTH).bit_length(), :2].tolist() == [1, 2 * LENGTH]
    assert writes.sizes[LENGTH.bit_length(), :2].tolist() == [2, 2 * LENGTH]
    for entries in (reads, writes):
        assert entries.sizes[:, 2].sum() == entries.latency.total
        assert entries.sizes[:, 3].max() == entries.latency.maximum


def test_an_entry_of_one_operation_has_its_latency(execute):
    account = execute([request_of("S", request=n) for n in range(20)])
    assert account.write.entries.latency.total == account.write.latency.total
    assert account.requests.total.total == account.write.latency.total


def test_a_request_of_loads_is_a_prefix_load(execute):
    account = execute([request_of("LLL", "LL", request=n) for n in range(5)], verify="none")
    assert account.requests.prefix_load.count == account.requests.total.count == 5
    assert account.requests.prefix_load.total == account.requests.total.total
    # The steps follow one another, so that their entries fit into the request.
    assert account.read.entries.latency.total <= account.requests.total.total


@pytest.mark.parametrize(
    ("steps", "loads"),
    [
        (["LL", "S"], 1),
        (["L", "L", "S", "L"], 1),
        (["LSL"], 1),
        (["S", "LL"], 0),
        (["SL"], 0),
        (["S"], 0),
        (["LL"], 1),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
@pytest.mark.parametrize("core", ALL_CORES)
def test_a_prefix_load_is_all_loads_before_the_first_store(any_path, core, steps, loads):
    account = carry_out(any_path, [request_of(*steps)], core=core, verify="none")
    assert account.requests.prefix_load.count == loads
    if steps[-1].endswith("S") and loads:
        assert account.requests.prefix_load.total <= account.requests.total.total


@pytest.mark.parametrize("core", ALL_CORES)
def test_a_prefix_load_in_an_open_loop_begins_at_the_intended_arrival(any_path, core):
    block = request_of("LL", "S")
    block["arrival"] = 50_000_000
    # What is to arrive after 0.05 s is late by 0.15 s.
    account = carry_out(any_path, [block], core=core, verify="none", open_loop=True, late_s=0.2)
    assert 0.15e9 <= account.requests.prefix_load.total <= account.requests.total.total
    assert account.requests.prefix_load.total >= account.requests.queue.total
    assert account.read.entries.latency.total <= account.requests.service.total


@pytest.mark.parametrize("core", ALL_CORES)
def test_tokens_are_those_of_whole_requests(any_path, core):
    stream = [request_of("LS", "S", request=n, tokens=10**n) for n in range(4)]
    stream[3]["closes"] = 0  # this one goes on beyond the plan
    account = carry_out(any_path, stream, core=core, verify="none")
    assert (account.requests.completed, account.requests.generated_tokens) == (3, 111)


@pytest.mark.parametrize("core", ALL_CORES)
def test_what_is_complete_before_the_window_counts_nowhere_in_it(any_path, core):
    control = Control(ramp_s=60, duration_s=60)
    account = carry_out(
        any_path, [request_of("LL", "S", tokens=5)], control, core=core, verify="none"
    )
    assert account.read.total_operations == 2
    assert account.read.entries.latency.count == account.write.entries.latency.count == 0
    assert account.read.entries.sizes.sum() == account.write.entries.sizes.sum() == 0
    assert account.requests.prefix_load.count == account.requests.generated_tokens == 0


PLANS = st.lists(
    st.tuples(
        st.integers(0, 2),  # user
        st.lists(st.text("LS", min_size=1, max_size=6), min_size=1, max_size=4),
        st.integers(0, 9),  # tokens
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("core", ALL_CORES)
@settings(max_examples=25, deadline=None)
@given(plan=PLANS, depth=st.integers(1, 8))
def test_any_plan_is_accounted_for_as_it_reads(any_path, core, plan, depth):
    stream = [
        request_of(*steps, user=user, request=n, tokens=tokens)
        for n, (user, steps, tokens) in enumerate(plan)
    ]
    account = carry_out(any_path, stream, core=core, depth=depth, verify="none")
    for letter, flow in (("L", account.read), ("S", account.write)):
        counts = [step.count(letter) for _, steps, _ in plan for step in steps if letter in step]
        sizes = np.zeros((64, 2), dtype=np.int64)
        for count in counts:
            sizes[(count * LENGTH).bit_length()] += (1, count * LENGTH)
        assert flow.entries.latency.count == len(counts)
        assert flow.entries.sizes[:, :2].tolist() == sizes.tolist()
        assert flow.total_bytes == flow.window_bytes == sum(counts) * LENGTH
    requests = account.requests
    assert requests.prefix_load.count == sum(steps[0][0] == "L" for _, steps, _ in plan)
    assert requests.generated_tokens == sum(tokens for _, _, tokens in plan)
    assert requests.completed == len(plan)


def test_the_core_without_storage_moves_nothing_and_verifies_nothing(path):
    stored = carry_out(path, [rows(STORE, range(SLOTS))], core="noop")
    loaded = carry_out(path, [rows(LOAD, range(SLOTS))], core="noop")
    assert path.read_bytes() == bytes(SLOTS * LENGTH)
    assert stored.write.window_bytes == loaded.read.window_bytes == SLOTS * LENGTH
    assert (loaded.checks.operations, loaded.checks.bytes) == (0, 0)


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
    for chosen in ("uring", "threads", "noop"):
        with pytest.raises(
            EngineError, match=rf"io\.core {chosen} does not work here: not compiled"
        ):
            executor_for(files, replace(SETTINGS, core=chosen))
    executor.close()
    files.close()


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ("uring", "uring"),
        ("threads", "c_threads"),
        ("python", "python_threads"),
        ("noop", "noop"),
        ("auto", "uring"),
    ],
)
def test_the_core_that_ran_has_a_name(path, chosen, name):
    files = open_files([path], direct=True)
    executor = executor_for(files, replace(SETTINGS, core=chosen))
    assert executor.name == name
    executor.close()
    files.close()


@pytest.mark.parametrize("core", CORES)
def test_what_a_transfer_stores_does_not_compress_and_no_block_is_repeated(path, core):
    carry_out(path, [rows(STORE, range(SLOTS))], core=core, io_size_bytes=LENGTH)
    data = path.read_bytes()
    for at in range(0, len(data), LENGTH):
        assert len(zlib.compress(data[at : at + LENGTH])) > 0.99 * LENGTH
    lines = {data[at : at + 64] for at in range(0, len(data), 4096)}
    assert len(lines) == len(data) // 4096


# Gates


def gated(plan):
    """Requests of one row, (user, kind, slot) each, with the numbers that their gates go by."""
    stores, operations, blocks = {}, {}, []
    for number, (user, kind, slot) in enumerate(plan):
        stores[slot] = stores.get(slot, 0) + (kind == STORE)
        block = rows(kind, [slot], version=stores[slot], request=number, user=user)
        block["slot"], block["order"], block["gate"] = slot, operations.get(slot, 0), 1
        operations[slot] = operations.get(slot, 0) + 1
        blocks.append(block)
    return blocks


GATED_PLANS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([LOAD, STORE]), st.integers(0, 3)),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize("core", CORES)
@settings(max_examples=20, deadline=None)
@given(plan=GATED_PLANS, rings=st.integers(1, 4))
def test_users_of_all_shards_find_in_a_slot_what_the_plan_says(any_path, core, plan, rings):
    carry_out(any_path, [rows(STORE, range(4))], core=core)  # version 0
    account = carry_out(
        any_path, gated(plan), dealt=by_user, core=core, rings=rings, gate_slots=SLOTS
    )
    loads = sum(kind == LOAD for _, kind, _ in plan)
    assert (account.checks.operations, account.checks.mismatches) == (loads, 0)
    assert account.requests.completed == len(plan)


@pytest.mark.parametrize("core", CORES)
def test_shards_that_wait_for_each_other_at_every_row_come_to_the_end(any_path, core):
    """Two users hand one slot to and fro: every row waits for the other shard's last one."""
    plan = [(n % 2, (STORE, LOAD)[n % 2], 0) for n in range(400)]
    account = carry_out(any_path, gated(plan), dealt=by_user, core=core, rings=2, gate_slots=1)
    assert account.checks.mismatches == 0
    assert account.requests.completed == 400


@pytest.mark.parametrize("core", ALL_CORES)
def test_a_stop_ends_shards_that_wait_at_a_gate(any_path, core):
    never = rows(LOAD, [0], version=1)
    never["gate"] = 1
    control = Control(duration_s=0.1)
    begun = time.monotonic()
    account = carry_out(any_path, [never], control, core=core, gate_slots=1)
    assert time.monotonic() - begun < 2
    assert account.read.total_operations == 0


# Open loop


def arriving(count, every_ns, first_ns=0):
    """Requests of one load, of a user each, that arrive one by one."""
    blocks = [rows(LOAD, [n % SLOTS], request=0, user=n) for n in range(count)]
    for n, block in enumerate(blocks):
        block["arrival"] = first_ns + n * every_ns
    return [np.concatenate(blocks)]


OPEN = {"verify": "none", "open_loop": True}


@pytest.mark.parametrize("core", ALL_CORES)
def test_no_request_starts_before_it_arrives(any_path, core):
    control = Control()
    account = carry_out(any_path, arriving(20, 5_000_000), control, core=core, **OPEN)
    assert account.requests.completed == 20
    assert account.requests.queue.minimum >= 0
    assert account.last_ns - control.start_ns >= 19 * 5_000_000


@pytest.mark.parametrize("core", ALL_CORES)
def test_queue_and_service_add_up_to_the_latency_from_the_intended_start(any_path, core):
    account = carry_out(
        any_path, arriving(50, 0), core=core, requests_in_flight=1, late_s=0.1, **OPEN
    )
    requests = account.requests
    assert requests.total.count == requests.queue.count == requests.service.count == 50
    assert requests.queue.total + requests.service.total == requests.total.total
    assert requests.queue.minimum >= 0.1e9
    assert requests.backlog_max == 50
    # One at a time: the last has waited for the service of all others.
    assert requests.queue.maximum - 0.1e9 >= requests.service.total - requests.service.maximum


@pytest.mark.parametrize("core", ALL_CORES)
@pytest.mark.parametrize("limit", [10, None])
def test_a_backlog_beyond_its_limit_ends_the_run(any_path, core, limit):
    control = Control(duration_s=60)
    stream = arriving(200, 0)
    stream[0]["arrival"][100:] = 10**8
    account = carry_out(
        any_path, stream, control, core=core, requests_in_flight=1, backlog_limit=limit, **OPEN
    )
    assert account.requests.overloaded is (limit is not None)
    if limit is None:
        assert account.requests.completed == 200
        return
    assert account.requests.backlog_max > limit
    assert account.requests.completed < 100
    assert control.length_s < 50


STALLED = """
import json, sys, time
import numpy as np
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import Settings, executor_for
from mlps.engines.io_core.files import open_files
from mlps.engines.io_core.operations import OPERATION

block = np.zeros(200, OPERATION)
block["length"] = 4096
block["user"] = np.arange(200)
block["arrival"] = np.arange(200) * 10_000_000
block["closes"] = 1
files = open_files([__import__("pathlib").Path(sys.argv[2])], direct=True)
settings = Settings(depth=4, key=1, pool_seed=1, largest_bytes=4096, verify="none",
                    durability="none", rings=1, open_loop=True, core=sys.argv[1])
executor = executor_for(files, settings)
control, account = Control(), Account()
control.start()
print("started", flush=True)
rest = [iter(()) for _ in range(executor.shards - 1)]
executor.execute([iter([block]), *rest], control, account)
total = account.requests.total
late_ns = [total.percentile(1 - nth / 200) for nth in range(200)]
print(json.dumps(late_ns))
"""


@pytest.mark.parametrize("core", ALL_CORES)
def test_a_stall_shows_in_the_latency_of_all_requests_that_it_delays(any_path, core):
    """Half a second of standing still at 100 requests a second: 50 are late by up to as much."""
    child = subprocess.Popen(
        [sys.executable, "-c", STALLED, core, any_path], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "started\n"
        time.sleep(0.15)
        child.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        child.send_signal(signal.SIGCONT)
        late_ns = json.loads(child.stdout.read())
    assert len(late_ns) == 200
    # Sorted, the longest first: each arrived 0.01 s after the one before it.
    assert all(late_ns[n] / 1e9 >= 0.48 - 0.01 * n for n in range(40))


# The window


ENDLESS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.text("LS", min_size=1, max_size=4), min_size=1, max_size=3),
        st.integers(0, 3_000_000),  # ns between arrivals
    ),
    min_size=1,
    max_size=5,
)


def without_end(plan):
    """The plan over and over."""
    arrival = request = 0
    while True:
        for user, steps, gap_ns in plan:
            block = request_of(*steps, user=user, request=request)
            block["arrival"] = arrival
            yield block
            request += 1
            arrival += gap_ns


@pytest.mark.parametrize("core", ALL_CORES)
@settings(max_examples=20, deadline=None)
@given(
    plan=ENDLESS,
    ramp_s=st.sampled_from([0, 0.01, 0.03]),
    duration_s=st.sampled_from([0.001, 0.01, 0.04]),
    open_loop=st.booleans(),
    in_flight=st.sampled_from([None, 1, 3]),
)
def test_nothing_takes_longer_than_ramp_window_and_drain(
    any_path, core, plan, ramp_s, duration_s, open_loop, in_flight
):
    control = Control(ramp_s=ramp_s, duration_s=duration_s)
    account = carry_out(
        any_path,
        without_end(plan),
        control,
        core=core,
        verify="none",
        open_loop=open_loop,
        requests_in_flight=in_flight,
        backlog_limit=None,
    )
    drain_ns = max(account.last_ns - control.end_ns, 0)
    limit_ns = (ramp_s + control.length_s) * 1e9 + drain_ns
    requests = account.requests
    entries = [account.read.entries, account.write.entries]
    for histogram in (
        account.read.latency,
        account.write.latency,
        requests.total,
        requests.queue,
        requests.service,
        requests.prefix_load,
        *(each.latency for each in entries),
    ):
        assert (histogram.maximum or 0) <= limit_ns
    assert all(each.sizes[:, 3].max() <= limit_ns for each in entries)
    assert account.window_requests == requests.total.count
    for flow in (account.read, account.write):
        assert flow.timeline.sum() == flow.window_bytes <= flow.total_bytes
        assert flow.entries.sizes[:, 1].sum() <= flow.total_bytes


# Files of chunks


@pytest.fixture
def chunk_directory(tmp_path):
    for chunk in range(SLOTS):
        chunk_path(tmp_path, chunk).parent.mkdir(parents=True, exist_ok=True)
    return tmp_path


CHUNK_CORES = ("threads", "python")


@pytest.fixture(params=CHUNK_CORES)
def execute_chunks(chunk_directory, request):
    """Works off one stream on files of chunks; a row's place in a file means nothing to them."""

    def work(stream, **changes):
        files = open_directories([chunk_directory], direct=True)
        return carry_out(
            chunk_directory, stream, files=files, core=request.param, chunk_files=True, **changes
        )

    return work


def chunk_files_in(directory):
    return sorted(path for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("durability", ["none", "fdatasync"])
def test_chunks_in_files_of_their_own_load_again(execute_chunks, chunk_directory, durability):
    for version in (1, 2):  # the second replaces the first
        execute_chunks([rows(STORE, range(SLOTS), version)], durability=durability)
    expected = sorted(chunk_path(chunk_directory, chunk) for chunk in range(SLOTS))
    assert chunk_files_in(chunk_directory) == expected
    assert {path.stat().st_size for path in expected} == {LENGTH}
    loaded = execute_chunks([rows(LOAD, range(SLOTS), 2)])
    assert (loaded.checks.operations, loaded.checks.mismatches) == (SLOTS, 0)


def test_a_failure_names_the_chunks_own_file_and_the_offset_in_it(execute_chunks, chunk_directory):
    execute_chunks([rows(STORE, range(SLOTS))])
    path = chunk_path(chunk_directory, 5)
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(bytes(32))
    with pytest.raises(EngineError, match=rf"^wrong data in {path} at offset {3 * 4096}: "):
        execute_chunks([rows(LOAD, range(SLOTS))])
    os.truncate(path, 4096)
    with pytest.raises(EngineError, match=rf"^short read of {path} at offset 0: 4096 of {LENGTH} "):
        execute_chunks([rows(LOAD, range(SLOTS))], verify="none")
    path.unlink()
    with pytest.raises(EngineError, match=rf"^cannot read {path} at offset 0: No such file "):
        execute_chunks([rows(LOAD, range(SLOTS))], verify="none")


def test_a_store_that_fails_leaves_the_chunk_as_it_was(execute_chunks, chunk_directory):
    execute_chunks([rows(STORE, [5], version=1)])
    path = chunk_path(chunk_directory, 5)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(EngineError, match=rf"^short write of {path} at offset 0: 4096 of "):
            execute_chunks([rows(STORE, [5], version=2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert chunk_files_in(chunk_directory) == [path]
    assert execute_chunks([rows(LOAD, [5], version=1)]).checks.mismatches == 0


def test_a_ring_is_refused_for_files_of_chunks_and_threads_are_taken(chunk_directory):
    files = open_directories([chunk_directory], direct=True)
    own = replace(SETTINGS, chunk_files=True)
    with pytest.raises(
        EngineError, match=r"io\.core uring does not work with a file for each chunk"
    ):
        executor_for(files, replace(own, core="uring"))
    executor = executor_for(files, own)
    assert (executor.name, executor.refused) == ("c_threads", ())
    executor.close()
    files.close()
