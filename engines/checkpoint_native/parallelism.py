"""How a model is spread over ranks: tensor, pipeline and data parallel, with ZeRO 0 to 3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import JobError
from ..section import Section

Mode = Literal["default", "subset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a rank stands in its group of each kind."""

    tensor_rank: int
    pipeline_rank: int
    data_rank: int
    model_rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """The ranks of a job, and how many of each kind the model is spread over.

    `ranks` may be fewer than `world_ranks`: each writes its own share, the others' is not written.
    """

    ranks: int
    tensor: int
    pipeline: int
    data: int
    zero: int

    @property
    def model_ranks(self) -> int:
        """Ranks over which one copy of the model is spread."""
        return self.tensor * self.pipeline

    @property
    def world_ranks(self) -> int:
        """Ranks that a whole checkpoint takes."""
        return self.data * self.model_ranks

    @property
    def model_writers(self) -> int:
        """The first so many ranks write model states: all, or those of the first copy."""
        return self.ranks if self.zero == 3 else min(self.ranks, self.model_ranks)

    @property
    def optimizer_writers(self) -> int:
        """The first so many ranks write optimizer states."""
        return self.ranks if self.zero > 0 else min(self.ranks, self.model_ranks)

    @property
    def model_shards(self) -> int:
        """Parts into which a rank's layers are divided between the copies."""
        return self.data if self.zero == 3 else 1

    @property
    def optimizer_shards(self) -> int:
        """Parts into which the optimizer's states of the whole model are divided."""
        return self.world_ranks if self.zero > 0 else self.model_ranks

    def place(self, rank: int) -> Place:
        """Where a rank stands: tensor ranks are neighbours, then pipeline stages, then copies."""
        return Place(
            tensor_rank=rank % self.tensor,
            pipeline_rank=rank // self.tensor % self.pipeline,
            data_rank=rank // self.model_ranks,
            model_rank=rank % self.model_ranks,
        )

    def stage_blocks(self, stage: int, blocks: int) -> range:
        """Which of a model's blocks, counted from 1, a pipeline stage has."""
        each, more = divmod(blocks, self.pipeline)
        first = 1 + stage * each + min(stage, more)
        return range(first, first + each + (stage < more))

    def stage_layers(self, stage: int, blocks: int) -> range:
        """The layers of a stage: its blocks, in the first the embedding, in the last what ends."""
        own = self.stage_blocks(stage, blocks)
        first = 0 if stage == 0 else own.start
        return range(first, blocks + 3 if stage == self.pipeline - 1 else own.stop)


def parallelism_of(section: Section, ranks: int) -> Parallelism:
    """Reads the benchmark's `parallelism` for so many ranks; raises JobError naming what is wrong.

    In mode default the ranks decide how many copies there are, in mode subset `data` does.
    """
    tensor, pipeline = section.count("tensor"), section.count("pipeline")
    zero = _zero(section, pipeline)
    if section.choice("mode", get_args(Mode)) == "subset":
        data = _subset_data(section, ranks, tensor * pipeline)
    else:
        data = _default_data(section, ranks, tensor * pipeline)
    return Parallelism(ranks=ranks, tensor=tensor, pipeline=pipeline, data=data, zero=zero)


def _zero(section: Section, pipeline: int) -> int:
    zero = section.count("zero", least=0)
    if zero > 3:
        raise JobError(f"parallelism.zero must be 0, 1, 2 or 3, got {zero}")
    if zero == 3 and pipeline > 1:
        raise JobError(
            f"parallelism.zero=3 goes with no pipeline, parallelism.pipeline is {pipeline}:"
            " set parallelism.pipeline=1 or a lower parallelism.zero"
        )
    return zero


def _default_data(section: Section, ranks: int, model_ranks: int) -> int:
    if "data" in section:
        raise JobError(
            f"parallelism.data {section.value('data')!r} is for parallelism.mode=subset;"
            " in mode default it follows from the ranks: set parallelism.data=null"
        )
    if ranks % model_ranks:
        below = ranks // model_ranks * model_ranks
        near = [str(count) for count in (below, below + model_ranks) if count]
        raise JobError(
            f"{ranks} ranks are no multiple of parallelism.tensor x parallelism.pipeline ="
            f" {model_ranks}: start {' or '.join(near)}, or set parallelism.mode=subset"
        )
    return ranks // model_ranks


def _subset_data(section: Section, ranks: int, model_ranks: int) -> int:
    if "data" not in section:
        raise JobError("parallelism.mode=subset needs parallelism.data: the copies of the model")
    data = section.count("data")
    if ranks > data * model_ranks:
        raise JobError(
            f"{ranks} ranks are more than parallelism.data x parallelism.tensor x"
            f" parallelism.pipeline = {data * model_ranks}, which a whole checkpoint takes"
        )
    return data
