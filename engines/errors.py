"""Expected errors of an engine: one message, no traceback. Anything else that is raised is a bug.

EngineError           the stage fails with this message
└── JobError          the job cannot be read, or asks for what the engine does not have
"""

from __future__ import annotations

import errno
from pathlib import Path


class EngineError(Exception):
    """A failure whose cause lies outside this program: storage, configuration, another rank."""


class JobError(EngineError):
    """The job did not arrive whole, or names what this engine does not know."""


def storage_error(
    error: OSError, action: str, path: Path, offset_bytes: int | None = None
) -> EngineError:
    """The error of a system call with what was tried, on which file and where in it."""
    place = f"{path}" if offset_bytes is None else f"{path} at offset {offset_bytes}"
    name = errno.errorcode.get(error.errno or 0, "no errno")
    return EngineError(f"cannot {action} {place}: {error.strerror or error} ({name})")
