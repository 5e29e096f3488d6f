"""The argv of each launcher."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.hosts import Host
from mlps.engine.jobs import prepare
from mlps.engine.launch import MAX_HOSTS_WORD_BYTES, build_argv, rank_variables
from mlps.engine.launcher import SETTINGS

COMMAND = ("/opt/python3", "-m", "engine", "{hosts}")
FORWARDED = [
    "MLPS_JOB", "MLPS_RUN_ID", "PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR",
    "LD_LIBRARY_PATH", "SSH_AUTH_SOCK", "MPI4PY_LIBMPI", "OMPI_MCA_mpi_abort_delay",
    "OPENBLAS_NUM_THREADS",
]  # fmt: skip
FORWARD = [word for name in FORWARDED for word in ("-x", name)]
NAMES = (
    "mpich", "openmpi", "openmpi4", "intelmpi", "srun", "srun_pmix", "salloc", "pals", "process",
)  # fmt: skip


@pytest.fixture(scope="module")
def launchers():
    """The packaged launchers by name, as a job has them."""
    words = ["benchmark=kvcache/quick", "cluster.ranks_per_host=1"]
    jobs = [prepare([*words, f"launcher={name}"]) for name in NAMES]
    return {job.spec.launcher.name: job.spec.launcher for job in jobs}


def on(names, ranks=2):
    return [Host(name=name, slots=16, ranks=ranks) for name in names]


def argv(launcher, names=("localhost",), ranks=2, program=None):
    variables = rank_variables(launcher, launcher.forward_env)
    built = build_argv(
        launcher, COMMAND, hosts=on(names, ranks), program=program, variables=variables
    )
    return list(built.words)


HERE, THERE = ["localhost"], ["node1", "node2"]
SRUN = "srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --nodelist=node1,node2 --distribution=block"
SRUN_REST = (
    "--cpu-bind=none --overcommit --overlap --kill-on-bad-exit=1 --input=0 --export=ALL --chdir=/"
)


@pytest.mark.parametrize(
    ("name", "hosts", "expected"),
    [
        ("mpich", HERE, "mpiexec -n 2"),
        ("mpich", THERE, "mpiexec -launcher ssh -launcher-exec ssh -hosts node1:2,node2:2 -n 4"),
        (
            "openmpi",
            HERE,
            "mpirun --host localhost:2 -n 2 --bind-to none FORWARD",
        ),
        (
            "openmpi",
            THERE,
            "mpirun --host node1:2,node2:2 --mca plm_ssh_agent ssh -n 4 --bind-to none FORWARD",
        ),
        (
            "openmpi4",
            THERE,
            "mpirun --host node1:2,node2:2 --mca plm_rsh_agent ssh -n 4 --bind-to none FORWARD",
        ),
        (
            "intelmpi",
            THERE,
            "mpiexec.hydra -bootstrap ssh -bootstrap-exec ssh -hosts node1,node2 -ppn 2 -n 4 "
            "-genv I_MPI_PIN off",
        ),
        ("srun", THERE, f"{SRUN} --mpi=pmi2 {SRUN_REST}"),
        ("srun_pmix", THERE, f"{SRUN} --mpi=pmix {SRUN_REST}"),
        (
            "salloc",
            THERE,
            "mpirun --host node1:2,node2:2 --prtemca plm_slurm_args --overlap -n 4 --bind-to none "
            "FORWARD",
        ),
        ("pals", THERE, "mpiexec --hosts node1,node2 -n 4 --ppn 2 --cpu-bind none"),
        ("process", HERE, ""),
    ],
)
def test_packaged_launchers(launchers, name, hosts, expected):
    words = expected.replace("FORWARD", " ".join(FORWARD)).split()
    program = f"/opt/ompi/bin/{words[0]}" if words else None
    assert argv(launchers[name], hosts, program=program) == [
        *([program] if program else []), *words[1:], *COMMAND,
    ]  # fmt: skip


def test_the_program_stands_where_it_was_found(launchers):
    assert argv(launchers["mpich"], program="/opt/mpi/bin/mpiexec")[0] == "/opt/mpi/bin/mpiexec"
    assert argv(launchers["process"], program="/opt/mpi/bin/mpiexec")[0] == COMMAND[0]


def test_the_command_is_never_filled_in(launchers):
    assert argv(launchers["mpich"])[-1] == "{hosts}"


def test_places_are_filled_everywhere_else(launchers):
    launcher = replace(
        launchers["mpich"],
        program="start",
        argv=("--ranks={ranks}", "{hosts}", "{binding}", "{extra_args}", "{command}", "--end"),
        parts=dict(launchers["mpich"].parts)
        | {"hosts": ("--on={hosts}", "--total={ranks}", "--by={ssh}"), "binding": ("-b{binding}",)},
        host_format="{host}*{ranks}",
        settings={"binding": "core"},
        ssh="/x/ssh",
        extra_args=("--of={ranks}/{host_count}/{ranks_per_host}", "{command}"),
    )
    assert argv(launcher, ["a", "b"], 3) == [
        "start", "--ranks=6", "--on=a*3,b*3", "--total=6", "--by=/x/ssh", "-bcore", "--of=6/2/3",
        "{command}", *COMMAND, "--end",
    ]  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_stands_for_its_arguments_only_when_it_is_set(launchers, setting):
    launcher = replace(
        launchers["mpich"],
        argv=(f"{{{setting}}}", "{command}"),
        parts=dict(launchers["mpich"].parts) | {setting: ("--it", f"{{{setting}}}")},
        settings={},
    )
    assert argv(launcher) == ["mpiexec", *COMMAND]
    launcher = replace(launcher, settings={setting: "so"})
    assert argv(launcher) == ["mpiexec", "--it", "so", *COMMAND]


@given(count=st.integers(1, 1024), name=st.sampled_from(NAMES[:-1]))
def test_an_argv_stays_short_and_the_hosts_are_all_named(launchers, count, name):
    hosts = on([f"a-long-name-of-a-host-{number:04d}.example.org" for number in range(count)])
    built = build_argv(launchers[name], COMMAND, hosts=hosts)
    assert len(" ".join(built.words)) < MAX_HOSTS_WORD_BYTES + 1000
    text = built.hostfile or " ".join(built.words)
    assert all(host.name in text for host in hosts)
    assert (built.hostfile is not None) == any("/dev/fd/199" in word for word in built.words)


def test_variables_are_named_once_the_jobs_own_first(launchers):
    launcher = replace(
        launchers["mpich"], forward_env=("PATH", "HOME", "PATH"), env={"X": "1", "HOME": "/h"}
    )
    shell = ("HOME", "OTHER")
    assert rank_variables(launcher, shell) == ("MLPS_JOB", "MLPS_RUN_ID", "PATH", "HOME", "X")


def test_variables_do_not_depend_on_the_order_that_they_are_given_in(launchers):
    """An archive holds a job with its keys in order; its plan must come out the same."""
    orders = ({"A": "1", "Z": "2"}, {"Z": "2", "A": "1"})
    first, second = (rank_variables(replace(launchers["mpich"], env=env), ()) for env in orders)
    assert first == second


def test_what_the_shell_does_not_have_is_not_forwarded(launchers):
    launcher = replace(launchers["mpich"], forward_env=("PATH", "LC_ALL", "USER"), env={})
    assert rank_variables(launcher, ["USER"]) == ("MLPS_JOB", "MLPS_RUN_ID", "PATH", "USER")


def test_every_variable_is_forwarded_where_the_launcher_wants_it(launchers):
    launcher = replace(
        launchers["mpich"],
        argv=("{forward}",),
        parts=dict(launchers["mpich"].parts) | {"forward": ("-x", "{name}=${name}")},
        forward_env=("A",),
        env={"B": "2"},
    )
    words = argv(launcher)
    assert words == ["mpiexec"] + [
        word for name in ("MLPS_JOB", "MLPS_RUN_ID", "A", "B") for word in ("-x", f"{name}=${name}")
    ]
