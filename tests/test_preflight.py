"""The check of the machine: where each ENV, PKG, DIR and CAP rule fires and where it does not."""

from __future__ import annotations

import json
import os
import sys
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest

from mlps.engine import preflight
from mlps.engine.errors import ConfigError
from mlps.engine.lockfile import read_lockfile
from mlps.engine.plan import make_plan
from mlps.engine.preflight import Needs, check_machine, lockfile_findings

GIB = 2**30
NEEDS = {"disk_bytes": 3 * GIB, "memory_bytes_per_rank": GIB, "disk_arithmetic": "3 users x 1 GiB"}


@pytest.fixture
def answers(monkeypatch):
    """What the engine says about its needs, instead of starting it; the questions are kept."""
    asked = []
    answer = [json.dumps({"event": "needs", **NEEDS}).encode()]

    def output(argv, *, env, limit_s):
        asked.append((list(argv), dict(env)))
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    monkeypatch.setattr(preflight.processes, "output", output)
    return asked, answer


@pytest.fixture
def check(make_spec, tmp_path, answers):
    """Findings of a check in which each thing is in order unless the test changes it."""
    (tmp_path / "data").mkdir()

    def check(changes=None, environ=None):
        spec = make_spec(
            {
                "data_dir": str(tmp_path / "data"),
                "results_dir": str(tmp_path / "results"),
                "launcher.program": "true",
                **(changes or {}),
            }
        )
        return check_machine(spec, make_plan(spec, python=sys.executable), environ or os.environ)

    return check


def texts(machine):
    return [str(finding) for finding in machine.findings if finding.rule != "CAP-03"]


def rules(machine):
    return [(finding.rule, finding.severity) for finding in machine.findings]


def test_a_machine_that_is_ready(check):
    machine = check()
    assert texts(machine) == []
    assert machine.program.name == "true"
    assert machine.needs == Needs(**NEEDS)
    assert machine.needs.as_document() == NEEDS


def test_nothing_stays_on_disk(check, tmp_path):
    check()
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


# ---------------------------------------------------------------- ENV


def test_env_01_fires_without_a_launcher(check):
    machine = check({"launcher.program": "nosuch-mpiexec"})
    assert machine.program is None
    assert texts(machine) == [
        "error ENV-01 launcher: nosuch-mpiexec of launcher mpich was not found on PATH\n"
        "  hint: pip install mpich"
    ]


def test_env_01_fires_without_the_python_of_a_launcher_that_needs_no_program(check):
    machine = check({"launcher.program": None, "cluster.python": "/nowhere/python"})
    assert texts(machine)[0].startswith(
        "error ENV-01 launcher: the Python of cluster.python of launcher mpich was not found"
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(b"rubbish", "JSONDecodeError: Expecting value", id="no json"),
        pytest.param(b"{}", "KeyError: 'disk_bytes'", id="lacks"),
        pytest.param(b"[]", "TypeError: ", id="list"),
        pytest.param(
            preflight.subprocess.CalledProcessError(2, ["x"], stderr=b"a\nusers is too large\n"),
            "users is too large",
            id="says why",
        ),
        pytest.param(
            preflight.subprocess.CalledProcessError(2, ["x"], stderr=b""),
            "exit status 2",
            id="mute",
        ),
        pytest.param(
            preflight.subprocess.TimeoutExpired(["x"], 60), "TimeoutExpired: ", id="hangs"
        ),
        pytest.param(FileNotFoundError(2, "No such file"), "FileNotFoundError: ", id="not there"),
    ],
)
def test_env_02_fires_where_the_engine_cannot_say_what_it_needs(check, answers, answer, text):
    answers[1][0] = answer
    machine = check()
    (found,) = texts(machine)
    assert found.startswith(
        f"error ENV-02 benchmark: engine kvcache_native cannot run this job: {text}"
    )
    assert machine.needs is None


def test_the_engine_is_asked_for_every_option_and_the_largest_counts(check, answers, monkeypatch):
    asked, _ = answers
    sizes = iter([1, 5 * GIB, 2])
    monkeypatch.setattr(
        preflight.processes,
        "output",
        lambda argv, **more: (
            asked.append((list(argv), more["env"]))
            or json.dumps(NEEDS | {"disk_bytes": next(sizes)}).encode()
        ),
    )
    options = [{"name": name, "set": {}} for name in ("a", "b", "c")]
    machine = check({"benchmark.options": options, "cluster.ranks_per_host": 3})
    assert machine.needs.disk_bytes == 5 * GIB
    assert [argv[4:] for argv, _ in asked] == [
        ["--stage", "needs", "--ranks", "3", "--option", name] for name in ("a", "b", "c")
    ]


