"""Runs the installed `mlps` as a user does: a process of its own, in a directory of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from workplace import MLPS, JobDirectory


@dataclass(frozen=True)
class Workplace(JobDirectory):
    """A directory for jobs, and a shell that knows nothing of the tests."""

    def env(self, **changes: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        path = os.environ.get("PATH", os.defpath)
        return {"HOME": str(self.root), "PATH": path, **kept, **changes}

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MLPS, *words],
            cwd=self.root,
            env=self.env(**env),
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def archived(self, *words: str, exit_code: int = 0) -> tuple[str, Path]:
        """Runs a job that ends with an exit code; what it printed, and its archive."""
        before = self.archives()
        done = self.run(*words)
        assert done.returncode == exit_code, done.stderr
        assert "Traceback" not in done.stderr
        assert self.leftovers() == []
        (archive,) = set(self.archives()) - set(before)
        return done.stdout, archive

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MLPS, *words],
            cwd=self.root,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def ranks(self, words: str = "") -> list[psutil.Process]:
        """Rank processes of jobs of this workplace whose command holds these words."""
        return [
            process
            for process in psutil.process_iter()
            if re.match(r"\S*python\S* -P -m mlps\.engines\.", command := _command(process))
            and words in command
            and self._owns(process)
        ]

    def leftovers(self) -> list[str]:
        """Commands of all processes that a job of this workplace left running."""
        return [_command(process) for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            environ = process.environ()
            return (
                environ.get("HOME") == str(self.root)
                and "MLPS_JOB" in environ
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path)
    workplace.data_dir.mkdir()
    yield workplace
    for process in psutil.process_iter():
        if workplace._owns(process):
            process.kill()


@pytest.fixture(scope="module")
def module_place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace for a job that several tests of a module look at."""
    workplace = Workplace(tmp_path_factory.mktemp("module"))
    workplace.data_dir.mkdir()
    return workplace


@pytest.fixture
def memory(place: Workplace) -> Iterator[Path]:
    """A data directory in memory where there is one: what is measured is of no interest."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shutil.disk_usage(shared).free < 2**28:
        yield place.data_dir
        return
    with tempfile.TemporaryDirectory(dir=shared, prefix="mlps-tests-") as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a small job that ended well; copy it before changing it."""
    workplace = Workplace(tmp_path_factory.mktemp("finished"))
    workplace.data_dir.mkdir()
    done = workplace.run(*workplace.small())
    assert done.returncode == 0, done.stderr
    return workplace.archive()


@pytest.fixture
def archive(finished: Path, tmp_path: Path) -> Path:
    """A copy of that archive, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))
