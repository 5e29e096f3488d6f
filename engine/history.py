"""What a results directory holds, oldest first; an index lists thousands of runs at once.

The index is a cache: of each sealed archive it keeps what the list shows, bound to its manifest.
What it lacks, or what has another manifest now, is read from the archive.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import archive as files
from .archive import Archive
from .canonical import Document
from .environment import mlps_version
from .errors import ArchiveError
from .plain_files import read_text
from .report import headline, read_published, readable

INDEX = ".mlps-history.jsonl"
INDEX_SCHEMA = 1

# Modification time in ns, bytes and inode of a manifest.
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One archive of the list; without a seal it has no verdict, and nothing to show."""

    run_id: str
    status: str
    verdict: str | None = None
    headline: str | None = None

    def as_document(self, results_dir: Path) -> Document:
        return {
            "run_id": self.run_id,
            "path": str(results_dir / self.run_id),
            "status": self.status,
            "verdict": self.verdict,
            "headline": self.headline,
        }


def read_history(results_dir: Path) -> list[Entry]:
    """All archives of a directory by their names, which begin with their times.

    Raises ArchiveError where the directory cannot be listed.
    """
    known = _read_index(results_dir)
    entries: list[Entry] = []
    indexed: dict[str, tuple[Stamp, Entry]] = {}
    for run_id, stamp in _listed(results_dir):
        before = known.get(run_id)
        if stamp is None:
            entries.append(Entry(run_id=run_id, status="unfinished"))
            continue
        entry = before[1] if before and before[0] == stamp else _read(results_dir / run_id)
        entries.append(entry)
        if entry.status != "unreadable":
            indexed[run_id] = (stamp, entry)
    if indexed != known:
        # A directory that cannot be written to has its history without an index.
        with contextlib.suppress(ArchiveError):
            files.write_whole(results_dir / INDEX, _index_text(indexed))
    return entries


def _listed(results_dir: Path) -> list[tuple[str, Stamp | None]]:
    """Names of archives, each with the stamp of its manifest if it is sealed."""
    found: list[tuple[str, Stamp | None]] = []
    try:
        with os.scandir(results_dir) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise ArchiveError(f"{results_dir} cannot be listed: {error.strerror}") from error
    for name in names:
        stamp = _stamp_of(results_dir / name / files.MANIFEST)
        if (results_dir / name / files.JOB).is_file():
            found.append((name, stamp))
    return found


def _stamp_of(path: Path) -> Stamp | None:
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino
    return None


def _read(root: Path) -> Entry:
    archive = Archive(root=root)
    try:
        published = readable(read_published(archive))
    except ArchiveError as error:
        return Entry(run_id=archive.run_id, status="unreadable", headline=error.message)
    return Entry(
        run_id=archive.run_id,
        status=str(published.result["status"]),
        verdict=str(published.verdict["verdict"]),
        headline=headline(published.result),
    )


# ---------------------------------------------------------------- the index


def _head() -> Document:
    """What an index must begin with: another version may show other words of an archive."""
    return {"mlps_history": INDEX_SCHEMA, "version": mlps_version()}


def _index_text(entries: Mapping[str, tuple[Stamp, Entry]]) -> bytes:
    rows: Iterable[Document] = (
        {
            "run_id": run_id,
            "stamp": list(stamp),
            "status": entry.status,
            "verdict": entry.verdict,
            "headline": entry.headline,
        }
        for run_id, (stamp, entry) in entries.items()
    )
    return "".join(f"{json.dumps(row)}\n" for row in (_head(), *rows)).encode()


def _read_index(results_dir: Path) -> dict[str, tuple[Stamp, Entry]]:
    """What the index knows; lines that are torn or of another form are as if they were missing."""
    try:
        first, *lines = read_text(results_dir / INDEX).splitlines() or [""]
    except ArchiveError:
        return {}
    if _parsed(first) != _head():
        return {}
    found = {}
    for line in lines:
        row = _parsed(line)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            time_ns, size, inode = (int(part) for part in row["stamp"])
            words = {key: row[key] for key in ("run_id", "status", "verdict", "headline")}
            if all(isinstance(word, str) for word in words.values()):
                found[words["run_id"]] = ((time_ns, size, inode), Entry(**words))
    return found


def _parsed(line: str) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


# ---------------------------------------------------------------- runs by their names


def archive_named(path: Path, results_dir: Path) -> Path:
    """The archive at a path, or the one of a results directory whose name begins with a word.

    Raises ArchiveError where several do; a word that none begins with is taken as a path.
    """
    if path.exists() or len(path.parts) != 1 or not results_dir.is_dir():
        return path
    found = [name for name, _ in _listed(results_dir) if name.startswith(path.name)]
    if len(found) > 1:
        raise ArchiveError(
            f"{path}: {len(found)} runs of {results_dir} begin with it: {', '.join(found[:3])}",
            hint="more of the name, or the path",
        )
    return results_dir / found[0] if found else path
