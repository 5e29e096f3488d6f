"""The stages that make, complete or check a dataset, and remove what the job has made."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ..contract import Job
from ..errors import EngineError
from ..io_core.account import Account
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.control import Control
from ..io_core.directory import claim
from ..io_core.meter import counters_behind
from ..observed import observed
from ..owner import Owner
from ..stage import Session
from .checking import Checks, Findings, Level, check_files, shared_out
from .dataset import Dataset
from .files import PlannedFiles, Sizes
from .formats import planned_files
from .journal import (
    Entries,
    Journal,
    merge_journals,
    no_entries,
    read_earlier,
    read_journals,
)
from .manifest import (
    GENERATING,
    Checksums,
    Manifest,
    manifest_of,
    read_manifest,
    write_manifest,
)
from .place import (
    Course,
    Task,
    begin,
    course_of,
    forget_generation,
    make_place,
    read_task,
    right_to_write,
)
from .removal import cleanup
from .writing import Writer, core_of, writing_threads

_GIB = 2**30
# Estimated sizes may be so much too small.
_ESTIMATES_SHARE = 1.02

__all__ = ["cleanup", "disk_bytes", "generate"]


def disk_bytes(job: Job, dataset: Dataset, ranks: int) -> tuple[int, str]:
    """Bytes that are still to be written, and the arithmetic that gives them.

    Raises EngineError for what the stage `generate` would refuse, as far as one look shows it.
    """
    del ranks  # the same files, whoever writes them
    _, task = read_task(job)
    if _decide(task, dataset) != "write":
        return 0, f"the dataset in {task.directory} is there"
    planned = planned_files(dataset)
    rounded = -(-planned.sizes_bytes // BLOCK_BYTES) * BLOCK_BYTES
    done = read_journals(task.directory / GENERATING, dataset.files)["number"]
    there = int(rounded[done].sum())
    share = 1.0 if dataset.exact_sizes else _ESTIMATES_SHARE
    text = f"{dataset.files} files in blocks of 4 KiB {int(rounded.sum()) / _GIB:.6g} GiB"
    if share > 1:
        text += f" x {share:g} for estimated sizes"
    if there:
        text += f" - {there / _GIB:.6g} GiB that are there"
    return max(0, round(int(rounded.sum()) * share) - there), text


# ---------------------------------------------------------------- generate


def generate(session: Session) -> None:
    """Sees to it that the whole dataset is there: writes it, goes on with it, or checks it."""
    dataset, task = session.agree(lambda: read_task(session.job))
    with ExitStack() as held:
        course = _claim(session, dataset, task, held)
        if course == "write":
            _write(session, dataset, task)
        elif course == "adopt":
            _adopt(session, dataset, task)
        else:
            _check(session, dataset, task)


def _decide(task: Task, dataset: Dataset) -> Course:
    """What is to be done; raises EngineError if that cannot be."""
    course = course_of(task.directory, dataset, generate=task.generate)
    if task.check == "content" and (
        course == "adopt"
        or (course == "check" and read_manifest(task.directory, dataset).made_by == "other")
    ):
        raise EngineError(
            f"dataset.check=content needs checksums, and mlps did not make {task.directory}:"
            " dataset.check=headers is what can be checked"
        )
    return course


def _claim(session: Session, dataset: Dataset, task: Task, held: ExitStack) -> Course:
    """Rank 0 finds out what is to be done, and has the right to do it until `held` is closed."""
    courses: list[Course] = []
    job = session.job

    def look(control: Control) -> None:
        if session.rank != 0:
            return
        if task.own:
            claim(job.directory, job.sha256)
        course = _decide(task, dataset)
        if course == "write":
            make_place(task.directory, job)
            owner = Owner(right_to_write(task.directory), job.run_id, control)
            held.callback(owner.close)
            # Another job may have completed it meanwhile.
            course = _decide(task, dataset)
        if course == "write":
            begin(task.directory, dataset)
            merge_journals(task.directory / GENERATING, dataset.files)
        else:
            forget_generation(task.directory)
        courses.append(course)

    session.phase("claiming", look, unit="files", total=0)
    (course,) = session.exchange(courses)[0]
    return course


def _write(session: Session, dataset: Dataset, task: Task) -> None:
    """Writes the files that no journal has."""
    rank, ranks, outcome = session.rank, session.ranks, session.outcome
    generating = task.directory / GENERATING
    plan = session.agree(lambda: planned_files(dataset))
    threads = writing_threads(dataset, task.write_threads)
    done: list[Entries] = []

    def find(control: Control) -> None:
        entries = read_earlier(generating)
        done.append(_still_there(task.directory, dataset, entries[rank::ranks], threads, control))

    session.phase("finding", find, unit="files", total=0)
    earlier = np.concatenate(session.exchange(done[0]))
    left = _left(plan, earlier["number"], rank, ranks)
    writer = Writer(
        directory=task.directory,
        journal=lambda: Journal(generating, rank),
        plan=plan,
        threads=threads,
    )
    counters = counters_behind(task.directory)
    outcome.core = core_of(threads)

    def write(control: Control) -> None:
        account = outcome.account = Account()
        with observed(outcome, counters, control, lambda: account.last_ns):
            writer.write(left, control, account)

    total = int(plan.sizes_bytes[left].sum()) if left else 0
    session.phase("generating", write, unit="bytes", total=total)
    mine = writer.settled
    written = np.concatenate([no_entries(), *session.gather(mine)])
    # Rank 0 alone has all that was written, and with it the manifest.
    manifest = session.agree(
        lambda: _assembled(dataset, earlier, written) if session.rank == 0 else None
    )
    _finish(session, dataset, task, manifest)
    if manifest is not None:
        _tell(session, dataset, task, manifest, written=written)


def _still_there(
    directory: Path, dataset: Dataset, entries: Entries, threads: int, control: Control
) -> Entries:
    """Those of some journaled files that are there with their sizes; others are written again."""

    def look(places: range) -> list[bool]:
        some = entries[places.start : places.stop]
        return [
            _has_size(directory / dataset.path(int(entry["number"])), int(entry["size_bytes"]))
            for entry in some
        ]

    parts = shared_out(look, range(len(entries)), threads, control)
    kept = np.fromiter((there for part in parts for there in part), dtype=bool)
    there: Entries = entries[: len(kept)][kept]
    return there


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _left(plan: PlannedFiles, done: Checksums, rank: int, ranks: int) -> list[int]:
    """The files of a rank that are not done."""
    missing = np.ones(plan.dataset.files, dtype=bool)
    missing[done] = False
    own = np.arange(rank, plan.dataset.files, ranks)
    left: list[int] = own[missing[own]].tolist()
    return left


def _assembled(dataset: Dataset, earlier: Entries, written: Entries) -> Manifest:
    """The manifest out of what all ranks have done, now and before."""
    sizes = np.full(dataset.files, -1, dtype=np.int64)
    crc32 = np.zeros(dataset.files, dtype=np.uint32)
    for entries in (earlier, written):
        sizes[entries["number"]] = entries["size_bytes"]
        crc32[entries["number"]] = entries["crc32"]
    assert sizes.min() >= 0, "every file is done when all ranks have ended"
    return manifest_of(dataset, "mlps", sizes, crc32)


def _finish(session: Session, dataset: Dataset, task: Task, manifest: Manifest | None) -> None:
    """The rank that has the manifest writes it, after which nothing is left of the generation."""

    def finish(_: Control) -> None:
        if manifest is not None:
            write_manifest(task.directory, dataset, manifest)
            forget_generation(task.directory)

    session.phase("finishing", finish, unit="files", total=0)


# ---------------------------------------------------------------- check and adopt


def _check(session: Session, dataset: Dataset, task: Task) -> None:
    """Checks files that are all there by their manifest."""
    manifest = session.agree(lambda: read_manifest(task.directory, dataset))
    _look_at_files(session, dataset, task, manifest, task.check)
    _tell(session, dataset, task, manifest, checked=dataset.files)


def _adopt(session: Session, dataset: Dataset, task: Task) -> None:
    """Takes files that others have made as they are, and writes their manifest."""
    parts = session.gather(_look_at_files(session, dataset, task, None, "headers"))
    manifest = None
    if session.rank == 0:
        sizes = np.empty(dataset.files, dtype=np.int64)
        for rank, part in enumerate(parts):
            sizes[rank :: session.ranks] = part
        manifest = manifest_of(dataset, "other", sizes, np.zeros(dataset.files, dtype=np.uint32))
    _finish(session, dataset, task, manifest)
    if manifest is not None:
        _tell(session, dataset, task, manifest, checked=dataset.files)


def _look_at_files(
    session: Session, dataset: Dataset, task: Task, manifest: Manifest | None, level: Level
) -> Sizes:
    """The sizes of this rank's files; fails in all ranks where any file is not as it should be."""
    checks = Checks(
        directory=task.directory,
        dataset=dataset,
        manifest=manifest,
        level=level,
        threads=task.write_threads,
        rank=session.rank,
        ranks=session.ranks,
    )
    found: list[tuple[Findings, Sizes]] = []

    def look(control: Control) -> None:
        found.append(check_files(checks, control))

    if level == "content":
        session.phase("checking", look, unit="bytes", total=checks.total_bytes())
    else:
        session.phase("checking", look, unit="files", total=len(checks.numbers))
    ((findings, sizes),) = found
    together = Findings()
    for each in session.gather(findings):
        together.merge(each)
    # Once for all ranks: others have gathered nothing to refuse.
    session.agree(lambda: together.refuse(task.directory))
    return sizes


def _tell(
    session: Session,
    dataset: Dataset,
    task: Task,
    manifest: Manifest,
    *,
    written: Entries | None = None,
    checked: int = 0,
) -> None:
    """Puts the dataset into the result."""
    written = no_entries() if written is None else written
    session.outcome.dataset = {
        "directory": str(task.directory),
        "format": dataset.format,
        "made_by": manifest.made_by,
        "train_files": manifest.train_files,
        "eval_files": manifest.eval_files,
        "samples_per_file": dataset.samples_per_file,
        "bytes": manifest.total_bytes,
        "nominal_bytes": dataset.nominal_bytes,
        "written_files": len(written),
        "written_bytes": int(written["size_bytes"].sum()),
        # Whoever made them, nothing else tells what the files of others hold.
        "checked": "headers" if manifest.made_by == "other" else task.check,
        "checked_files": checked,
        "manifest_sha256": manifest.sha256,
    }
