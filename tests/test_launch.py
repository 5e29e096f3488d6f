"""The argv of each launcher."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlps.engine.jobs import prepare
from mlps.engine.launch import build_argv, rank_variables

COMMAND = ("/opt/python3", "-m", "engine", "{hosts}")
FORWARDED = [
    "MLPS_JOB", "MLPS_RUN_ID", "PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR",
    "LD_LIBRARY_PATH", "SSH_AUTH_SOCK",
]  # fmt: skip


@pytest.fixture(scope="module")
def launchers():
    """The packaged launchers by name, as a job has them."""
    jobs = [
        prepare(["benchmark=kvcache/quick", f"launcher={name}", "cluster.ranks_per_host=1"])
        for name in ("mpich", "openmpi", "process")
    ]
    return {job.spec.launcher.name: job.spec.launcher for job in jobs}


def argv(launcher, hosts=("localhost",), ranks_per_host=2):
    return list(build_argv(launcher, COMMAND, hosts=hosts, ranks_per_host=ranks_per_host))


@pytest.mark.parametrize(
    ("name", "hosts", "expected"),
    [
        pytest.param("mpich", ["localhost"], ["mpiexec", "-n", "2"], id="mpich here"),
        pytest.param(
            "mpich",
            ["node1", "node2"],
            ["mpiexec", "-launcher", "ssh", "-hosts", "node1:2,node2:2", "-n", "4"],
            id="mpich on hosts",
        ),
        pytest.param(
            "openmpi",
            ["localhost"],
            ["mpirun", "-n", "2", *[w for n in FORWARDED for w in ("-x", n)], "--oversubscribe"],
            id="openmpi here",
        ),
        pytest.param(
            "openmpi",
            ["node1", "node2"],
            ["mpirun", "--host", "node1:2,node2:2", "-n", "4"]
            + [w for n in FORWARDED for w in ("-x", n)]
            + ["--oversubscribe"],
            id="openmpi on hosts",
        ),
        pytest.param("process", ["localhost"], [], id="process"),
    ],
)
def test_packaged_launchers(launchers, name, hosts, expected):
    assert argv(launchers[name], hosts) == [*expected, *COMMAND]


def test_the_command_is_never_filled_in(launchers):
    assert argv(launchers["mpich"])[-1] == "{hosts}"


def test_places_are_filled_everywhere_else(launchers):
    launcher = replace(
        launchers["mpich"],
        program="start",
        argv=("--ranks={ranks}", "{hosts_argv}", "{extra_args}", "{command}", "--end"),
        hosts_argv=("--on={hosts}", "--total={ranks}"),
        host_format="{host}*{ranks}",
        extra_args=("--of={ranks}", "{command}"),
    )
    assert argv(launcher, ["a", "b"], 3) == [
        "start", "--ranks=6", "--on=a*3,b*3", "--total=6", "--of=6", "{command}", *COMMAND, "--end",
    ]  # fmt: skip


def test_variables_are_named_once_the_jobs_own_first(launchers):
    launcher = replace(
        launchers["mpich"], forward_env=("PATH", "HOME", "PATH"), env={"X": "1", "HOME": "/h"}
    )
    assert rank_variables(launcher) == ("MLPS_JOB", "MLPS_RUN_ID", "PATH", "HOME", "X")


def test_every_variable_is_forwarded_where_the_launcher_wants_it(launchers):
    launcher = replace(
        launchers["mpich"],
        argv=("{forward}",),
        forward_argv=("-x", "{name}=${name}"),
        forward_env=("A",),
        env={"B": "2"},
    )
    words = argv(launcher)
    assert words == ["mpiexec"] + [
        word for name in ("MLPS_JOB", "MLPS_RUN_ID", "A", "B") for word in ("-x", f"{name}=${name}")
    ]
