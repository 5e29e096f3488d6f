"""Checks the machine before anything is written, and reports all findings together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from . import processes
from .canonical import Document
from .environment import installed_versions
from .hosts import LOCAL_NAMES
from .lockfile import Lockfile, compare, in_words, pip_commands, read_lockfile
from .plan import Plan, engine_command
from .rank_environment import find_program, rank_environment
from .rules import Finding
from .spec import JobSpec
from .units import GIB

NEEDS_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an engine says that a job needs, for all ranks together and for each."""

    disk_bytes: int
    memory_bytes_per_rank: int
    disk_arithmetic: str
    memory_arithmetic: str | None = None

    def as_document(self) -> Document:
        document: Document = {
            "disk_bytes": self.disk_bytes,
            "memory_bytes_per_rank": self.memory_bytes_per_rank,
            "disk_arithmetic": self.disk_arithmetic,
        }
        if self.memory_arithmetic is not None:
            document["memory_arithmetic"] = self.memory_arithmetic
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What preflight found: the launcher's program, the engine's needs, all findings.

    `lockfile` is the job's lock file as it was compared.
    """

    program: Path | None
    needs: Needs | None
    findings: tuple[Finding, ...]
    lockfile: Lockfile | None = None


def check_machine(spec: JobSpec, plan: Plan, environ: Mapping[str, str]) -> Machine:
    """Check this machine for a job. Writes nothing that stays.

    Raises ConfigError where the job's lock file cannot be read.
    """
    env = rank_environment(spec, "preflight", environ)
    program = find_program(plan.program or plan.python, env)
    findings: list[Finding] = []
    if program is None:
        findings.append(_no_launcher(spec))
    needs = _ask_needs(spec, plan, env, findings)
    lockfile = None if spec.lockfile is None else read_lockfile(spec.lockfile)
    if lockfile is not None:
        findings += lockfile_findings(lockfile, installed_versions(), python=sys.executable)
    findings += _data_dir(spec)
    findings += _results_dir(spec)
    if needs is not None:
        findings += _space(spec, needs)
        findings += _memory(spec, needs)
    return Machine(program=program, needs=needs, findings=tuple(findings), lockfile=lockfile)


def _no_launcher(spec: JobSpec) -> Finding:
    name = spec.launcher.program or "the Python of cluster.python"
    return Finding(
        rule="ENV-01",
        severity="error",
        key="launcher",
        text=f"{name} of launcher {spec.launcher.name} was not found on PATH",
        hint=f"pip install {spec.launcher.install['pip']}",
    )


def _ask_needs(
    spec: JobSpec, plan: Plan, env: Mapping[str, str], findings: list[Finding]
) -> Needs | None:
    """The largest needs of all options, as the engine states them."""
    found: list[Needs] = []
    for option in spec.options or (None,):
        arguments = ["--stage", "needs", "--ranks", str(plan.ranks)]
        arguments += [] if option is None else ["--option", option]
        argv = engine_command(spec, sys.executable, *arguments)
        try:
            event = json.loads(processes.output(argv, env=env, limit_s=NEEDS_LIMIT_S))
            found.append(_needs(event))
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
            findings.append(_engine_failed(spec, error))
            return None
    largest = max(found, key=lambda needs: needs.disk_bytes)
    memory = max(found, key=lambda needs: needs.memory_bytes_per_rank)
    return replace(
        largest,
        memory_bytes_per_rank=memory.memory_bytes_per_rank,
        memory_arithmetic=memory.memory_arithmetic,
    )


def _needs(event: Document) -> Needs:
    needs = Needs(
        disk_bytes=int(event["disk_bytes"]),
        memory_bytes_per_rank=int(event["memory_bytes_per_rank"]),
        disk_arithmetic=str(event["disk_arithmetic"]),
    )
    if "memory_arithmetic" not in event:
        return needs
    return replace(needs, memory_arithmetic=str(event["memory_arithmetic"]))


def _engine_failed(spec: JobSpec, error: Exception) -> Finding:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        text = lines[-1] if lines else f"exit status {error.returncode}"
    return Finding(
        rule="ENV-02",
        severity="error",
        key="benchmark",
        text=f"engine {spec.engine} cannot run this job: {text}",
    )


def lockfile_findings(
    lockfile: Lockfile, versions: Mapping[str, str | None], *, python: str, host: str | None = None
) -> Iterator[Finding]:
    """What must be mended before the packages of a host's Python are those of the lock file."""
    flaws = compare(lockfile, versions).flaws()
    if flaws:
        yield Finding(
            rule="PKG-03",
            severity="error",
            key="lockfile",
            text=f"{lockfile.path}: {in_words(flaws)}",
            hint="; ".join(pip_commands(flaws, python)),
            host=host,
        )


