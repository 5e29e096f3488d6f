"""The stages of the checkpointing engine: write, evict, read, cleanup."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from ..contract import Document, Job
from ..errors import EngineError
from ..io_core.blocks import run_key
from ..io_core.control import Control
from ..io_core.directory import release, remove_files, remove_if_empty
from ..io_core.page_cache import Residency, residency
from ..meeting import Together
from ..place import Place, difference, place_of
from ..result import Plan
from ..stage import Needs, Session, StageEnded
from ..world import host_name
from .eviction import drop, run_command
from .layout import folder_name, read_rank
from .manifest import MANIFEST, Manifest, identity_of, read_manifest, write_manifest
from .place import OWN, give_back, is_ours, make_ready
from .report import Evicted, checkpoint_documents, eviction_document
from .runs import Run
from .transfer import Content, Target, Transfers, discard
from .workload import Checkpointing, Eviction, checkpointing_of, file_numbers

GENERATOR = "files of the model's architecture and parallelism"

DEVIATIONS = (
    "a checkpoint lasts until the last rank's part of it is durable",
    "the time of fsync is in it, and told apart",
    "rank 0's time, which upstream publishes, is told beside it",
    "files are incompressible, and no two blocks of them are the same",
    "what is read is compared with what was written",
    "files are dropped from the page caches of all hosts before they are read",
    "bytes are those that were transferred, not those of a formula",
)

_MIB = 2**20
# Measured: the interpreter, numpy and MPI.
_BASE_MEMORY_BYTES = 96 * _MIB
_OPEN_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a stage works on: the workload, where its files are, and those of a rank."""

    job: Job
    workload: Checkpointing
    place: Place

    def targets(self, rank: int) -> tuple[Target, ...]:
        """The files that a rank writes of each checkpoint; raises JobError."""
        files = self.workload.layout.files(rank)
        return tuple(
            Target(name=file.name, size_bytes=file.size_bytes, number=number)
            for file, number in zip(files, file_numbers(rank, len(files)), strict=True)
        )

    def transfers(self, targets: Sequence[Target], manifest: Manifest, writer: int) -> Transfers:
        """What moves files that a rank writes, or has written."""
        content = Content(
            key=manifest.key, pool_seed=manifest.seed + writer, row_bytes=manifest.row_bytes
        )
        return Transfers(self.workload.io, content, targets)

    def run(self, session: Session, transfers: Transfers, targets: Sequence[Target]) -> Run:
        """One rank's part of a stage."""
        digest = hashlib.sha256()
        for target in targets:
            digest.update(f"{target.number} {target.size_bytes} {target.name}\n".encode())
        session.outcome.plan = Plan(
            sha256=digest.hexdigest(), generator=GENERATOR, hashed_operations=len(targets)
        )
        session.outcome.facts |= {"workload": "checkpointing", "deviations": list(DEVIATIONS)}
        directory, pause_s = self.place.directory, self.workload.pause_s
        return Run(session.outcome, transfers, targets, directory, pause_s)

    def facts(self, does: str, **more: object) -> Document:
        """What every stage tells of it."""
        return {
            "does": does,
            "layout": self.workload.layout_document(),
            "directory": str(self.place.directory),
            "kept": self.place.kept,
            "shift": 0,
            "crossed_ranks": None,
            "training": None,
            "eviction": None,
            "source": None,
            "planned": 0,
            "checkpoints": [],
            **more,
        }


