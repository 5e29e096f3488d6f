"""The limits of a packaged edition, for what is judged without a job: trees that others made."""

from __future__ import annotations

from functools import cache
from typing import cast

from .canonical import Document
from .checkpoint_job import CheckpointLimits
from .options import packaged_conf
from .plain_files import read_yaml
from .sizing import SizeRule
from .vector_job import VectorTable, read_table

# The edition whose trees are read; older ones are judged by it, too.
EDITION = "v3_0"


@cache
def packaged_edition() -> Document:
    """The edition's document as `mlps` ships it."""
    return cast(Document, read_yaml(packaged_conf() / f"edition/{EDITION}.yaml"))


def size_rule() -> SizeRule:
    """How large a dataset of training must be."""
    return SizeRule(**packaged_edition()["training"])


def checkpoint_form() -> CheckpointLimits:
    """What checkpointing is judged by."""
    return CheckpointLimits(**packaged_edition()["checkpointing"])


def vector_limits() -> VectorTable:
    """What vector search is judged by."""
    return read_table(packaged_edition()["vectordb"])
