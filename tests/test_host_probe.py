"""The facts of a host: complete, true of this one, and found without leaving anything."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from mlps.engine.environment import content_sha256
from mlps.engine.host_probe import (
    Request,
    directory_facts,
    host_facts,
    mpi_argv,
    mpi_facts,
    removes_ipc,
)

PROBE = [sys.executable, "-P", "-m", "mlps.engine.host_probe"]


def ask(request, *, by_argument=False):
    done = subprocess.run(
        [*PROBE, request.as_argument()] if by_argument else PROBE,
        input=None if by_argument else request.as_json(),
        capture_output=True,
        timeout=60,
        check=True,
        cwd="/",
    )
    assert done.stderr == b""
    return json.loads(done.stdout)


@pytest.mark.parametrize("by_argument", [False, True], ids=["stdin", "argument"])
def test_the_program_answers_with_one_line_of_facts(tmp_path, by_argument):
    request = Request(packages=("numpy", "no-such"), data_dir=str(tmp_path), env={})
    facts = ask(request, by_argument=by_argument)
    assert facts["mlps_host"] == platform.node()
    assert facts["python"] == platform.python_version()
    assert facts["mlps"] == {"version": version("mlps"), "content_sha256": content_sha256()}
    assert facts["packages"] == {"numpy": version("numpy"), "no-such": None}
    assert facts["memory_bytes"] == psutil.virtual_memory().total
    assert facts["uid"] == os.getuid()
    assert abs(facts["unix_s"] - time.time()) < 60
    assert list(tmp_path.iterdir()) == []


def test_the_program_needs_no_hydra_and_no_numpy():
    words = (
        "import sys; import mlps.engine.host_probe; "
        "print([name for name in ('hydra', 'omegaconf', 'numpy', 'mpi4py', 'rich') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", words], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


def test_programs_are_looked_for_on_the_path_of_the_ranks(tmp_path):
    program = tmp_path / "myfio"
    program.write_text("")
    program.chmod(0o755)
    request = Request(programs=("myfio", "nosuch"), env={"PATH": str(tmp_path)})
    assert ask(request)["programs"] == {"myfio": str(program), "nosuch": None}


def test_the_mpi_library_is_the_one_that_ranks_would_load():
    facts = ask(Request(mpi=True, env={}))
    assert "MPICH" in facts["mpi"]["library"]
    assert facts["mpi"]["error"] is None
    facts = ask(Request(mpi=True, env={"MPI4PY_LIBMPI": "/nowhere/libmpi.so"}))
    assert facts["mpi"]["library"] is None
    assert "libmpi" in facts["mpi"]["error"] or "MPI" in facts["mpi"]["error"]


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "expected"),
    [
        (0, "\nOpen  MPI v5\nmore\n", "", {"library": "Open MPI v5", "error": None}),
        (1, "", "Traceback\nRuntimeError: no\n\n", {"library": None, "error": "RuntimeError: no"}),
        (-6, "", "", {"library": None, "error": "it ended with status -6"}),
        (None, "", "", {"library": None, "error": "it did not answer"}),
    ],
    ids=["library", "error", "mute", "hangs"],
)
def test_what_mpi4py_says(status, stdout, stderr, expected):
    assert mpi_facts(status, stdout, stderr) == expected


def test_the_command_that_asks_mpi4py_ignores_the_current_directory():
    assert mpi_argv("/p")[:2] == ("/p", "-P")


def test_as_a_function_it_needs_no_child_for_mpi(monkeypatch):
    monkeypatch.setattr("mlps.engine.processes.output", lambda *_, **__: 1 / 0)
    known = {"library": "MPICH", "error": None}
    assert host_facts(Request(mpi=True, env={}), {}, mpi=known)["mpi"] == known


# ---------------------------------------------------------------- directories


def test_a_directory_that_can_be_written(tmp_path):
    facts = directory_facts(tmp_path)
    usage = os.statvfs(tmp_path)
    assert (facts["exists"], facts["is_directory"], facts["write_error"]) == (True, True, None)
    assert facts["free_bytes"] == pytest.approx(usage.f_bavail * usage.f_frsize, rel=0.2)
    assert facts["device"] == tmp_path.stat().st_dev
    assert facts["nearest"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_type_and_source_of_a_file_system():
    facts = directory_facts(Path("/proc"))
    assert (facts["type"], facts["source"]) == ("proc", "proc")
    assert facts["write_error"] is not None


def test_of_a_missing_directory_the_nearest_parent_tells_the_space(tmp_path):
    facts = directory_facts(tmp_path / "a" / "b")
    assert (facts["exists"], facts["is_directory"]) == (False, False)
    assert facts["nearest"] == str(tmp_path)
    assert facts["free_bytes"] > 0


def test_below_a_file_there_is_no_directory(tmp_path):
    (tmp_path / "file").write_text("")
    assert directory_facts(tmp_path / "file")["is_directory"] is False
    assert directory_facts(tmp_path / "file" / "x")["exists"] is False


def test_a_path_that_cannot_be_looked_at_is_a_fact(monkeypatch, tmp_path):
    def stale(_self):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "stat", stale)
    assert directory_facts(tmp_path)["error"] == "Stale file handle"


# ---------------------------------------------------------------- logind


@pytest.mark.parametrize(
    ("texts", "removed"),
    [
        ([], True),
        (["[Login]\n#RemoveIPC=no\n"], True),
        (["[Login]\nRemoveIPC=no\n"], False),
        (["RemoveIPC=no\n", "RemoveIPC = yes\n"], True),
        (["RemoveIPC=yes\n", "KillUserProcesses=no\nRemoveIPC=False\n"], False),
    ],
    ids=["nothing said", "comment", "no", "a later file", "a later no"],
)
def test_logind_removes_shared_memory_unless_told_otherwise(texts, removed):
    assert removes_ipc(texts) is removed


def test_root_keeps_its_shared_memory(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert host_facts(Request(env={}), {})["ipc_is_removed"] is False
