"""A rank's files of a checkpoint, by every core: all on the storage, compared to the byte."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.checkpoint_native import transfer
from mlps.engines.checkpoint_native.transfer import (
    Content,
    Io,
    Target,
    Transfers,
    discard,
    io_of,
)
from mlps.engines.errors import EngineError, JobError
from mlps.engines.io_core import files as io_files
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.section import Section

CORES = ("uring", "threads", "python")
BLOCK = 4096
IO = Io(
    direct=True,
    fsync=True,
    rename=False,
    preallocate=True,
    verify="content",
    io_size_bytes=16 * BLOCK,
    depth=3,
    core="auto",
)
CONTENT = Content(key=99, pool_seed=7, row_bytes=16 * BLOCK)
# Several rows and a rest; whole blocks alone; less than a block; a byte.
SIZES = (50 * BLOCK + 123, 32 * BLOCK, 700, 1)
TARGETS = tuple(
    Target(name=f"file_{n}.pt", size_bytes=size, number=5 << 12 | n) for n, size in enumerate(SIZES)
)
TOTAL = sum(SIZES)
LARGE = Target(name="large.pt", size_bytes=2**24 + 1, number=1)


class Rank:
    """Saves and loads checkpoints in a directory; each call is a phase of its own."""

    def __init__(self, directory, *, targets=TARGETS, content=CONTENT, **changes):
        self.directory = directory
        self.control, self.account = Control(), Account()
        self.targets = targets
        self.transfers = Transfers(replace(IO, **changes), content, targets)
        self.transfers.ready(directory)

    def folder(self, version):
        return self.directory / f"step{version}"

    def save(self, version=1):
        return self._carried_out(self.transfers.save, self.folder(version), version)

    def load(self, version=1, *, of=None):
        return self._carried_out(self.transfers.load, self.folder(of or version), version)

    def discard(self, version):
        return discard(self.folder(version), self.targets)

    def _carried_out(self, work, folder, version):
        self.control, self.account = Control(), Account()
        self.control.start()
        return work(folder, version, self.control, self.account)


@pytest.fixture
def rank(tmp_path):
    """Makes ranks and ends them."""
    made = []

    def make(directory=tmp_path, **changes):
        made.append(Rank(directory, **changes))
        return made[-1]

    yield make
    for each in made:
        each.transfers.close()


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.fixture
def full_place(tmp_path):
    """A file system of 8 MiB."""
    place = tmp_path / "full"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(place)]
    if os.geteuid() or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def sizes_in(folder):
    return {path.name: path.stat().st_size for path in folder.iterdir()}


WHOLE = {target.name: target.size_bytes for target in TARGETS}


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "buffered"])
def test_what_is_saved_is_all_there_and_loads_again(rank, core, direct):
    own = rank(core=core, direct=direct)
    for version in (1, 2, 3):
        times = own.save(version)
        assert (times.transfer_ns > 0, times.sync_ns > 0) == (True, True)
        assert (own.account.write.total_bytes, own.account.read.total_bytes) == (TOTAL, 0)
        assert own.account.write.window_bytes == TOTAL
        assert sizes_in(own.folder(version)) == WHOLE
    for version in (1, 2, 3):
        assert own.load(version).sync_ns == 0
        assert (own.account.read.total_bytes, own.account.checks.bytes) == (TOTAL, TOTAL)
        assert own.account.checks.mismatches == 0


@pytest.mark.parametrize("io_blocks", [1, 5, 16, 64])
def test_who_reads_may_read_in_other_pieces_with_another_core(rank, core, io_blocks):
    for writer in CORES:
        rank(core=writer).save()
        reader = rank(core=core, io_size_bytes=io_blocks * BLOCK, depth=4)
        reader.load()
        assert reader.account.checks.bytes == TOTAL


def test_every_core_writes_the_same_bytes(rank, tmp_path):
    written = []
    for number, core in enumerate(CORES):
        # So many blocks at once that what they hold begins at many places of the pool.
        own = rank(core=core, io_size_bytes=(3, 16, 7)[number] * BLOCK)
        own.save()
        written.append([(own.folder(1) / target.name).read_bytes() for target in TARGETS])
    assert written[0] == written[1] == written[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint, and a rank of each core that loads it."""
    directory = tmp_path_factory.mktemp("saved")
    ranks = {core: Rank(directory, core=core) for core in CORES}
    ranks["uring"].save()
    yield ranks
    for each in ranks.values():
        each.transfers.close()


places = st.integers(0, TOTAL - 1)


