"""What a rank's queries were answered with: the first answer to each is kept, others compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import EngineError
from .backend import NO_ID, Ids, Scores, Vectors

_ID = np.dtype(np.int64)
_SCORE = np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What was wrong with answers. Queries that had at least one such answer, and ids.

    `short`: fewer ids than there are to be found; `repeating`: the same id twice; `changed`: other
    ids than at first. `foreign_ids` are those of no vector, in first answers and changed ones.
    """

    short_queries: int
    repeating_queries: int
    foreign_ids: int
    changed_queries: int


class Answers:
    """The answers to some queries, each with k ids of so many vectors."""

    def __init__(self, *, queries: int, k: int, vectors: int) -> None:
        self._k = k
        self._vectors = vectors
        self._nearest = min(k, vectors)
        self._row_bytes = k * _ID.itemsize
        # As bytes: these are compared soonest, and nearly every answer is one that is known.
        self._first: list[bytes | None] = [None] * queries
        self._short = bytearray(queries)
        self._repeating = bytearray(queries)
        self._changed = bytearray(queries)
        self._foreign_ids = 0

    def take(self, first: int, count: int, answer: object) -> None:
        """Takes the answer to queries from the first on, after the last one those at the begin.

        Raises EngineError for what is no answer to so many queries.
        """
        data = self._ids(answer, count).tobytes()
        width, known = self._row_bytes, self._first
        for place in range(count):
            query = (first + place) % len(known)
            row = data[place * width : (place + 1) * width]
            before = known[query]
            if before == row:
                continue
            if before is None:
                known[query] = row
            else:
                self._changed[query] = 1
            self._look_at(query, row)

    def unanswered(self) -> list[int]:
        """Queries that have no answer yet."""
        return [query for query, row in enumerate(self._first) if row is None]

    def found(self) -> Ids:
        """The first answers, shape (queries, k): NO_ID for ids of no vector and for no answer."""
        nothing = np.full(self._k, NO_ID, dtype=np.int64).tobytes()
        data = b"".join(nothing if row is None else row for row in self._first)
        ids = np.frombuffer(data, dtype=np.int64).reshape(len(self._first), self._k)
        return np.where((ids < 0) | (ids >= self._vectors), NO_ID, ids)

    def faults(self) -> Faults:
        """What was wrong with all that was taken so far."""
        return Faults(
            short_queries=sum(self._short),
            repeating_queries=sum(self._repeating),
            foreign_ids=self._foreign_ids,
            changed_queries=sum(self._changed),
        )

    def _ids(self, answer: object, count: int) -> Ids:
        """The ids of an answer that has the form of one."""
        try:
            ids: Ids = answer[0]  # type: ignore[index]  # whatever it is
            scores: Scores = answer[1]  # type: ignore[index]
            fits = ids.shape == scores.shape == (count, self._k)
            fits = fits and ids.dtype == _ID and scores.dtype == _SCORE
        except (AttributeError, IndexError, KeyError, TypeError):
            fits = False
        if not fits:
            raise EngineError(
                f"the answer to {count} queries is {_form(answer)} instead of ids (int64) and"
                f" scores (float32) of shape ({count}, {self._k})"
            )
        return ids

    def _look_at(self, query: int, row: bytes) -> None:
        ids = np.frombuffer(row, dtype=np.int64)
        given = ids[ids != NO_ID]
        self._foreign_ids += int(((given < 0) | (given >= self._vectors)).sum())
        if len(given) < self._nearest:
            self._short[query] = 1
        if len(np.unique(given)) < len(given):
            self._repeating[query] = 1


def wrapped(queries: Vectors, more: int) -> Vectors:
    """The queries, and after the last so many more from the first on: for batches across both."""
    if len(queries) == 0:
        return queries
    return queries[np.arange(len(queries) + more) % len(queries)]


def _form(answer: object) -> str:
    """What something is, in words."""
    if isinstance(answer, tuple):
        return f"({', '.join(_form(part) for part in answer)})"
    if isinstance(answer, np.ndarray):
        return f"{answer.dtype} of shape {answer.shape}"
    return type(answer).__name__
