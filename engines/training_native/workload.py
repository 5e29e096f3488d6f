"""What a training job asks of each rank, read from the benchmark's sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .dataset import Dataset, Split, dataset_of
from .formats.extents import Projection, Selection
from .reader import ReaderChoice
from .sharding import Deal

Cache = Literal["drop", "keep"]
Writers = Literal["first", "all"]

# Parts of these files are of no use by themselves, or their readers go through them in order.
_IN_ORDER = ("parquet", "tfrecord")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """How a rank reads; see the schema of the family."""

    batch: int
    threads: int
    prefetch_batches: int
    shuffle_files: bool
    shuffle_samples: bool
    reseed: bool
    selection: Selection
    buffer_bytes: int
    direct: bool
    cache: Cache
    core: ReaderChoice

    @property
    def look_ahead_batches(self) -> int:
        """Batches that are read ahead: as many for each thread, as DLIO has it."""
        return self.threads * -(-self.prefetch_batches // self.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """After which epochs something is done."""

    after_epoch: int
    every_epochs: int

    def follows(self, epoch: int) -> bool:
        """Whether it is done after this epoch, counted from 1."""
        return epoch >= self.after_epoch and (epoch - self.after_epoch) % self.every_epochs == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Evaluations on the files of the second split."""

    computation_ns: int
    batch: int
    when: Between


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Checkpoints that are written between epochs."""

    size_bytes: int
    ranks: Writers
    when: Between

    def written_bytes(self, epochs: int, ranks: int) -> int:
        """Bytes of all checkpoints of a run."""
        times = sum(self.when.follows(epoch) for epoch in range(1, epochs + 1))
        return times * self.size_bytes * (ranks if self.ranks == "all" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All of it. Durations of computations are in whole ns."""

    dataset: Dataset
    reader: ReaderSettings
    epochs: int
    computation_ns: int
    steps_max: int | None
    evaluation: Evaluation | None
    checkpoint: Checkpoint | None
    ceiling_steps: int

    def deal(self, ranks: int, seed: int) -> Deal:
        """How the samples that are trained on are dealt."""
        reader = self.reader
        return Deal(
            files=self.dataset.train.files,
            samples_per_file=self.dataset.samples_per_file,
            ranks=ranks,
            batch=reader.batch,
            seed=seed,
            shuffle_files=reader.shuffle_files,
            shuffle_samples=reader.shuffle_samples,
            reseed=reader.reseed,
        )

    def eval_deal(self, evaluation: Evaluation, ranks: int) -> Deal:
        """How those of evaluations are: always in the same order."""
        return Deal(
            files=self.dataset.eval.files,
            samples_per_file=self.dataset.samples_per_file,
            ranks=ranks,
            batch=evaluation.batch,
            seed=0,
            shuffle_files=False,
            shuffle_samples=False,
        )

    def steps(self, deal: Deal) -> int:
        """Steps of an epoch."""
        return deal.steps if self.steps_max is None else min(deal.steps, self.steps_max)

    def split_base(self, split: Split) -> int:
        """The number of a split's first file."""
        return 0 if split.name == "train" else self.dataset.train.files


def training_of(benchmark: Document) -> Training:
    """Reads the benchmark; raises JobError naming what is wrong."""
    section = Section(benchmark)
    train = section.section("train")
    training = Training(
        dataset=dataset_of(section.section("dataset")),
        reader=_reader(section.section("reader")),
        epochs=train.count("epochs"),
        computation_ns=round(train.number("computation_s") * 1e9),
        steps_max=train.count_or_none("steps_max"),
        evaluation=_evaluation(section),
        checkpoint=_checkpoint(section),
        ceiling_steps=section.section("ceiling").count("steps", least=2),
    )
    _check(training)
    return training


def check_steps(training: Training, ranks: int) -> None:
    """Raises JobError where the dataset is too small for one step of every rank."""
    _require_step("train", training.deal(ranks, seed=0))
    if training.evaluation is not None:
        _require_step("eval", training.eval_deal(training.evaluation, ranks))


def _require_step(name: str, deal: Deal) -> None:
    if deal.steps < 1:
        raise JobError(
            f"dataset.{name} has {deal.files} files of {deal.samples_per_file} samples: too few for"
            f" one step of {deal.ranks} ranks with a batch of {deal.batch};"
            f" it takes {-(-deal.ranks * deal.batch // deal.samples_per_file)} files"
        )


def _check(training: Training) -> None:
    dataset, reader = training.dataset, training.reader
    if reader.shuffle_samples and dataset.format in _IN_ORDER and dataset.samples_per_file > 1:
        raise JobError(
            f"samples of {dataset.format} files are read as they follow one another:"
            " set reader.shuffle_samples=false"
        )
    if reader.selection.projection != "all" and dataset.format != "parquet":
        raise JobError(
            f"reader.projection is for parquet, the dataset's format is {dataset.format}:"
            " set reader.projection=all"
        )


def _reader(section: Section) -> ReaderSettings:
    return ReaderSettings(
        batch=section.count("batch"),
        threads=section.count("threads"),
        prefetch_batches=section.count("prefetch_batches"),
        shuffle_files=section.flag("shuffle_files"),
        shuffle_samples=section.flag("shuffle_samples"),
        reseed=section.flag("reseed"),
        selection=Selection(
            projection=section.choice("projection", get_args(Projection)),
            gap_bytes=section.count("gap_bytes", least=0),
        ),
        buffer_bytes=section.count("buffer_bytes"),
        direct=section.flag("direct"),
        cache=section.choice("cache", get_args(Cache)),
        core=section.choice("core", get_args(ReaderChoice)),
    )


def _between(section: Section) -> Between:
    return Between(
        after_epoch=section.count("after_epoch"), every_epochs=section.count("every_epochs")
    )


def _evaluation(section: Section) -> Evaluation | None:
    if "evaluation" not in section:
        return None
    own = section.section("evaluation")
    return Evaluation(
        computation_ns=round(own.number("computation_s") * 1e9),
        batch=own.count("batch"),
        when=_between(own),
    )


def _checkpoint(section: Section) -> Checkpoint | None:
    if "checkpoint" not in section:
        return None
    own = section.section("checkpoint")
    return Checkpoint(
        size_bytes=own.count("bytes"),
        ranks=own.choice("ranks", get_args(Writers)),
        when=_between(own),
    )
