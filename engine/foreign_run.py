"""Runs a stage of a foreign program: its directory, its processes, what they leave.

Each process is started by one of ours, which says when it starts and how it ends; nothing else is
known of it while it runs. What it writes stays on the storage until the stage has ended.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from . import processes
from .blame import blame_hosts, blame_output, blame_start
from .canonical import Document, canonical_json
from .foreign import STDOUT, Command
from .foreign_metrics import restated
from .plan import Launch
from .progress import Display
from .protocol import RankTable
from .references import Reference, Text, as_document
from .signals import StopRequests
from .supervise import (
    PIPE_GRACE_S,
    POLL_S,
    STOP_GRACE_S,
    STOPPED_GRACE_S,
    Outcome,
    Site,
    close_pipes,
    ending,
    log_tail,
    not_started,
    start_launch,
)

# What a program leaves is read into memory and archived.
MAX_OUTPUT_BYTES = 4 * 1024 * 1024
# Lines of our own processes are short; what comes beside them is a launcher's.
MAX_LOG_BYTES = 4 * 1024 * 1024

MARKER = "MLPS_JOB"
START_FILE = "mlps-start.json"
STDOUT_FILE = "mlps-stdout"

# Standard error of a program that failed is shown up to here.
LAST_WORDS = 200

Save = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stage of a foreign program and where it runs.

    `command` has the directories filled in; None: the job's directory is removed. `save` puts a
    file into the stage's directory of the archive.
    """

    launch: Launch
    command: Command | None
    document: Document
    run_dir: Path
    save: Save

    @property
    def stage_dir(self) -> Path:
        return stage_directory(self.run_dir, self.launch)


def stage_directory(run_dir: Path, launch: Launch) -> Path:
    """The directory in which the processes of a launch work."""
    trial = None if launch.trial is None else str(launch.trial)
    parts = [part for part in (launch.stage, launch.option, trial) if part is not None]
    return run_dir / "stages" / "-".join(parts)


def run_foreign(task: Task, site: Site, stops: StopRequests, display: Display) -> Outcome:
    """Run a stage to its end, whatever that is.

    Raises OSError where a log cannot be written, and what `save` raises.
    """
    if task.command is not None:
        try:
            _prepare(task, task.command, site.job_sha256)
        except OSError as error:
            text = f"{error.filename or task.run_dir} cannot be made: {error.strerror or error}"
            return Outcome(name=task.launch.name, status="failed", reason="start", message=text)
        for name, data in task.command.files.items():
            task.save(f"files/{name}", data)
    watched = _supervise(task, site, stops, display)
    if task.command is None or watched.table is None or watched.status == "not_run":
        return watched.outcome(task.launch)
    return _with_outputs(task, task.command, watched)


# ---------------------------------------------------------------- before


def _prepare(task: Task, command: Command, job_sha256: str) -> None:
    """Make the job's directory, its working files and the stage's directory. Raises OSError."""
    _claim(task.run_dir, job_sha256)
    for name, data in command.files.items():
        path = task.run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    # A stage that is run again must not find what it left before.
    if task.stage_dir.exists():
        shutil.rmtree(task.stage_dir)
    task.stage_dir.mkdir(parents=True)
    start = {
        "argv": [as_document(word) for word in command.argv],
        "environment": {name: as_document(text) for name, text in command.environment.items()},
        "stdout": (STDOUT,) in command.outputs.values(),
    }
    (task.stage_dir / START_FILE).write_bytes(canonical_json(start))


def _claim(run_dir: Path, job_sha256: str) -> None:
    """Make the job's directory with its marker, or take the one that this job has made before."""
    marker, text = run_dir / MARKER, f"{job_sha256}\n"
    try:
        run_dir.mkdir()
    except FileExistsError:
        if marker.read_text(encoding="ascii", errors="replace") != text:
            raise OSError(None, "it belongs to another job", str(run_dir)) from None
        return
    marker.write_text(text, encoding="ascii")


# ---------------------------------------------------------------- while it runs


