"""Files under test: made, opened past the page cache where the file system allows it, synced."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, storage_error
from .blocks import BLOCK_BYTES, aligned_buffer

# From linux/stat.h: Python's os module has no statx before 3.15.
_AT_EMPTY_PATH = 0x1000
_STATX_DIOALIGN = 0x2000
_STATX_BYTES = 256
_DIO_ALIGN_AT = 152
# Tried in this order where statx does not tell.
_ALIGNMENTS_BYTES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
# What a file system without direct I/O answers to it.
_REFUSALS = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFiles:
    """Open files in the order of the operations' `file`, all opened the same way."""

    paths: tuple[Path, ...]
    descriptors: tuple[int, ...]
    direct: bool
    direct_refused: str | None
    alignment_bytes: int
    # What further files beside these, or in these directories, are to be opened with.
    open_flags: int = 0

    def close(self) -> None:
        """Closes all."""
        for descriptor in self.descriptors:
            os.close(descriptor)

    def sync(self) -> None:
        """Makes all data and sizes durable; raises EngineError."""
        for path, descriptor in zip(self.paths, self.descriptors, strict=True):
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise storage_error(error, "fsync", path) from error


def open_files(paths: Sequence[Path], *, direct: bool, dsync: bool = False) -> OpenFiles:
    """Opens existing files for reading and writing; raises EngineError.

    With `direct` the page cache is bypassed, unless the file system refuses: then all files are
    opened through the cache and the reason is kept.
    """
    allow_open_files(len(paths))
    alignment, refused = probe_direct(paths[0]) if direct and paths else (1, None)
    direct = direct and refused is None
    extra = (os.O_DIRECT if direct else 0) | (os.O_DSYNC if dsync else 0)
    return OpenFiles(
        paths=tuple(paths),
        descriptors=open_all(paths, os.O_RDWR | os.O_CLOEXEC | extra),
        direct=direct,
        direct_refused=refused,
        alignment_bytes=alignment,
        open_flags=extra,
    )


def open_directories(paths: Sequence[Path], *, direct: bool, dsync: bool = False) -> OpenFiles:
    """Opens directories in which files will be opened one by one; raises EngineError.

    Whether and how these can bypass the page cache is found out with a file that is removed again.
    """
    allow_open_files(len(paths))
    alignment, refused = probe_in(paths[0]) if direct and paths else (1, None)
    direct = direct and refused is None
    return OpenFiles(
        paths=tuple(paths),
        descriptors=open_all(paths, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
        direct=direct,
        direct_refused=refused,
        alignment_bytes=alignment,
        open_flags=(os.O_DIRECT if direct else 0) | (os.O_DSYNC if dsync else 0),
    )


def preallocate(path: Path, size_bytes: int) -> None:
    """Makes a file of this size with space reserved for all of it; raises EngineError."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(descriptor, size_bytes)
            if size_bytes:
                os.posix_fallocate(descriptor, 0, size_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, f"reserve {size_bytes} bytes for", path) from error


def reserve(descriptor: int, size_bytes: int) -> None:
    """Gives a file its size, with space for all of it where the file system can; raises OSError.

    What glibc does elsewhere to have the space, which is to write into every block, is no use to
    who will write them all anyway.
    """
    library = ctypes.CDLL(None, use_errno=True)
    library.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while size_bytes and library.fallocate(descriptor, 0, 0, size_bytes) != 0:
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            os.ftruncate(descriptor, size_bytes)
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable; raises EngineError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, "fsync", path) from error


def sync_file_system(path: Path) -> None:
    """Makes durable all that the file system of a path holds; raises EngineError."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if library.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, "sync the file system of", path) from error


def write_whole(path: Path, data: bytes) -> None:
    """Puts a small file in place whole and durable; raises EngineError."""
    draft = path.with_name(path.name + ".new")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise storage_error(error, "write", path) from error
    sync_directory(path.parent)


def probe_direct(path: Path) -> tuple[int, str | None]:
    """The alignment that direct I/O on a file needs, or 1 and why there is none.

    Raises EngineError if the file cannot be opened or read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise storage_error(error, "open", path) from error
        return 1, f"open with O_DIRECT: {error.strerror}"
    try:
        alignment = direct_alignment(descriptor)
        if alignment is None:
            alignment = _tried_alignment(descriptor, path)
    finally:
        os.close(descriptor)
    if alignment == 0:
        return 1, "the file system does no direct I/O on this file"
    if alignment > BLOCK_BYTES:
        return 1, f"direct I/O wants multiples of {alignment} bytes, ours are {BLOCK_BYTES}"
    return alignment, None


def probe_in(directory: Path, name: str = "PROBE") -> tuple[int, str | None]:
    """The same for files that will be made in a directory, by one of this name that is removed."""
    path = directory / name
    try:
        path.write_bytes(bytes(BLOCK_BYTES))
        return probe_direct(path)
    except OSError as error:
        raise storage_error(error, "write", path) from error
    finally:
        path.unlink(missing_ok=True)


def direct_alignment(descriptor: int) -> int | None:
    """Bytes that direct I/O must be aligned to by statx, 0 if it cannot be, None if not told.

    Asked before trying: some file systems take a direct read and serve it from the page cache.
    """
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    if statx is None:
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_DIOALIGN, answer) != 0:
        return None
    (mask,) = struct.unpack_from("=I", answer, 0)
    memory, offset = struct.unpack_from("=II", answer, _DIO_ALIGN_AT)
    if not mask & _STATX_DIOALIGN:
        return None
    return max(memory, offset) if offset else 0


def _tried_alignment(descriptor: int, path: Path) -> int:
    """The smallest alignment at which a direct read works, 0 if none does."""
    for alignment in _ALIGNMENTS_BYTES:
        with aligned_buffer(alignment) as buffer:
            try:
                os.preadv(descriptor, [buffer], alignment)
            except OSError as error:
                if error.errno not in _REFUSALS:
                    raise storage_error(error, "read", path, alignment) from error
            else:
                return alignment
    return 0


def open_all(paths: Sequence[Path], flags: int) -> tuple[int, ...]:
    """Descriptors of all these files, or none: raises EngineError."""
    opened: list[int] = []
    for path in paths:
        try:
            opened.append(os.open(path, flags, 0o644))
        except OSError as error:
            for descriptor in opened:
                os.close(descriptor)
            raise storage_error(error, "open", path) from error
    return tuple(opened)


def allow_open_files(count: int) -> None:
    """Sees to it that so many files can be open at once; raises EngineError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise EngineError(f"{count} files are to be open at once, `ulimit -n` allows {hard}")
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
