"""The course of one process of a stage: it tells who it is, runs the program, tells how it ended.

Its lines are short, so that those of many processes on one pipe do not mix. What the program
writes never goes there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..console import protect_stdout
from ..contract import (
    RUN_VARIABLE,
    STARTED_ON,
    Document,
    Job,
    decode_job,
    parse_arguments,
    read_job,
)
from ..errors import EngineError, JobError, storage_error
from ..io_core.directory import MARKER, is_own, recognise
from ..keeper import Program, keep
from ..watch import end_with_parent
from ..world import host_name

# Where the engine that planned the stage says what is to be started, below the stage's directory.
START = "mlps-start.json"
STDOUT = "mlps-stdout"

# How launchers tell a process its rank; without any it is the only one.
_RANKS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID")

_VERSION_LIMIT_S = 20.0
_VERSION_CHARACTERS = 200

_FAILED = 4


@dataclass(frozen=True, slots=True)
class _Words:
    """Writes the lines of this process."""

    output: int
    rank: int

    def say(self, event: str, **facts: object) -> None:
        line = json.dumps({"event": event, "rank": self.rank, **facts}, separators=(",", ":"))
        os.write(self.output, line.encode() + b"\n")


def run_process(argv: Sequence[str]) -> int:
    """The whole life of the process; returns its exit code."""
    output = protect_stdout()
    try:
        run_id = os.environ.get(RUN_VARIABLE, "needs")
        job = read_job(decode_job(os.environ), run_id, option_of(argv))
        arguments = parse_arguments(argv, [str(stage["name"]) for stage in job.benchmark["stages"]])
        if arguments.stage == "needs":
            return _tell_needs(output, job, arguments.ranks or 1)
        end_with_parent()
        words = _Words(output, rank_of(os.environ))
        if arguments.stage == "cleanup":
            return _clean_up(words, job)
        names = [arguments.stage, arguments.option, arguments.trial]
        name = "-".join(str(part) for part in names if part is not None)
        return _run(words, job, name)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return _FAILED


def option_of(argv: Sequence[str]) -> str | None:
    """The option that is named; the names of stages, which arguments are checked by, need it."""
    return next((argv[at + 1] for at, word in enumerate(argv[:-1]) if word == "--option"), None)


def rank_of(environ: Mapping[str, str]) -> int:
    """The number of this process among those of its launch."""
    found = next((environ[name] for name in _RANKS if environ.get(name, "").isdigit()), "0")
    return int(found)


# ---------------------------------------------------------------- what a job needs


def _tell_needs(output: int, job: Job, ranks: int) -> int:
    """Say what the benchmark's YAML says, after a look for the files that must be there."""
    needs = job.benchmark["needs"]
    paths = [_value_at(job.benchmark, key) for key in needs["path_keys"]]
    missing = [str(path) for path in paths if path is not None and not Path(str(path)).exists()]
    if missing:
        raise JobError(f"{', '.join(missing)}: no such file or directory")
    per_rank = int(needs["disk_bytes_per_rank"])
    event = {
        "event": "needs",
        "disk_bytes": per_rank * ranks,
        "memory_bytes_per_rank": int(needs["memory_bytes_per_rank"]),
        "disk_arithmetic": f"benchmark.needs: {per_rank} bytes x {ranks} ranks",
        "programs": _programs(job),
    }
    os.write(output, json.dumps(event).encode() + b"\n")
    return 0


def _value_at(values: Document, key: str) -> object:
    """The value of a dotted key; None where there is none."""
    value: object = values
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _programs(job: Job) -> list[str]:
    return [str(entry["program"]) for entry in job.benchmark["programs"]]


# ---------------------------------------------------------------- the program


def _run(words: _Words, job: Job, name: str) -> int:
    recognise(job.directory, job.sha256)
    directory = job.directory / "stages" / name
    start = _read_start(directory)
    facts: Document = {"host": host_name(), "pid": os.getpid(), "job_sha256": job.sha256}
    late = {"rank": str(words.rank), "host": host_name()}
    env = dict(os.environ)
    env |= {key: fill(text, late) for key, text in start["environment"].items()}
    if words.rank == 0:
        facts["programs"] = [_identify(entry, env) for entry in job.benchmark["programs"]]
    sys.stderr.write(f"{STARTED_ON}{host_name()}\n")
    sys.stderr.flush()
    words.say("started", **facts)
    program = Program(
        argv=tuple(fill(text, late) for text in start["argv"]),
        env=env,
        directory=directory,
        stdout=directory / f"{STDOUT}-{words.rank}" if start["stdout"] else None,
    )
    begun = time.monotonic()
    end = keep(program)
    words.say(
        "ended",
        exit_status=end.exit_status,
        elapsed_s=round(time.monotonic() - begun, 6),
        cpu_user_s=round(end.cpu_user_s, 6),
        cpu_system_s=round(end.cpu_system_s, 6),
        peak_rss_bytes=end.peak_rss_bytes,
    )
    return end.exit_status if end.exit_status >= 0 else 128 - end.exit_status


def _read_start(directory: Path) -> Document:
    path = directory / START
    try:
        start: Document = json.loads(path.read_bytes())
    except OSError as error:
        text = f"{storage_error(error, 'read', path)}: do the hosts see the data_dir of mlps?"
        raise EngineError(text) from error
    except ValueError as error:
        raise EngineError(f"{path} is broken: {error}") from error
    return start


def fill(text: Sequence[str | Mapping[str, str]], late: Mapping[str, str]) -> str:
    """A text with what only this process knows."""
    return "".join(part if isinstance(part, str) else late[part["late"]] for part in text)


def _identify(entry: Document, env: Mapping[str, str]) -> Document:
    """Which file a program is here, and what it says of its version."""
    name = str(entry["program"])
    path = shutil.which(name, path=env.get("PATH"))
    argv = entry["version"]
    version = None if argv is None else _version([str(word) for word in argv], env)
    return {"program": name, "path": path, "version": version}


def _version(argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_VERSION_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = [" ".join(line.split()) for line in done.stdout.decode(errors="replace").splitlines()]
    return next((line[:_VERSION_CHARACTERS] for line in lines if line), None)


# ---------------------------------------------------------------- removing


def _clean_up(words: _Words, job: Job) -> int:
    """Remove the job's own directory with whatever programs have left in it."""
    words.say("started", host=host_name(), pid=os.getpid(), job_sha256=job.sha256, programs=[])
    begun = time.monotonic()
    if is_own(job.directory, job.sha256):
        try:
            remove_all(job.directory)
        except OSError as error:
            raise storage_error(error, "remove", Path(error.filename or job.directory)) from error
    words.say(
        "ended",
        exit_status=0,
        elapsed_s=round(time.monotonic() - begun, 6),
        cpu_user_s=0.0,
        cpu_system_s=0.0,
        peak_rss_bytes=0,
    )
    return 0


def remove_all(directory: Path) -> None:
    """Remove a directory; its marker goes last, so that what is left is known. Raises OSError."""
    for path in directory.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (directory / MARKER).unlink()
    directory.rmdir()
