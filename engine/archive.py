"""The directory of one job. The only module that builds a path in it.

    job.json job.yaml overrides.txt provenance.json plan.json environment.json system.yaml
    hosts-start.json timeseries.jsonl
    stages/<nn>-<name>[-option][-trial]/ argv.json stdout.log stderr.log outcome.json result.json
                                         outputs/ files/      only of foreign programs
    hosts-end.json timeseries.jsonl.gz result.json verdict.json report.html MANIFEST.sha256

The first two rows are there before the first stage starts; the last file is the seal.
timeseries.jsonl grows while stages run, and is compressed after the last one.
"""

from __future__ import annotations

import gzip
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from . import plain_files
from .canonical import Document, sha256_file, sha256_hex
from .errors import ArchiveError

JOB = "job.json"
JOB_YAML = "job.yaml"
OVERRIDES = "overrides.txt"
PROVENANCE = "provenance.json"
PLAN = "plan.json"
ENVIRONMENT = "environment.json"
SYSTEM = "system.yaml"
HOSTS_START = "hosts-start.json"
HOSTS_END = "hosts-end.json"
SERIES = "timeseries.jsonl"
SERIES_GZ = "timeseries.jsonl.gz"
RESULT = "result.json"
VERDICT = "verdict.json"
PAGE = "report.html"
MANIFEST = "MANIFEST.sha256"

ARGV = "argv.json"
STDOUT = "stdout.log"
STDERR = "stderr.log"
OUTCOME = "outcome.json"

# A document of an archive is small; what is larger is not one.
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024

# A file of any kind; the largest are logs, and 1 GiB takes some seconds to be summed up.
MAX_FILE_BYTES = 1024 * 1024 * 1024

# Lines of a time series are packed to a tenth; what grows more when it is unpacked is no series.
SERIES_GROWTH = 100
SERIES_LEAST_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024