class CheckpointEngine:
    """Ranks that write and read the checkpoints of a language model."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """Disk for all checkpoints that are there at once; memory for transfers in flight."""
        setting = _setting(job, ranks)
        workload, totals = setting.workload, setting.workload.layout.totals()
        most = workload.kept_at_once
        open_files = max(len(setting.targets(rank)) for rank in range(ranks))
        buffers = workload.io.buffer_bytes
        program = workload.eviction.command[:1] if workload.eviction is not None else ()
        return Needs(
            disk_bytes=most * totals.size_bytes,
            disk_arithmetic=f"{most} checkpoints x {totals.size_bytes / _MIB:,.0f} MiB",
            memory_bytes_per_rank=_BASE_MEMORY_BYTES + buffers,
            memory_arithmetic=f"{_BASE_MEMORY_BYTES // _MIB} MiB + buffers for "
            f"{workload.io.depth} transfers {buffers / _MIB:.0f} MiB",
            packages=("numpy", "mpi4py") if ranks > 1 else ("numpy",),
            programs=program,
            open_files_per_rank=_OPEN_FILES + 2 * open_files,
            facts={"checkpoint": workload.layout_document()},
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {"write": write, "evict": evict, "read": read, "cleanup": cleanup}


# ---------------------------------------------------------------- write


def write(session: Session) -> None:
    """Writes all checkpoints, each by all ranks at once."""
    setting = session.agree(lambda: _setting(session.job, session.ranks))
    workload, rank = setting.workload, session.rank
    targets = session.agree(lambda: setting.targets(rank))
    manifest = _begin(session, setting)
    with closing(setting.transfers(targets, manifest, rank)) as transfers:
        run = setting.run(session, transfers, targets)
        session.phase("opening", run.ready, unit="files", total=0)
        ledger = _Ledger(setting, manifest, run, rank)

        def go(together: Together) -> None:
            completed = (ledger.note, ledger.forget)
            run.write(together, workload.writes, workload.steps, completed)

        def facts() -> Document:
            steps = None if workload.steps is None else asdict(workload.steps)
            return setting.facts("write", planned=workload.writes, training=steps)

        with _told(session, run, facts):
            session.steps("writing", go, total=workload.writes * run.size_bytes, unit="bytes")


class _Ledger:
    """What ranks do once all have completed a checkpoint."""

    def __init__(self, setting: Setting, manifest: Manifest, run: Run, rank: int) -> None:
        self._directory = setting.place.directory
        self._keep_last = setting.workload.keep_last
        self._manifest = manifest
        self._run = run
        self._rank = rank

    def note(self, number: int) -> None:
        """Rank 0 writes the manifest anew, with this checkpoint; raises EngineError."""
        if self._rank != 0:
            return
        before = () if self._keep_last else self._manifest.checkpoints
        self._manifest = replace(
            self._manifest,
            checkpoints=(*before, number),
            start_unix_s=self._run.began_unix_s,
            end_unix_s=time.time(),
        )
        write_manifest(self._directory, self._manifest)

    def forget(self, number: int) -> None:
        """Removes the one before, where the last alone is kept; raises EngineError."""
        if self._keep_last and number > 1:
            self._run.discard(number - 1)


def _begin(session: Session, setting: Setting) -> Manifest:
    """Makes the directory; the manifest of checkpoints of which none is there yet."""
    job = session.job
    hosts = tuple(session.exchange(host_name()))
    # Of every write stage another: what an earlier one has left is not taken for this one's.
    key = session.exchange(run_key(job.run_id, time.time_ns()))[0]
    manifest = Manifest(
        run_id=job.run_id,
        job_sha256=job.sha256,
        identity=identity_of(job.benchmark, session.ranks),
        key=key,
        seed=job.seed,
        row_bytes=setting.workload.io.io_size_bytes,
        hosts=hosts,
        checkpoints=(),
        start_unix_s=0,
        end_unix_s=0,
    )

    def make(_: Control) -> None:
        if session.rank == 0:
            make_ready(setting.place, job)

    session.phase("claiming", make, unit="files", total=0)
    return manifest


# ---------------------------------------------------------------- evict and read


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a rank reads: files that `writer` has written, of these checkpoints, in this order."""

    setting: Setting
    manifest: Manifest
    shift: int
    writer: int
    targets: tuple[Target, ...]
    numbers: tuple[int, ...]
    leads_host: bool

    def paths(self, number: int) -> list[Path]:
        """The files of a checkpoint."""
        folder = self.setting.place.directory / folder_name(number)
        return [folder / target.name for target in self.targets]

    def facts(self, does: str, **more: object) -> Document:
        """What the stages that read or prepare it tell."""
        manifest = self.manifest
        source = {
            "run_id": manifest.run_id,
            "job_sha256": manifest.job_sha256,
            "start_unix_s": manifest.start_unix_s,
            "end_unix_s": manifest.end_unix_s,
            "checkpoints": len(manifest.checkpoints),
        }
        return self.setting.facts(does, shift=self.shift, source=source, **more)

    def make_cold(self, eviction: Eviction, control: Control, *numbers: int) -> None:
        """Empties the page cache of this host, or drops these checkpoints from it."""
        if eviction.command:
            if self.leads_host:
                run_command(eviction.command, control)
            return
        paths = [path for number in numbers for path in self.paths(number)]
        drop(paths, control)


