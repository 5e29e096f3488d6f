"""All executors on one suite: io_uring in C, threads in C, threads in Python, on real files.

What does not depend on bytes holds for the executor without storage too.
"""

from __future__ import annotations

import errno
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
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


def carry_out(path, stream, control=None, **changes):
    """Works off one stream on the file and returns the account."""
    files = open_files([path], direct=True)
    control, account = control or Control(), Account()
    executor = executor_for(files, replace(SETTINGS, **changes))
    try:
        control.start()
        executor.execute(streams_of(executor, stream), control, account)
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
    files = open_files([any_path], direct=True)
    executor = executor_for(files, replace(SETTINGS, core=core, verify="none", open_loop=True))
    control, account = Control(), Account()
    control.start()
    time.sleep(0.2)  # what follows is late by 0.15 s
    executor.execute(streams_of(executor, [block]), control, account)
    executor.close()
    files.close()
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
