"""A sweep: one job for each combination of values, run by Hydra; sweep.json at the end.

Every job leaves its outcome in a small file of the sweep's directory, so that a launcher that runs
jobs in other processes or on other machines loses none.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Glob, Override
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from . import archive as files
from . import processes
from .canonical import Document, pretty_json
from .compose import parse_overrides, register_user_dirs, sweep_form
from .errors import ArchiveError, ConfigError, MlpsError, PreflightError
from .job_page import UNDRAWABLE
from .jobs import conf_dirs, prepare
from .progress import Display, open_display
from .report import headline
from .run import fresh_request, run_job
from .signals import StopRequests, catch_stop_requests
from .submission import (
    SUBMITIT_LAUNCHERS,
    Job,
    check_launcher,
    launcher_defaults,
    log_of,
    runs_here,
    submission,
    submitted_stops,
    time_limit_s,
)
from .sweep_page import SWEEP, draw_sweep
from .tables import write_table

SWEEP_SCHEMA = 1

DEFAULT_RESULTS_DIR = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """How one job of a sweep ended."""

    number: int
    overrides: tuple[str, ...]
    status: str
    exit_code: int
    archive: str | None = None
    verdict: str | None = None
    headline: str | None = None
    message: str | None = None


def run_sweep(
    overrides: Sequence[str], config_dirs: Sequence[Path], err: TextIO
) -> tuple[Path, Document]:
    """Run all jobs of a sweep; returns its directory and what sweep.json holds.

    Raises ConfigError, and leaves nothing behind, where no job could be started.
    """
    parsed = parse_overrides(overrides, multirun=True)
    launcher = _launcher(parsed)
    check_launcher(launcher)
    directory = _make_directory(parsed_results_dir(overrides))
    swept = tuple(item.key_or_group for item in parsed if item.is_sweep_override())
    planned = planned_jobs(overrides)
    user_dirs = conf_dirs(config_dirs)
    register_user_dirs(user_dirs)
    defaults = launcher_defaults(launcher, [item.key_or_group for item in parsed])
    words = ["-m", f"hydra.sweep.dir={directory}", *sweep_form(overrides), *defaults]
    with catch_stop_requests() as stops:
        task = _Task(directory, user_dirs, swept, planned, stops)
        watch = _Watch(directory, swept, planned, stops, err)
        submitted = launcher in SUBMITIT_LAUNCHERS
        job_return = JobReturn(status=JobStatus.COMPLETED)
        try:
            with submission(watch, stops, job_return) if submitted else nullcontext():
                run_hydra(words, task)
        finally:
            if not any(directory.glob("job-*.json")):
                _remove(directory)
    outcomes = _collect(directory, planned)
    document: Document = {
        "schema": SWEEP_SCHEMA,
        "sweep": directory.name,
        "overrides": [item.input_line for item in parsed],
        "swept": list(swept),
        "exit_code": max(outcome.exit_code for outcome in outcomes),
        "jobs": [asdict(outcome) for outcome in outcomes],
    }
    files.write_whole(directory / SWEEP, pretty_json(document))
    _write_page(directory, document, err)
    for outcome in outcomes:
        _job_file(directory, outcome.number).unlink(missing_ok=True)
    return directory, document


def _write_page(directory: Path, document: Document, err: TextIO) -> None:
    try:
        files.write_whole(directory / files.PAGE, draw_sweep(document))
    except UNDRAWABLE as error:
        # A page is for reading; the outcomes of the jobs do not hang on it.
        err.write(f"{files.PAGE} was not drawn: {type(error).__name__}: {error}\n")


def write_sweep(out: TextIO, document: Document) -> None:
    """The table of a sweep."""
    rows = [
        (
            str(job["number"]),
            _varied(job["overrides"], document["swept"]),
            job["status"],
            job["verdict"] or "",
            job["headline"] or (job["message"] or "").splitlines()[0] if _has_text(job) else "",
        )
        for job in document["jobs"]
    ]
    write_table(out, ("job", "overrides", "status", "verdict", "result"), rows, right=(0,))


def refuse_single_job(overrides: Sequence[str]) -> None:
    """Raise ConfigError where a job that is no sweep asks for a launcher of submitit."""
    launcher = _launcher(parse_overrides(overrides, multirun=True))
    if launcher in SUBMITIT_LAUNCHERS:
        raise ConfigError(
            f"hydra/launcher={launcher} submits the jobs of a sweep, and this is a single job",
            hint="mlps -m submits it as a sweep of one; salloc -N2 mlps ... cluster=slurm "
            "launcher=srun runs it in an allocation",
        )


def _launcher(parsed: Sequence[Override]) -> str:
    """The launcher of Hydra's that was chosen on the command line; empty for its own basic one."""
    chosen = [item.value() for item in parsed if item.key_or_group == "hydra/launcher"]
    return str(chosen[0]) if chosen else ""


