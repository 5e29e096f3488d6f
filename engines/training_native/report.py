"""From what each rank measured in each epoch to what a stage of training reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..contract import Document
from ..io_core.meter import Moved
from ..moved import counted
from .epochs import Times
from .opening import Dropped
from .workload import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """An epoch of a rank; `start_s` is counted from the start of the stage's window."""

    start_s: float
    times: Times
    read_bytes: int
    moved: tuple[Moved, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """An evaluation of a rank."""

    after_epoch: int
    times: Times
    read_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """A checkpoint, as a rank saw it; `wall_ns` ends when that of all ranks is durable."""

    after_epoch: int
    written_bytes: int
    wall_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """All that a rank did."""

    epochs: tuple[EpochRecord, ...]
    evaluations: tuple[EvaluationRecord, ...]
    checkpoints: tuple[CheckpointRecord, ...]
    dropped: Dropped | None


def training_document(
    training: Training,
    records: Sequence[Record],
    *,
    reads: bool,
    steps: int,
    dropped_samples: int,
) -> Document:
    """The section `training` of a result, from the records of all ranks."""
    reader = training.reader
    return {
        "reads": reads,
        "computation_s": training.computation_ns / 1e9,
        "batch": reader.batch,
        "record_bytes": training.dataset.record_bytes,
        "steps_planned": steps,
        "dropped_samples": dropped_samples,
        "threads": reader.threads,
        "look_ahead_batches": reader.look_ahead_batches,
        "eviction": _eviction(records),
        "epochs": [
            _epoch(number + 1, [record.epochs[number] for record in records], training)
            for number in range(len(records[0].epochs))
        ],
        "evaluations": [
            _evaluation([record.evaluations[number] for record in records])
            for number in range(len(records[0].evaluations))
        ],
        "checkpoints": [
            _checkpoint([record.checkpoints[number] for record in records])
            for number in range(len(records[0].checkpoints))
        ],
    }


def _epoch(number: int, ranks: Sequence[EpochRecord], training: Training) -> Document:
    times = [rank.times for rank in ranks]
    dlio = [each.au_dlio_pct() for each in times]
    nominal = [each.au_nominal_pct(training.computation_ns) for each in times]
    return {
        "epoch": number,
        "steps": min(each.steps for each in times),
        "start_s": round(ranks[0].start_s, 6),
        "wall_s": _seconds(max(each.block_ns for each in times)),
        "block_sum_s": _seconds(sum(each.block_ns for each in times)),
        "load_sum_s": _seconds(sum(each.load_ns for each in times)),
        "compute_sum_s": _seconds(sum(each.compute_ns for each in times)),
        "meeting_sum_s": _seconds(sum(each.meeting_ns for each in times)),
        "first_step_sum_s": _seconds(sum(each.first_ns for each in times)),
        "au_dlio_sum_pct": round(sum(dlio), 6),
        "au_dlio_worst_pct": round(min(dlio), 6),
        "au_nominal_sum_pct": round(sum(nominal), 6),
        "au_nominal_worst_pct": round(min(nominal), 6),
        "au_worst_rank": nominal.index(min(nominal)),
        "samples_dlio_per_s": round(
            sum(each.samples_dlio_per_s(training.reader.batch) for each in times), 6
        ),
        "read_bytes": sum(rank.read_bytes for rank in ranks),
        "counted_read_bytes": counted([rank.moved for rank in ranks], outward=False),
    }


def _evaluation(ranks: Sequence[EvaluationRecord]) -> Document:
    return {
        "after_epoch": ranks[0].after_epoch,
        "steps": min(rank.times.steps for rank in ranks),
        "wall_s": _seconds(max(rank.times.block_ns for rank in ranks)),
        "read_bytes": sum(rank.read_bytes for rank in ranks),
    }


def _checkpoint(ranks: Sequence[CheckpointRecord]) -> Document:
    return {
        "after_epoch": ranks[0].after_epoch,
        "written_bytes": sum(rank.written_bytes for rank in ranks),
        "wall_s": _seconds(max(rank.wall_ns for rank in ranks)),
    }


def _eviction(records: Sequence[Record]) -> Document | None:
    dropped = [record.dropped for record in records if record.dropped is not None]
    if not dropped:
        return None
    resident = [each.resident_pct for each in dropped if each.sampled_files]
    known = [share for share in resident if share is not None]
    return {
        "files": sum(each.files for each in dropped),
        "sampled_files": sum(each.sampled_files for each in dropped),
        # The worst rank's: files of one are not weighed against those of another.
        "resident_pct": round(max(known), 3) if known and len(known) == len(resident) else None,
    }


def _seconds(ns: int) -> float:
    return round(ns / 1e9, 6)
