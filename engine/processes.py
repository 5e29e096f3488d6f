"""Starts and ends process groups so that nothing outlives its owner on this machine."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import psutil

from .hosts import HOSTFILE_DESCRIPTOR

TERMINATE_GRACE_S = 5.0
# What a launcher that has ended by itself leaves behind says why, and ends by itself, or not.
ORPHAN_GRACE_S = 1.0
# Exit status of ssh when the other end has gone, or a signal ended what it ran there.
SSH_CUT_OFF = 255

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


# Loaded before it is needed: a child of a process with threads may load nothing.
_libc = ctypes.CDLL(None)


def adopt_orphans() -> None:
    """Become the parent of whatever a launcher leaves behind, so that it can be found and ended.

    Linux only; elsewhere a launcher's own clean-up has to do.
    """
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    program: Path,
    stderr: IO[bytes],
    hostfile: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process group of its own, with pipes on standard input and output.

    `program` is the file of argv[0]; argv itself stays as it was planned. A `hostfile` is what the
    process reads under the name HOSTFILE. The group gets SIGTERM when this process dies, however
    that happens. Raises OSError.
    """
    with _open_hostfile(hostfile) as descriptors:
        return subprocess.Popen(
            list(argv),
            executable=program,
            env=dict(env),
            cwd="/",  # exists on every host, and holds no module of a user
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=descriptors,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


@contextlib.contextmanager
def _open_hostfile(text: str | None) -> Iterator[tuple[int, ...]]:
    """The descriptor of a file without a name that holds the text; none for None."""
    if text is None:
        yield ()
        return
    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        file.seek(0)
        descriptor = fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, HOSTFILE_DESCRIPTOR)
    try:
        if descriptor != HOSTFILE_DESCRIPTOR:
            raise OSError(errno.EMFILE, f"descriptor {HOSTFILE_DESCRIPTOR} is in use")
        yield (descriptor,)
    finally:
        os.close(descriptor)


def output(
    argv: Sequence[str], *, env: Mapping[str, str], limit_s: float, stdin: bytes = b""
) -> bytes:
    """Standard output of a short program. Raises OSError and subprocess.SubprocessError."""
    done = subprocess.run(
        list(argv),
        env=dict(env),
        timeout=limit_s,
        check=True,
        capture_output=True,
        input=stdin,
    )
    return done.stdout


def end(
    process: subprocess.Popen[bytes],
    *,
    grace_s: float,
    spared: Callable[[], Collection[int]] = tuple,
) -> None:
    """End a process and all that it started: SIGTERM, after `grace_s` SIGKILL. Never raises.

    `spared` says which children of this process belong to something else, which goes on.
    """
    family = _family(spared)
    if process.poll() is not None and grace_s > 0:
        _wait_for(family, ORPHAN_GRACE_S)
    if process.poll() is None and grace_s > 0:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
    if process.poll() is None:
        _kill(process.pid)
    # Without its launcher a rank has no use; with a launcher that is gone it is our child now.
    deadline = time.monotonic() + TERMINATE_GRACE_S
    while time.monotonic() < deadline:
        left = {*family, *_family(spared)}
        alive = [child for child in left if _is_alive(child)]
        for child in alive:
            _kill(child.pid)
        _reap(process, spared)
        if not alive:
            return
        time.sleep(0.02)


def helpers(pid: int, hosts: Collection[str]) -> dict[int, str]:
    """Processes that a launcher has started to reach other hosts, and the host of each."""
    found = {}
    for child in _descendants(pid):
        with contextlib.suppress(psutil.Error):
            words = {word.rpartition("@")[2] for word in child.cmdline()}
            for host in words.intersection(hosts):
                found[child.pid] = host
    return found


def first_ended(pids: Collection[int]) -> list[int]:
    """Which of a launcher's helpers ended before it, and not because of it.

    Their parent has heard of these, or they ended as ssh does that was cut off; the others became
    children of this process. Gives up after a moment where they do not end.
    """
    deadline = time.monotonic() + ORPHAN_GRACE_S
    while True:
        ends = {pid: _end_of(pid) for pid in pids}
        if "alive" not in ends.values() or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    for end in ("gone", "cut off"):
        found = [pid for pid in pids if ends[pid] == end]
        if found:
            return found
    return []


