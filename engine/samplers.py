"""A process that brings the series of hosts to this machine: what it reads, says, and its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from . import processes
from .canonical import Document

# How long a connection may take before it is no longer counted as one that is being made.
CONNECT_LIMIT_S = 30.0

_LOOK_S = 1.0
# What a process has left behind may hold its pipes open.
_PIPE_GRACE_S = 0.5
_READ_BYTES = 1 << 16
# Of a shell that prints without end.
_MOST_PENDING_BYTES = 1 << 16
_MOST_WORDS_BYTES = 1 << 12

Kind = Literal["start", "tick", "end"]
_KINDS: Mapping[str, Kind] = {"mlps_series": "start", "mlps_tick": "tick", "mlps_end": "end"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A process to start, and the hosts it watches: one by ssh, all by a launcher.

    One with a life line ends when its standard input ends, any other at SIGUSR1, which launchers
    hand on.
    """

    names: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stdin: bytes = b""
    hostfile: str | None = None
    has_life_line: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerLine:
    """A line of a sampler: what it is, what its host calls itself, and the rest."""

    kind: Kind
    host: str
    rest: Document


def parse_line(data: bytes) -> SamplerLine | None:
    """A sampler's line, None for one that a shell or a launcher has printed."""
    text = data.decode(errors="replace")
    start = text.find('{"mlps_')
    if start < 0:
        return None
    try:
        document, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    mark = next(iter(document))
    if mark not in _KINDS:
        return None
    host = str(document.pop(mark))
    return SamplerLine(kind=_KINDS[mark], host=host, rest=document)


Take = Callable[[Watched, SamplerLine], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Sampler:
    """A process that runs, with what has come from it."""

    watched: Watched
    companion: processes.Companion
    take: Take
    started_at: float
    unsent: bytes
    open_pipes: set[int]
    silent: int
    is_overdue: bool = False
    look_at: float = 0.0
    ended_at: float | None = None
    pending: bytes = b""
    stderr: bytes = b""

    @classmethod
    def start(cls, watched: Watched, selector: selectors.BaseSelector, take: Take) -> Sampler:
        """Start the process; its lines go to `take`. Raises OSError."""
        companion = processes.accompany(
            watched.argv,
            env=watched.env,
            hostfile=watched.hostfile,
            ends_with_caller=not watched.has_life_line,
        )
        sampler = cls(
            watched=watched,
            companion=companion,
            take=take,
            started_at=time.monotonic(),
            unsent=watched.stdin,
            open_pipes={companion.stdin, companion.stdout, companion.stderr},
            silent=len(watched.names),
        )
        for descriptor in sampler.open_pipes:
            os.set_blocking(descriptor, False)
        selector.register(companion.stdin, selectors.EVENT_WRITE, sampler)
        selector.register(companion.stdout, selectors.EVENT_READ, sampler)
        selector.register(companion.stderr, selectors.EVENT_READ, sampler)
        return sampler

    @property
    def pid(self) -> int:
        """Of the process on this machine."""
        return self.companion.process.pid

    def is_connecting(self, now: float) -> bool:
        """Whether some host has not said its first line yet, but may."""
        return self.silent > 0 and now - self.started_at < CONNECT_LIMIT_S

    def serve(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        """Move what a pipe has or takes."""
        try:
            if descriptor == self.companion.stdin:
                self._send(selector)
                return
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_pipe(descriptor, selector)
            self.look_at = 0.0
        if descriptor == self.companion.stderr:
            self.stderr = (self.stderr + data)[-_MOST_WORDS_BYTES:]
        elif descriptor == self.companion.stdout:
            *lines, rest = (self.pending + data).split(b"\n")
            self.pending = rest[-_MOST_PENDING_BYTES:]
            for line in map(parse_line, lines):
                if line is not None:
                    self.silent -= line.kind == "start"
                    self.take(self.watched, line)

    def _send(self, selector: selectors.BaseSelector) -> None:
        if self.unsent:
            self.unsent = self.unsent[os.write(self.companion.stdin, self.unsent) :]
        if self.unsent:
            return
        if self.watched.has_life_line:
            selector.unregister(self.companion.stdin)
        else:
            self._close_pipe(self.companion.stdin, selector)

    def _close_pipe(self, descriptor: int, selector: selectors.BaseSelector) -> None:
        if descriptor in self.open_pipes:
            self.open_pipes.discard(descriptor)
            with suppress(KeyError):
                selector.unregister(descriptor)
            os.close(descriptor)

    def is_over(self, now: float) -> bool:
        """Whether it has ended and all has come that it said."""
        if now < self.look_at:
            return False
        self.look_at = now + _LOOK_S
        if self.companion.process.poll() is None:
            return False
        self.ended_at = self.ended_at or now
        reading = self.open_pipes - {self.companion.stdin}
        if reading and now - self.ended_at <= _PIPE_GRACE_S:
            self.look_at = now
            return False
        return True

    def ask_to_end(self, selector: selectors.BaseSelector) -> None:
        """Have it say its last lines."""
        self.look_at = 0.0
        if self.watched.has_life_line:
            self._close_pipe(self.companion.stdin, selector)
        else:
            self.companion.process.send_signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """End it without them; a launcher takes its ranks along."""
        self.is_overdue = True
        self.companion.process.terminate()

    def close(self, selector: selectors.BaseSelector) -> None:
        """End it and what it has started, at once."""
        for descriptor in tuple(self.open_pipes):
            self._close_pipe(descriptor, selector)
        # What has ended with its life line has started nothing that could stay.
        if self.companion.process.poll() is None or not self.watched.has_life_line:
            processes.kill_family(self.companion.process)

    @property
    def last_words(self) -> str:
        """The last line on standard error, or else how it has ended."""
        lines = [
            " ".join(line.split()) for line in self.stderr.decode(errors="replace").split("\n")
        ]
        spoken = [line for line in lines if line]
        if spoken:
            return spoken[-1]
        if self.is_overdue:
            return "it did not end when it was asked to"
        status = self.companion.process.poll()
        if status is None:
            return "it closed its output"
        if status < 0:
            return f"it was ended by signal {-status}"
        return f"it ended with status {status}"
