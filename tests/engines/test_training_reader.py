"""Readers of batches, in C and of Python threads, on real files."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.io_core.blocks import BLOCK_BYTES
from mlps.engines.io_core.executor import CoreRefused
from mlps.engines.training_native import reader_core
from mlps.engines.training_native.reader import (
    BLOCKS_HELD,
    READ,
    Block,
    Reading,
    checksum_of,
    reader_for,
)

CORES = ("c", "python")
# Around multiples of a block and of the buffer, and none.
SIZES = (1, 4095, 4096, 4097, 3 * 4096, 65536, 65537, 200_000)
BUFFER_BYTES = 4 * BLOCK_BYTES


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    content = np.random.default_rng(1)
    for number, size in enumerate(SIZES):
        (directory / name(number)).write_bytes(content.bytes(size))
    return directory


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.fixture
def open_reader(core, files):
    """Makes readers of this core that are closed after the test."""
    opened = []

    def make(directory=files, **changes):
        known = {"threads": 3, "look_ahead": 4, "buffer_bytes": BUFFER_BYTES, "checksum": True}
        opened.append(reader_for(Reading(directory=directory, core=core, **(known | changes))))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def name(number):
    return f"file_{number}"


def block_of(reads, batches, paths=None):
    """A block of reads (file, offset, length, batch)."""
    paths = [name(number) for number in range(len(SIZES))] if paths is None else paths
    rows = np.array([(offset, length, file, batch) for file, offset, length, batch in reads], READ)
    numbers = np.arange(len(paths), dtype=np.uint32)
    return Block(paths=paths, numbers=numbers, reads=rows, batches=batches)


def whole_files(per_batch=3):
    """All files, some in a batch."""
    reads = [(file, 0, size, file // per_batch) for file, size in enumerate(SIZES)]
    return block_of(reads, reads[-1][3] + 1)


def consume(reader, blocks):
    """Reads all batches in order; returns what was counted."""
    batch = 0
    for block in blocks:
        reader.feed(block)
        for _ in range(block.batches):
            reader.wait(batch)
            reader.release(batch)
            batch += 1
    reader.end()
    return reader.account()


def sum_of(directory, *blocks):
    """The sum of all bytes that are to be read."""
    total = 0
    for block in blocks:
        for offset, length, file, _ in block.reads.tolist():
            data = (directory / block.paths[file]).read_bytes()[offset : offset + length]
            total += checksum_of(data, int(block.numbers[file]), offset)
    return total % 2**64


def resident(path):
    """Whether any page of a file is in the page cache."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, dtype=np.uint8)
        pages = (len(view) + BLOCK_BYTES - 1) // BLOCK_BYTES
        found = np.zeros(pages, dtype=np.uint8)
        library = reader_core.ctypes.CDLL(None, use_errno=True)
        pointer = reader_core.ctypes.c_void_p
        library.mincore(pointer(view.ctypes.data), pointer(len(view)), pointer(found.ctypes.data))
        del view
        return bool((found & 1).any())


def reader_threads():
    """Threads of this process, those that the interpreter does not know too."""
    return len(list(Path("/proc/self/task").iterdir()))


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("direct", [False, True], ids=["buffered", "direct"])
@pytest.mark.parametrize("descriptors", [0, 2, 100])
@pytest.mark.parametrize("threads", [1, 5])
def test_all_bytes_that_are_asked_for_are_read_and_no_others(
    open_reader, files, direct, descriptors, threads
):
    block = whole_files()
    reader = open_reader(direct=direct, descriptors=descriptors, threads=threads)
    account = consume(reader, [block])
    assert account.read_bytes == sum(SIZES)
    assert account.checksum == sum_of(files, block)
    assert (account.reads, account.batches) == (len(SIZES), 3)
    assert account.opens == len(SIZES)
    assert reader.direct_refused is None