def _end_of(pid: int) -> Literal["alive", "gone", "cut off", "ended"]:
    """How a child of this process has ended, which stays to be collected."""
    try:
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "alive" if psutil.pid_exists(pid) else "gone"
    if end is None:
        return "alive"
    return "cut off" if end.si_status == SSH_CUT_OFF else "ended"


def peers(pid: int) -> set[str]:
    """Addresses from which others are connected to a process; none where that cannot be seen."""
    try:
        connections = psutil.Process(pid).net_connections("inet")
    except psutil.Error:
        return set()
    remote = (connection.raddr for connection in connections if connection.raddr)
    return {address.ip.removeprefix("::ffff:") for address in remote}


def _wait_for(family: Sequence[psutil.Process], limit_s: float) -> None:
    """Until all have ended, or the limit has passed."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and any(_is_alive(child) for child in family):
        time.sleep(0.02)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _descendants(pid: int) -> list[psutil.Process]:
    return _children(pid, recursive=True)


def _children(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.Error:
        return []


def _family(spared: Callable[[], Collection[int]]) -> list[psutil.Process]:
    """All that this process has started or adopted, but for those spared and what they started."""
    children = _children(os.getpid())
    # Asked second: what starts in between is not among those that were found.
    apart = set(spared())
    own = [child for child in children if child.pid not in apart]
    return [*own, *(descendant for child in own for descendant in _descendants(child.pid))]


def _is_alive(child: psutil.Process) -> bool:
    try:
        return bool(child.is_running() and child.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _reap(process: subprocess.Popen[bytes], spared: Callable[[], Collection[int]]) -> None:
    """Collect the launcher and the orphans that became our children."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0)
    for child in _family(spared):
        # Not the launcher: Popen would find its exit status gone and take it for 0.
        if child.pid != process.pid and not _is_alive(child):
            with contextlib.suppress(ChildProcessError, psutil.Error):
                os.waitpid(child.pid, os.WNOHANG)


def begin(
    argv: Sequence[str], *, env: Mapping[str, str], hostfile: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a short program in a process group of its own, with all its pipes. Raises OSError."""
    return _begin(argv, env, hostfile, ends_with_caller=False)


def _begin(
    argv: Sequence[str], env: Mapping[str, str], hostfile: str | None, *, ends_with_caller: bool
) -> subprocess.Popen[bytes]:
    follows = ends_with_caller and sys.platform == "linux"
    with _open_hostfile(hostfile) as descriptors:
        return subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            start_new_session=True,
            preexec_fn=_die_with_parent if follows else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A process that runs beside launches, and the descriptors of its pipes."""

    process: subprocess.Popen[bytes]
    stdin: int
    stdout: int
    stderr: int


def accompany(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    hostfile: str | None = None,
    ends_with_caller: bool = False,
) -> Companion:
    """Start a program that runs long, as `begin` does. Raises OSError.

    With `ends_with_caller` it gets SIGTERM when the thread that called this ends. Its pipes do not
    stand in the way of the hostfile of a launch, however many such programs there are.
    """
    process = _begin(argv, env, hostfile, ends_with_caller=ends_with_caller)
    moved: list[int] = []
    try:
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            first = HOSTFILE_DESCRIPTOR + 1
            moved.append(fcntl.fcntl(pipe.fileno(), fcntl.F_DUPFD_CLOEXEC, first))
            pipe.close()
    except OSError:
        for descriptor in moved:
            os.close(descriptor)
        kill_family(process)
        raise
    stdin, stdout, stderr = moved
    return Companion(process=process, stdin=stdin, stdout=stdout, stderr=stderr)


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """End a process that `begin` started, and all that it has started, at once. Never raises."""
    family = _descendants(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in family:
        _kill_one(child)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(TERMINATE_GRACE_S)
    # A kill takes effect a moment later; what this returns from is gone.
    _wait_for(family, TERMINATE_GRACE_S)


def _kill_one(child: psutil.Process) -> None:
    """By handle, not by number: a number may belong to another program by now."""
    with contextlib.suppress(psutil.Error):
        child.kill()