def test_memory_counts_for_the_option_that_needs_most_of_it(check, answers, monkeypatch):
    needs = iter([(5 * GIB, 1), (1, 10**18)])
    monkeypatch.setattr(
        preflight.processes,
        "output",
        lambda argv, **more: json.dumps(
            NEEDS | dict(zip(("disk_bytes", "memory_bytes_per_rank"), next(needs), strict=True))
        ).encode(),
    )
    options = [{"name": name, "set": {}} for name in ("a", "b")]
    assert ("ENV-03", "error") in rules(check({"benchmark.options": options}))


def memory(monkeypatch, available):
    kind = namedtuple("Memory", "available")
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: kind(available))


def test_env_03_fires_without_memory(check, monkeypatch):
    memory(monkeypatch, 3 * GIB - 1)
    assert texts(check({"cluster.ranks_per_host": 3})) == [
        "error ENV-03 cluster.ranks_per_host: 3 ranks x 1.00 GiB = 3.00 GiB of memory, available "
        "are 3.00 GiB\n  hint: fewer ranks on a host"
    ]


def test_env_03_shows_how_the_engine_reckons(check, answers, monkeypatch):
    needs = iter([(GIB, "1 queue of 1 GiB"), (2 * GIB, "2 queues of 1 GiB"), (1, None)])

    def answer(*_arguments, **_more):
        size, arithmetic = next(needs)
        told = {} if arithmetic is None else {"memory_arithmetic": arithmetic}
        return json.dumps(NEEDS | {"memory_bytes_per_rank": size, **told}).encode()

    monkeypatch.setattr(preflight.processes, "output", answer)
    memory(monkeypatch, 0)
    machine = check({"benchmark.options": [{"name": name, "set": {}} for name in ("a", "b", "c")]})
    (found,) = texts(machine)
    assert found.startswith(
        "error ENV-03 cluster.ranks_per_host: 2 ranks x 2.00 GiB (2 queues of 1 GiB) = 4.00 GiB of "
    )
    assert machine.needs.as_document()["memory_arithmetic"] == "2 queues of 1 GiB"


def test_env_03_is_silent_with_memory_and_for_other_hosts(check, monkeypatch):
    memory(monkeypatch, 3 * GIB)
    assert texts(check({"cluster.ranks_per_host": 3})) == []
    memory(monkeypatch, 0)
    assert texts(check({"cluster.hosts": ["node1"]})) == []


# ---------------------------------------------------------------- PKG


@pytest.fixture
def lock(tmp_path):
    """Writes a lock file; the change of a job that names it."""

    def lock(text):
        (tmp_path / "my.lock").write_text(text)
        return {"lockfile": str(tmp_path / "my.lock")}

    return lock


def test_pkg_03_fires_where_a_package_is_not_as_locked(check, lock, tmp_path):
    rich = version("rich")
    assert texts(check(lock(f"rich==1.0\nnosuch-package==3\nnumpy=={version('numpy')}\n"))) == [
        f"error PKG-03 lockfile: {tmp_path}/my.lock: nosuch-package 3 is missing; rich is {rich} "
        f"instead of 1.0\n  hint: {sys.executable} -m pip install nosuch-package==3 rich==1.0"
    ]


def test_pkg_03_is_silent_where_all_is_as_locked(check, lock, tmp_path):
    machine = check(lock(f"rich=={version('rich')}\nmpi4py==0.1\n"))
    assert texts(machine) == []
    assert machine.lockfile.path == tmp_path / "my.lock"
    assert check().lockfile is None


def test_pkg_03_names_the_host_whose_versions_it_was_given(lock, tmp_path):
    lock("rich==1.0\n")
    locked = read_lockfile(tmp_path / "my.lock")
    (found,) = lockfile_findings(locked, {"rich": "2.0"}, python="/py", host="node2")
    assert str(found) == (
        f"error PKG-03 node2 lockfile: {tmp_path}/my.lock: rich is 2.0 instead of 1.0\n"
        "  hint: /py -m pip install rich==1.0"
    )
    assert [*lockfile_findings(locked, {"rich": "1.0"}, python="/py")] == []


