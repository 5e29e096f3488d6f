"""Process groups: started with exactly what they are given, ended with all that they started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from mlps.engine import processes
from mlps.engine.hosts import HOSTFILE, HOSTFILE_DESCRIPTOR

pytestmark = pytest.mark.usefixtures("nothing_left")

SLEEPER = "import time; print('here', flush=True); time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    """Starts a script as the first process of a group, with its error output in a file."""
    started = []

    def begin(script, *, name=sys.executable, **env):
        with (tmp_path / "stderr").open("ab") as stderr:
            process = processes.start(
                [name, "-S", "-c", textwrap.dedent(script)],
                env=env,
                program=Path(sys.executable),
                stderr=stderr,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_group_of_its_own_in_the_root_directory(start, tmp_path):
    script = """
        import os, sys
        print(os.getpid() == os.getsid(0) == os.getpgrp(), os.getcwd(), os.environ.get("A"))
        print(open("/proc/self/cmdline").read().split("\\0")[0])
        print(sys.stdin.readline().strip(), file=sys.stderr)
    """
    process = start(script, name="planned-name", A="b")
    out, _ = process.communicate(b"word\n", timeout=10)
    assert out.decode().splitlines() == ["True / b", "planned-name"]
    assert (tmp_path / "stderr").read_text() == "word\n"


def test_end_terminates_first(start):
    script = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("here", flush=True)
        time.sleep(60)
    """
    process = start(script)
    process.stdout.readline()
    processes.end(process, grace_s=5)
    assert process.returncode == 5


def test_addresses_of_those_that_are_connected(start):
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"""
            import socket, sys
            made = socket.create_connection(("127.0.0.1", {server.getsockname()[1]}))
            print("here", flush=True)
            sys.stdin.readline()
        """
        process = start(script)
        process.stdout.readline()
        assert processes.peers(process.pid) == {"127.0.0.1"}
    assert processes.peers(2**22 + 1) == set()


@pytest.fixture
def launcher(start):
    """A launcher that reaches three hosts; told a signal, it waits for one of them and ends."""

    def run(scripts, collects):
        script = f"""
            import os, subprocess, sys
            helpers = [
                subprocess.Popen(
                    [sys.executable, "-S", "-c", text, "root@node" + str(number)],
                    stdin=subprocess.PIPE,
                )
                for number, text in enumerate({scripts!r}, 1)
            ]
            print("here", flush=True)
            sys.stdin.readline()
            for helper in helpers:
                helper.stdin.close()
            for number in {collects!r}:
                helpers[number - 1].wait()
            os._exit(0)  # without asking for the others
        """
        process = start(script)
        process.stdout.readline()
        return process

    processes.adopt_orphans()
    yield run
    processes.end(subprocess.Popen(["true"]), grace_s=0)
    processes.ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)


SOON, CUT_OFF = "import sys; sys.stdin.read()", "import sys; sys.stdin.read(); sys.exit(255)"


@pytest.mark.parametrize(
    ("scripts", "collects", "hosts"),
    [
        pytest.param([SOON, CUT_OFF, SOON], [2], ["node2"], id="the launcher has heard of it"),
        pytest.param([SOON, CUT_OFF, SOON], [], ["node2"], id="ssh was cut off"),
        pytest.param([SOON, SOON, SOON], [], [], id="all end alike"),
    ],
)
def test_the_helper_that_ended_first(launcher, scripts, collects, hosts):
    process = launcher(scripts, collects)
    found = processes.helpers(process.pid, ["node1", "node2", "node3", "node4"])
    assert sorted(found.values()) == ["node1", "node2", "node3"]
    process.stdin.write(b"go\n")
    process.stdin.flush()
    process.wait(10)
    assert [found[pid] for pid in processes.first_ended(found)] == hosts


def test_end_without_grace_kills(start):
    process = start(SLEEPER)
    process.stdout.readline()
    began = time.monotonic()
    processes.end(process, grace_s=0)
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - began < 2


def test_end_leaves_the_exit_status_to_its_owner(start, monkeypatch):
    process = start(SLEEPER)
    process.stdout.readline()

    def kill(pid):
        os.kill(pid, signal.SIGKILL)
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)

    def late(timeout=None):
        raise subprocess.TimeoutExpired("x", timeout)

    monkeypatch.setattr(processes, "_kill", kill)
    with monkeypatch.context() as patch:
        patch.setattr(process, "wait", late)
        processes.end(process, grace_s=0)
    assert process.wait(5) == -signal.SIGKILL


def test_end_of_what_has_ended_is_quick(start):
    process = start("")
    process.wait(10)
    began = time.monotonic()
    processes.end(process, grace_s=5)
    assert process.returncode == 0
    assert time.monotonic() - began < 1


