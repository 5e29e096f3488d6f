"""Hosts for tests: Linux namespaces on this machine, each with its own name, address, processes,
/dev/shm, /run and sshd.

Nothing has a name outside of them: the network, its bridge included, exists only inside of them, so
two test runs never meet. They end with the process that made them, even when it is killed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

NETWORK = "10.81.0"
HEAD_ADDRESS = f"{NETWORK}.254"
SSHD = "/usr/sbin/sshd"
# Debian gives users no directory of administrators' programs in PATH.
SYSTEM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
UNSHARE = ("unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc")
START_LIMIT_S = 20.0

# The first process of a host: all others end with it, and it ends with its standard input.
# A shell that waits also collects the orphans of its host.
INIT = """\
set -e
hostname "$1"
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mkdir -m 1777 /run/tmp
mount --bind "$2/hosts" /etc/hosts
ip link set lo up
echo ready
cat > /dev/null
"""

SSHD_CONFIG = """\
ListenAddress 0.0.0.0
HostKey {home}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile /run/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
SetEnv HOME={home} TMPDIR=/run/tmp
MaxStartups 100
"""

SSH_CONFIG = """\
Host *
    User root
    IdentityFile {directory}/key
    IdentitiesOnly yes
    UserKnownHostsFile {directory}/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    KexAlgorithms curve25519-sha256
"""


def missing() -> str | None:
    """Why no hosts can be made on this machine; None: they can."""
    if os.geteuid() != 0:
        return "needs root, to make namespaces"
    for program, package in (
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        (SSHD, "openssh-server"),
        ("ssh", "openssh-client"),
    ):
        if shutil.which(program, path=SYSTEM_PATH) is None:
            return f"needs {Path(program).name}: apt-get install {package}"
    words = "mount -t tmpfs tmpfs /run && ip link add br0 type bridge && ip link add v0 type veth"
    made = subprocess.run(
        [*UNSHARE, "sh", "-c", words],
        capture_output=True,
        text=True,
        env={"PATH": SYSTEM_PATH},
    )
    return f"needs namespaces with a bridge: {made.stderr.strip()}" if made.returncode else None


class Running(NamedTuple):
    """A process of a host."""

    pid: int  # as that host and the messages of its programs count
    outer_pid: int  # as this machine counts
    command: str


class Started(subprocess.Popen[str]):
    """A program in a host, seen from outside: signals go to itself and not to what entered.

    As a context it is killed when the context fails, and waited for otherwise.
    """

    def __exit__(self, kind: type[BaseException] | None, *others: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *others)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            for pid in _children(self.pid) or [self.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One host."""

    name: str
    address: str
    directory: Path  # of the cluster
    outer_pid: int  # of its first process

    @property
    def home(self) -> Path:
        """Files of this host alone."""
        return self.directory / self.name

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in this host. `env` adds to a small environment of its own."""
        with self.start(argv, cwd=cwd, env=env) as process:
            out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Started:
        """Start a program in this host, with pipes on its standard output and error."""
        # Entered from outside, a directory would be the one below what the host mounted there.
        change: list[str | Path] = ["sh", "-c", 'cd "$0" && exec "$@"', cwd or self.home]
        return Started(
            [*self._enter("--all"), *change, *argv],
            env=self._environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def processes(self, match: str = "") -> list[Running]:
        """Processes of this host whose command holds `match`; not what keeps the host alive."""
        return [process for process in _living(self.outer_pid) if match in process.command]

    def kill(self, which: int | str, number: int = signal.SIGKILL) -> list[Running]:
        """Signal the process with this number in this host, or all whose command holds a text."""
        victims = [
            process
            for process in self.processes()
            if (process.pid == which if isinstance(which, int) else which in process.command)
        ]
        for process in victims:
            with suppress(ProcessLookupError):
                os.kill(process.outer_pid, number)
        return victims

    def private_tmpfs(self, path: Path, *, size: str = "64m") -> None:
        """From now on all processes of this host, and only these, see a new tmpfs at `path`."""
        path.mkdir(parents=True, exist_ok=True)
        self._inside("--mount", "mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)

    def unmount(self, path: Path) -> None:
        """Take that tmpfs away, also from processes that use it."""
        self._inside("--mount", "umount", "--lazy", path)

    def link_down(self) -> None:
        """From now on nothing reaches this host, and it reaches nothing."""
        self._inside("--net", "ip", "link", "set", "eth0", "down")

    def link_up(self) -> None:
        self._inside("--net", "ip", "link", "set", "eth0", "up")

    def start_sshd(self) -> None:
        """Take connections; returns when it does."""
        log = self.home / "sshd.log"
        log.unlink(missing_ok=True)
        done = self.run([SSHD, "-f", self.home / "sshd_config", "-E", log])
        assert done.returncode == 0, done.stderr
        _wait_for_text(log, "Server listening on")

    def kill_sshd(self) -> None:
        """Refuse new connections; sessions go on."""
        self.kill("[listener]")

    def sessions(self) -> list[Running]:
        """Processes that serve a connection through ssh."""
        return self.processes("sshd: root@")

    def _environment(self) -> dict[str, str]:
        home = {"HOME": str(self.home), "TMPDIR": "/run/tmp", "PATH": SYSTEM_PATH}
        return home | ({"LANG": os.environ["LANG"]} if "LANG" in os.environ else {})

    def _enter(self, *what: str) -> list[str]:
        return ["nsenter", f"--target={self.outer_pid}", *what, "--"]

    def _inside(self, what: str, *argv: str | Path, words: str | None = None) -> None:
        _check([*self._enter(what), *argv], words=words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Hosts node1 to node<count>, and `head`, from which work is started. One file system."""

    directory: Path
    head: Node
    nodes: tuple[Node, ...]

    @property
    def ssh(self) -> Path:
        """A program like ssh that may log in to every host; for `launcher.ssh`."""
        return self.directory / "ssh"

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.nodes]

    def node(self, name: str) -> Node:
        return next(node for node in (self.head, *self.nodes) if node.name == name)

    def processes(self, match: str = "") -> list[tuple[str, Running]]:
        """Processes of all hosts, each with its host's name."""
        return [
            (node.name, process)
            for node in (self.head, *self.nodes)
            for process in node.processes(match)
        ]


