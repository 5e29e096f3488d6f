"""The stage muster: rank 0 leaves a file in data_dir, and every rank says what it reads there."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..contract import Job, sha256_hex
from ..errors import EngineError, storage_error
from ..io_core.control import Control
from ..io_core.files import sync_directory
from ..stage import Needs, Session

SENTINEL = ".mlps-sentinel-"

_CONTENT_BYTES = 4096
# A file system over the network may show a new name a moment later.
_PATIENCE_S = 2.0
_NAP_S = 0.05


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a rank found at the path; the content's hash is None where there is no file."""

    sha256: str | None
    device: int = 0
    inode: int = 0


class PreflightEngine:
    """Reads nothing of a job but its data_dir, so it musters the ranks of every benchmark."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """One small file."""
        return Needs(
            disk_bytes=_CONTENT_BYTES,
            memory_bytes_per_rank=0,
            disk_arithmetic=f"{_CONTENT_BYTES} bytes of rank 0 of {ranks} in {job.data_dir}",
            memory_arithmetic="nothing is kept",
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {"muster": muster}


def muster(session: Session) -> None:
    """Raises StageEnded where a rank does not see what rank 0 wrote."""
    path = session.job.data_dir / f"{SENTINEL}{session.job.run_id}"
    content = secrets.token_bytes(_CONTENT_BYTES)
    written = session.exchange(sha256_hex(content))[0]
    sightings: list[Sighting] = []

    def write(_: Control) -> None:
        if session.rank == 0:
            _write(path, content)

    def read(control: Control) -> None:
        sightings.append(_look(path, written, control))

    try:
        session.phase("writing the sentinel", write, unit="files", total=0)
        session.phase("reading the sentinel", read, unit="files", total=0)
        (seen,) = sightings
        every = session.exchange(seen)
        session.outcome.facts["sentinel"] = {
            "sha256": written,
            "seen": [sighting.sha256 == written for sighting in every],
            "device": [sighting.device for sighting in every],
            "inode": [sighting.inode for sighting in every],
        }
        session.agree(lambda: _compare(seen, written, path.parent))
    finally:
        if session.rank == 0:
            with suppress(OSError):
                path.unlink()


def _compare(seen: Sighting, written: str, data_dir: Path) -> None:
    if seen.sha256 is None:
        raise EngineError(f"does not see the file that rank 0 wrote in {data_dir}")
    if seen.sha256 != written:
        raise EngineError(f"reads other bytes than rank 0 wrote in {data_dir}")


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, "write", path) from error
    sync_directory(path.parent)


def _look(path: Path, written: str, control: Control) -> Sighting:
    """The file as this host shows it, once it has had the time to appear."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        sighting = _read(path)
        waited = time.monotonic() >= deadline or control.stopped
        if sighting.sha256 == written or waited:
            return sighting
        time.sleep(_NAP_S)


def _read(path: Path) -> Sighting:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return Sighting(sha256_hex(file.read()), status.st_dev, status.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return Sighting(None)
    except OSError as error:
        raise storage_error(error, "read", path) from error
