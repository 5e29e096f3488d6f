"""The environment in which launcher and ranks run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlps.engine.rank_environment import find_program, rank_environment


def test_ranks_get_what_is_forwarded_and_nothing_else(make_spec):
    spec = make_spec({"launcher.forward_env": ["HOME", "LANG"], "launcher.env": {"X": "1"}})
    env = rank_environment(
        spec, "run-7", {"HOME": "/h", "SECRET": "s", "PATH": "/bin", "X": "outer"}
    )
    own = str(Path(sys.executable).parent)
    assert env == {
        "HOME": "/h",
        "PATH": f"{own}:{os.defpath}",
        "X": "1",
        "MLPS_JOB": spec.env_value,
        "MLPS_RUN_ID": "run-7",
    }


def test_programs_beside_python_come_first(make_spec):
    env = rank_environment(make_spec(), "r", {"PATH": "/a:/b"})
    assert env["PATH"].split(":")[1:] == ["/a", "/b"]


def test_a_launchers_own_variables_cannot_replace_the_job(make_spec):
    spec = make_spec({"launcher.env": {"MLPS_JOB": "x", "MLPS_RUN_ID": "y"}})
    env = rank_environment(spec, "r", {})
    assert (env["MLPS_JOB"], env["MLPS_RUN_ID"]) == (spec.env_value, "r")


def test_a_program_is_found_on_the_path_of_the_ranks(tmp_path):
    program = tmp_path / "mympi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_program("mympi", {"PATH": str(tmp_path)}) == program
    assert find_program("mympi", {"PATH": "/nowhere"}) is None
    assert find_program(str(program), {"PATH": "/nowhere"}) == program


def test_a_program_of_another_mpi_is_passed_over(tmp_path):
    for name in ("mpich/mpirun", "ompi/mpirun", "ompi/prterun"):
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    env = {"PATH": f"{tmp_path}/mpich:{tmp_path}/ompi"}
    assert find_program("mpirun", env) == tmp_path / "mpich/mpirun"
    assert find_program("mpirun", env, "prterun") == tmp_path / "ompi/mpirun"
    assert find_program("mpirun", env, "orterun") is None
    named = str(tmp_path / "mpich/mpirun")
    assert find_program(named, env, "prterun") == Path(named)


def test_only_the_schedulers_variables_that_the_launcher_names_reach_it(make_spec):
    shell = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "PBS_NODEFILE": "/f"}
    for forms, names in (
        (["SLURM_JOB_ID"], {"SLURM_JOB_ID"}),
        (["SLURM_*"], {"SLURM_JOB_ID", "SLURM_NTASKS"}),
        ([], set()),
    ):
        env = rank_environment(make_spec({"launcher.scheduler_env": forms}), "r", shell)
        assert set(env) & set(shell) == names


@pytest.mark.parametrize(
    ("python", "prefix"),
    [(None, Path(sys.executable).parent.parent), ("/opt/ranks/bin/python3", "/opt/ranks")],
)
def test_prefix_is_the_environment_of_the_ranks_python(make_spec, python, prefix):
    spec = make_spec({"launcher.env": {"LIB": "{prefix}/lib:x"}, "cluster.python": python})
    assert rank_environment(spec, "r", {})["LIB"] == f"{prefix}/lib:x"
