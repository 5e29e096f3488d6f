"""Files leave the page cache of this host: one by one, or by a program of the site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .contract import JOB_VARIABLE
from .errors import EngineError
from .io_core.control import Control
from .io_core.page_cache import evict
from .keeper import keep_until

_LAST_LINES = 3


def drop(paths: Sequence[Path], control: Control) -> None:
    """Drops files from the page cache, counted one by one, until the control stops it.

    They are made durable first, for what is not stays in memory. Raises EngineError.
    """
    for path in paths:
        if control.stopped:
            return
        evict(path.parent, [path.name], durable=True)
        control.done += 1


def run_command(argv: Sequence[str], control: Control, key: str) -> None:
    """Runs the site's program to its end, or kills it when the control stops it.

    Raises EngineError, which names the key of the job, if it cannot be started or fails.
    """
    # It has the environment of this rank, but for the job, which is large and not its business.
    env = {name: value for name, value in os.environ.items() if name != JOB_VARIABLE}
    program = argv[0] if argv else ""
    if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
        raise EngineError(f"{key}: there is no program {program!r} here")
    try:
        said = keep_until(argv, env, lambda: control.stopped)
    except OSError as error:
        raise EngineError(f"{key} cannot be started: {error.strerror or error}") from error
    if said is None or said.exit_status == 0:
        return
    lines = [line.strip() for line in said.words.splitlines() if line.strip()]
    words = "; ".join(lines[-_LAST_LINES:]) or "it said nothing"
    raise EngineError(f"{key}: {program} {_ended(said.exit_status)}: {words}")


def _ended(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
