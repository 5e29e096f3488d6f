"""Files of a dataset that is there: whether all are, as they should be, and no others."""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from ..errors import EngineError, storage_error
from ..io_core.control import Control
from ..place import NAMED, named
from .dataset import Dataset, Split
from .files import PlannedFile, Sizes
from .formats import check_file
from .formats.tfrecord import index_path
from .manifest import Manifest

Level = Literal["sizes", "headers", "content"]
Kind = Literal["missing", "size", "format", "content", "extra"]
_SAYS: dict[Kind, str] = {
    "missing": "not there",
    "size": "of another size",
    "format": "not of the format, or not whole",
    "content": "of another content",
    "extra": "not of it",
}
# Files that a thread takes at once.
_SHARE = 256
_READ_BYTES = 4 * 2**20

Part = TypeVar("Part")


@dataclass(slots=True)
class Findings:
    """What is wrong with how many files, and with the first of them."""

    counts: dict[Kind, int] = field(default_factory=dict)
    first: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, text: str, count: int = 1) -> None:
        """Adds what is wrong with a file."""
        self.counts[kind] = self.counts.get(kind, 0) + count
        texts = self.first.setdefault(kind, [])
        if len(texts) < NAMED:
            texts.append(text)

    def merge(self, other: Findings) -> None:
        """Adds all that others are."""
        for kind, count in other.counts.items():
            texts = other.first[kind]
            for text in texts:
                self.add(kind, text)
            self.counts[kind] += count - len(texts)

    def refuse(self, directory: Path) -> None:
        """Raises EngineError if there are any."""
        if not self.counts:
            return
        parts = [
            f"{count} {'file is' if count == 1 else 'files are'} {_SAYS[kind]}:"
            f" {named(self.first[kind], count)}"
            for kind, count in self.counts.items()
        ]
        raise EngineError(f"the dataset in {directory} cannot be used. {'. '.join(parts)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What a rank looks at, by how many threads.

    `manifest` is that of the dataset; without one any size is right, and noted.
    """

    directory: Path
    dataset: Dataset
    manifest: Manifest | None
    level: Level
    threads: int
    rank: int
    ranks: int

    @property
    def numbers(self) -> range:
        """The files of this rank."""
        return range(self.rank, self.dataset.files, self.ranks)

    def total_bytes(self) -> int:
        """Bytes that are read, with the level `content`."""
        if self.manifest is None:
            return 0
        return int(self.manifest.sizes_bytes[self.rank :: self.ranks].sum())


def check_files(checks: Checks, control: Control) -> tuple[Findings, Sizes]:
    """Looks at this rank's files and folders; the sizes of its files too, shape (its files,).

    Raises EngineError where it cannot look.
    """
    sizes = np.zeros(len(checks.numbers), dtype=np.int64)
    findings = Findings()
    control.shards(1)
    for found in shared_out(
        partial(_check_share, checks, sizes, control),
        range(len(checks.numbers)),
        checks.threads,
        control,
    ):
        findings.merge(found.findings)
        control.done += found.files
        control.read_bytes[0] += found.read_bytes
    for folder in _folders(checks.dataset)[checks.rank :: checks.ranks]:
        if not control.stopped:
            _find_extras(checks, folder, findings)
    return findings, sizes


def shared_out(
    work: Callable[[range], Part], places: range, threads: int, control: Control
) -> Iterator[Part]:
    """What threads make of parts of some places, in order; no new part once it is to stop."""

    def unless_stopped(begin: int) -> Part | None:
        return None if control.stopped else work(places[begin : begin + _SHARE])

    with ThreadPoolExecutor(threads, "files") as pool:
        for part in pool.map(unless_stopped, range(0, len(places), _SHARE)):
            if part is not None:
                yield part


@dataclass(slots=True)
class _Share:
    findings: Findings = field(default_factory=Findings)
    files: int = 0
    read_bytes: int = 0


def _check_share(checks: Checks, sizes: Sizes, control: Control, places: range) -> _Share:
    share = _Share()
    for place in places:
        if control.stopped:
            break
        number = checks.numbers[place]
        path = checks.dataset.path(number)
        size = _size(checks, number, path, share.findings)
        share.files += 1
        if size is None:
            continue
        sizes[place] = size
        if checks.level == "content":
            share.read_bytes += size
            _check_content(checks, number, path, share.findings)
        if checks.level != "sizes":
            _check_header(checks, path, share.findings)
    return share


def _size(checks: Checks, number: int, path: str, findings: Findings) -> int | None:
    """A file's size; None if there is nothing more to look at."""
    dataset, manifest = checks.dataset, checks.manifest
    try:
        found = (checks.directory / path).stat()
        if manifest is not None and manifest.made_by == "mlps" and dataset.format == "tfrecord":
            path = index_of(dataset, number, path)
            (checks.directory / path).stat()
    except (FileNotFoundError, NotADirectoryError):
        findings.add("missing", path)
        return None
    except OSError as error:
        raise storage_error(error, "find", checks.directory / path) from error
    if not stat.S_ISREG(found.st_mode):
        findings.add("format", f"{path} is no file")
        return None
    if manifest is not None and found.st_size != manifest.sizes_bytes[number]:
        expected = manifest.sizes_bytes[number]
        findings.add("size", f"{path} has {found.st_size} bytes, not {expected}")
        return None
    return found.st_size


def index_of(dataset: Dataset, number: int, path: str) -> str:
    """Where the index of a file of the format tfrecord is."""
    file = PlannedFile(number=number, path=path, height=0, width=0, size_bytes=0)
    return index_path(dataset, file)


def _check_header(checks: Checks, path: str, findings: Findings) -> None:
    try:
        check_file(checks.dataset, checks.directory / path)
    except EngineError as error:
        findings.add("format", str(error))


def _check_content(checks: Checks, number: int, path: str, findings: Findings) -> None:
    assert checks.manifest is not None, "without checksums there is nothing to compare with"
    if crc32_of(checks.directory / path) != checks.manifest.crc32[number]:
        findings.add("content", path)


def crc32_of(path: Path) -> int:
    """CRC-32 of a file, which is not kept in the page cache; raises EngineError."""
    crc32, buffer = 0, memoryview(bytearray(_READ_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while read := file.readinto(buffer):
                crc32 = zlib.crc32(buffer[:read], crc32)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise storage_error(error, "read", path) from error
    return crc32


# ---------------------------------------------------------------- other files


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """A folder, and what may be in it: names of a pattern, whose index may be of some."""

    path: str
    names: re.Pattern[str]
    split: Split
    remainder: int | None = None

    def holds(self, name: str) -> bool:
        """Whether a name belongs in it."""
        match = self.names.fullmatch(name)
        if match is None:
            return False
        index = int(match[1])
        if index >= (self.split.subfolders if self.remainder is None else self.split.files):
            return False
        return self.remainder is None or index % self.split.subfolders == self.remainder


def _folders(dataset: Dataset) -> list[_Folder]:
    """All folders of the dataset with what belongs into them."""
    folders: list[_Folder] = []
    for split in (dataset.train, dataset.eval):
        width = len(str(split.files))
        prefix = re.escape(dataset.prefix)
        name = rf"{prefix}_([0-9]{{{width}}})_of_{split.files}\.{dataset.format}"
        folders += [
            _Folder(path=path, names=re.compile(name), split=split, remainder=remainder)
            for remainder, path in enumerate(split.directories)
        ]
        if split.subfolders > 1:
            below = re.compile(rf"([0-9]{{{len(str(split.subfolders))}}})")
            folders.append(_Folder(path=split.folder, names=below, split=split))
        if dataset.format == "tfrecord" and split.files:
            # All indexes of a split are in one folder.
            flat = Split(name=split.name, files=split.files)
            path, names = f"index/{split.folder}", re.compile(rf"{name}\.idx")
            folders.append(_Folder(path=path, names=names, split=flat, remainder=0))
    return folders


def _find_extras(checks: Checks, folder: _Folder, findings: Findings) -> None:
    try:
        with os.scandir(checks.directory / folder.path) as entries:
            for entry in entries:
                if not folder.holds(entry.name):
                    findings.add("extra", f"{folder.path}/{entry.name}")
    except (FileNotFoundError, NotADirectoryError):
        return  # whose files are found missing
    except OSError as error:
        raise storage_error(error, "list", checks.directory / folder.path) from error
