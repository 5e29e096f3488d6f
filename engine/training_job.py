"""What the configuration of a training job says of its dataset, its steps and its threshold. Pure.

A benchmark of another family says nothing of it: then there are no such settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from .canonical import Document
from .sizing import DatasetSize, Demand, Epoch, SizeRule, dataset_size, epoch_of, memory_of
from .spec import JobSpec
from .units import GIB
from .variants import benchmark_of

FAMILY = "training"

# As they count in the size of a record; bool is a byte there too.
_DTYPE_BYTES = {
    "bool": 1, "int8": 1, "uint8": 1,
    "float16": 2, "int16": 2, "uint16": 2,
    "float32": 4, "int32": 4, "uint32": 4,
    "float64": 8, "int64": 8, "uint64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What one option of a training job trains on, and what it must reach; None: no options."""

    option: str | None
    hosts: int
    accelerators: int
    files: int
    eval_files: int
    samples_per_file: int
    record_bytes: Fraction
    batch: int
    epochs: int
    steps_max: int | None
    evaluation_batch: int | None
    generates: bool
    keeps_cache: bool
    au_least_pct: float
    host_memory_gib: float | None
    size_rule: SizeRule

    @property
    def nominal_gib(self) -> float:
        """The records of the files that are trained on."""
        return float(self.files * self.samples_per_file * self.record_bytes / GIB)

    @property
    def epoch(self) -> Epoch:
        """What of the dataset an epoch reads; `train.steps_max` may end it earlier."""
        return epoch_of(
            files=self.files,
            samples_per_file=self.samples_per_file,
            ranks=self.accelerators,
            batch=self.batch,
        )

    def memory_bytes(self, measured_bytes: int | None) -> int | None:
        """The memory that the dataset is compared with; None where nothing is known of it."""
        try:
            return memory_of(self.host_memory_gib, self.hosts, measured_bytes)
        except ValueError:
            return None

    def least_size(self, memory_bytes: int | None) -> DatasetSize:
        """The least dataset by Rules 3.1.2; without a memory that by the steps alone."""
        return dataset_size(
            Demand(
                accelerators=self.accelerators,
                batch=self.batch,
                samples_per_file=self.samples_per_file,
                record_bytes=self.record_bytes,
                memory_bytes=memory_bytes or 0,
                rule=self.size_rule,
            )
        )


def training_jobs(spec: JobSpec) -> tuple[TrainingJob, ...]:
    """What a job trains on, for each of its options; empty for other families."""
    if spec.family != FAMILY:
        return ()
    return tuple(
        _training_job(spec, option, benchmark_of(spec.document, option))
        for option in spec.options or (None,)
    )


def _training_job(spec: JobSpec, option: str | None, benchmark: Document) -> TrainingJob:
    dataset, reader, train = (benchmark[name] for name in ("dataset", "reader", "train"))
    evaluation = benchmark["evaluation"]
    return TrainingJob(
        option=option,
        hosts=len(spec.cluster.hosts),
        accelerators=spec.cluster.ranks,
        files=dataset["train"]["files"],
        eval_files=dataset["eval"]["files"],
        samples_per_file=dataset["samples_per_file"],
        record_bytes=_record_bytes(dataset),
        batch=reader["batch"],
        epochs=train["epochs"],
        steps_max=train["steps_max"],
        evaluation_batch=None if evaluation is None else evaluation["batch"],
        generates=dataset["generate"],
        keeps_cache=reader["cache"] == "keep",
        au_least_pct=benchmark["au_least_pct"],
        host_memory_gib=benchmark["host_memory_gib"],
        size_rule=read_size_rule(spec.document["edition"]),
    )


def read_size_rule(edition: Document) -> SizeRule:
    """How large a dataset must be, as an edition's document holds it."""
    limits = edition["training"]
    return SizeRule(steps_per_epoch=limits["steps_per_epoch"], memory_times=limits["memory_times"])


def _record_bytes(dataset: Document) -> Fraction:
    """A sample's nominal size; where it is not given, that of a row of the columns, at least 1."""
    if dataset["record_bytes"] is not None:
        return Fraction(str(dataset["record_bytes"]))
    return Fraction(max(1, _row_bytes(dataset["parquet"]["columns"])))


def _row_bytes(columns: Sequence[Document]) -> int:
    return sum(_DTYPE_BYTES[column["dtype"]] * column.get("size", 1) for column in columns)
