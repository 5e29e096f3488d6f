"""Inserted vectors on their way to the lists: a file with each in the place of its id.

So the index is the same in whatever order and portions they come.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np

from ...errors import EngineError, storage_error
from ...io_core.files import reserve
from ..backend import Ids, Vectors


class Spill:
    """The file and which vectors are in it; one process at a time has it."""

    def __init__(self, path: Path, vectors: int, dimension: int) -> None:
        """Makes the file, empty; raises EngineError, also while another writer has it."""
        self.vectors, self.dimension = vectors, dimension
        self._path = path
        self._row_bytes = 4 * dimension
        self._there = np.zeros(vectors, dtype=np.bool_)
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise storage_error(error, "open", path) from error
        try:
            self._take()
        except BaseException:  # whatever it was, nobody is left to close it
            os.close(self._descriptor)
            raise

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Stores vectors, none of which is there; returns how many."""
        if not len(ids):
            return 0
        order = np.argsort(ids, kind="stable")
        ids, vectors = ids[order], np.ascontiguousarray(vectors[order], dtype="<f4")
        again = self._there[ids]
        again[1:] |= ids[1:] == ids[:-1]
        if again.any():
            raise EngineError(f"vector {ids[again.argmax()]} was inserted before")
        starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
        for start, end in zip(starts, np.append(starts[1:], len(ids)), strict=True):
            self._write(vectors[start:end], int(ids[start]))
        self._there[ids] = True
        return len(ids)

    def count(self) -> int:
        """Vectors stored."""
        return int(np.count_nonzero(self._there))

    def first_missing(self) -> int | None:
        """The lowest id that is not there."""
        missing = int(self._there.argmin())
        return None if self._there[missing] else missing

    def read(self, first: int, count: int) -> Vectors:
        """Vectors of consecutive ids, shape (count, dimension)."""
        found = np.empty((count, self.dimension), dtype="<f4")
        self._read_into(found, first)
        return found

    def read_some(self, ids: Ids) -> Vectors:
        """Vectors of these ids, shape (ids, dimension)."""
        found = np.empty((len(ids), self.dimension), dtype="<f4")
        for row, number in enumerate(ids.tolist()):
            self._read_into(found[row : row + 1], number)
        return found

    def flush(self) -> None:
        """Makes durable what is there."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise storage_error(error, "fdatasync", self._path) from error

    def close(self) -> None:
        """Lets go of the file, which stays."""
        os.close(self._descriptor)

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise EngineError(f"another writer has {self._path}") from error
            # A file system without locks has none for others either.
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise storage_error(error, "lock", self._path) from error
        try:
            os.ftruncate(self._descriptor, 0)
            reserve(self._descriptor, self.vectors * self._row_bytes)
        except OSError as error:
            raise storage_error(error, "reserve space for", self._path) from error

    def _write(self, vectors: Vectors, first: int) -> None:
        write_all(self._descriptor, vectors, first * self._row_bytes, self._path)

    def _read_into(self, found: Vectors, first: int) -> None:
        rest, offset = found.data.cast("B"), first * self._row_bytes
        while rest:
            try:
                moved = os.preadv(self._descriptor, [rest], offset)
            except OSError as error:
                raise storage_error(error, "read", self._path, offset) from error
            if moved == 0:
                raise EngineError(f"{self._path} ends at byte {offset}: somebody else cut it")
            rest, offset = rest[moved:], offset + moved


def write_all(descriptor: int, data: np.ndarray, offset_bytes: int, path: Path) -> None:
    """Writes the bytes of a contiguous array; raises EngineError."""
    rest = data.view(np.uint8).reshape(-1).data
    while rest:
        try:
            moved = os.pwritev(descriptor, [rest], offset_bytes)
        except OSError as error:
            raise storage_error(error, "write", path, offset_bytes) from error
        rest, offset_bytes = rest[moved:], offset_bytes + moved
