"""The header of an index, which makes it complete, and the table that it vouches for.

The table holds the centroids, the vectors of each list and the checksum of each piece.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...contract import Document
from ...errors import EngineError, storage_error
from ...io_core.files import sync_directory, write_whole
from ...version import mlps_version
from ..backend import IndexSpec, Vectors
from .layout import HEADER, LISTS, OWN_FILES, TABLE, Extents, Sums, extents_of
from .settings import build_of

# Of the files, should their form ever change.
_FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """What a reader keeps of an index: the centroids, extents, and checksums of its pieces."""

    centroids: Vectors
    extents: Extents
    sums: Sums


def is_complete(directory: Path) -> bool:
    """Whether a header is there, be it good or not."""
    return (directory / HEADER).exists()


def write_index(directory: Path, spec: IndexSpec, index: Index) -> None:
    """Writes the table and then the header, each whole and durable; raises EngineError."""
    table = b"".join(array.tobytes() for array in (index.centroids, index.extents.rows, index.sums))
    _write_durable(directory / TABLE, table)
    # The names of table and lists, before there is a header that wants them.
    sync_directory(directory)
    body = {
        "form": _FORM,
        "mlps": mlps_version(),
        **_identity(spec),
        "pieces": len(index.sums),
        "lists_bytes": index.extents.total_bytes,
        "table_sha256": hashlib.sha256(table).hexdigest(),
    }
    document = {**body, "sha256": _sha256(body)}
    write_whole(directory / HEADER, json.dumps(document, indent=1).encode() + b"\n")


def read_index(directory: Path, spec: IndexSpec) -> Index:
    """The index of this spec; raises EngineError if there is none, or another or a damaged one."""
    header = _read_header(directory)
    for key, asked in _identity(spec).items():
        if header[key] != asked:
            raise EngineError(
                f"{directory} holds another index: {key}: found {header[key]}, asked {asked}"
            )
    path = directory / TABLE
    table = _read(path)
    if hashlib.sha256(table).hexdigest() != header["table_sha256"]:
        raise EngineError(f"{path} is damaged: its SHA-256 is not that of {HEADER}")
    index = _parted(table, spec, header["pieces"])
    _check_size(directory / LISTS, header["lists_bytes"])
    return index


def vectors_of(directory: Path) -> int:
    """Vectors of the complete index in a directory."""
    return int(_read_header(directory)["vectors"])


def _write_durable(path: Path, data: bytes) -> None:
    """Writes a file whose name is not yet durable; raises EngineError."""
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, "write", path) from error


def _identity(spec: IndexSpec) -> Document:
    """All that decides the index."""
    return {
        "dimension": spec.dimension,
        "metric": spec.metric,
        "vectors": spec.vectors,
        "seed": spec.seed,
        **{f"index.{key}": value for key, value in asdict(build_of(spec)).items()},
    }


def _read_header(directory: Path) -> Document:
    path = directory / HEADER
    if not path.exists():
        parts = [name for name in OWN_FILES if (directory / name).exists()]
        if parts:
            raise EngineError(
                f"{directory} holds a part of an index ({', '.join(parts)}, no {HEADER}):"
                " its build did not end; build it anew"
            )
        raise EngineError(f"{directory} holds no index: there is no {HEADER}")
    try:
        document = json.loads(_read(path))
        sha256 = document.pop("sha256")
        good = sha256 == _sha256(document)
    except (ValueError, KeyError, AttributeError, TypeError):
        good = False
    if not good:
        raise EngineError(f"{path} is damaged: its checksum is wrong")
    if document["form"] != _FORM:
        raise EngineError(
            f"{path} is of form {document['form']}, this version of mlps reads form {_FORM}"
        )
    found: Document = document
    return found


def _parted(table: bytes, spec: IndexSpec, pieces: int) -> Index:
    nlist = build_of(spec).nlist
    centroids = np.frombuffer(table, dtype="<f4", count=nlist * spec.dimension)
    rows = np.frombuffer(table, dtype="<i8", count=nlist, offset=centroids.nbytes)
    sums = np.frombuffer(table, dtype="<u4", count=pieces, offset=centroids.nbytes + rows.nbytes)
    return Index(
        centroids=centroids.reshape(nlist, spec.dimension),
        extents=extents_of(rows, spec.dimension),
        sums=sums,
    )


def _check_size(path: Path, size_bytes: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise storage_error(error, "find", path) from error
    if found != size_bytes:
        raise EngineError(f"{path} is damaged: it has {found} bytes, not {size_bytes}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error, "read", path) from error


def _sha256(document: Document) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