def _varied(overrides: Sequence[str], swept: Sequence[str]) -> str:
    """The overrides in which the jobs of a sweep differ; all of them where there is no such."""
    own = [line for line in overrides if line.partition("=")[0] in swept]
    return " ".join(own or overrides)


def _has_text(job: Document) -> bool:
    return bool(job["headline"] or job["message"])


def planned_jobs(overrides: Sequence[str]) -> int | None:
    """How many jobs a sweep has; None where only Hydra can tell (glob)."""
    counts = []
    for item in parse_overrides(overrides, multirun=True):
        if not item.is_sweep_override():
            continue
        if not item.is_discrete_sweep() or isinstance(item.value(), Glob):
            return None
        counts.append(len(list(item.sweep_string_iterator())))
    return math.prod(counts)


def parsed_results_dir(overrides: Sequence[str]) -> Path:
    """Where the sweep's own file goes: a results_dir that all jobs share, or the default one."""
    for item in parse_overrides(overrides, multirun=True):
        if item.key_or_group == "results_dir" and not item.is_sweep_override():
            return Path(str(item.value())).expanduser().absolute()
    return Path(DEFAULT_RESULTS_DIR).absolute()


def run_hydra(arguments: Sequence[str], task: object) -> None:
    """Hand a command line to Hydra itself; its errors arrive here as ConfigError, not as text."""
    before, sys.argv = sys.argv, ["mlps", *arguments]
    try:
        with _full_errors():
            hydra.main(version_base="1.3", config_path="pkg://mlps.conf", config_name="config")(
                task  # type: ignore[arg-type]  # any callable on a config will do
            )()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"a configuration file is not YAML: {error}") from error
    except (HydraException, OmegaConfBaseException) as error:
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise ConfigError(f"{error}{cause}") from error
    finally:
        sys.argv = before


