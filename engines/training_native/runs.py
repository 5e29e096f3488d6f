"""A run: epochs of training with what comes between them, on a dataset that is there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..io_core.account import Account
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.counts import Counter
from ..io_core.histogram import Histogram
from ..io_core.meter import counters_behind, moved_between, read_counts
from ..meeting import Beside, Together
from ..observed import observed
from ..result import Core, Plan
from ..stage import Session
from .batches import Course
from .checkpoint import path_of, write_checkpoint
from .content import Content
from .dataset import Split
from .epochs import Loader, run_epoch
from .layouts import Layouts
from .opening import Dropped
from .reader import Reader, ReaderAccount, Reading, reader_for
from .report import CheckpointRecord, EpochRecord, EvaluationRecord, Record, training_document
from .sharding import Deal, Order, Shard
from .workload import Checkpoint, Evaluation, Training

GENERATOR = "numpy Philox, one sequence for each epoch"
# Files that stay open between reads where a file has several.
OPEN_FILES = 64

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
        self._reading = _reading_of(training, directory, layouts, reads=reads)
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
        counters = self._counters if self.reads else ()
        with observed(self._outcome, counters, control, time.monotonic_ns):
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

        def plan() -> Course:
            shard = self.deal.shard(rank, self.deal.order(epoch))
            if epoch == 1:
                self._outcome.plan = _plan(shard)
            order = self.deal.sample_order(rank, epoch)
            split, batch = training.dataset.train, training.reader.batch
            return self._course(split, shard, batch, self.steps, order)

        waits = self._outcome.latencies["batch_wait"]
        record = self._go_over(together, plan, training.computation_ns, waits)
        if record is None:
            return False
        self._epochs.append(record)
        return True

    def _evaluate(self, together: Together, evaluation: Evaluation, epoch: int) -> bool:
        training, session = self.training, self._session
        deal = training.eval_deal(evaluation, session.ranks)

        def plan() -> Course:
            shard = deal.shard(session.rank, deal.order(epoch))
            return self._course(training.dataset.eval, shard, evaluation.batch, deal.steps)

        record = self._go_over(together, plan, evaluation.computation_ns, Histogram())
        if record is None:
            return False
        self._evaluations.append(
            EvaluationRecord(after_epoch=epoch, times=record.times, read_bytes=record.read_bytes)
        )
        return True

    def _go_over(
        self,
        together: Together,
        plan: Callable[[], Course],
        computation_ns: int,
        waits: Histogram,
    ) -> EpochRecord | None:
        """Plans a course in all ranks and takes its steps; None where it was ended early."""
        made: list[tuple[Loader, int]] = []
        with ExitStack() as held:

            def make() -> None:
                course = plan()
                # It starts with the first block that it is fed.
                reader = reader_for(self._reading)
                held.callback(reader.close)
                self._outcome.core = _core(reader, self._reading)
                made.append((Loader(reader, course.blocks()), course.steps))

            if not together.do(make):
                return None
            ((loader, steps),) = made
            started_s = together.control.elapsed_s
            before = read_counts(self._counters)
            try:
                times = run_epoch(
                    together, loader, steps=steps, computation_ns=computation_ns, waits=waits
                )
            finally:
                after = read_counts(self._counters)
                account = loader.reader.account()
                self._count_reads(loader.reader, account)
        if times is None:
            return None
        without_windows = [None] * len(self._counters)
        return EpochRecord(
            start_s=started_s,
            times=times,
            read_bytes=account.read_bytes,
            moved=moved_between(self._counters, before, after, without_windows),
        )

    def _save(self, together: Together, checkpoint: Checkpoint, epoch: int) -> bool:
        control, rank = together.control, self._session.rank
        writes = checkpoint.ranks == "all" or rank == 0
        path = path_of(self._session.job.directory, epoch, rank)
        began_ns = time.monotonic_ns()

        def write() -> None:
            if writes:
                content = Content(self._session.job.seed + rank + 1)
                saving = Beside(
                    lambda: write_checkpoint(path, checkpoint.size_bytes, content, control),
                    "checkpoint",
                )
                saving.wait(together.idle)
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

    def _course(
        self,
        split: Split,
        shard: Shard,
        batch: int,
        steps: int,
        sample_order: Order | None = None,
    ) -> Course:
        return Course(
            dataset=self.training.dataset,
            split=split,
            first_file=self.training.split_base(split),
            layouts=self._layouts,
            shard=shard,
            sample_order=sample_order,
            batch=batch,
            steps=steps,
            # A reader holds a few blocks, which together must be more than it reads ahead.
            block_batches=-(-self.training.reader.look_ahead_batches // 2),
        )

    def _count_reads(self, reader: Reader, own: ReaderAccount) -> None:
        """Adds what a reader has read to the account of the stage."""
        if not self.reads:
            return
        flow = self._account.read
        flow.window_bytes += own.read_bytes
        flow.total_bytes += own.read_bytes
        flow.window_operations += own.reads
        flow.total_operations += own.reads
        flow.latency.merge(own.reads_ns)
        self._outcome.latencies["batch_read"].merge(own.batches_ns)
        # Whether reads can be direct is found out with the first block.
        self._outcome.core = _core(reader, self._reading)

    def _count_write(self, size_bytes: int, took_ns: int) -> None:
        flow = self._account.write
        flow.window_bytes += size_bytes
        flow.total_bytes += size_bytes
        flow.window_operations += 1
        flow.total_operations += 1
        flow.latency.record([took_ns])


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


def _reading_of(training: Training, directory: Path, layouts: Layouts, *, reads: bool) -> Reading:
    """How all epochs are read."""
    settings = training.reader
    longest = -(-layouts.longest_bytes // BLOCK_BYTES) * BLOCK_BYTES
    return Reading(
        directory=directory,
        threads=settings.threads,
        look_ahead=settings.look_ahead_batches,
        # An aligned read of what is not aligned takes up to two blocks more.
        buffer_bytes=min(settings.buffer_bytes, longest + 2 * BLOCK_BYTES),
        descriptors=0 if layouts.whole else OPEN_FILES,
        direct=settings.direct,
        evict=settings.cache == "drop" and not settings.direct,
        enabled=reads,
        core=settings.core,
    )


def _core(reader: Reader, reading: Reading) -> Core:
    return Core(
        name=reader.name,
        direct=reading.direct and reader.direct_refused is None,
        direct_refused=reader.direct_refused,
        alignment_bytes=BLOCK_BYTES if reading.direct else 1,
        durability="none",
        io_size_bytes=reading.buffer_bytes,
        depth=reading.threads,
        rings=0,
        refused=reader.refused,
    )
