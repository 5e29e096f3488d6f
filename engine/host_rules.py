"""Judges the facts of hosts: whether each can run its ranks, and whether they fit together.

Pure: from facts to findings, one for each host. `merged` then says that of many hosts once.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from .canonical import Document
from .hints import install_hint
from .hosts import host_ranges
from .reach import Kind, Probed
from .rulebook import GRAVITY, Severity
from .rules import Finding
from .spec import Preflight
from .units import GIB

CLOCK_LIMIT_S = 1.0
# The engine itself, the libraries of Python and MPI, and connections between ranks.
SPARE_OPEN_FILES = 256
MEMORY_SPREAD = 0.1

_NAMES_IN_A_HINT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What this machine runs, which all hosts must run too."""

    python: str
    version: str
    content_sha256: str


def merged(findings: Iterable[Finding], hosts: Sequence[str]) -> tuple[Finding, ...]:
    """Each finding once with all its hosts; errors first, then by rule; hosts as in the job."""
    groups: dict[Finding, set[str]] = {}
    for finding in findings:
        named = groups.setdefault(replace(finding, host=None), set())
        named |= {finding.host} if finding.host is not None else set()
    found = [replace(finding, host=_written(named, hosts)) for finding, named in groups.items()]
    return tuple(sorted(found, key=order))


def _written(named: set[str], hosts: Sequence[str]) -> str | None:
    """Hosts of a finding in their order. Of a job's only host nobody needs the name."""
    if not named or len(hosts) == 1:
        return None
    known = [host for host in hosts if host in named]
    return host_ranges([*known, *sorted(named.difference(known))])


def order(finding: Finding) -> tuple[int, str]:
    """Errors first, then by rule."""
    return GRAVITY[finding.severity], finding.rule


# ---------------------------------------------------------------- reaching a host


def judge_reach(hosts: Sequence[Probed], *, ssh: str, limits: Preflight) -> Iterator[Finding]:
    """ENV-04, and ENV-05, -06 or -09 where it is the host's Python that lacks something."""
    groups: dict[tuple[Kind, str], list[str]] = {}
    for host in hosts:
        if host.trouble is not None:
            # ssh names the host in what it says.
            text = host.trouble.text.replace(host.name, "HOST")
            groups.setdefault((host.trouble.kind, text), []).append(host.name)
    for (kind, said), names in groups.items():
        rule, text, hint = _trouble(kind, said, names, ssh, limits)
        for name in names:
            yield Finding(
                rule=rule,
                severity="error",
                key="cluster.hosts",
                text=text.replace("HOST", name if len(names) == 1 else "the host"),
                hint=hint,
                host=name,
            )


def _trouble(
    kind: Kind, said: str, names: Sequence[str], ssh: str, limits: Preflight
) -> tuple[str, str, str]:
    """Rule, text and hint."""
    one = names[0]
    saying = f": {said}" if said else ""
    texts: dict[Kind, tuple[str, str, str]] = {
        "name": (
            "ENV-04",
            "its name does not resolve on this machine",
            f"mend cluster.hosts, or enter it in DNS or /etc/hosts: getent hosts {one}",
        ),
        "refused": (
            "ENV-04",
            f"no ssh server listens{saying}",
            "start it there: systemctl start sshd (ssh on Debian and Ubuntu)",
        ),
        "unreachable": (
            "ENV-04",
            f"it cannot be reached{saying}",
            f"is it up, and does its network work? ping -c 1 {one}",
        ),
        "host_key": (
            "ENV-04",
            "its host key is not known on this machine",
            f"ssh-keyscan -H {_named(names)} >> ~/.ssh/known_hosts",
        ),
        "host_key_changed": (
            "ENV-04",
            "its host key is not the one in known_hosts: it was installed anew, or is another one",
            f"if that is so: ssh-keygen -R {one}; ssh-keyscan -H {one} >> ~/.ssh/known_hosts",
        ),
        "login": (
            "ENV-04",
            f"it refuses the login without a password{saying}",
            _for_each("ssh-copy-id", names),
        ),
        "closed": ("ENV-04", f"the connection ended early{saying}", f"try it: {ssh} {one} true"),
        "limit": (
            "ENV-04",
            f"it did not answer in time (preflight.ssh_limit_s={limits.ssh_limit_s:g}){saying}",
            f"try it: {ssh} {one} true; or a longer preflight.ssh_limit_s",
        ),
        "launch_limit": (
            "ENV-04",
            "the launcher did not start the probe on it in time "
            f"(preflight.launch_limit_s={limits.launch_limit_s:g}){saying}",
            "is it busy? try the launcher with the program hostname; or a longer "
            "preflight.launch_limit_s",
        ),
        "silent": (
            "ENV-04",
            f"the launcher did not start the probe on it{saying}",
            "try the launcher with the program hostname",
        ),
        "rubbish": (
            "ENV-04",
            f"it answers with something else than the probe's facts: {said!r}",
            f"its shell must run what it is given and print nothing: {ssh} {one} true",
        ),
        "probe": ("ENV-04", f"the probe failed on it{saying}", f"try it: {ssh} {one} true"),
        "ssh": ("ENV-04", f"ssh cannot be started{saying}", "launcher.ssh=PROGRAM"),
        "python": (
            "ENV-06",
            f"it has no usable Python at this path{saying}",
            "install mlps there at the same path, or cluster.python=PATH",
        ),
        "mlps": (
            "ENV-05",
            f"mlps, or this version of it, is not installed in its Python{saying}",
            "install the same mlps there, at the same path; or cluster.python=PATH",
        ),
        "package": (
            "ENV-09",
            f"a package of its Python is missing{saying}",
            "install mlps there with its dependencies",
        ),
    }
    return texts[kind]


