"""What the configuration of a checkpointing job says that it is judged by. Pure.

A benchmark of another family says nothing of it: then there are no such settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .canonical import Document
from .spec import JobSpec
from .units import GIB
from .variants import benchmark_of

FAMILY = "checkpointing"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointJob:
    """What one option of a checkpointing job writes and reads; `option` None: no options.

    A rank is an accelerator. `memory_gib` is that of one, `count` how many a score takes and
    `table_gib` how large the rules say a checkpoint is; None where nobody says it.
    """

    option: str | None
    ranks: int
    ranks_per_host_least: int
    writes: int
    reads: int
    subset: bool
    scale: float
    trains: bool
    evicts: bool
    fsync: bool
    memory_gib: float | None
    count: int | None
    table_gib: float | None

    @property
    def all_memory_gib(self) -> float | None:
        """The memory of all accelerators."""
        return None if self.memory_gib is None else self.memory_gib * self.ranks

    def demand_gib(self, formula_bytes: int) -> float:
        """What the accelerators must hold: the larger of the computed size and the rules' own."""
        return max(formula_bytes / GIB, self.table_gib or 0.0)

    def planned(self, does: str) -> int:
        """Checkpoints that a stage which does this is to have."""
        return {"write": self.writes, "read": self.reads}.get(does, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLimits:
    """What an edition says of the form of a score (Rules 4.6.2, 4.6.3, 4.7.1 and Table 3)."""

    checkpoints: int
    ranks_per_host_over: int
    gap_s_most: float
    accelerator_memory_gb: Mapping[str, float]


def checkpoint_limits(spec: JobSpec) -> CheckpointLimits:
    """The limits of the job's edition."""
    return read_limits(spec.document["edition"])


def read_limits(edition: Document) -> CheckpointLimits:
    """The limits as an edition's document holds them."""
    return CheckpointLimits(**edition["checkpointing"])


def checkpoint_jobs(spec: JobSpec) -> tuple[CheckpointJob, ...]:
    """What a job writes and reads, for each of its options; empty for other families."""
    if spec.family != FAMILY:
        return ()
    return tuple(
        _checkpoint_job(spec, option, benchmark_of(spec.document, option))
        for option in spec.options or (None,)
    )


def _checkpoint_job(spec: JobSpec, option: str | None, benchmark: Document) -> CheckpointJob:
    accelerator = benchmark["accelerator"]
    return CheckpointJob(
        option=option,
        ranks=spec.cluster.ranks,
        ranks_per_host_least=min(host.ranks for host in spec.cluster.hosts),
        writes=benchmark["writes"],
        reads=benchmark["reads"],
        subset=benchmark["parallelism"]["mode"] == "subset",
        scale=benchmark["scale"],
        trains=benchmark["training"] is not None,
        evicts=benchmark["eviction"]["when"] != "never",
        fsync=benchmark["io"]["fsync"],
        memory_gib=accelerator["memory_gib"],
        count=accelerator["count"],
        table_gib=accelerator["checkpoint_gib"],
    )
