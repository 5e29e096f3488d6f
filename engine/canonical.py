"""Canonical JSON and SHA-256: what gives a job its identity."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

# What YAML and JSON hold. Any is honest here: these are documents before they are checked.
Document = dict[str, Any]


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys, no spaces and no NaN: equal values give equal bytes.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def pretty_json(value: object) -> bytes:
    """JSON for people, with a final newline; the order of keys is the author's."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
