"""Who counts what storage has moved, rather than memory. Pure."""

from __future__ import annotations

from .canonical import Document
from .mount_types import NETWORK_TYPES, SERVER_COUNTED

# Counters are compared from this many bytes on; below, other I/O weighs in.
COUNTED_LEAST_BYTES = 256 * 2**20

# Those who count, in words.
COUNTERS = {"device": "the block devices", "mount": "the mounts", "network": "the networks"}


def counting_kind(result: Document) -> str | None:
    """Whose count of bytes tells what storage served, rather than memory; None: nobody's.

    On a local file system that is the block device, on NFS the mount, which counts what servers
    sent, and on others of a network its interfaces, unless data may go past them.
    """
    types = {entry["type"] for entry in result.get("mount", [])}
    if not types & NETWORK_TYPES:
        return "device"
    if types <= SERVER_COUNTED:
        return "mount"
    unseen = any(entry.get("unseen") for entry in result.get("network", []))
    return "network" if types <= NETWORK_TYPES and not unseen else None


def counted_bytes(result: Document, kind: str, name: str) -> int | None:
    """What all counters of a kind counted in a direction; None where there is none, or one is not.

    `kind` is one of COUNTERS, `name` what it calls the direction: read, write, receive, send.
    """
    counts = [entry.get(f"{name}_bytes") for entry in result.get(kind, [])]
    return sum(counts) if counts and None not in counts else None