@dataclass(frozen=True, slots=True)
class _Broken:
    """Why a launch has to be ended."""

    reason: str
    message: str
    lost_hosts: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Watched:
    """A launch and what its processes have said; `is_told`: to stop."""

    launch: Launch
    log: IO[bytes]
    started: dict[int, Document] = field(default_factory=dict)
    ended: dict[int, Document] = field(default_factory=dict)
    first_unix_s: float = 0.0
    last_unix_s: float = 0.0
    flaw: str | None = None
    is_told: bool = False
    pid: int = 0
    helpers: Mapping[int, str] = field(default_factory=dict)
    cut_off: tuple[str, ...] = ()
    pending: bytes = b""
    logged: int = 0
    begun: float = field(default_factory=time.monotonic)
    began_utc: str = ""
    elapsed_s: float | None = None
    exit_status: int | None = None
    status: Literal["complete", "stopped", "failed", "not_run"] = "failed"
    reason: str | None = None
    message: str | None = None
    lost_hosts: tuple[str, ...] = ()
    result: Document | None = None

    @property
    def table(self) -> RankTable | None:
        """Who the processes are; None until all have said so."""
        if sorted(self.started) != list(range(self.launch.ranks)):
            return None
        facts = [self.started[rank] for rank in sorted(self.started)]
        digests: dict[str, list[str]] = {}
        for rank, fact in enumerate(facts):
            digests.setdefault(str(fact["job_sha256"]), []).append(str(rank))
        return RankTable(
            places=tuple((str(fact["host"]), int(fact["pid"])) for fact in facts),
            job_sha256={sha256: ",".join(ranks) for sha256, ranks in digests.items()},
        )

    def feed(self, data: bytes) -> None:
        if self.logged < MAX_LOG_BYTES:
            self.log.write(data)
            self.logged += len(data)
        *lines, self.pending = (self.pending + data).split(b"\n")
        self.pending = self.pending[-MAX_LOG_BYTES:]
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            rank, kind = int(event["rank"]), event["event"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return  # a launcher's own words; they are in the log
        if kind == "started":
            if rank in self.started:
                self.flaw = f"two processes say that they are rank {rank}: the launcher gives none"
            self.started[rank] = event
            self.first_unix_s = self.first_unix_s or time.time()
            if len(self.started) == self.launch.ranks:
                names = [host.name for host in self.launch.hosts]
                self.helpers = processes.helpers(self.pid, names)
        elif kind == "ended":
            self.ended[rank] = event
            self.last_unix_s = time.time()

    def look_for_helpers(self) -> None:
        """Which hosts the launcher had lost when it ended."""
        if self.helpers and len(self.ended) < self.launch.ranks:
            first = {self.helpers[pid] for pid in processes.first_ended(self.helpers)}
            if len(first) < len(set(self.helpers.values())):
                self.cut_off = tuple(sorted(first))

    def outcome(self, launch: Launch) -> Outcome:
        line = None if self.result is None else canonical_json(self.result)
        return Outcome(
            name=launch.name,
            status=self.status,
            reason=self.reason,
            message=self.message,
            lost_hosts=self.lost_hosts,
            exit_status=self.exit_status,
            started_utc=self.began_utc,
            elapsed_s=self.elapsed_s,
            result_line=line,
            result=self.result,
            table=self.table,
        )


def _supervise(task: Task, site: Site, stops: StopRequests, display: Display) -> _Watched:
    launch = task.launch
    began_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
    with site.stdout_log.open("xb", buffering=0) as log, site.stderr_log.open("xb") as stderr:
        watched = _Watched(launch=launch, log=log, began_utc=began_utc)
        try:
            process = start_launch(launch, site, stderr)
        except OSError as error:
            watched.status, watched.reason = "failed", "start"
            watched.message = not_started(site, error)
            return watched
        watched.pid = process.pid
        broken: _Broken | None = None
        try:
            broken = _follow(process, watched, stops, display)
            if broken is None and not watched.is_told:
                watched.look_for_helpers()
        finally:
            short = stops.count > 1 or (broken is not None and broken.reason == "stop")
            grace_s = STOPPED_GRACE_S if short else processes.TERMINATE_GRACE_S
            processes.end(process, grace_s=grace_s, spared=site.spared)
            close_pipes(process)
    watched.exit_status = process.returncode
    watched.elapsed_s = time.monotonic() - watched.begun
    _classify(watched, site, broken, stops)
    return watched


def _follow(
    process: subprocess.Popen[bytes], watched: _Watched, stops: StopRequests, display: Display
) -> _Broken | None:
    """Until the launch has ended by itself, or why it has to be ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    before, told_at, ended_at = stops.count, None, None
    is_closed = False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not is_closed or process.poll() is None:
            if is_closed:
                time.sleep(POLL_S)
            elif selector.select(POLL_S):
                data = os.read(process.stdout.fileno(), 1 << 16)
                is_closed = not data
                watched.feed(data)
            now = time.monotonic()
            if process.poll() is not None:
                ended_at = ended_at or now
                if now - ended_at > PIPE_GRACE_S:
                    return None  # what is left over may hold the pipe open
                continue
            asked = stops.count - before
            if asked > 1:
                return _Broken("killed", "a second request to stop ended it at once")
            if asked == 1 and told_at is None:
                told_at, watched.is_told = now, True
                display.say("stopping; once more ends it at once")
                process.terminate()
            if told_at is not None and now - told_at > STOP_GRACE_S:
                return _Broken("stop", f"it did not stop within {STOP_GRACE_S:g} s")
            if told_at is None and (broken := _limit_passed(process, watched, now)) is not None:
                return broken
    return None


def _limit_passed(
    process: subprocess.Popen[bytes], watched: _Watched, now: float
) -> _Broken | None:
    launch, since_s = watched.launch, now - watched.begun
    if watched.flaw is not None:
        return _Broken("protocol", watched.flaw)
    if since_s > launch.time_limit_s:
        return _Broken("time_limit", f"it took longer than {launch.time_limit_s:g} s")
    if watched.table is None and since_s > launch.start_limit_s:
        text = f"not all processes had started after {launch.start_limit_s:g} s"
        output = "".join(f"mlps: started on {fact['host']}\n" for fact in watched.started.values())
        blame = blame_start(launch, output, lambda: processes.peers(process.pid))
        if blame is None:
            return _Broken("start_limit", text)
        return _Broken("start_limit", f"{text}: nothing came from {blame.words}", blame.hosts)
    return None


# ---------------------------------------------------------------- how it ended


def _classify(watched: _Watched, site: Site, broken: _Broken | None, stops: StopRequests) -> None:
    """Fill in how the launch has ended."""
    if broken is not None:
        watched.reason, watched.message = broken.reason, broken.message
        watched.lost_hosts = broken.lost_hosts
        return
    table, status = watched.table, watched.exit_status or 0
    bad = [rank for rank, event in sorted(watched.ended.items()) if event["exit_status"] != 0]
    if table is not None and len(watched.ended) == watched.launch.ranks and not bad and not status:
        if set(table.job_sha256) == {site.job_sha256}:
            watched.status, watched.reason = "complete", None
        else:
            watched.reason, watched.message = "protocol", f"processes had another job: {table}"
        return
    if watched.is_told:
        watched.status, watched.reason = "stopped", "stop"
        watched.message = f"stopped by {stops.first}"
        return
    texts = [log_tail(log) for log in (site.stdout_log, site.stderr_log)]
    if bad:
        _failed_program(watched, bad, texts[1])
        return
    named = blame_output(site.died_patterns, texts, watched.launch, table)
    if named is None and watched.cut_off and status > 0:
        named = blame_hosts(watched.cut_off, watched.launch)
    text = f"it ended with {ending(status)} before all processes had told how they ended"
    watched.reason, watched.message = "no_result", f"{text}{_last_words(texts[1])}"
    if named is not None:
        verb = "was lost" if named.hosts else "died"
        watched.reason = "host_lost" if named.hosts else "rank_died"
        watched.message = f"{named.words} {verb}; the launch ended with {ending(status)}"
        watched.lost_hosts = named.hosts


def _failed_program(watched: _Watched, bad: Sequence[int], stderr: str) -> None:
    """A process of the program ended with another status than 0."""
    first = bad[0]
    host = watched.started.get(first, {}).get("host", "?")
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    how = ending(watched.ended[first]["exit_status"])
    watched.reason = "exit"
    watched.message = f"rank {first} on {host} ended with {how}{more}{_last_words(stderr)}"


def _last_words(stderr: str) -> str:
    lines = [" ".join(line.split()) for line in stderr.splitlines()]
    lines = [line for line in lines if line and not line.startswith("mlps: ")]
    return f"; its last words: {lines[-1][:LAST_WORDS]}" if lines else ""


# ---------------------------------------------------------------- after


def _with_outputs(task: Task, command: Command, watched: _Watched) -> Outcome:
    """Archive what the processes have left, and state the result of a stage that is complete."""
    contents: dict[str, list[bytes]] = {}
    names: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    for output, text in command.outputs.items():
        contents[output], names[output] = [], []
        for name, path in _paths(task, output, text, watched):
            try:
                data = _read_output(path, task.run_dir)
            except OSError as error:
                missing[output] = f"{error.filename or path}: {error.strerror or error}"
                continue
            task.save(f"outputs/{name}", data)
            contents[output].append(data)
            names[output].append(name)
    if watched.status == "complete":
        foreign = {
            "measured_by": task.document["benchmark"]["measured_by"],
            "run_dir": str(task.run_dir),
            "programs": watched.started[0].get("programs", []),
            "outputs": names,
            "missing": missing,
            "metrics": {},
            "flaws": {},
        }
        watched.result = restated(
            {**_bare_result(task.launch, watched), "foreign": foreign}, command.metrics, contents
        )
    return watched.outcome(task.launch)


def _paths(task: Task, output: str, text: Text, watched: _Watched) -> list[tuple[str, Path]]:
    """(name in the archive, file) of an output: one, or one for each process."""
    ranks = sorted(watched.started)
    if text == (STDOUT,):
        paths = [task.stage_dir / f"{STDOUT_FILE}-{rank}" for rank in ranks]
        return [(f"{output}-{rank}", path) for rank, path in zip(ranks, paths, strict=True)]
    if not any(isinstance(part, Reference) for part in text):
        return [(output, task.stage_dir / "".join(map(str, text)))]
    found: dict[Path, str] = {}
    for rank in ranks:
        late = {"rank": str(rank), "host": str(watched.started[rank]["host"])}
        parts = [part if isinstance(part, str) else late[part.name] for part in text]
        found.setdefault(task.stage_dir / "".join(parts), f"{output}-{rank}")
    return [(name, path) for path, name in found.items()]


def _read_output(path: Path, run_dir: Path) -> bytes:
    """A file that a program has left. Raises OSError for what is none, or too large."""
    real = path.resolve(strict=True)
    if not real.is_relative_to(run_dir.resolve()):
        raise OSError(None, "it is not in the job's directory", str(path))
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # waits for no pipe
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "it is no file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_OUTPUT_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_OUTPUT_BYTES:
        raise OSError(None, f"it holds more than {MAX_OUTPUT_BYTES} bytes", str(path))
    return data


def _bare_result(launch: Launch, watched: _Watched) -> Document:
    """A result in the form of those of native engines, without any number of the program's."""
    ranks = sorted(watched.ended)
    hosts = list(dict.fromkeys(str(watched.started[rank]["host"]) for rank in ranks))
    columns: Mapping[str, list[object]] = {
        name: [watched.ended[rank][name] for rank in ranks]
        for name in ("exit_status", "elapsed_s", "cpu_user_s", "cpu_system_s", "peak_rss_bytes")
    }
    length_s = max(0.0, watched.last_unix_s - watched.first_unix_s)
    return {
        "event": "result",
        "stage": launch.stage,
        "option": launch.option,
        "trial": launch.trial,
        "status": "complete",
        "errors": [],
        "window": {
            "start_unix_s": watched.first_unix_s,
            "ramp_s": 0.0,
            "length_s": length_s,
            "drain_s": 0.0,
            "elapsed_s": length_s,
        },
        "io": {},
        "verify": {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0},
        "plan": None,
        "core": None,
        "ranks": {
            "hosts": hosts,
            "host_index": [hosts.index(str(watched.started[rank]["host"])) for rank in ranks],
            **columns,
        },
        "details": {},
    }
