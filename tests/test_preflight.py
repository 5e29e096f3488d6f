"""The check as a whole: what is asked where, what stops a job, what is skipped, what is kept.

Each rule by itself is in test_host_rules, test_directories and test_muster.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from mlps.engine import preflight
from mlps.engine.children import Answer, Line
from mlps.engine.errors import ConfigError
from mlps.engine.host_probe import Request, host_facts
from mlps.engine.lockfile import read_lockfile
from mlps.engine.needs import Needs, largest
from mlps.engine.plan import make_plan
from mlps.engine.preflight import check_machine, lockfile_findings
from mlps.engine.reach import Probed, Trouble
from mlps.engine.rules import check_skips
from mlps.engine.signals import StopRequests

GIB = 2**30
NEEDS = {"disk_bytes": 4096, "memory_bytes_per_rank": 4096, "disk_arithmetic": "1 user x 4 KiB"}


def reply(text: str, status: int | None = 0, **more) -> Answer:
    lines = tuple(Line(text=line, unix_s=time.time()) for line in text.splitlines())
    return Answer(exit_status=status, lines=lines, **more)


@pytest.fixture
def answers(monkeypatch):
    """What programs of this machine say instead of being started; the commands are kept."""
    said = {
        "needs": reply(json.dumps({"event": "needs", **NEEDS})),
        "mpi": reply("MPICH Version: 5.0.2"),
        "version": reply("HYDRA build details:\n Version: 5.0.2"),
        "asked": [],
    }

    def kind(command):
        if "needs" in command.argv:
            return "needs"
        return "version" if "--version" in command.argv else "mpi"

    def run_all(commands, *, stopped):
        said["asked"] += [command.argv for command in commands]
        found = [said[kind(command)] for command in commands]
        return [answer.pop(0) if isinstance(answer, list) else answer for answer in found]

    monkeypatch.setattr(preflight, "run_all", run_all)
    return said


@pytest.fixture
def check(make_spec, tmp_path, answers):
    """A check in which each thing is in order unless the test changes it."""
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
        plan = make_plan(spec, python=sys.executable)
        return check_machine(spec, plan, environ or os.environ)

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
    assert machine.launcher_version == "HYDRA build details:; Version: 5.0.2"
    assert machine.muster is None


def test_nothing_stays_on_disk(check, tmp_path):
    check()
    assert [path.name for path in tmp_path.rglob("*")] == ["data"]


def test_one_host_costs_no_ssh_and_no_launch(check, monkeypatch):
    for name in ("by_ssh", "by_launcher", "call_muster"):
        monkeypatch.setattr(preflight, name, lambda *_, **__: 1 / 0)
    (probed,) = check({"cluster.ranks_per_host": 4}).probed
    assert probed.here
    assert probed.facts["mpi"] == {"library": "MPICH Version: 5.0.2", "error": None}


def test_all_findings_come_together_errors_first(check, answers, tmp_path):
    answers["needs"] = reply("")
    machine = check({"launcher.program": "nosuch", "data_dir": str(tmp_path / "nowhere")})
    assert rules(machine) == [("DIR-01", "error"), ("ENV-01", "error"), ("ENV-02", "error")]


# ---------------------------------------------------------------- the launcher and the engine


def test_env_01_fires_without_a_launcher(check):
    machine = check(
        {"launcher.program": "nosuch-mpiexec", "launcher.install": {"pip": "mpich"}},
        {"PATH": "/nowhere"},
    )
    assert machine.program is None
    pip = shlex.join([sys.executable, "-m", "pip", "install", "mpich"])
    assert texts(machine) == [
        "error ENV-01 launcher: nosuch-mpiexec of launcher mpich was not found on PATH\n"
        f"  hint: {pip}; installed are launcher=mpich"
    ]


def test_env_17_fires_outside_of_an_allocation_and_nothing_is_launched(check, monkeypatch):
    monkeypatch.setattr(preflight, "by_launcher", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(preflight, "call_muster", lambda *_, **__: 1 / 0)
    changes = {
        "launcher.needs_env": ["SLURM_JOB_ID"],
        "launcher.scheduler_env": ["SLURM_JOB_ID"],
        "launcher.reach": "launcher",
        "cluster.hosts": ["node1", "node2"],
    }
    machine = check(changes, {"PATH": os.environ["PATH"]})
    assert [rule for rule, severity in rules(machine) if severity == "error"] == ["ENV-17"]
    assert texts(machine)[0] == (
        "error ENV-17 launcher: launcher mpich works inside an allocation only, and SLURM_JOB_ID "
        "is not set\n  hint: start mlps inside one, for example: salloc -N 2 "
        "--ntasks-per-node=2 mlps ..."
    )


def test_env_17_does_not_fire_inside_of_one(check):
    changes = {"launcher.needs_env": ["A_JOB"], "launcher.scheduler_env": ["A_*"]}
    assert ("ENV-17", "error") not in rules(check(changes, {**os.environ, "A_JOB": "7"}))


def test_env_06_fires_without_the_python_of_the_ranks(check, monkeypatch):
    gone = Answer(exit_status=None, start_error="/nowhere/python: No such file")
    monkeypatch.setattr(preflight, "run_all", lambda commands, **_: [gone for _ in commands])
    machine = check({"cluster.python": "/nowhere/python"})
    assert [rule for rule, severity in rules(machine) if severity == "error"] == [
        "ENV-02",
        "ENV-06",
    ]
    assert "it has no usable Python at this path: /nowhere/python cannot be run" in "".join(
        texts(machine)
    )


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        pytest.param(reply("rubbish"), "JSONDecodeError: Expecting value", id="no json"),
        pytest.param(reply("{}"), "KeyError: 'disk_bytes'", id="lacks"),
        pytest.param(reply("[]"), "TypeError: ", id="list"),
        pytest.param(
            reply("", 2, stderr="a\nusers is too large\n"), "users is too large", id="says why"
        ),
        pytest.param(reply("", 2), "exit status 2", id="mute"),
        pytest.param(reply("", None), "it did not answer within 60 s", id="hangs"),
        pytest.param(
            reply("", None, start_error="python: No such file"), "python: No such", id="not there"
        ),
    ],
)
def test_env_02_fires_where_the_engine_cannot_say_what_it_needs(check, answers, answer, text):
    answers["needs"] = answer
    machine = check()
    (found,) = texts(machine)
    assert found.startswith(
        f"error ENV-02 benchmark: engine kvcache_native cannot run this job: {text}"
    )
    assert machine.needs is None


def test_the_engine_is_asked_for_every_option(check, answers):
    options = [{"name": name, "set": {}} for name in ("a", "b", "c")]
    check({"benchmark.options": options, "cluster.ranks_per_host": 3})
    assert [argv[4:] for argv in answers["asked"] if "needs" in argv] == [
        ("--stage", "needs", "--ranks", "3", "--option", name) for name in ("a", "b", "c")
    ]


def test_of_all_options_the_largest_needs_count():
    def needs(disk, memory, arithmetic, **more):
        return Needs(
            disk_bytes=disk,
            memory_bytes_per_rank=memory,
            disk_arithmetic=f"{disk}",
            memory_arithmetic=arithmetic,
            **more,
        )

    found = largest(
        [
            needs(5, 1, "m1", programs=("fio",), open_files_per_rank=7),
            needs(1, 9, "m9", packages=("numpy",), open_files_per_rank=3),
            needs(2, 2, "m2", packages=("mpi4py", "numpy")),
        ]
    )
    assert found == needs(
        5, 9, "m9", programs=("fio",), packages=("mpi4py", "numpy"), open_files_per_rank=7
    )


def test_what_the_benchmark_needs_is_looked_for(check, answers):
    answers["needs"] = reply(
        json.dumps(NEEDS | {"programs": ["no-such-fio"], "packages": ["no-such-package"]})
    )
    assert [rule for rule, _ in rules(check())][:2] == ["ENV-08", "ENV-09"]


def test_env_03_and_cap_01_count_for_this_machine(check, answers):
    huge = {"disk_bytes": 10**18, "memory_bytes_per_rank": 10**15}
    answers["needs"] = reply(json.dumps(NEEDS | huge))
    assert [rule for rule, severity in rules(check()) if severity == "error"] == [
        "CAP-01",
        "ENV-03",
    ]


@pytest.mark.parametrize(
    ("division", "severity"), [("whatif", "info"), ("closed", "error"), ("open", "error")]
)
def test_cap_03_counts_where_a_division_demands_it(check, division, severity):
    assert rules(check({"division.name": division})) == [("CAP-03", severity)]


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_real_engine_states_its_needs(make_spec, tmp_path, ranks):
    spec = make_spec({"data_dir": str(tmp_path), "cluster.ranks_per_host": ranks})
    machine = check_machine(spec, make_plan(spec, python=sys.executable), os.environ)
    assert machine.needs.disk_bytes > 0
    assert f"{ranks} rank" in machine.needs.disk_arithmetic
    assert machine.needs.packages == (("numpy",) if ranks == 1 else ("mpi4py", "numpy"))
    assert machine.needs.open_files_per_rank > 0


# ---------------------------------------------------------------- many hosts


@pytest.fixture
def hosts(monkeypatch, tmp_path):
    """What other hosts say instead of being asked: facts of this machine, changed by name."""
    changes: dict[str, object] = {}
    musters = []
    known: list[object] = []

    def by_ssh(names, question, **_):
        request = Request(**json.loads(question.stdin))
        musters.append(("asked", tuple(names), request))
        return {name: probed(name, request) for name in names}

    def probed(name, request):
        change = changes.get(name, {})
        if isinstance(change, Trouble):
            return Probed(name=name, here=False, trouble=change)
        if request not in known:
            known.append(request)
            mpi = {"library": "MPICH Version: 5.0.2", "error": None}
            known.append(host_facts(request, request.env, mpi=mpi))
        facts = known[1] | {"mlps_host": name}
        return Probed(name=name, here=False, facts=facts | change, clock_offset_s=0.0)

    def call_muster(_spec, hosts, **_):
        musters.append(("muster", tuple(host.name for host in hosts)))

    monkeypatch.setattr(preflight, "by_ssh", by_ssh)
    monkeypatch.setattr(preflight, "call_muster", call_muster)
    monkeypatch.setattr(preflight, "judge_muster", lambda *_: [])
    return changes, musters


THREE = {"cluster.hosts": ["n1", "n2", "n3"]}


def test_every_host_is_asked_and_then_all_are_mustered(check, hosts, tmp_path):
    machine = check(THREE)
    (_, names, request), muster = hosts[1]
    assert names == ("n1", "n2", "n3")
    assert request.data_dir == str(tmp_path / "data")
    assert request.mpi
    assert "MLPS_JOB" not in request.env
    assert muster == ("muster", ("n1", "n2", "n3"))
    assert texts(machine) == []


def test_this_machine_is_not_asked_through_ssh(check, hosts):
    machine = check({"cluster.hosts": ["localhost", "n2"]})
    assert hosts[1][0][1] == ("n2",)
    assert [probed.here for probed in machine.probed] == [True, False]


def test_hosts_that_can_run_ranks_are_mustered_without_the_others(check, hosts):
    hosts[0]["n2"] = Trouble(kind="login", text="Permission denied")
    machine = check(THREE)
    assert hosts[1][-1] == ("muster", ("n1", "n3"))
    assert [(f.rule, f.host) for f in machine.findings if f.severity == "error"] == [
        ("ENV-04", "n2")
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"launcher.program": "nosuch"}, "the launcher is not installed"),
        ({"preflight.skip": ["ENV-11"]}, "preflight.skip holds ENV-11"),
        ({"launcher.mpi": "openmpi"}, "the launcher cannot start ranks"),
        ({"cluster.hosts": ["n1", "n2"]}, "fewer than 2 hosts can run a rank"),
    ],
)
def test_no_muster_is_said_with_its_reason(check, hosts, changes, reason):
    hosts[0]["n2"] = {"python": "2.7.1"}
    machine = check(THREE | changes)
    assert [word for word, *_ in hosts[1]] == ["asked"]
    (found,) = [finding for finding in machine.findings if finding.rule == "ENV-11"]
    assert found.text.startswith(f"no trial launch was made: {reason}; ")


def test_a_host_that_nobody_may_ask_is_mustered_all_the_same(check, hosts):
    machine = check(THREE | {"preflight.skip": ["ENV-04"]})
    assert hosts[1] == [("muster", ("n1", "n2", "n3"))]
    assert [probed.facts for probed in machine.probed] == [None] * 3


def test_one_missing_ssh_is_one_finding(check, hosts):
    for name in ("n1", "n2", "n3"):
        hosts[0][name] = Trouble(kind="ssh", text="ssh: No such file or directory")
    machine = check(THREE)
    (found,) = [finding for finding in machine.findings if finding.severity == "error"]
    assert (found.rule, found.host, found.key) == ("ENV-04", None, "launcher.ssh")
    assert "openssh" in found.hint


def test_a_request_to_stop_is_no_error(check, hosts, make_spec, answers, tmp_path):
    stops = StopRequests()
    stops(2, None)
    spec = make_spec(THREE | {"data_dir": str(tmp_path), "launcher.program": "true"})
    machine = check_machine(spec, make_plan(spec, python=sys.executable), os.environ, stops)
    assert machine.muster is None


def test_hosts_reached_by_the_launcher_are_asked_in_one_launch(check, monkeypatch, hosts):
    asked = []

    def by_launcher(names, argv, **_):
        asked.append((names, argv.words))
        return {}

    monkeypatch.setattr(preflight, "by_launcher", by_launcher)
    check(THREE | {"launcher.reach": "launcher", "cluster.ranks_per_host": 4})
    ((names, words),) = asked
    assert names == ["n1", "n2", "n3"]
    assert words[words.index("-n") + 1] == "3"
    assert words[-2] == "mlps.engine.host_probe"
    request = json.loads(base64.b64decode(words[-1]))
    assert Request(**request).mpi


# ---------------------------------------------------------------- skipping and evidence


def test_a_skipped_rule_is_a_warning_that_says_so(check, tmp_path):
    path = tmp_path / "nowhere"
    machine = check({"data_dir": str(path), "preflight.skip": ["DIR-01"]})
    assert texts(machine) == [
        f"warning DIR-01 data_dir: {path} does not exist (does not stop the job: preflight.skip)\n"
        f"  hint: mkdir -p {path}, or data_dir=DIRECTORY"
    ]


@pytest.mark.parametrize("name", ["ENV-99", "JOB-01", "RES-01", ""])
def test_what_cannot_be_skipped_is_refused_with_what_can(make_spec, name):
    with pytest.raises(ConfigError) as caught:
        check_skips(make_spec({"preflight.skip": ["ENV-04", name]}))
    assert caught.value.message == f"preflight.skip: {name}: no rule that can be skipped"
    assert "ENV-04" in caught.value.hint
    assert "CAP-02" in caught.value.hint


def test_rules_of_preflight_can_be_skipped(make_spec):
    check_skips(make_spec({"preflight.skip": ["ENV-04", "DIR-01", "CAP-02", "PKG-03"]}))


def test_the_evidence_is_small_and_can_be_written(check, hosts):
    machine = check({"cluster.hosts": ["n[1-1024]"]})
    evidence = machine.evidence()
    assert len(json.dumps(evidence)) < 200_000
    assert [group["hosts"] for group in evidence["hosts"]["alike"]] == ["n[1-1024]"]
    assert evidence["fs_separation"]["same_filesystem"] is True
    assert evidence["needs"] == NEEDS


def test_a_lock_file_is_compared_with_the_packages_of_every_host(check, hosts, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("psutil==0.0.1\n")
    hosts[0]["n1"] = {"packages": {"psutil": "0.0.1"}}
    machine = check(THREE | {"lockfile": str(lock)})
    found = [finding for finding in machine.findings if finding.rule == "PKG-03"]
    assert [finding.host for finding in found] == ["n[2-3]"]
    assert "psutil" in hosts[1][0][2].packages
    assert machine.lockfile.path == Path(lock)


# ---------------------------------------------------------------- the lock file


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
