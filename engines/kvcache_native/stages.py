"""The stages of the engine: prepare fills the slots, run measures, cleanup removes the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

from ..contract import Job
from ..errors import EngineError
from ..io_core.account import Account
from ..io_core.blocks import run_key
from ..io_core.control import Control
from ..io_core.devices import moved_behind
from ..io_core.directory import (
    claim,
    is_own,
    make_directory,
    recognise,
    release,
    remove_files,
    remove_if_empty,
)
from ..io_core.executor import Durability, Executor, executor_for
from ..io_core.files import OpenFiles, open_files, preallocate, sync_directory
from ..io_core.operations import Stream
from ..result import Core, Plan, usage_now, window_of
from ..stage import Needs, Session
from .layout import Layout, layout_of, rank_name
from .plan import GENERATOR, HASHED_OPERATIONS, PREFILL, PREFIX, Planner
from .workload import Workload, workload_of

_BASE_MEMORY_BYTES = 96 * 2**20
_USER_MEMORY_BYTES = 4096


class KvCacheEngine:
    """The KV-cache benchmark with its own I/O."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """Disk for every slot of every rank; memory for the buffers of what is in flight."""
        workload = workload_of(job.benchmark)
        settings = workload.settings(key=0, pool_seed=0, durability="none")
        return Needs(
            disk_bytes=ranks * workload.slots * workload.slot_bytes,
            memory_bytes_per_rank=_BASE_MEMORY_BYTES
            + settings.buffer_bytes
            + workload.users * _USER_MEMORY_BYTES,
            disk_arithmetic=f"{workload.users} users x {workload.chunks_per_user} chunks"
            f" x {workload.slot_bytes / 2**20:.6g} MiB x {ranks} ranks",
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {"prepare": prepare, "run": run, "cleanup": cleanup}


def prepare(session: Session) -> None:
    """Makes the job's directory and every rank's files, and writes version 0 into every slot."""
    job = session.job

    def claim_directory(_: Control) -> None:
        if session.rank == 0:
            claim(job.directory, job.sha256)

    with closing(_bench(session)) as bench:
        bench.describe()
        size_bytes = bench.workload.slots * bench.workload.slot_bytes
        session.phase("claiming", claim_directory, unit="files", total=0)
        session.phase("reserving", bench.reserve, unit="files", total=bench.layout.segments)
        session.phase("filling", bench.fill, unit="bytes", total=size_bytes)


def run(session: Session) -> None:
    """Runs the conversations for the ramp and the measured window."""
    with closing(_bench(session)) as bench:
        bench.describe()
        session.phase("opening", bench.open, unit="files", total=0)
        session.phase("warming", bench.warm, unit="bytes", total=bench.warming_bytes)
        ramp_s, duration_s = bench.workload.ramp_s, bench.workload.duration_s
        control = Control(ramp_s=ramp_s, duration_s=duration_s)
        session.phase(
            "running", bench.measure, unit="s", total=ramp_s + duration_s, control=control
        )


def cleanup(session: Session) -> None:
    """Removes the files that prepare has made and the directories that are then empty."""
    layout = _bench(session).layout
    job = session.job
    lists = session.outcome.lists
    lists["left"] = []

    def remove(control: Control) -> None:
        if is_own(job.directory, job.sha256):
            for name in layout.names:
                control.done += remove_files(layout.directory, [name])
            lists["left"] += remove_if_empty(layout.directory)

    def release_directory(_: Control) -> None:
        if session.rank == 0:
            ranks = (rank_name(rank) for rank in range(session.ranks))
            lists["left"] += release(job.directory, job.sha256, ranks)

    session.phase("removing", remove, unit="files", total=len(layout.names))
    session.phase("releasing", release_directory, unit="files", total=0)


def _bench(session: Session) -> _Bench:
    return _Bench(session, session.agree(lambda: workload_of(session.job.benchmark)))


class _Bench:
    """One rank's workload and files; its methods are the work of phases."""

    def __init__(self, session: Session, workload: Workload) -> None:
        job = session.job
        self.workload = workload
        self.layout: Layout = layout_of(workload, job.directory, session.rank)
        self.warming_bytes = 0
        self._job = job
        self._outcome = session.outcome
        self._rank = session.rank
        self._planner = Planner(
            workload=workload, layout=self.layout, seed=job.seed, rank=session.rank
        )
        self._opened: tuple[OpenFiles, Executor] | None = None

    def describe(self) -> None:
        """Puts the sizes into the result."""
        workload = self.workload
        self._outcome.facts |= {
            "users_per_rank": workload.users,
            "transfers_in_flight_per_rank": workload.queue_depth,
            "token_bytes": workload.model.token_bytes,
            "chunk_bytes": workload.chunk_bytes,
            "slot_bytes": workload.slot_bytes,
        }
        self._outcome.sums |= {
            "users": workload.users,
            "working_set_bytes": workload.slots * workload.slot_bytes,
        }

    def reserve(self, control: Control) -> None:
        """Makes this rank's files with their space."""
        recognise(self._job.directory, self._job.sha256)
        make_directory(self.layout.directory)
        self.layout.forget_runs()
        for segment, path in enumerate(self.layout.paths):
            if control.stopped:
                return
            preallocate(path, self.layout.segment_bytes(segment))
            control.done += 1
        self._start(runs=0, durability="none")

    def fill(self, control: Control) -> None:
        """Writes every slot and makes all of it durable, which belongs to the time it takes."""
        account = self._outcome.account = Account()
        with self._observed(control, account):
            self._execute(self._planner.fill, control, account)
            if control.stopped:
                return
            self._files.sync()
            sync_directory(self.layout.directory)
        self.layout.write_runs(0)

    def open(self, _: Control) -> None:
        """Checks that the files are as prepare has left them, opens them, hashes the plan."""
        recognise(self._job.directory, self._job.sha256)
        self.layout.check_sizes()
        runs = self.layout.read_runs()
        self._outcome.plan = Plan(
            sha256=self._planner.sha256(),
            generator=GENERATOR,
            hashed_operations=HASHED_OPERATIONS,
        )
        self._start(runs=runs, durability=self.workload.durability)
        # Before anything is stored: should this run be cut short, the next one knows of it.
        self.layout.write_runs(runs + 1)
        if runs:
            self.warming_bytes = self._planner.warm_slots() * self.layout.slot_bytes

    def warm(self, control: Control) -> None:
        """After an earlier run, which has changed the slots: stores the first prefixes again."""
        account = Account()
        if self.warming_bytes:
            self._execute(self._planner.warm, control, account)
        self._outcome.sums["warming_bytes"] = account.write.total_bytes

    def measure(self, control: Control) -> None:
        """Carries out the plan until the window ends, then waits for what is in flight."""
        account = self._outcome.account = Account()
        try:
            with self._observed(control, account):
                self._execute(self._planner.stream, control, account)
        finally:
            tokens = self.workload.chunk_tokens
            self._outcome.sums |= {
                "requests": account.window_requests,
                "prefix_tokens_loaded": account.window_purposes[PREFIX] * tokens,
                "prefill_tokens_stored": account.window_purposes[PREFILL] * tokens,
            }

    def close(self) -> None:
        """Ends the executor's threads and closes the files."""
        if self._opened is not None:
            self._executor.close()
            self._files.close()

    @property
    def _files(self) -> OpenFiles:
        assert self._opened is not None, "a phase before this one opens the files"
        return self._opened[0]

    @property
    def _executor(self) -> Executor:
        assert self._opened is not None, "a phase before this one makes the executor"
        return self._opened[1]

    def _start(self, *, runs: int, durability: Durability) -> None:
        """Opens the files and makes the executor; blocks of each run have a key of their own."""
        workload = self.workload
        files = open_files(self.layout.paths, direct=workload.direct, dsync=durability == "dsync")
        settings = workload.settings(
            key=run_key(self._job.run_id, runs),
            pool_seed=self._job.seed + self._rank,
            durability=durability,
        )
        try:
            executor = executor_for(files, settings)
        except EngineError:
            files.close()
            raise
        self._opened = (files, executor)
        self._outcome.core = Core(
            name=executor.name,
            direct=files.direct,
            direct_refused=files.direct_refused,
            alignment_bytes=files.alignment_bytes,
            durability=durability,
            io_size_bytes=settings.transfer_bytes,
            depth=settings.depth,
            rings=executor.shards,
            refused=executor.refused,
        )

    def _execute(
        self, stream_of: Callable[[int, int], Stream], control: Control, account: Account
    ) -> None:
        shards = self._executor.shards
        streams = [stream_of(shard, shards) for shard in range(shards)]
        self._executor.execute(streams, control, account)

    @contextmanager
    def _observed(self, control: Control, account: Account) -> Iterator[None]:
        """Reports window, processor time and device of what is done inside, however it ends."""
        before = usage_now()
        device = moved_behind(self._job.directory)
        try:
            yield
        finally:
            after = moved_behind(self._job.directory)
            if device is not None and after is not None:
                self._outcome.moved = after.since(device)
            self._outcome.window = window_of(control, account.last_ns)
            self._outcome.usage = usage_now().since(before)
