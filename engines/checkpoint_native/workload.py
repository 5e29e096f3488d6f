"""A job of checkpointing as its benchmark says it: what is written, read, and in which course."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .layout import Layout, layout_of
from .model import Architecture, architecture_of
from .parallelism import Parallelism, parallelism_of
from .transfer import Io, io_of

# The files of a rank are numbered below this.
_RANK_FILES_BITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps of training for each checkpoint, and whether they go on while it is written."""

    steps: int
    computation_s: float
    background: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """How files leave the page caches: by this program of the site, or, without one, by ranks."""

    command: tuple[str, ...] = ()

    @property
    def method(self) -> Literal["drop", "command"]:
        """What the result calls it."""
        return "command" if self.command else "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Checkpoints of a model by so many ranks.

    `shift` None: a rank reads what was written by the rank as many places after it as a host has
    ranks. `eviction` None: what the page caches hold stays there.
    """

    architecture: Architecture
    parallelism: Parallelism
    scale: Fraction
    layout: Layout
    writes: int
    reads: int
    pause_s: float
    steps: Steps | None
    keep_last: bool
    shift: int | None
    eviction: Eviction | None
    io: Io

    @property
    def kept_at_once(self) -> int:
        """Checkpoints that are there at the same time at most."""
        return min(self.writes, 2) if self.keep_last else self.writes

    def layout_document(self) -> Document:
        """What a result tells of the layout."""
        layout, totals = self.layout, self.layout.totals()
        of_ranks = [layout.rank_bytes(rank) for rank in range(self.parallelism.ranks)]
        return {
            "parameters": self.architecture.parameter_count,
            "scale": float(self.scale),
            "formula_bytes": layout_of(self.architecture, self.parallelism).totals().size_bytes,
            "model_bytes": totals.model_bytes,
            "optimizer_bytes": totals.optimizer_bytes,
            "model_files": totals.model_files,
            "optimizer_files": totals.optimizer_files,
            "rank_bytes_least": min(of_ranks),
            "rank_bytes_most": max(of_ranks),
        }


def checkpointing_of(benchmark: Document, ranks: int) -> Checkpointing:
    """Reads the benchmark for so many ranks; raises JobError naming what is wrong."""
    section = Section(benchmark)
    architecture = architecture_of(section.section("model"))
    parallelism = parallelism_of(section.section("parallelism"), ranks)
    scale = _scale(section)
    writes, reads = section.count("writes", least=0), section.count("reads", least=0)
    if writes == reads == 0:
        raise JobError("writes and reads are both 0: there is nothing to do")
    if writes == 0 and "directory" not in section:
        raise JobError(
            "writes=0 reads checkpoints that another job has kept: set benchmark.directory"
        )
    return Checkpointing(
        architecture=architecture,
        parallelism=parallelism,
        scale=scale,
        layout=layout_of(architecture, parallelism, scale),
        writes=writes,
        reads=reads,
        pause_s=section.number("time_between_s"),
        steps=_steps(section),
        keep_last=section.choice("keep", ("all", "last")) == "last",
        shift=_shift(section),
        eviction=_eviction(section.section("eviction")),
        io=io_of(section.section("io")),
    )


def file_numbers(rank: int, files: int) -> Sequence[int]:
    """Numbers of the files of a rank, that no other file of a checkpoint has.

    Raises JobError for a rank with more files than can be told apart.
    """
    if files > 1 << _RANK_FILES_BITS:
        raise JobError(
            f"rank {rank} would have {files} files in a checkpoint, the most are"
            f" {1 << _RANK_FILES_BITS}: set parallelism.pipeline higher"
        )
    first = rank << _RANK_FILES_BITS
    return range(first, first + files)


def _scale(section: Section) -> Fraction:
    scale = Fraction(str(section.positive("scale")))
    if scale > 1:
        raise JobError(f"scale must be at most 1, got {float(scale):g}")
    return scale


def _steps(section: Section) -> Steps | None:
    if "training" not in section:
        return None
    training = section.section("training")
    return Steps(
        steps=training.count("steps"),
        computation_s=training.positive("computation_s"),
        background=training.flag("background"),
    )


def _shift(section: Section) -> int | None:
    if section.value("read_shift") == "host":
        return None
    return section.count("read_shift", least=0)


def _eviction(section: Section) -> Eviction | None:
    if section.choice("when", ("success", "never")) == "never":
        return None
    command = section.texts("command")
    if section.choice("method", ("drop", "command")) == "drop":
        if command:
            raise JobError("eviction.command is for eviction.method=command, which is not set")
        return Eviction()
    if not command:
        raise JobError("eviction.method=command needs eviction.command: a program and its words")
    return Eviction(command=command)
