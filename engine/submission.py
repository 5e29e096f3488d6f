"""Hands jobs of a sweep to submitit and waits for them: states, stops, and jobs that are lost.

Hydra's submitit launcher only blocks: it knows no request to stop, ends with the first lost job,
and asks Slurm's accounting, which many clusters lack. So an executor of its own stands in for
submitit's while a sweep runs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import processes
from .errors import ConfigError, PreflightError
from .signals import StopRequests, catch_stop_requests

SUBMITIT_LAUNCHERS = ("submitit_slurm", "submitit_local")

# How often outcomes are looked for, and how often the scheduler is asked: less often later.
LOOK_EVERY_S = 0.3
ASK_EVERY_S = 2.0
ASK_LATER_EVERY_S = 15.0
ASK_LATER_AFTER_S = 120.0
# A shared file system may show a file of another host late.
OUTCOME_GRACE_S = 15.0
# A job that has left its outcome is at its end; longer than this nobody waits for that.
LINGER_S = 10.0
# From a graceful request to stop to the scheduler's own way of ending a job.
STOP_GRACE_S = 60.0
COMMAND_LIMIT_S = 30.0

TIME_LIMIT = "the time limit of its submitted job"

_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
# Why a job waits that will run in its turn.
_ORDINARY = ("", "None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What a scheduler says about a job; `word` is Slurm's name of the state."""

    word: str
    reason: str = ""
    nodes: str = ""

    @property
    def waiting(self) -> bool:
        return self.word in _WAITING

    @property
    def ended(self) -> bool:
        return self.word not in (*_WAITING, *_RUNNING)

    @property
    def ran(self) -> bool:
        """Whether it is known to have been on a host."""
        cancelled = self.word in ("CANCELLED", GONE.word)
        return not self.waiting and (not cancelled or bool(self.nodes))

    @property
    def ordinary(self) -> bool:
        """Whether it waits its turn, which needs no words."""
        return self.waiting and self.reason in _ORDINARY

    def __str__(self) -> str:
        if self.waiting:
            return f"waits in the queue ({self.reason})"
        if not self.ended:
            return f"runs on {self.nodes}" if self.nodes else "runs"
        return f"ended as {self.word}" + (f" on {self.nodes}" if self.nodes else "")


GONE = JobState(word="UNKNOWN")


class Scheduler(Protocol):
    """Where jobs were submitted to."""

    title: str

    def states(self, handles: Mapping[str, Any]) -> dict[str, JobState] | None:
        """The states of jobs by id; None where the scheduler did not answer."""

    def stop(self, job_id: str, handle: Any, *, waiting: bool, hard: bool) -> None:  # noqa: ANN401
        """Ask a job to end, gracefully at first. Never raises."""


@dataclass(slots=True, kw_only=True)
class Job:
    """One job of a sweep that was submitted. `handle` is submitit's."""

    number: int
    overrides: tuple[str, ...]
    id: str
    handle: Any
    state: JobState | None = None
    began: bool = False
    asked: bool = False
    # Whether it had been asked to stop when it ended.
    stopped: bool = False
    ended_at: float | None = None
    outcome_at: float | None = None


class Sweep(Protocol):
    """What a sweep wants to hear about its jobs."""

    def submitted(self, job: Job, title: str) -> None: ...

    def changed(self, job: Job) -> None: ...

    def has_outcome(self, number: int) -> bool: ...

    def finished(self, job: Job) -> None: ...

    def lost(self, job: Job, title: str) -> None: ...

    def never_submitted(self, number: int, overrides: tuple[str, ...]) -> None: ...


# ---------------------------------------------------------------- before the sweep


