"""What every executor says of a transfer that went wrong: the same words, with the same place."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, storage_error
from .blocks import Mismatch
from .operations import LOAD, STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a transfer went: `kind` is LOAD or STORE."""

    kind: int
    path: Path
    offset_bytes: int

    @property
    def action(self) -> str:
        """What it did there."""
        return "read" if self.kind == LOAD else "write"


def failed_call(place: Place, number: int) -> EngineError:
    """A system call that returned this errno."""
    error = OSError(number, os.strerror(number))
    return storage_error(error, place.action, place.path, place.offset_bytes)


def short_transfer(place: Place, moved_bytes: int, length_bytes: int) -> EngineError:
    """A transfer of less than was asked for."""
    if place.kind == STORE and _lacks_space(place.path, length_bytes - moved_bytes):
        return failed_call(place, errno.ENOSPC)
    return EngineError(
        f"short {place.action} of {place.path} at offset {place.offset_bytes}:"
        f" {moved_bytes} of {length_bytes} bytes"
    )


def wrong_data(place: Place, mismatch: Mismatch, blocks: int) -> EngineError:
    """A read whose blocks are not what they must be; the place is the first wrong block's."""
    return EngineError(
        f"wrong data in {place.path} at offset {place.offset_bytes}:"
        f" expected {mismatch.expected}, found {mismatch.found}"
        f" ({mismatch.blocks} of {blocks} blocks of this read are wrong)"
    )


def _lacks_space(path: Path, size_bytes: int) -> bool:
    """A file system that fills up takes a part of the last write."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < size_bytes


def chunk_path(directory: Path, chunk: int) -> Path:
    """The file of a chunk with a file of its own, as `move_chunk_file` in C names it."""
    return directory / f"{chunk & 0xFF:02x}" / f"{chunk >> 8 & 0xFF:02x}" / f"{chunk:016x}"
