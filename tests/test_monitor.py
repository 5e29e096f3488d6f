"""Samplers beside a job: all that they say is in the file, and none outlives it."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from launches import make_launch

from mlps.engine import monitor as module
from mlps.engine.bootstrap import boot_argument, boot_argv, payload
from mlps.engine.hosts import HOSTFILE_DESCRIPTOR
from mlps.engine.monitor import Monitor
from mlps.engine.samplers import Watched
from mlps.engine.signals import StopRequests
from mlps.engine.supervise import Site, supervise

pytestmark = pytest.mark.usefixtures("nothing_left")

ENV = {"PATH": os.environ["PATH"]}
MPIEXEC = str(Path(sys.executable).parent / "mpiexec")

FIRST = """echo '{"mlps_series":"vm","interval_s":1}'; """
TICK = """echo '{"mlps_tick":"vm","n":1,"late_ms":25.5,"missed":2}'; """
LAST = """echo '{"mlps_tick":"vm","n":2,"partial":true}'; """
END = """echo '{"mlps_end":"vm","ticks":1,"missed":2,"late":1,"cpu_s":0.5}'; """
GOOD = FIRST + TICK + "cat > /dev/null; " + LAST + END


def shell(words, *names, **more):
    return Watched(names=names or ("node1",), argv=("sh", "-c", words), env=ENV, **more)


class Series:
    """A file of series that a monitor writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.output = path.open("ab", buffering=0)

    def watch(self, *watched, **more):
        given = {"interval_s": 1, "via": "ssh", "start_limit_s": 20.0, **more}
        return Monitor(watched, self.output, **given)

    def lines(self):
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def of(self, host):
        return [
            {name: value for name, value in line.items() if name != "host"}
            for line in self.lines()
            if line.get("host") == host
        ]

    def end(self, host):
        """How the series of a host has ended, and what was said of it."""
        last = self.of(host)[-1]
        return ("stopped", None) if last["kind"] == "end" else (last["kind"], last.get("said"))


@pytest.fixture
def series(tmp_path):
    made = Series(tmp_path / "timeseries.jsonl")
    yield made
    made.output.close()


def test_all_that_samplers_say_is_in_the_file_under_the_jobs_names(series):
    monitor = series.watch(shell(GOOD, "node1"), shell(GOOD, "node2"))
    monitor.start()
    monitor.stop()
    head, *_ = series.lines()
    assert head == {
        "kind": "series",
        "schema": 1,
        "interval_s": 1,
        "hosts": ["node[1-2]"],
        "via": "ssh",
    }
    for name in ("node1", "node2"):
        assert series.of(name) == [
            {"kind": "start", "interval_s": 1},
            {"kind": "tick", "n": 1, "late_ms": 25.5, "missed": 2},
            {"kind": "tick", "n": 2, "partial": True},
            {"kind": "end", "ticks": 1, "missed": 2, "late": 1, "cpu_s": 0.5},
        ]


def test_what_is_told_arrives_however_long_it_is(series):
    words = "head -c 300000 | wc -c >&2; " + FIRST + "cat > /dev/null; " + END
    with series.watch(shell(words, stdin=b"x" * 300_000)):
        pass
    assert series.end("node1") == ("stopped", None)


def test_noise_is_left_out(series):
    noise = "echo Welcome; echo '{\"mlps_facts\": 1}'; head -c 200000 /dev/zero; echo; "
    with series.watch(shell(noise + GOOD)):
        pass
    assert [line["kind"] for line in series.of("node1")] == ["start", "tick", "tick", "end"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("echo 'ssh: connect to host node1: No route to host' >&2; exit 255", "No route to host"),
        (FIRST + TICK + "exit 3", "it ended with status 3"),
        (FIRST + "kill -9 $$", "it was ended by signal 9"),
        (FIRST + END, "somebody else ended it"),
    ],
    ids=["connection", "status", "signal", "ended on its host"],
)
def test_a_sampler_that_dies_is_said_and_stops_no_other(series, wait_for, words, said):
    with series.watch(shell(words, "node1"), shell(GOOD, "node2")):
        wait_for(lambda: "died" in {line["kind"] for line in series.lines()}, "the death")
    line = series.of("node1")[-1]
    assert line["kind"] == "died" and line["said"].endswith(said)
    assert abs(line["unix_s"] - time.time()) < 60
    assert series.end("node2") == ("stopped", None)


def test_a_program_that_is_not_there(series):
    with series.watch(Watched(names=("node1",), argv=("/no/ssh",), env=ENV)):
        pass
    assert series.end("node1") == ("died", "/no/ssh: No such file or directory")