def evict(session: Session) -> None:
    """Makes the files that will be read leave the page caches, and looks whether they have."""
    reading, _ = _open(session)
    eviction = reading.setting.workload.eviction
    if eviction is None:
        return
    distinct = sorted(set(reading.numbers))
    paths = [path for number in distinct for path in reading.paths(number)]
    took_ns: list[int] = []
    seen: list[Residency | None] = []

    def empty(control: Control) -> None:
        begun_ns = time.monotonic_ns()
        reading.make_cold(eviction, control, *distinct)
        took_ns.append(time.monotonic_ns() - begun_ns)

    def look(control: Control) -> None:
        seen.append(residency(paths, lambda: not control.stopped))

    session.phase("evicting", empty, unit="files", total=len(paths))
    session.phase("looking at page caches", look, unit="files", total=0)
    own = Evicted(
        leads_host=reading.leads_host,
        files=len(paths),
        size_bytes=len(distinct) * sum(target.size_bytes for target in reading.targets),
        took_ns=took_ns[0],
        resident=seen[0],
    )
    ranks = session.gather(own)
    if ranks:
        told = eviction_document(ranks, eviction.method)
        session.outcome.checkpointing = reading.facts("evict", eviction=told)


def read(session: Session) -> None:
    """Reads checkpoints, each by all ranks at once."""
    reading, crossed = _open(session)
    setting, workload = reading.setting, reading.setting.workload
    with closing(setting.transfers(reading.targets, reading.manifest, reading.writer)) as transfers:
        run = setting.run(session, transfers, reading.targets)
        distinct = len(set(reading.numbers))
        session.outcome.facts["working_set_bytes"] = distinct * workload.layout.totals().size_bytes
        session.phase("opening", run.ready, unit="files", total=0)

        def go(together: Together) -> None:
            eviction, make_cold = workload.eviction, None
            if eviction is not None:
                make_cold = partial(reading.make_cold, eviction, together.control)
            run.read(together, reading.numbers, make_cold)

        facts = partial(reading.facts, "read", planned=workload.reads, crossed_ranks=crossed)
        with _told(session, run, facts):
            session.steps("reading", go, total=workload.reads * run.size_bytes, unit="bytes")


def _open(session: Session) -> tuple[Reading, int]:
    """What there is to read, and how many ranks read what was written on another host."""
    setting = session.agree(lambda: _setting(session.job, session.ranks))
    found: list[Manifest] = []

    def look(_: Control) -> None:
        found.append(_find(setting, session.ranks))

    session.phase("looking for checkpoints", look, unit="files", total=0)
    (manifest,) = found
    hosts = session.exchange(host_name())
    shift = setting.workload.shift
    if shift is None:
        shift = hosts.count(hosts[0])
    writer = read_rank(session.rank, shift=shift, ranks=session.ranks)
    there = manifest.checkpoints
    reading = Reading(
        setting=setting,
        manifest=manifest,
        shift=shift % session.ranks,
        writer=writer,
        targets=session.agree(lambda: setting.targets(writer)),
        # More reads than there are checkpoints begin with the first again.
        numbers=tuple(there[number % len(there)] for number in range(setting.workload.reads)),
        leads_host=hosts.index(hosts[session.rank]) == session.rank,
    )
    crossed = session.exchange(manifest.hosts[writer] != hosts[session.rank])
    return reading, sum(crossed)


