"""A run: epochs of training with what comes between them, on a dataset that is there."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from ..io_core.account import Account
from ..io_core.control import Control
from ..io_core.counts import Counter
from ..io_core.histogram import Histogram
from ..io_core.meter import Meter, counters_behind, moved_between, read_counts
from ..meeting import Together
from ..result import Core, Plan, usage_now, window_of
from ..stage import Session
from .batches import Course
from .checkpoint import path_of, write_checkpoint
from .content import Content
from .dataset import Split
from .epochs import Loader, Times, run_epoch
from .layouts import Layouts
from .opening import Dropped
from .reader import Reader, Reading, reader_for
from .report import CheckpointRecord, EpochRecord, EvaluationRecord, Record, training_document
from .sharding import Deal, Shard
from .workload import Checkpoint, Evaluation, Training

GENERATOR = "numpy Philox, one sequence for each epoch"
# Files that stay open between reads where a file has several.
OPEN_FILES = 64
_BLOCK_BYTES = 4096
_BESIDE_S = 0.05

DEVIATIONS = (
    "a step's computation lasts what was asked for, to the microsecond",
    "utilisation is also given by the computation that was asked for, and by the whole time",
    "times are those of the slowest rank",
    "bytes are those that reads returned",
    "sizes and content of a dataset do not depend on how many ranks made it",
    "files are incompressible, parquet without dictionaries unless asked for",
    "files are dropped from the page caches of all hosts by every rank, without root",
    "no batch is read ahead of an epoch",
    "files are dealt by one permutation that all ranks compute, not by exchanging lists",
    "an epoch ends after its last step",
)


class Run:
    """One rank's part, whose methods are the work of phases. Reads nothing unless `reads`."""

    def __init__(
        self,
        session: Session,
        training: Training,
        directory: Path,
        layouts: Layouts,
        *,
        reads: bool,
        dropped: Dropped | None = None,
    ) -> None:
        self.training = training
        self.reads = reads
        self.deal: Deal = training.deal(session.ranks, session.job.seed)
        self.epochs, self.steps = _length(training, self.deal, reads=reads)
        self._session = session
        self._directory = directory
        self._layouts = layouts
        self._dropped = dropped
        self._account = Account()
        self._counters: tuple[Counter, ...] = ()
        self._epochs: list[EpochRecord] = []
        self._evaluations: list[EvaluationRecord] = []
        self._checkpoints: list[CheckpointRecord] = []
        self._outcome = session.outcome
        self._outcome.latencies = {"batch_wait": Histogram(), "batch_read": Histogram()}
        self._outcome.facts |= {
            "workload": "training",
            "format": training.dataset.format,
            "files": training.dataset.files,
            "working_set_bytes": int(layouts.sizes_bytes[: training.dataset.train.files].sum()),
            "deviations": list(DEVIATIONS),
        }

    def train(self, together: Together) -> None:
        """All epochs, and what comes between them."""
        control = together.control
        control.shards(1)
        self._outcome.account = self._account
        # Now: what is to be found out about them shall not be in the way of timed I/O.
        self._counters = counters_behind(self._directory)
        with self._observed(control):
            self._go_through(together)

    def report(self) -> None:
        """Puts together what all ranks did; on the main threads, all at once."""
        own = Record(
            epochs=tuple(self._epochs),
            evaluations=tuple(self._evaluations),
            checkpoints=tuple(self._checkpoints),
            dropped=self._dropped,
        )
        records = self._session.gather(own)
        if records:
            self._outcome.training = training_document(
                self.training,
                records,
                reads=self.reads,
                steps=self.steps,
                dropped_samples=self.deal.dropped_samples,
            )

    def _go_through(self, together: Together) -> bool:
        """False where a rank failed or was stopped."""
        training = self.training
        for epoch in range(1, self.epochs + 1):
            if not self._train_epoch(together, epoch):
                return False
            if not self.reads:
                continue
            evaluation, checkpoint = training.evaluation, training.checkpoint
            if (
                checkpoint is not None
                and checkpoint.when.follows(epoch)
                and not self._save(together, checkpoint, epoch)
            ):
                return False
            if (
                evaluation is not None
                and evaluation.when.follows(epoch)
                and not self._evaluate(together, evaluation, epoch)
            ):
                return False
        return True

    def _train_epoch(self, together: Together, epoch: int) -> bool:
        training, rank = self.training, self._session.rank
        made: list[Loader] = []

        def make() -> None:
            shard = self.deal.shard(rank, self.deal.order(epoch))
            order = self.deal.sample_order(rank, epoch)
            course = self._course(training.dataset.train, shard, training.reader.batch, self.steps)
            if epoch == 1:
                self._outcome.plan = _plan(shard)
            made.append(self._loader(replace(course, sample_order=order)))

        with _closing(made):
            if not together.do(make):
                return False
            loader = made[0]
            started_s = together.control.elapsed_s
            before = read_counts(self._counters)
            times = self._steps(together, loader, self.steps, training.computation_ns)
            after = read_counts(self._counters)
            if times is None:
                return False
            record = EpochRecord(
                start_s=started_s,
                times=times,
                read_bytes=loader.reader.account().read_bytes,
                moved=moved_between(self._counters, before, after),
            )
            self._epochs.append(record)
        return True

    def _evaluate(self, together: Together, evaluation: Evaluation, epoch: int) -> bool:
        training, session = self.training, self._session
        deal = training.eval_deal(evaluation, session.ranks)
        made: list[Loader] = []

        def make() -> None:
            shard = deal.shard(session.rank, deal.order(epoch))
            course = self._course(training.dataset.eval, shard, evaluation.batch, deal.steps)
            made.append(self._loader(course))

        with _closing(made):
            if not together.do(make):
                return False
            times = self._steps(
                together, made[0], deal.steps, evaluation.computation_ns, waits=Histogram()
            )
            if times is None:
                return False
            read_bytes = made[0].reader.account().read_bytes
            self._evaluations.append(
                EvaluationRecord(after_epoch=epoch, times=times, read_bytes=read_bytes)
            )
        return True

    def _save(self, together: Together, checkpoint: Checkpoint, epoch: int) -> bool:
        control, rank = together.control, self._session.rank
        writes = checkpoint.ranks == "all" or rank == 0
        path = path_of(self._session.job.directory, epoch, rank)
        began_ns = time.monotonic_ns()

        def write() -> None:
            if writes:
                content = Content(self._session.job.seed + rank + 1)
                _beside(
                    lambda: write_checkpoint(path, checkpoint.size_bytes, content, control),
                    together.idle,
                )
                self._count_write(checkpoint.size_bytes, time.monotonic_ns() - began_ns)

        if not together.do(write):
            return False
        record = CheckpointRecord(
            after_epoch=epoch,
            written_bytes=checkpoint.size_bytes if writes else 0,
            wall_ns=time.monotonic_ns() - began_ns,
        )
        self._checkpoints.append(record)
        return True

    # ------------------------------------------------------------ parts

    def _steps(
        self,
        together: Together,
        loader: Loader,
        steps: int,
        computation_ns: int,
        waits: Histogram | None = None,
    ) -> Times | None:
        try:
            return run_epoch(
                together,
                loader,
                steps=steps,
                computation_ns=computation_ns,
                waits=self._outcome.latencies["batch_wait"] if waits is None else waits,
            )
        finally:
            self._count_reads(loader.reader)

    def _course(self, split: Split, shard: Shard, batch: int, steps: int) -> Course:
        return Course(
            dataset=self.training.dataset,
            split=split,
            first_file=self.training.split_base(split),
            layouts=self._layouts,
            shard=shard,
            sample_order=None,
            batch=batch,
            steps=steps,
            # A reader holds a few blocks, which together must be more than it reads ahead.
            block_batches=-(-self.training.reader.look_ahead_batches // 2),
        )

    def _loader(self, course: Course) -> Loader:
        """A reader that starts with the first block that it is fed."""
        reader = reader_for(self._reading())
        self._outcome.core = _core(reader, self._reading())
        return Loader(reader, course.blocks())

    def _reading(self) -> Reading:
        settings = self.training.reader
        longest = -(-self._layouts.longest_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
        return Reading(
            directory=self._directory,
            threads=settings.threads,
            look_ahead=settings.look_ahead_batches,
            # An aligned read of what is not aligned takes up to two blocks more.
            buffer_bytes=min(settings.buffer_bytes, longest + 2 * _BLOCK_BYTES),
            descriptors=0 if self._layouts.whole else OPEN_FILES,
            direct=settings.direct,
            evict=settings.cache == "drop" and not settings.direct,
            enabled=self.reads,
            core=settings.core,
        )

    def _count_reads(self, reader: Reader) -> None:
        """Adds what a reader has read to the account of the stage."""
        own, flow = reader.account(), self._account.read
        if not self.reads:
            return
        flow.window_bytes += own.read_bytes
        flow.total_bytes += own.read_bytes
        flow.window_operations += own.reads
        flow.total_operations += own.reads
        flow.latency.merge(own.reads_ns)
        self._outcome.latencies["batch_read"].merge(own.batches_ns)
        if self._outcome.core is not None:
            self._outcome.core = replace(
                self._outcome.core,
                direct=self.training.reader.direct and reader.direct_refused is None,
                direct_refused=reader.direct_refused,
            )

    def _count_write(self, size_bytes: int, took_ns: int) -> None:
        flow = self._account.write
        flow.window_bytes += size_bytes
        flow.total_bytes += size_bytes
        flow.window_operations += 1
        flow.total_operations += 1
        flow.latency.record([took_ns])

    @contextmanager
    def _observed(self, control: Control) -> Iterator[None]:
        """Reports window, processor time and counters of what is done inside, however it ends."""
        meter = Meter(self._counters if self.reads else (), control)
        try:
            with meter:
                before = usage_now()
                try:
                    yield
                finally:
                    self._outcome.window = window_of(control, time.monotonic_ns())
                    self._outcome.usage = usage_now().since(before)
        finally:
            self._outcome.moved = meter.moved()


def _length(training: Training, deal: Deal, *, reads: bool) -> tuple[int, int]:
    """Epochs and steps of each; without reads as many whole epochs as make enough steps."""
    steps = training.steps(deal)
    if reads or steps == 0:
        return training.epochs, steps
    steps = min(steps, training.ceiling_steps)
    return -(-training.ceiling_steps // steps), steps


def _plan(shard: Shard) -> Plan:
    digest = hashlib.sha256()
    for part in (shard.files, shard.first_samples, shard.samples):
        digest.update(part.tobytes())
    return Plan(sha256=digest.hexdigest(), generator=GENERATOR, hashed_operations=len(shard.files))


def _core(reader: Reader, reading: Reading) -> Core:
    return Core(
        name=reader.name,
        direct=reading.direct,
        direct_refused=reader.direct_refused,
        alignment_bytes=_BLOCK_BYTES if reading.direct else 1,
        durability="none",
        io_size_bytes=reading.buffer_bytes,
        depth=reading.threads,
        rings=0,
        refused=reader.refused,
    )


@contextmanager
def _closing(made: list[Loader]) -> Iterator[None]:
    """Closes the reader of a loader that was made inside."""
    try:
        yield
    finally:
        for loader in made:
            with closing(loader.reader):
                pass


def _beside(work: Callable[[], None], idle: Callable[[], None]) -> None:
    """Does what lasts in another thread, and raises what it raises; calls `idle` meanwhile."""
    raised: list[BaseException] = []

    def do() -> None:
        try:
            work()
        except BaseException as error:  # raised again below
            raised.append(error)

    thread = threading.Thread(target=do, name="checkpoint", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_BESIDE_S)
        idle()
    for error in raised:
        raise error