def test_one_that_does_not_end_is_killed_at_the_limit(series):
    stubborn = "trap '' TERM; " + FIRST + "while :; do sleep 0.2; done"
    monitor = series.watch(shell(stubborn, "node1"), shell(GOOD, "node2"))
    monitor.start()
    begun = time.monotonic()
    monitor.stop(0.5)
    assert time.monotonic() - begun < 8
    assert series.end("node1") == ("died", "it did not end when it was asked to")
    assert series.end("node2") == ("stopped", None)


def test_a_host_that_does_not_answer_delays_the_start_up_to_the_limit(series):
    begun = time.monotonic()
    with series.watch(shell("exec sleep 60"), start_limit_s=0.3) as monitor:
        assert time.monotonic() - begun < 5
        begun = time.monotonic()
        monitor.stop(0.1)
    assert series.end("node1")[0] == "died"


def test_a_job_that_was_stopped_does_not_wait_for_the_start(series):
    begun = time.monotonic()
    with series.watch(shell("exec sleep 60"), stopped=lambda: True) as monitor:
        monitor.stop(0.1)
    assert time.monotonic() - begun < 5


def test_two_stops_are_one(series):
    monitor = series.watch(shell(GOOD))
    monitor.start()
    monitor.stop()
    lines = series.lines()
    monitor.stop()
    assert series.lines() == lines


# ---------------------------------------------------------------- by a launcher


def test_hosts_of_one_launch_are_told_apart_by_their_own_names(series, wait_for):
    hosts = ("node1", "node2.lan", "other")
    words = "".join((FIRST + TICK).replace("vm", host) for host in hosts)
    ends = "".join(END.replace("vm", host) for host in hosts)
    launch = f"trap '{ends.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)} exit' USR1; {words}"
    launch += "while :; do sleep 0.1; done"
    watched = shell(launch, "node1", "node2", has_life_line=False)
    monitor = series.watch(watched, via="launcher")
    monitor.start()
    wait_for(lambda: len(series.of("node2")) == 2, "all that is said before the end")
    monitor.stop()
    for name in ("node1", "node2"):
        assert [line["kind"] for line in series.of(name)] == ["start", "tick", "end"]
    assert {line.get("host") for line in series.lines()} == {None, "node1", "node2"}


def watched_by_mpiexec(**request):
    asked = {"mode": "series", "interval_s": 0.1, "life_line": "parent", **request}
    argv = (MPIEXEC, "-n", "1", *boot_argv(sys.executable), boot_argument(asked))
    return Watched(names=("node1",), argv=argv, env=ENV, has_life_line=False)


@pytest.mark.mpi
def test_a_real_launcher_hands_the_request_to_end_on(series):
    monitor = series.watch(watched_by_mpiexec())
    monitor.start()
    time.sleep(0.35)
    monitor.stop()
    assert [line["kind"] for line in series.of("node1")[-2:]] == ["tick", "end"]


# ---------------------------------------------------------------- with launches


def test_a_launch_that_ends_takes_no_sampler_along(series, tmp_path, display):
    leaves = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)"
    child = "sleep 60 & "
    sampler = shell(FIRST + child + "cat > /dev/null; " + END + "kill $!", "node1")
    with series.watch(sampler, shell(GOOD, "node2")) as monitor:
        family = psutil.Process(monitor.pids()[0]).children(recursive=True)
        site = Site(
            program=Path(sys.executable),
            env={},
            stdout_log=tmp_path / "stdout.log",
            stderr_log=tmp_path / "stderr.log",
            job_sha256="",
            died_patterns=(),
            spared=monitor.pids,
        )
        launch = replace(make_launch(1), argv=(sys.executable, "-S", "-c", leaves))
        assert supervise(launch, site, StopRequests(), display).status == "failed"
        assert "sleep" in {process.name() for process in family if is_alive(process)}
        monitor.stop()
    assert series.end("node1") == series.end("node2") == ("stopped", None)
    assert not any(map(is_alive, family))


def test_very_many_samplers_leave_room_for_the_hostfile_of_a_launch(series):
    count = HOSTFILE_DESCRIPTOR // 2
    with series.watch(*(shell(GOOD, f"node{number}") for number in range(count))) as monitor:
        assert len(monitor.pids()) == count
        with pytest.raises(OSError):
            os.fstat(HOSTFILE_DESCRIPTOR)
        held = Path("/proc/self/fd").iterdir()
        assert max(int(path.name) for path in held) > HOSTFILE_DESCRIPTOR + count
    assert [line["kind"] for line in series.lines()].count("end") == count