def _find(setting: Setting, ranks: int) -> Manifest:
    """The manifest of checkpoints that are those of this job; raises EngineError."""
    directory = setting.place.directory
    manifest = read_manifest(directory)
    differs = difference(manifest.identity, identity_of(setting.job.benchmark, ranks))
    if differs is not None:
        raise EngineError(f"{directory} holds checkpoints of another kind: {differs}")
    return manifest


# ---------------------------------------------------------------- cleanup


def cleanup(session: Session) -> None:
    """Removes what the job has made, by name: its own checkpoints, of kept ones those cut short.

    Where hosts were lost, the ranks that are left also do this for the others.
    """
    setting = session.agree(lambda: _setting(session.job, session.job_ranks))
    lists = session.outcome.lists
    lists["left"] = []
    mine = range(session.rank, session.job_ranks, session.ranks)
    numbers: list[int] = []

    def look(_: Control) -> None:
        numbers.extend(_to_remove(setting))

    def remove(control: Control) -> None:
        for rank in mine:
            targets = setting.targets(rank)
            for number in numbers:
                control.done += discard(setting.place.directory / folder_name(number), targets)

    def release_directory(_: Control) -> None:
        if session.rank == 0:
            lists["left"] += _release(setting, numbers)

    session.phase("looking for checkpoints", look, unit="files", total=0)
    files = len(numbers) * sum(len(setting.targets(rank)) for rank in mine)
    session.phase("removing", remove, unit="files", total=files)
    session.phase("releasing", release_directory, unit="files", total=0)


def _to_remove(setting: Setting) -> Iterator[int]:
    """Numbers of the checkpoints that go: all of the job's own, or those that are not complete.

    Raises EngineError.
    """
    place, numbers = setting.place, range(1, setting.workload.writes + 1)
    if not is_ours(place, setting.job):
        return
    complete: tuple[int, ...] = ()
    # One that cannot be read ends it: what it tells of may be all complete.
    if place.kept and (place.directory / MANIFEST).exists():
        complete = read_manifest(place.directory).checkpoints
    yield from (number for number in numbers if number not in complete)


def _release(setting: Setting, numbers: Sequence[int]) -> list[str]:
    """Removes the folders and, if nothing is kept, the directories; the paths of what is left."""
    job, directory = setting.job, setting.place.directory
    left = [path for number in numbers for path in remove_if_empty(directory / folder_name(number))]
    if setting.place.kept:
        give_back(setting.place, job)
        return left
    if is_ours(setting.place, job):
        remove_files(directory, [MANIFEST, f"{MANIFEST}.new"])
    return left + release(job.directory, job.sha256, [OWN])


# ---------------------------------------------------------------- parts


def _setting(job: Job, ranks: int) -> Setting:
    return Setting(
        job=job, workload=checkpointing_of(job.benchmark, ranks), place=place_of(job, OWN)
    )


@contextmanager
def _told(session: Session, run: Run, facts: Callable[[], Document]) -> Iterator[None]:
    """Reports what was completed inside, even if the stage ends early in all ranks.

    `facts` are put together on rank 0 alone: they take a look at the files of every rank.
    """
    try:
        yield
    except StageEnded:
        _tell(session, run, facts)
        raise
    _tell(session, run, facts)


def _tell(session: Session, run: Run, facts: Callable[[], Document]) -> None:
    ranks = session.gather((host_name(), run.records))
    if ranks:
        hosts, records = zip(*ranks, strict=True)
        told = facts()
        checkpoints = checkpoint_documents(records, hosts, writes=told["does"] == "write")
        session.outcome.checkpointing = {**told, "checkpoints": checkpoints}
