"""What `mlps plan` says of a training job's dataset: how large it must be, what an epoch reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .canonical import Document
from .host_documents import host_memory_bytes
from .probe.facts import read_facts
from .reach import is_here, own_addresses
from .spec import JobSpec
from .training_job import TrainingJob, training_jobs
from .units import GIB

_UNKNOWN_MEMORY = "memory: not known here, benchmark.host_memory_gib=GIB declares it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The datasets of a job, and the memory of its hosts as far as this machine can tell."""

    jobs: tuple[TrainingJob, ...]
    measured_bytes: int | None

    def as_document(self) -> Document:
        """What `mlps plan --json` holds as `sizing`."""
        return {
            "measured_memory_bytes": self.measured_bytes,
            "datasets": [_document(job, self.measured_bytes) for job in self.jobs],
        }


def sizing_of(spec: JobSpec) -> Sizing | None:
    """The datasets of a training job; None for other jobs. Asks no other host for its memory."""
    jobs = training_jobs(spec)
    return Sizing(jobs=jobs, measured_bytes=_memory_here(spec)) if jobs else None


def _memory_here(spec: JobSpec) -> int | None:
    """The memory of this machine where it is all that the job runs on."""
    addresses = own_addresses()
    if all(is_here(name, addresses) for name in spec.cluster.names):
        return host_memory_bytes(read_facts({}))
    return None


def _document(job: TrainingJob, measured_bytes: int | None) -> Document:
    memory_bytes = job.memory_bytes(measured_bytes)
    least = job.least_size(memory_bytes)
    return {
        "option": job.option,
        "files": job.files,
        "nominal_gib": job.nominal_gib,
        "memory_bytes": memory_bytes,
        "least_files": least.files,
        "least_files_for_steps": least.steps_files,
        "least_files_for_memory": None if memory_bytes is None else least.memory_files,
        "least_gib": least.gib,
        "enough": _enough(job, measured_bytes),
        "steps_per_epoch": _steps(job),
        "dropped_samples": job.epoch.dropped_samples,
    }


def sizing_lines(sizing: Sizing) -> Iterator[str]:
    """The same for people: the arithmetic, what follows from it, and what to type."""
    for job in sizing.jobs:
        memory_bytes = job.memory_bytes(sizing.measured_bytes)
        least = job.least_size(memory_bytes)
        of_option = "" if job.option is None else f" of option {job.option}"
        told = least.arithmetic()
        if memory_bytes is None:
            told = f"{least.steps_arithmetic()}; {_UNKNOWN_MEMORY}"
        yield f"least dataset{of_option} (Rules 3.1.2): {told}"
        yield (
            f"dataset{of_option}: {job.files:,} files, {job.nominal_gib:,.1f} GiB nominal: "
            f"{_in_words(job, sizing.measured_bytes)}"
        )
        yield f"each epoch{of_option}: {_epoch(job)}"


def _enough(job: TrainingJob, measured_bytes: int | None) -> bool | None:
    """Whether there are enough files; None where the unknown memory of the hosts decides it."""
    memory_bytes = job.memory_bytes(measured_bytes)
    enough = job.files >= job.least_size(memory_bytes).files
    return None if enough and memory_bytes is None else enough


def _in_words(job: TrainingJob, measured_bytes: int | None) -> str:
    memory_bytes = job.memory_bytes(measured_bytes)
    least = job.least_size(memory_bytes)
    if job.files < least.files:
        return f"too small, benchmark.dataset.train.files={least.files}"
    if memory_bytes is None:
        return (
            "enough for the steps; the memory of the hosts is not known before they are asked, "
            "to plan with it: benchmark.host_memory_gib=GIB"
        )
    return f"enough for {memory_bytes / GIB:,.1f} GiB of memory"


def _epoch(job: TrainingJob) -> str:
    steps, epoch = _steps(job), job.epoch
    cut = (
        f", ended by benchmark.train.steps_max (of {epoch.steps:,})" if steps < epoch.steps else ""
    )
    ranks = "the rank" if job.accelerators == 1 else f"each of {job.accelerators:,} ranks"
    return f"{steps:,} steps of {ranks}{cut}, {epoch.dropped_samples:,} samples are left over"


def _steps(job: TrainingJob) -> int:
    return job.epoch.steps if job.steps_max is None else min(job.epoch.steps, job.steps_max)
