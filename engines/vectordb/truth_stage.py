"""The stage `truth`: the exact nearest of every query, found by up to 32 ranks, written by rank 0.

Each of these ranks looks at a range of the vectors for all queries; what they find is the same
however many they are.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import numpy as np

from ..contract import Document
from ..errors import EngineError
from ..io_core.control import Control
from ..stage import Session
from .data import Data
from .place import make_ready
from .setting import Setting, setting_of
from .truth import Truth, exact, merge, read_truth, write_truth
from .vectors import BLOCK_VECTORS

# More would have rank 0 put together more than they save.
PARTS_MOST = 32
# Scores of float32 that a rank has in memory at a time.
TILE_BYTES = 32 * 2**20
# Of all parts together, what rank 0 puts together at a time.
_MERGED_BYTES = 32 * 2**20


def truth(session: Session) -> None:
    """Finds the truth unless the same one is there."""
    setting = session.agree(lambda: setting_of(session.job, session.ranks))
    begun_s = time.monotonic()
    found = _found(session, setting)
    if session.exchange(bool(found))[0]:
        if found:
            told = _document(found[0], reused=True, begun_s=begun_s, parts=0)
            session.outcome.vectordb = setting.document("truth", truth=told)
        return
    numbers = working(session.ranks, setting.data.vectors)
    part = _looked_at(session, setting, numbers)
    whole = _merged(session, part, setting, len(numbers))

    def write(_: Control) -> None:
        if whole is not None:
            write_truth(setting.truth_path, whole, setting.truth_fingerprint())

    session.phase("writing", write, unit="files", total=0)
    if whole is not None:
        told = _document(whole, reused=False, begun_s=begun_s, parts=len(numbers))
        session.outcome.vectordb = setting.document("truth", truth=told)


def working(ranks: int, vectors: int) -> tuple[int, ...]:
    """The ranks that look at vectors, spread over all; as many as there are blocks at most."""
    parts = min(ranks, PARTS_MOST, -(-vectors // BLOCK_VECTORS))
    return tuple(part * ranks // parts for part in range(parts))


def own_ids(data: Data, part: int, parts: int) -> range:
    """The ids that one of them looks at: whole blocks, one after the other."""
    blocks = -(-data.vectors // BLOCK_VECTORS)
    first, end = (blocks * each // parts * BLOCK_VECTORS for each in (part, part + 1))
    return range(first, min(end, data.vectors))


def memory_bytes(data: Data, depth: int) -> int:
    """What a rank takes for it at most."""
    queries = 3 * 4 * data.dimension * data.query_count
    # Those kept, and those that wait; numbers of queries, ids and scores, and their order.
    candidates = 4 * 32 * depth * data.query_count
    block = 4 * 4 * data.dimension * BLOCK_VECTORS
    tiles = 2 * min(TILE_BYTES, 5 * BLOCK_VECTORS * data.query_count)
    # On rank 0, with what was gathered and the order of it.
    merged = 4 * min(_MERGED_BYTES, PARTS_MOST * depth * 16 * data.query_count)
    return queries + candidates + block + tiles + merged


def _found(session: Session, setting: Setting) -> list[Truth]:
    """The truth that is there, if it is this one; for rank 0."""
    found: list[Truth] = []

    def look(_: Control) -> None:
        if session.rank != 0:
            return
        make_ready(setting.place, session.job)
        fingerprint = setting.truth_fingerprint()
        if not setting.truth_path.exists():
            return
        try:
            there = read_truth(setting.truth_path, fingerprint)
        except EngineError:
            return  # damaged, or of a file that has changed: written anew in its place
        if there.ids.shape[1] == setting.workload.truth_depth:
            found.append(there)

    session.phase("looking for the truth", look, unit="files", total=0)
    return found


def _looked_at(session: Session, setting: Setting, numbers: tuple[int, ...]) -> Truth | None:
    """What this rank finds, in a phase of all; None if it has no part in it."""
    data, workload = setting.data, setting.workload
    works = session.rank in numbers
    ids = own_ids(data, numbers.index(session.rank), len(numbers)) if works else range(0)
    found: list[Truth] = []

    def look(control: Control) -> None:
        if not works:
            return

        def alive(done: int) -> bool:
            control.done = done
            return not control.stopped

        found.append(
            exact(
                data.rows(ids.start, len(ids)),
                data.query_vectors(0, data.query_count),
                workload.spec.metric,
                workload.truth_depth,
                tile_bytes=TILE_BYTES,
                alive=alive,
            )
        )

    session.phase("comparing", look, unit="vectors", total=len(ids))
    return found[0] if works else None


def _merged(session: Session, part: Truth | None, setting: Setting, parts: int) -> Truth | None:
    """The truth of all vectors on rank 0, put together some queries at a time; None elsewhere."""
    pieces: list[Truth] = []
    for some in _portions(setting.data.query_count, parts * setting.workload.truth_depth * 16):
        gathered = session.gather(None if part is None else _queries_of(part, some))
        if gathered:
            pieces.append(merge([each for each in gathered if each is not None]))
    if not pieces:
        return None
    return Truth(
        ids=np.concatenate([each.ids for each in pieces]),
        scores=np.concatenate([each.scores for each in pieces]),
        covered=pieces[0].covered,
    )


def _portions(queries: int, bytes_each: int) -> Iterator[slice]:
    step = max(_MERGED_BYTES // bytes_each, 1)
    for first in range(0, queries, step):
        yield slice(first, min(first + step, queries))


def _queries_of(truth: Truth, some: slice) -> Truth:
    return Truth(ids=truth.ids[some], scores=truth.scores[some], covered=truth.covered)


def _document(found: Truth, *, reused: bool, begun_s: float, parts: int) -> Document:
    digest = hashlib.sha256(found.ids.astype("<i8").tobytes())
    digest.update(found.scores.astype("<f8").tobytes())
    return {
        "reused": reused,
        "depth": found.ids.shape[1],
        "covered": 1.0,
        "sha256": digest.hexdigest(),
        "elapsed_s": round(time.monotonic() - begun_s, 6),
        "parts": parts,
    }
