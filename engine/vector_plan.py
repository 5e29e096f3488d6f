"""What `mlps plan` says of vector search: sizes of vectors, index and truth, and what is run.

The engine computes sizes, asked on this machine as before a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .canonical import Document
from .needs import Needs, ask_needs, refusal
from .plan import Plan
from .rank_environment import rank_environment
from .rules import Finding
from .spec import JobSpec
from .tables import numbered
from .units import GIB
from .vector_form import judge_told_vectors, judge_vector_form
from .vector_job import VectorJob, vector_jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSize:
    """The sizes of a job of vector search; without needs, why the engine states none.

    Of several options the sizes are those that need most on disk, all else is the first one's.
    """

    job: VectorJob
    needs: Needs | None
    trouble: str = ""

    @property
    def told(self) -> Document | None:
        """What the engine tells beforehand."""
        return None if self.needs is None else self.needs.facts.get("vectordb")

    def findings(self, spec: JobSpec) -> list[Finding]:
        """What is known to be wrong before the run."""
        facts = {} if self.needs is None else self.needs.facts
        refused = [refusal(spec, self.trouble)] if self.needs is None else []
        return [*judge_vector_form(spec), *judge_told_vectors(spec, facts), *refused]

    def as_document(self) -> Document | None:
        """What `mlps plan --json` holds as `vectordb`."""
        told = self.told
        if self.needs is None or told is None:
            return None
        return {**told, "disk_bytes": self.needs.disk_bytes, "clients": self.job.clients}

    def lines(self) -> Iterator[str]:
        """The same for people."""
        told = self.told
        if self.needs is None or told is None:
            return
        yield (
            f"vectors: {told['vectors']:,} of {told['dimension']:,} dimensions, "
            f"{_gib(told['raw_bytes'])} raw"
        )
        yield (
            f"index: {told['backend']}, {told['index']}, {_about(told['index_bytes'])}, reads of "
            f"class {told['io_class']}; truth {_gib(told['truth_bytes'])}"
        )
        yield (f"on disk {self.needs.disk_bytes / GIB:,.3f} GiB ({self.needs.disk_arithmetic})")
        yield self._runs()

    def _runs(self) -> str:
        job = self.job
        length = numbered(job.queries, "query", "queries")
        if job.runtime_s is not None:
            length = f"{job.runtime_s:g} s"
        loop = "a closed loop"
        if job.target_qps is not None:
            loop = f"an open loop at {job.target_qps:,g} queries/s"
        return (
            f"{numbered(job.trials, 'run')} of {length} by {numbered(job.clients, 'client')} in "
            f"{loop}, cache mode {job.cache_mode}"
        )


def _gib(size: int | None) -> str:
    return "of a size that is not known" if size is None else f"{size / GIB:,.3f} GiB"


def _about(size: int | None) -> str:
    return _gib(size) if size is None else f"about {_gib(size)}"


def vector_size_of(spec: JobSpec, plan: Plan, environ: Mapping[str, str]) -> VectorSize | None:
    """The sizes of a job of vector search; None for other jobs. Asks the engine on this machine.

    A mistake that only the engine finds is the trouble of what is returned.
    """
    jobs = vector_jobs(spec)
    if not jobs:
        return None
    try:
        needs = ask_needs(spec, plan, rank_environment(spec, "plan", environ))
    except (ValueError, KeyError, TypeError) as error:
        return VectorSize(job=jobs[0], needs=None, trouble=str(error))
    return VectorSize(job=jobs[0], needs=needs)
