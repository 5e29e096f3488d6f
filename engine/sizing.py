"""How many files a training dataset must have, by Rules 3.1.2, and how many steps it gives.

Pure and exact, and the one place where it is computed: plan, run and verification take it from
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRule:
    """Rules 3.1.2: an epoch has at least so many steps, the dataset so many times the memory."""

    steps_per_epoch: int
    memory_times: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a dataset has to be large enough for.

    `accelerators` and `memory_bytes` are those of all hosts together, the memory the larger of what
    was declared and what was measured, each host once. `record_bytes` may be broken: 114660.07.
    """

    accelerators: int
    batch: int
    samples_per_file: int
    record_bytes: Fraction
    memory_bytes: int
    rule: SizeRule

    @property
    def file_bytes(self) -> Fraction:
        """The records of a file."""
        return self.samples_per_file * self.record_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSize:
    """The least that a dataset may be, and which of the two demands makes it so."""

    demand: Demand
    steps_files: int
    memory_files: int

    @property
    def files(self) -> int:
        """The larger of the two."""
        return max(self.steps_files, self.memory_files)

    @property
    def samples(self) -> int:
        """Samples in these files."""
        return self.files * self.demand.samples_per_file

    @property
    def gib(self) -> float:
        """Records in these files, in 2^30 bytes."""
        return float(self.samples * self.demand.record_bytes / GIB)

    def arithmetic(self) -> str:
        """How it came out, for people: both demands, and the larger one."""
        demand = self.demand
        return (
            f"{self.steps_arithmetic()}; "
            f"memory: {demand.rule.memory_times:g} x {demand.memory_bytes / GIB:,.2f} GiB / "
            f"{float(demand.file_bytes):,.0f} bytes a file = {self.memory_files:,} files; "
            f"at least {self.files:,} files, {self.gib:,.1f} GiB"
        )

    def steps_arithmetic(self) -> str:
        """The demand by steps alone."""
        demand = self.demand
        noun = "accelerator" if demand.accelerators == 1 else "accelerators"
        return (
            f"steps: {demand.rule.steps_per_epoch} x {demand.accelerators} {noun} x batch "
            f"{demand.batch} / {demand.samples_per_file} samples a file = "
            f"{self.steps_files:,} files"
        )


def dataset_size(demand: Demand) -> DatasetSize:
    """The least dataset for a demand: both numbers of files rounded up, the larger one counts."""
    samples = demand.rule.steps_per_epoch * demand.accelerators * demand.batch
    memory_bytes = Fraction(demand.rule.memory_times) * demand.memory_bytes
    return DatasetSize(
        demand=demand,
        steps_files=ceil(Fraction(samples, demand.samples_per_file)),
        memory_files=ceil(memory_bytes / demand.file_bytes),
    )


def memory_of(declared_gib_per_host: float | None, hosts: int, measured_bytes: int | None) -> int:
    """The memory that counts: the larger of declared and measured, of all hosts together.

    Raises ValueError where neither is known.
    """
    declared = None
    if declared_gib_per_host is not None:
        declared = ceil(Fraction(str(declared_gib_per_host)) * hosts * GIB)
    known = [size for size in (declared, measured_bytes) if size is not None]
    if not known:
        raise ValueError("the memory of the hosts is neither declared nor known")
    return max(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What of a dataset an epoch reads: steps of each rank, and samples that no rank reads."""

    steps: int
    dropped_samples: int


def epoch_of(*, files: int, samples_per_file: int, ranks: int, batch: int) -> Epoch:
    """An equal part of the samples to each rank, whole batches only."""
    samples = files * samples_per_file
    steps = samples // ranks // batch
    return Epoch(steps=steps, dropped_samples=samples - steps * batch * ranks)
