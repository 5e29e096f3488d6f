"""Runs a program so that it and all that it starts are gone at the end, whoever else ends first.

The program is the child of a keeper, and that one the child of this process. A launcher may kill
this process at any time; the keeper then finds its lifeline closed and kills the program.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

# From SIGTERM to SIGKILL for the program.
STOP_GRACE_S = 5.0
_KILL_LIMIT_S = 5.0
_NAP_S = 0.05
# Of what a program says, the end is kept.
_SAID_BYTES = 4096

_PR_SET_CHILD_SUBREAPER = 36
# What a shell says of a program that could not be started.
_NOT_STARTED = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is started, and where; `stdout` None: it goes to standard error."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: Path
    stdout: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a program ended; -N for signal N. Times are of the program and what it waited for."""

    exit_status: int
    cpu_user_s: float = 0.0
    cpu_system_s: float = 0.0
    peak_rss_bytes: int = 0


def keep(program: Program) -> End:
    """Run a program to its end. SIGTERM and SIGINT are handed on to it."""
    lifeline, own_lifeline = os.pipe()
    answer, own_answer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(own_lifeline)
        os.close(answer)
        _be_keeper(program, lifeline, own_answer)
    os.close(lifeline)
    os.close(own_answer)

    def hand_on(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, hand_on)
    with os.fdopen(answer, "rb") as pipe:
        text = pipe.read()
    os.waitpid(keeper, 0)
    os.close(own_lifeline)
    if not text:
        return End(exit_status=-signal.SIGKILL)  # the keeper was killed, and the program with it
    return End(**json.loads(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a program ended, and the end of what it said on both its outputs."""

    exit_status: int
    words: str


def keep_until(
    argv: Sequence[str], env: Mapping[str, str], stopped: Callable[[], bool]
) -> Said | None:
    """Run a program beside the threads of this process; None if it was `stopped`, and killed then.

    The keeper is a process that was started anew: one with threads must not fork. Raises OSError.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, *argv],
        env=dict(env),
        cwd="/",
        # The lifeline: it is closed when this process ends, however that happens.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin and process.stdout and process.stderr
    answer, said = process.stdout.fileno(), process.stderr.fileno()
    ears = _Ears(answer, said)
    with process.stdin as lifeline, process.stdout, process.stderr:
        stop_at: float | None = None
        while answer in ears.open:
            ears.listen(_NAP_S)
            if stop_at is None and stopped():
                stop_at = time.monotonic()
                lifeline.close()
            # A program of another user cannot be killed: it is not waited for.
            if stop_at is not None and time.monotonic() - stop_at > 2 * _KILL_LIMIT_S:
                return None
        while ears.listen(0):
            continue
    process.wait()
    if stop_at is not None:
        return None
    text = ears.heard[answer]  # none from a keeper that was killed
    status = int(json.loads(text)["exit_status"]) if text else -signal.SIGKILL
    return Said(exit_status=status, words=ears.heard[said].decode(errors="replace"))


class _Ears:
    """The end of what has come through some pipes, and which of these are still open."""

    def __init__(self, *pipes: int) -> None:
        self.open = set(pipes)
        self.heard = dict.fromkeys(pipes, b"")

    def listen(self, limit_s: float) -> bool:
        """Waits for a moment, and takes what there is then; False if there was nothing."""
        poll = select.poll()
        for pipe in self.open:
            poll.register(pipe, select.POLLIN)
        ready = poll.poll(1000 * limit_s)
        for pipe, _ in ready:
            data = os.read(pipe, 1 << 16)
            self.heard[pipe] = (self.heard[pipe] + data)[-_SAID_BYTES:]
            if not data:
                self.open.discard(pipe)
        return bool(ready)


# ---------------------------------------------------------------- in the keeper


def _keep_here() -> NoReturn:
    """The whole life of a keeper that was started anew, by the words of its command line."""
    env = dict(os.environ)
    argv = tuple(sys.argv[1:])
    _be_keeper(Program(argv=argv, env=env, directory=Path("/"), stdout=None), 0, 1)


def _be_keeper(program: Program, lifeline: int, answer: int) -> NoReturn:
    """Everything that the keeper does; it never returns."""
    status = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        end = _watch(program, lifeline)
        with contextlib.suppress(OSError):  # who waited for it has gone
            os.write(answer, json.dumps(asdict(end)).encode())
        status = 0
    finally:
        os._exit(status)  # a fork must not return into what its parent was doing


def _watch(program: Program, lifeline: int) -> End:
    woken = _wake_on(signal.SIGCHLD, signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _start(program)
    except OSError as error:
        sys.stderr.write(f"{program.argv[0]} cannot be started: {error.strerror or error}\n")
        sys.stderr.flush()
        return End(exit_status=_NOT_STARTED)
    stop_at: float | None = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            _kill_family()
            return End(
                exit_status=os.waitstatus_to_exitcode(status),
                cpu_user_s=usage.ru_utime,
                cpu_system_s=usage.ru_stime,
                peak_rss_bytes=usage.ru_maxrss * (1024 if sys.platform == "linux" else 1),
            )
        left_s = None if stop_at is None else max(0.0, stop_at - time.monotonic())
        ready, _, _ = select.select([lifeline, woken], [], [], left_s)
        numbers = os.read(woken, 4096) if woken in ready else b""
        if lifeline in ready or (stop_at is not None and time.monotonic() >= stop_at):
            for child in psutil.Process().children(recursive=True):
                _kill(child.pid)
            lifeline, stop_at = woken, None  # a closed one would be ready for ever
        elif signal.SIGTERM in numbers and stop_at is None:
            stop_at = time.monotonic() + STOP_GRACE_S
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGTERM)


def _wake_on(*numbers: signal.Signals) -> int:
    """A descriptor from which the numbers of these signals can be read."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.set_blocking(read, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda _number, _frame: None)
    return read


def _start(program: Program) -> subprocess.Popen[bytes]:
    with contextlib.ExitStack() as stack:
        stdout = 2
        if program.stdout is not None:
            stdout = stack.enter_context(program.stdout.open("wb")).fileno()
        return subprocess.Popen(
            program.argv,
            env=dict(program.env),
            cwd=program.directory,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            # A launcher's own descriptors are how a program of MPI finds its launcher.
            close_fds=False,
            process_group=0,
        )


def _kill_family() -> None:
    """Kill all that the program has started and that is left; orphans are the keeper's children."""
    deadline = time.monotonic() + _KILL_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        family = psutil.Process().children(recursive=True)
        if not family:
            return
        for child in family:
            _kill(child.pid)
        time.sleep(0.01)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    _keep_here()
