"""Who writes into a directory: one job at a time, and any job once that one is gone.

A lock on a file keeps out those of the same host, and of others where the file system passes locks
on. For those where it does not the owner shows life: the file's time changes all the while. Both
end with the owner's process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .contract import Document
from .errors import EngineError, storage_error
from .io_core.control import Control
from .io_core.counts import boot_id
from .world import host_name

_BEAT_S = 2.0
# Longer than the attributes of files are kept by clients of network file systems, and than storage
# under load makes a small operation wait.
PATIENCE_S = 20.0
_LOOK_S = 0.5
_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """The right to make `thing` in a directory that `key` of the job names.

    `file` is what owners lock; `doing` is what they do, in words.
    """

    file: Path
    directory: Path
    thing: str
    doing: str
    key: str


class Owner:
    """The right, from when it is taken until it is closed."""

    def __init__(
        self, right: Right, run_id: str, control: Control, patience_s: float | None = None
    ) -> None:
        """Raises EngineError while another job has the right."""
        self._right = right
        self._path = right.file
        self._over = threading.Event()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o644)
        except OSError as error:
            raise storage_error(error, "open", self._path) from error
        try:
            self._take(run_id, control, PATIENCE_S if patience_s is None else patience_s)
        except BaseException:  # whatever it was, nobody is left to close it
            os.close(self._descriptor)
            raise
        self._thread = threading.Thread(target=self._show_life, name="owner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Gives the right back."""
        self._over.set()
        self._thread.join()
        os.close(self._descriptor)

    def _take(self, run_id: str, control: Control, patience_s: float) -> None:
        locked = _lock(self._path, self._descriptor)
        before = _read(self._descriptor)
        here = {"run_id": run_id, "host": host_name(), "boot": boot_id(), "pid": os.getpid()}
        if locked is False:
            raise self._busy(before)
        # Nobody else of this host has the lock; of another one might, unnoticed.
        same_host = locked and before.get("boot") == here["boot"] is not None
        if before and not same_host and self._lives(control, patience_s):
            raise self._busy(before)
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                raise EngineError(
                    f"another job has just completed the {self._right.thing} in"
                    f" {self._right.directory}: start this one again"
                )
            data = json.dumps(here).encode()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, data, 0)
            os.fsync(self._descriptor)
        except OSError as error:
            raise storage_error(error, "write", self._path) from error

    def _busy(self, owner: Document) -> EngineError:
        who = ", ".join(f"{key} {owner[key]}" for key in ("run_id", "host", "pid") if key in owner)
        return EngineError(
            f"another job {self._right.doing} the {self._right.thing} in {self._right.directory}"
            f" now ({who or 'it has not yet said which'}): wait until it has ended, or give another"
            f" place with {self._right.key}=..."
        )

    def _lives(self, control: Control, patience_s: float) -> bool:
        """Whether the owner before shows life within a while."""
        end_s = time.monotonic() + patience_s
        first = self._changed_ns()
        while time.monotonic() < end_s and not control.stopped:
            time.sleep(min(_LOOK_S, patience_s))
            if self._changed_ns() != first:
                return True
        return False

    def _changed_ns(self) -> int:
        """When the file was changed; opened anew, so that network file systems ask their server."""
        try:
            with self._path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime_ns
        except OSError as error:
            raise storage_error(error, "open", self._path) from error

    def _show_life(self) -> None:
        while not self._over.wait(_BEAT_S):
            # Storage that fails is found by those who write to it.
            with suppress(OSError):
                os.utime(self._descriptor)


def _lock(path: Path, descriptor: int) -> bool | None:
    """Whether the file could be locked; None where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno in _NO_LOCKS:
            return None
        raise storage_error(error, "lock", path) from error
    return True


def _read(descriptor: int) -> Document:
    """What the owner before has said of itself; nothing where it did not come to that."""
    try:
        found: Document = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return found
