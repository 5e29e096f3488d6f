"""The page cache of this host: files are dropped from it, and how much of them it holds."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from ..errors import storage_error

_PAGE_BYTES = mmap.PAGESIZE
_MAP_FAILED = ctypes.c_void_p(-1).value


def evict(directory: Path, paths: Iterable[str]) -> int:
    """Drops files from the page cache, as far as they are durable; returns how many those were.

    `paths` are relative to the directory. Raises EngineError for a file that is not there.
    """
    count = 0
    for path in paths:
        try:
            descriptor = os.open(directory / path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, "drop from the page cache", directory / path) from error
        count += 1
    return count


def resident_pct(paths: Iterable[Path]) -> float | None:
    """How much of some files is in memory; None where that cannot be found out.

    The kernel tells it only to those who may write a file.
    """
    pages = resident = 0
    for path in paths:
        found = _resident(path)
        if found is None:
            return None
        pages += found[0]
        resident += found[1]
    return 100 * resident / pages if pages else None


def _resident(path: Path) -> tuple[int, int] | None:
    """Pages of a file and those in memory."""
    if not os.access(path, os.W_OK):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _of_descriptor(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _of_descriptor(descriptor: int) -> tuple[int, int] | None:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return 0, 0
    pages = -(-size // _PAGE_BYTES)
    with closing(_Mapping(descriptor, size)) as mapping:
        return (pages, mapping.resident(pages)) if mapping.address is not None else None


class _Mapping:
    """A file in this process' addresses, of which nothing is read."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.mmap.restype = ctypes.c_void_p
        self._size_bytes = ctypes.c_size_t(size_bytes)
        address = self._library.mmap(
            None, self._size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, ctypes.c_long(0)
        )
        self.address: int | None = None if address == _MAP_FAILED else address

    def resident(self, pages: int) -> int:
        """Pages in memory; raises OSError."""
        states = np.zeros(pages, dtype=np.uint8)
        where = ctypes.c_void_p(self.address)
        into = states.ctypes.data_as(ctypes.c_void_p)
        if self._library.mincore(where, self._size_bytes, into) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return int(np.count_nonzero(states & 1))

    def close(self) -> None:
        """Takes it away again."""
        if self.address is not None:
            self._library.munmap(ctypes.c_void_p(self.address), self._size_bytes)
