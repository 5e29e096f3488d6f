"""Where a rank keeps its chunks: slots in preallocated segment files, and a note of their state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, storage_error
from ..io_core.files import write_whole
from .workload import SEGMENT_LIMIT_BYTES, Workload

_STATE = "STATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The files of one rank. A slot never crosses from one segment into the next."""

    directory: Path
    slots: int
    slot_bytes: int

    @property
    def slots_per_segment(self) -> int:
        """Slots of each segment but perhaps the last."""
        return SEGMENT_LIMIT_BYTES // self.slot_bytes

    @property
    def segments(self) -> int:
        """Number of segment files."""
        return -(-self.slots // self.slots_per_segment)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The segment files, in the order of the operations' `file`."""
        return tuple(self.directory / f"segment_{n:04d}.dat" for n in range(self.segments))

    @property
    def names(self) -> tuple[str, ...]:
        """Every file name that this engine may leave in the directory."""
        return (*(path.name for path in self.paths), _STATE, f"{_STATE}.new")

    def segment_bytes(self, segment: int) -> int:
        """Size of a segment file."""
        before = segment * self.slots_per_segment
        return min(self.slots_per_segment, self.slots - before) * self.slot_bytes

    def check_sizes(self) -> None:
        """Raises EngineError naming the first file that is missing or of another size."""
        for segment, path in enumerate(self.paths):
            wanted = self.segment_bytes(segment)
            try:
                found = path.stat().st_size
            except OSError as error:
                raise storage_error(error, "find", path) from error
            if found != wanted:
                raise EngineError(f"{path} has {found} bytes, prepared were {wanted}")

    def write_runs(self, runs: int) -> None:
        """Notes that the slots are filled and that so many runs have begun to change them."""
        write_whole(self.directory / _STATE, json.dumps({"runs": runs}).encode() + b"\n")

    def read_runs(self) -> int:
        """How many runs have begun to change the slots since they were filled."""
        path = self.directory / _STATE
        try:
            return int(json.loads(path.read_bytes())["runs"])
        except FileNotFoundError as error:
            raise EngineError(f"{path} is missing: the stage prepare has not completed") from error
        except OSError as error:
            raise storage_error(error, "read", path) from error
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{path} is damaged: prepare again") from error

    def forget_runs(self) -> None:
        """Notes that the slots are not filled."""
        try:
            (self.directory / _STATE).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, "remove", self.directory / _STATE) from error


def rank_name(rank: int) -> str:
    """Name of a rank's directory below the job's."""
    return f"rank_{rank:04d}"


def layout_of(workload: Workload, job_directory: Path, rank: int) -> Layout:
    """The layout of a rank's files below the job's directory."""
    return Layout(
        directory=job_directory / rank_name(rank),
        slots=workload.slots,
        slot_bytes=workload.slot_bytes,
    )
