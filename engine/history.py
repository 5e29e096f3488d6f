"""What a results directory holds, oldest first; an index lists thousands of runs at once.

The index is a cache: of each sealed archive it keeps what the list shows, bound to the files that
it is read from and, line by line, to itself. What it lacks, and what has changed on either side, is
read from the archive.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import archive as files
from .archive import Archive
from .canonical import Document, sha256_hex
from .environment import mlps_version
from .errors import ArchiveError
from .evidence import FORM_ERRORS
from .plain_files import read_text
from .report import headline, other_form, read_documents
from .tables import printable

INDEX = ".mlps-history.jsonl"
INDEX_SCHEMA = 2

# What the list shows of a sealed archive rests on these.
_SHOWN_OF = (files.MANIFEST, files.RESULT, files.VERDICT)

# Of each of them: modification time in ns, bytes and inode. A file that is missing has none.
Stamp = tuple[int, ...]


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
        # Texts, not paths: of thousands of archives these would take most of the time.
        root = f"{results_dir}/{name}"
        if os.path.isfile(f"{root}/{files.JOB}"):  # noqa: PTH113
            sealed = os.path.isfile(f"{root}/{files.MANIFEST}")  # noqa: PTH113
            found.append((name, _stamp_of(root) if sealed else None))
    return found


def _stamp_of(root: str) -> Stamp:
    stamp: list[int] = []
    for name in _SHOWN_OF:
        with contextlib.suppress(OSError):
            status = os.stat(f"{root}/{name}")  # noqa: PTH116
            stamp += status.st_mtime_ns, status.st_size, status.st_ino
    return tuple(stamp)


def _read(root: Path) -> Entry:
    archive = Archive(root=root)
    try:
        return _entry_of(archive)
    except ArchiveError as error:
        return Entry(run_id=archive.run_id, status="unreadable", headline=printable(error.message))


def _entry_of(archive: Archive) -> Entry:
    result, verdict = read_documents(archive)
    try:
        shown = headline(result)
    except FORM_ERRORS as error:
        raise other_form(archive, error) from error
    return Entry(
        run_id=archive.run_id,
        status=printable(str(result["status"])),
        verdict=printable(str(verdict["verdict"])),
        headline=printable(shown),
    )


# ---------------------------------------------------------------- the index


def _head() -> Document:
    """What an index must begin with: another version may show other words of an archive."""
    return {"mlps_history": INDEX_SCHEMA, "version": mlps_version()}


def _index_text(entries: Mapping[str, tuple[Stamp, Entry]]) -> bytes:
    rows = (
        {
            "run_id": run_id,
            "stamp": stamp,
            "status": entry.status,
            "verdict": entry.verdict,
            "headline": entry.headline,
        }
        for run_id, (stamp, entry) in entries.items()
    )
    return "".join(_sealed_line(json.dumps(row)) for row in (_head(), *rows)).encode()


def _sealed_line(text: str) -> str:
    """A line with a digest of itself, so that one that was edited or torn is known."""
    return f"{sha256_hex(text.encode())[:16]} {text}\n"


def _read_index(results_dir: Path) -> dict[str, tuple[Stamp, Entry]]:
    """What the index knows; lines that are torn, edited or foreign are as if they were missing."""
    try:
        lines = read_text(results_dir / INDEX).splitlines(keepends=True)
    except ArchiveError:
        return {}
    texts = [line[17:-1] for line in lines if line == _sealed_line(line[17:-1])]
    if not texts or json.loads(texts[0]) != _head():
        return {}
    found = {}
    for row in map(json.loads, texts[1:]):
        stamp = tuple(row.pop("stamp"))
        found[row["run_id"]] = (stamp, Entry(**row))
    return found


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