def test_no_more_connections_than_told_are_made_at_once(series, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    place = tmp_path / "connecting"
    place.mkdir()
    words = (
        f"mkdir {place}/$$; sleep 0.2; ls {place} | wc -l >> {tmp_path}/seen; rmdir {place}/$$; "
    )
    with series.watch(*(shell(words + GOOD, f"node{n}") for n in range(9))):
        pass
    assert [line["kind"] for line in series.lines()].count("end") == 9
    assert max(map(int, (tmp_path / "seen").read_text().split())) <= 3


# ---------------------------------------------------------------- limits and full disks

CROWD = """
import os, resource, sys
from mlps.engine.monitor import Monitor
from mlps.engine.samplers import Watched
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 400))
argv = ("sh", "-c", sys.argv[1])
watched = [Watched(names=(f"node{n}",), argv=argv, env=os.environ) for n in range(60)]
with open(sys.argv[2], "ab", buffering=0) as output:
    monitor = Monitor(watched, output, interval_s=1, via="ssh")
    monitor.start()
    monitor.stop(20)
"""


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(tmp_path):
    argv = [sys.executable, "-c", CROWD, GOOD, str(tmp_path / "series")]
    subprocess.run(argv, check=True, timeout=60)
    lines = [json.loads(line) for line in (tmp_path / "series").read_bytes().splitlines()]
    room = (400 - HOSTFILE_DESCRIPTOR - module._OTHER_FILES) // 3
    assert [line["kind"] for line in lines].count("end") == room
    said = "the limit of 400 open files (ulimit -Hn) is too low for all samplers"
    assert [line["said"] for line in lines if line["kind"] == "died"] == [said] * (60 - room)


class Small(io.FileIO):
    """A file on a file system that gets full."""

    room = 150

    def write(self, data):
        taken = super().write(bytes(data)[: self.room])
        self.room -= taken
        return taken


def test_a_full_file_system_ends_the_file_with_a_whole_line(tmp_path):
    path = tmp_path / "series"
    with Small(path, "ab") as output:
        monitor = Monitor([shell(GOOD)], output, interval_s=1, via="ssh")
        monitor.start()
        monitor.stop()
    assert path.read_bytes().endswith(b"}\n")
    assert [json.loads(line)["kind"] for line in path.read_bytes().splitlines()] == [
        "series",
        "start",
    ]


class Hiccup(io.FileIO):
    """A file on a file system that is full for one write."""

    full = False

    def write(self, data):
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_file_that_could_not_be_written_for_a_while_says_so(tmp_path):
    path = tmp_path / "series"
    with Hiccup(path, "ab") as output:
        monitor = Monitor([shell(GOOD)], output, interval_s=1, via="ssh")
        monitor.start()
        output.full = True
        monitor.stop()
    last = json.loads(path.read_bytes().splitlines()[-1])
    assert last["said"] == "its samples could not be written: No space left on device"


def test_a_file_that_cannot_be_written_stops_nothing():
    with open("/dev/full", "wb", buffering=0) as output:  # noqa: PTH123 - a device
        monitor = Monitor([shell(GOOD)], output, interval_s=1, via="ssh")
        monitor.start()
        monitor.stop()


# ---------------------------------------------------------------- mlps is killed

OWNER = """
import json, os, sys, time
from mlps.engine.monitor import Monitor
from mlps.engine.samplers import Watched
given = json.loads(sys.stdin.readline())
given["names"], given["argv"] = tuple(given["names"]), tuple(given["argv"])
given["stdin"] = given["stdin"].encode("latin-1")
output = open(sys.argv[1], "ab", buffering=0)
monitor = Monitor([Watched(**given)], output, interval_s=0.05, via="ssh")
monitor.start()
print(monitor.pids()[0], flush=True)
time.sleep(60)
"""


def as_document(watched):
    return {
        "names": watched.names,
        "argv": watched.argv,
        "env": dict(watched.env),
        "stdin": watched.stdin.decode("latin-1"),
        "has_life_line": watched.has_life_line,
    }


def watched_here():
    request = {"mode": "series", "interval_s": 0.05}
    argv = boot_argv(sys.executable)
    return Watched(names=("node1",), argv=argv, env=ENV, stdin=payload(request))


@pytest.mark.parametrize(
    "watched",
    [
        pytest.param(watched_here, id="life line"),
        pytest.param(watched_by_mpiexec, id="launcher", marks=pytest.mark.mpi),
    ],
)
def test_a_kill_of_mlps_ends_all_samplers_and_loses_one_line_at_most(tmp_path, wait_for, watched):
    path = tmp_path / "series"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", OWNER, path], **pipes) as owner:
        owner.stdin.write(json.dumps(as_document(watched())).encode() + b"\n")
        owner.stdin.flush()
        first = psutil.Process(int(owner.stdout.readline()))
        wait_for(lambda: path.read_bytes().count(b"\n") > 4, "ticks")
        family = [first, *first.children(recursive=True)]
        owner.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, family)), "the end of all samplers", 10)
    *lines, _rest = path.read_bytes().split(b"\n")
    numbers = [tick["n"] for line in lines if (tick := json.loads(line))["kind"] == "tick"]
    assert numbers == sorted(numbers) and len(numbers) >= 2


def is_alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