@contextmanager
def _full_errors() -> Iterator[None]:
    """Make Hydra raise its errors instead of printing them; ranks never see the variable."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


# ---------------------------------------------------------------- one job


class _Task:
    """What Hydra calls for each job. It composes anew, by the one way that every job takes.

    A launcher may pickle it and call it in another process on another host: it holds all that a job
    needs of the process that the sweep was started in.
    """

    def __init__(
        self,
        directory: Path,
        config_dirs: tuple[Path, ...],
        swept: tuple[str, ...],
        planned: int | None,
        stops: StopRequests,
    ) -> None:
        self._directory = directory
        self._config_dirs = config_dirs
        self._swept = swept
        self._planned = planned
        self._cwd = Path.cwd()
        self._stops: StopRequests | None = stops

    def __getstate__(self) -> dict[str, object]:
        # Signals of this process say nothing in another one.
        return {**self.__dict__, "_stops": None}

    def __call__(self, _cfg: DictConfig) -> None:
        if self._stops is not None:
            self._run_one(self._stops)
        elif runs_here(os.environ):
            processes.adopt_orphans()
            with submitted_stops(time_limit_s(HydraConfig.get().launcher)) as stops:
                self._run_one(stops)

    def _run_one(self, stops: StopRequests) -> None:
        config = HydraConfig.get()
        number = int(config.job.num) + 1
        overrides = tuple(str(item).removeprefix("++") for item in config.overrides.task)
        with open_display(sys.stderr) as display:
            display.say(f"job {number}/{self._planned or '?'}: {_varied(overrides, self._swept)}")
            outcome = self._run(number, overrides, display, stops)
            if outcome.message:
                display.say(f"job {number} {outcome.status}: {outcome.message}")
        _write_outcome(self._directory, outcome)

    def _run(
        self, number: int, overrides: tuple[str, ...], display: Display, stops: StopRequests
    ) -> JobOutcome:
        earlier = [outcome.exit_code for outcome in _read_outcomes(self._directory)]
        try:
            _enter(self._cwd)
            job = prepare(overrides, self._config_dirs)
            if stops.asked:
                return _skipped(number, overrides, f"stopped by {stops.first}", 130)
            if job.fail_fast and any(earlier):
                return _skipped(number, overrides, "an earlier job failed (fail_fast=true)", 0)
            links = {"sweep": self._directory.name, "job": number}
            request = fresh_request(job.composition, job.spec, job.plan, **links)
            report = run_job(request, display, stops)
        except MlpsError as error:
            return JobOutcome(
                number=number,
                overrides=overrides,
                status="refused" if error.exit_code in (2, 3, 7) else "failed",
                exit_code=error.exit_code,
                message=str(error),
            )
        except Exception as error:  # a bug in one job must not take the other jobs' results along
            traceback.print_exc()
            return JobOutcome(
                number=number, overrides=overrides, status="bug", exit_code=1, message=repr(error)
            )
        return JobOutcome(
            number=number,
            overrides=overrides,
            status=report.verdict.status,
            exit_code=report.exit_code,
            archive=str(report.archive.root),
            verdict=report.verdict.name,
            headline=headline(report.result),
            message=None if report.error is None else report.error.message,
        )


def _enter(directory: Path) -> None:
    """Go where the sweep was started: relative paths are meant from there, on every host."""
    try:
        os.chdir(directory)
    except OSError as error:
        raise PreflightError(
            f"{directory}, where the sweep was started, cannot be entered on "
            f"{os.uname().nodename}: {error.strerror}",
            hint="start mlps in a directory that the compute nodes share",
        ) from error


def _skipped(number: int, overrides: tuple[str, ...], why: str, code: int) -> JobOutcome:
    return JobOutcome(
        number=number, overrides=overrides, status="skipped", exit_code=code, message=why
    )


# ---------------------------------------------------------------- jobs that were submitted


class _Watch:
    """Tells the user how submitted jobs get on, and gives an outcome to those that left none."""

    def __init__(
        self,
        directory: Path,
        swept: tuple[str, ...],
        planned: int | None,
        stops: StopRequests,
        err: TextIO,
    ) -> None:
        self._directory = directory
        self._swept = swept
        self._planned = planned
        self._stops = stops
        self._err = err

    def submitted(self, job: Job, title: str) -> None:
        self._say(job.number, f": {_varied(job.overrides, self._swept)}: {title} {job.id}")

    def changed(self, job: Job) -> None:
        self._say(job.number, f" {job.state}")

    def has_outcome(self, number: int) -> bool:
        # A new time on the directory makes a client of NFS look at it anew.
        with contextlib.suppress(OSError):
            os.utime(self._directory)
        return _job_file(self._directory, number).is_file()

    def finished(self, job: Job) -> None:
        outcome = _read_outcome(_job_file(self._directory, job.number))
        text = outcome.message or outcome.headline
        self._say(job.number, f" {outcome.status}" + (f": {text}" if text else ""))

    def lost(self, job: Job, title: str) -> None:
        if self._stops.asked and not job.began:
            why = f"stopped by {self._stops.first} before it started"
            self._give(_skipped(job.number, job.overrides, why, 130))
            return
        log = log_of(job)
        text = f"{title} {job.id} {job.state} and left no outcome in {self._directory}; "
        if log.is_file():
            text += f"its messages are in {log}"
        else:
            text += "its log has not come either: do the compute nodes share results_dir?"
        self._give(
            JobOutcome(
                number=job.number,
                overrides=job.overrides,
                status="lost",
                exit_code=130 if job.stopped else 4,
                message=text,
            )
        )

    def never_submitted(self, number: int, overrides: tuple[str, ...]) -> None:
        why = f"stopped by {self._stops.first} before it was submitted"
        self._give(_skipped(number, overrides, why, 130))

    def _give(self, outcome: JobOutcome) -> None:
        _write_outcome(self._directory, outcome)
        self._say(outcome.number, f" {outcome.status}: {outcome.message}")

    def _say(self, number: int, text: str) -> None:
        self._err.write(f"job {number}/{self._planned or '?'}{text}\n")
        self._err.flush()


# ---------------------------------------------------------------- the sweep's directory


def _make_directory(results_dir: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    parent = results_dir / "sweeps"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            path = parent / (stamp if number == 1 else f"{stamp}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        raise ArchiveError(f"{parent} cannot be made: {error.strerror}") from error
    raise ArchiveError(f"{parent} already holds 10,000 sweeps of this second")


def _remove(directory: Path) -> None:
    """Take back a directory in which no job has left anything, and its parents if empty."""
    shutil.rmtree(directory, ignore_errors=True)
    for parent in (directory.parent, directory.parent.parent):
        try:
            parent.rmdir()
        except OSError:
            return  # it holds something else


def _job_file(directory: Path, number: int) -> Path:
    return directory / f"job-{number:04d}.json"


def _write_outcome(directory: Path, outcome: JobOutcome) -> None:
    path = _job_file(directory, outcome.number)
    files.write_whole(path, pretty_json(asdict(outcome)))


def _read_outcome(path: Path) -> JobOutcome:
    document = files.read_document(path)
    return JobOutcome(**{**document, "overrides": tuple(document["overrides"])})


def _read_outcomes(directory: Path) -> list[JobOutcome]:
    return [_read_outcome(path) for path in sorted(directory.glob("job-*.json"))]


def _collect(directory: Path, planned: int | None) -> list[JobOutcome]:
    """All outcomes in order; a job that left none is lost, which is a failure."""
    found = {outcome.number: outcome for outcome in _read_outcomes(directory)}
    count = max([planned or 0, *found])
    return [
        found.get(number)
        or JobOutcome(
            number=number, overrides=(), status="lost", exit_code=4, message="it left no outcome"
        )
        for number in range(1, count + 1)
    ]
