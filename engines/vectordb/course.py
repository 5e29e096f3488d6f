"""The course of a run of searches by all ranks: caches, fresh readers, the window, what is left.

Every rank is a client of one reader. Whatever may last or fail is done inside phases.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import Document
from ..errors import EngineError
from ..io_core.account import Account
from ..io_core.control import Control
from ..io_core.counts import Counter
from ..io_core.histogram import Histogram
from ..io_core.meter import counters_behind
from ..io_core.page_cache import Residency
from ..observed import observed
from ..result import Outcome
from ..stage import Session, StageEnded
from ..world import host_name
from .answers import Answers
from .arrivals import Rate, arrivals
from .backend import Io, Moved, Reader, Vectors
from .backends import code_of
from .caches import Prepared, look, prepare
from .client import Client, Requests, failures_text
from .points import Point, Seen, least_direct, point_document, recall_of
from .setting import Setting
from .truth import Truth, read_truth

_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A point on rank 0: as results tell it, and the latencies of all ranks."""

    document: Document
    latency: Histogram


class Clients:
    """All ranks of a stage that searches. `points` and `io` are known on rank 0, as far as it came.

    Everything here is called by all ranks together, and raises StageEnded in all of them.
    """

    def __init__(self, session: Session, setting: Setting) -> None:
        self.session = session
        self.setting = setting
        self.points: list[Document] = []
        self.io: Io | None = None
        self.name = setting.workload.backend.describe().name
        hosts = session.exchange(host_name())
        self.leads_host = hosts.index(hosts[session.rank]) == session.rank
        self.queries: Vectors = np.empty((0, setting.data.dimension), dtype=np.float32)
        self.paths: tuple[Path, ...] = ()
        self.counters: tuple[Counter, ...] = ()
        self._truth: Truth | None = None

    def ready(self) -> None:
        """Reads what no search shall wait for: queries, the truth, where the files are."""
        self.session.phase("reading queries", self._read, unit="queries", total=0)

    def measure(self, point: Point, outcome: Outcome) -> Measured | None:
        """One point; where it ends early, it is kept as far as it came. None but on rank 0."""
        course = _Course(self, point, outcome)
        try:
            course.go()
        except StageEnded:
            self._add(course, complete=False)
            raise
        finally:
            with suppress(EngineError):  # it has failed already
                course.close()
        return self._add(course, complete=True)

    def _add(self, course: _Course, *, complete: bool) -> Measured | None:
        ios = self.session.gather(course.io)
        known = [io for io in ios if io is not None]
        if known:
            self.io = least_direct(known if self.io is None else [self.io, *known])
        if course.client is None:
            return None
        tally, session = course.client.tally, self.session
        ranks = session.gather(course.seen(course.client))
        latency, service = session.merged(tally.latency), session.merged(tally.service)
        if not ranks:
            return None
        found, workload = None, self.setting.workload
        if complete and self._truth is not None:
            found = recall_of(course.point, ranks, self._truth, workload.epsilon)
        document = point_document(course.point, workload.cache, ranks, latency, service, found)
        self.points.append(document)
        return Measured(document=document, latency=latency)

    def _read(self, control: Control) -> None:
        setting, data, rank = self.setting, self.setting.data, self.session.rank
        own = [self.queries]
        for first in range(0, data.query_count, _QUERIES_AT_ONCE):
            if control.stopped:
                return
            count = min(_QUERIES_AT_ONCE, data.query_count - first)
            vectors = data.query_vectors(first, count)
            # A copy: the rest of the block is let go.
            own.append(vectors[(rank - first) % self.session.ranks :: self.session.ranks].copy())
        self.queries = np.concatenate(own)
        self.counters = counters_behind(setting.index_directory)
        if rank == 0:
            self._truth = read_truth(setting.truth_path, setting.truth_fingerprint())
        with code_of(self.name):
            self.paths = setting.workload.backend.data_paths(setting.index_directory)


