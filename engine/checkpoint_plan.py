"""What `mlps plan` says of a checkpoint: its size, its files, and whether accelerators hold it.

The engine computes it, asked on this machine as before a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .canonical import Document
from .checkpoint_job import CheckpointJob, checkpoint_jobs
from .checkpoint_metrics import layout_bytes
from .checkpoint_rules import judge_form, judge_told_accelerators, told_layout
from .needs import Needs, ask_needs, refusal
from .plan import Plan
from .rank_environment import rank_environment
from .rules import Finding
from .spec import JobSpec
from .tables import numbered
from .units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSize:
    """The checkpoint of a job; without needs, why the engine states none.

    Of several options the sizes are those that need most on disk, all else is the first one's.
    """

    job: CheckpointJob
    needs: Needs | None
    trouble: str = ""

    @property
    def layout(self) -> Document | None:
        return None if self.needs is None else told_layout(self.needs.facts)

    def findings(self, spec: JobSpec) -> list[Finding]:
        """What is known to be wrong before the run."""
        facts = {} if self.needs is None else self.needs.facts
        refused = [refusal(spec, self.trouble)] if self.needs is None else []
        return [*judge_form(spec), *judge_told_accelerators(spec, facts), *refused]

    def as_document(self) -> Document | None:
        """What `mlps plan --json` holds as `checkpoint`."""
        layout = self.layout
        if self.needs is None or layout is None:
            return None
        return {
            **layout,
            "bytes": layout_bytes(layout),
            "disk_bytes": self.needs.disk_bytes,
            "accelerators": self.job.ranks,
            "accelerator_memory_gib": self.job.memory_gib,
            "table_gib": self.job.table_gib,
            "held": self._held(layout),
        }

    def _held(self, layout: Document) -> bool | None:
        """Whether the accelerators hold it; None where nobody says how much memory they have."""
        memory_gib = self.job.all_memory_gib
        demand_gib = self.job.demand_gib(layout["formula_bytes"])
        return None if memory_gib is None else memory_gib >= demand_gib

    def lines(self) -> Iterator[str]:
        """The same for people."""
        layout = self.layout
        if self.needs is None or layout is None:
            return
        size, most = layout_bytes(layout), layout["rank_bytes_most"]
        formula = ""
        if layout["scale"] != 1:
            whole = layout["formula_bytes"] / GIB
            formula = f", {100 * layout['scale']:g} % of {whole:,.2f} GiB"
        yield (
            f"checkpoint: {layout['parameters']:,} parameters, {size / GIB:,.2f} GiB{formula} "
            f"(model {layout['model_bytes'] / GIB:,.2f} GiB in "
            f"{numbered(layout['model_files'], 'file')}, optimizer "
            f"{layout['optimizer_bytes'] / GIB:,.2f} GiB in "
            f"{numbered(layout['optimizer_files'], 'file')})"
        )
        yield (
            f"each rank: {layout['rank_bytes_least'] / GIB:,.3f} to {most / GIB:,.3f} GiB "
            f"({layout['rank_bytes_least']:,} to {most:,} bytes)"
        )
        yield (
            f"writes and reads: {self.job.writes} and {self.job.reads}; on disk "
            f"{self.needs.disk_bytes / GIB:,.2f} GiB ({self.needs.disk_arithmetic})"
        )
        yield self._accelerators(layout)

    def _accelerators(self, layout: Document) -> str:
        job, held = self.job, self._held(layout)
        demand = f"{job.demand_gib(layout['formula_bytes']):,.2f} GiB"
        if job.table_gib is not None:
            demand += " (the larger of computed and Rules)"
        count = numbered(job.ranks, "accelerator")
        if held is None:
            return (
                f"{count}, of a memory that is not declared, must hold {demand}: "
                "benchmark.accelerator.memory_gib=GIB"
            )
        return (
            f"{count} with {job.all_memory_gib:,.2f} GiB of memory together "
            f"{'hold' if held else 'do not hold'} {demand}"
        )


def checkpoint_size_of(
    spec: JobSpec, plan: Plan, environ: Mapping[str, str]
) -> CheckpointSize | None:
    """The checkpoint of a checkpointing job; None for other jobs. Asks the engine on this machine.

    A mistake that only the engine finds is the trouble of what is returned.
    """
    jobs = checkpoint_jobs(spec)
    if not jobs:
        return None
    try:
        needs = ask_needs(spec, plan, rank_environment(spec, "plan", environ))
    except (ValueError, KeyError, TypeError) as error:
        return CheckpointSize(job=jobs[0], needs=None, trouble=str(error))
    return CheckpointSize(job=jobs[0], needs=needs)
