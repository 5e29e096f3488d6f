"""A benchmark as one of its options has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .canonical import Document


def benchmark_of(document: Document, option: str | None) -> Document:
    """The benchmark of a job with an option's changes; as it is where there is no such option."""
    benchmark: Document = document["benchmark"]
    sets = [entry["set"] for entry in benchmark["options"] if entry["name"] == option]
    return merged(benchmark, sets[0]) if sets else benchmark


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """A copy of `base` with `changes` laid over it; mappings merge, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = merged(below, value)
        result[key] = value
    return result