@contextmanager
def make_cluster(count: int, *, directory: Path) -> Iterator[Cluster]:
    """Hosts that can reach each other. Their files are in `directory`, which must be empty."""
    assert not directory.resolve().is_relative_to("/run"), "each host has a /run of its own"
    assert not directory.resolve().is_relative_to("/dev/shm"), "each host has its own /dev/shm"
    addresses = {f"node{number}": f"{NETWORK}.{number}" for number in range(1, count + 1)}
    addresses["head"] = HEAD_ADDRESS
    _write_files(addresses, directory)
    with ExitStack() as stack:
        hosts = [stack.enter_context(_host(name, directory)) for name in addresses]
        nodes = [
            Node(name=name, address=address, directory=directory, outer_pid=_first_process(host))
            for (name, address), host in zip(addresses.items(), hosts, strict=True)
        ]
        head = nodes.pop()
        _connect(head, nodes)
        for node in (head, *nodes):
            node.start_sshd()
        yield Cluster(directory=directory, head=head, nodes=tuple(nodes))


def _write_files(addresses: Mapping[str, str], directory: Path) -> None:
    """Keys and configuration of all hosts."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{address} {name}\n" for name, address in addresses.items()]
    (directory / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n" + "".join(lines))
    _make_key(directory / "key")
    shutil.copyfile(directory / "key.pub", directory / "authorized_keys")
    known = []
    for name, address in addresses.items():
        home = directory / name
        home.mkdir()
        _make_key(home / "host_key")
        (home / "sshd_config").write_text(SSHD_CONFIG.format(home=home, directory=directory))
        known.append(f"{name},{address} {(home / 'host_key.pub').read_text()}")
    (directory / "known_hosts").write_text("".join(known))
    (directory / "ssh_config").write_text(SSH_CONFIG.format(directory=directory))
    wrapper = directory / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec ssh -F {shlex.quote(f"{directory}/ssh_config")} "$@"\n')
    wrapper.chmod(0o755)


def _make_key(path: Path) -> None:
    _check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path])


@contextmanager
def _host(name: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A host without a network, as the process that waits for its first one."""
    with subprocess.Popen(
        [*UNSHARE, "sh", "-c", INIT, "init", name, directory],
        env={"PATH": SYSTEM_PATH},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests
    ) as host:
        try:
            assert host.stdout is not None and host.stderr is not None
            assert host.stdout.readline() == "ready\n", host.stderr.read()
            yield host
        finally:
            for pid in _children(host.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _connect(head: Node, nodes: Sequence[Node]) -> None:
    """One switch: a bridge in the head, which has the head's address itself."""
    ports = [f"port{number}" for number, _ in enumerate(nodes)]
    head._inside(
        "--net",
        "ip",
        "-batch",
        "-",
        words="".join(
            [
                "link add eth0 type bridge\n",
                f"addr add {head.address}/24 dev eth0\n",
                "link set eth0 up\n",
                *(
                    f"link add {port} type veth peer name eth0 netns {node.outer_pid}\n"
                    f"link set {port} master eth0 up\n"
                    for port, node in zip(ports, nodes, strict=True)
                ),
            ]
        ),
    )
    for node in nodes:
        words = f"addr add {node.address}/24 dev eth0\nlink set eth0 up\n"
        node._inside("--net", "ip", "-batch", "-", words=words)


def _check(argv: Sequence[str | Path], *, words: str | None = None) -> None:
    done = subprocess.run(
        argv, input=words or "", capture_output=True, text=True, env={"PATH": SYSTEM_PATH}
    )
    assert done.returncode == 0, f"{shlex.join(map(str, argv))}: {done.stderr}"


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _first_process(host: subprocess.Popen[str]) -> int:
    (first,) = _children(host.pid)
    return first


def _living(first: int) -> Iterator[Running]:
    """All processes in the namespace of this first one that have not ended."""
    try:
        namespace = Path(f"/proc/{first}/ns/pid").stat().st_ino
    except OSError:
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == first:
            continue
        with suppress(OSError):  # it has ended
            if (entry / "ns" / "pid").stat().st_ino != namespace:
                continue
            status = dict(
                line.split(":", 1) for line in (entry / "status").read_text().splitlines()
            )
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            keeper = command == "cat" and int(status["PPid"]) == first
            if not keeper and status["State"].split()[0] not in "ZX":
                yield Running(int(status["NSpid"].split()[-1]), int(entry.name), command)


def _wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"no {text!r} in {path} after {START_LIMIT_S} s"
        time.sleep(0.01)
