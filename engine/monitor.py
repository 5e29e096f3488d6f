"""Keeps the samplers of all hosts beside a job, and writes what they say to the archive.

A sampler that dies is said in the file; it stops nothing.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from .canonical import Document
from .hosts import HOSTFILE_DESCRIPTOR, Slots, host_patterns
from .reach import name_of
from .samplers import CONNECT_LIMIT_S, Sampler, SamplerLine, Watched

SERIES_SCHEMA = 1

# Connections that are being made at a time.
AT_ONCE = 64
# For the last words of samplers that were told to end.
STOP_LIMIT_S = 5.0
# Between SIGTERM and SIGKILL for those that did not.
TERMINATE_GRACE_S = 1.0

_START_POLL_S = 0.1
_POLL_S = 0.5
_END_POLL_S = 0.05
_PIPES = 3
# Open files that the rest of mlps may need.
_OTHER_FILES = 128
_MOST_WORDS = 300


class Monitor:
    """The samplers of a job, from `start` to `stop`; as a context manager, of a block.

    Lines go to `output`, an unbuffered file, as they come: mlps may be killed at any time.
    """

    def __init__(
        self,
        watched: Sequence[Watched],
        output: IO[bytes],
        *,
        interval_s: float,
        via: str,
        start_limit_s: float = CONNECT_LIMIT_S,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        names = [name for one in watched for name in one.names]
        self._hosts = {name: _Host() for name in names}
        self._log = _Log(output)
        self._head = {
            "kind": "series",
            "schema": SERIES_SCHEMA,
            "interval_s": interval_s,
            "hosts": host_patterns([Slots(name=name) for name in names]),
            "via": via,
        }
        self._waiting = deque(watched)
        self._start_limit_s = start_limit_s
        self._stopped = stopped
        self._running: list[Sampler] = []
        # Held while a process is started: none exists that `pids` does not know.
        self._starting = threading.Lock()
        self._all_started = threading.Event()
        self._stop_at: float | None = None
        self._woken, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all samplers; wait until each has begun or died, `stopped`, or the start limit."""
        self._log.write(self._head)
        self._make_room()
        self._thread.start()
        limit_at = time.monotonic() + self._start_limit_s
        while time.monotonic() < limit_at and not self._stopped():
            if self._all_started.wait(_START_POLL_S):
                return

    def stop(self, limit_s: float = STOP_LIMIT_S) -> None:
        """End all samplers; those that say nothing within the limit are killed."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + limit_s
            os.write(self._waker, b"\n")
            self._thread.join()
            os.close(self._waker)
            os.close(self._woken)
            self._log.explain(list(self._hosts))

    def pids(self) -> tuple[int, ...]:
        """The processes of this machine that a launch must leave alone when it ends."""
        with self._starting:
            return tuple(sampler.pid for sampler in self._running)

    def _make_room(self) -> None:
        """Raise the limit of open files; hosts for which there is still no room do not start."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        others = HOSTFILE_DESCRIPTOR + _OTHER_FILES
        needed = _PIPES * len(self._waiting) + others
        most = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        while _PIPES * len(self._waiting) + others > most and self._waiting:
            text = f"the limit of {hard} open files (ulimit -Hn) is too low for all samplers"
            self._died(self._waiting.pop().names, text)

    # ---------------------------------------------------------------- in the thread

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            try:
                while (self._waiting or self._running) and self._stop_at is None:
                    self._start_some(selector)
                    self._pass(selector, _POLL_S)
                    self._tell_when_started()
                self._end(selector)
            finally:
                self._all_started.set()
                for sampler in tuple(self._running):
                    self._close(sampler, selector)

    def _tell_when_started(self) -> None:
        if not self._all_started.is_set() and all(
            host.has_begun or host.has_ended for host in self._hosts.values()
        ):
            self._all_started.set()

    def _start_some(self, selector: selectors.BaseSelector) -> None:
        now = time.monotonic()
        connecting = (
            sum(sampler.is_connecting(now) for sampler in self._running) if self._waiting else 0
        )
        while self._waiting and connecting < AT_ONCE:
            watched = self._waiting.popleft()
            try:
                with self._starting:
                    self._running.append(Sampler.start(watched, selector, self._take))
                connecting += 1
            except OSError as error:
                self._died(watched.names, f"{watched.argv[0]}: {error.strerror or error}")

    def _pass(self, selector: selectors.BaseSelector, limit_s: float) -> None:
        """Move what has come, and see who has ended."""
        for key, _ in selector.select(limit_s):
            if isinstance(key.data, Sampler):
                key.data.serve(key.fd, selector)
        now = time.monotonic()
        for sampler in [sampler for sampler in self._running if sampler.is_over(now)]:
            self._close(sampler, selector)

    def _close(self, sampler: Sampler, selector: selectors.BaseSelector) -> None:
        sampler.close(selector)
        # Not before: what `pids` does not name is ended with a launch.
        with self._starting:
            self._running.remove(sampler)
        silent = [name for name in sampler.watched.names if not self._hosts[name].has_ended]
        self._died(silent, sampler.last_words)

    def _end(self, selector: selectors.BaseSelector) -> None:
        while self._waiting:
            self._died(self._waiting.popleft().names, "the job ended before it was started")
        selector.unregister(self._woken)
        for sampler in self._running:
            sampler.ask_to_end(selector)
        self._pass_until(self._stop_at or 0.0, selector)
        for sampler in self._running:
            sampler.terminate()
        self._pass_until(time.monotonic() + TERMINATE_GRACE_S, selector)

    def _pass_until(self, limit_at: float, selector: selectors.BaseSelector) -> None:
        while self._running and time.monotonic() < limit_at:
            self._pass(selector, _END_POLL_S)

    def _take(self, watched: Watched, line: SamplerLine) -> None:
        name = name_of(line.host, watched.names)
        if name is None:
            return
        self._log.write({"host": name, "kind": line.kind, **line.rest})
        host = self._hosts[name]
        host.has_begun = True
        host.has_ended = host.has_ended or line.kind == "end"
        if line.kind == "end" and self._stop_at is None:
            self._died([name], "somebody else ended it")

    def _died(self, names: Sequence[str], said: str) -> None:
        for name in names:
            self._hosts[name].has_ended = True
            self._log.died(name, said[-_MOST_WORDS:])


class _Log:
    """The file of all series: whole lines, up to the first that cannot be written."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self.error: str | None = None

    def explain(self, hosts: Sequence[str]) -> None:
        """Say why the file ends early, should there be room by now."""
        if self.error is None:
            return
        said, self.error = f"its samples could not be written: {self.error}", None
        for name in hosts:
            self.died(name, said)

    def died(self, host: str, said: str) -> None:
        unix_s = round(time.time(), 3)
        self.write({"host": host, "kind": "died", "unix_s": unix_s, "said": said})

    def write(self, document: Document) -> None:
        if self.error is not None:
            return
        line = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        try:
            written = self._output.write(line)
            if written < len(line):
                # The beginning of a line, for which there was room.
                self._output.seek(self._output.truncate(self._output.tell() - written))
                self.error = "the file system is full"
        except OSError as error:
            self.error = error.strerror or str(error)


@dataclass(slots=True, kw_only=True)
class _Host:
    """How far the series of a host has come."""

    has_begun: bool = False
    has_ended: bool = False
