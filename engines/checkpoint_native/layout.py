"""The files of a checkpoint: which rank writes which, with the names and sizes of DLIO's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from ..errors import JobError
from .model import Architecture
from .parallelism import Parallelism, Place

State = Literal["model", "optimizer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file in a checkpoint's folder."""

    name: str
    size_bytes: int
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What all ranks write of one checkpoint."""

    model_bytes: int
    optimizer_bytes: int
    model_files: int
    optimizer_files: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return self.model_bytes + self.optimizer_bytes

    @property
    def files(self) -> int:
        """Files of both kinds."""
        return self.model_files + self.optimizer_files


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFile:
    """A file of model states of a pipeline stage: each of its ranks that writes any has one.

    `layer` is None where the file has all layers of the stage.
    """

    layer: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files of each rank; every checkpoint of a job has the same.

    `stages` has the files of model states of each pipeline stage: those of its ranks differ in
    their names alone.
    """

    parallelism: Parallelism
    stages: tuple[tuple[StageFile, ...], ...]
    optimizer_file_bytes: int

    def files(self, rank: int) -> tuple[File, ...]:
        """What a rank writes, in this order: model states, then the optimizer's."""
        return (*self._model_files(rank), *self._optimizer_files(rank))

    def rank_bytes(self, rank: int) -> int:
        """Bytes that a rank writes."""
        return sum(file.size_bytes for file in self.files(rank))

    def totals(self) -> Totals:
        """Sums over all ranks, from the number of ranks in each stage."""
        writers = [self._stage_writers(stage) for stage in range(len(self.stages))]
        optimizer_files = self.parallelism.optimizer_writers
        return Totals(
            model_bytes=sum(
                count * sum(file.size_bytes for file in stage)
                for count, stage in zip(writers, self.stages, strict=True)
            ),
            optimizer_bytes=optimizer_files * self.optimizer_file_bytes,
            model_files=sum(
                count * len(stage) for count, stage in zip(writers, self.stages, strict=True)
            ),
            optimizer_files=optimizer_files,
        )

    def _model_files(self, rank: int) -> Iterator[File]:
        if rank >= self.parallelism.model_writers:
            return
        place = self.parallelism.place(rank)
        for file in self.stages[place.pipeline_rank]:
            name = _model_name(place, self.parallelism.zero, file.layer)
            yield File(name=name, size_bytes=file.size_bytes, state="model")

    def _optimizer_files(self, rank: int) -> Iterator[File]:
        if rank < self.parallelism.optimizer_writers:
            name = f"{_sharded(self.parallelism.place(rank))}_optim_states.pt"
            yield File(name=name, size_bytes=self.optimizer_file_bytes, state="optimizer")

    def _stage_writers(self, stage: int) -> int:
        """How many ranks write a stage's model states."""
        writers, tensor = self.parallelism.model_writers, self.parallelism.tensor
        # The one stage of a model without pipeline has all copies of it.
        if len(self.stages) == 1:
            return writers
        return min(tensor, max(0, writers - stage * tensor))


def layout_of(
    architecture: Architecture, parallelism: Parallelism, scale: Fraction = Fraction(1)
) -> Layout:
    """The layout of a model's checkpoints; raises JobError where there is nothing for a rank.

    Every file has this part `scale` of its bytes, and one at least.
    """
    if parallelism.pipeline > architecture.layers:
        raise JobError(
            f"parallelism.pipeline {parallelism.pipeline} is more than the"
            f" {architecture.layers} layers of the model: a stage would have none"
        )
    layout = Layout(
        parallelism=parallelism,
        stages=tuple(
            tuple(_stage_files(architecture, parallelism, stage))
            for stage in range(parallelism.pipeline)
        ),
        optimizer_file_bytes=_optimizer_bytes(architecture, parallelism),
    )
    sizes = [file.size_bytes for stage in layout.stages for file in stage]
    if not min(layout.optimizer_file_bytes, *sizes):
        raise JobError(
            f"the model's {architecture.parameter_count} parameters are too few to be spread over"
            f" {parallelism.world_ranks} ranks: some of their files would be empty"
        )
    return _scaled(layout, scale)


def folder_name(number: int, epoch: int = 1) -> str:
    """The folder of a checkpoint; they are counted from 1."""
    return f"global_epoch{epoch}_step{number}"


def read_rank(rank: int, *, shift: int, ranks: int) -> int:
    """The rank whose files a rank reads: its own with a shift of 0, else those of one after it."""
    return (rank + shift) % ranks


def _scaled(layout: Layout, scale: Fraction) -> Layout:
    def part(size_bytes: int) -> int:
        return max(1, int(scale * size_bytes))

    return replace(
        layout,
        stages=tuple(
            tuple(replace(file, size_bytes=part(file.size_bytes)) for file in stage)
            for stage in layout.stages
        ),
        optimizer_file_bytes=part(layout.optimizer_file_bytes),
    )


def _stage_files(
    architecture: Architecture, parallelism: Parallelism, stage: int
) -> Iterator[StageFile]:
    tensor, shards = parallelism.tensor, parallelism.model_shards
    layers = parallelism.stage_layers(stage, architecture.layers)
    layer_bytes = [
        architecture.element_bytes
        * architecture.layer_elements(layer, tensor=tensor, shards=shards)
        for layer in layers
    ]
    if parallelism.zero in (1, 2) and parallelism.pipeline > 1:
        for layer, size_bytes in zip(layers, layer_bytes, strict=True):
            yield StageFile(layer=layer, size_bytes=size_bytes)
    else:
        yield StageFile(layer=None, size_bytes=sum(layer_bytes))


def _optimizer_bytes(architecture: Architecture, parallelism: Parallelism) -> int:
    """Bytes of a file of optimizer states; 0 where no parameter falls to a rank."""
    parameters = architecture.parameter_count // parallelism.optimizer_shards
    if not parameters:
        return 0
    elements = architecture.optimizer_elements(parameters)
    return architecture.optimizer_element_bytes * elements


def _model_name(place: Place, zero: int, layer: int | None) -> str:
    if layer is not None:
        return f"layer_{layer}-model_{place.model_rank}_model_states.pt"
    if zero in (1, 2):
        return f"model_{place.model_rank}_model_states.pt"
    return f"{_sharded(place)}_model_states.pt"


def _sharded(place: Place) -> str:
    # The names are DeepSpeed's: its "pp" here is the data-parallel rank.
    return f"zero_pp_rank_{place.data_rank}_mp_rank_{place.model_rank}"
