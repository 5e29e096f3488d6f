"""Bad input: one clear message, the right exit code, nothing left behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlps.engine.cli import main
from mlps.engine.commands import prepare
from mlps.engine.options import find_options
from mlps.engine.schema import benchmark_schema

QUICK = "benchmark=kvcache/quick"
PREFIX_KEYS = ", ".join(
    sorted(benchmark_schema({"family": "kvcache", "workload": "prefix"})["properties"])
)
BENCHMARKS = ", ".join(option.name for option in find_options("benchmark", ()))


def seen(place) -> set[str]:
    """All files below the workplace, to see that nothing was made."""
    return {path.relative_to(place.root).as_posix() for path in place.root.rglob("*")}


def refused(place, code: int, *words: str, **env: str) -> str:
    """The error text of a command line that is refused without touching anything."""
    before = seen(place)
    done = place.run(*words, **env)
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert seen(place) == before
    return done.stderr.removeprefix("checking the machine\n")


CONFIGURATION = {
    "no benchmark": (
        ["cluster=local"],
        f"error: no benchmark chosen; there are: {BENCHMARKS}\n"
        "  hint: mlps benchmark=kvcache/quick cluster=local\n",
    ),
    "unknown option": (
        ["benchmark=kvcache/quik"],
        f"error: benchmark=kvcache/quik: no such option; there are: {BENCHMARKS}\n"
        "  hint: benchmark=kvcache/quick\n",
    ),
    "unknown key": (
        [QUICK, "benchmark.user=4"],
        "error: benchmark.user (command line: benchmark.user=4): unknown key\n"
        "  hint: did you mean benchmark.users?\n",
    ),
    "unknown root key": (
        [QUICK, "sead=4"],
        "error: sead (command line: sead=4): unknown key\n  hint: did you mean seed?\n",
    ),
    "wrong type": (
        [QUICK, "benchmark.users=four"],
        "error: benchmark.users (command line: benchmark.users=four): expected an integer >= 1 "
        'and <= 100000, got "four"\n  hint: for example benchmark.users=4\n',
    ),
    "out of range": (
        [QUICK, "seed=-1"],
        "error: seed (command line: seed=-1): expected an integer >= 0 and <= 4294967295, got -1\n"
        "  hint: for example seed=42\n",
    ),
    "missing value": (
        [QUICK, "data_dir=???"],
        "error: data_dir (command line: data_dir=???): a value is required\n"
        "  hint: data_dir=VALUE\n",
    ),
    "no trace": (
        ["benchmark=kvcache/trace"],
        "error: benchmark.trace.path (conf/benchmark/kvcache/trace.yaml): a value is required\n"
        "  hint: benchmark.trace.path=VALUE\n",
    ),
    "a key of another workload": (
        ["benchmark=kvcache/prefix", "benchmark.stores_in_flight=4"],
        "error: benchmark.stores_in_flight (command line: benchmark.stores_in_flight=4): unknown "
        f"key; there are: {PREFIX_KEYS}\n",
    ),
    "a word that is none": (
        ["benchmark=kvcache", "benchmark.workload=v2"],
        "error: benchmark.workload (command line: benchmark.workload=v2): expected one of turns, "
        'v3, prefix, trace, got "v2"\n',
    ),
    "two overrides of one key": (
        [QUICK, "seed=1", "seed=2"],
        "error: seed (command line): set twice: seed=1 and seed=2\n  hint: keep one\n",
    ),
    "several values outside a sweep": (
        [QUICK, "seed=1,2"],
        "error: seed (command line): seed=1,2 has several values, but this is not a sweep\n"
        "  hint: mlps -m seed=1,2 runs one job per value; a list is written seed=[a,b]\n",
    ),
    "grammar": (
        [QUICK, "seed=[1"],
        "error: override 'seed=[1' cannot be read: no viable alternative at input '[1'\n"
        "  hint: the form is key=value; quote a value with special characters: 'key=\"a,b\"'\n",
    ),
    "more ranks than slots": (
        [QUICK, "cluster.ranks_per_host=17"],
        "error: cluster.ranks_per_host (command line: cluster.ranks_per_host=17): 17 ranks on a "
        "host, but it has 16 slots\n  hint: fewer ranks, or cluster.slots_per_host=17\n",
    ),
    "ranks that do not divide": (
        [QUICK, "cluster=2node", "cluster.ranks=3"],
        "error: cluster.ranks (command line: cluster.ranks=3): 3 ranks cannot be the same number "
        "on each of 2 hosts\n  hint: cluster.ranks=2\n",
    ),
    "several ranks without MPI": (
        [QUICK, "launcher=process"],
        "error: launcher.name (conf/launcher/process.yaml): starts one rank, but the job has 2\n"
        "  hint: cluster.ranks_per_host=1 or launcher=mpich\n",
    ),
    "unknown stage": (
        [QUICK, "stages=[run,rum]"],
        "error: stages (command line: stages=[run,rum]): rum is no stage; there are: prepare, "
        "roofline_before, run, roofline_after, cleanup\n",
    ),
    "a value that points nowhere": (
        [QUICK, "trials=${benchmark.trails}"],
        "error: trials (command line: trials=${benchmark.trails}): Interpolation key "
        "'benchmark.trails' not found\n",
    ),
    "unknown command": (
        ["reprot"],
        "error: reprot: no such command; there are: plan, doctor, facts, verify, report, compare, "
        "history, rerun, resume, package, rules, system, lockfile\n  hint: mlps report\n",
    ),
    "a command in the middle": (
        [QUICK, "plan"],
        "error: 'plan' is neither a command nor an override\n"
        "  hint: a command comes first (mlps plan ...); an override has the form key=value\n",
    ),
    "unknown flag": ([QUICK, "--fast"], "error: --fast: no such flag\n  hint: mlps --help\n"),
}


@pytest.fixture
def main_here(place, monkeypatch, capsys):
    """The command in this process, which spares most of the time of one: code, output, errors."""
    monkeypatch.chdir(place.root)
    monkeypatch.delenv("MLPS_CONF_PATH", raising=False)
    monkeypatch.setattr("mlps.engine.processes.adopt_orphans", lambda: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["mlps", *words])
        return main(), *capsys.readouterr()

    return run


@pytest.mark.parametrize(("words", "text"), CONFIGURATION.values(), ids=CONFIGURATION)
def test_configuration_is_refused(place, main_here, words, text):
    before = seen(place)
    assert main_here(*words) == (2, "", text)
    assert seen(place) == before


def test_all_problems_are_reported_together(place):
    text = refused(
        place, 2, QUICK, "benchmark.users=0", "benchmark.user=1", "seed=x", "data_dir=???"
    )
    assert text.startswith("error: 4 problems in the configuration, nothing was started:\n  1. ")
    for key in ("benchmark.users", "benchmark.user ", "seed", "data_dir"):
        assert key in text


def test_broken_yaml_in_a_users_file_is_named_by_line(place):
    path = place.root / "conf" / "cluster" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("name: mine\nhosts: [a\nslots: 2\n")
    text = refused(place, 2, QUICK, "cluster=mine")
    assert text.startswith(f"error: {path}, line 3, column ")


def test_a_problem_in_a_users_file_names_the_file(place):
    path = place.root / "conf" / "cluster" / "mine.yaml"
    path.parent.mkdir(parents=True)
    keys = "hosts: [localhost]\nranks_per_host: 1\nranks: null\npython: null\n"
    path.write_text(f"name: mine\nslots_per_host: many\n{keys}")
    text = refused(place, 2, QUICK, "cluster=mine")
    assert text.startswith(f"error: cluster.slots_per_host ({path}): expected an integer")


def test_a_users_file_cannot_shadow_a_packaged_one(place):
    path = place.root / "conf" / "cluster" / "local.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("name: hijacked\n")
    done = place.run("plan", QUICK)
    assert done.returncode == 0
    assert done.stderr.startswith(f"note: {path} has no effect: mlps has a packaged option")


@pytest.mark.parametrize("division", ["closed", "open"])
def test_a_workload_outside_the_edition_does_not_count(main_here, division):
    code, _, text = main_here(QUICK, f"division={division}")
    assert code == 7
    assert "error JOB-01 benchmark.name: kvcache/quick is not scored in division" in text


# ---------------------------------------------------------------- the machine


def test_a_missing_data_dir(place):
    text = refused(place, 3, QUICK, "data_dir=nowhere")
    path = place.root / "nowhere"
    assert text == (
        "error: the machine is not ready, nothing was started:\n"
        f"  error DIR-01 data_dir: {path} does not exist\n"
        f"  hint: mkdir -p {path}, or data_dir=DIRECTORY\n"
    )


def test_a_data_dir_that_is_a_file(place):
    (place.root / "file").write_text("")
    text = refused(place, 3, QUICK, "data_dir=file")
    assert f"DIR-01 data_dir: {place.root / 'file'} is not a directory" in text


def test_a_data_dir_that_is_results_dir(place):
    text = refused(place, 3, QUICK, "data_dir=data", "results_dir=data")
    assert "DIR-03 data_dir: " in text
    assert "is also results_dir" in text


def test_a_results_dir_that_is_a_file(place):
    (place.root / "file").write_text("")
    text = refused(place, 3, QUICK, "data_dir=data", "results_dir=file")
    assert f"DIR-02 results_dir: {place.root / 'file'} is not a directory" in text


@pytest.fixture
def tmpfs(place):
    """Mounts a small or read-only file system in the workplace; needs root."""
    mounted = []

    def mount(options: str):
        path = place.root / f"mount{len(mounted)}"
        path.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path])
        if done.returncode != 0:
            pytest.skip("mounting a tmpfs needs root")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_data_dir_that_cannot_be_written(place, tmpfs):
    path = tmpfs("size=1m,ro")
    text = refused(place, 3, QUICK, f"data_dir={path}")
    assert f"DIR-01 data_dir: {path} cannot be written: Read-only file system" in text


def test_a_data_dir_without_the_space(place, tmpfs):
    path = tmpfs("size=8m")
    text = refused(place, 3, QUICK, f"data_dir={path}")
    assert f"CAP-01 data_dir: {path} has 0.01 GiB free, the job needs 0.38 GiB (" in text


def test_a_full_data_dir(place, tmpfs):
    path = tmpfs("size=1m")
    (path / "ballast").write_bytes(bytes(1 << 20))
    text = refused(place, 3, QUICK, f"data_dir={path}")
    assert f"DIR-01 data_dir: {path} cannot be written: No space left on device" in text


@pytest.mark.parametrize(
    ("options", "reason"),
    [("size=1m,ro", "Read-only file system"), ("size=64k", "No space left on device")],
    ids=["read-only", "full"],
)
def test_a_description_that_cannot_be_written(place, tmpfs, options, reason):
    path = tmpfs(options)
    if "ro" not in options:
        (path / "ballast").write_bytes(bytes(64 << 10))
    text = refused(place, 2, "system", "init", "filer", "--out", f"{path}/new/filer.yaml")
    assert text.startswith(
        f"error: {path}/new/filer.yaml cannot be written: {reason}\n  hint: --out"
    )


def test_no_mpi_found_beside_another_finding(place):
    text = refused(place, 3, QUICK, "data_dir=nowhere", "launcher.program=mpiexec.none")
    assert "error DIR-01 data_dir: " in text
    assert (
        "error ENV-01 launcher: mpiexec.none of launcher mpich was not found on PATH\n  hint: "
        in text
    )
    assert "-m pip install mpich" in text
    assert "installed are launcher=mpich" in text


def test_doctor_says_what_preflight_says(place):
    done = place.run("doctor", QUICK, "data_dir=nowhere")
    assert done.returncode == 3
    assert "DIR-01" in done.stdout
    assert place.run("doctor", QUICK, "data_dir=data").stdout.endswith("\nready\n")


# ---------------------------------------------------------------- archives


@pytest.mark.parametrize("command", ["verify", "report", "rerun", "resume"])
def test_a_path_that_is_no_archive(main_here, command):
    code, out, text = main_here(command, "data")
    assert (code, out) == (6, "")
    assert text.startswith("error: ")
    assert "is no archive: it holds no job.json" in text


def test_an_unreadable_archive(place):
    (place.data_dir / "job.json").write_text("{\n  nonsense")
    text = refused(place, 6, "rerun", "data")
    assert text.startswith(f"error: {place.data_dir}/job.json is no JSON: line 2 column 3: ")


def test_the_checks_above_reach_the_command_they_test():
    """A configuration that is right is not refused: the table's refusals are not of everything."""
    assert prepare([QUICK]).spec.benchmark == "kvcache/quick"
