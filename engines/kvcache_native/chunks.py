"""Chunks of equal size: how one is divided into slots, and where the nth is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import JobError
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.operations import Operations
from .planning import Slots, whole_blocks

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Places for `count` chunks, each of `parts` slots of `slot_bytes` that follow one another.

    The last part of each holds `tail_bytes`, the others are full. All sizes are whole 4 KiB blocks.
    """

    count: int
    parts: int
    slot_bytes: int
    tail_bytes: int

    @property
    def slots(self) -> int:
        """Slots of all places."""
        return self.count * self.parts

    def slots_of(self, places: Sequence[int] | Slots) -> Slots:
        """The slots of chunks at these places, in their order."""
        first = np.asarray(places, dtype=np.int64) * self.parts
        if self.parts == 1:
            return first
        return (first[:, None] + np.arange(self.parts)).ravel()

    def with_lengths(self, rows: Operations) -> Operations:
        """The same rows, those shortened that move the last part of a chunk."""
        if self.tail_bytes != self.slot_bytes:
            rows["length"][rows["slot"] % self.parts == self.parts - 1] = self.tail_bytes
        return rows


def chunks_within(capacity_gib: float, *, chunk_bytes: int, io_bytes: int) -> Chunks:
    """As many chunks as a capacity holds, moved by operations of at most `io_bytes`.

    The parts of a chunk are about equal, so little space is lost. Raises JobError when not even
    one chunk fits.
    """
    if io_bytes < BLOCK_BYTES or io_bytes % BLOCK_BYTES:
        raise JobError(f"io_bytes {io_bytes} is not a multiple of {BLOCK_BYTES}")
    blocks = whole_blocks(chunk_bytes) // BLOCK_BYTES
    most = io_bytes // BLOCK_BYTES
    part = -(-blocks // -(-blocks // most))
    parts = -(-blocks // part)
    count = int(capacity_gib * GIB) // (parts * part * BLOCK_BYTES)
    if count < 1:
        raise JobError(
            f"capacity_gib {capacity_gib} holds no chunk: one takes"
            f" {parts * part * BLOCK_BYTES} bytes"
        )
    return Chunks(
        count=count,
        parts=parts,
        slot_bytes=part * BLOCK_BYTES,
        tail_bytes=(blocks - (parts - 1) * part) * BLOCK_BYTES,
    )
