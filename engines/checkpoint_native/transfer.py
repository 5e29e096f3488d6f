"""One rank's files of a checkpoint: written, made durable and named, or read and compared.

Whole blocks of 4 KiB go through an executor, in rows that carry stamps: one file after the other,
each from its start to its end, as a checkpoint is written. What is left of a file, less than a
block, goes through the page cache after them. The executor with its threads, rings and buffers is
made once and serves all checkpoints, so its making is no part of their time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from uuid import uuid4

import numpy as np

from ..errors import EngineError, JobError, storage_error
from ..io_core.account import Account, Tally
from ..io_core.blocks import BLOCK_BYTES, Byte, Mismatch, loose_bytes
from ..io_core.control import Control
from ..io_core.directory import make_directory, remove_files
from ..io_core.executor import CoreChoice, Executor, Settings, Verify, executor_for
from ..io_core.failures import Place, failed_call, short_transfer, wrong_data
from ..io_core.files import (
    OpenFiles,
    allow_open_files,
    open_all,
    probe_in,
    reserve,
    sync_directory,
)
from ..io_core.operations import LOAD, OPERATION, STORE, Stream
from ..result import Core
from ..section import Section

# What lies around stamps recurs after so much of a file, whoever writes or reads it: further apart
# than any file system looks for what it could compress.
_POOL_BYTES = 4 * 2**20
# One ring keeps a device busy with long transfers; a second one costs wake-ups.
_RINGS = 1
# Rows that are planned at a time.
_BLOCK_ROWS = 1024
_DRAFT = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Io:
    """How the files of a rank are written and read."""

    direct: bool
    fsync: bool
    rename: bool
    preallocate: bool
    verify: Verify
    io_size_bytes: int
    depth: int
    core: CoreChoice

    def settings(self, content: Content) -> Settings:
        """Of an executor of files with this content."""
        return Settings(
            depth=self.depth,
            key=content.key,
            pool_seed=content.pool_seed,
            largest_bytes=content.row_bytes,
            verify=self.verify,
            durability="none",
            rings=_RINGS,
            pool_bytes=_POOL_BYTES,
            io_size_bytes=self.io_size_bytes,
            core=self.core,
        )

    @property
    def buffer_bytes(self) -> int:
        """Memory of the executor of who writes, whichever core it is in the end."""
        return self.settings(Content(key=0, pool_seed=0, row_bytes=self.io_size_bytes)).buffer_bytes


def io_of(section: Section) -> Io:
    """Reads the section `io`; raises JobError."""
    io_size_bytes = section.count("io_size_bytes", BLOCK_BYTES)
    if io_size_bytes % BLOCK_BYTES:
        raise JobError(f"io.io_size_bytes must be a multiple of {BLOCK_BYTES}, got {io_size_bytes}")
    return Io(
        direct=section.flag("direct"),
        fsync=section.flag("fsync"),
        rename=section.flag("rename"),
        preallocate=section.flag("preallocate"),
        verify=section.choice("verify", get_args(Verify)),
        io_size_bytes=io_size_bytes,
        depth=section.count("depth"),
        core=section.choice("core", get_args(CoreChoice)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A file of this rank; `number` tells it from all files of all ranks, below 2^32."""

    name: str
    size_bytes: int
    number: int

    @property
    def loose_bytes(self) -> int:
        """What is left behind the last whole block."""
        return self.size_bytes % BLOCK_BYTES

    @property
    def whole_bytes(self) -> int:
        """What goes through the executor."""
        return self.size_bytes - self.loose_bytes

    def rows(self, row_bytes: int) -> int:
        """How many rows that is."""
        return -(-self.whole_bytes // row_bytes)

    def loose_chunk(self, row_bytes: int) -> int:
        """What the rest follows from: the chunk that a further row would have."""
        return self.number << 32 | self.rows(row_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What tells the files of these checkpoints from others; `row_bytes` is of who wrote them."""

    key: int
    pool_seed: int
    row_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long opening and transfers took, and then closing and whatever makes it durable."""

    transfer_ns: int
    sync_ns: int


class Transfers:
    """One rank's files, the same in every checkpoint, and the executor that moves their bytes."""

    core: Core

    def __init__(self, io: Io, content: Content, targets: Sequence[Target]) -> None:
        self._io = io
        self._content = content
        self._targets = tuple(targets)
        self._settings = io.settings(content)
        self._files = OpenFiles(
            paths=(), descriptors=(), direct=False, direct_refused=None, alignment_bytes=1
        )
        self._executor: Executor | None = None

    def ready(self, directory: Path) -> None:
        """Makes the executor, and finds out whether files in there can bypass the page cache.

        Raises EngineError. No part of any checkpoint's time.
        """
        allow_open_files(len(self._targets))
        # Ranks on many hosts do this at the same time in the same directory.
        probe = f"PROBE-{uuid4().hex}"
        alignment, refused = probe_in(directory, probe) if self._io.direct else (1, None)
        direct = self._io.direct and refused is None
        self._files = OpenFiles(
            paths=(),
            descriptors=(),
            direct=direct,
            direct_refused=refused,
            alignment_bytes=alignment,
            open_flags=os.O_DIRECT if direct else 0,
        )
        self._executor = executor_for(self._files, self._settings)
        self.core = Core(
            name=self._executor.name,
            direct=direct,
            direct_refused=refused,
            alignment_bytes=alignment,
            durability="fsync" if self._io.fsync else "none",
            io_size_bytes=self._settings.transfer_bytes,
            depth=self._io.depth,
            rings=self._executor.shards,
            refused=self._executor.refused,
        )

    def save(self, folder: Path, version: int, control: Control, account: Account) -> Times:
        """Writes the files of a checkpoint into its folder, which may be there; raises EngineError.

        What an earlier try has left is written over. After a stop nothing is durable or renamed.
        """
        began_ns = time.monotonic_ns()
        make_directory(folder)
        paths = [folder / target.name for target in self._targets]
        drafts = [_draft(path) for path in paths] if self._io.rename else paths
        with self._opened(drafts, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as files:
            if self._io.preallocate:
                self._reserve(files)
            self._move(STORE, files, version, control, account)
            moved_ns = time.monotonic_ns()
            if self._io.fsync and not control.stopped:
                files.sync()
        if not control.stopped:
            self._name(folder, drafts, paths)
        return Times(transfer_ns=moved_ns - began_ns, sync_ns=time.monotonic_ns() - moved_ns)

    def load(self, folder: Path, version: int, control: Control, account: Account) -> Times:
        """Reads the files of a checkpoint and compares them; raises EngineError naming the file."""
        began_ns = time.monotonic_ns()
        paths = [folder / target.name for target in self._targets]
        with self._opened(paths, os.O_RDONLY) as files:
            self._check_sizes(files)
            self._move(LOAD, files, version, control, account)
        return Times(transfer_ns=time.monotonic_ns() - began_ns, sync_ns=0)

    def close(self) -> None:
        """Ends the executor's threads and frees its memory."""
        if self._executor is not None:
            self._executor.close()

    # ------------------------------------------------------------ parts

    @contextmanager
    def _opened(self, paths: Sequence[Path], flags: int) -> Iterator[OpenFiles]:
        """The files while they are open; some file systems tell only at the end what went wrong."""
        common = self._files
        files = OpenFiles(
            paths=tuple(paths),
            descriptors=open_all(paths, flags | common.open_flags | os.O_CLOEXEC),
            direct=common.direct,
            direct_refused=common.direct_refused,
            alignment_bytes=common.alignment_bytes,
            open_flags=common.open_flags,
        )
        try:
            yield files
        except BaseException:  # not the errors of closing: the first one is what went wrong
            for descriptor in files.descriptors:
                with suppress(OSError):
                    os.close(descriptor)
            raise
        _close(files)

    def _reserve(self, files: OpenFiles) -> None:
        for path, descriptor, target in zip(
            files.paths, files.descriptors, self._targets, strict=True
        ):
            try:
                reserve(descriptor, target.size_bytes)
            except OSError as error:
                raise storage_error(
                    error, f"reserve {target.size_bytes} bytes for", path
                ) from error

    def _check_sizes(self, files: OpenFiles) -> None:
        for path, descriptor, target in zip(
            files.paths, files.descriptors, self._targets, strict=True
        ):
            found = os.fstat(descriptor).st_size
            if found != target.size_bytes:
                raise EngineError(f"{path} has {found} bytes, not {target.size_bytes}")

    def _move(
        self, kind: int, files: OpenFiles, version: int, control: Control, account: Account
    ) -> None:
        """Moves all bytes of the files, in one direction."""
        executor = self._executor
        assert executor is not None, "made by `ready`"
        executor.reopen(files)
        streams = [
            self._rows(kind, version, shard, executor.shards) for shard in range(executor.shards)
        ]
        executor.execute(streams, control, account)
        for path, target in zip(files.paths, self._targets, strict=True):
            if control.stopped:
                return
            if target.loose_bytes:
                self._move_loose(kind, path, target, version, control, account)

    def _rows(self, kind: int, version: int, shard: int, shards: int) -> Stream:
        """A shard's part of the rows of all files, in their order."""
        row_bytes, before = self._content.row_bytes, 0
        for file, target in enumerate(self._targets):
            count = target.rows(row_bytes)
            for first in range((shard - before) % shards, count, shards * _BLOCK_ROWS):
                numbers = np.arange(first, min(first + shards * _BLOCK_ROWS, count), shards)
                rows = np.zeros(len(numbers), OPERATION)
                rows["file"], rows["kind"], rows["version"] = file, kind, version
                rows["chunk"] = target.number << 32 | numbers
                rows["offset"] = numbers * row_bytes
                rows["length"] = np.minimum(row_bytes, target.whole_bytes - rows["offset"])
                yield rows
            before += count

    def _move_loose(
        self,
        kind: int,
        path: Path,
        target: Target,
        version: int,
        control: Control,
        account: Account,
    ) -> None:
        """Moves what is left behind the whole blocks of a file."""
        chunk = target.loose_chunk(self._content.row_bytes)
        expected = loose_bytes(self._content.key, chunk, version, target.loose_bytes)
        place = Place(kind=kind, path=path, offset_bytes=target.whole_bytes)
        tally = Tally()
        started_ns = time.monotonic_ns()
        found = _loose(place, expected)
        _count(tally, kind, len(expected), started_ns, control)
        if kind == LOAD and self._io.verify in ("content", "all"):
            _compare(place, expected, found, tally)
        account.add(tally)
        if tally.checks.mismatches:
            raise wrong_data(place, _mismatch(expected, found), 1)

    def _name(self, folder: Path, drafts: Sequence[Path], paths: Sequence[Path]) -> None:
        """Gives the files their names, and makes the names durable."""
        if self._io.rename:
            for draft, path in zip(drafts, paths, strict=True):
                try:
                    draft.replace(path)
                except OSError as error:
                    raise storage_error(error, "rename", draft) from error
        if self._io.fsync:
            sync_directory(folder)
            sync_directory(folder.parent)  # which may have the folder itself since now


def discard(folder: Path, targets: Sequence[Target]) -> int:
    """Removes files and their drafts as far as they exist, and says how many did."""
    paths = [folder / target.name for target in targets]
    return remove_files(folder, [each.name for path in paths for each in (path, _draft(path))])


def _draft(path: Path) -> Path:
    return path.with_name(path.name + _DRAFT)


def _close(files: OpenFiles) -> None:
    failures = []
    for path, descriptor in zip(files.paths, files.descriptors, strict=True):
        try:
            os.close(descriptor)
        except OSError as error:
            failures.append(storage_error(error, "close", path))
    if failures:
        raise failures[0]


def _loose(place: Place, data: bytes) -> bytes:
    """Writes these bytes, or reads as many; raises EngineError."""
    flags = os.O_RDONLY if place.kind == LOAD else os.O_WRONLY
    try:
        descriptor = os.open(place.path, flags | os.O_CLOEXEC)
        try:
            if place.kind == LOAD:
                found = os.pread(descriptor, len(data), place.offset_bytes)
                moved = len(found)
            else:
                found, moved = data, os.pwrite(descriptor, data, place.offset_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise failed_call(place, error.errno or 0) from error
    if moved != len(data):
        raise short_transfer(place, moved, len(data))
    return found


def _count(tally: Tally, kind: int, length: int, started_ns: int, control: Control) -> None:
    """As an executor counts its rows."""
    completed_ns = time.monotonic_ns()
    (control.read_bytes, control.written_bytes)[kind][0] += length
    tally.operations[kind] += 1
    tally.bytes[kind] += length
    tally.last_ns = completed_ns
    if control.measures(completed_ns):
        tally.latencies_ns[kind].append(completed_ns - started_ns)
        tally.window_bytes[kind] += length
        tally.timeline[kind][(completed_ns - control.window_ns) // 10**9] = length


def _compare(place: Place, expected: bytes, found: bytes, tally: Tally) -> None:
    tally.checks.operations += 1
    tally.checks.blocks += 1
    tally.checks.bytes += len(expected)
    tally.checks.mismatches += found != expected


def _mismatch(expected: bytes, found: bytes) -> Mismatch:
    at = next(n for n, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
    return Mismatch(
        block=0,
        expected=Byte(at=at, value=expected[at]),
        found=Byte(at=at, value=found[at]),
        blocks=1,
    )
