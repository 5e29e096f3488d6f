"""Directories deeper than the stack of Python."""

from __future__ import annotations

import os
from pathlib import Path


def deepen(path: Path, levels: int) -> None:
    """Makes so many directories `d`, each in the one before. Remove them with rm: Python cannot."""
    current = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=current)
        inner = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