class _Course:
    """A rank's part in one point."""

    def __init__(self, clients: Clients, point: Point, outcome: Outcome) -> None:
        self.point = point
        self.client: Client | None = None
        self.io: Io | None = None
        self._clients = clients
        self._session = clients.session
        self._outcome = outcome
        # Of the first queries, all ranks together.
        own = len(range(self._session.rank, point.distinct, self._session.ranks))
        self._queries = clients.queries[:own]
        self._answers = Answers(
            queries=own, k=point.k, vectors=clients.setting.workload.spec.vectors
        )
        self._reader: Reader | None = None
        self._backend: Moved | None = None
        self._prepared: Prepared | None = None
        self._after: Residency | None = None
        self._window = Control()

    def go(self) -> None:
        """All of it. No rank has a reader open at the beginning, nor at the end."""
        session, leads = self._session, self._clients.leads_host
        files = len(self._clients.paths) if leads else 0
        session.phase("preparing caches", self._prepare, unit="files", total=files)
        session.phase("opening the index", self._open, unit="files", total=0)
        self._search_all()
        session.phase("looking at caches", self._look, unit="files", total=0)
        if self.point.all_asked:
            rest = len(self._answers.unanswered())
            session.phase("asking the rest", self._ask_the_rest, unit="queries", total=rest)
        session.phase("closing the index", lambda _: self.close(), unit="files", total=0)

    def close(self) -> None:
        """Lets go of the reader, unless a search in it has hung."""
        reader, self._reader = self._reader, None
        if reader is not None and not (self.client is not None and self.client.hung):
            with code_of(self._clients.name):
                reader.close()

    def seen(self, client: Client) -> Seen:
        """What rank 0 needs to know of it."""
        return Seen(
            start_unix_s=self._window.start_unix_s,
            window_s=self._window.length_s,
            counts=client.tally.counts,
            queries=len(self._queries),
            found=self._answers.found(),
            unanswered=tuple(self._answers.unanswered()),
            faults=self._answers.faults(),
            backend=self._backend,
            prepared=self._prepared,
            after=self._after,
        )

    def _prepare(self, control: Control) -> None:
        if self._clients.leads_host:
            cache = self._clients.setting.workload.cache
            self._prepared = prepare(cache, self._clients.paths, control)

    def _open(self, _: Control) -> None:
        setting = self._clients.setting
        workload, name = setting.workload, self._clients.name
        with code_of(name):
            self._reader = workload.backend.reader(
                setting.index_directory, workload.spec, self.point.search
            )
            self.io = io = self._reader.io()
        if workload.cache.mode == "direct" and io.io_class != "direct":
            because = f" ({io.reason})" if io.reason else ""
            raise EngineError(
                f"cache.mode is direct, but searches of backend {name} are {io.io_class}{because}"
            )

    def _search_all(self) -> None:
        """The window; failures of all ranks together may be too many."""
        point, requests = self.point, self._requests()
        assert self._reader is not None  # this follows the phase that opens it
        self.client = client = Client(self._reader.search, self._queries, self._answers, requests)
        self._window = Control(duration_s=point.runtime_s)
        self._session.phase(
            "searching",
            self._search,
            unit="queries" if point.runtime_s is None else "s",
            total=requests.queries or point.runtime_s or 0,
            control=self._window,
        )
        counts = client.tally.counts
        failed = sum(self._session.exchange(counts.failed))

        def check() -> None:
            if failed > requests.failures_most and counts.first_failure is not None:
                raise EngineError(failures_text(requests, failed, counts.first_failure))

        self._session.agree(check)

    def _search(self, control: Control) -> None:
        client = self.client
        assert client is not None  # made before the phase
        tally = client.tally
        outcome, counters = self._outcome, self._clients.counters
        with observed(outcome, counters, control, lambda: control.start_ns + tally.counts.last_ns):
            before = self._moved()
            client.work(control)
            after = None if control.stopped else self._moved()
        if before is not None and after is not None:
            self._backend = Moved(
                read_bytes=after.read_bytes - before.read_bytes, reads=after.reads - before.reads
            )
        outcome.account = Account()
        outcome.account.requests.completed = tally.counts.requests
        outcome.account.requests.total = tally.latency

    def _look(self, control: Control) -> None:
        if self._clients.leads_host:
            self._after = look(self._clients.paths, control)

    def _ask_the_rest(self, control: Control) -> None:
        assert self.client is not None  # made before the phase
        self.client.ask_the_rest(control)

    def _moved(self) -> Moved | None:
        assert self._reader is not None  # nobody has closed it
        with code_of(self._clients.name):
            return self._reader.moved()

    def _requests(self) -> Requests:
        point, traffic = self.point, self._clients.setting.workload.traffic
        rank, ranks = self._session.rank, self._session.ranks
        coming = None
        if point.target_qps is not None:
            rate = Rate(
                per_s=point.target_qps / point.batch_size,
                arrival=traffic.arrival,
                seed=traffic.arrival_seed,
            )
            coming = arrivals(rate, rank, ranks)
        return Requests(
            backend=self._clients.name,
            k=point.k,
            batch_size=point.batch_size,
            queries=None if point.queries is None else len(range(rank, point.queries, ranks)),
            limit_ns=round(traffic.request_limit_s * 1e9),
            failures_most=traffic.failures_most,
            arrivals=coming,
        )
