"""Broken environments on real hosts: each gives its finding and what to type, in time and together
with the others, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster.hosts import Cluster, Node

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

MLPS = Path(sys.executable).parent / "mlps"
LIMIT_S = 60.0


@dataclass
class Site:
    """Two hosts, a storage that they share, and a user who types at the head."""

    cluster: Cluster
    data: Path
    results: Path

    @property
    def ssh(self) -> Path:
        return self.cluster.ssh

    def words(self, *overrides: str) -> list[str]:
        own = {
            "cluster.hosts": '["node[1-2]"]',
            "cluster.ranks_per_host": "1",
            "benchmark": "kvcache/quick",
            "data_dir": str(self.data),
            "results_dir": str(self.results),
            "launcher.ssh": str(self.ssh),
        }
        typed = {word.partition("=")[0] for word in overrides}
        return [*(f"{key}={value}" for key, value in own.items() if key not in typed), *overrides]

    def mlps(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.cluster.head.run([MLPS, *words], cwd=self.cluster.directory, **more)

    def doctor(self, *overrides: str, **more: Any) -> dict[str, Any]:
        """The document of a doctor that finds errors, within the limit and leaving nothing."""
        started = time.monotonic()
        done = self.mlps("doctor", "--json", *self.words(*overrides), **more)
        elapsed_s = time.monotonic() - started
        assert done.returncode == 3, done.stdout + done.stderr
        assert elapsed_s < LIMIT_S
        self.check_nothing_left()
        return json.loads(done.stdout)

    def errors(self, *overrides: str, **more: Any) -> list[dict[str, Any]]:
        found = self.doctor(*overrides, **more)["findings"]
        return [finding for finding in found if finding["severity"] == "error"]

    def check_nothing_left(self) -> None:
        assert list(self.data.glob(".mlps*")) == []
        assert not self.results.exists() or list(self.results.iterdir()) == []
        left = [
            (name, process.command)
            for name, process in self.cluster.processes()
            if any(
                word in process.command for word in ("mlps.engine", "bin/mlps", "mpiexec", "hydra")
            )
        ]
        assert left == []


@pytest.fixture
def make_site(make_hosts, tmp_path) -> Callable[[int], Site]:
    """Makes a site with so many hosts."""

    def make(count: int) -> Site:
        data = tmp_path / "storage" / "data"
        data.mkdir(parents=True)
        return Site(cluster=make_hosts(count), data=data, results=Path("/run/results"))

    return make


@pytest.fixture
def site(make_site) -> Site:
    return make_site(2)


def rules(findings):
    return [(finding["rule"], finding["host"]) for finding in findings]


def only(findings, rule, host):
    assert rules(findings) == [(rule, host)], findings
    return findings[0]


# ---------------------------------------------------------------- all in order


def test_hosts_in_order_are_ready_and_show_what_was_checked(site):
    done = site.mlps("doctor", *site.words())
    assert (done.returncode, done.stderr) == (0, "")
    # Together where all is equal; on a busy machine their clocks seem to differ.
    assert re.findall(r"^(node\S+) +ssh", done.stdout, re.M) in (["node[1-2]"], ["node1", "node2"])
    assert "ok          CAP-02  every rank sees the same data_dir" in done.stdout
    assert done.stdout.endswith("ready\n")
    site.check_nothing_left()


def test_open_mpi_musters_its_ranks_too(site):
    if shutil.which("mpirun.openmpi") is None:
        pytest.skip("needs mpirun.openmpi: apt-get install openmpi-bin")
    program = "launcher.program=mpirun.openmpi"
    words = site.words("launcher=openmpi4", "launcher.run_as_root=true", program)
    done = site.mlps("doctor", *words)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- reaching hosts


def test_all_that_is_broken_is_said_at_once(make_site):
    site = make_site(7)
    hosts, known = site.cluster, site.cluster.directory / "known_hosts"
    hosts.node("node1").kill_sshd()
    hosts.node("node2").link_down()
    another_key = (hosts.node("node1").home / "host_key.pub").read_text()
    lines = known.read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("node3", "node4"))]
    known.write_text("\n".join([*lines, f"node4 {another_key}"]))
    before = known.read_bytes()
    hosts.node("node5").private_tmpfs(site.data.parent, size="2g")
    read_only(hosts.node("node6"), site.data)
    found = site.errors(
        'cluster.hosts=["node[1-7]",nodeX]',
        "launcher.program=nosuch-mpiexec",
        "results_dir=/proc/results",
    )

    told = {(finding["rule"], finding["host"]): finding for finding in found}
    assert set(told) == {
        ("ENV-01", None), ("DIR-02", None), ("ENV-04", "node1"), ("ENV-04", "node2"),
        ("ENV-04", "node3"), ("ENV-04", "node4"), ("DIR-01", "node5"), ("DIR-01", "node6"),
        ("ENV-04", "nodeX"),
    }  # fmt: skip
    assert len(told) == len(found)

    def says(rule, host, text, hint=""):
        finding = told[rule, host]
        assert text in finding["text"]
        assert hint in (finding["hint"] or "")

    says("ENV-01", None, "nosuch-mpiexec of launcher mpich was not found on PATH", "mpich")
    says("DIR-02", None, "/proc cannot be written: ")
    says("ENV-04", "node1", "Connection refused", "systemctl start sshd")
    says("ENV-04", "node2", "it cannot be reached: ", "ping -c 1 node2")
    known_hint = "ssh-keyscan -H node3 >> ~/.ssh/known_hosts"
    says("ENV-04", "node3", "its host key is not known on this machine", known_hint)
    says("ENV-04", "node4", "is not the one in known_hosts", "ssh-keygen -R node4")
    says("DIR-01", "node5", f"{site.data} does not exist", f"mkdir -p {site.data}")
    says("DIR-01", "node6", f"{site.data} cannot be written: Read-only file system")
    says("ENV-04", "nodeX", "its name does not resolve on this machine", "getent hosts nodeX")
    assert known.read_bytes() == before


def test_a_key_that_is_refused(site):
    (site.cluster.directory / "authorized_keys").write_text("")
    found = only(site.errors(), "ENV-04", "node[1-2]")
    assert "Permission denied" in found["text"]
    assert found["hint"] == 'for host in node1 node2; do ssh-copy-id "$host"; done'


def test_ssh_is_not_installed(site):
    found = only(site.errors("launcher.ssh=/nowhere/ssh"), "ENV-04", None)
    assert found["text"].startswith("/nowhere/ssh, by which launcher mpich reaches hosts, is not")
    assert "openssh" in found["hint"]


def test_a_chatty_shell_is_told_from_a_host_that_is_lost(site):
    wrap_ssh(site, 'echo "Welcome {to} this host"; echo "quota: 90 %" >&2')
    found = only(site.errors(), "ENV-11", None)
    assert "'Welcome {to} this host'" in found["text"]
    assert "must print nothing" in found["hint"]


def test_a_shell_that_runs_nothing(site):
    wrap_ssh(site, "echo This account is not available.; exit 0")
    found = only(site.errors(), "ENV-04", "node[1-2]")
    assert "'This account is not available.'" in found["text"]


def wrap_ssh(site: Site, words: str) -> None:
    """What a shell of the hosts prints or does before it runs anything."""
    program = site.ssh
    inner = program.read_text().splitlines()[1]
    program.write_text(f"#!/bin/sh\n{words}\n{inner}\n")


def test_an_ssh_that_never_answers_ends_at_its_limit(site):
    site.ssh.write_text("#!/bin/sh\nexec sleep 1000\n")
    found = only(site.errors("preflight.ssh_limit_s=2"), "ENV-04", "node[1-2]")
    assert "did not answer in time (preflight.ssh_limit_s=2)" in found["text"]
    assert site.cluster.processes("sleep 1000") == []


# ---------------------------------------------------------------- directories


def read_only(node: Node, path: Path) -> None:
    for words in (["mount", "--bind", path, path], ["mount", "-o", "remount,bind,ro", path]):
        done = node.run(words)
        assert done.returncode == 0, done.stderr


def test_a_directory_that_is_not_shared_names_the_hosts(site):
    site.cluster.node("node2").private_tmpfs(site.data, size="2g")
    found = only(site.errors(), "CAP-02", "node2")
    assert found["text"] == (
        f"{site.data} is not the directory that node1 has: rank 1 did not see the file that rank 0 "
        "wrote there"
    )
    assert "mount the same file system" in found["hint"]


def test_a_full_file_system(site):
    for node in site.cluster.nodes:
        node.private_tmpfs(site.data, size="1m")
        node.run(["dd", "if=/dev/zero", f"of={site.data}/full", "bs=4k"])
    found = site.errors()
    assert ("DIR-01", "node[1-2]") in rules(found)
    assert ("CAP-01", "node[1-2]") in rules(found)
    assert any("No space left on device" in finding["text"] for finding in found)
    assert any("0.00 GiB free" in finding["text"] for finding in found)


def test_results_in_data_dir(site):
    only(site.errors(f"results_dir={site.data}"), "DIR-03", None)


# ---------------------------------------------------------------- software


def venv(site: Site, name: str, *, broken: str) -> Path:
    """A Python with all of this environment but for what some words take away from it."""
    directory = site.cluster.directory / name
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(broken)
    program = directory / "python"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={directory} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    program.chmod(0o755)
    return program


HIDE = """\
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Hidden())
"""


def on_hosts(site: Site, programs: Mapping[str, Path]) -> tuple[str, str]:
    """Overrides: at one path these hosts have these programs and the others the real Python."""
    shared = site.cluster.directory / "bin"
    shared.mkdir()
    python = shared / "python"
    others = [
        f'[ "$(hostname)" = {host} ] && exec {program} "$@"\n' for host, program in programs.items()
    ]
    python.write_text(f'#!/bin/sh\n{"".join(others)}exec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    library = Path(sys.prefix, "lib", "libmpi.so.12")
    return f"cluster.python={python}", f"launcher.env.MPI4PY_LIBMPI={library}"


MISSING = """\
import importlib.metadata as metadata
found = metadata.version
def version(name):
    if name == "numpy":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
