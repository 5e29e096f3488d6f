"""The block device behind a directory, and its own count of what it moved."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# /sys/dev/block/*/stat counts in sectors of 512 bytes, whatever the device's own sector is.
_SECTOR_BYTES = 512
_SECTORS_READ = 2
_SECTORS_WRITTEN = 6

SYS_BLOCK = Path("/sys/dev/block")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Bytes that a device has read and written.

    `machine` is the kernel that counts, by the id of its boot: hosts that are containers of one
    machine see one count.
    """

    device: str
    machine: str
    read_bytes: int
    write_bytes: int

    def since(self, before: Moved) -> Moved:
        """What was moved after `before`."""
        return Moved(
            device=self.device,
            machine=self.machine,
            read_bytes=self.read_bytes - before.read_bytes,
            write_bytes=self.write_bytes - before.write_bytes,
        )


def moved_behind(directory: Path, sys_block: Path = SYS_BLOCK) -> Moved | None:
    """What the block device behind a directory has moved so far, None where there is none.

    Memory and network file systems have no block device, and nor do those that spread over
    several (btrfs, ZFS): their st_dev names nothing below /sys/dev/block.
    """
    try:
        number = directory.stat().st_dev
        device = sys_block / f"{os.major(number)}:{os.minor(number)}"
        fields = [int(word) for word in (device / "stat").read_text("ascii").split()]
        name = device.resolve().name
        machine = BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    if len(fields) <= _SECTORS_WRITTEN:
        return None
    return Moved(
        device=name,
        machine=machine,
        read_bytes=fields[_SECTORS_READ] * _SECTOR_BYTES,
        write_bytes=fields[_SECTORS_WRITTEN] * _SECTOR_BYTES,
    )