def check_launcher(name: str) -> None:
    """Refuse a launcher that cannot work here. Raises ConfigError or PreflightError."""
    if name not in SUBMITIT_LAUNCHERS:
        return
    if not _is_installed():
        raise ConfigError(
            f"hydra/launcher={name}: Hydra's submitit launcher is not installed",
            hint="pip install 'mlps[slurm]'",
        )
    if name == "submitit_slurm":
        missing = [word for word in ("sbatch", "squeue", "scancel") if shutil.which(word) is None]
        if missing:
            raise PreflightError(
                f"hydra/launcher={name}: {', '.join(missing)} not found on PATH, so this is no "
                "host that can submit to Slurm; nothing was started",
                hint="start mlps on a login node, or without hydra/launcher=",
            )


def launcher_defaults(name: str, given: Iterable[str]) -> list[str]:
    """Overrides that make jobs run one after the other: side by side they would measure each other.

    A user's own value of the same key is kept.
    """
    one_at_a_time = {
        "submitit_slurm": "hydra.launcher.array_parallelism",
        "submitit_local": "hydra.sweeper.max_batch_size",
    }
    key = one_at_a_time.get(name)
    return [] if key is None or key in set(given) else [f"{key}=1"]


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is not None
    except ModuleNotFoundError:
        return False


# ---------------------------------------------------------------- in the submitted process


def runs_here(environ: Mapping[str, str]) -> bool:
    """Whether this process of a submitted job runs it: submitit starts one for each task."""
    rank = environ.get("SLURM_PROCID", "0")
    if environ.get("SUBMITIT_EXECUTOR") == "local":
        rank = environ.get("SUBMITIT_LOCAL_GLOBALID", "0")
    return rank == "0"


@contextmanager
def submitted_stops(limit_s: float | None) -> Iterator[StopRequests]:
    """Requests to stop in the process of a submitted job.

    Slurm and submitit ask with SIGTERM. SIGUSR2 asks once, however often it comes. After `limit_s`
    the job stops itself.
    """
    with catch_stop_requests((signal.SIGTERM, signal.SIGHUP)) as stops:

        def once(why: str) -> None:
            if not stops.asked:
                stops.first = why
                stops.count = 1

        # submitit's own process asks so at a limit; with Slurm it is the mlps that submitted.
        local = os.environ.get("SUBMITIT_EXECUTOR") == "local"
        who = TIME_LIMIT if local else "the mlps that submitted it"
        before = signal.signal(signal.SIGUSR2, lambda _number, _frame: once(who))
        timer = threading.Timer(limit_s or 0.0, once, [TIME_LIMIT])
        timer.daemon = True
        if limit_s is not None:
            timer.start()
        try:
            yield stops
        finally:
            timer.cancel()
            signal.signal(signal.SIGUSR2, before)


def time_limit_s(launcher: Mapping[str, Any]) -> float | None:
    """Seconds after which a job of this launcher must stop to be sealed within its time limit.

    `launcher` is the job's `hydra.launcher`. None where another one sees to that.
    """
    if "signal_delay_s" not in launcher or "timeout_min" not in launcher:
        return None
    whole_s = 60.0 * float(launcher["timeout_min"])
    return max(whole_s / 2, whole_s - float(launcher["signal_delay_s"]))


# ---------------------------------------------------------------- submission