@given(place=places, change=st.integers(1, 255), core=st.sampled_from(CORES))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_anywhere_is_found_and_named(saved, place, change, core):
    own = saved[core]
    for target in TARGETS:
        if place < target.size_bytes:
            break
        place -= target.size_bytes
    path = own.folder(1) / target.name
    with flipped(path, place, change) as original, pytest.raises(EngineError) as caught:
        own.load()
    text = str(caught.value)
    block, byte = place // BLOCK * BLOCK, place % BLOCK
    assert text.startswith(f"wrong data in {path} at offset {block}: expected ")
    if byte >= 32 or place >= target.whole_bytes:
        expected, found = f"0x{original:02x}", f"0x{original ^ change:02x}"
        assert f"expected byte {byte} = {expected}, found byte {byte} = {found} (1 of" in text
    assert own.account.checks.mismatches == 1


@contextmanager
def flipped(path, place, change):
    """A file with a changed byte, for as long as this lasts."""
    descriptor = os.open(path, os.O_RDWR)
    (original,) = os.pread(descriptor, 1, place)
    os.pwrite(descriptor, bytes([original ^ change]), place)
    try:
        yield original
    finally:
        os.pwrite(descriptor, bytes([original]), place)
        os.close(descriptor)


@pytest.mark.parametrize(
    ("verify", "found"), [("content", True), ("all", False), ("sampled", False), ("none", False)]
)
def test_only_content_sees_what_lies_between_stamps(rank, core, verify, found):
    own = rank(core=core, verify=verify)
    own.save()
    with flipped(own.folder(1) / TARGETS[0].name, 17 * BLOCK + 2000, 1):
        if not found:
            own.load()
            return
        with pytest.raises(EngineError, match="expected byte 2000 = "):
            own.load()


