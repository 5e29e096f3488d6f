"""Hints: for each system the command that installs what is missing there."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.hints import MANAGERS, PACKAGES, install_hint, package_manager

MPICH = {"pip": "mpich", "apt": "mpich", "dnf": "mpich mpich-devel"}


def host(id="", *, like=(), version="", name="", system="Linux", uid=0):
    distribution = {"id": id, "like": list(like), "version": version, "name": name}
    return {"distribution": distribution, "system": system, "uid": uid}


@pytest.mark.parametrize(
    ("facts", "manager"),
    [
        (host("debian", version="12"), "apt"),
        (host("ubuntu", like=["debian"], version="24.04"), "apt"),
        (host("linuxmint", like=["ubuntu", "debian"]), "apt"),
        (host("fedora", version="41"), "dnf"),
        (host("rocky", like=["rhel", "centos", "fedora"], version="9.4"), "dnf"),
        (host("centos", like=["rhel", "fedora"], version="7"), "yum"),
        (host("centos", like=["rhel", "fedora"], version="9"), "dnf"),
        (host("amzn", version="2"), "yum"),
        (host("opensuse-leap", like=["suse", "opensuse"], version="15.6"), "zypper"),
        (host("sles", version="15"), "zypper"),
        (host("endeavouros", like=["arch"]), "pacman"),
        (host("alpine", version="3.20"), "apk"),
        (host(system="Darwin"), "brew"),
        (host("nixos"), None),
        (host(), None),
    ],
    ids=lambda value: value["distribution"]["id"] if isinstance(value, dict) else None,
)
def test_package_managers(facts, manager):
    assert package_manager(facts) == manager


@pytest.mark.parametrize(
    ("name", "facts", "packages", "hint"),
    [
        ("ssh", host("debian"), None, "apt-get install openssh-client"),
        ("ssh", host("debian", uid=7), None, "sudo apt-get install openssh-client"),
        ("ssh", host("rocky", like=["rhel"]), None, "dnf install openssh-clients"),
        ("fio", host("arch"), None, "pacman -S fio"),
        ("fio", host(system="Darwin", uid=501), None, "brew install fio"),
        ("uv", host("debian"), None, "/v/bin/python -m pip install uv"),
        (
            "mpiexec", host("fedora"), MPICH,
            "dnf install mpich mpich-devel, or: /v/bin/python -m pip install mpich",
        ),
        ("mpiexec", host("nixos"), MPICH, "/v/bin/python -m pip install mpich"),
        ("srun", host("debian"), PACKAGES["slurm"], "apt-get install slurm-client"),
    ],
)  # fmt: skip
def test_hints(name, facts, packages, hint):
    assert install_hint(name, facts, packages, python="/v/bin/python") == hint


def test_an_unknown_system_still_gets_a_useful_line():
    facts = host("plan9", name="Plan 9")
    expected = "install openssh-client or openssh-clients"
    assert install_hint("ssh", facts).startswith("install openssh or openssh-client or")
    assert install_hint("ssh", facts).endswith("with the package manager of Plan 9")
    assert expected.split()[1] in install_hint("ssh", facts)
    assert install_hint("mytool", facts) == "install mytool with the package manager of Plan 9"


def test_an_unknown_program_is_asked_of_the_package_manager():
    assert install_hint("mytool", host("debian", uid=5)) == "sudo apt-get install mytool"


@given(
    name=st.sampled_from([*PACKAGES, "other"]),
    id=st.sampled_from(["debian", "fedora", "sles", "arch", "alpine", "gentoo", ""]),
    uid=st.integers(0, 2000),
)
def test_every_hint_is_one_line_that_a_shell_can_read(name, id, uid):
    hint = install_hint(name, host(id, uid=uid, name="Some OS"))
    assert hint
    assert "\n" not in hint
    assert shlex.split(hint)
    if uid == 0:
        assert "sudo" not in hint


def test_the_tables_name_known_managers():
    for packages in PACKAGES.values():
        assert set(packages) <= {*MANAGERS, "pip"}