@contextmanager
def submission(sweep: Sweep, stops: StopRequests, job_return: object) -> Iterator[None]:
    """While the block runs, jobs that Hydra's launcher submits are watched.

    `job_return` is what Hydra gets for each job; outcomes travel in files.
    """
    import submitit  # of an extra

    class Executor(submitit.AutoExecutor):
        def update_parameters(self, **values: Any) -> None:  # noqa: ANN401 - submitit's own
            if self.cluster == "slurm":
                extra = dict(values.get("slurm_additional_parameters") or {})
                # submitit wants Slurm to send SIGUSR2 before the time limit, to all steps: ranks
                # would die of it. The task sees to its limit itself; SIGURG does nothing.
                extra.setdefault("signal", "B:URG@1")
                values["slurm_additional_parameters"] = extra
            super().update_parameters(**values)

        def map_array(self, fn: Any, *iterable: Any) -> list[Any]:  # noqa: ANN401 - submitit's own
            tasks = [
                (index + 1, tuple(words)) for words, _, index, *_ in zip(*iterable, strict=True)
            ]
            if stops.asked:
                for number, overrides in tasks:
                    sweep.never_submitted(number, _plain(overrides))
            else:
                handles = _submit(super().map_array, (fn, *iterable), self.cluster)
                scheduler = _Local() if self.cluster == "local" else _Slurm()
                jobs = [
                    Job(number=number, overrides=_plain(words), id=handle.job_id, handle=handle)
                    for (number, words), handle in zip(tasks, handles, strict=True)
                ]
                wait_for_jobs(jobs, scheduler, sweep, stops)
            return [_Done(job_return) for _ in tasks]

    before = submitit.AutoExecutor
    submitit.AutoExecutor = Executor  # type: ignore[misc]  # put back below
    try:
        with _environment({"SLURM_WAIT": "0", "SLURM_KILL_BAD_EXIT": "1"}):
            yield
    finally:
        submitit.AutoExecutor = before  # type: ignore[misc]  # as above


@dataclass(frozen=True, slots=True)
class _Done:
    """Stands for a job that has ended, towards Hydra."""

    job_return: object

    def results(self) -> list[object]:
        return [self.job_return]


def _submit(map_array: Any, arguments: tuple[Any, ...], cluster: str) -> list[Any]:  # noqa: ANN401
    # Ctrl-C on a terminal reaches the whole process group; a local job shall hear of it from us
    # alone, once. What is ignored stays so in a new program.
    before = signal.getsignal(signal.SIGINT)
    if cluster == "local":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # submitit prints what the error says as well
            return list(map_array(*arguments))
    except Exception as error:  # submitit's own share no root
        if type(error).__module__.startswith("submitit"):
            raise PreflightError(f"the jobs could not be submitted: {error}") from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for what the block starts.

    A step's idle tasks end at once and its first task does not: neither may be ended for that.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _plain(overrides: Sequence[str]) -> tuple[str, ...]:
    """A job's own overrides, without those of Hydra."""
    own = (word for word in overrides if not word.lstrip("+~").startswith("hydra"))
    return tuple(word.removeprefix("++") for word in own)


# ---------------------------------------------------------------- waiting


def wait_for_jobs(
    jobs: Sequence[Job], scheduler: Scheduler, sweep: Sweep, stops: StopRequests
) -> None:
    """Until every job has left its outcome, or is lost. Passes requests to stop on."""
    for job in jobs:
        sweep.submitted(job, scheduler.title)
    begun = time.monotonic()
    asked_at = float("-inf")
    stopper = _Stopper(scheduler=scheduler, stops=stops)
    left = list(jobs)
    while left:
        stopper.check(left)
        now = time.monotonic()
        hurry = any(job.outcome_at for job in left) or stops.asked
        later = ASK_LATER_EVERY_S if now - begun > ASK_LATER_AFTER_S else ASK_EVERY_S
        if now - asked_at > (ASK_EVERY_S if hurry else later):
            asked_at = now
            _ask(left, scheduler, sweep)
        left = [job for job in left if not _over(job, scheduler, sweep)]
        if left:
            time.sleep(LOOK_EVERY_S)


def _ask(jobs: Sequence[Job], scheduler: Scheduler, sweep: Sweep) -> None:
    states = scheduler.states({job.id: job.handle for job in jobs})
    if states is None:
        return  # it did not answer; the next time it may
    for job in jobs:
        if job.ended_at is not None:
            continue  # what it ended as is known; the scheduler may have forgotten it since
        state = states.get(job.id, GONE)
        if state.ended:
            job.ended_at, job.stopped = time.monotonic(), job.asked
        before, job.state = job.state, state
        job.began = job.began or state.ran
        passing = state.ended or state.ordinary or state.word == "COMPLETING"
        if not passing and (before is None or str(before) != str(state)):
            sweep.changed(job)


