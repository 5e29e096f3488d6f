"""What ran the job: versions of mlps, Python, packages and launcher, for environment.json."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distributions, requires, version
from importlib.resources import files
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from . import processes
from .canonical import Document, canonical_json, sha256_file, sha256_hex
from .lockfile import Lockfile

PARTS = ("mlps.engine", "mlps.engines", "mlps.conf", "mlps.schemas")

VERSION_LIMIT_S = 20.0


def mlps_version() -> str:
    """The installed version of mlps."""
    return version("mlps")


def content_sha256() -> str:
    """SHA-256 over the paths and contents of all files of mlps that decide what a job does."""
    return content_of({name: sha256_file(path) for name, path in source_files().items()})


def source_files() -> dict[str, Path]:
    """All files of mlps that decide what a job does, by part and path in it."""
    return {
        f"{part}/{path.relative_to(root).as_posix()}": path
        for part in PARTS
        for root in [Path(str(files(part)))]
        for path in _sources(root)
    }


def content_of(digests: Mapping[str, str]) -> str:
    """The SHA-256 that stands for source files, from the SHA-256 of each."""
    return sha256_hex(canonical_json(dict(digests)))


def host_name() -> str:
    """The name of this machine."""
    return platform.node()


def installed_versions() -> dict[str, str]:
    """Version of every package that the running Python would import, by its normal name."""
    found: dict[str, str] = {}
    for package in distributions():
        name, number = package.metadata["Name"], package.metadata["Version"]
        # The first on the way counts; a directory that lost its metadata is no package.
        if name and number:
            found.setdefault(canonicalize_name(name), number)
    return found


def describe_environment(
    program: Path, env: Mapping[str, str], lockfile: Lockfile | None = None
) -> Document:
    """Software and machine that started the job; of variables only names, and the paths."""
    system = platform.uname()
    return {
        "mlps": {"version": mlps_version(), "content_sha256": content_sha256()},
        "python": {"executable": sys.executable, "version": platform.python_version()},
        "packages": _packages(),
        "lockfile": None if lockfile is None else _lockfile(lockfile),
        "launcher": {"program": str(program), "version": _launcher_version(program, env)},
        "host": {
            "name": host_name(),
            "system": system.system,
            "kernel": system.release,
            "machine": system.machine,
        },
        "process": {
            "host": host_name(),
            "pid": os.getpid(),
            "created_unix_s": psutil.Process().create_time(),
        },
        "rank_variables": sorted(env),
        "paths": {name: env[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in env},
    }


def _sources(root: Path) -> Iterator[Path]:
    for directory, names, found in os.walk(root):
        names[:] = sorted(name for name in names if name != "__pycache__")
        yield from (Path(directory) / name for name in sorted(found) if not name.endswith(".pyc"))


def _packages() -> dict[str, str]:
    """Versions of the packages that mlps names as its dependencies."""
    found = {}
    for text in requires("mlps") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found[requirement.name] = version(requirement.name)
        except PackageNotFoundError:
            found[requirement.name] = "missing"
    return dict(sorted(found.items()))


def _lockfile(lockfile: Lockfile) -> Document:
    return {"path": str(lockfile.path), "sha256": lockfile.sha256}


def _launcher_version(program: Path, env: Mapping[str, str]) -> str:
    try:
        text = processes.output([str(program), "--version"], env=env, limit_s=VERSION_LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    lines = [" ".join(line.split()) for line in text.decode(errors="replace").splitlines()]
    return "; ".join([line for line in lines if line][:2]) or "unknown"
