"""Trees of files that stand for /proc and /sys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

BOOT_ID = "0f6d9c52-0000-4000-8000-9a3b1c2d4e5f"


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """The root of a tree of these texts; a name that ends in a slash is an empty directory."""
    boot = {"proc/sys/kernel/random/boot_id": f"{BOOT_ID}\n"}
    for name, text in {**boot, **files}.items():
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


def mountinfo(*mounts: tuple[str, str, str, str]) -> str:
    """Of (device number, mount point, type, source), with optional fields here and there."""
    return "".join(
        f"{20 + at} 1 {number} / {point} rw,relatime {'shared:1 ' * (at % 2)}- {kind} {source} rw\n"
        for at, (number, point, kind, source) in enumerate(mounts)
    )