def _over(job: Job, scheduler: Scheduler, sweep: Sweep) -> bool:
    """Whether nothing more will come of a job; says so to the sweep."""
    now = time.monotonic()
    if sweep.has_outcome(job.number):
        if job.outcome_at is None:
            job.outcome_at = now
            sweep.finished(job)
        return job.ended_at is not None or now - job.outcome_at > LINGER_S
    never_began = job.asked and not job.began
    if job.ended_at is None or (not never_began and now - job.ended_at < OUTCOME_GRACE_S):
        return False
    sweep.lost(job, scheduler.title)
    return True


@dataclass(slots=True, kw_only=True)
class _Stopper:
    """Passes requests to stop on to the jobs that are left: the first gracefully."""

    scheduler: Scheduler
    stops: StopRequests
    said: int = 0
    said_at: float = 0.0

    def check(self, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        late = self.said == 1 and now - self.said_at > STOP_GRACE_S
        level = 2 if late else min(self.stops.count, 2)
        if level <= self.said:
            return
        self.said, self.said_at = level, now
        for job in jobs:
            job.asked = True
            waiting = not job.began
            self.scheduler.stop(job.id, job.handle, waiting=waiting, hard=level > 1)


# ---------------------------------------------------------------- Slurm


def parse_squeue(text: str) -> dict[str, JobState]:
    """States by job id from squeue's lines `id|state|reason|nodes`; others are passed over."""
    states = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 4 and fields[0] and fields[1]:
            job_id, word, reason, nodes = fields
            states[job_id] = JobState(word=word, reason=reason, nodes=nodes)
    return states


class _Slurm:
    """Asks squeue, which every Slurm has, and not its accounting."""

    title = "Slurm job"

    def states(self, handles: Mapping[str, Any]) -> dict[str, JobState] | None:
        ids = ",".join(sorted({job_id.partition("_")[0] for job_id in handles}))
        words = ["--noheader", "--array", "--states=all", "--format=%i|%T|%r|%N"]
        try:
            text = processes.output(
                ["squeue", *words, f"--jobs={ids}"], env=os.environ, limit_s=COMMAND_LIMIT_S
            )
        except subprocess.CalledProcessError as error:
            # Slurm forgets a job a few minutes after its end.
            return {} if b"Invalid job id" in error.stderr else None
        except (OSError, subprocess.SubprocessError):
            return None
        return parse_squeue(text.decode(errors="replace"))

    def stop(self, job_id: str, handle: object, *, waiting: bool, hard: bool) -> None:
        # Step 0 is the task alone: the ranks, in a step of theirs, hear of it from mlps. SIGTERM
        # would make Slurm itself end the step.
        gracefully = [] if waiting or hard else ["--signal=USR2"]
        target = job_id if waiting or hard else f"{job_id}.0"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            processes.output(
                ["scancel", *gracefully, target], env=os.environ, limit_s=COMMAND_LIMIT_S
            )


# ---------------------------------------------------------------- this machine


class _Local:
    """Jobs in processes of this machine."""

    title = "process"

    def states(self, handles: Mapping[str, Any]) -> dict[str, JobState] | None:
        return {job_id: self._state(handle) for job_id, handle in handles.items()}

    def stop(self, job_id: str, handle: Any, *, waiting: bool, hard: bool) -> None:  # noqa: ANN401
        # submitit's own process passes it on to the task.
        with contextlib.suppress(OSError):
            os.kill(int(job_id), signal.SIGTERM)

    @staticmethod
    def _state(handle: Any) -> JobState:  # noqa: ANN401 - submitit's job
        status = handle._process.poll()
        if status is None:
            return JobState(word="RUNNING")
        return JobState(word="COMPLETED" if status == 0 else "FAILED")


def log_of(job: Job) -> Path:
    """What a submitted job said on its standard error."""
    return Path(job.handle.paths.stderr)