def test_a_lock_file_that_has_gone_is_no_finding(check, tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        check({"lockfile": str(tmp_path / "gone.lock")})


# ---------------------------------------------------------------- DIR


def test_dir_01_fires_where_data_dir_is_missing(check, tmp_path):
    path = tmp_path / "nowhere"
    assert texts(check({"data_dir": str(path)})) == [
        f"error DIR-01 data_dir: {path} does not exist\n"
        f"  hint: mkdir -p {path}, or data_dir=DIRECTORY"
    ]


def test_dir_01_fires_where_data_dir_is_a_file(check, tmp_path):
    (tmp_path / "file").write_text("")
    assert texts(check({"data_dir": str(tmp_path / "file")})) == [
        f"error DIR-01 data_dir: {tmp_path}/file is not a directory\n  hint: data_dir=DIRECTORY"
    ]


def test_dir_01_and_02_fire_where_nothing_can_be_written(check, tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
    hint = "mend its permissions or its space"
    assert texts(check()) == [
        f"error DIR-01 data_dir: {tmp_path}/data cannot be written: Read-only file system\n"
        f"  hint: {hint}",
        f"error DIR-02 results_dir: {tmp_path} cannot be written: Read-only file system\n"
        f"  hint: {hint}",
    ]


def test_dir_02_fires_where_results_dir_is_below_a_file(check, tmp_path):
    (tmp_path / "file").write_text("")
    machine = check({"results_dir": str(tmp_path / "file" / "results")})
    assert f"error DIR-02 results_dir: {tmp_path}/file is not a directory" in "".join(
        texts(machine)
    )


def test_dir_02_is_silent_where_results_dir_can_be_made(check, tmp_path):
    assert texts(check({"results_dir": str(tmp_path / "a/b/c")})) == []


@pytest.mark.parametrize("through", ["itself", "link"])
def test_dir_03_fires_where_both_are_one(check, tmp_path, through):
    results = tmp_path / "data"
    if through == "link":
        results = tmp_path / "link"
        results.symlink_to(tmp_path / "data")
    assert texts(check({"results_dir": str(results)})) == [
        f"error DIR-03 data_dir: {tmp_path}/data is also results_dir: results must not be on the "
        "storage under test\n  hint: results_dir=DIRECTORY"
    ]


# ---------------------------------------------------------------- CAP


def space(monkeypatch, free_bytes):
    kind = namedtuple("Space", "f_bavail f_frsize")
    monkeypatch.setattr(preflight.os, "statvfs", lambda path: kind(free_bytes // 512, 512))


def test_cap_01_fires_without_space_and_shows_the_arithmetic(check, tmp_path, monkeypatch):
    space(monkeypatch, GIB)
    assert texts(check()) == [
        f"error CAP-01 data_dir: {tmp_path}/data has 1.00 GiB free, the job needs 3.00 GiB "
        "(3 users x 1 GiB); 2.00 GiB are missing\n"
        "  hint: make space, choose another data_dir, or a smaller working set"
    ]


def test_cap_01_is_silent_with_just_enough_space(check, monkeypatch):
    space(monkeypatch, 3 * GIB)
    assert texts(check()) == []


@pytest.mark.parametrize(
    ("division", "severity"), [("whatif", "info"), ("closed", "error"), ("open", "error")]
)
def test_cap_03_fires_where_both_are_on_one_file_system(check, tmp_path, division, severity):
    assert rules(check({"division.name": division})) == [("CAP-03", severity)]
    (finding,) = check({"division.name": division}).findings
    assert finding.text == f"{tmp_path}/results is on the file system of data_dir"


def test_cap_03_is_silent_where_they_are_apart(check):
    if Path("/dev/shm").stat().st_dev == Path("/").stat().st_dev or not os.access("/dev/shm", 2):
        pytest.skip("no second file system")
    assert rules(check({"results_dir": "/dev/shm/mlps-no-such-directory"})) == []


def test_all_findings_come_together(check, answers, tmp_path):
    answers[1][0] = b""
    machine = check({"launcher.program": "nosuch", "data_dir": str(tmp_path / "nowhere")})
    assert [rule for rule, _ in rules(machine)] == ["ENV-01", "ENV-02", "DIR-01"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_real_engine_states_its_needs(make_spec, tmp_path, ranks):
    spec = make_spec({"data_dir": str(tmp_path), "cluster.ranks_per_host": ranks})
    machine = check_machine(spec, make_plan(spec, python=sys.executable), os.environ)
    assert machine.needs.disk_bytes > 0
    assert f"{ranks} rank" in machine.needs.disk_arithmetic
