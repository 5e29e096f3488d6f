"""States facts of the host that it runs on, without judging them.

`python -P -m mlps.engine.host_probe` takes a request as JSON on standard input, or in base64 as its
one argument where standard input does not arrive, and writes one line of JSON.
"""

from __future__ import annotations

import base64
import json
import os
import platform
import pwd
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from . import processes
from .canonical import Document
from .environment import content_sha256
from .probe import network
from .probe.procfs import mountinfo
from .probe.storage import mount_of, nearest, without_login
from .probe.tree import Tree

# Mark of the line that is the answer: a shell may print others before it.
MARK = "mlps_host"

MPI_LIMIT_S = 6.0
_MPI_PROGRAM = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version())
"""
_LOGIND_DIRECTORIES = ("/usr/lib/systemd", "/etc/systemd", "/run/systemd")
_FIRST_UID_OF_PEOPLE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of a host. `env` is laid over the environment, as it is for the ranks."""

    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    data_dir: str | None = None
    mpi: bool = False
    env: Mapping[str, str]

    def as_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def as_argument(self) -> str:
        return base64.b64encode(self.as_json()).decode()


def main() -> None:
    """Entry point on a host."""
    told = sys.argv[1:]
    text = base64.b64decode(told[0]) if told else sys.stdin.buffer.read()
    request = Request(**json.loads(text))
    facts = host_facts(request, {**os.environ, **request.env})
    # In one write, so that the lines of many hosts on one pipe do not mix.
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def host_facts(
    request: Request, env: Mapping[str, str], *, mpi: Document | None = None
) -> Document:
    """All facts of this host. `mpi` is what is known already of its MPI library."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory = psutil.virtual_memory()
    if mpi is None and request.mpi:
        mpi = _mpi_library(env)
    return {
        MARK: platform.node(),
        "system": platform.system(),
        "kernel": platform.release(),
        "distribution": distribution(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "mlps": {"version": _version("mlps"), "content_sha256": content_sha256()},
        "packages": {name: _version(name) for name in request.packages},
        "programs": {name: shutil.which(name, path=env.get("PATH")) for name in request.programs},
        "mpi": mpi,
        "data_dir": None if request.data_dir is None else directory_facts(Path(request.data_dir)),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "nics": network.interfaces(Tree(Path("/"))),
        "open_files": {"soft": soft, "hard": hard},
        "cpus": os.cpu_count() or 1,
        "cpus_allowed": _cpus_allowed(),
        "uid": os.getuid(),
        "ipc_is_removed": _ipc_is_removed(),
        "unix_s": time.time(),
    }


def distribution() -> Document:
    """Id, ids of relatives and version of the distribution, empty where none says so."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    return {
        "id": release.get("ID", ""),
        "like": release.get("ID_LIKE", "").split(),
        "version": release.get("VERSION_ID", ""),
        "name": release.get("PRETTY_NAME", platform.system()),
    }


# ---------------------------------------------------------------- MPI


def mpi_argv(python: str) -> tuple[str, ...]:
    """The command that says which MPI library mpi4py loads. A wrong one may end its process."""
    return (python, "-P", "-c", _MPI_PROGRAM)


def mpi_facts(exit_status: int | None, stdout: str, stderr: str) -> Document:
    """What that command has said: the library's first line, or why there is none."""
    words = [line.strip() for line in stdout.splitlines() if line.strip()]
    if exit_status == 0 and words:
        return {"library": " ".join(words[0].split()), "error": None}
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    ending = "it did not answer" if exit_status is None else f"it ended with status {exit_status}"
    return {"library": None, "error": lines[-1] if lines else ending}


def _mpi_library(env: Mapping[str, str]) -> Document:
    try:
        output = processes.output(mpi_argv(sys.executable), env=env, limit_s=MPI_LIMIT_S)
    except subprocess.CalledProcessError as error:
        return mpi_facts(error.returncode, "", error.stderr.decode(errors="replace"))
    except (OSError, subprocess.SubprocessError):
        return mpi_facts(None, "", "")
    return mpi_facts(0, output.decode(errors="replace"), "")


# ---------------------------------------------------------------- directories


def directory_facts(path: Path) -> Document:
    """What is at a path, and the space of the nearest parent that exists."""
    facts: Document = {"path": str(path)}
    try:
        place = nearest(path)
        exists = place == path
        facts |= {
            "nearest": str(place),
            "exists": exists,
            "is_directory": exists and path.is_dir(),
            "write_error": write_error(path) if exists and path.is_dir() else None,
            "free_bytes": _free_bytes(place),
            **_mount(place),
        }
    except OSError as error:
        # A mount whose server has gone, or a parent that may not be searched.
        facts |= {"exists": False, "is_directory": False, "error": error.strerror or str(error)}
    return facts


def write_error(path: Path) -> str | None:
    """Why nothing can be written below a directory, found by writing; nothing stays."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def _free_bytes(path: Path) -> int:
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize


def _mount(path: Path) -> Document:
    """Device number, type and source of the file system at a path."""
    device = path.stat().st_dev
    try:
        mounts = mountinfo(Path("/proc/self/mountinfo").read_bytes().decode(errors="replace"))
    except OSError:
        mounts = []
    number = f"{os.major(device)}:{os.minor(device)}"
    mount = mount_of(mounts, str(path.resolve()), number)
    return {
        "device": device,
        "type": mount.type if mount else None,
        "source": without_login(mount.source) if mount else None,
    }


# ---------------------------------------------------------------- the rest


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpus_allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ipc_is_removed() -> bool:
    """Whether systemd removes shared memory of this user when the user's last login ends."""
    if os.getuid() < _FIRST_UID_OF_PEOPLE or not Path("/run/systemd/system").is_dir():
        return False
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False
    if Path("/var/lib/systemd/linger", user).exists():
        return False
    return removes_ipc(_logind_files())


def _logind_files() -> list[str]:
    """Texts of logind's configuration, the deciding one last."""
    found: dict[str, Path] = {}
    for directory in _LOGIND_DIRECTORIES:
        for path in Path(directory, "logind.conf.d").glob("*.conf"):
            found[path.name] = path
    main = [Path(directory, "logind.conf") for directory in _LOGIND_DIRECTORIES]
    paths = [*main, *(found[name] for name in sorted(found))]
    return [path.read_text(errors="replace") for path in paths if os.access(path, os.R_OK)]


def removes_ipc(texts: Iterable[str]) -> bool:
    """What logind's configuration says of RemoveIPC; without a word it is yes."""
    words = [
        line.partition("=")[2].strip().lower()
        for text in texts
        for line in text.splitlines()
        if line.partition("=")[0].strip() == "RemoveIPC"
    ]
    return not words or words[-1] not in ("no", "false", "off", "0", "n", "f")


if __name__ == "__main__":
    main()
