"""The exact nearest vectors of every query, found in one pass over all vectors, and their file.

Products of float32 matrices leave out what certainly is not among the nearest; the rest is scored
in float64, in an order of additions that is the same on every machine. Ties go to the lower id. No
server takes part, so the truth cannot be what a server lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import Document
from ..errors import EngineError, storage_error
from ..io_core.files import write_whole
from .metrics import Metric

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Range = tuple[int, int]

_MAGIC = b"mlps truth\n"
# Of the file, should its form ever change.
_FORM = 1
_QUERIES_AT_ONCE = 1024
_LEAST_ROWS = 16
# Numbers in what is scored in float64 at a time.
_SCORED_NUMBERS = 2**15
_SMALLEST = 2.0**-126
_LARGEST = 2.0**126


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """The nearest of each query, nearest first.

    ids and scores have the shape (queries, depth); where there are fewer vectors, ids end with -1
    and scores with -inf. `covered` are the ranges of ids, ends excluded, that were looked at.
    """

    ids: Ids
    scores: Floats
    covered: tuple[Range, ...]

    @property
    def vectors(self) -> int:
        """How many were looked at."""
        return sum(end - first for first, end in self.covered)


def exact(
    blocks: Iterable[tuple[Ids, Vectors]],
    queries: Vectors,
    metric: Metric,
    depth: int,
    *,
    tile_bytes: int,
    alive: Callable[[int], bool],
) -> Truth:
    """The `depth` nearest of each query among the vectors of all blocks, in whatever order.

    Scores of float32 take `tile_bytes` at a time. `alive` is told after each block how many vectors
    were looked at; when it says no, the rest is left out, and so is not covered. Raises EngineError
    for vectors that are not finite, too long for float32, of another dimension, or given twice.
    """
    groups = [
        _Group(queries[first : first + _QUERIES_AT_ONCE], metric, depth, tile_bytes)
        for first in range(0, len(queries), _QUERIES_AT_ONCE)
    ]
    ranges: list[Range] = []
    done = 0
    for ids, vectors in blocks:
        if vectors.shape != (len(ids), queries.shape[1]):
            raise EngineError(
                f"vectors of shape {vectors.shape} for {len(ids)} ids do not fit queries of"
                f" {queries.shape[1]} dimensions"
            )
        lengths = lengths_of(vectors)
        _check_finite(lengths, ids, "vector")
        for group in groups:
            group.look_at(ids, vectors, lengths)
        ranges = _joined([*ranges, *_ranges(ids)])
        done += len(ids)
        if not alive(done):
            break
    tops = [group.top() for group in groups]
    return Truth(
        ids=np.concatenate([top_ids for top_ids, _ in tops]),
        scores=np.concatenate([scores for _, scores in tops]),
        covered=tuple(ranges),
    )


def merge(truths: Sequence[Truth]) -> Truth:
    """The truth of all vectors from those of parts of them; raises EngineError if parts overlap."""
    depth = truths[0].ids.shape[1]
    if any(truth.ids.shape != truths[0].ids.shape for truth in truths):
        raise EngineError("truths of other queries or of another depth cannot be merged")
    ids = np.concatenate([truth.ids for truth in truths], axis=1)
    scores = np.concatenate([truth.scores for truth in truths], axis=1)
    # What is missing is -inf, and its id comes after all others.
    order = np.lexsort((np.where(ids < 0, np.iinfo(np.int64).max, ids), -scores))[:, :depth]
    return Truth(
        ids=np.take_along_axis(ids, order, axis=1),
        scores=np.take_along_axis(scores, order, axis=1),
        covered=tuple(_joined([part for truth in truths for part in truth.covered])),
    )


# ---------------------------------------------------------------- scores


def scores_of(
    vectors: Vectors, queries: Vectors, metric: Metric, lengths: Floats | None = None
) -> Floats:
    """The score of each vector for the query in the same row, in float64; shape (rows,).

    `lengths` are the products of the lengths of both, where they are known already.
    """
    wide, others = vectors.astype(np.float64), queries.astype(np.float64)
    if metric == "L2":
        wide -= others
        return -_sums(np.square(wide, out=wide))
    products = _sums(np.multiply(wide, others, out=wide))
    if metric == "IP":
        return products
    if lengths is None:
        lengths = lengths_of(vectors) * lengths_of(queries)
    return np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)


def _sums(numbers: Floats) -> Floats:
    """Sums of rows, whose order of additions follows from the width alone; uses up its input."""
    width = numbers.shape[1]
    while width > 1:
        half = (width + 1) // 2
        numbers[:, : width - half] += numbers[:, half:width]
        width = half
    return numbers[:, 0].copy()


def lengths_of(vectors: Vectors) -> Floats:
    """The length of each vector, shape (rows,)."""
    lengths = np.empty(len(vectors))
    step = max(_SCORED_NUMBERS // vectors.shape[1], 1)
    for first in range(0, len(vectors), step):
        part = vectors[first : first + step].astype(np.float64)
        lengths[first : first + step] = np.sqrt(_sums(np.square(part, out=part)))
    return lengths


def _check_finite(lengths: Floats, ids: Ids, what: str) -> None:
    wrong = ~np.isfinite(lengths)
    if wrong.any():
        raise EngineError(f"{what} {ids[wrong.argmax()]} has components that are not finite")


# ---------------------------------------------------------------- the search


class _Group:
    """Some queries, and the nearest of each that were seen so far."""

    def __init__(self, queries: Vectors, metric: Metric, depth: int, tile_bytes: int) -> None:
        self._queries = queries
        self._metric = metric
        self._depth = depth
        self._lengths = lengths_of(queries)
        _check_finite(self._lengths, np.arange(len(queries)), "query")
        # A score, and whether it is kept.
        self._most_rows = max(tile_bytes // (5 * len(queries)), _LEAST_ROWS)
        self._rough = _rough_queries(queries, self._lengths, metric)
        self._seen = 0
        # Candidates: number of the query, id, score. The first of them are in order.
        self._numbers: Ids = np.zeros(0, dtype=np.int64)
        self._ids: Ids = np.zeros(0, dtype=np.int64)
        self._scores: Floats = np.zeros(0)
        self._found: list[tuple[Ids, Ids, Floats]] = []
        self._least: Floats = np.full(len(queries), -np.inf)

    def look_at(self, ids: Ids, vectors: Vectors, lengths: Floats) -> None:
        """Takes in vectors that come near enough to a query."""
        first = 0
        while first < len(ids):
            # As many as were seen before: so the nearest so far leave most of them out.
            some = min(self._most_rows, max(self._seen, self._depth))
            part = slice(first, first + some)
            self._tile(ids[part], vectors[part], lengths[part])
            first += some

    def top(self) -> tuple[Ids, Floats]:
        """Ids and scores of the nearest, shape (queries, depth)."""
        self._prune()
        ids = np.full((len(self._queries), self._depth), -1, dtype=np.int64)
        scores = np.full((len(self._queries), self._depth), -np.inf)
        ranks = _ranks(self._numbers, len(self._queries))
        ids[self._numbers, ranks] = self._ids
        scores[self._numbers, ranks] = self._scores
        return ids, scores

    def _tile(self, ids: Ids, vectors: Vectors, lengths: Floats) -> None:
        bounds = _bounds(self._least, self._lengths, lengths, vectors.shape[1], self._metric)
        rough = self._rough @ _rough_vectors(vectors, lengths, self._metric).T
        near = np.flatnonzero(rough >= bounds[:, np.newaxis])
        del rough
        numbers, columns = np.divmod(near, len(ids))
        step = max(_SCORED_NUMBERS // vectors.shape[1], 1)
        for first in range(0, len(near), step):
            some, where = numbers[first : first + step], columns[first : first + step]
            both = self._lengths[some] * lengths[where]
            scores = scores_of(vectors[where], self._queries[some], self._metric, both)
            kept = scores >= self._least[some]
            self._found.append((some[kept], ids[where[kept]], scores[kept]))
        self._seen += len(ids)
        waiting = sum(len(found) for found, _, _ in self._found)
        if waiting >= len(self._queries) * self._depth // 2:
            self._prune()

    def _prune(self) -> None:
        """Leaves the nearest `depth` of each query, and learns what a score must reach."""
        found = [(self._numbers, self._ids, self._scores), *self._found]
        numbers = np.concatenate([part[0] for part in found])
        ids = np.concatenate([part[1] for part in found])
        scores = np.concatenate([part[2] for part in found])
        order = np.lexsort((ids, -scores, numbers))
        order = order[_ranks(numbers[order], len(self._queries)) < self._depth]
        self._numbers, self._ids, self._scores = numbers[order], ids[order], scores[order]
        self._found = []
        counts = np.bincount(self._numbers, minlength=len(self._queries))
        full = counts == self._depth
        self._least[full] = self._scores[np.cumsum(counts)[full] - 1]


def _ranks(numbers: Ids, count: int) -> Ids:
    """The place of each entry among those of its number; numbers are in order."""
    begins = np.searchsorted(numbers, np.arange(count))
    places: Ids = np.arange(len(numbers)) - begins[numbers]
    return places


def _rough_queries(queries: Vectors, lengths: Floats, metric: Metric) -> Vectors:
    """Queries as the matrix product takes them."""
    if metric == "L2":
        return np.hstack([queries, np.ones((len(queries), 1), dtype=np.float32)])
    return _unit(queries, lengths) if metric == "COSINE" else queries


def _rough_vectors(vectors: Vectors, lengths: Floats, metric: Metric) -> Vectors:
    """Vectors as the matrix product takes them: for L2 it gives x y - x x / 2."""
    if metric == "L2":
        halves = (np.square(lengths) / -2).astype(np.float32)
        return np.hstack([vectors, halves[:, np.newaxis]])
    return _unit(vectors, lengths) if metric == "COSINE" else vectors


def _unit(vectors: Vectors, lengths: Floats) -> Vectors:
    safe = np.where(lengths > 0, lengths, 1)[:, np.newaxis]
    unit: Vectors = (vectors / safe).astype(np.float32)
    return unit


def _bounds(
    least: Floats, query_lengths: Floats, lengths: Floats, dimension: int, metric: Metric
) -> Vectors:
    """What a rough score must reach for the score to reach `least`, shape (queries,).

    A sum of d products in float32, in any order, is off by at most d u / (1 - d u) times the
    product of both lengths, where u = 2**-24; what follows has room for the roundings of its
    factors too, for what is flushed to zero, and for those of float64.
    """
    error = (dimension + 8) * 2.0**-24
    error /= 1 - error
    longest = float(lengths.max(initial=0))
    if metric == "COSINE":
        needed, reach = least, np.ones_like(query_lengths)
    elif metric == "IP":
        needed, reach = least, query_lengths * longest
    else:
        needed = (least + np.square(query_lengths)) / 2
        reach = query_lengths * longest + longest**2
        needed = needed - np.square(query_lengths) * 2.0**-40
    if float(reach.max(initial=0)) > _LARGEST:
        raise EngineError(f"a vector of the length {longest:g} is too long for products in float32")
    bounds = needed - reach * error - (dimension + 8) * _SMALLEST * 2
    return np.nextafter(bounds.astype(np.float32), np.float32(-np.inf))


# ---------------------------------------------------------------- coverage


def _ranges(ids: Ids) -> Iterator[Range]:
    """Ranges of ids that follow each other."""
    if len(ids) == 0:
        return
    inside = np.sort(ids)
    breaks = np.flatnonzero(np.diff(inside) != 1) + 1
    for first, end in zip([0, *breaks], [*breaks, len(inside)], strict=True):
        yield int(inside[first]), int(inside[end - 1]) + 1


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, those that touch as one; raises EngineError if any overlap."""
    joined: list[Range] = []
    for first, end in sorted(ranges):
        if joined and first < joined[-1][1]:
            raise EngineError(f"vector {first} was given twice to the calculation of the truth")
        if joined and first == joined[-1][1]:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((first, end))
    return joined


