"""The manifest of a dataset: what it is, and the size and checksum of each of its files.

A small JSON document says which dataset it is; the table beside it has twelve bytes for each file,
in the order of their numbers. Both are the same however the files came to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..contract import Document
from ..errors import EngineError, storage_error
from ..io_core.files import write_whole
from ..version import mlps_version
from .dataset import Dataset
from .files import Sizes

MANIFEST = "MLPS_DATASET.json"
TABLE = "MLPS_DATASET.table"
# The directory of what is known of a dataset until it is complete.
GENERATING = "MLPS_GENERATING"
# Of the manifests themselves, should their form ever change.
_FORM = 1
_ROW = np.dtype([("size_bytes", "<u8"), ("crc32", "<u4")])
# Other programs draw their own random numbers.
_OURS_ALONE = frozenset({"seed"})
_ABSENT = "nothing"

MadeBy = Literal["mlps", "other"]
Checksums = NDArray[np.uint32]
Identity = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What all files of a dataset are. Arrays have the shape (files,).

    `crc32` is 0 for files that others have made. `sha256` is that of the table.
    """

    made_by: MadeBy
    train_files: int
    eval_files: int
    sizes_bytes: Sizes
    crc32: Checksums
    sha256: str

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return int(self.sizes_bytes.sum())


def identity_of(dataset: Dataset) -> Identity:
    """All that decides the bytes of a dataset, by the keys of the job below `dataset`."""
    identity: Identity = {
        "format": dataset.format,
        "train.files": dataset.train.files,
        "train.subfolders": dataset.train.subfolders,
        "eval.files": dataset.eval.files,
        "eval.subfolders": dataset.eval.subfolders,
        "samples_per_file": dataset.samples_per_file,
        "record_bytes": dataset.record_bytes,
        "record_bytes_stdev": dataset.record_bytes_stdev,
        "prefix": dataset.prefix,
        "seed": dataset.seed,
    }
    if dataset.format == "jpeg":
        identity["jpeg_encoding"] = dataset.jpeg_encoding
    if dataset.format == "parquet":
        identity["parquet.compression"] = dataset.compression
        identity["parquet.row_group_rows"] = dataset.row_group_rows
        identity["parquet.compat_dictionary"] = dataset.compat_dictionary
        for number, column in enumerate(dataset.columns):
            shape = f"{column.name}: {column.size} x {column.dtype}"
            identity[f"parquet.columns[{number}]"] = shape
    return identity


def difference(found: Mapping[str, object], dataset: Dataset, made_by: MadeBy) -> str | None:
    """In which key another dataset differs from this one; None where it is the same."""
    asked = identity_of(dataset)
    for key in dict.fromkeys((*asked, *found)):
        if made_by == "other" and key in _OURS_ALONE:
            continue
        there, wanted = found.get(key, _ABSENT), asked.get(key, _ABSENT)
        if there != wanted:
            return f"dataset.{key}: found {_shown(there)}, asked {_shown(wanted)}"
    return None


def _shown(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def manifest_of(
    dataset: Dataset, made_by: MadeBy, sizes_bytes: Sizes, crc32: Checksums
) -> Manifest:
    """The manifest of files with these sizes and checksums, shape (files,)."""
    return Manifest(
        made_by=made_by,
        train_files=dataset.train.files,
        eval_files=dataset.eval.files,
        sizes_bytes=sizes_bytes,
        crc32=crc32,
        sha256=hashlib.sha256(_table(sizes_bytes, crc32)).hexdigest(),
    )


def write_manifest(directory: Path, dataset: Dataset, manifest: Manifest) -> None:
    """Puts the table and then the document in place, each whole; raises EngineError."""
    document = {
        "form": _FORM,
        "made_by": manifest.made_by,
        "mlps": mlps_version(),
        "dataset": identity_of(dataset),
        "bytes": manifest.total_bytes,
        "table": {"name": TABLE, "sha256": manifest.sha256},
    }
    write_whole(directory / TABLE, _table(manifest.sizes_bytes, manifest.crc32))
    write_whole(directory / MANIFEST, json.dumps(document, indent=1).encode() + b"\n")


def read_manifest(directory: Path, dataset: Dataset) -> Manifest:
    """The manifest of this dataset; raises EngineError if there is none, or that of another."""
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise EngineError(_why_none(directory)) from error
    except OSError as error:
        raise storage_error(error, "read", path) from error
    made_by, sha256 = _document(path, data, dataset)
    rows = _rows(directory / TABLE, sha256, dataset.files)
    return Manifest(
        made_by=made_by,
        train_files=dataset.train.files,
        eval_files=dataset.eval.files,
        sizes_bytes=rows["size_bytes"].astype(np.int64),
        crc32=rows["crc32"].astype(np.uint32),
        sha256=sha256,
    )


def _why_none(directory: Path) -> str:
    if not directory.is_dir():
        return f"there is no dataset: {directory} does not exist"
    if (directory / GENERATING).is_dir():
        return (
            f"the dataset in {directory} is not complete: its generation was stopped, and goes on"
            " with dataset.generate=true"
        )
    return f"{directory} has no file {MANIFEST}: the stage generate makes it"


def _document(path: Path, data: bytes, dataset: Dataset) -> tuple[MadeBy, str]:
    """Who made the dataset, and the SHA-256 of its table; raises EngineError."""
    try:
        document: Document = json.loads(data)
        form, identity = document["form"], dict(document["dataset"])
        made_by, sha256 = document["made_by"], str(document["table"]["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{path} is no manifest of a dataset: {error!r}") from error
    if form != _FORM or made_by not in get_args(MadeBy):
        raise EngineError(f"{path} was written by another version of mlps, {document.get('mlps')}")
    differs = difference(identity, dataset, made_by)
    if differs is not None:
        raise EngineError(f"{path.parent} holds another dataset ({differs})")
    return made_by, sha256


def _rows(path: Path, sha256: str, files: int) -> NDArray[np.void]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise storage_error(error, "read", path) from error
    if hashlib.sha256(data).hexdigest() != sha256 or len(data) != files * _ROW.itemsize:
        raise EngineError(f"{path} is not the table that the manifest beside it was written with")
    return np.frombuffer(data, dtype=_ROW)


def _table(sizes_bytes: Sizes, crc32: Checksums) -> bytes:
    rows = np.empty(len(sizes_bytes), dtype=_ROW)
    rows["size_bytes"], rows["crc32"] = sizes_bytes, crc32
    return rows.tobytes()
