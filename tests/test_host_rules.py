"""Judgement of hosts: each rule fires by facts and does not fire without; hosts are named once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.host_rules import (
    Reference,
    hosts_document,
    judge_dependencies,
    judge_likeness,
    judge_memory,
    judge_mpi,
    judge_open_files,
    judge_reach,
    judge_root,
    judge_setting,
    judge_software,
    merged,
    mpi_family,
    mpi_name,
    traits_of,
)
from mlps.engine.reach import Probed, Trouble
from mlps.engine.rule_table import RULES
from mlps.engine.rules import Finding
from mlps.engine.spec import Preflight

GIB = 2**30
REFERENCE = Reference(python="3.12.4", version="1.0", content_sha256="a" * 64)
OMPI = "Open MPI v5.0.11, package: Open MPI x, ident: 5.0.11"
MPICH = "MPICH Version: 5.0.2"

LIMITS = Preflight(skip=(), ssh_limit_s=5, launch_limit_s=10)


def host(name="node1", *, here=False, offset_s=0.0, **changes):
    facts = {
        "mlps_host": name,
        "system": "Linux",
        "kernel": "6.1",
        "distribution": {"id": "debian", "like": [], "version": "12", "name": "Debian 12"},
        "python": "3.12.4",
        "executable": "/v/bin/python",
        "mlps": {"version": "1.0", "content_sha256": "a" * 64},
        "packages": {"numpy": "2.0"},
        "programs": {"fio": "/usr/bin/fio"},
        "mpi": {"library": MPICH, "error": None},
        "data_dir": {"path": "/data", "free_bytes": 7, "device": 1},
        "memory_bytes": 64 * GIB,
        "memory_available_bytes": 60 * GIB,
        "nics": [{"name": "eth0", "state": "up", "speed_mbit_s": 100_000}],
        "open_files": {"soft": 1024, "hard": 4096},
        "cpus": 8,
        "cpus_allowed": 8,
        "uid": 0,
        "ipc_is_removed": False,
        "unix_s": 1.0,
    }
    return Probed(name=name, here=here, facts=facts | changes, clock_offset_s=offset_s)


def lost(name, kind, text=""):
    return Probed(name=name, here=False, trouble=Trouble(kind=kind, text=text))


def said(findings):
    return [str(finding) for finding in findings]


def rules(findings):
    return [(finding.rule, finding.severity, finding.host) for finding in findings]


def test_hosts_in_order_have_no_findings():
    hosts = [host("node1"), host("node2")]
    ranks = {"node1": 2, "node2": 2}
    assert list(judge_reach(hosts, ssh="ssh", limits=LIMITS)) == []
    assert list(judge_software(hosts, REFERENCE)) == []
    assert list(judge_dependencies(hosts, ["numpy"], ["fio"], "b")) == []
    assert list(judge_memory(hosts, ranks, 30 * GIB, None)) == []
    assert list(judge_open_files(hosts, 3840)) == []
    assert list(judge_setting(hosts)) == []
    assert list(judge_likeness(traits_of(hosts))) == []


# ---------------------------------------------------------------- reach


@pytest.mark.parametrize(
    ("kind", "rule", "text", "hint"),
    [
        ("name", "ENV-04", "does not resolve", "getent hosts node2"),
        ("refused", "ENV-04", "no ssh server listens: SAID", "systemctl start sshd"),
        ("unreachable", "ENV-04", "cannot be reached: SAID", "ping -c 1 node2"),
        ("host_key", "ENV-04", "host key is not known", "ssh-keyscan -H node2 >> ~/.ssh/known_"),
        ("host_key_changed", "ENV-04", "is not the one in known_hosts", "ssh-keygen -R node2"),
        ("login", "ENV-04", "refuses the login", "ssh-copy-id node2"),
        ("closed", "ENV-04", "ended early: SAID", "myssh node2 true"),
        ("limit", "ENV-04", "in time (preflight.ssh_limit_s=5)", "myssh node2 true"),
        ("launch_limit", "ENV-04", "in time (preflight.launch_limit_s=10): SAID", "is it busy?"),
        ("silent", "ENV-04", "launcher did not start the probe", "hostname"),
        ("rubbish", "ENV-04", "something else than the probe's facts: 'SAID'", "myssh node2 true"),
        ("probe", "ENV-04", "probe failed on it: SAID", "myssh node2"),
        ("python", "ENV-06", "no usable Python at this path: SAID", "cluster.python=PATH"),
        ("mlps", "ENV-05", "not installed in its Python: SAID", "install the same mlps"),
        ("package", "ENV-09", "package of its Python is missing: SAID", "with its dependencies"),
    ],
)
def test_why_a_host_cannot_be_used(kind, rule, text, hint):
    hosts = [host("node1"), lost("node2", kind, "SAID")]
    (found,) = judge_reach(hosts, ssh="myssh", limits=LIMITS)
    assert (found.rule, found.severity, found.host) == (rule, "error", "node2")
    assert text in found.text
    assert hint in found.hint


def test_one_trouble_of_many_hosts_is_one_line_with_one_command():
    hosts = [lost(f"node{n}", "login", f"root@node{n}: Permission denied") for n in range(1, 4)]
    names = [one.name for one in hosts]
    (found,) = merged(judge_reach(hosts, ssh="ssh", limits=LIMITS), names)
    assert found.host == "node[1-3]"
    assert found.text == "it refuses the login without a password: root@the host: Permission denied"
    assert found.hint == 'for host in node1 node2 node3; do ssh-copy-id "$host"; done'


def test_a_hint_for_very_many_hosts_stays_short():
    hosts = [lost(f"node{n}", "host_key") for n in range(1, 1025)]
    (found,) = merged(judge_reach(hosts, ssh="ssh", limits=LIMITS), [one.name for one in hosts])
    assert found.host == "node[1-1024]"
    assert len(found.hint) < 120


# ---------------------------------------------------------------- software


@pytest.mark.parametrize(("python", "severity"), [("3.11.9", "error"), ("3.12.5", "warning")])
def test_env_06_fires_where_python_differs(python, severity):
    (found,) = judge_software([host(), host("node2", python=python)], REFERENCE)
    assert rules([found]) == [("ENV-06", severity, "node2")]
    assert found.text == f"Python is {python}, on this machine 3.12.4"


@pytest.mark.parametrize(
    ("mlps", "text"),
    [
        ({"version": "0.9", "content_sha256": "a" * 64}, "mlps is 0.9, on this machine 1.0"),
        (
            {"version": "1.0", "content_sha256": "b" * 64},
            "mlps 1.0 has other files there: content SHA-256 bbbbbbbbbbbbbbbb, on this machine "
            "aaaaaaaaaaaaaaaa",
        ),
    ],
    ids=["version", "content"],
)
def test_env_05_fires_where_mlps_differs(mlps, text):
    (found,) = judge_software([host("node2", mlps=mlps)], REFERENCE)
    assert (found.rule, found.severity, found.text) == ("ENV-05", "error", text)


def test_env_08_and_09_fire_where_the_benchmark_lacks_something():
    hosts = [host(), host("node2", programs={"fio": None}, packages={"numpy": None})]
    found = list(judge_dependencies(hosts, ["numpy"], ["fio"], "kvcache"))
    assert rules(found) == [("ENV-08", "error", "node2"), ("ENV-09", "error", "node2")]
    assert found[0].text == "program fio, which kvcache starts, is not on PATH"
    assert found[0].hint == "apt-get install fio"
    assert found[1].hint == "/v/bin/python -m pip install numpy"


# ---------------------------------------------------------------- MPI


@pytest.mark.parametrize(
    ("text", "family", "name"),
    [
        ("mpirun (Open MPI) 4.1.4; Report bugs to", "openmpi", "Open MPI 4.1.4"),
        (OMPI, "openmpi", "Open MPI 5.0.11"),
        ("prterun (PRRTE) 3.0.12", "openmpi", "Open MPI 3.0.12"),
        (MPICH, "mpich", "MPICH 5.0.2"),
        ("HYDRA build details:; Version: 4.3.1", "mpich", "MPICH 4.3.1"),
        ("MPI VERSION : CRAY MPICH version 8.1.28", "mpich", "MPICH 8.1.28"),
        ("Intel(R) MPI Library 2021.11 for Linux* OS", "intelmpi", "Intel MPI 2021.11"),
        ("slurm 22.05.8", None, "slurm 22.05.8"),
        ("", None, ""),
    ],
)
def test_families_and_names_of_mpi(text, family, name):
    assert (mpi_family(text), mpi_name(text)) == (family, name)


def mpi(hosts, wanted="mpich", program="/v/bin/mpiexec", version=MPICH):
    return list(judge_mpi(hosts, wanted=wanted, launcher=wanted, program=program, version=version))


@pytest.mark.parametrize(
    ("wanted", "version", "library"),
    [
        ("mpich", MPICH, MPICH),
        ("openmpi", OMPI, OMPI),
        ("intelmpi", "Intel(R) MPI Library", MPICH),
        ("mpich", "a launcher of its own", MPICH),
        (None, "slurm 22", OMPI),
        ("mpich", MPICH, "an unknown MPI"),
    ],
)
def test_env_07_is_silent_where_all_fit(wanted, version, library):
    assert mpi([host(mpi={"library": library, "error": None})], wanted, "/p", version) == []


def test_env_07_fires_where_the_program_is_of_another_mpi():
    (found,) = mpi([], "openmpi", "/v/bin/mpirun", MPICH)
    assert found.text == "/v/bin/mpirun is MPICH 5.0.2, but launcher openmpi is for Open MPI"
    assert "launcher=mpich" in found.hint


@pytest.mark.parametrize(
    ("program", "library"),
    [
        ("/opt/ompi/bin/mpirun", "/opt/ompi/lib/libmpi.so.40"),
        ("/usr/bin/mpirun", "libmpi.so.40"),
    ],
)
def test_env_07_fires_where_mpi4py_loads_another_mpi(program, library):
    (found,) = mpi([host("node2")], "openmpi", program, OMPI)
    assert (found.rule, found.host, found.key) == ("ENV-07", "node2", "launcher.env")
    assert found.text == ("mpi4py loads MPICH 5.0.2, which cannot talk to the launcher's Open MPI")
    assert found.hint == f"launcher.env.MPI4PY_LIBMPI={library}"


def test_env_07_fires_where_mpi4py_loads_nothing():
    (found,) = mpi([host(mpi={"library": None, "error": "cannot load libmpi"})])
    assert found.text == "mpi4py cannot load an MPI library: cannot load libmpi"
    (found,) = mpi([host(mpi={"library": None, "error": "x"})], None, None, "")
    assert found.hint.startswith("mend what mpi4py loads")


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ({}, True),
        ({"family": "mpich"}, False),
        ({"uid": 1000}, False),
        ({"may_run_as_root": True}, False),
        ({"by_scheduler": True}, False),
    ],
)
def test_env_10_is_about_root_and_open_mpi(changes, fires):
    asked = {"family": "openmpi", "may_run_as_root": False, "by_scheduler": False, "uid": 0}
    found = list(judge_root(**(asked | changes)))
    assert [(finding.rule, finding.hint) for finding in found] == (
        [("ENV-10", "launcher.run_as_root=true, or another user")] if fires else []
    )


# ---------------------------------------------------------------- resources


def test_env_03_counts_the_ranks_of_each_host():
    hosts = [host("node1"), host("node2", memory_available_bytes=3 * GIB - 1)]
    found = judge_memory(hosts, {"node1": 9, "node2": 3}, GIB, "1 queue")
    assert said(found) == [
        "error ENV-03 node2 cluster.ranks_per_host: 3 ranks x 1.00 GiB (1 queue) = 3.00 GiB of "
        "memory, available are 3.00 GiB\n  hint: fewer ranks on a host"
    ]


def test_many_hosts_short_of_memory_or_time_are_one_line_each():
    names = [f"node{n}" for n in range(1, 5)]
    hosts = [
        host(name, memory_available_bytes=number * GIB, offset_s=2.0 + number)
        for number, name in enumerate(names)
    ]
    (memory,) = merged(judge_memory(hosts, dict.fromkeys(names, 8), GIB, None), names)
    assert (memory.host, memory.text[-24:]) == ("node[1-4]", ", available are 0.00 GiB")
    (clock,) = merged(judge_setting(hosts), names)
    assert clock.text == "its clock is up to 5.0 s ahead of that of this machine"


@pytest.mark.parametrize(("hard", "fires"), [(1255, True), (1256, False), (-1, False)])
def test_env_12_compares_with_the_hard_limit(hard, fires):
    limits = {"soft": 1, "hard": hard}
    found = list(judge_open_files([host("node2", open_files=limits)], 1000))
    assert [finding.rule for finding in found] == (["ENV-12"] if fires else [])
    if fires:
        assert found[0].text == ("a rank opens 1000 files and 256 others, but `ulimit -Hn` is 1255")
        assert "nofile 1256" in found[0].hint


@pytest.mark.parametrize(
    ("offset_s", "text"),
    [
        (1.4, "its clock is 1.4 s ahead of that of this machine"),
        (-90.0, "its clock is 90.0 s behind that of this machine"),
        (0.9, None),
        (None, None),
    ],
)
def test_env_13_is_about_clocks(offset_s, text):
    findings = [*judge_setting([host(offset_s=offset_s)])]
    assert {finding.rule for finding in findings} <= {"ENV-13"}
    found = [finding.text for finding in findings]
    assert found == ([] if text is None else [text])


def test_env_14_and_15_warn_of_cores_and_of_shared_memory():
    hosts = [host(cpus_allowed=2, ipc_is_removed=True), host("here", here=True)]
    found = list(judge_setting(hosts))
    assert rules(found) == [("ENV-14", "warning", "node1"), ("ENV-15", "warning", "node1")]
    assert found[0].text == "only 2 of 8 cores may be used"


def test_env_15_is_not_about_this_machine():
    assert list(judge_setting([host(here=True, ipc_is_removed=True)])) == []


def test_env_16_says_how_hosts_differ():
    hosts = [host("node1"), host("node2", cpus=4, cpus_allowed=4, kernel="6.2")]
    found = list(judge_likeness(traits_of([*hosts, host("node3", memory_bytes=32 * GIB)])))
    assert [(finding.severity, finding.text) for finding in found] == [
        ("warning", "memory of the hosts differs: 32.0 to 64.0 GiB"),
        ("warning", "cores of the hosts differ: 8 on node1,node3; 4 on node2"),
        ("info", "kernel of the hosts differ: 6.1 on node1,node3; 6.2 on node2"),
    ]


def test_env_16_takes_a_tenth_of_memory_for_alike():
    hosts = traits_of([host(), host("node2", memory_bytes=58 * GIB)])
    assert list(judge_likeness(hosts)) == []
    assert list(judge_likeness(traits_of([host(memory_bytes=1)]))) == []


def nics(*speeds, state="up"):
    return [
        {"name": f"eth{number}", "state": state, "speed_mbit_s": speed}
        for number, speed in enumerate(speeds)
    ]


def test_env_16_tells_of_slower_networks():
    hosts = [
        host("node1", nics=nics(100_000, 100_000, 1000)),
        host("node2", nics=nics(25_000, 25_000)),
    ]
    assert said(judge_likeness(traits_of(hosts))) == [
        "warning ENV-16 cluster.hosts: network interfaces of the hosts differ: 1 x 1 Gbit/s, "
        "2 x 100 Gbit/s on node1; 2 x 25 Gbit/s on node2"
    ]


@pytest.mark.parametrize(
    "found", ["unknown", nics("unknown"), nics(100_000) + nics(10_000, state="down")]
)
def test_env_16_leaves_out_networks_that_tell_nothing_and_links_that_are_down(found):
    hosts = traits_of([host("node1"), host("node2", nics=found)])
    assert list(judge_likeness(hosts)) == []


# ---------------------------------------------------------------- together


def finding(rule, severity, host, text="t"):
    return Finding(rule=rule, severity=severity, text=text, host=host)


def test_the_same_finding_of_many_hosts_is_said_once_and_errors_come_first():
    found = merged(
        [
            finding("ENV-16", "info", None),
            finding("ENV-06", "warning", "node2"),
            finding("ENV-06", "error", "node10"),
            finding("ENV-06", "error", "node9"),
            finding("DIR-01", "error", "node1", "other"),
        ],
        [f"node{n}" for n in range(1, 11)],
    )
    assert rules(found) == [
        ("DIR-01", "error", "node1"),
        ("ENV-06", "error", "node[9-10]"),
        ("ENV-06", "warning", "node2"),
        ("ENV-16", "info", None),
    ]


def test_the_only_host_of_a_job_needs_no_name():
    (found,) = merged([finding("DIR-01", "error", "localhost")], ["localhost"])
    assert found.host is None


@given(
    st.lists(
        st.builds(
            finding,
            st.sampled_from(sorted(RULES)),
            st.sampled_from(["error", "warning", "info"]),
            st.sampled_from([None, "a", "b", "elsewhere"]),
        )
    )
)
def test_merging_loses_no_rule_and_does_not_depend_on_the_order(found):
    once = merged(found, ["a", "b"])
    assert {(f.rule, f.severity) for f in once} == {(f.rule, f.severity) for f in found}
    assert len({(f.rule, f.severity, f.text) for f in once}) == len(once)
    assert set(merged(found[::-1], ["a", "b"])) == set(once)


# ---------------------------------------------------------------- evidence


def test_facts_that_hosts_share_are_kept_once():
    hosts = [host(f"node{n}", offset_s=n / 1000, unix_s=n) for n in range(1, 1025)]
    hosts.append(host("other", kernel="6.2"))
    document = hosts_document(hosts)
    assert [group["hosts"] for group in document["alike"]] == ["node[1-1024]", "other"]
    assert document["measured"]["clock_offset_s"][:2] == [0.001, 0.002]
    assert len(document["measured"]["free_bytes"]) == 1025
    assert len(json.dumps(document)) < 100_000


def test_hosts_without_facts_are_kept_with_the_reason():
    document = hosts_document([lost("node9", "login", "Permission denied")])
    assert document["without_facts"] == {"node9": {"kind": "login", "said": "Permission denied"}}
