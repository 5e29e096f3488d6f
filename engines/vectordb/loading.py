"""The stage `load`: an index is made of all vectors, or the one that is there is taken.

Rank 0 begins it and builds it. Where the backend lets several processes insert, each rank brings
its slice of the ids; never is more than a batch of them in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..contract import Document
from ..errors import EngineError
from ..io_core.control import Control
from ..io_core.directory import remove_files
from ..owner import Owner
from ..stage import Session, StageEnded
from .backend import Inserter, Writer
from .place import OWNER, begin, complete, is_there, make_ready, remove_index, right_to_write
from .setting import Setting, setting_of

Answer = TypeVar("Answer")


def load(session: Session) -> None:
    """Makes the index unless it is there; what is left of one that fails is removed."""
    setting = session.agree(lambda: setting_of(session.job, session.ranks))
    with ExitStack() as held:
        if _claimed(session, setting, held):
            loading = _Loading(session, setting)
            held.callback(loading.close)
            try:
                loading.go()
            except StageEnded:
                loading.give_back()
                raise


def _claimed(session: Session, setting: Setting, held: ExitStack) -> bool:
    """Whether there is an index to make; rank 0 has the right to, until `held` is closed."""
    place, found = setting.place, list[bool]()

    def look(control: Control) -> None:
        if session.rank != 0:
            return
        wanted = setting.kept()
        make_ready(place, session.job)
        there = is_there(place, wanted)
        if not there:
            owner = Owner(right_to_write(place), session.job.run_id, control)
            held.callback(owner.close)
            held.callback(remove_files, place.directory, [OWNER])
            # Another job may have completed it meanwhile.
            there = is_there(place, wanted)
        if there:
            session.outcome.vectordb = setting.document("load", load=_found_there(setting))
        else:
            begin(place, wanted)
        found.append(there)

    session.phase("claiming", look, unit="files", total=0)
    (there,) = session.exchange(found)[0]
    return not there


def _found_there(setting: Setting) -> Document:
    """What is told of an index that is taken; raises EngineError if it cannot be opened."""
    workload = setting.workload
    directory = setting.index_directory
    workload.backend.reader(directory, workload.spec, workload.search).close()
    return {
        "reused": True,
        "inserted": 0,
        "stored": workload.spec.vectors,
        "writers": 0,
        "insert_s": 0.0,
        "flush_s": 0.0,
        "build_s": 0.0,
        "compact_s": 0.0,
        **_sizes(workload.backend.data_paths(directory)),
    }


def _sizes(paths: tuple[Path, ...]) -> Document:
    """Files that searches read and their bytes; nulls where a server does not tell of them."""
    return {
        "index_bytes": sum(path.stat().st_size for path in paths) if paths else None,
        "index_files": len(paths) or None,
    }


class _Loading:
    """A rank's part in making an index."""

    def __init__(self, session: Session, setting: Setting) -> None:
        self._session, self._setting = session, setting
        self._backend, self._spec = setting.workload.backend, setting.workload.spec
        several = self._backend.describe().several_writers
        self._writers = min(session.ranks, self._spec.vectors) if several else 1
        self._writer: Writer | None = None
        self._joined: Inserter | None = None
        self._told: Document = {}
        self._inserted = 0
        # Of this rank's calls of the backend; the making of vectors is not in it.
        self._took_s = {"insert_s": 0.0, "flush_s": 0.0, "build_s": 0.0, "compact_s": 0.0}

    def go(self) -> None:
        """All phases; raises StageEnded in all ranks if any of them fails."""
        spec, rank, writers = self._spec, self._session.rank, self._writers
        own = _share(spec.vectors, rank, writers)
        self._phase("beginning", self._begin, 0)
        if writers > 1:
            self._phase("joining", self._join, 0)
        self._phase("inserting", lambda control: self._insert(own, control), len(own))
        self._phase("flushing", self._flush, 0)
        self._phase("building", self._build, spec.vectors if rank == 0 else 0)
        self._phase("compacting", self._compact, 0)
        self._phase("counting", self._count, 0)
        self._tell()

    def give_back(self) -> None:
        """Removes what was made."""

        def remove(_: Control) -> None:
            self.close()
            if self._session.rank == 0:
                remove_index(self._setting.place)

        self._phase("giving back", remove, 0)

    def close(self) -> None:
        """Lets go of the writer."""
        writer, self._writer, joined, self._joined = self._writer, None, self._joined, None
        for each in (writer, joined):
            if each is not None:
                each.close()

    def _phase(self, name: str, work: Callable[[Control], None], total: int) -> None:
        self._session.phase(name, work, unit="vectors", total=total)

    def _begin(self, _: Control) -> None:
        if self._session.rank == 0:
            self._writer = self._backend.writer(self._setting.index_directory, self._spec)

    def _join(self, _: Control) -> None:
        if 0 < self._session.rank < self._writers:
            self._joined = self._backend.join(self._setting.index_directory, self._spec)

    def _insert(self, own: range, control: Control) -> None:
        inserter = self._writer or self._joined
        if inserter is None:
            return
        size = self._setting.workload.insert_batch
        for ids, vectors in self._setting.data.batches(own.start, len(own), size):
            if control.stopped:
                return
            stored = self._timed("insert_s", partial(inserter.insert, ids, vectors))
            self._inserted += stored
            control.done += stored
            if stored != len(ids):
                raise EngineError(
                    f"{self._name} stored {stored} of the {len(ids)} vectors {ids[0]} to {ids[-1]}"
                )

    def _flush(self, _: Control) -> None:
        inserter = self._writer or self._joined
        if inserter is not None:
            self._timed("flush_s", inserter.flush)
        if self._joined is not None:
            self._joined.close()
            self._joined = None

    def _build(self, control: Control) -> None:
        writer, vectors = self._writer, self._spec.vectors
        if writer is None:
            return

        def alive(done: int, total: int) -> bool:
            control.done = vectors * done // max(total, 1)
            return not control.stopped

        if not self._timed("build_s", lambda: writer.build(alive)) and not control.stopped:
            raise EngineError(f"{self._name} has ended the build of its index, and nobody asked it")

    def _compact(self, _: Control) -> None:
        if self._writer is not None:
            self._timed("compact_s", self._writer.compact)

    def _count(self, _: Control) -> None:
        """The end of the work of rank 0: nothing is missing, and so the index is there."""
        if self._writer is None:
            return
        stored, place = self._writer.count(), self._setting.place
        if stored != self._spec.vectors:
            raise EngineError(f"{self._name} has stored {stored} of {self._spec.vectors} vectors")
        paths = self._backend.data_paths(self._setting.index_directory)
        self._told = {"stored": stored, **_sizes(paths)}
        complete(place, self._setting.kept())

    def _tell(self) -> None:
        ranks = self._session.gather((self._inserted, self._took_s))
        if not ranks:
            return
        inserted, took_s = zip(*ranks, strict=True)
        self._told |= {
            "reused": False,
            "inserted": sum(inserted),
            "writers": self._writers,
            # Ranks work at the same time: the longest counts.
            **{key: round(max(each[key] for each in took_s), 6) for key in took_s[0]},
        }
        self._session.outcome.vectordb = self._setting.document("load", load=self._told)

    @property
    def _name(self) -> str:
        return self._backend.describe().name

    def _timed(self, key: str, call: Callable[[], Answer]) -> Answer:
        begun_s = time.monotonic()
        answer = call()
        self._took_s[key] += time.monotonic() - begun_s
        return answer


def _share(vectors: int, rank: int, writers: int) -> range:
    """The ids that a rank inserts, one after the other."""
    if rank >= writers:
        return range(0)
    return range(vectors * rank // writers, vectors * (rank + 1) // writers)
