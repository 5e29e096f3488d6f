"""The course of an engine's process, from its arguments to its exit code."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Protocol, TypeVar

from .console import OK_LIMIT_S, Console, ignore_signals, protect_stdout
from .contract import (
    RUN_VARIABLE,
    STARTED_ON,
    Arguments,
    Document,
    Job,
    decode_job,
    parse_arguments,
    rank_ranges,
    read_job,
    sha256_hex,
)
from .errors import EngineError, JobError
from .io_core.control import Control
from .io_core.histogram import Histogram
from .meeting import Together
from .result import Outcome, gather_result, merge_histogram
from .supervise import Failure, Phase, Status, Unit, Verdict, Work, supervise, supervise_steps
from .watch import end_with_parent, start_limit
from .world import World, host_name, open_world, starts_a_host

_FAILED = 4
_LAST_WORDS_S = 0.3

Value = TypeVar("Value")


class StageEnded(Exception):
    """A phase ended early in all ranks: failed somewhere, or stopped. Never caught by a stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a job needs before its first stage; the arithmetics show where the bytes come from.

    `packages` of Python and `programs` on PATH are needed on every host. `facts` is what the engine
    tells of the job beforehand.
    """

    disk_bytes: int
    memory_bytes_per_rank: int
    disk_arithmetic: str
    memory_arithmetic: str
    open_files_per_rank: int = 0
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    facts: Document = field(default_factory=dict)


class Session:
    """One rank's view of a stage: the job, the ranks, and phases to do the work in."""

    def __init__(
        self,
        *,
        job: Job,
        stage: str,
        world: World,
        console: Console,
        hosts: list[str],
        job_ranks: int | None = None,
    ) -> None:
        self.job = job
        # Ranks of the stages before; fewer may be left to clean up for all of them.
        self.job_ranks = job_ranks or world.size
        self.stage = stage
        self.outcome = Outcome()
        self.status: Status = "complete"
        self.failures: list[Failure] = []
        self._world = world
        self._console = console
        self._hosts = hosts

    @property
    def rank(self) -> int:
        """Number of this rank."""
        return self._world.rank

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return self._world.size

    def agree(self, work: Callable[[], Value]) -> Value:
        """The value of something quick, once all ranks have one; raises StageEnded otherwise.

        For what can fail but neither lasts nor touches storage, such as reading the job.
        """
        value: list[Value] = []
        message = None
        try:
            value.append(work())
        except EngineError as error:
            message = str(error)
        messages = self._world.gather(message)
        self.failures = self._world.broadcast(
            [
                Failure(rank=rank, host=self._hosts[rank], message=text)
                for rank, text in enumerate(messages)
                if text is not None
            ]
        )
        if self.failures:
            self.status = "failed"
            raise StageEnded
        return value[0]

    def exchange(self, value: Value) -> list[Value]:
        """The small values of all ranks, by rank, in every rank."""
        return self._world.broadcast(self._world.gather(value))

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, by rank, on rank 0; an empty list elsewhere."""
        return self._world.gather(value)

    def merged(self, histogram: Histogram) -> Histogram:
        """The histograms of all ranks in one on rank 0; elsewhere without its counts."""
        return merge_histogram(self._world, histogram)

    def phase(
        self, name: str, work: Work, *, unit: Unit, total: float, control: Control | None = None
    ) -> None:
        """Does `work` in a thread of every rank from a common start; returns when all have ended.

        Raises StageEnded in all ranks unless all of them completed it.
        """
        phase = Phase(name=name, unit=unit, total=total)
        self._close(
            supervise(self._world, self._console, self._hosts, phase, control or Control(), work)
        )

    def steps(
        self,
        name: str,
        work: Callable[[Together], None],
        *,
        total: float,
        unit: Unit = "steps",
    ) -> None:
        """Does `work` on the main thread of every rank, who meet after each of its steps.

        Raises StageEnded in all ranks unless all of them completed it.
        """
        phase = Phase(name=name, unit=unit, total=total)
        self._close(
            supervise_steps(self._world, self._console, self._hosts, phase, Control(), work)
        )

    def _close(self, verdict: Verdict) -> None:
        if verdict.status != "complete":
            self.status = verdict.status
            self.failures.extend(verdict.failures)
            raise StageEnded


class Engine(Protocol):
    """What an engine's module offers to `run_engine`."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """What the job needs with this many ranks; raises EngineError. Starts no MPI."""

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """The stages by name. Each runs on the main thread of all ranks, does all that may fail or
        last inside phases, and leaves what is to be reported in the session's outcome."""