"""


OLD = MISSING.replace('"numpy"', '"mlps"').replace(
    "raise metadata.PackageNotFoundError(name)", 'return "0.0.1"'
)
PYTHON_39 = "import platform; platform.python_version = lambda: '3.9.2'"


def test_each_host_tells_what_its_own_python_lacks(make_site):
    site = make_site(7)
    broken = {
        "node3": HIDE.format(names=["mlps"]),
        "node4": HIDE.format(names=["psutil"]),
        "node5": MISSING,
        "node6": OLD,
        "node7": PYTHON_39,
    }
    programs = {host: venv(site, f"python-{host}", broken=words) for host, words in broken.items()}
    programs["node2"] = Path("/nowhere/python")
    found = site.errors('cluster.hosts=["node[1-7]"]', *on_hosts(site, programs))

    told = {(finding["rule"], finding["host"]): finding for finding in found}
    assert len(told) == len(found) == 6
    texts = {key: finding["text"] for key, finding in told.items()}
    assert "it has no usable Python at this path" in texts["ENV-06", "node2"]
    assert "cluster.python=PATH" in told["ENV-06", "node2"]["hint"]
    assert "No module named 'mlps'" in texts["ENV-05", "node3"]
    assert "No module named 'psutil'" in texts["ENV-09", "node4"]
    assert texts["ENV-09", "node5"] == (
        "Python package numpy, which kvcache/quick needs, is not installed"
    )
    assert told["ENV-09", "node5"]["hint"].endswith("-m pip install numpy")
    assert texts["ENV-05", "node6"].startswith("mlps is 0.0.1, on this machine ")
    assert texts["ENV-06", "node7"].startswith("Python is 3.9.2, on this machine 3.")


def test_a_program_of_the_benchmark_that_is_missing(site):
    path = site.cluster.directory / "path"
    path.mkdir()
    for name in ("sh", "hostname", "ssh"):
        (path / name).symlink_to(shutil.which(name))
    found = site.errors(
        "benchmark.roofline.tool=fio",
        "benchmark.roofline.when=success",
        f"launcher.env.PATH={path}",
    )
    (missing,) = [finding for finding in found if finding["rule"] == "ENV-08"]
    assert missing["host"] == "node[1-2]"
    assert missing["text"] == "program fio, which kvcache/quick starts, is not on PATH"
    assert "fio" in missing["hint"]


# ---------------------------------------------------------------- launchers


def test_root_without_permission_under_open_mpi(site):
    if shutil.which("mpirun.openmpi") is None:
        pytest.skip("needs mpirun.openmpi: apt-get install openmpi-bin")
    words = ("launcher=openmpi4", "launcher.program=mpirun.openmpi")
    found = only(site.errors(*words), "ENV-10", None)
    assert found["hint"].startswith("launcher.run_as_root=true")


def test_mpi4py_against_another_mpi(site):
    found = only(
        site.errors("launcher.env.MPI4PY_LIBMPI=/nowhere/libmpi.so"), "ENV-07", "node[1-2]"
    )
    assert found["text"].startswith("mpi4py cannot load an MPI library: ")
    assert found["hint"].startswith("launcher.env.MPI4PY_LIBMPI=")


def test_a_launcher_of_another_mpi(site):
    program = Path(sys.executable).with_name("mpiexec.hydra")
    words = ("launcher=openmpi4", f"launcher.program={program}", "launcher.run_as_root=true")
    found = [finding for finding in site.errors(*words) if finding["host"] is None]
    assert found[0]["rule"] == "ENV-07"
    assert "launcher=mpich" in found[0]["hint"]


def test_a_launcher_that_cannot_start_its_daemons(site):
    program = site.cluster.directory / "mpiexec"
    program.write_text("#!/bin/sh\necho 'proxy: cannot connect to node2' >&2\nexit 7\n")
    program.chmod(0o755)
    found = only(site.errors(f"launcher.program={program}"), "ENV-11", None)
    assert "exit status 7" in found["text"]
    assert found["text"].endswith("it said: proxy: cannot connect to node2")


def test_a_launcher_that_hangs(site):
    program = site.cluster.directory / "mpiexec"
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\nexec sleep 1000\n')
    program.chmod(0o755)
    words = (f"launcher.program={program}", "preflight.launch_limit_s=2")
    found = only(site.errors(*words), "ENV-11", None)
    assert "it took longer than 2" in found["text"]
    assert site.cluster.processes("sleep 1000") == []


# ---------------------------------------------------------------- resources


def limited(site: Site, words: str) -> None:
    """What hosts are told to run begins with these words of a shell."""
    for node in site.cluster.nodes:
        script = node.home / "force"
        script.write_text(f'{words}\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        with (node.home / "sshd_config").open("a") as config:
            config.write(f"ForceCommand /bin/sh {script}\n")
        node.kill_sshd()
        node.start_sshd()


def test_a_low_limit_of_open_files(site):
    limited(site, "ulimit -n 200")
    found = only(site.errors(), "ENV-12", "node[1-2]")
    assert found["text"].endswith("`ulimit -Hn` is 200")


def test_too_little_memory(site):
    words = (
        "cluster.slots_per_host=1024",
        "cluster.ranks_per_host=1024",
        "preflight.skip=[ENV-11]",
    )
    found = site.errors("benchmark.queue_depth=1024", *words)
    assert ("ENV-03", "node[1-2]") in rules(found)
    (memory,) = [finding for finding in found if finding["rule"] == "ENV-03"]
    assert memory["text"].startswith("1024 ranks x ")


def test_cores_that_are_taken_away_are_a_warning(site):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs 2 cores")
    limited(site, "taskset -cp 0 $$ > /dev/null")
    done = site.mlps("doctor", "--json", *site.words())
    assert done.returncode == 0, done.stdout
    found = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "warning"]
    assert rules(found) == [("ENV-14", "node[1-2]")]


# ---------------------------------------------------------------- configuration, and all together


def test_a_typo_in_a_hostfile_is_no_matter_of_hosts(site):
    hostfile = site.cluster.directory / "hostfile"
    hostfile.write_text("node1 slots=two\n")
    done = site.mlps(
        "doctor", *site.words("cluster.hosts=[localhost]", f"cluster.hostfile={hostfile}")
    )
    assert done.returncode == 2
    assert "hostfile" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rule_that_does_not_exist_cannot_be_skipped(site):
    done = site.mlps("doctor", *site.words("preflight.skip=[ENV-77]"))
    assert done.returncode == 2
    assert "ENV-77: no rule that can be skipped" in done.stderr


def test_a_run_is_refused_in_the_same_words_and_nothing_is_written(site):
    site.cluster.node("node2").private_tmpfs(site.data, size="2g")
    started = time.monotonic()
    done = site.mlps(*site.words())
    assert done.returncode == 3
    assert time.monotonic() - started < LIMIT_S
    assert (
        f"error CAP-02 node2 data_dir: {site.data} is not the directory that node1" in done.stderr
    )
    site.check_nothing_left()


def test_a_skipped_rule_lets_a_run_go_on_and_is_in_its_verdict(site):
    program = venv(site, "py39", broken=PYTHON_39)
    skipping = (*on_hosts(site, {"node2": program}), "preflight.skip=[ENV-06]")
    done = site.mlps("--json", *site.words(*skipping), timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warning ENV-06 node2 cluster.python: Python is 3.9.2" in done.stderr
    published = json.loads(done.stdout)
    (found,) = [finding for finding in published["findings"] if finding["rule"] == "ENV-06"]
    assert (found["severity"], found["host"]) == ("warning", "node2")
    assert found["text"].endswith("(does not stop the job: preflight.skip)")
