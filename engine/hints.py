"""From something that is missing on a host to the command that installs it there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from .canonical import Document

# Package manager -> the words before the package. The most specific name of a system decides.
MANAGERS: Mapping[str, tuple[str, ...]] = {
    "apt": ("apt-get", "install"),
    "dnf": ("dnf", "install"),
    "yum": ("yum", "install"),
    "zypper": ("zypper", "install"),
    "pacman": ("pacman", "-S"),
    "apk": ("apk", "add"),
    "brew": ("brew", "install"),
}

# Id of a distribution, of one that it is like, or of a system -> its package manager.
SYSTEMS: Mapping[str, str] = {
    "debian": "apt",
    "ubuntu": "apt",
    "fedora": "dnf",
    "rhel": "dnf",
    "centos": "dnf",
    "rocky": "dnf",
    "almalinux": "dnf",
    "amzn": "dnf",
    "sles": "zypper",
    "suse": "zypper",
    "opensuse": "zypper",
    "arch": "pacman",
    "alpine": "apk",
    "Darwin": "brew",
}

# Their releases that have yum and no dnf.
YUM = frozenset({("centos", "7"), ("rhel", "7"), ("amzn", "2"), ("centos", "6"), ("rhel", "6")})

# Dependency -> package manager -> package, for what no launcher's file names.
PACKAGES: Mapping[str, Mapping[str, str]] = {
    "ssh": {
        "apt": "openssh-client",
        "dnf": "openssh-clients",
        "yum": "openssh-clients",
        "zypper": "openssh-clients",
        "pacman": "openssh",
        "apk": "openssh-client",
        "brew": "openssh",
    },
    "sshd": {
        "apt": "openssh-server",
        "dnf": "openssh-server",
        "yum": "openssh-server",
        "zypper": "openssh-server",
        "pacman": "openssh",
        "apk": "openssh-server",
    },
    "fio": {name: "fio" for name in MANAGERS},
    "uv": {"pacman": "uv", "apk": "uv", "brew": "uv", "dnf": "uv", "pip": "uv"},
    "slurm": {
        "apt": "slurm-client",
        "dnf": "slurm",
        "yum": "slurm",
        "zypper": "slurm",
        "pacman": "slurm-llnl",
        "apk": "slurm",
    },
}


def install_hint(
    name: str,
    host: Document,
    packages: Mapping[str, str] | None = None,
    *,
    python: str = "python3",
) -> str:
    """What to type on a host, described by its facts, to install something.

    `packages` maps package managers to its packages, `python` is the interpreter whose packages the
    ranks use. The distribution's own package comes first, pip's after it.
    """
    known = packages if packages is not None else PACKAGES.get(name, {})
    ways = []
    manager = package_manager(host)
    if manager is not None and manager in known:
        ways.append(_by_manager(manager, host, known[manager].split()))
    if "pip" in known:
        ways.append(shlex.join([python, "-m", "pip", "install", *known["pip"].split()]))
    if ways:
        return ", or: ".join(ways)
    names = sorted({package for key, package in known.items() if key != "pip"} | {name})
    if manager is not None and not known:
        return _by_manager(manager, host, [name])
    return f"install {' or '.join(names)} with the package manager of {system_name(host)}"


def _by_manager(manager: str, host: Document, packages: Sequence[str]) -> str:
    sudo = () if host["uid"] == 0 or manager == "brew" else ("sudo",)
    return shlex.join([*sudo, *MANAGERS[manager], *packages])


def package_manager(host: Document) -> str | None:
    """The package manager of a host: by its distribution, by those it is like, by its system."""
    distribution = host["distribution"]
    release = distribution["version"].partition(".")[0]
    if (distribution["id"], release) in YUM:
        return "yum"
    for name in (distribution["id"], *distribution["like"], host["system"]):
        # opensuse-leap and opensuse-tumbleweed are one family.
        family = name.partition("-")[0]
        if (manager := SYSTEMS.get(name) or SYSTEMS.get(family)) is not None:
            return manager
    return None


def system_name(host: Document) -> str:
    """The operating system in words."""
    return str(host["distribution"]["name"] or host["system"])