@pytest.mark.parametrize("verify", ["content", "all", "sampled", "none"])
def test_what_is_counted_as_checked_is_what_was_compared(rank, core, verify):
    own = rank(core=core, verify=verify)
    own.save()
    own.load()
    checks = own.account.checks
    if verify in ("content", "all"):
        assert checks.bytes == TOTAL
        assert checks.blocks == sum(-(-size // BLOCK) for size in SIZES)
    else:
        assert checks.bytes < TOTAL
    assert (checks.bytes == 0) or verify != "none"


@pytest.mark.parametrize("verify", ["content", "all"])
@pytest.mark.parametrize("size", [32 * BLOCK, 700, 9], ids=["blocks", "rest", "few bytes"])
@pytest.mark.parametrize("other", ["version", "key", "file"])
def test_data_of_another_checkpoint_job_or_file_is_wrong(rank, tmp_path, verify, size, other):
    target = Target(name="file.pt", size_bytes=size, number=1)
    own = rank(targets=[target], verify=verify)
    own.save(1)
    if other == "version":
        with pytest.raises(EngineError, match="wrong data in"):
            own.load(2, of=1)
        return
    content = replace(CONTENT, key=98) if other == "key" else CONTENT
    target = replace(target, number=2) if other == "file" else target
    with pytest.raises(EngineError, match="wrong data in"):
        rank(targets=[target], content=content, verify=verify).load(1)


def test_nothing_that_is_written_compresses(rank, core):
    own = rank(core=core)
    own.save()
    for target in TARGETS[:3]:
        data = (own.folder(1) / target.name).read_bytes()
        assert len(zlib.compress(data)) > 0.99 * len(data)


@pytest.mark.parametrize("number", range(len(TARGETS)))
def test_a_file_that_was_cut_short_or_removed_is_named(rank, core, number):
    own = rank(core=core)
    own.save()
    path, size = own.folder(1) / TARGETS[number].name, TARGETS[number].size_bytes
    for found in (size - 1, size + 1):
        os.truncate(path, found)
        with pytest.raises(EngineError) as caught:
            own.load()
        assert str(caught.value) == f"{path} has {found} bytes, not {size}"
    path.unlink()
    with pytest.raises(EngineError) as caught:
        own.load()
    assert str(caught.value) == f"cannot open {path}: No such file or directory (ENOENT)"
    own.save()
    own.load()


class Watched:
    """What a rank's calls of the system do to its files, in their order."""

    def __init__(self, monkeypatch):
        self.calls = []
        for name in ("fsync", "rename", "replace"):
            self._watch(monkeypatch, name, getattr(os, name))

    def _watch(self, monkeypatch, name, call):
        def watched(file, *rest):
            named = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else file
            self.calls.append((name, Path(named).name))
            return call(file, *rest)

        monkeypatch.setattr(os, name, watched)


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


@pytest.mark.parametrize("fsync", [True, False], ids=["fsync", "none"])
@pytest.mark.parametrize("rename", [True, False], ids=["rename", "in place"])
def test_files_are_durable_before_they_get_their_names(rank, tmp_path, watched, fsync, rename):
    own = rank(fsync=fsync, rename=rename)
    own.save()
    synced = [name for call, name in watched.calls if call == "fsync"]
    renamed = [name for call, name in watched.calls if call in ("rename", "replace")]
    drafts = [f"{name}.part" if rename else name for name in WHOLE]
    assert synced == ([*drafts, "step1", tmp_path.name] if fsync else [])
    assert renamed == (drafts if rename else [])
    if fsync and rename:
        names = [name for _, name in watched.calls]
        assert names == [*drafts, *drafts, "step1", tmp_path.name]
    assert sizes_in(own.folder(1)) == WHOLE


def test_while_it_is_written_a_file_has_another_name(rank, monkeypatch):
    own, seen = rank(rename=True), []
    sync = io_files.OpenFiles.sync

    def looked(files):
        seen.extend(sorted(path.name for path in own.folder(1).iterdir()))
        sync(files)

    monkeypatch.setattr(io_files.OpenFiles, "sync", looked)
    own.save()
    assert seen == sorted(f"{name}.part" for name in WHOLE)
    assert sizes_in(own.folder(1)) == WHOLE


@pytest.mark.parametrize("rename", [True, False], ids=["rename", "in place"])
def test_what_an_earlier_try_left_is_written_over(rank, rename):
    own = rank(rename=rename)
    own.folder(1).mkdir()
    for name, size in WHOLE.items():
        for path in (own.folder(1) / name, own.folder(1) / f"{name}.part"):
            path.write_bytes(bytes(size + 5 * BLOCK))
    own.save()
    if not rename:
        own.load()
    assert {name: size for name, size in sizes_in(own.folder(1)).items() if name in WHOLE} == WHOLE


@pytest.mark.parametrize("allowed", [True, False], ids=["reserved", "refused"])
def test_space_is_reserved_where_it_can_be(rank, tmp_path, monkeypatch, allowed):
    """What a file holds before a byte of it is written."""
    seen = []
    own = rank()
    move = own.transfers._move

    def looked(kind, files, *rest):
        seen.extend(os.fstat(descriptor) for descriptor in files.descriptors)
        move(kind, files, *rest)

    monkeypatch.setattr(own.transfers, "_move", looked)
    if not allowed:
        refuse_fallocate(monkeypatch)
    own.save()
    assert [found.st_size for found in seen] == list(SIZES)
    blocks = [found.st_blocks * 512 for found in seen]
    assert all(held >= size for held, size in zip(blocks, SIZES, strict=True)) == allowed
    own.load()


def refuse_fallocate(monkeypatch):
    class Refusing:
        class fallocate:
            argtypes = ()

            def __new__(cls, *_):
                ctypes.set_errno(errno.EOPNOTSUPP)
                return -1

    monkeypatch.setattr(io_files.ctypes, "CDLL", lambda *_, **__: Refusing)


def test_without_it_a_file_grows(rank, monkeypatch):
    own, seen = rank(preallocate=False), []
    move = own.transfers._move
    monkeypatch.setattr(
        own.transfers,
        "_move",
        lambda kind, files, *rest: (
            seen.extend(os.fstat(each).st_size for each in files.descriptors),
            move(kind, files, *rest),
        ),
    )
    own.save()
    assert seen == [0] * len(SIZES)
    assert sizes_in(own.folder(1)) == WHOLE
    monkeypatch.undo()
    own.load()


def test_discard_removes_its_files_and_drafts_alone(rank):
    own = rank(rename=True)
    assert own.discard(1) == 0
    own.save()
    other = own.folder(1) / "other.pt"
    other.write_bytes(b"other")
    (own.folder(1) / f"{TARGETS[1].name}.part").write_bytes(b"draft")
    assert own.discard(1) == len(TARGETS) + 1
    assert sizes_in(own.folder(1)) == {"other.pt": 5}


def test_a_stop_ends_a_save_early_and_nothing_gets_its_name(rank, core):
    # So much in so small pieces that something is left when it is told to stop.
    large = replace(LARGE, size_bytes=2**28 + 1)
    own = rank(targets=[large], core=core, rename=True, io_size_bytes=BLOCK, depth=1)
    with stopped_soon(own):
        own.save()
    assert 0 < own.account.write.total_bytes < 2**28
    assert own.control.moved_bytes() == (0, own.account.write.total_bytes)
    assert [path.name for path in own.folder(1).iterdir()] == ["large.pt.part"]
    assert own.discard(1) == 1


def test_a_stop_ends_a_load_early(rank, core):
    large = replace(LARGE, size_bytes=2**34 + 1)
    own = rank(targets=[large], core=core, verify="none", io_size_bytes=BLOCK, depth=1)
    own.folder(1).mkdir()
    with (own.folder(1) / large.name).open("wb") as file:
        file.truncate(large.size_bytes)  # of which nothing takes space
    with stopped_soon(own):
        own.load()
    assert 0 < own.account.read.total_bytes < 2**34
    assert own.control.moved_bytes() == (own.account.read.total_bytes, 0)


@contextmanager
def stopped_soon(own):
    """Tells a rank to stop once it has moved anything."""

    def stop():
        while not sum(own.control.moved_bytes()):
            time.sleep(0.01)
        own.control.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    yield
    stopping.join()


def test_live_counts_of_one_phase_add_up(rank, core):
    own = rank(core=core)
    control, account = Control(), Account()
    control.start()
    for version in (1, 2):
        own.transfers.save(own.folder(version), version, control, account)
        assert control.moved_bytes() == (0, version * TOTAL)
    own.transfers.load(own.folder(1), 1, control, account)
    assert control.moved_bytes() == (TOTAL, 2 * TOTAL)
    assert (account.read.total_bytes, account.write.total_bytes) == (TOTAL, 2 * TOTAL)


def test_what_was_discarded_gives_its_space_back_at_once(rank, core, full_place):
    """Nothing keeps a file open that a checkpoint has closed: the next one has its space."""
    own = rank(full_place, core=core, targets=[replace(LARGE, size_bytes=5 * 2**20)])
    for version in (1, 2, 3):
        own.save(version)
        own.load(version)
        assert own.discard(version) == 1


def test_a_full_file_system_says_so(rank, core, full_place):
    own = rank(full_place, core=core, preallocate=False, targets=[LARGE])
    with pytest.raises(EngineError) as caught:
        own.save()
    assert str(caught.value).startswith(f"cannot write {own.folder(1)}/large.pt at offset ")
    assert str(caught.value).endswith(": No space left on device (ENOSPC)")
    assert own.discard(1) == 1
    own = rank(full_place, core=core, targets=[LARGE])
    with pytest.raises(EngineError) as caught:
        own.save()
    assert str(caught.value) == (
        f"cannot reserve {LARGE.size_bytes} bytes for {own.folder(1)}/large.pt:"
        " No space left on device (ENOSPC)"
    )
    assert own.discard(1) == 1


def test_a_rank_without_files_has_nothing_to_do(rank, core):
    own = rank(targets=[], core=core)
    own.save()
    own.load()
    assert own.discard(1) == 0
    assert (own.account.write.total_bytes, own.account.read.total_bytes) == (0, 0)


def test_readiness_leaves_nothing_behind_and_tells_the_core(rank, tmp_path, core):
    own = rank(core=core, io_size_bytes=8 * BLOCK)
    assert list(tmp_path.iterdir()) == []
    assert own.transfers.core.name == {
        "uring": "uring", "threads": "c_threads", "python": "python_threads",
    }[core]  # fmt: skip
    assert own.transfers.core.io_size_bytes == 8 * BLOCK
    assert (own.transfers.core.depth, own.transfers.core.durability) == (3, "fsync")


def test_without_direct_io_it_goes_through_the_cache_and_says_why(rank, monkeypatch):
    monkeypatch.setattr(transfer, "probe_in", lambda *_: (1, "open with O_DIRECT: refused"))
    own = rank()
    assert not own.transfers.core.direct
    assert own.transfers.core.direct_refused == "open with O_DIRECT: refused"
    own.save()
    own.load()


@pytest.mark.parametrize("core", ["auto", *CORES])
def test_the_memory_of_the_usual_io_is_bounded(core):
    usual = replace(IO, io_size_bytes=4 * 2**20, depth=8, core=core)
    assert usual.buffer_bytes <= 128 * 2**20


SECTION = {
    "direct": False,
    "fsync": True,
    "rename": True,
    "preallocate": False,
    "verify": "content",
    "io_size_bytes": 8192,
    "depth": 2,
    "core": "threads",
}


def test_the_section_reads_as_it_stands():
    assert io_of(Section(SECTION, "io")) == Io(**SECTION)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("io_size_bytes", 5000, "io.io_size_bytes must be a multiple of 4096, got 5000"),
        ("verify", "most", "io.verify must be one of content, all, sampled, none, got 'most'"),
        ("depth", 0, "io.depth must be a whole number of at least 1, got 0"),
        ("core", "noop2", "io.core must be one of"),
    ],
)
def test_what_cannot_be_is_named(key, value, text):
    with pytest.raises(JobError) as caught:
        io_of(Section({**SECTION, key: value}, "io"))
    assert str(caught.value).startswith(text)
