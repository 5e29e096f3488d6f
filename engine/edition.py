"""The packaged edition and workloads, for what is judged without a job: trees that others made."""

from __future__ import annotations

from functools import cache
from typing import cast

from .canonical import Document
from .checkpoint_job import CheckpointLimits, read_limits
from .options import packaged_conf
from .plain_files import read_yaml
from .sizing import SizeRule
from .training_job import read_size_rule
from .vector_job import VectorTable, read_table

# The edition whose trees are read; older ones are judged by it, too.
EDITION = "v3_0"


@cache
def packaged_edition() -> Document:
    """The edition's document as `mlps` ships it."""
    return cast(Document, read_yaml(packaged_conf() / f"edition/{EDITION}.yaml"))


@cache
def official(benchmark: str) -> Document:
    """A benchmark's file as `mlps` ships it, without what it stands on."""
    return cast(Document, read_yaml(packaged_conf() / f"benchmark/{benchmark}.yaml"))


def size_rule() -> SizeRule:
    """How large a dataset of training must be."""
    return read_size_rule(packaged_edition())


def training_runs() -> tuple[int, int]:
    """How many runs of training warm up, and how many count."""
    form = packaged_edition()["training"]
    return form["warmup_runs"], form["runs"]


def memory_times() -> float:
    """How often the memory of all hosts a checkpoint that is read must be."""
    return float(packaged_edition()["memory_times"])


def checkpoint_form() -> CheckpointLimits:
    """What checkpointing is judged by."""
    return read_limits(packaged_edition())


def vector_limits() -> VectorTable:
    """What vector search is judged by."""
    return read_table(packaged_edition()["vectordb"])
