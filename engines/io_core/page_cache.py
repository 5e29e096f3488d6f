"""The page cache of this host: files are dropped from it, and how much of them it holds."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import storage_error

_PAGE_BYTES = mmap.PAGESIZE
_MAP_FAILED = ctypes.c_void_p(-1).value
# Of a file, so much is looked at at once: the kernel tells of a page in a byte.
_STRETCH_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Residency:
    """Pages of files, and those of them that are in memory."""

    pages: int
    resident: int

    @property
    def pct(self) -> float:
        """The part in memory; 0 of nothing."""
        return 100 * self.resident / self.pages if self.pages else 0.0


def evict(directory: Path, paths: Iterable[str], *, durable: bool = False) -> int:
    """Drops files from the page cache, as far as they are durable; returns how many those were.

    With `durable` they are made so first. `paths` are relative to the directory.
    Raises EngineError for a file that is not there.
    """
    count = 0
    for path in paths:
        action = "drop from the page cache"
        try:
            descriptor = os.open(directory / path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if durable:
                    action = "make durable"
                    os.fdatasync(descriptor)
                action = "drop from the page cache"
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, action, directory / path) from error
        count += 1
    return count


def residency(paths: Iterable[Path], alive: Callable[[], bool] = lambda: True) -> Residency | None:
    """How much of some files is in memory; None where that cannot be found out.

    The kernel tells it only to those who may write a file. Between stretches of 1 GiB and files,
    `alive` says whether to go on: None where it ended the count.
    """
    pages = resident = 0
    for path in paths:
        found = _of_path(path, alive)
        if found is None:
            return None
        pages += found.pages
        resident += found.resident
    return Residency(pages=pages, resident=resident)


def resident_pct(paths: Iterable[Path]) -> float | None:
    """The same in percent; None too where the files hold nothing."""
    found = residency(paths)
    return found.pct if found is not None and found.pages else None


def _of_path(path: Path, alive: Callable[[], bool]) -> Residency | None:
    if not os.access(path, os.W_OK):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _of_descriptor(descriptor, alive)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _of_descriptor(descriptor: int, alive: Callable[[], bool]) -> Residency | None:
    """What a file has in memory, stretch by stretch; raises OSError."""
    size = os.fstat(descriptor).st_size
    pages = resident = 0
    for offset in range(0, size, _STRETCH_BYTES):
        if not alive():
            return None
        stretch = min(_STRETCH_BYTES, size - offset)
        with closing(_Mapping(descriptor, offset, stretch)) as mapping:
            pages += mapping.pages
            resident += mapping.resident()
    return Residency(pages=pages, resident=resident)


class _Mapping:
    """A stretch of a file in this process' addresses, of which nothing is read."""

    def __init__(self, descriptor: int, offset: int, size_bytes: int) -> None:
        """Raises OSError."""
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.mmap.restype = ctypes.c_void_p
        self._size_bytes = ctypes.c_size_t(size_bytes)
        where = ctypes.c_long(offset)
        address = self._library.mmap(
            None, self._size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, where
        )
        if address == _MAP_FAILED:
            raise _last_error()
        self._address = ctypes.c_void_p(address)
        self.pages = -(-size_bytes // _PAGE_BYTES)

    def resident(self) -> int:
        """Pages in memory; raises OSError."""
        states = np.zeros(self.pages, dtype=np.uint8)
        into = states.ctypes.data_as(ctypes.c_void_p)
        if self._library.mincore(self._address, self._size_bytes, into) != 0:
            raise _last_error()
        return int(np.count_nonzero(states & 1))

    def close(self) -> None:
        """Takes it away again."""
        self._library.munmap(self._address, self._size_bytes)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
