"""Runs many short programs at once, each with a limit that none of them outlives."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from . import processes

AT_ONCE = 64

_POLL_S = 0.05
# What a program has left behind may hold its pipes open; what that says is of no use.
_PIPE_GRACE_S = 0.5
# Of a program that talks without end.
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run, what it reads, and how long it may take."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    limit_s: float
    stdin: bytes = b""
    hostfile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of standard output and when it came."""

    text: str
    unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a program ended. Without an exit status it did not start, or was ended at its limit."""

    exit_status: int | None
    lines: tuple[Line, ...] = ()
    stderr: str = ""
    start_error: str | None = None

    @property
    def timed_out(self) -> bool:
        """Whether it was ended at its limit."""
        return self.exit_status is None and self.start_error is None

    @property
    def stdout(self) -> str:
        """All of standard output."""
        return "\n".join(line.text for line in self.lines)

    @property
    def last_words(self) -> str:
        """The last line that it wrote on standard error."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def run_all(
    commands: Sequence[Command],
    *,
    at_once: int = AT_ONCE,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """The answers of all commands in their order; those not ended when `stopped` have no status."""
    answers = [Answer(exit_status=None) for _ in commands]
    waiting = list(enumerate(commands))[::-1]
    running: list[_Child] = []
    with selectors.DefaultSelector() as selector:
        try:
            while (waiting or running) and not stopped():
                while waiting and len(running) < at_once:
                    place, command = waiting.pop()
                    try:
                        running.append(_Child.start(place, command, selector))
                    except OSError as error:
                        text = f"{command.argv[0]}: {error.strerror or error}"
                        answers[place] = Answer(exit_status=None, start_error=text)
                for key, _ in selector.select(_POLL_S):
                    key.data.read(key.fd, selector)
                for child in [child for child in running if child.is_over()]:
                    running.remove(child)
                    answers[child.place] = child.close(selector)
        finally:
            for child in running:
                answers[child.place] = child.close(selector)
    return answers


@dataclass(slots=True, kw_only=True, eq=False)
class _Child:
    place: int
    process: subprocess.Popen[bytes]
    deadline: float
    ended_at: float | None = None
    read_bytes: int = 0
    pending: bytes = b""
    lines: list[Line] = field(default_factory=list)
    stderr: bytearray = field(default_factory=bytearray)
    open_pipes: set[int] = field(default_factory=set)

    @classmethod
    def start(cls, place: int, command: Command, selector: selectors.BaseSelector) -> _Child:
        process = processes.begin(command.argv, env=command.env, hostfile=command.hostfile)
        child = cls(place=place, process=process, deadline=time.monotonic() + command.limit_s)
        assert process.stdin and process.stdout and process.stderr
        for pipe in (process.stdout, process.stderr):
            child.open_pipes.add(pipe.fileno())
            selector.register(pipe.fileno(), selectors.EVENT_READ, child)
        # What is asked is a few kilobytes and fits into the pipe.
        with suppress(OSError):
            process.stdin.write(command.stdin)
            process.stdin.close()
        return child

    def read(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        data = os.read(descriptor, 1 << 16)
        self.read_bytes += len(data)
        if not data:
            selector.unregister(descriptor)
            self.open_pipes.discard(descriptor)
        if self.read_bytes > _MOST_BYTES:
            return
        assert self.process.stderr is not None
        if descriptor == self.process.stderr.fileno():
            self.stderr += data
            return
        *lines, self.pending = (self.pending + data).split(b"\n")
        if not data and self.pending:
            lines, self.pending = [self.pending], b""
        now = time.time()
        self.lines += [Line(text=_text(line), unix_s=now) for line in lines]

    def is_over(self) -> bool:
        now = time.monotonic()
        if self.process.poll() is None:
            return now > self.deadline
        self.ended_at = self.ended_at or now
        return not self.open_pipes or now - self.ended_at > _PIPE_GRACE_S

    def close(self, selector: selectors.BaseSelector) -> Answer:
        status = self.process.poll()
        for descriptor in self.open_pipes:
            selector.unregister(descriptor)
        processes.kill_family(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return Answer(exit_status=status, lines=tuple(self.lines), stderr=_text(self.stderr))


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")
