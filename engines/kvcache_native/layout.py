"""Where a rank keeps its chunks: in segments or a file for each, and a note of their state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..contract import Document
from ..errors import EngineError, storage_error
from ..io_core.directory import make_directory
from ..io_core.failures import chunk_path
from ..io_core.files import write_whole
from ..io_core.operations import STORE, Operations, Stream
from .planning import PREFILL, Files, Slots, rows_at

Kind = Literal["segments", "file_per_chunk"]

_STATE = "STATE"
_CHUNKS = "chunks"
# Slots that are filled as one request: enough to keep a device busy, few enough to be spread.
_FILLED_TOGETHER = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files of one rank, and where it finds those that others share.

    With `file_per_chunk` a file of the plan is a directory, and each of its slots a file in there.
    """

    job_directory: Path
    rank: int
    ranks: int
    files: Files
    slot_bytes: int
    kind: Kind

    @property
    def directory(self) -> Path:
        """The rank's own directory."""
        return self.job_directory / rank_name(self.rank)

    @property
    def own(self) -> tuple[Path, ...]:
        """What the rank makes: segment files, or the directory of its chunks."""
        if self.kind == "file_per_chunk":
            return (self.directory / _CHUNKS,)
        return (*self._segments(self.rank), *self._shared(self.rank))

    @property
    def paths(self) -> tuple[Path, ...]:
        """What is to be opened, in the order of the operations' `file`."""
        return (
            *self._segments(self.rank),
            *(path for rank in range(self.ranks) for path in self._shared(rank)),
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all places that the rank fills."""
        return self.files.slots * self.slot_bytes

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the note of the rank's state, and of its draft."""
        return (_STATE, f"{_STATE}.new")

    def own_bytes(self, number: int) -> int:
        """Size of the `number`-th of the rank's own segment files."""
        files = self.files
        of_kind, slots = number, files.own_slots
        if number >= files.own:
            of_kind, slots = number - files.own, files.shared_slots
        before = of_kind * files.slots_per_file
        return min(files.slots_per_file, slots - before) * self.slot_bytes

    def check(self) -> None:
        """Raises EngineError naming the first file that is missing or of another size."""
        for number, path in enumerate(self.own):
            try:
                found = path.stat().st_size
            except OSError as error:
                raise storage_error(error, "find", path) from error
            if self.kind == "segments" and found != self.own_bytes(number):
                raise EngineError(
                    f"{path} has {found} bytes, prepared were {self.own_bytes(number)}"
                )

    def fill_rows(self, order: Slots | None = None) -> Stream:
        """Stores of version 0 into all places that the rank fills, in their order or another."""
        slots = np.arange(self.files.slots) if order is None else order
        for first in range(0, len(slots), _FILLED_TOGETHER):
            rows = self._places(slots[first : first + _FILLED_TOGETHER])
            rows["kind"] = STORE
            rows["purpose"] = PREFILL
            # A user of its own for each block spreads them over the shards.
            rows["user"] = first // _FILLED_TOGETHER % 2**32
            rows["closes"][-1] = 1
            yield rows

    def make_chunk_directories(self) -> Iterator[None]:
        """Makes the directories of the rank's chunks, one a step."""
        top, *below = reversed(self.chunk_directories())
        make_directory(top)
        for directory in below:
            make_directory(directory)
            yield

    def chunk_names(self) -> Iterator[Path]:
        """Every chunk file that this engine may leave, and its draft, below `chunks`."""
        (top,) = self.own
        for chunk in self._chunk_numbers(self.files.slots):
            path = chunk_path(top, chunk)
            yield path
            yield path.with_name(path.name + ".new")

    def chunk_directories(self) -> list[Path]:
        """The directories that `make_chunk_directories` makes, the deepest first."""
        (top,) = self.own
        below = {chunk_path(top, chunk).parent for chunk in self._chunk_numbers(2**16)}
        return [*sorted(below), *sorted({path.parent for path in below}), top]

    def write_state(self, state: Document) -> None:
        """Notes that the slots are filled, with what the runs after that must know."""
        write_whole(self.directory / _STATE, json.dumps(state).encode() + b"\n")

    def read_state(self) -> Document:
        """What was noted last; raises EngineError if the slots are not filled."""
        path = self.directory / _STATE
        try:
            state = json.loads(path.read_bytes())
            _ = int(state["runs"])
        except FileNotFoundError as error:
            raise EngineError(f"{path} is missing: the stage prepare has not completed") from error
        except OSError as error:
            raise storage_error(error, "read", path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{path} is damaged: prepare again") from error
        return dict(state)

    def forget_state(self) -> None:
        """Notes that the slots are not filled."""
        try:
            (self.directory / _STATE).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, "remove", self.directory / _STATE) from error

    def _segments(self, rank: int) -> list[Path]:
        return self._named("segment", rank, self.files.own)

    def _shared(self, rank: int) -> list[Path]:
        return self._named("shared", rank, self.files.shared)

    def _named(self, name: str, rank: int, count: int) -> list[Path]:
        directory = self.job_directory / rank_name(rank)
        if self.kind == "file_per_chunk":
            return [directory / _CHUNKS] * count
        return [directory / f"{name}_{number:04d}.dat" for number in range(count)]

    def _chunk_numbers(self, most: int) -> range:
        """Numbers of the rank's first chunks; of 65,536 that follow one another each directory."""
        first = self.rank * self.files.slots
        return range(first, first + min(self.files.slots, most))

    def _places(self, slots: Slots) -> Operations:
        """Rows for places of the rank, those that it shares numbered after its own."""
        files = self.files
        shared = slots >= files.own_slots
        rows = rows_at(np.where(shared, slots - files.own_slots, slots), slot_bytes=self.slot_bytes)
        rows["file"][shared] += files.own + self.rank * files.shared
        rows["slot"] = slots
        rows["chunk"] = self.rank * files.slots + slots
        return rows


def rank_name(rank: int) -> str:
    """Name of a rank's directory below the job's."""
    return f"rank_{rank:04d}"
