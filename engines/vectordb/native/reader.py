"""The reader: scores centroids, reads the extents of the nearest lists, scores what is in them.

Pieces of lists are read ahead by a few threads, past the page cache where that can be. A list is
read for each query that wants it: what a query reads does not depend on those beside it.
"""

from __future__ import annotations

import mmap
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, storage_error
from ...io_core.blocks import aligned_buffer
from ...io_core.files import probe_direct
from ..backend import NO_ID, Ids, IndexSpec, Io, Moved, Scores, Value, Vectors
from ..metrics import Metric
from .header import Index, read_index
from .kmeans import half_squares, normalise
from .layout import LISTS, Bytes, Piece, checksum, piece_bytes, records_in
from .settings import IoChoice, search_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Candidates of one query, best first; equal scores by id."""

    ids: Ids
    scores: Scores

    def best(self, k: int) -> Found:
        """The first k of them."""
        order = np.lexsort((self.ids, -self.scores))[:k]
        return Found(ids=self.ids[order], scores=self.scores[order])

    def beside(self, other: Found) -> Found:
        """Those of both, in no order."""
        return Found(
            ids=np.concatenate((self.ids, other.ids)),
            scores=np.concatenate((self.scores, other.scores)),
        )


_NOTHING = Found(ids=np.empty(0, dtype=np.int64), scores=np.empty(0, dtype=np.float32))


class IvfReader:
    """Searches one index; see `Reader`."""

    def __init__(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """Raises EngineError where there is no such index, or no such way to read it."""
        self._settings = search_of(spec, search)
        self._spec = spec
        self._index: Index = read_index(directory, spec)
        self._half_squares = half_squares(self._index.centroids)
        self._lists = _Lists(
            directory / LISTS,
            self._settings.io,
            self._settings.reads_in_flight,
            piece_bytes(int(self._index.extents.rows.max()), spec.dimension),
        )

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest; see `Reader`. Raises EngineError for data that is damaged."""
        queries = self._checked(queries, k)
        best = [_NOTHING] * len(queries)
        reads = (
            (row, piece)
            for row, chosen in enumerate(self.chosen(queries))
            for number in chosen
            for piece in self._index.extents.pieces_of(int(number))
        )
        with closing(self._lists.read(reads)) as pieces:
            for row, piece, data in pieces:
                found = self._scored(data, piece, queries[row], k)
                best[row] = best[row].beside(found).best(k)
        return _padded(best, k)

    def chosen(self, queries: Vectors) -> Iterator[NDArray[np.int64]]:
        """The lists that each query reads, nearest first."""
        for query in queries:
            # A query's own length makes no difference to the order.
            scores = self._index.centroids @ query
            if self._spec.metric == "L2":
                scores -= self._half_squares
            yield np.argsort(-scores, kind="stable")[: self._settings.nprobe]

    def planned_bytes(self, queries: Vectors) -> int:
        """What searching for these queries will read: all extents of all lists chosen."""
        lengths = self._index.extents.lengths_bytes
        return sum(int(lengths[chosen].sum()) for chosen in self.chosen(self._checked(queries, 1)))

    def moved(self) -> Moved:
        """What searches have asked of storage."""
        return self._lists.moved

    def io(self) -> Io:
        """Direct, or buffered where that was asked or the file system refuses."""
        return self._lists.io

    def close(self) -> None:
        """Ends the threads, lets go of file and buffers."""
        self._lists.close()

    def _checked(self, queries: Vectors, k: int) -> Vectors:
        if queries.ndim != 2 or queries.shape[1] != self._spec.dimension:
            raise EngineError(
                f"queries must have the shape (n, {self._spec.dimension}), got {queries.shape}"
            )
        if k < 1:
            raise EngineError(f"k must be at least 1, got {k}")
        queries = np.array(queries, dtype=np.float32)
        if not np.isfinite(queries).all():
            raise EngineError("a query has components that are not finite")
        if self._spec.metric == "COSINE":
            normalise(queries)
        return queries

    def _scored(self, data: Bytes, piece: Piece, query: Vectors, k: int) -> Found:
        """The nearest k of a piece and all as near as the last of these; its data is used up."""
        if checksum(data) != self._index.sums[piece.number]:
            raise EngineError(
                f"{self._lists.path} is damaged: the {piece.length_bytes} bytes at offset"
                f" {piece.offset_bytes} do not have their checksum"
            )
        records = records_in(data, piece.rows, self._spec.dimension)
        scores = score(records["vector"], query, self._spec.metric)
        if len(scores) <= k:
            return Found(ids=records["id"].copy(), scores=scores)
        last = np.partition(scores, len(scores) - k)[len(scores) - k]
        near = scores >= last
        return Found(ids=records["id"][near], scores=scores[near])


