"""Journals: which files of an unfinished dataset are on the storage for good.

Each rank appends to one of its own. An entry covers the files of one sync and ends with a checksum
of it, so that what a kill or a crash cuts short does not count. What several journals hold is
written into the first of them before a generation goes on, with whatever number of ranks.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import storage_error
from ..io_core.directory import remove_files
from ..io_core.files import sync_directory, write_whole

# A file's number in the dataset, its CRC-32 and its size.
ENTRY = np.dtype([("number", "<u4"), ("crc32", "<u4"), ("size_bytes", "<u8")])
Entries = NDArray[np.void]

EARLIER = "journal-earlier"
_NAME = re.compile(r"journal-(?:\d+|earlier)(?:\.new)?")
_HEAD = struct.Struct("<4sII")
_MAGIC = b"MLPJ"


def journal_name(rank: int) -> str:
    """The name of a rank's journal."""
    return f"journal-{rank:05}"


def no_entries() -> Entries:
    """An array of none."""
    return np.empty(0, dtype=ENTRY)


def encoded(entries: Entries) -> bytes:
    """The bytes that stand for some files in a journal."""
    body = entries.tobytes()
    return _HEAD.pack(_MAGIC, len(entries), zlib.crc32(body)) + body


def decoded(data: bytes) -> Entries:
    """All entries up to the first that is not whole."""
    found = list(_blocks(data))
    return np.concatenate(found) if found else no_entries()


def _blocks(data: bytes) -> Iterator[Entries]:
    at = 0
    while at + _HEAD.size <= len(data):
        magic, count, crc32 = _HEAD.unpack_from(data, at)
        begin = at + _HEAD.size
        at = begin + count * ENTRY.itemsize
        if magic != _MAGIC or at > len(data) or zlib.crc32(data[begin:at]) != crc32:
            return
        yield np.frombuffer(data, dtype=ENTRY, count=count, offset=begin)


class Journal:
    """A rank's journal, to append to. One thread at a time."""

    def __init__(self, directory: Path, rank: int) -> None:
        self._path = directory / journal_name(rank)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise storage_error(error, "make", self._path) from error
        sync_directory(directory)

    def append(self, entries: Entries) -> None:
        """Adds files that are durable, durably; raises EngineError."""
        left = memoryview(encoded(entries))
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise storage_error(error, "write", self._path) from error

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


def journal_names(directory: Path) -> list[str]:
    """The names of all journals in a directory."""
    try:
        return sorted(path.name for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise storage_error(error, "list", directory) from error


def read_journals(directory: Path, files: int) -> Entries:
    """The files that are done by all journals, each once, by number; raises EngineError."""
    names = [name for name in journal_names(directory) if not name.endswith(".new")]
    every = [no_entries(), *(_read(directory / name) for name in names)]
    entries = np.concatenate(every)
    numbers, first = np.unique(entries["number"], return_index=True)
    return entries[first[numbers < files]]


def merge_journals(directory: Path, files: int) -> int:
    """Makes one journal of all that are there; returns how many files are done."""
    entries = read_journals(directory, files)
    write_whole(directory / EARLIER, encoded(entries))
    others = [name for name in journal_names(directory) if name != EARLIER]
    remove_files(directory, others)
    return len(entries)


def read_earlier(directory: Path) -> Entries:
    """The files that were done before this generation went on."""
    return _read(directory / EARLIER)


def _read(path: Path) -> Entries:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise storage_error(error, "read", path) from error
