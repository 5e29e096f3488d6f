"""The writer: takes vectors, then puts each into the list of its nearest centroid.

Two passes over the vectors, which are never all in memory: one finds the list of each, one writes
them there. Then the lists are read once for their checksums.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EngineError, storage_error
from ...io_core.directory import make_directory, remove_files
from ...io_core.files import reserve
from ..adapter import check_rows
from ..backend import Alive, Ids, IndexSpec, Vectors
from .header import Index, is_complete, vectors_of, write_index
from .kmeans import Labels, centroids_of, nearest, normalise, sample_of
from .layout import (
    HEADER,
    LISTS,
    OWN_FILES,
    SPILL,
    Extents,
    Sums,
    checksum,
    extents_of,
    piece_bytes,
    record_of,
)
from .settings import build_of, tile_rows
from .spill import Spill, write_all


class _EndedError(Exception):
    """The caller has ended the build."""


class IvfWriter:
    """Makes one index; see `Writer`."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Removes what is left of a build that did not end; raises EngineError beside an index."""
        self._directory, self._spec = directory, spec
        self._build = build_of(spec)
        self._spill: Spill | None = None
        make_directory(directory)
        if is_complete(directory):
            raise EngineError(f"{directory} holds an index already: drop it first")
        # Whoever has the spill is the writer: before that nothing is touched.
        self._spill = Spill(directory / SPILL, spec.vectors, spec.dimension)
        if is_complete(directory):
            remove_files(directory, [SPILL])
            self.close()
            raise EngineError(f"another writer has just completed the index in {directory}")
        remove_files(directory, [name for name in OWN_FILES if name != SPILL])

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors; see `Writer`. For COSINE they are kept with length 1."""
        ids, vectors = check_rows(ids, vectors, self._spec)
        if self._spec.metric == "COSINE":
            vectors = vectors.copy()
            normalise(vectors)
        return self._inserted().insert(ids, vectors)

    def flush(self) -> None:
        """Makes durable all that was inserted."""
        if self._spill is not None:
            self._spill.flush()

    def build(self, alive: Alive) -> bool:
        """Makes the index complete; see `Writer`. Raises EngineError if vectors are missing."""
        spill = self._inserted()
        missing = spill.first_missing()
        if missing is not None:
            raise EngineError(
                f"{spill.count()} of {self._spec.vectors} vectors were inserted:"
                f" there is no vector {missing}"
            )
        progress = _Progress(alive, self._work())
        try:
            centroids = self._centroids(spill, progress)
            labels = self._labels(spill, centroids, progress)
            rows = np.bincount(labels, minlength=self._build.nlist).astype(np.int64)
            extents = extents_of(rows, self._spec.dimension)
            sums = self._lists(spill, labels, extents, progress)
        except _EndedError:
            return False
        write_index(
            self._directory, self._spec, Index(centroids=centroids, extents=extents, sums=sums)
        )
        remove_files(self._directory, [SPILL])
        self.close()
        return True

    def compact(self) -> None:
        """Nothing: lists are written whole, and the build has removed its own file."""

    def count(self) -> int:
        """Vectors stored: those inserted, or those of the index once it is complete."""
        return vectors_of(self._directory) if self._spill is None else self._spill.count()

    def close(self) -> None:
        """Lets go of the file of inserted vectors."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _inserted(self) -> Spill:
        if self._spill is None:
            raise EngineError(f"the writer of {self._directory} is closed, or its index complete")
        return self._spill

    def _work(self) -> int:
        """Vectors that a build looks at, each as often as it does."""
        return self._build.kmeans_rounds * self._build.sample + 3 * self._spec.vectors

    def _centroids(self, spill: Spill, progress: _Progress) -> Vectors:
        build, spec = self._build, self._spec
        sample = spill.read_some(sample_of(spec.vectors, build.sample, spec.seed))
        return centroids_of(
            sample,
            build.nlist,
            build.kmeans_rounds,
            spec.seed,
            unit=spec.metric == "COSINE",
            looked=progress.did,
        )

    def _labels(self, spill: Spill, centroids: Vectors, progress: _Progress) -> Labels:
        """The list of each vector, shape (vectors,)."""
        labels = np.empty(self._spec.vectors, dtype=np.int32)
        tile = tile_rows(self._spec.dimension, self._build.nlist)
        for first in range(0, len(labels), tile):
            count = min(tile, len(labels) - first)
            labels[first : first + count], _ = nearest(spill.read(first, count), centroids)
            progress.did(count)
        return labels

    def _lists(self, spill: Spill, labels: Labels, extents: Extents, progress: _Progress) -> Sums:
        """Writes all lists durably; returns the checksums of their pieces."""
        path = self._directory / LISTS
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o644)
            try:
                reserve(descriptor, extents.total_bytes)
                file = _File(path=path, descriptor=descriptor)
                _scatter(spill, labels, extents, file, progress)
                os.fsync(descriptor)
                return _sums(extents, file, progress)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, "write", path) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    path: Path
    descriptor: int


class _Progress:
    """Counts vectors looked at and asks whether to go on."""

    def __init__(self, alive: Alive, total: int) -> None:
        self._alive, self._total = alive, total
        self._done = 0

    def did(self, count: int) -> None:
        """Raises _EndedError if the caller wants no more."""
        self._done += count
        if not self._alive(self._done, self._total):
            raise _EndedError


def _scatter(
    spill: Spill, labels: Labels, extents: Extents, file: _File, progress: _Progress
) -> None:
    """Writes each vector behind those of its list that have lower ids."""
    record = record_of(spill.dimension)
    ends = extents.offsets_bytes.copy()
    tile = tile_rows(spill.dimension, len(ends))
    for first in range(0, len(labels), tile):
        part = labels[first : first + tile]
        order = np.argsort(part, kind="stable")
        records = np.empty(len(part), dtype=record)
        records["id"] = first + order
        records["vector"] = spill.read(first, len(part))[order]
        lists, starts = np.unique(part[order], return_index=True)
        for number, start, end in zip(
            lists.tolist(), starts.tolist(), [*starts.tolist()[1:], len(part)], strict=True
        ):
            write_all(file.descriptor, records[start:end], int(ends[number]), file.path)
            ends[number] += (end - start) * record.itemsize
        progress.did(len(part))


def _sums(extents: Extents, file: _File, progress: _Progress) -> Sums:
    """The checksums of all pieces as they lie in the file, shape (pieces,)."""
    sums = np.zeros(extents.pieces, dtype="<u4")
    buffer = np.empty(piece_bytes(int(extents.rows.max()), extents.dimension), dtype=np.uint8)
    for number in range(len(extents.rows)):
        for piece in extents.pieces_of(number):
            data = buffer[: piece.length_bytes]
            if os.preadv(file.descriptor, [data.data], piece.offset_bytes) != len(data):
                raise EngineError(f"{file.path} is shorter than what was written: see {HEADER}")
            sums[piece.number] = checksum(data)
            progress.did(piece.rows)
    return sums
