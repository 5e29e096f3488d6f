"""The hosts that other tests stand on are what they say, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from cluster import hosts
from cluster.hosts import SYSTEM_PATH, make_cluster

pytestmark = pytest.mark.cluster


def namespaces(pids) -> set[str]:
    """Names of the process and network namespaces of these processes."""
    found = set()
    for pid in pids:
        for kind in ("pid", "net"):
            with suppress(OSError):  # it has ended
                found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
    return found


def all_namespaces() -> set[str]:
    return namespaces(path.name for path in Path("/proc").glob("[0-9]*"))


def traces() -> list[object]:
    """What else hosts could leave on this machine."""
    return [
        Path("/proc/self/mountinfo").read_text(),
        Path("/etc/hosts").read_text(),
        [link.name for link in Path("/sys/class/net").glob("port*")],
    ]


def started(command, host):
    return [process for process in host.processes() if process.command == command]


def test_every_host_reaches_every_other_by_name(make_hosts):
    cluster = make_hosts(3)
    for source in ("head", "node1", "node3"):
        for target in cluster.names:
            done = cluster.node(source).run([cluster.ssh, target, "hostname"])
            assert (done.stdout, done.stderr) == (f"{target}\n", "")


def test_a_name_nobody_has_fails_at_once(make_hosts):
    cluster = make_hosts(1)
    started = time.monotonic()
    done = cluster.head.run([cluster.ssh, "node2", "true"])
    assert done.returncode == 255
    assert "Could not resolve hostname node2" in done.stderr
    assert time.monotonic() - started < 5


def test_processes_are_those_of_one_host(make_hosts, wait_for):
    cluster = make_hosts(2)
    one, two = cluster.nodes
    with one.start(["sleep", "1234"]) as process:
        (found,) = wait_for(lambda: started("sleep 1234", one), "a process in node1")
        assert two.processes("sleep") == []
        assert one.run(["cat", f"/proc/{found.pid}/comm"]).stdout == "sleep\n"
        assert one.kill(found.pid, signal.SIGTERM) == [found]
        assert process.wait(timeout=10) == -signal.SIGTERM
    assert one.processes("sleep") == []


def test_a_signal_reaches_the_program_itself(make_hosts):
    words = "trap 'echo interrupted; exit 3' INT; echo waiting; while :; do sleep 0.1; done"
    with make_hosts(1).head.start(["sh", "-c", words]) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=10) == ("interrupted\n", "")
    assert process.returncode == 3


def test_a_private_tmpfs_is_private(make_hosts, tmp_path):
    cluster = make_hosts(2)
    shared = tmp_path / "shared"
    cluster.node("node2").private_tmpfs(shared, size="1m")
    for name in ("head", "node1", "node2"):
        words = f"hostname > {shared}/{name}"
        assert cluster.head.run([cluster.ssh, name, words]).returncode == 0
    assert sorted(path.name for path in shared.iterdir()) == ["head", "node1"]
    assert cluster.node("node2").run(["ls", shared]).stdout == "node2\n"
    full = cluster.node("node2").run(["dd", "if=/dev/zero", f"of={shared}/big", "bs=1M", "count=2"])
    assert "No space left on device" in full.stderr


@pytest.mark.parametrize("directory", ["/dev/shm", "/run"])
def test_memory_of_a_host_is_its_own(make_hosts, directory):
    one, two = make_hosts(2).nodes
    one.run(["touch", f"{directory}/of-node1"])
    assert "of-node1" in one.run(["ls", directory]).stdout
    assert "of-node1" not in two.run(["ls", directory]).stdout
    assert not Path(directory, "of-node1").exists()


def test_without_sshd_a_host_refuses(make_hosts):
    cluster = make_hosts(1)
    (node,) = cluster.nodes
    with cluster.head.start([cluster.ssh, "node1", "echo up; sleep 1234"]) as session:
        assert session.stdout.readline() == "up\n"
        node.kill_sshd()
        refused = cluster.head.run([cluster.ssh, "node1", "true"])
        assert "Connection refused" in refused.stderr
        assert node.sessions() and session.poll() is None
        node.start_sshd()
        assert cluster.head.run([cluster.ssh, "node1", "true"]).returncode == 0
        session.kill()


def test_without_its_link_a_host_is_silent(make_hosts):
    cluster = make_hosts(1)
    (node,) = cluster.nodes
    node.link_down()
    lost = cluster.head.run([cluster.ssh, "-o", "ConnectTimeout=1", "node1", "true"])
    assert lost.returncode == 255 and "timed out" in lost.stderr
    node.link_up()
    assert cluster.head.run([cluster.ssh, "node1", "true"]).returncode == 0


def test_nothing_is_left_also_after_a_failure(_hosts_work, tmp_path):
    before = traces()
    with pytest.raises(ZeroDivisionError), make_cluster(2, directory=tmp_path / "hosts") as cluster:
        node = cluster.node("node2")
        node.private_tmpfs(tmp_path / "private")
        node.run(["sh", "-c", "trap '' TERM INT HUP; sleep 1234 > /dev/null 2>&1 &"])
        assert started("sleep 1234", node)
        made = namespaces(host.outer_pid for host in (cluster.head, *cluster.nodes))
        assert len(made & all_namespaces()) == 6
        raise ZeroDivisionError
    assert made & all_namespaces() == set()
    assert traces() == before


@pytest.mark.parametrize(
    ("path", "user", "reason"),
    [
        ("/nowhere", 0, "needs ip: apt-get install iproute2"),
        (SYSTEM_PATH, 1000, "needs root, to make namespaces"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, path, user, reason):
    monkeypatch.setattr(hosts, "SYSTEM_PATH", path)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert hosts.missing() == reason


OWNER = """\
import sys, time
from pathlib import Path
from cluster.hosts import make_cluster
with make_cluster(1, directory=Path(sys.argv[1])) as cluster:
    print(cluster.head.outer_pid, cluster.nodes[0].outer_pid, flush=True)
    time.sleep(1234)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_their_owner_is_stopped(_hosts_work, tmp_path, wait_for, number):
    before = traces()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, tmp_path / "hosts"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        made = namespaces(owner.stdout.readline().split())
        assert len(made) == 4
        owner.send_signal(number)
    wait_for(lambda: not made & all_namespaces(), "the end of all hosts", 10)
    assert traces() == before