# ---------------------------------------------------------------- directories


def _data_dir(spec: JobSpec) -> Iterator[Finding]:
    path = spec.data_dir
    flaw, hint = _directory_flaw(path)
    if flaw is not None:
        yield Finding(
            rule="DIR-01", severity="error", key="data_dir", text=f"{path} {flaw}", hint=hint
        )
    elif spec.results_dir.is_dir() and path.samefile(spec.results_dir):
        yield Finding(
            rule="DIR-03",
            severity="error",
            key="data_dir",
            text=f"{path} is also results_dir: results must not be on the storage under test",
            hint="results_dir=DIRECTORY",
        )
    elif path.stat().st_dev == _nearest(spec.results_dir).stat().st_dev:
        yield Finding(
            rule="CAP-03",
            severity="info" if spec.division.name == "whatif" else "error",
            key="results_dir",
            text=f"{spec.results_dir} is on the file system of data_dir",
            hint="results_dir=DIRECTORY on another file system",
        )


def _directory_flaw(path: Path) -> tuple[str | None, str | None]:
    if not path.exists():
        return "does not exist", f"mkdir -p {path}, or data_dir=DIRECTORY"
    if not path.is_dir():
        return "is not a directory", "data_dir=DIRECTORY"
    return _write_flaw(path)


def _write_flaw(path: Path) -> tuple[str | None, str | None]:
    """Why nothing can be written below a directory, found by writing; nothing stays."""
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"cannot be written: {error.strerror}", "mend its permissions or its space"
    return None, None


def _results_dir(spec: JobSpec) -> Iterator[Finding]:
    place = _nearest(spec.results_dir)
    flaw, hint = ("is not a directory", None) if not place.is_dir() else _write_flaw(place)
    if flaw is not None:
        yield Finding(
            rule="DIR-02",
            severity="error",
            key="results_dir",
            text=f"{place} {flaw}",
            hint=hint or "results_dir=DIRECTORY",
        )


def _nearest(path: Path) -> Path:
    """The path itself, or its nearest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


# ---------------------------------------------------------------- space and memory


def _space(spec: JobSpec, needs: Needs) -> Iterator[Finding]:
    if not spec.data_dir.is_dir():
        return
    usage = os.statvfs(spec.data_dir)
    free_bytes = usage.f_bavail * usage.f_frsize
    if free_bytes < needs.disk_bytes:
        short_gib = (needs.disk_bytes - free_bytes) / GIB
        yield Finding(
            rule="CAP-01",
            severity="error",
            key="data_dir",
            text=f"{spec.data_dir} has {free_bytes / GIB:.2f} GiB free, the job needs "
            f"{needs.disk_bytes / GIB:.2f} GiB ({needs.disk_arithmetic}); {short_gib:.2f} GiB are "
            "missing",
            hint="make space, choose another data_dir, or a smaller working set",
        )


def _memory(spec: JobSpec, needs: Needs) -> Iterator[Finding]:
    if not LOCAL_NAMES.intersection(spec.cluster.names):
        return
    ranks = next(host.ranks for host in spec.cluster.hosts if host.name in LOCAL_NAMES)
    available = psutil.virtual_memory().available
    needed = ranks * needs.memory_bytes_per_rank
    if available < needed:
        arithmetic = "" if needs.memory_arithmetic is None else f" ({needs.memory_arithmetic})"
        yield Finding(
            rule="ENV-03",
            severity="error",
            key="cluster.ranks_per_host",
            text=f"{ranks} ranks x {needs.memory_bytes_per_rank / GIB:.2f} GiB{arithmetic} = "
            f"{needed / GIB:.2f} GiB of memory, available are {available / GIB:.2f} GiB",
            hint="fewer ranks on a host",
        )