@pytest.mark.parametrize("core", CORES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_table_of_reads(core, files, data):
    file = st.integers(0, len(SIZES) - 1)
    reads = []
    for number in data.draw(st.lists(file, max_size=12)):
        offset = data.draw(st.integers(0, SIZES[number] - 1))
        length = data.draw(st.integers(1, SIZES[number] - offset))
        reads.append((number, offset, length))
    batches = data.draw(st.integers(1, 6))
    places = sorted(data.draw(st.integers(0, batches - 1)) for _ in reads)
    block = block_of([(*read, place) for read, place in zip(reads, places, strict=True)], batches)
    reading = Reading(
        directory=files,
        core=core,
        threads=data.draw(st.integers(1, 4)),
        look_ahead=data.draw(st.integers(1, 4)),
        buffer_bytes=BUFFER_BYTES,
        descriptors=data.draw(st.integers(0, 3)),
        direct=data.draw(st.booleans()),
        evict=data.draw(st.booleans()),
        checksum=True,
    )
    reader = reader_for(reading)
    try:
        account = consume(reader, [block, block])
    finally:
        reader.close()
    assert account.read_bytes == 2 * int(block.reads["length"].sum())
    assert account.checksum == sum_of(files, block, block)
    assert (account.reads, account.batches) == (2 * len(reads), 2 * batches)
    assert account.ahead_max <= reading.look_ahead


def test_a_wrong_place_has_another_sum(files):
    data = (files / name(7)).read_bytes()
    assert checksum_of(data, 7, 0) != checksum_of(data, 7, 1)
    assert checksum_of(data, 7, 0) != checksum_of(data, 8, 0)
    parts = checksum_of(data[:9], 7, 0) + checksum_of(data[9:], 7, 9)
    assert parts % 2**64 == checksum_of(data, 7, 0)


def test_a_large_read_goes_in_pieces(open_reader):
    account = consume(open_reader(), [block_of([(7, 0, SIZES[7], 0)], 1)])
    assert (account.reads, account.calls) == (1, -(-SIZES[7] // BUFFER_BYTES))


def test_a_direct_read_takes_whole_blocks(open_reader):
    account = consume(open_reader(direct=True), [block_of([(7, 5000, 10, 0)], 1)])
    assert account.read_bytes == 10
    assert account.transferred_bytes in (10, BLOCK_BYTES)  # 10 where the file system has none


def test_where_direct_reads_are_refused_it_is_said(core):
    directory = Path("/dev/shm")
    path = directory / f"mlps-test-{os.getpid()}"
    path.write_bytes(b"x" * 5000)
    with path.open("rb") as file:
        try:
            os.close(os.open(file.name, os.O_RDONLY | os.O_DIRECT))
            refused = False
        except OSError:
            refused = True
    reader = reader_for(
        Reading(directory=directory, threads=1, look_ahead=1, direct=True, core=core)
    )
    try:
        block = block_of([(0, 0, 5000, 0)], 1, paths=[path.name])
        assert consume(reader, [block]).read_bytes == 5000
        if refused:
            assert "O_DIRECT" in reader.direct_refused
    finally:
        reader.close()
        path.unlink()


def test_files_stay_open_where_that_is_asked_for(open_reader):
    block = block_of([(file, 0, 1, batch) for batch in range(50) for file in (3, 4)], 50)
    assert consume(open_reader(descriptors=2), [block]).opens <= 4  # two threads at once
    assert consume(open_reader(descriptors=0), [block]).opens == 100


def test_evicted_files_leave_the_page_cache(open_reader, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    with path.open() as file:
        os.fsync(file.fileno())  # only what is on the storage can leave
    block = block_of([(0, 0, 100_000, 0)], 1, paths=["file"])
    consume(open_reader(tmp_path), [block])
    assert resident(path)
    consume(open_reader(tmp_path, evict=True), [block])
    if resident(path):
        pytest.skip("this file system keeps its pages")


def test_without_reads_all_else_is_the_same(open_reader, tmp_path):
    reader = open_reader(tmp_path / ".", enabled=False, direct=True)
    account = consume(reader, [whole_files()])
    assert (account.reads, account.batches) == (len(SIZES), 3)
    assert (account.read_bytes, account.calls, account.opens) == (0, 0, 0)


def test_latencies_and_seconds_are_counted(open_reader):
    account = consume(open_reader(), [whole_files()])
    assert account.reads_ns.count == len(SIZES)
    assert account.batches_ns.count == 3
    assert account.reads_ns.minimum > 0
    assert account.batches_ns.maximum >= account.reads_ns.maximum > 0
    assert account.timeline.sum() == account.read_bytes


# ---------------------------------------------------------------- batches


def test_no_more_batches_are_read_than_the_look_ahead(open_reader):
    reader = open_reader(look_ahead=3)
    reader.feed(block_of([(0, 0, 1, batch) for batch in range(20)], 20))
    for batch in range(17):
        reader.wait(batch + 2)
        time.sleep(0.002)
        assert reader.account().reads == batch + 3
        reader.release(batch)
    assert reader.account().ahead_max == 3


def test_a_batch_is_ready_only_after_all_before_it(open_reader, tmp_path):
    (tmp_path / "large").write_bytes(bytes(40_000_000))
    (tmp_path / "small").write_bytes(b"x")
    reader = open_reader(tmp_path)
    reader.feed(block_of([(0, 0, 40_000_000, 0), (1, 0, 1, 1)], 3, ["large", "small"]))
    reader.wait(2)
    assert reader.account().read_bytes == 40_000_001


def test_batches_that_need_no_read_are_ready(open_reader):
    reader = open_reader(threads=1, look_ahead=2)
    account = consume(reader, [block_of([(7, 0, 100, 3)], 9), block_of([], 5, paths=[])])
    assert (account.reads, account.batches) == (1, 14)


@pytest.mark.parametrize("batch", [0, 1, 6, 100])
def test_a_batch_that_never_comes_is_not_waited_for(open_reader, batch):
    reader = open_reader(look_ahead=3)
    reader.feed(block_of([(0, 0, 1, 0)], 5))
    reader.wait(1)
    reader.release(1)
    for call in (reader.wait, reader.release):
        with pytest.raises(ValueError, match=f"batch {batch} is not one"):
            call(batch)


def test_blocks_are_held_in_a_bounded_number(open_reader):
    reader = open_reader(look_ahead=1)
    block = block_of([(0, 0, 1, 0)], 2)
    fed = 0
    while reader.room:
        reader.feed(block)
        fed += 1
    assert fed == BLOCKS_HELD
    with pytest.raises(ValueError, match="no room"):
        reader.feed(block)
    for batch in range(2):
        reader.wait(batch)
        reader.release(batch)
    reader.wait(2)
    assert reader.room


def test_a_million_files_take_little_memory(core, tmp_path):
    reading = Reading(
        directory=tmp_path, threads=2, look_ahead=4, buffer_bytes=4096, enabled=False, core=core
    )
    files, per_batch = 4096, 24
    rows = np.zeros(files, READ)
    rows["file"] = np.arange(files)
    rows["batch"] = np.arange(files) // per_batch
    batches = int(rows["batch"][-1]) + 1
    rounds = 250 if core == "c" else 5
    reader, batch = reader_for(reading), 0
    before = memory_bytes()
    try:
        for start in range(rounds):
            paths = [f"train/img_{start * files + n:07d}_of_1170301.jpeg" for n in range(files)]
            numbers = np.arange(start * files, (start + 1) * files, dtype=np.uint32)
            reader.feed(Block(paths=paths, numbers=numbers, reads=rows, batches=batches))
            for _ in range(batches):
                reader.step(batch, 0)
                batch += 1
        assert reader.account().reads == rounds * files
        assert memory_bytes() - before < 32 * 2**20
    finally:
        reader.close()


def memory_bytes():
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("path", "length", "text"),
    [
        ("missing", 10, r"cannot open .*/missing: No such file or directory \(ENOENT\)"),
        ("short", 100_001, r"short read of .*/short at offset 0: 100000 of 100001 bytes"),
        ("empty", 1, r"short read of .*/empty at offset 0: 0 of 1 bytes"),
        ("folder", 10, r"cannot read .*/folder at offset 0: Is a directory \(EISDIR\)"),
        ("pipe", 10, r"cannot read .*/pipe at offset 0: Illegal seek \(ESPIPE\)"),
        ("loop", 10, r"cannot open .*/loop: Too many levels of symbolic links \(ELOOP\)"),
    ],
)
def test_what_cannot_be_read_is_named(open_reader, tmp_path, path, length, text):
    (tmp_path / "good").write_bytes(bytes(1000))
    (tmp_path / "short").write_bytes(bytes(100_000))
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    reader = open_reader(tmp_path)
    reads = [(0, 0, 1000, batch) for batch in range(10)]
    reads[3] = (1, 0, length, 3)
    reader.feed(block_of(reads, 10, ["good", path]))
    with pytest.raises(EngineError, match=text):
        for batch in range(10):
            reader.step(batch, 0)
    with pytest.raises(EngineError, match=text):
        reader.wait(3)


def test_a_short_file_is_found_in_direct_reads_too(open_reader, tmp_path):
    (tmp_path / "file").write_bytes(bytes(10_000))
    reader = open_reader(tmp_path, direct=True)
    reader.feed(block_of([(0, 5000, 6000, 0)], 1, ["file"]))
    with pytest.raises(EngineError, match="at offset 5000: 5000 of 6000 bytes"):
        reader.wait(0)


def test_a_directory_that_is_not_there(open_reader, tmp_path):
    with pytest.raises(EngineError, match=r"cannot start readers of .*/none: No such file"):
        open_reader(tmp_path / "none")


@pytest.mark.parametrize(
    ("reads", "batches", "text"),
    [
        ([(99, 0, 1, 0)], 1, "does not have"),
        ([(0, 0, 1, 1)], 1, "does not have"),
        ([(0, 0, 1, 1), (0, 0, 1, 0)], 2, "order"),
        ([(0, 2**63, 1, 0)], 1, "large enough"),
        ([], 0, "0 batches"),
    ],
    ids=["file", "batch", "order", "offset", "empty"],
)
def test_blocks_that_make_no_sense(reads, batches, text):
    with pytest.raises(ValueError, match=text):
        block_of(reads, batches)


@pytest.mark.parametrize(
    "changes", [{"threads": 0}, {"look_ahead": 0}, {"buffer_bytes": 5000}, {"descriptors": -1}]
)
def test_readers_that_make_no_sense(tmp_path, changes):
    with pytest.raises(ValueError):
        Reading(**({"directory": tmp_path, "threads": 1, "look_ahead": 1} | changes))


# ---------------------------------------------------------------- the end


def test_a_stop_ends_a_wait_and_nothing_is_read_after_it(open_reader, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)
    reader = open_reader(tmp_path, checksum=False)
    reader.feed(block_of([(0, 0, 2**40, batch) for batch in range(4)], 4, ["large"]))
    stopper = threading.Timer(0.05, reader.stop)
    stopper.start()
    with pytest.raises(EngineError, match="stopped"):
        reader.wait(0)
    stopper.join()
    before = reader.account().read_bytes
    assert before > 0
    began = time.monotonic()
    reader.close()
    assert time.monotonic() - began < 5


def test_no_thread_and_no_descriptor_is_left(core, files):
    def left():
        return reader_threads(), len(list(Path("/proc/self/fd").iterdir()))

    before = left()
    for _ in range(20):
        reader = reader_for(
            Reading(directory=files, threads=4, look_ahead=2, descriptors=3, core=core)
        )
        reader.feed(whole_files(1))
        reader.step(0, 0)
        reader.close()
        reader.close()
    # The kernel shows a thread for a moment after it was joined, and so it did before.
    deadline = time.monotonic() + 5
    while any(map(int.__gt__, left(), before)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(int.__gt__, left(), before))


def test_a_closed_reader_is_of_no_use(open_reader):
    reader = open_reader()
    reader.feed(whole_files())
    reader.close()
    for call in (lambda: reader.wait(0), lambda: reader.step(0, 0), lambda: reader.release(0)):
        with pytest.raises(ValueError, match="closed"):
            call()


# ---------------------------------------------------------------- steps


def test_a_step_computes_as_long_as_it_is_to(open_reader):
    reader, wanted_ns = open_reader(enabled=False), 375_000
    reader.feed(block_of([(0, 0, 1, batch) for batch in range(300)], 300))
    steps = [reader.step(batch, wanted_ns) for batch in range(300)]
    # Never less; by how much it may be more is the machine's affair, and the benchmark's.
    assert all(step.compute_ns >= wanted_ns for step in steps)


def test_a_long_step_is_as_long_as_it_is_to(open_reader):
    reader = open_reader(enabled=False)
    reader.feed(whole_files())
    assert reader.step(0, 250_000_000).compute_ns >= 250_000_000


def test_a_step_says_how_long_it_waited(open_reader, tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**28)
    reader = open_reader(tmp_path, checksum=False, threads=1)
    reader.feed(block_of([(0, 0, 2**28, 0), (0, 0, 1, 1)], 2, ["large"]))
    first, second = reader.step(0, 50_000_000), reader.step(1, 0)
    assert first.load_ns > 1_000_000
    assert second.load_ns < first.load_ns


def test_computing_reads_ahead(open_reader):
    reader = open_reader(look_ahead=2)
    reader.feed(block_of([(0, 0, 1, batch) for batch in range(9)], 9))
    reader.wait(1)
    reader.step(0, 300_000_000)
    assert reader.account().reads == 3


# ---------------------------------------------------------------- the choice


def test_the_reader_in_c_is_the_first_choice(files):
    reader = reader_for(Reading(directory=files, threads=1, look_ahead=1))
    reader.close()
    assert (reader.name, reader.refused) == ("c", ())


def test_without_a_compiled_core_python_reads(files, monkeypatch):
    def refuse():
        raise CoreRefused("not compiled")

    monkeypatch.setattr(reader_core, "load_library", refuse)
    reader = reader_for(Reading(directory=files, threads=1, look_ahead=1))
    reader.close()
    assert reader.name == "python_threads"
    assert [str(each.reason) for each in reader.refused] == ["not compiled"]
    with pytest.raises(EngineError, match="the reader in C does not work here: not compiled"):
        reader_for(Reading(directory=files, threads=1, look_ahead=1, core="c"))
