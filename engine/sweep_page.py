"""Reads what the page of a sweep is made from; the page itself is drawn by `page`."""

from __future__ import annotations

from pathlib import Path

from . import archive as files
from .canonical import Document
from .page.sweep import SweptJob, sweep_page

SWEEP = "sweep.json"


def draw_sweep(document: Document) -> bytes:
    """The page of what sweep.json holds. Raises ArchiveError, or one of UNDRAWABLE."""
    return sweep_page(
        document, [SweptJob(entry=entry, result=_result(entry)) for entry in document["jobs"]]
    )


def _result(entry: Document) -> Document | None:
    """The published result of a job; None where it has left none, or its archive has moved."""
    if not entry["archive"]:
        return None
    path = Path(entry["archive"]) / files.RESULT
    if not path.is_file():
        return None
    result = files.read_document(path)
    return result if isinstance(result, dict) else None
