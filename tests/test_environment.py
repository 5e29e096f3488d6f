"""What an archive says about the software and the machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

from mlps.engine import environment
from mlps.engine.environment import (
    content_sha256,
    describe_environment,
    host_name,
    installed_versions,
    mlps_version,
)
from mlps.engine.lockfile import read_lockfile


def program(tmp_path, text):
    path = tmp_path / "mpiexec"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_what_is_described(tmp_path):
    path = program(tmp_path, "echo; echo '  MPI   of  tests '; echo 5.0; echo more")
    document = describe_environment(path, {"PATH": "/bin", "B": "secret", "A": "hidden"})
    assert document["mlps"]["version"] == mlps_version() == version("mlps")
    assert document["python"]["executable"] == sys.executable
    assert document["launcher"] == {"program": str(path), "version": "MPI of tests; 5.0"}
    assert document["host"]["name"] == host_name()
    assert document["process"] == {
        "host": host_name(),
        "pid": os.getpid(),
        "created_unix_s": psutil.Process().create_time(),
    }
    assert document["rank_variables"] == ["A", "B", "PATH"]
    assert document["paths"] == {"PATH": "/bin"}


def test_values_of_variables_are_not_kept(tmp_path):
    document = describe_environment(program(tmp_path, ""), {"PATH": "/bin", "TOKEN": "hunter2"})
    assert "hunter2" not in json.dumps(document)


def test_packages_are_those_that_mlps_depends_on(tmp_path):
    packages = describe_environment(program(tmp_path, ""), {"PATH": "/bin"})["packages"]
    assert packages["hydra-core"] == version("hydra-core")
    assert "pytest" not in packages
    assert list(packages) == sorted(packages)


def test_the_lock_file_is_named_by_its_content(tmp_path):
    path = tmp_path / "my.lock"
    path.write_text("rich==1.0\n")
    described = describe_environment(program(tmp_path, ""), {}, read_lockfile(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["lockfile"] == {"path": str(path), "sha256": digest}
    assert describe_environment(program(tmp_path, ""), {})["lockfile"] is None


def test_what_is_installed(tmp_path, monkeypatch):
    found = installed_versions()
    assert found["hydra-core"] == version("hydra-core")
    assert found["mlps"] == version("mlps")

    for place, name, number in (("a", "My.Odd_Pkg", "7"), ("b", "my-odd-pkg", "8"), ("a", "", "")):
        directory = tmp_path / place / f"{name or 'broken'}-{number}.dist-info"
        directory.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n" if name else ""
        (directory / "METADATA").write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a"), str(tmp_path / "b")])
    assert installed_versions() == {"my-odd-pkg": "7"}


def test_a_launcher_that_says_nothing_useful(tmp_path, monkeypatch):
    def described(path):
        return describe_environment(path, {"PATH": "/bin"})["launcher"]["version"]

    assert described(program(tmp_path, "exit 3")) == "unknown"
    assert described(program(tmp_path, "true")) == "unknown"
    assert described(tmp_path / "nowhere") == "unknown"
    monkeypatch.setattr(environment, "VERSION_LIMIT_S", 0.2)
    assert described(program(tmp_path, "exec sleep 60")) == "unknown"


def test_the_digest_of_mlps_follows_every_file(tmp_path, monkeypatch):
    before = content_sha256()
    assert re.fullmatch("[0-9a-f]{64}", before)
    assert content_sha256() == before

    copied = {}
    for part in environment.PARTS:
        copied[part] = tmp_path / part
        shutil.copytree(Path(str(environment.files(part))), copied[part])
    monkeypatch.setattr(environment, "files", lambda part: copied[part])
    assert content_sha256() == before

    seen = {before}
    for path in ("mlps.conf/cluster/local.yaml", "mlps.schemas/job.json", "mlps.engine/plan.py"):
        with (tmp_path / path).open("a") as file:
            file.write(" ")
        seen.add(content_sha256())
    (tmp_path / "mlps.engines/extra.so").write_bytes(b"")
    seen.add(content_sha256())
    assert len(seen) == 5
    (tmp_path / "mlps.engine/__pycache__").mkdir(exist_ok=True)
    (tmp_path / "mlps.engine/__pycache__/x.pyc").write_bytes(b"")
    assert content_sha256() in seen
