"""The probe on a host without mlps: it travels whole, with its request, in either way."""

from __future__ import annotations

import ast
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mlps.engine import bootstrap
from mlps.engine.bootstrap import boot_argument, boot_argv, payload, probe_sources

REQUEST = {"mode": "facts", "data_dir": "/", "results_dir": None}


def run(argv, data=b"", **more):
    return subprocess.run(argv, input=data, capture_output=True, timeout=60, **more)


def test_the_request_travels_on_standard_input():
    done = run(boot_argv(sys.executable), payload(REQUEST))
    assert done.stderr == b""
    facts = json.loads(done.stdout)
    assert facts["mlps_facts"] == platform.node()
    assert facts["data_dir"]["path"] == "/"
    assert facts["results_dir"] is None


def test_the_request_travels_as_an_argument_where_nothing_is_read():
    argv = [*boot_argv(sys.executable), boot_argument(REQUEST)]
    done = run(["sh", "-c", 'exec "$@" <&-', "sh", *argv])
    assert json.loads(done.stdout)["mlps_facts"] == platform.node()


def test_it_passes_through_shells_as_one_short_line():
    line = shlex.join(boot_argv("/usr/bin/python3"))
    assert "\n" not in line
    assert "!" not in line, "csh would look for it in its history"
    assert len(line) < 1024, "old csh has no longer words"
    done = run(["sh", "-c", shlex.join(boot_argv(sys.executable))], payload(REQUEST))
    assert done.returncode == 0


def test_nothing_of_the_directory_or_the_user_is_imported(tmp_path):
    for name in ("json.py", "zlib.py", "sitecustomize.py", "usercustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run(boot_argv(sys.executable), payload(REQUEST), cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_old_python_is_told_in_one_line():
    boot = boot_argv("python")[-1]
    program = f"import sys; sys.version_info = (3, 8, 9); exec({boot!r})"
    done = run([sys.executable, "-c", program], payload(REQUEST))
    assert done.returncode == 3
    assert done.stderr.startswith(b"the probe needs Python 3.9 or later, this is 3.")
    assert done.stderr.count(b"\n") == 1


def test_a_traceback_names_the_file_and_the_line():
    done = run(boot_argv(sys.executable), payload({"data_dir": None}))
    assert done.returncode == 1
    line = next(
        number
        for number, text in enumerate(dict(probe_sources())["main"].splitlines(), 1)
        if 'request["mode"]' in text
    )
    assert f'File "mlps/engine/probe/main.py", line {line}' in done.stderr.decode()


def test_half_a_payload_does_not_run():
    done = run(boot_argv(sys.executable), payload(REQUEST)[:-10])
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_argument_stays_far_below_the_limit_of_the_kernel(monkeypatch):
    word = boot_argument(REQUEST)
    assert len(word) < 64 * 1024
    assert set(word) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    monkeypatch.setattr(bootstrap, "MAX_ARGUMENT_BYTES", len(word) - 1)
    with pytest.raises(ValueError, match=r"the probe takes \d+ bytes"):
        boot_argument(REQUEST)


# ---------------------------------------------------------------- sources

SOURCES = probe_sources()


def imports(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module


def test_modules_come_after_those_that_they_import():
    names = [name for name, _ in SOURCES]
    assert names[0] == ""
    assert names.index("procfs") < names.index("counters") < names.index("sampler")
    assert set(names[1:]) == {
        path.stem for path in bootstrap._DIRECTORY.glob("*.py") if path.stem != "__init__"
    }


def test_modules_that_import_each_other_are_refused(tmp_path, monkeypatch):
    for name, text in (("__init__", ""), ("a", "from .b import x"), ("b", "from . import a")):
        Path(tmp_path, f"{name}.py").write_text(text)
    monkeypatch.setattr(bootstrap, "_DIRECTORY", tmp_path)
    with pytest.raises(ValueError, match="import each other: a, b"):
        probe_sources.__wrapped__()


@pytest.mark.parametrize(
    ("name", "source"), SOURCES, ids=[name or "package" for name, _ in SOURCES]
)
def test_the_probe_needs_nothing_but_an_old_python(name, source):
    ast.parse(source, feature_version=(3, 9))
    for level, module in imports(source):
        assert level == 1 or module.split(".")[0] in sys.stdlib_module_names
    if name:
        assert "from __future__ import annotations" in source
    assert "strict=" not in source, "zip of Python 3.9 does not know it"
