"""One rank's plan and files, and the work of the phases on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, islice

import numpy as np

from ..contract import Document
from ..io_core.account import Account
from ..io_core.blocks import run_key
from ..io_core.control import Control
from ..io_core.counts import Counter
from ..io_core.directory import is_own, make_directory, recognise, remove_files, remove_if_empty
from ..io_core.executor import Executor, Settings, executor_for
from ..io_core.files import (
    OpenFiles,
    open_directories,
    open_files,
    preallocate,
    sync_directory,
    sync_file_system,
)
from ..io_core.meter import counters_behind
from ..io_core.operations import Stream
from ..observed import observed
from ..result import Core, Plan
from ..stage import Session
from .layout import Layout
from .planning import (
    HASHED_OPERATIONS,
    PURPOSE_NAMES,
    Counts,
    Followed,
    RankPlan,
    Slots,
    first_requests,
    of_shard,
    plan_sha256,
    raw_words,
)
from .plans import Place
from .traces import TraceSurvey
from .workload import Workload

# Stream of random numbers for the order of preconditioning; those of the plans are below it.
_PRECONDITION = 64


class Bench:
    """Its methods are the work of phases; what they leave stands in the session's outcome."""

    def __init__(
        self,
        session: Session,
        workload: Workload,
        survey: TraceSurvey | None,
        rank: int | None = None,
    ) -> None:
        """`rank` is the one whose files they are, where it is not this one."""
        job = session.job
        rank = session.rank if rank is None else rank
        self.workload = workload
        self._place = Place(seed=job.seed, rank=rank, ranks=session.job_ranks)
        self._survey = survey
        self.plan = self.new_plan()
        self.layout = Layout(
            job_directory=job.directory,
            rank=rank,
            ranks=session.job_ranks,
            files=self.plan.files,
            slot_bytes=self.plan.slot_bytes,
            kind=workload.layout,
        )
        self.warming_bytes = 0
        self._runs = 0
        self._job = job
        self._outcome = session.outcome
        self._files: OpenFiles | None = None
        self._executor: Executor | None = None
        self._settings: Settings | None = None
        self._counters: tuple[Counter, ...] = ()
        self._followed: Followed | None = None
        self._streams: list[Stream] = []

    def new_plan(self) -> RankPlan:
        """The rank's plan from its start. Each shard goes through one of its own."""
        return self.workload.planned.plan(self._place, self._survey)

    def describe(self) -> None:
        """Puts the sizes into the result, and what must be known of the workload."""
        planned = self.workload.planned
        self._outcome.facts |= {
            "workload": planned.name,
            "layout": self.layout.kind,
            "open_loop": planned.open_loop,
            "slot_bytes": self.plan.slot_bytes,
            "requests_in_flight_per_rank": planned.requests_in_flight,
            "transfers_in_flight_per_rank": self.workload.io.queue_depth,
            "deviations": list(planned.deviations),
        }
        if planned.trace is not None and self._survey is not None:
            found = asdict(self._survey)
            found["common_blocks"] = len(self._survey.common_blocks)
            self._outcome.facts["trace"] = {"path": str(planned.trace.path), **found}
        self._outcome.sums["working_set_bytes"] = self.layout.size_bytes

    # ------------------------------------------------------------ prepare

    def reserve(self, control: Control) -> None:
        """Makes this rank's files with their space, or the directories of its chunks."""
        recognise(self._job.directory, self._job.sha256)
        make_directory(self.layout.directory)
        self.layout.forget_state()
        if self.layout.kind == "file_per_chunk":
            steps = self.layout.make_chunk_directories()
        else:
            steps = self._preallocate()
        for _ in steps:
            if control.stopped:
                return
            control.done += 1

    def open_to_fill(self, _: Control) -> None:
        """Opens the files of all ranks, which are there now."""
        self._open_files(self._fill_settings(0))
        self._start()

    def fill(self, control: Control) -> None:
        """Writes every slot and makes all of it durable, which belongs to the time it takes."""
        account = self._outcome.account = Account()
        with self._observed(control, account):
            self._execute(_sharded(self.layout.fill_rows, self.shards), control, account)
            for number in range(self.workload.precondition_passes):
                refill = partial(self.layout.fill_rows, self._shuffled(number))
                self._execute(_sharded(refill, self.shards), control, account)
            if control.stopped:
                return
            self._make_durable()
        survey = self._survey
        state: Document = {"runs": 0}
        if survey is not None:
            state["survey"] = {**asdict(survey), "common_blocks": sorted(survey.common_blocks)}
        self.layout.write_state(state)

    @property
    def fill_bytes(self) -> int:
        """Bytes that `fill` writes."""
        return self.layout.size_bytes * (1 + self.workload.precondition_passes)

    # ------------------------------------------------------------ run

    def open(self, _: Control) -> None:
        """Checks that the files are as prepare has left them, opens them, hashes the plan."""
        self._open_to_run(self._run_settings)

    def open_to_search(self, _: Control) -> None:
        """The same for an open loop whose backlog may grow: too high a rate is to be seen."""
        self._open_to_run(
            lambda runs: replace(self._run_settings(runs), open_loop=True, backlog_limit=None)
        )

    def _open_to_run(self, settings_of: Callable[[int], Settings]) -> None:
        runs = self._open_prepared(settings_of)
        limited = first_requests(self.plan.rows(), self.workload.requests)
        self._outcome.plan = Plan(
            sha256=plan_sha256(limited),
            generator=self.plan.generator,
            hashed_operations=HASHED_OPERATIONS,
        )
        if runs:
            cached = (int(rows["length"].sum()) for rows in self.plan.cached_rows())
            self.warming_bytes = sum(cached)

    def open_plain(self, _: Control) -> None:
        """The same, for transfers that wait for nothing and are not compared."""
        self._open_prepared(self.plain_settings)
        self._start()

    def _open_prepared(self, settings_of: Callable[[int], Settings]) -> int:
        """Opens what prepare has left; returns how many runs have changed it since."""
        recognise(self._job.directory, self._job.sha256)
        self.layout.check()
        state = self.layout.read_state()
        self._runs = runs = int(state["runs"])
        self._open_files(settings_of(runs))
        # Before anything is stored: should this run be cut short, the next one knows of it.
        self.layout.write_state({**state, "runs": runs + 1})
        return runs

    def warm(self, control: Control) -> None:
        """After an earlier run, which has changed the slots: stores again what the plan finds.

        Then makes ready for what the run's own executor will do.
        """
        account = Account()
        if self.warming_bytes:
            # Not with the run's executor: this has no arrivals, and no limits to keep.
            executor = executor_for(self.opened_files, self._fill_settings(self._runs))
            with closing(executor):
                streams = _sharded(lambda: _spread(self.plan.cached_rows()), executor.shards)
                executor.execute(streams, control, account)
            self._make_durable()
        self._outcome.sums["warming_bytes"] = account.write.total_bytes
        self._start()

    def ready(self, control: Control) -> None:
        """The same for a run, and plans its first operations, which shall not wait for that."""
        self.warm(control)
        # Every shard goes through the whole plan, so what the first one meets is all of it.
        self._followed = followed = Followed(self.new_plan())
        others = (self.new_plan() for _ in range(self.shards - 1))
        plans: Iterator[Followed | RankPlan] = chain([followed], others)
        streams = _sharded(
            lambda: first_requests(next(plans).rows(), self.workload.requests), self.shards
        )
        self._streams = [_begun(stream) for stream in streams]

    def measure(self, control: Control) -> None:
        """Carries out the plan until the window ends, then waits for what is in flight."""
        account = self._outcome.account = Account()
        followed, streams = self._followed, self._streams
        assert followed is not None, "a phase before this one begins to plan"
        try:
            with self._observed(control, account):
                self._execute(streams, control, account)
        finally:
            rows = account.read.total_operations + account.write.total_operations
            self._tell(account, followed.counts(rows))
            if not control.stopped and control.length_s < self.workload.duration_s:
                self._outcome.facts["window_cut"] = self._why_cut(account)

    def probe(self, streams: Sequence[Stream], control: Control) -> None:
        """Carries out all of these streams, one for each shard, for an account of its own."""
        account = self._outcome.account = Account()
        with self._observed(control, account):
            self._execute(streams, control, account)
        self._tell(account, {})

    def transfer(self, make: Callable[[], Stream], control: Control) -> None:
        """Carries out rows that are no requests, until the window ends."""
        account = self._outcome.account = Account()
        with self._observed(control, account):
            self._execute(_sharded(make, self.shards), control, account)

    @property
    def shards(self) -> int:
        """Streams that the executor works off at the same time."""
        return self._ready_executor.shards

    def cleanup(self, control: Control) -> list[str]:
        """Removes the files that prepare has made; returns the paths of what is left."""
        layout, left = self.layout, []
        if not is_own(self._job.directory, self._job.sha256):
            return []
        if layout.kind == "file_per_chunk":
            for path in layout.chunk_names():
                control.done += remove_files(path.parent, [path.name])
            for directory in layout.chunk_directories():
                left += remove_if_empty(directory)
        names = [path.name for path in layout.own if layout.kind == "segments"]
        for name in (*names, *layout.state_names):
            control.done += remove_files(layout.directory, [name])
        return left + remove_if_empty(layout.directory)

    def close(self) -> None:
        """Ends the executor's threads and closes the files."""
        if self._executor is not None:
            self._executor.close()
        if self._files is not None:
            self._files.close()

    # ------------------------------------------------------------ parts

    def plain_settings(self, runs: int) -> Settings:
        """Transfers of the plan's sizes at its depth, without its order and limits."""
        return replace(
            self._run_settings(runs),
            verify="none",
            requests_in_flight=None,
            store_cap=None,
            open_loop=False,
            gate_slots=0,
        )

    @property
    def opened_files(self) -> OpenFiles:
        """The files that are open."""
        assert self._files is not None, "a phase before this one opens the files"
        return self._files

    @property
    def _ready_executor(self) -> Executor:
        assert self._executor is not None, "a phase before this one makes the executor"
        return self._executor

    @property
    def _pool_seed(self) -> int:
        return self._job.seed + self._place.rank

    def _key(self, runs: int) -> int:
        """Blocks of each run have a key of their own."""
        return run_key(self._job.run_id, runs)

    def _run_settings(self, runs: int) -> Settings:
        return self.workload.settings(
            self.plan,
            key=self._key(runs),
            pool_seed=self._pool_seed,
            durability=self.workload.io.durability,
        )

    def _make_durable(self) -> None:
        if self.layout.kind == "file_per_chunk":
            # Only directories are open: the files in there are too many to sync one by one.
            sync_file_system(self.layout.directory)
        else:
            self.opened_files.sync()
            sync_directory(self.layout.directory)

    def _preallocate(self) -> Iterator[None]:
        for number, path in enumerate(self.layout.own):
            preallocate(path, self.layout.own_bytes(number))
            yield

    def _fill_settings(self, runs: int) -> Settings:
        """For stores that may all be in flight: nothing here waits for anything."""
        settings = self.workload.settings(
            self.plan, key=self._key(runs), pool_seed=self._pool_seed, durability="none"
        )
        return replace(settings, store_cap=None, open_loop=False, gate_slots=0)

    def _open_files(self, settings: Settings) -> None:
        """Opens the files for what these settings are about to do."""
        opening = open_directories if settings.chunk_files else open_files
        self._settings = settings
        self._files = opening(
            self.layout.paths,
            direct=self.workload.io.direct,
            dsync=settings.durability == "dsync",
        )

    def _start(self) -> None:
        """Makes the executor."""
        settings = self._settings
        assert settings is not None, "a phase before this one opens the files"
        self._executor = executor_for(self.opened_files, settings)
        self._outcome.core = _core(self._executor, self.opened_files, settings)
        # Now: what is to be found out about them shall not be in the way of timed I/O.
        self._counters = counters_behind(self._job.directory)

    def _execute(self, streams: Sequence[Stream], control: Control, account: Account) -> None:
        self._ready_executor.execute(streams, control, account)

    def _shuffled(self, number: int) -> Slots:
        """All places in the order of the `number`-th preconditioning pass."""
        words = raw_words(
            seed=self._place.seed,
            rank=self._place.rank,
            stream=_PRECONDITION,
            user=number,
            first=0,
            count=self.layout.files.slots,
        )
        return np.argsort(words, kind="stable")

    def _tell(self, account: Account, planned: Counts) -> None:
        """Puts into the result what the window held, and how far the plan was carried out."""
        requests = account.requests
        outcome = self._outcome
        outcome.rates["requests"] = requests.completed
        if self.workload.planned.name != "turns":  # which has no answers
            outcome.rates["generated_tokens"] = requests.generated_tokens
        outcome.ratios |= {
            name: share for name, share in self.plan.ratios(planned).items() if share[1]
        }
        outcome.sums |= {f"planned_{name}": count for name, count in planned.items()}
        outcome.sums |= {
            f"operations_{name}": account.window_purposes[purpose]
            for purpose, name in enumerate(PURPOSE_NAMES)
            if account.window_purposes[purpose]
        }
        outcome.sums["planner_late_ms"] = account.starved_ns // 10**6

    def _why_cut(self, account: Account) -> str:
        if account.requests.overloaded:
            return f"more than {self.workload.backlog_max} requests of a rank were waiting"
        if self.workload.requests is not None:
            return f"each rank had served the {self.workload.requests} requests that were asked for"
        return "the trace had ended"

    def _observed(self, control: Control, account: Account) -> AbstractContextManager[None]:
        """Reports window, processor time and counters of what is done inside, however it ends."""
        return observed(self._outcome, self._counters, control, lambda: account.last_ns)


def _core(executor: Executor, files: OpenFiles, settings: Settings) -> Core:
    return Core(
        name=executor.name,
        direct=files.direct,
        direct_refused=files.direct_refused,
        alignment_bytes=files.alignment_bytes,
        durability=settings.durability,
        io_size_bytes=settings.transfer_bytes,
        depth=settings.depth,
        rings=executor.shards,
        refused=executor.refused,
    )


def _sharded(make: Callable[[], Stream], shards: int) -> list[Stream]:
    """A stream for each shard of an executor, each out of one that `make` makes anew."""
    return [of_shard(make(), shard, shards) for shard in range(shards)]


def _begun(stream: Stream) -> Stream:
    """The same stream, its first block made now."""
    return chain(list(islice(stream, 1)), stream)


def _spread(rows: Stream) -> Stream:
    """The same rows, each block a user's own, so that all shards have their share."""
    for number, block in enumerate(rows):
        block["user"] = number % 2**32
        block["closes"] = 0
        block["closes"][-1] = 1
        yield block
