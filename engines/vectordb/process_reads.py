"""What this process has read, as the kernel counts it."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_IO = Path("/proc/self/io")
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReads:
    """Bytes from block devices, bytes asked for, calls, and page faults that had to read."""

    read_bytes: int
    requested_bytes: int
    calls: int
    major_faults: int

    def since(self, before: ProcessReads) -> ProcessReads:
        """What was read after `before`."""
        return ProcessReads(
            read_bytes=self.read_bytes - before.read_bytes,
            requested_bytes=self.requested_bytes - before.requested_bytes,
            calls=self.calls - before.calls,
            major_faults=self.major_faults - before.major_faults,
        )


class ProcessCounter:
    """The kernel's count of this process, without what reading the count itself adds to it."""

    def __init__(self, path: Path = _IO) -> None:
        self._own_bytes = self._own_calls = 0
        self._descriptor: int | None = None
        with suppress(OSError):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> ProcessReads | None:
        """The count now; None where the kernel keeps none."""
        if self._descriptor is None:
            return None
        try:
            text = os.pread(self._descriptor, _MOST_BYTES, 0)
            counts = dict(line.split(b": ") for line in text.splitlines())
            found = ProcessReads(
                read_bytes=int(counts[b"read_bytes"]),
                requested_bytes=int(counts[b"rchar"]) - self._own_bytes,
                calls=int(counts[b"syscr"]) - self._own_calls,
                major_faults=resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
            )
        except (OSError, ValueError, KeyError):
            return None
        self._own_bytes += len(text)
        self._own_calls += 1
        return found

    def close(self) -> None:
        """Lets go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