def score(vectors: Vectors, query: Vectors, metric: Metric) -> Scores:
    """Scores of vectors, shape (rows,). For L2 the vectors become their differences."""
    if metric == "L2":
        vectors -= query
        squares: Scores = np.einsum("ij,ij->i", vectors, vectors)
        return -squares
    products: Scores = vectors @ query
    return products


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ahead:
    """A piece that is being read for the query of a row."""

    row: int
    piece: Piece
    buffer: mmap.mmap
    done: Future[int]


class _Lists:
    """The file of lists, open, with buffers and threads that read pieces of it ahead."""

    def __init__(self, path: Path, choice: IoChoice, depth: int, buffer_bytes: int) -> None:
        self.path = path
        self.io = _io_of(path, choice)
        self._read_bytes = self._reads = 0
        flags = os.O_RDONLY | os.O_CLOEXEC
        try:
            direct = os.O_DIRECT if self.io.io_class == "direct" else 0
            self._descriptor = os.open(path, flags | direct)
        except OSError as error:
            raise storage_error(error, "open", path) from error
        self._buffers = [aligned_buffer(buffer_bytes) for _ in range(depth)]
        # One read at a time is the caller's own: a thread would cost more than it hides.
        self._threads = ThreadPoolExecutor(depth, "lists") if depth > 1 else None

    @property
    def moved(self) -> Moved:
        """All that was read."""
        return Moved(read_bytes=self._read_bytes, reads=self._reads)

    def read(
        self, wanted: Iterable[tuple[int, Piece]]
    ) -> Generator[tuple[int, Piece, Bytes], None, None]:
        """Pieces with their data in the order they are wanted in; data holds until the next."""
        waiting: deque[_Ahead] = deque()
        free = deque(self._buffers)
        try:
            for row, piece in wanted:
                if not free:
                    yield self._taken(waiting[0])
                    free.append(waiting.popleft().buffer)
                waiting.append(self._ahead(row, piece, free.popleft()))
            while waiting:
                yield self._taken(waiting[0])
                waiting.popleft()
        finally:
            # Nothing may write into a buffer that the next search uses.
            wait([ahead.done for ahead in waiting])

    def close(self) -> None:
        """Ends threads, then closes all; a second time does nothing."""
        if self._buffers:
            if self._threads is not None:
                self._threads.shutdown()
            os.close(self._descriptor)
            for buffer in self._buffers:
                # The frames of an error that is being handled may hold a view: it goes with them.
                with suppress(BufferError):
                    buffer.close()
            self._buffers = []

    def _ahead(self, row: int, piece: Piece, buffer: mmap.mmap) -> _Ahead:
        into = memoryview(buffer)[: piece.length_bytes]
        if self._threads is None:
            done: Future[int] = Future()
            done.set_result(self._fill(into, piece))
        else:
            done = self._threads.submit(self._fill, into, piece)
        return _Ahead(row=row, piece=piece, buffer=buffer, done=done)

    def _taken(self, ahead: _Ahead) -> tuple[int, Piece, Bytes]:
        self._reads += ahead.done.result()
        self._read_bytes += ahead.piece.length_bytes
        data = np.frombuffer(ahead.buffer, np.uint8, ahead.piece.length_bytes)
        return ahead.row, ahead.piece, data

    def _fill(self, into: memoryview, piece: Piece) -> int:
        """Reads a piece; returns in how many reads."""
        offset, reads = piece.offset_bytes, 0
        while into:
            try:
                moved = os.preadv(self._descriptor, [into], offset)
            except OSError as error:
                raise storage_error(error, "read", self.path, offset) from error
            if moved == 0:
                raise EngineError(f"{self.path} ends at byte {offset}, within a list")
            into, offset, reads = into[moved:], offset + moved, reads + 1
        return reads


def _io_of(path: Path, choice: IoChoice) -> Io:
    if choice == "buffered":
        return Io(io_class="buffered", reason="search.io is buffered")
    _, refused = probe_direct(path)
    if refused is None:
        return Io(io_class="direct")
    if choice == "direct":
        raise EngineError(f"{path} cannot be read past the page cache: {refused}")
    return Io(io_class="buffered", reason=refused)


def _padded(best: list[Found], k: int) -> tuple[Ids, Scores]:
    ids = np.full((len(best), k), NO_ID, dtype=np.int64)
    scores = np.full((len(best), k), -np.inf, dtype=np.float32)
    for row, found in enumerate(best):
        ids[row, : len(found.ids)], scores[row, : len(found.ids)] = found.ids, found.scores
    return ids, scores