# ---------------------------------------------------------------- the file


def truth_of(data: Document, queries: Document, metric: Metric) -> Document:
    """What a truth is the truth of: fingerprints of the data and of the queries, and the metric."""
    return {"data": data, "queries": queries, "metric": metric}


def write_truth(path: Path, truth: Truth, fingerprint: Document) -> None:
    """Puts a truth in place whole and durable; raises EngineError unless it covers all vectors.

    The file has three lines, what it is, the SHA-256 of all that follows, a document in JSON, and
    then the ids and the scores of all queries.
    """
    _check_coverage(path, [list(part) for part in truth.covered], fingerprint)
    header = {
        "form": _FORM,
        "fingerprint": fingerprint,
        "covered": truth.covered,
        "shape": truth.ids.shape,
    }
    content = json.dumps(header).encode() + b"\n"
    content += truth.ids.astype("<i8").tobytes() + truth.scores.astype("<f8").tobytes()
    write_whole(path, _MAGIC + _sha256(content) + content)


def read_truth(path: Path, fingerprint: Document) -> Truth:
    """The truth of this data, these queries and this metric.

    Raises EngineError if it is another, not whole, or does not cover all vectors.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise storage_error(error, "read", path) from error
    header, data = _parts(path, content)
    differs = _difference(header["fingerprint"], fingerprint)
    if differs is not None:
        raise EngineError(f"{path} is the truth of something else ({differs})")
    _check_coverage(path, header["covered"], fingerprint)
    queries, depth = header["shape"]
    if len(data) != queries * depth * 16 or queries != fingerprint["queries"]["count"]:
        raise EngineError(f"{path} is no truth: {len(data)} bytes are not {queries} x {depth}")
    half = len(data) // 2
    ids = np.frombuffer(data[:half], dtype="<i8").astype(np.int64).reshape(queries, depth)
    scores = np.frombuffer(data[half:], dtype="<f8").astype(np.float64).reshape(queries, depth)
    vectors = fingerprint["data"]["vectors"]
    if ids.min(initial=0) < -1 or ids.max(initial=-1) >= vectors:
        raise EngineError(f"{path} names ids that are none of the {vectors} vectors")
    return Truth(ids=ids, scores=scores, covered=((0, vectors),))


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n"


def _parts(path: Path, content: bytes) -> tuple[Document, bytes]:
    """The document and what follows it."""
    if not content.startswith(_MAGIC):
        raise EngineError(f"{path} is no truth, or damaged: it does not begin like one")
    begin = len(_MAGIC) + len(_sha256(b""))
    if content[len(_MAGIC) : begin] != _sha256(content[begin:]):
        raise EngineError(f"{path} is damaged: its content is not what was written")
    line, _, data = content[begin:].partition(b"\n")
    header: Document = json.loads(line)
    if header["form"] != _FORM:
        raise EngineError(f"{path} was written by another version of mlps")
    return header, data


def _check_coverage(path: Path, covered: object, fingerprint: Document) -> None:
    vectors = fingerprint["data"]["vectors"]
    if covered != [[0, vectors]]:
        raise EngineError(
            f"a truth must cover all {vectors} vectors, and that of {path} covers {covered}"
        )


def _difference(found: object, asked: object, key: str = "") -> str | None:
    """In which key fingerprints differ; None where they are the same."""
    if isinstance(found, dict) and isinstance(asked, dict):
        for name in dict.fromkeys((*asked, *found)):
            below = f"{key}.{name}" if key else str(name)
            differs = _difference(found.get(name), asked.get(name), below)
            if differs is not None:
                return differs
        return None
    return None if found == asked else f"{key}: found {found}, asked {asked}"
