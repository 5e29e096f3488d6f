"""The steps of docs/clusters.md, from one host to a cluster, each carried out as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from workplace import PATIENT

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

PAGE = (Path(__file__).parents[2] / "docs/clusters.md").read_text(encoding="utf-8")
STEPS = PAGE.partition("\n## ")[0]

# So that each step takes seconds; and what hosts of a test need: their ssh, and root.
QUICK = (
    "benchmark.chunk_tokens=4 benchmark.chunks_per_user=8 benchmark.ramp_s=0.1 "
    f"benchmark.duration_s=0.5 {' '.join(PATIENT)}"
)
AS_ROOT = "launcher.run_as_root=true"


def steps(first_word):
    lines = re.findall(r"^ {4}(\S.*)$", STEPS, re.M)
    return [line for line in lines if line.split()[0] == first_word]


def in_a_shell(place, command, *more):
    """A command of the page, with the directories of the test in place of those of its reader."""
    line = command.replace("/mnt/storage", str(place.data_dir))
    line = line.replace("/home/me/results", str(place.results_dir))
    path = f"{place.mlps.parent}:{place.env.get('PATH', '')}:/usr/bin:/bin"
    env = {**place.env, "PATH": path}
    return place.cluster.head.run(
        ["sh", "-c", f"{line} {shlex.join(more)}"], cwd=place.root, env=env, timeout=120
    )


def test_the_steps_are_all_of_one_kind():
    assert [line.split()[0] for line in re.findall(r"^ {4}(\S.*)$", STEPS, re.M)] == [
        *["mlps"] * 7, "salloc",
    ]  # fmt: skip


def test_from_one_host_to_eight(make_place, openmpi5, load):
    place = make_place(8, **openmpi5)
    ((file, text),) = re.findall(r"^```yaml (\S+)\n(.*?)^```$", STEPS, re.M | re.S)
    (place.root / file).parent.mkdir(parents=True)
    (place.root / file).write_text(text)
    hosts = []
    for command in steps("mlps"):
        more = [*QUICK.split(), f"launcher.ssh={place.cluster.ssh}", "cluster.ranks_per_host=1"]
        more += [AS_ROOT] if "openmpi" in command else []
        before = set(place.archives())
        done = in_a_shell(place, command, *more)
        assert done.returncode == 0, command + done.stderr + done.stdout
        hosts += [load(path / "result.json")["hosts"] for path in set(place.archives()) - before]
    assert hosts == [1, 2, 8, 8, 8]


def test_the_step_to_slurm(make_slurm_place, load):
    place = make_slurm_place(2)
    (command,) = steps("salloc")
    done = in_a_shell(place, command, *QUICK.split())
    assert done.returncode == 0, done.stderr + done.stdout
    result = load(place.archive() / "result.json")
    assert (result["hosts"], result["ranks"]) == (2, 4)