def _named(names: Sequence[str]) -> str:
    shown = " ".join(names[:_NAMES_IN_A_HINT])
    return shown if len(names) <= _NAMES_IN_A_HINT else f"{shown} ..."


def _for_each(program: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{program} {names[0]}"
    return f'for host in {_named(names)}; do {program} "$host"; done'


# ---------------------------------------------------------------- software


def judge_software(hosts: Sequence[Probed], reference: Reference) -> Iterator[Finding]:
    """ENV-05 and ENV-06: every host runs the mlps and the Python of this machine."""
    for host, facts in with_facts(hosts):
        if facts["python"] != reference.python:
            minor = _minor(facts["python"]) != _minor(reference.python)
            yield Finding(
                rule="ENV-06",
                severity="error" if minor else "warning",
                key="cluster.python",
                text=f"Python is {facts['python']}, on this machine {reference.python}",
                hint="the same Python on every host, or cluster.python=PATH",
                host=host.name,
            )
        text = _mlps_differs(facts["mlps"], reference)
        if text is not None:
            yield Finding(
                rule="ENV-05",
                severity="error",
                key="cluster.hosts",
                text=text,
                hint="install the mlps of this machine there",
                host=host.name,
            )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _mlps_differs(found: Document, reference: Reference) -> str | None:
    if found["version"] != reference.version:
        return f"mlps is {found['version']}, on this machine {reference.version}"
    if found["content_sha256"] != reference.content_sha256:
        return (
            f"mlps {found['version']} has other files there: content SHA-256 "
            f"{found['content_sha256'][:16]}, on this machine {reference.content_sha256[:16]}"
        )
    return None


def judge_dependencies(
    hosts: Sequence[Probed],
    packages: Sequence[str],
    programs: Sequence[str],
    benchmark: str,
    install: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Finding]:
    """ENV-08 and ENV-09: programs and packages that the benchmark needs.

    `install` tells of programs what installs them, by package manager.
    """
    for host, facts in with_facts(hosts):
        for name in programs:
            if facts["programs"].get(name) is None:
                yield Finding(
                    rule="ENV-08",
                    severity="error",
                    key="benchmark",
                    text=f"program {name}, which {benchmark} starts, is not on PATH",
                    hint=install_hint(name, facts, (install or {}).get(name)),
                    host=host.name,
                )
        for name in packages:
            if facts["packages"].get(name) is None:
                yield Finding(
                    rule="ENV-09",
                    severity="error",
                    key="benchmark",
                    text=f"Python package {name}, which {benchmark} needs, is not installed",
                    hint=shlex.join([str(facts["executable"]), "-m", "pip", "install", name]),
                    host=host.name,
                )


# ---------------------------------------------------------------- MPI

# What a launcher's --version or a library says -> its family; the first that matches.
MPI_FAMILIES: Sequence[tuple[str, str]] = (
    (r"Open ?MPI|OpenRTE|PRRTE", "openmpi"),
    (r"Intel\(R\) MPI", "intelmpi"),
    (r"MPICH|HYDRA|MVAPICH", "mpich"),
)
_FAMILY_NAMES = {"openmpi": "Open MPI", "intelmpi": "Intel MPI", "mpich": "MPICH"}
_LIBRARIES = {"openmpi": "libmpi.so.40", "intelmpi": "libmpi.so.12", "mpich": "libmpi.so.12"}


def mpi_family(text: str) -> str | None:
    """The family of an MPI by what it says of itself."""
    return next(
        (family for pattern, family in MPI_FAMILIES if re.search(pattern, text, re.I)), None
    )


def mpi_name(text: str) -> str:
    """`Open MPI 5.0.11` of what an MPI says of itself; all of it where it cannot be read."""
    family, number = mpi_family(text), re.search(r"\d+(\.\d+)+\S*", text)
    if family is None or number is None:
        return text
    return f"{_FAMILY_NAMES[family]} {number[0].rstrip(',;')}"


def judge_mpi(
    hosts: Sequence[Probed], *, wanted: str | None, launcher: str, program: str | None, version: str
) -> Iterator[Finding]:
    """ENV-07: the launcher's program and mpi4py on every host are of the launcher's MPI."""
    found = mpi_family(version)
    if wanted is not None and found is not None and not _fit(wanted, found):
        yield Finding(
            rule="ENV-07",
            severity="error",
            key="launcher",
            text=f"{program} is {mpi_name(version)}, but launcher {launcher} is "
            f"for {_FAMILY_NAMES[wanted]}",
            hint=f"put the mpirun of {_FAMILY_NAMES[wanted]} first on PATH, launcher.program=PATH, "
            f"or launcher={found}",
        )
    for host, facts in with_facts(hosts):
        mpi = facts["mpi"]
        if mpi is None:
            continue
        text = _mpi_differs(mpi, wanted)
        if text is not None:
            library = _library_of(wanted, program)
            yield Finding(
                rule="ENV-07",
                severity="error",
                key="launcher.env",
                text=text,
                hint=f"launcher.env.MPI4PY_LIBMPI={library}"
                if library is not None
                else "mend what mpi4py loads: python -c 'from mpi4py import MPI'",
                host=host.name,
            )


def _mpi_differs(mpi: Document, wanted: str | None) -> str | None:
    if mpi["library"] is None:
        return f"mpi4py cannot load an MPI library: {mpi['error']}"
    family = mpi_family(mpi["library"])
    if wanted is None or family is None or _fit(wanted, family):
        return None
    name = _FAMILY_NAMES[wanted]
    return f"mpi4py loads {mpi_name(mpi['library'])}, which cannot talk to the launcher's {name}"


def _fit(one: str, other: str) -> bool:
    """MPICH and Intel MPI start each other's ranks."""
    return one == other or "openmpi" not in (one, other)


def _library_of(family: str | None, program: str | None) -> str | None:
    """The library beside a launcher, or the name by which the system's own is found."""
    if family is None:
        return None
    if program is None:
        return _LIBRARIES[family]
    prefix = PurePosixPath(program).parent.parent
    system = str(prefix) in ("/usr", "/usr/local", "/")
    return _LIBRARIES[family] if system else str(prefix / "lib" / _LIBRARIES[family])


def judge_root(
    *, family: str | None, may_run_as_root: bool, by_scheduler: bool, uid: int
) -> Iterator[Finding]:
    """ENV-10: Open MPI's mpirun starts nothing for root unless it is told to."""
    if family == "openmpi" and uid == 0 and not may_run_as_root and not by_scheduler:
        yield Finding(
            rule="ENV-10",
            severity="error",
            key="launcher.run_as_root",
            text="Open MPI refuses to start ranks for root",
            hint="launcher.run_as_root=true, or another user",
        )


def judge_allocation(
    *, launcher: str, needed: Sequence[str], present: Collection[str]
) -> Iterator[Finding]:
    """ENV-17: outside of an allocation srun would wait for one, and others would not start."""
    missing = [name for name in needed if name not in present]
    if missing:
        yield Finding(
            rule="ENV-17",
            severity="error",
            key="launcher",
            text=f"launcher {launcher} works inside an allocation only, and "
            f"{', '.join(missing)} is not set",
            hint="start mlps inside one, for example: salloc -N 2 --ntasks-per-node=2 mlps ...",
        )


# ---------------------------------------------------------------- resources


def judge_memory(
    hosts: Sequence[Probed], ranks: Mapping[str, int], need_bytes: int, arithmetic: str | None
) -> Iterator[Finding]:
    """ENV-03: each host has the memory that its ranks need. Of hosts alike the least is said."""
    how = "" if arithmetic is None else f" ({arithmetic})"
    short: dict[int, list[tuple[str, int]]] = {}
    for host, facts in with_facts(hosts):
        count, available = ranks[host.name], int(facts["memory_available_bytes"])
        if available < count * need_bytes:
            short.setdefault(count, []).append((host.name, available))
    for count, found in short.items():
        least = min(available for _, available in found)
        for name, _ in found:
            yield Finding(
                rule="ENV-03",
                severity="error",
                key="cluster.ranks_per_host",
                text=f"{count} ranks x {need_bytes / GIB:.2f} GiB{how} = "
                f"{count * need_bytes / GIB:.2f} GiB of memory, available are "
                f"{least / GIB:.2f} GiB",
                hint="fewer ranks on a host",
                host=name,
            )


def judge_open_files(hosts: Sequence[Probed], files_per_rank: int) -> Iterator[Finding]:
    """ENV-12: a rank may open its files. It raises the soft limit itself, up to the hard one."""
    for host, facts in with_facts(hosts):
        hard, wanted = facts["open_files"]["hard"], files_per_rank + SPARE_OPEN_FILES
        if 0 <= hard < wanted:
            yield Finding(
                rule="ENV-12",
                severity="error",
                key="benchmark",
                text=f"a rank opens {files_per_rank} files and {SPARE_OPEN_FILES} others, but "
                f"`ulimit -Hn` is {hard}",
                hint=f"echo '* - nofile {wanted}' >> /etc/security/limits.conf; then log in anew",
                host=host.name,
            )


def judge_setting(hosts: Sequence[Probed]) -> Iterator[Finding]:
    """ENV-13, ENV-14 and ENV-15: clock, cores and shared memory of each host, as warnings."""
    yield from _clocks(hosts)
    for host, facts in with_facts(hosts):
        if facts["cpus_allowed"] < facts["cpus"]:
            yield Finding(
                rule="ENV-14",
                severity="warning",
                key="cluster.hosts",
                text=f"only {facts['cpus_allowed']} of {facts['cpus']} cores may be used",
                hint="a wider allocation, cpuset or taskset, where that is not on purpose",
                host=host.name,
            )
        if facts["ipc_is_removed"] and not host.here:
            yield Finding(
                rule="ENV-15",
                severity="warning",
                key="cluster.hosts",
                text="systemd removes the shared memory of a user whose last login ends "
                "(RemoveIPC), which MPI may be using",
                hint="sudo loginctl enable-linger $USER, or RemoveIPC=no in "
                "/etc/systemd/logind.conf",
                host=host.name,
            )


def _clocks(hosts: Sequence[Probed]) -> Iterator[Finding]:
    """Those that are ahead and those that are behind; of each the worst is said."""
    for way, sign in (("ahead of", 1), ("behind", -1)):
        found = [
            (host.name, sign * host.clock_offset_s)
            for host in hosts
            if host.clock_offset_s is not None and sign * host.clock_offset_s > CLOCK_LIMIT_S
        ]
        worst_s = max((offset_s for _, offset_s in found), default=0.0)
        up_to = "up to " if len(found) > 1 else ""
        for name, _ in found:
            yield Finding(
                rule="ENV-13",
                severity="warning",
                key="cluster.hosts",
                text=f"its clock is {up_to}{worst_s:.1f} s {way} that of this machine",
                hint="synchronise the clocks: chronyc makestep, or timedatectl set-ntp true",
                host=name,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """In what hosts of one job should be alike; None where a host does not tell."""

    name: str
    memory_bytes: int | None
    cores: str | None
    kernel: str | None
    distribution: str | None
    network: str | None


def traits_of(probed: Sequence[Probed]) -> list[Traits]:
    """Those that preflight has found."""
    return [
        Traits(
            name=host.name,
            memory_bytes=facts["memory_bytes"],
            cores=str(facts["cpus"]),
            kernel=facts["kernel"],
            distribution=facts["distribution"]["name"],
            network=network_of(facts["nics"]),
        )
        for host, facts in with_facts(probed)
    ]


def network_of(nics: object) -> str | None:
    """How many interfaces are up, of which speed; None where one does not tell."""
    if not isinstance(nics, list):
        return None
    speeds = [nic["speed_mbit_s"] for nic in nics if nic["state"] == "up"]
    if any(not isinstance(speed, int) for speed in speeds):
        return None
    counts = sorted(Counter(speeds).items())
    return ", ".join(f"{number} x {speed / 1000:g} Gbit/s" for speed, number in counts) or "none"


def judge_likeness(hosts: Sequence[Traits]) -> Iterator[Finding]:
    """ENV-16: hosts that differ much make one figure of unlike parts."""
    sizes = [host.memory_bytes for host in hosts if host.memory_bytes is not None]
    if sizes and max(sizes) - min(sizes) > MEMORY_SPREAD * max(sizes):
        low, high = min(sizes) / GIB, max(sizes) / GIB
        yield _unlike("warning", f"memory of the hosts differs: {low:.1f} to {high:.1f} GiB")
    for severity, what, values in (
        ("warning", "cores", [host.cores for host in hosts]),
        ("warning", "network interfaces", [host.network for host in hosts]),
        ("info", "kernel", [host.kernel for host in hosts]),
        ("info", "distribution", [host.distribution for host in hosts]),
    ):
        spread: dict[str, list[str]] = {}
        for host, value in zip(hosts, values, strict=True):
            if value is not None:
                spread.setdefault(value, []).append(host.name)
        if len(spread) > 1:
            text = "; ".join(f"{value} on {host_ranges(names)}" for value, names in spread.items())
            yield _unlike(severity, f"{what} of the hosts differ: {text}")


def _unlike(severity: str, text: str) -> Finding:
    level: Severity = "warning" if severity == "warning" else "info"
    return Finding(rule="ENV-16", severity=level, key="cluster.hosts", text=text)


def with_facts(hosts: Sequence[Probed]) -> Iterator[tuple[Probed, Document]]:
    """The hosts that have answered, with their facts."""
    for host in hosts:
        if host.facts is not None:
            yield host, host.facts


# ---------------------------------------------------------------- evidence

# Facts that differ between hosts that are alike, or change from moment to moment.
_OWN_FACTS = ("mlps_host", "unix_s", "memory_available_bytes")


def hosts_document(hosts: Sequence[Probed]) -> Document:
    """Facts for the archive: those that hosts share once, what was measured of each in columns."""
    groups: dict[str, tuple[Document, list[str]]] = {}
    for host, facts in with_facts(hosts):
        shared = {key: value for key, value in facts.items() if key not in _OWN_FACTS}
        if shared["data_dir"] is not None:
            own = ("free_bytes", "device")
            shared["data_dir"] = {k: v for k, v in shared["data_dir"].items() if k not in own}
        groups.setdefault(repr(shared), (shared, []))[1].append(host.name)
    known = list(with_facts(hosts))
    return {
        "alike": [{"hosts": host_ranges(names), **facts} for facts, names in groups.values()],
        "measured": {
            "hosts": [host.name for host, _ in known],
            "calls_itself": [facts["mlps_host"] for _, facts in known],
            "clock_offset_s": [host.clock_offset_s for host, _ in known],
            "memory_available_bytes": [facts["memory_available_bytes"] for _, facts in known],
            "free_bytes": [(facts["data_dir"] or {}).get("free_bytes") for _, facts in known],
        },
        "without_facts": {
            host.name: {"kind": host.trouble.kind, "said": host.trouble.text}
            for host in hosts
            if host.trouble is not None
        },
    }
