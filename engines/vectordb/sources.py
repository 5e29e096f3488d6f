"""Vectors of the user's own files: fvecs, fbin, npy, parquet, and hdf5 as ann-benchmarks has it.

Files are opened when rows are asked for, and read in pieces; ids are the rows' numbers. The formats
are told by the ends of names.
"""

from __future__ import annotations

import hashlib
import os
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..contract import Document
from ..errors import EngineError, storage_error
from ..optional import VECTORDB, Foreign, library
from .metrics import Metric
from .truth import Ids, Truth, Vectors

Format = Literal["fvecs", "fbin", "npy", "parquet", "hdf5"]

# What is read at a time.
_PIECE_BYTES = 8 * 2**20
_PIECE_ROWS = 4096
# The content that the fingerprint looks at: so many pieces, evenly over the file.
_SAMPLES = 64
_SAMPLE_BYTES = 64 * 2**10
_INT = np.dtype("<i4")
_FLOAT = np.dtype("<f4")
# What ann-benchmarks calls the metrics.
_DISTANCES: dict[str, Metric] = {"angular": "COSINE", "euclidean": "L2", "dot": "IP", "ip": "IP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file of vectors. `name` is the column in parquet, the dataset in hdf5, else empty.

    In files whose rows lie one after the other they begin at `offset_bytes`, have the type `dtype`,
    and `row_bytes` between their starts.
    """

    path: Path
    format: Format
    name: str
    vectors: int
    dimension: int
    offset_bytes: int = 0
    row_bytes: int = 0
    dtype: str = ""


def open_source(path: Path, name: str = "") -> Source:
    """What a file holds, by its header; raises EngineError if it is damaged or no such file.

    In hdf5 the name is `train` unless given; in parquet that of the only column with lists.
    """
    ending = path.suffix.removeprefix(".")
    with _named_errors(path):
        for kind in get_args(Format):
            if kind == ending:
                return _READERS[kind](path, name)
    known = ", ".join(f".{kind}" for kind in get_args(Format))
    raise EngineError(f"{path} is no file of vectors by its name: known are {known}")


def rows(source: Source, first: int, count: int) -> Iterator[tuple[Ids, Vectors]]:
    """Ids from the first on and their vectors, some MiB at a time; raises EngineError."""
    if not 0 <= first <= first + count <= source.vectors:
        raise ValueError(f"ids {first} to {first + count} are not in {source.vectors} vectors")
    with _named_errors(source.path):
        at = first
        for vectors in _pieces(source, first, first + count):
            ids = np.arange(at, at + len(vectors), dtype=np.int64)
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                wrong = ids[finite.argmin()]
                raise EngineError(
                    f"{source.path}: vector {wrong} has components that are not finite"
                )
            yield ids, vectors
            at += len(vectors)
        if at != first + count:
            raise EngineError(f"{source.path} ends after {at} of {source.vectors} vectors")


def fingerprint(source: Source) -> Document:
    """What tells this content from other: shape, size, and SHA-256 of a sample of its bytes."""
    digest = hashlib.sha256()
    with _named_errors(source.path), source.path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        last = max(size_bytes - _SAMPLE_BYTES, 0)
        for number in range(_SAMPLES):
            file.seek(last * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return {
        "format": source.format,
        "name": source.name,
        "vectors": source.vectors,
        "dimension": source.dimension,
        "bytes": size_bytes,
        "sample_sha256": digest.hexdigest(),
    }


def published_truth(path: Path) -> tuple[Metric, Truth]:
    """The metric, and the nearest of each query (`test`), that a file of ann-benchmarks brings.

    Distances become scores; raises EngineError.
    """
    with _named_errors(path), _hdf5(path) as file:
        distance = str(file.attrs.get("distance", "nothing"))
        if distance not in _DISTANCES:
            known = ", ".join(_DISTANCES)
            raise EngineError(f"{path}: its distance is {distance}, known are {known}")
        missing = [name for name in ("train", "neighbors", "distances") if name not in file]
        if missing:
            raise EngineError(f"{path} has no dataset {missing[0]}")
        vectors = int(file["train"].shape[0])
        ids = np.asarray(file["neighbors"][:], dtype=np.int64)
        distances = np.asarray(file["distances"][:], dtype=np.float64)
    if ids.shape != distances.shape or ids.ndim != 2:
        raise EngineError(f"{path}: neighbors and distances have different shapes")
    if ids.min(initial=0) < 0 or ids.max(initial=0) >= vectors:
        raise EngineError(f"{path}: neighbors names ids that are none of its {vectors} vectors")
    metric = _DISTANCES[distance]
    if metric == "COSINE":
        scores = 1 - distances
    else:
        scores = -np.square(distances) if metric == "L2" else -distances
    return metric, Truth(ids=ids, scores=scores, covered=((0, vectors),))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Errors of reading, and those by which libraries say that a file is damaged, as our own."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, "read", path) from error
    except (ValueError, KeyError) as error:
        # Those of pyarrow are such ones too.
        raise EngineError(f"{path} is damaged, or no such file: {error}") from error


# ---------------------------------------------------------------- rows one after the other


def _fvecs(path: Path, name: str) -> Source:
    """Each row begins with its dimension."""
    _no_name(path, name)
    with path.open("rb") as file:
        dimension = _int(file, _INT)
    row_bytes = 4 + dimension * 4
    size_bytes = path.stat().st_size
    if dimension < 1 or size_bytes % row_bytes:
        raise ValueError(f"{size_bytes} bytes are no rows of {dimension} dimensions")
    return Source(
        path=path,
        format="fvecs",
        name="",
        vectors=size_bytes // row_bytes,
        dimension=dimension,
        row_bytes=row_bytes,
        dtype="<f4",
    )


def _fbin(path: Path, name: str) -> Source:
    """The file begins with the number of vectors and their dimension."""
    _no_name(path, name)
    with path.open("rb") as file:
        vectors, dimension = _int(file, np.dtype("<u4")), _int(file, np.dtype("<u4"))
    size_bytes = path.stat().st_size
    if vectors < 1 or dimension < 1 or size_bytes != 8 + vectors * dimension * 4:
        raise ValueError(f"{size_bytes} bytes are not {vectors} vectors of {dimension} dimensions")
    return Source(
        path=path,
        format="fbin",
        name="",
        vectors=vectors,
        dimension=dimension,
        offset_bytes=8,
        row_bytes=dimension * 4,
        dtype="<f4",
    )


def _npy(path: Path, name: str) -> Source:
    _no_name(path, name)
    with path.open("rb") as file:
        shape, fortran, dtype = _npy_header(file)
        offset_bytes = file.tell()
    if len(shape) != 2 or min(shape) < 1 or dtype.kind != "f" or fortran:
        order = " in columns" if fortran else ""
        raise ValueError(f"an array of {dtype} with shape {shape}{order} is no rows of floats")
    row_bytes = shape[1] * dtype.itemsize
    size_bytes = path.stat().st_size
    if size_bytes != offset_bytes + shape[0] * row_bytes:
        raise ValueError(f"{size_bytes} bytes are not what its header says")
    return Source(
        path=path,
        format="npy",
        name="",
        vectors=shape[0],
        dimension=shape[1],
        offset_bytes=offset_bytes,
        row_bytes=row_bytes,
        dtype=dtype.str,
    )


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of numpy's header")
    try:
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except (SyntaxError, TypeError, tokenize.TokenError) as error:
        # A header is a literal of Python, which numpy has Python read.
        raise ValueError(f"its header is damaged: {error}") from error


def _int(file: IO[bytes], dtype: np.dtype[np.generic]) -> int:
    data = file.read(dtype.itemsize)
    if len(data) < dtype.itemsize:
        raise ValueError("it ends in its header")
    return int(np.frombuffer(data, dtype=dtype)[0])


def _no_name(path: Path, name: str) -> None:
    if name:
        raise EngineError(f"{path} has no columns or datasets, so none by the name {name}")


def _piece_rows(row_bytes: int) -> int:
    return min(max(_PIECE_BYTES // row_bytes, 1), _PIECE_ROWS)


def _plain_pieces(source: Source, first: int, end: int) -> Iterator[Vectors]:
    step = _piece_rows(source.row_bytes)
    with source.path.open("rb") as file:
        file.seek(source.offset_bytes + first * source.row_bytes)
        for begin in range(first, end, step):
            some = min(step, end - begin)
            data = file.read(some * source.row_bytes)
            whole = len(data) // source.row_bytes
            content = np.frombuffer(data, np.uint8, whole * source.row_bytes)
            yield _decoded(source, content.reshape(whole, source.row_bytes), begin)
            if whole < some:
                return


def _decoded(source: Source, data: NDArray[np.uint8], first: int) -> Vectors:
    if source.format == "fvecs":
        dimensions = data[:, :4].copy().view(_INT)[:, 0]
        wrong = dimensions != source.dimension
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"vector {first + at} has {dimensions[at]} dimensions, not {source.dimension}"
            )
        data = data[:, 4:].copy()
    return _single(data.view(source.dtype))


def _single(numbers: NDArray[np.floating]) -> Vectors:
    """The same in float32; what does not fit becomes infinite, which is refused with its id."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(numbers, dtype=np.float32)


# ---------------------------------------------------------------- parquet


def _parquet(path: Path, name: str) -> Source:
    with _parquet_file(path) as file:
        column = name or _only_list(file.schema_arrow)
        if column not in file.schema_arrow.names:
            raise ValueError(f"it has no column {column}")
        vectors = int(file.metadata.num_rows)
        dimension = 0
        for batch in file.iter_batches(batch_size=1, columns=[column]):
            dimension = len(batch.column(0)[0].values or ())
            break
    if not vectors or not dimension:
        raise ValueError(f"its column {column} has no vectors")
    return Source(path=path, format="parquet", name=column, vectors=vectors, dimension=dimension)


@contextmanager
def _parquet_file(path: Path) -> Iterator[Foreign]:
    parquet = library("pyarrow.parquet", "a file in parquet", VECTORDB)
    with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
        yield file


def _only_list(schema: Foreign) -> str:
    types = library("pyarrow", "a file in parquet", VECTORDB).types
    lists = [field.name for field in schema if _is_list(types, field.type)]
    if len(lists) != 1:
        raise ValueError(f"columns with lists are {lists}: name one")
    return str(lists[0])


def _is_list(types: Foreign, kind: Foreign) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _parquet_pieces(source: Source, first: int, end: int) -> Iterator[Vectors]:
    with _parquet_file(source.path) as file:
        at, groups = 0, []
        for number in range(file.metadata.num_row_groups):
            below = at + file.metadata.row_group(number).num_rows
            if at < end and below > first:
                groups.append((number, at))
            at = below
        if not groups:
            return
        at = groups[0][1]
        step = _piece_rows(source.dimension * 4)
        numbers = [number for number, _ in groups]
        for batch in file.iter_batches(batch_size=step, row_groups=numbers, columns=[source.name]):
            begin, stop = max(first - at, 0), min(end - at, len(batch))
            if begin < stop:
                column = batch.column(0).slice(begin, stop - begin)
                yield _list_vectors(source, column, at + begin)
            at += len(batch)


def _list_vectors(source: Source, column: Foreign, first: int) -> Vectors:
    """A column of lists as rows; those of one length only."""
    lengths = library("pyarrow.compute", "a file in parquet", VECTORDB).list_value_length(column)
    found = np.asarray(lengths.fill_null(-1).to_numpy(zero_copy_only=False))
    wrong = found != source.dimension
    if wrong.any():
        at = int(wrong.argmax())
        has = "is null" if found[at] < 0 else f"has {found[at]} dimensions"
        raise ValueError(f"vector {first + at} {has}, not {source.dimension}")
    flat = column.flatten()
    if flat.null_count:
        raise ValueError(f"a vector from {first} on has components that are null")
    return _single(flat.to_numpy(zero_copy_only=False).reshape(len(column), source.dimension))


# ---------------------------------------------------------------- hdf5


@contextmanager
def _hdf5(path: Path) -> Iterator[Foreign]:
    with library("h5py", "a file in hdf5", VECTORDB).File(path, "r") as file:
        yield file


def _hdf5_source(path: Path, name: str) -> Source:
    name = name or "train"
    with _hdf5(path) as file:
        if name not in file:
            raise ValueError(f"it has no dataset {name}")
        shape, dtype = file[name].shape, file[name].dtype
    if len(shape) != 2 or min(shape) < 1 or dtype.kind != "f":
        raise ValueError(f"{name} is an array of {dtype} with shape {shape}, no rows of floats")
    return Source(
        path=path, format="hdf5", name=name, vectors=int(shape[0]), dimension=int(shape[1])
    )


def _hdf5_pieces(source: Source, first: int, end: int) -> Iterator[Vectors]:
    step = _piece_rows(source.dimension * 8)
    with _hdf5(source.path) as file:
        data = file[source.name]
        for begin in range(first, end, step):
            yield _single(data[begin : min(begin + step, end)])


# ---------------------------------------------------------------- by format

_READERS = {
    "fvecs": _fvecs,
    "fbin": _fbin,
    "npy": _npy,
    "parquet": _parquet,
    "hdf5": _hdf5_source,
}


def _pieces(source: Source, first: int, end: int) -> Iterator[Vectors]:
    if source.format == "parquet":
        return _parquet_pieces(source, first, end)
    if source.format == "hdf5":
        return _hdf5_pieces(source, first, end)
    return _plain_pieces(source, first, end)