_MANIFEST_LINE = re.compile(r"^([0-9a-f]{64})  (.+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One archive by its directory."""

    root: Path

    @property
    def run_id(self) -> str:
        """The name of the run."""
        return self.root.name

    def path(self, name: str) -> Path:
        """The path of a file by its name in the archive."""
        return self.root / name

    def stage(self, launch_name: str, file: str) -> Path:
        """The path of a launch's file."""
        return self.root / stage_file(launch_name, file)

    @property
    def sealed(self) -> bool:
        """Whether the job has ended and its manifest stands."""
        return (self.root / MANIFEST).is_file()


def stage_file(launch_name: str, file: str) -> str:
    """Name in the archive of a launch's file."""
    return f"stages/{launch_name}/{file}"


def create(results_dir: Path, benchmark: str, job_sha256: str) -> Archive:
    """Make a new archive directory; two jobs never share one. Raises ArchiveError."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{stamp}-{benchmark.replace('/', '-')}-{job_sha256[:8]}"
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            root = results_dir / (name if number == 1 else f"{name}-{number}")
            try:
                root.mkdir()
            except FileExistsError:
                continue
            return Archive(root=root)
    except OSError as error:
        raise _unwritable(results_dir, error) from error
    raise ArchiveError(f"{results_dir} already holds 10,000 archives named {name}")


def write(archive: Archive, name: str, data: bytes) -> None:
    """Write a file of the archive whole or not at all. Raises ArchiveError."""
    write_whole(archive.path(name), data)


def write_below(archive: Archive, launch_name: str, file: str, data: bytes) -> None:
    """Write a file in a directory of a launch's own, which is made. Raises ArchiveError."""
    path = archive.stage(launch_name, file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    write_whole(path, data)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, through a temporary name. Raises ArchiveError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and the directories above it; on failure none of them.

    Raises ArchiveError.
    """
    try:
        with ExitStack() as undo:
            for directory in reversed(path.parents):
                if not directory.exists():
                    directory.mkdir()
                    undo.callback(directory.rmdir)
            with path.open("xb") as file:
                undo.callback(path.unlink)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            undo.pop_all()
    except FileExistsError as error:
        raise ArchiveError(f"{error.filename} exists, and is not written over") from error
    except OSError as error:
        raise _unwritable(path, error) from error


def open_series(archive: Archive) -> IO[bytes]:
    """The time series to append to; each write reaches the file at once. Raises ArchiveError."""
    path = archive.path(SERIES)
    try:
        return path.open("xb", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def compress_series(archive: Archive) -> None:
    """Replace the time series by its compressed form, which equal lines give equal bytes.

    Raises ArchiveError; the lines are then still there.
    """
    source, target = archive.path(SERIES), archive.path(SERIES_GZ)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with (
            source.open("rb") as lines,
            temporary.open("xb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        ):
            shutil.copyfileobj(lines, packed, 1 << 20)
        temporary.replace(target)
        source.unlink()
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(target, error) from error


def series_lines(archive: Archive) -> Iterator[bytes]:
    """The lines of a compressed time series, one at a time. Raises ArchiveError."""
    path = archive.path(SERIES_GZ)
    if path.is_symlink() or not path.is_file():
        raise ArchiveError(f"{path} cannot be read: it is no plain file, or not there")
    try:
        left_bytes = SERIES_LEAST_BYTES + SERIES_GROWTH * path.stat().st_size
        with gzip.open(path, "rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES + 1):
                left_bytes -= len(line)
                if len(line) > MAX_LINE_BYTES or left_bytes < 0:
                    raise ArchiveError(f"{path} unpacks to more than a time series can hold")
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error


def make_stage(archive: Archive, launch_name: str) -> None:
    """Make the directory of a launch. Raises ArchiveError."""
    directory = archive.path(f"stages/{launch_name}")
    try:
        directory.parent.mkdir(exist_ok=True)
        directory.mkdir()
    except OSError as error:
        raise _unwritable(directory, error) from error


def to_yaml(document: Document, *, in_order: bool = False) -> bytes:
    """A document as YAML for people; sorted, so that it follows from the canonical JSON.

    Or in the order that its keys have, where people are to go on writing it.
    """
    text = yaml.safe_dump(document, sort_keys=not in_order, allow_unicode=True, width=100)
    return text.encode()


def read_document(path: Path) -> Any:  # noqa: ANN401 - whatever JSON the file holds
    """A JSON document of an archive. Raises ArchiveError that names file, line and column."""
    return plain_files.read_json(path, MAX_DOCUMENT_BYTES)


def read_bytes(path: Path) -> bytes:
    """A small file of an archive. Raises ArchiveError."""
    return plain_files.read_bytes(path, MAX_DOCUMENT_BYTES)


def open_archive(path: Path) -> Archive:
    """An existing archive. Raises ArchiveError where the path is none."""
    if not path.is_dir():
        raise ArchiveError(f"{path} is not a directory", hint="name the directory of one run")
    if not (path / JOB).is_file():
        raise ArchiveError(
            f"{path} is no archive: it holds no {JOB}", hint="mlps history lists the archives"
        )
    return Archive(root=path.resolve())


# ---------------------------------------------------------------- the seal


def file_names(archive: Archive) -> Iterator[str]:
    """Names of all files but the manifest, sorted. A link or a device counts as a file."""
    names = [
        (Path(directory) / file).relative_to(archive.root).as_posix()
        for directory, below, found in os.walk(archive.root)
        for file in (*found, *(name for name in below if Path(directory, name).is_symlink()))
    ]
    yield from sorted(name for name in names if name != MANIFEST)


def seal(archive: Archive) -> None:
    """Write the manifest: the SHA-256 of every file, in the form of sha256sum."""
    write(archive, MANIFEST, manifest_text(archive))


def manifest_text(archive: Archive) -> bytes:
    """The manifest that fits the files as they are now. Raises ArchiveError."""
    try:
        lines = [f"{sha256_file(archive.path(name))}  {name}\n" for name in file_names(archive)]
    except OSError as error:
        raise _unwritable(archive.root, error) from error
    return "".join(lines).encode()


def read_sealed(archive: Archive, *names: str) -> list[Any]:
    """JSON documents as they were sealed. Raises ArchiveError where one is not, or is missing."""
    listed = set(read_bytes(archive.path(MANIFEST)).splitlines())
    found = []
    for name in names:
        path = archive.path(name)
        data = read_bytes(path)
        if f"{sha256_hex(data)}  {name}".encode() not in listed:
            raise ArchiveError(
                f"{path} is not what was sealed: {MANIFEST} names another digest",
                hint=f"mlps verify {archive.root}",
            )
        found.append(plain_files.parse_json(path, data))
    return found


def manifest_flaws(archive: Archive) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """(digest by file, [(file, what is wrong with it)]): what the manifest does not agree with."""
    try:
        text = read_bytes(archive.path(MANIFEST))
    except ArchiveError as error:
        return {}, [(MANIFEST, error.message)]
    listed, flaws = _parse_manifest(text)
    # A name that is no UTF-8 cannot be in a manifest, nor be shown as it is.
    present = set(file_names(archive))
    flaws += [(name, "is missing") for name in sorted(set(listed) - present)]
    flaws += [(name, "is not in the manifest") for name in sorted(present - set(listed))]
    for name in sorted(present & set(listed)):
        flaw = _file_flaw(archive.path(name), listed[name])
        flaws += [] if flaw is None else [(name, flaw)]
    return listed, flaws


def _parse_manifest(text: bytes) -> tuple[dict[str, str], list[tuple[str, str]]]:
    listed: dict[str, str] = {}
    flaws = []
    for number, line in enumerate(text.decode(errors="replace").split("\n")[:-1], 1):
        match = _MANIFEST_LINE.match(line)
        if match is None or not is_inside(match[2]):
            flaws.append((MANIFEST, f"line {number} cannot be read"))
        else:
            listed[match[2]] = match[1]
    canonical = "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)).encode()
    if not flaws and canonical != text:
        flaws.append((MANIFEST, "is not in its canonical form: sorted, one line a file"))
    return listed, flaws


def is_inside(name: str) -> bool:
    """Whether a name leads nowhere but below the directory that it is in."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _file_flaw(path: Path, sha256: str) -> str | None:
    if path.is_symlink() or not path.is_file():
        return "is not a plain file"
    try:
        limit_bytes = MAX_DOCUMENT_BYTES if path.suffix == ".json" else MAX_FILE_BYTES
        if path.stat().st_size > limit_bytes:
            return f"has more than {limit_bytes >> 20} MiB, which is not read"
        return None if sha256_file(path) == sha256 else "is not what was sealed"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _unwritable(path: Path, error: OSError) -> ArchiveError:
    return ArchiveError(
        f"{path} cannot be written: {error.strerror or error}",
        hint="check the directory of results_dir: it must exist, be writable and have space",
    )


def listed_archives(results_dir: Path) -> Sequence[Archive]:
    """Archives directly below a results directory, oldest first."""
    if not results_dir.is_dir():
        return ()
    found = [Archive(root=path) for path in results_dir.iterdir() if (path / JOB).is_file()]
    return tuple(sorted(found, key=lambda archive: archive.run_id))


def archives_at(path: Path) -> list[Path]:
    """The archive at a path, or all archives of a results directory."""
    if path.is_dir() and not (path / JOB).exists():
        found = [archive.root for archive in listed_archives(path)]
        if found:
            return found
    return [path]
