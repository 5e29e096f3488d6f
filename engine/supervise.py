"""Runs one launch: reads its events, keeps its limits, answers its result, and ends it.

Every way that a launch can end becomes an Outcome; nothing of it is left running.
"""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

from . import processes
from .blame import Blame, blame_hosts, blame_output, blame_silent, blame_start, parse_rank_ranges
from .canonical import Document
from .plan import Launch
from .progress import Display
from .protocol import (
    MAX_LINE_BYTES,
    OK,
    STOP,
    ProtocolError,
    RankTable,
    parse_event,
    parse_ranks,
    result_flaws,
)
from .signals import StopRequests

# A rank that was asked to stop gets this long to drain and report; then its group is ended. All of
# it together stays below 10 s.
STOP_GRACE_S = 8.0
STOPPED_GRACE_S = 1.0
# Time for a launcher to end by itself after its result was answered.
EXIT_GRACE_S = 30.0
# Time for the last bytes of a launch whose first process has ended.
PIPE_GRACE_S = 1.0
# A launcher prints about a dead rank before it ends; a broken engine does not end at all.
RUBBISH_GRACE_S = 3.0

POLL_S = 0.1
# A rank that rank 0 has not heard for longer when a launch ends may be why it ends.
SILENT_S = 2.0

Status = Literal["complete", "stopped", "failed", "not_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a launch ended. `reason` is a short code for a failure, `message` says it in words.

    `lost_hosts` are those of which nothing can be expected any more, `without_hosts` those that
    were lost before and left out.
    """

    name: str
    status: Status
    reason: str | None = None
    message: str | None = None
    exit_status: int | None = None
    started_utc: str | None = None
    elapsed_s: float | None = None
    result_line: bytes | None = None
    result: Document | None = None
    table: RankTable | None = None
    lost_hosts: tuple[str, ...] = ()
    without_hosts: tuple[str, ...] = ()

    def as_document(self) -> Document:
        """What outcome.json holds."""
        table = self.table
        return {
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "message": self.message,
            "exit_status": self.exit_status,
            "started_utc": self.started_utc,
            "elapsed_s": None if self.elapsed_s is None else round(self.elapsed_s, 3),
            "ranks_reported": 0 if table is None else len(table.places),
            "hosts": [] if table is None else list(table.hosts),
            "job_sha256": {} if table is None else dict(table.job_sha256),
            "lost_hosts": list(self.lost_hosts),
            "without_hosts": list(self.without_hosts),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where and with what a launch is started.

    `spared` says which children of this process are none of the launch's when it is ended.
    """

    program: Path
    env: Mapping[str, str]
    stdout_log: Path
    stderr_log: Path
    job_sha256: str
    died_patterns: tuple[str, ...]
    spared: Callable[[], Collection[int]] = tuple


@dataclass(slots=True)
class _Failure(Exception):
    reason: str
    message: str
    lost_hosts: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reader:
    """State of one launch while its events are read."""

    launch: Launch
    site: Site
    display: Display
    begun: float
    log: IO[bytes]
    pending: bytearray = field(default_factory=bytearray)
    table: RankTable | None = None
    result: Document | None = None
    result_line: bytes | None = None
    rubbish: str | None = None
    rubbish_at: float | None = None
    last_sign: float = 0.0
    pid: int = 0
    helpers: Mapping[int, str] = field(default_factory=dict)
    cut_off: tuple[str, ...] = ()
    silent: tuple[int, ...] = ()
    silent_s: float = 0.0
    lines: int = 0
    closed: bool = False

    def feed(self, data: bytes) -> None:
        """Take bytes of standard output; b"" is its end."""
        self.closed = not data
        self.pending += data
        if len(self.pending) > MAX_LINE_BYTES:
            raise _Failure("protocol", f"a line of more than {MAX_LINE_BYTES} bytes")
        *lines, rest = self.pending.split(b"\n")
        self.pending = bytearray(rest)
        if self.closed and rest:
            lines.append(rest)
            self.pending.clear()
        for line in lines:
            self._take(bytes(line))

    def _take(self, line: bytes) -> None:
        self.lines += 1
        if not line.strip():
            return
        try:
            event = parse_event(line)
            if event["event"] == "result" and self.result is None:
                self.result, self.result_line = event, line
                return
            self.log.write(line + b"\n")
            if event["event"] == "ranks":
                self.table = parse_ranks(event)
                names = [host.name for host in self.launch.hosts]
                self.helpers = processes.helpers(self.pid, names)
        except ProtocolError as error:
            self.log.write(line + b"\n")
            self.rubbish = self.rubbish or f"line {self.lines} of its standard output is {error}"
            self.rubbish_at = self.rubbish_at or time.monotonic()
            return
        self.last_sign = time.monotonic()
        if event["event"] == "progress":
            self._check_oldest(event)
            self.display.progress(event)

    def _check_oldest(self, event: Document) -> None:
        age = event.get("oldest_report_s")
        if not isinstance(age, int | float):
            return
        self.silent, self.silent_s = _silent_ranks(event), age
        if age > self.launch.silence_limit_s:
            blame = self.blame_silent() or Blame(words=f"rank {event.get('oldest_rank')}")
            text = f"{blame.words} gave no sign of life for {age:.0f} s"
            raise _Failure("silence", text, blame.hosts)

    def look_for_helpers(self) -> None:
        """Which hosts the launcher had lost when it ended."""
        if self.result is None and self.helpers:
            first = {self.helpers[pid] for pid in processes.first_ended(self.helpers)}
            if len(first) < len(set(self.helpers.values())):
                self.cut_off = tuple(sorted(first))

    def blame_silent(self) -> Blame | None:
        """Who was silent when rank 0 last reported."""
        if self.table is None or not self.silent:
            return None
        return blame_silent(self.silent, self.launch, self.table)

    def check_limits(self) -> None:
        """Raise the failure of the first limit that has passed."""
        now, launch = time.monotonic(), self.launch
        if now - self.begun > launch.time_limit_s:
            raise _Failure("time_limit", f"it took longer than {launch.time_limit_s:g} s")
        if self.table is None and now - self.begun > launch.start_limit_s:
            raise self._not_started()
        if self.table is not None and now - self.last_sign > launch.silence_limit_s:
            name = self.table.name(0)
            raise _Failure(
                "silence", f"{name} gave no sign of life for {now - self.last_sign:.0f} s"
            )
        if self.rubbish_at is not None and now - self.rubbish_at > RUBBISH_GRACE_S:
            raise _Failure("protocol", self.rubbish or "")

    def _not_started(self) -> _Failure:
        text = f"not all ranks had reported after {self.launch.start_limit_s:g} s"
        output = log_tail(self.site.stderr_log)
        blame = blame_start(self.launch, output, lambda: processes.peers(self.pid))
        if blame is None:
            return _Failure("start_limit", text)
        return _Failure("start_limit", f"{text}: nothing came from {blame.words}", blame.hosts)


def _silent_ranks(event: Document) -> tuple[int, ...]:
    """Ranks that a progress event calls silent; the one whose report is oldest if it names none."""
    try:
        ranks = tuple(parse_rank_ranges(str(event.get("silent_ranks", ""))))
        return ranks or (int(event["oldest_rank"]),)
    except (KeyError, TypeError, ValueError):
        return ()


def supervise(launch: Launch, site: Site, stops: StopRequests, display: Display) -> Outcome:
    """Run a launch to its end, whatever that is. Raises OSError where a log cannot be written."""
    started_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
    begun = time.monotonic()
    # Unbuffered: who follows the log sees each line at once, and a kill loses none.
    with site.stdout_log.open("xb", buffering=0) as log, site.stderr_log.open("xb") as stderr:
        reader = _Reader(launch=launch, site=site, display=display, begun=begun, log=log)
        failure: _Failure | None = None
        try:
            process = start_launch(launch, site, stderr)
        except OSError as error:
            text = not_started(site, error)
            return Outcome(name=launch.name, status="failed", reason="start", message=text)
        reader.pid = process.pid
        try:
            _read_events(process, reader, stops)
            reader.look_for_helpers()
        except _Failure as error:
            failure = error
        finally:
            grace_s = _end_grace_s(reader, failure, stops)
            processes.end(process, grace_s=grace_s, spared=site.spared)
            close_pipes(process)
    end = _classify(reader, process, failure, stops)
    return Outcome(
        name=launch.name,
        status=end.status,
        reason=end.reason,
        message=end.message,
        lost_hosts=end.lost_hosts,
        exit_status=process.returncode,
        started_utc=started_utc,
        elapsed_s=time.monotonic() - begun,
        result_line=reader.result_line,
        result=reader.result,
        table=reader.table,
    )


def start_launch(launch: Launch, site: Site, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the process group of a launch. Raises OSError."""
    return processes.start(
        launch.argv,
        env=site.env,
        program=site.program,
        stderr=stderr,
        hostfile=launch.hostfile,
    )


def not_started(site: Site, error: OSError) -> str:
    """Why a launch could not be started, in words."""
    return f"{site.program} could not be started: {error.strerror or error}"


def _end_grace_s(reader: _Reader, failure: _Failure | None, stops: StopRequests) -> float:
    if stops.count > 1:
        # Not at once: killed, srun would leave its ranks on other hosts to themselves.
        return STOPPED_GRACE_S
    answered = failure is None and reader.result is not None
    if answered or (failure is not None and failure.reason == "stop"):
        return STOPPED_GRACE_S
    return processes.TERMINATE_GRACE_S


def _read_events(process: subprocess.Popen[bytes], reader: _Reader, stops: StopRequests) -> None:
    """Until the launch has ended by itself; raises _Failure where it has to be ended."""
    assert process.stdout is not None
    stopper = _Stopper(process=process, stops=stops, display=reader.display, before=stops.count)
    answered_at: float | None = None
    ended_at: float | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not reader.closed:
            if selector.select(POLL_S):
                reader.feed(os.read(process.stdout.fileno(), 1 << 16))
            now = time.monotonic()
            if process.poll() is not None:
                # A left-over of the launch may hold the pipe open; what it says is of no use.
                ended_at = ended_at or now
                if now - ended_at > PIPE_GRACE_S:
                    return
            if reader.result is not None and answered_at is None:
                answered_at = now
                _say(process, OK)
            if answered_at is None:
                stopper.check(now)
                reader.check_limits()
            elif now - answered_at > EXIT_GRACE_S:
                raise _not_ended()
    try:
        process.wait(EXIT_GRACE_S)
    except subprocess.TimeoutExpired:
        raise _not_ended() from None


def _not_ended() -> _Failure:
    return _Failure("exit", f"it did not end within {EXIT_GRACE_S:g} s after its last word")


@dataclass(slots=True, kw_only=True)
class _Stopper:
    """Passes requests to stop on: the first gracefully, the second by ending the launch.

    Requests from before the launch are not for it: a clean-up runs after a stop.
    """

    process: subprocess.Popen[bytes]
    stops: StopRequests
    display: Display
    before: int
    said_at: float | None = None

    def check(self, now: float) -> None:
        asked = self.stops.count - self.before
        if asked > 1:
            raise _Failure("killed", "a second request to stop ended it at once")
        if asked == 1 and self.said_at is None:
            self.said_at = now
            self.display.say("stopping; once more ends it at once")
            _say(self.process, STOP)
        if self.said_at is not None and now - self.said_at > STOP_GRACE_S:
            raise _Failure("stop", f"it did not stop within {STOP_GRACE_S:g} s")


def _say(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except OSError:
        return  # it has ended already; its exit status tells how


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close what is connected to a process that has ended."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue  # unsent bytes to a process that has ended


@dataclass(frozen=True, slots=True)
class _End:
    status: Status
    reason: str | None = None
    message: str | None = None
    lost_hosts: tuple[str, ...] = ()


def _classify(
    reader: _Reader,
    process: subprocess.Popen[bytes],
    failure: _Failure | None,
    stops: StopRequests,
) -> _End:
    """How a launch has ended."""
    if failure is not None and failure.reason != "protocol":
        return _End("failed", failure.reason, failure.message, failure.lost_hosts)
    if failure is not None or reader.result is None:
        return _no_result(reader, process, failure)
    launch, table = reader.launch, reader.table
    if table is None:
        return _End("failed", "protocol", "its ranks never reported")
    flaws = result_flaws(reader.result, launch, reader.site.job_sha256, table)
    if flaws:
        return _End("failed", "protocol", "its result cannot be used: " + "; ".join(flaws))
    if reader.rubbish is not None:
        return _End("failed", "protocol", reader.rubbish)
    if reader.result["status"] == "failed":
        errors = [
            f"{table.name(error['rank'])}: {error['message']}" for error in reader.result["errors"]
        ]
        more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
        return _End("failed", "engine", ("; ".join(errors[:3]) or "it gave no reason") + more)
    if process.returncode != 0:
        return _bad_exit(reader, process.returncode)
    if reader.result["status"] == "stopped":
        return _End("stopped", "stop", f"stopped by {stops.first or 'its own decision'}")
    return _End("complete")


def _no_result(reader: _Reader, process: subprocess.Popen[bytes], failure: _Failure | None) -> _End:
    """The end of a launch without a result, by whoever is the first to be blamed for it."""
    status = process.returncode
    named = _blame_output(reader)
    if named is None and reader.cut_off and status > 0:
        named = blame_hosts(reader.cut_off, reader.launch)
    if named is not None:
        verb = "died" if not named.hosts else "was lost" if reader.table else "was not reached"
        text = f"{named.words} {verb}; the launch ended with {ending(status)}"
        return _End("failed", "host_lost" if named.hosts else "rank_died", text, named.hosts)
    if failure is not None:
        return _End("failed", failure.reason, failure.message)
    if reader.rubbish is not None:
        return _End("failed", "protocol", reader.rubbish)
    if status < 0:
        return _killed(reader, process)
    text = f"it ended with {ending(status)} and without a result"
    silent = reader.blame_silent() if reader.silent_s >= SILENT_S else None
    if silent is None:
        return _End("failed", "no_result", text)
    text += f"; {silent.words} had given no sign of life for {reader.silent_s:.0f} s"
    return _End("failed", "no_result", text, silent.hosts)


def _killed(reader: _Reader, process: subprocess.Popen[bytes]) -> _End:
    """The first process of a launch, which is its launcher or its only rank, got a signal."""
    table, ending = reader.table, f"was ended by signal {-process.returncode}"
    if table is not None and table.places[0][1] == process.pid:
        return _End("failed", "rank_died", f"{table.name(0)} {ending}")
    launcher = f"{reader.site.program.name} on {socket.gethostname()} (pid {process.pid})"
    return _End("failed", "launcher_died", f"{launcher} {ending}, and its ranks with it")


def _bad_exit(reader: _Reader, status: int) -> _End:
    named = _blame_output(reader)
    text = f"it reported a result, then ended with {ending(status)}"
    if named is None:
        return _End("failed", "exit", text)
    verb = "was lost" if named.hosts else "died"
    return _End("failed", "exit", f"{text}: {named.words} {verb}", named.hosts)


def _blame_output(reader: _Reader) -> Blame | None:
    site = reader.site
    texts = [log_tail(log) for log in (site.stdout_log, site.stderr_log)]
    return blame_output(site.died_patterns, texts, reader.launch, reader.table)


def log_tail(log: Path, size_bytes: int = 1 << 16) -> str:
    """The end of a log. Raises OSError."""
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - size_bytes))
        return file.read().decode(errors="replace")


def ending(exit_status: int) -> str:
    """An exit status in words."""
    return f"signal {-exit_status}" if exit_status < 0 else f"exit status {exit_status}"