def run_engine(engine: Engine) -> int:
    """The whole life of an engine's process; returns its exit code."""
    output = protect_stdout()
    stages = engine.stages()
    arguments = parse_arguments(sys.argv[1:], list(stages))
    console = Console(output)
    if arguments.stage == "needs" and arguments.ranks is not None:
        return _tell_needs(engine, console, arguments, arguments.ranks)
    end_with_parent()
    if starts_a_host(os.environ):  # a start that hangs is told from where it has come to
        sys.stderr.write(f"{STARTED_ON}{host_name()}\n")
        sys.stderr.flush()
    receipt = _receive_job(arguments.option)
    limits = _Limits() if receipt.job is None else _limits(receipt.job)
    with start_limit(limits.start_s):
        world = open_world(os.environ)
    try:
        status = _run_stage(stages[arguments.stage], arguments, world, console, receipt, limits)
    except BaseException:  # a bug in one rank: others may wait for it for ever
        traceback.print_exc()
        # An abort ends launchers at once, and with them the last words of a rank on their way.
        sys.stderr.flush()
        time.sleep(_LAST_WORDS_S)
        world.abort()
    return _FAILED if status == "failed" else 0


def _tell_needs(engine: Engine, console: Console, arguments: Arguments, ranks: int) -> int:
    try:
        job = read_job(
            decode_job(os.environ), os.environ.get(RUN_VARIABLE, "needs"), arguments.option
        )
        needs = engine.needs(job, ranks)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED
    console.emit({"event": "needs", **asdict(needs)})
    return 0


def _run_stage(
    stage: Callable[[Session], None],
    arguments: Arguments,
    world: World,
    console: Console,
    receipt: _Receipt,
    limits: _Limits,
) -> Status:
    if world.rank == 0:
        console.stop_on_signals()
        console.listen()
    else:
        ignore_signals()
    job, name = receipt.job, f"rank {world.rank} on {host_name()} (pid {os.getpid()})"
    world.watch.keep(name, limits.start_s)
    greeting = _Greeting(host_name(), os.getpid(), receipt.job_sha256, receipt.error)
    greetings = world.gather(greeting)
    hosts = [greeting.host for greeting in greetings]
    refusals = world.broadcast(_greet(console, greetings))
    world.watch.keep(name, limits.silence_s)
    if job is None or refusals:
        status: Status = "failed"
        result = gather_result(world, Outcome(), hosts, status, refusals)
    else:
        session = Session(
            job=job,
            stage=arguments.stage,
            world=world,
            console=console,
            hosts=hosts,
            job_ranks=arguments.ranks,
        )
        with suppress(StageEnded):  # the session knows why
            stage(session)
        status = session.status
        result = gather_result(world, session.outcome, hosts, status, session.failures)
    _tell_result(console, world, arguments, result)
    return status


@dataclass(frozen=True, slots=True)
class _Greeting:
    """What each rank tells first; `error` when it cannot read the job."""

    host: str
    pid: int
    job_sha256: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receipt:
    """The job as it arrived, or why it cannot be read."""

    job_sha256: str = ""
    job: Job | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """The longest that all ranks may need to start, and that one may be silent; None: no limit."""

    start_s: float | None = None
    silence_s: float | None = None


def _receive_job(option: str | None) -> _Receipt:
    try:
        canonical = decode_job(os.environ)
    except JobError as error:
        return _Receipt(error=str(error))
    sha256 = sha256_hex(canonical)
    try:
        job = read_job(canonical, os.environ.get(RUN_VARIABLE), option)
    except JobError as error:
        return _Receipt(job_sha256=sha256, error=str(error))
    return _Receipt(job_sha256=sha256, job=job)


def _limits(job: Job) -> _Limits:
    start_s, silence_s = (job.benchmark.get(name) for name in ("start_limit_s", "silence_limit_s"))
    return _Limits(start_s=start_s, silence_s=silence_s)


def _greet(console: Console, greetings: list[_Greeting]) -> list[Failure]:
    """Tells the caller who is here; the failures of ranks that cannot take part. Rank 0 only."""
    if not greetings:
        return []
    holders: dict[str, list[int]] = {}
    for rank, greeting in enumerate(greetings):
        holders.setdefault(greeting.job_sha256, []).append(rank)
    console.emit(
        {
            "event": "ranks",
            "ranks": [[greeting.host, greeting.pid] for greeting in greetings],
            "job_sha256": {sha: rank_ranges(ranks) for sha, ranks in holders.items()},
        }
    )
    failures = [
        Failure(rank=rank, host=greeting.host, message=greeting.error)
        for rank, greeting in enumerate(greetings)
        if greeting.error is not None
    ]
    if not failures and len(holders) > 1:
        spread = "; ".join(f"{sha[:16]} in {rank_ranges(r)}" for sha, r in holders.items())
        text = f"the ranks hold different jobs (SHA-256 and ranks): {spread}"
        failures.append(Failure(rank=0, host=greetings[0].host, message=text))
    return failures


def _tell_result(console: Console, world: World, arguments: Arguments, result: Document) -> None:
    if world.rank == 0:
        console.emit(
            {
                "event": "result",
                "stage": arguments.stage,
                "option": arguments.option,
                "trial": arguments.trial,
                **result,
            }
        )
        console.wait_for_ok()
    world.barrier(more_s=OK_LIMIT_S)