def test_end_takes_children_along(start):
    script = f"""
        import subprocess, sys, time
        child = subprocess.Popen([{sys.executable!r}, "-S", "-c", {SLEEPER!r}],
                                 start_new_session=True, stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(60)
    """
    process = start(script)
    child = int(process.stdout.readline())
    assert psutil.pid_exists(child)
    processes.end(process, grace_s=1)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_a_group_dies_with_its_owner(tmp_path):
    owner = f"""
import os, sys, time
from pathlib import Path
from mlps.engine import processes
from mlps.engine.hosts import HOSTFILE, HOSTFILE_DESCRIPTOR
process = processes.start(["x", "-S", "-c", {SLEEPER!r}], env={{}},
                          program=Path(sys.executable), stderr=sys.stderr.buffer)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE) as process:
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
    gone, alive = psutil.wait_procs([child], timeout=5)
    assert (len(gone), alive) == (1, [])


# ---------------------------------------------------------------- beside launches


@pytest.fixture
def companion():
    """Starts a program that runs beside launches."""
    started = []

    def begin(script, **more):
        argv = [sys.executable, "-S", "-c", textwrap.dedent(script)]
        started.append(processes.accompany(argv, env={}, **more))
        return started[-1]

    yield begin
    for one in started:
        processes.kill_family(one.process)
        for pipe in (one.stdin, one.stdout, one.stderr):
            os.close(pipe)


def test_a_companion_has_pipes_above_the_number_of_a_hostfile(companion):
    script = "import sys; print(sys.stdin.readline().upper()); print('e', file=sys.stderr)"
    one = companion(script)
    os.write(one.stdin, b"word\n")
    assert one.process.wait(10) == 0
    assert os.read(one.stdout, 99).split() == [b"WORD"]
    assert os.read(one.stderr, 99) == b"e\n"
    assert min(one.stdin, one.stdout, one.stderr) > HOSTFILE_DESCRIPTOR


def test_its_input_ends_although_others_were_started_meanwhile(companion, start):
    one = companion("import sys; print('here', flush=True); sys.stdin.read()")
    os.read(one.stdout, 99)
    other = start(SLEEPER)
    other.stdout.readline()
    os.dup2(os.open(os.devnull, os.O_WRONLY), one.stdin)
    assert one.process.wait(10) == 0


def test_a_companion_may_end_with_the_thread_that_started_it(companion):
    made = []

    def begin():
        made.append(companion(SLEEPER, ends_with_caller=True))
        os.read(made[0].stdout, 99)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert made[0].process.wait(10) == -signal.SIGTERM


def test_end_spares_companions_and_what_they_started(start, companion):
    script = """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
        print(child.pid, flush=True)
        time.sleep(60)
    """
    one = companion(script)
    child = psutil.Process(int(os.read(one.stdout, 99)))
    gone = companion("print('here', flush=True)")
    assert os.read(gone.stdout, 99)
    process = start(SLEEPER)
    process.stdout.readline()
    processes.end(process, grace_s=0, spared=lambda: [one.process.pid, gone.process.pid])
    assert process.returncode == -signal.SIGKILL
    assert one.process.poll() is None
    assert child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    assert gone.process.wait(10) == 0, "its exit status belongs to its owner"


def test_output():
    argv = [sys.executable, "-S", "-c", "import os; print(os.environ['A']); input()"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        processes.output(argv, env={"A": "b"}, limit_s=10)
    assert caught.value.output == b"b\n"
    assert b"EOFError" in caught.value.stderr
    assert processes.output([*argv[:-1], "print(1)"], env={}, limit_s=10) == b"1\n"


def test_output_has_a_limit():
    with pytest.raises(subprocess.TimeoutExpired):
        processes.output([sys.executable, "-S", "-c", SLEEPER], env={}, limit_s=0.2)


def test_start_raises_what_the_system_says(tmp_path):
    with (tmp_path / "stderr").open("wb") as stderr, pytest.raises(FileNotFoundError):
        processes.start(["x"], env={}, program=Path("/nowhere/x"), stderr=stderr)


ADOPTER = """
import os, subprocess, sys
import psutil
from mlps.engine import processes
from mlps.engine.hosts import HOSTFILE, HOSTFILE_DESCRIPTOR
processes.adopt_orphans()
orphan = psutil.Process(int(subprocess.check_output([sys.executable, "-S", "-c", sys.argv[1]])))
print(orphan.ppid() == os.getpid())
orphan.kill()
"""

LEAVER = """
import os, time
if pid := os.fork():
    print(pid, flush=True)
    os._exit(0)
os.close(1)
time.sleep(60)
"""


def test_orphans_are_adopted():
    done = subprocess.check_output([sys.executable, "-c", ADOPTER, LEAVER], text=True)
    assert done == "True\n"


READS = "import sys; print(open(sys.argv[1]).read() + open(sys.argv[1]).read())"


def test_a_hostfile_is_read_by_its_name_and_leaves_nothing(tmp_path):
    before = sorted(Path("/proc/self/fd").iterdir())
    process = processes.start(
        [sys.executable, "-S", "-c", READS, HOSTFILE],
        env={},
        program=Path(sys.executable),
        stderr=None,
        hostfile="node1:2\n",
    )
    out, _ = process.communicate(timeout=10)
    assert out.decode().split() == ["node1:2", "node1:2"]
    assert len(sorted(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_hostfile_whose_number_is_taken_is_refused():
    taken = os.dup2(os.open(os.devnull, os.O_RDONLY), HOSTFILE_DESCRIPTOR)
    try:
        with pytest.raises(OSError, match="descriptor 199 is in use"):
            processes.start(
                ["x"], env={}, program=Path(sys.executable), stderr=None, hostfile="node1\n"
            )
    finally:
        os.close(taken)
