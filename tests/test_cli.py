"""The command line: which words are what, what is printed where, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlps.engine import archive as files
from mlps.engine import cli
from mlps.engine.cli import CommandLine, parse
from mlps.engine.errors import ConfigError
from mlps.engine.help import help_text
from mlps.engine.options import GROUPS, find_options

# ---------------------------------------------------------------- sorting words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", CommandLine(command="usage", words=())),
        ("--help", CommandLine(command="help", words=())),
        ("-h", CommandLine(command="help", words=())),
        ("help", CommandLine(command="help", words=())),
        ("--version", CommandLine(command="version", words=())),
        ("seed=1", CommandLine(command="run", words=("seed=1",))),
        ("+a=1 ~system", CommandLine(command="run", words=("+a=1", "~system"))),
        ("-m seed=1,2", CommandLine(command="sweep", words=("seed=1,2",))),
        ("seed=1,2 --multirun", CommandLine(command="sweep", words=("seed=1,2",))),
        ("seed=1 --json", CommandLine(command="run", words=("seed=1",), as_json=True)),
        ("plan seed=1 --json", CommandLine(command="plan", words=("seed=1",), as_json=True)),
        ("doctor", CommandLine(command="doctor", words=())),
        ("report a b --csv", CommandLine(command="report", words=("a", "b", "--csv"))),
        ("--cfg job seed=1", CommandLine(command="hydra", words=("--cfg", "job", "seed=1"))),
        ("seed=1 -c job", CommandLine(command="hydra", words=("seed=1", "-c", "job"))),
        ("-sc install=bash", CommandLine(command="hydra", words=("-sc", "install=bash"))),
        ("verify --json x", CommandLine(command="verify", words=("x",), as_json=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_words(words, expected):
    assert parse(words.split()) == expected


@pytest.mark.parametrize("form", ["--config-dir {}", "--config-dir={}", "-cd {}"])
def test_configuration_directories(tmp_path, form):
    line = parse(["plan", *form.format(tmp_path).split(), "seed=1"])
    assert (line.words, line.config_dirs) == (("seed=1",), (tmp_path,))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            "reprot x",
            "reprot: no such command; there are: plan, doctor, facts, verify, report, "
            "compare, history, rerun, resume, package, rules, system, lockfile\n"
            "  hint: mlps report",
        ),
        (
            "xyzzy",
            "xyzzy: no such command; there are: plan, doctor, facts, verify, report, "
            "compare, history, rerun, resume, package, rules, system, lockfile\n"
            "  hint: an override has the form key=value; see mlps --help",
        ),
        (
            "seed=1 plan",
            "'plan' is neither a command nor an override\n"
            "  hint: a command comes first (mlps plan ...); an override has the form key=value",
        ),
        ("seed=1 --jsno", "--jsno: no such flag\n  hint: mlps --help"),
        ("plan --csv", "--csv: no such flag\n  hint: mlps --help"),
        ("--config-dir", "--config-dir : not a directory\n  hint: --config-dir DIR"),
        (
            "--config-dir=/nowhere",
            "--config-dir /nowhere: not a directory\n  hint: --config-dir DIR",
        ),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_words_that_belong_nowhere(words, text):
    with pytest.raises(ConfigError) as caught:
        parse(words.split())
    assert str(caught.value) == text


# ---------------------------------------------------------------- help and version


def test_bare_mlps_shows_its_help_on_standard_error(mlps):
    code, out, err = mlps()
    assert (code, out) == (2, "")
    assert err == help_text(())


def test_help_lists_every_option_and_command(mlps):
    code, out, err = mlps("--help")
    assert (code, err) == (0, "")
    for group in GROUPS:
        assert f"\n  {group}=" in out
        for option in find_options(group, ()):
            assert f"{option.name:<16} {option.summary}" in out
    for command in (*cli.JOB_COMMANDS, *cli.PATH_COMMANDS):
        assert f"\n  {command:<9}" in out


def test_help_lists_a_users_options(mlps, tmp_path, monkeypatch):
    (tmp_path / "lab/cluster").mkdir(parents=True)
    (tmp_path / "lab/cluster/mylab.yaml").write_text("# My machines\nname: mylab\n")
    monkeypatch.setenv("MLPS_CONF_PATH", "lab")
    assert "mylab            My machines" in mlps("--help")[1]


def test_version(mlps):
    code, out, _ = mlps("--version")
    assert (code, out.split()[0]) == (0, "mlps")


# ---------------------------------------------------------------- errors


def test_an_expected_error_is_one_paragraph(mlps):
    assert mlps("benchmark=zzz") == (
        2,
        "",
        "error: benchmark=zzz: no such option; there are: "
        + ", ".join(option.name for option in find_options("benchmark", ()))
        + "\n  hint: mlps --help lists them with what they are for\n",
    )


@pytest.mark.parametrize("command", ["verify", "report", "rerun", "resume"])
def test_what_is_no_archive(mlps, tmp_path, command):
    code, out, err = mlps(command, tmp_path / "nowhere")
    assert (code, out) == (6, "")
    assert err.startswith(f"error: {tmp_path}/nowhere is not a directory\n")


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [(KeyboardInterrupt(), 130, "error: interrupted\n"), (ConfigError("a"), 2, "error: a\n")],
)
def test_ends(mlps, monkeypatch, raised, code, text):
    def dispatch(line):
        raise raised

    monkeypatch.setattr(cli, "_dispatch", dispatch)
    assert mlps("seed=1") == (code, "", text)


def test_a_bug_is_a_traceback(mlps, monkeypatch):
    monkeypatch.setattr(cli, "_dispatch", lambda line: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        mlps("seed=1")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_traceback(unbuffered):
    # Gone for certain when the output is written, at once or at the end of the program.
    command = f"(sleep 0.5; {sys.executable} -m mlps.engine --help) | true"
    env = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd="/", env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "mlps.engine", "nosuch"], capture_output=True, text=True, cwd="/"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: nosuch: no such command")


# ---------------------------------------------------------------- plan and doctor


# The launcher that comes with mlps, beside its Python.
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def test_plan(mlps, tmp_path):
    words = ["benchmark=kvcache/quick", "cluster=2node", "cluster.python=/opt/python3"]
    code, out, err = mlps("plan", *words)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("job ") and len(lines[0]) == 68
    assert lines[1:] == [
        "kvcache/quick, 4 ranks on 2 hosts, launcher mpich",
        f"data_dir {tmp_path}",
        f"results_dir {tmp_path}/results",
        "division whatif of edition v3.0: would be WHATIF",
        "INVALID in closed and open:",
        "  JOB-01 benchmark.name: kvcache/quick is not scored in division closed of edition v3.0; "
        "scored of kvcache are: kvcache",
        "",
        "00-prepare: 4 ranks, limit 120 s",
        f"  {MPIEXEC} -launcher ssh -launcher-exec ssh -hosts node1:2,node2:2 -n 4 /opt/python3 "
        "-P -m mlps.engines.kvcache_native --stage prepare",
        "",
        "01-run-0: 4 ranks, limit 120 s",
        f"  {MPIEXEC} -launcher ssh -launcher-exec ssh -hosts node1:2,node2:2 -n 4 /opt/python3 "
        "-P -m mlps.engines.kvcache_native --stage run --trial 0",
        "",
        "02-cleanup: 4 ranks, limit 120 s, runs always",
        f"  {MPIEXEC} -launcher ssh -launcher-exec ssh -hosts node1:2,node2:2 -n 4 /opt/python3 "
        "-P -m mlps.engines.kvcache_native --stage cleanup",
    ]
    assert list(tmp_path.iterdir()) == []


def test_plan_of_a_job_that_cannot_count(mlps):
    code, out, _ = mlps("plan", "benchmark=kvcache/quick", "division=closed", "seed=7", "--json")
    document = json.loads(out)
    assert (code, document["would_be"]) == (7, "INVALID")
    assert [finding["rule"] for finding in document["findings"]] == ["JOB-01", "JOB-02", "SYS-18"]
    assert document["job"]["seed"] == 7
    assert [launch["name"] for launch in document["launches"]] == [
        "00-prepare", "01-run-0", "02-cleanup",
    ]  # fmt: skip


def test_plan_names_the_division_that_would_take_the_job(mlps):
    words = ["benchmark=kvcache", "division=closed", "benchmark.rag=true"]
    code, out, _ = mlps("plan", *words)
    lines = out.splitlines()
    assert (code, lines[4:6]) == (
        7,
        ["division closed of edition v3.0: would be INVALID", "division=open would take it"],
    )
    assert lines[7].startswith("error JOB-02 benchmark.rag: may not be changed in division closed ")
    _, out, _ = mlps("plan", *words, "--json")
    document = json.loads(out)
    assert document["standing"]["strictest"] == "open"
    assert [found["key"] for found in document["standing"]["barred"]["closed"]] == ["benchmark.rag"]
    assert document["core_config"]["class"]["division"] == "closed"


def test_a_job_that_cannot_count_is_not_started(mlps, player, tmp_path):
    code, out, err = mlps(*player.overrides, "division=closed")
    assert (code, out) == (7, "")
    assert err.startswith("error: the job would be INVALID, nothing was started:\n  error JOB-01 ")
    assert not player.results_dir.exists()
    assert player.stages() == []


def test_plan_notes_files_without_effect(mlps, tmp_path):
    (tmp_path / "conf/cluster").mkdir(parents=True)
    (tmp_path / "conf/cluster/local.yaml").write_text("name: mine\n")
    _, _, err = mlps("plan", "benchmark=kvcache/quick")
    assert err.startswith(f"note: {tmp_path}/conf/cluster/local.yaml has no effect: ")


def test_doctor(mlps, player):
    player.data_dir.rmdir()
    code, out, _ = mlps("doctor", *player.overrides)
    assert code == 3
    assert "\nerror DIR-01 data_dir: " in out
    assert out.splitlines()[-1] == "not ready: 1 to mend"
    player.data_dir.mkdir()
    code, out, _ = mlps("doctor", *player.overrides)
    assert (code, out.splitlines()[-1]) == (0, "ready")
    document = json.loads(mlps("doctor", *player.overrides, "--json")[1])
    assert (document["ready"], document["launcher_program"]) == (True, str(player.program))
    assert not player.results_dir.exists()


def test_a_machine_that_is_not_ready_stops_a_run(mlps, player):
    player.data_dir.rmdir()
    code, out, err = mlps(*player.overrides)
    assert (code, out) == (3, "")
    assert "error: the machine is not ready, nothing was started:\n  error DIR-01" in err
    assert not player.results_dir.exists()


# ---------------------------------------------------------------- runs and archives


def test_a_run_and_what_can_be_asked_about_it(mlps, player, tmp_path):
    code, out, err = mlps(*player.overrides)
    assert code == 0
    assert out.splitlines()[0] == "kvcache/quick on 1 rank, 1 host: complete, verdict WHATIF"
    (archive,) = files.listed_archives(player.results_dir)
    assert err.splitlines()[-1] == f"archive {archive.root}"

    assert mlps("verify", archive.root) == (0, f"{archive.run_id}: valid, verdict WHATIF\n", "")
    assert mlps("report", archive.root) == (0, out, "")
    assert mlps("report", player.results_dir) == (0, out, "")
    assert mlps("report", "--csv", archive.root)[1].startswith("run_id,benchmark,verdict,")
    code, out, _ = mlps("history", player.results_dir)
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["run", "status", "verdict"],
        [archive.run_id, "complete", "WHATIF"],
    ]
    code, out, err = mlps("resume", archive.root)
    assert (code, out) == (6, "")
    assert "there is nothing to resume" in err

    code, out, _ = mlps("rerun", archive.root, "--json")
    assert (code, json.loads(out)["exit_code"]) == (0, 0)
    assert len(files.listed_archives(player.results_dir)) == 2


def test_a_failed_run_says_where_its_logs_are(mlps, player):
    player.behave({"run-0": "die"})
    code, out, err = mlps(*player.overrides)
    (archive,) = files.listed_archives(player.results_dir)
    assert code == 4
    assert out.splitlines()[0] == "kvcache/quick on 1 rank, 1 host: failed, verdict INVALID"
    assert err.splitlines()[-2:] == [
        f"archive {archive.root}",
        f"logs of the stage that failed: {archive.root}/stages/01-run-0",
    ]
    player.behave()
    assert mlps("resume", archive.root)[0] == 0


def test_verify_gives_the_highest_code_of_all(mlps, sealed, tmp_path):
    other = Path(os.fspath(sealed.root) + "-2")
    other.mkdir()
    (other / files.JOB).write_text("{}")
    code, out, _ = mlps("verify", sealed.root, other)
    assert code == 6
    assert out.splitlines() == [
        f"{sealed.run_id}: valid, verdict WHATIF",
        f"{other.name}: NOT VALID, verdict none",
        "  of the archive: 1 finding",
        "  error EVD-01 MANIFEST.sha256: it has no seal: its job is still running, or was killed",
        f"  hint: mlps resume {other}",
        "2 archives: 1 valid, 1 not, 1 error",
    ]
    code, out, _ = mlps("verify", tmp_path, "--json")
    assert (code, [entry["valid"] for entry in json.loads(out)]) == (6, [True, False])


def test_verify_writes_sarif(mlps, sealed):
    with sealed.path(files.PLAN).open("ab") as file:
        file.write(b" ")
    code, out, _ = mlps("verify", sealed.root, "--sarif")
    (run,) = json.loads(out)["runs"]
    found = [(result["ruleId"], result["level"]) for result in run["results"]]
    assert (code, found) == (6, [("EVD-01", "error"), ("CAP-03", "note")])


def test_verify_tells_what_the_rules_say_of_the_job(mlps, play, player):
    archive = play(player, behaviours={"run-0": "die"}).archive
    code, out, _ = mlps("verify", archive.root)
    assert code == 7
    assert out.splitlines()[:2] == [
        f"{archive.run_id}: NOT VALID, verdict INVALID",
        "  of the job, judged anew: 1 finding",
    ]
    assert out.count("error RUN-01") == 1


def test_verify_goes_on_after_a_path_that_is_no_archive(mlps, sealed, tmp_path):
    code, out, _ = mlps("verify", tmp_path / "nothing", sealed.root)
    assert code == 6
    assert "nothing: NOT VALID, verdict none" in out
    assert f"{sealed.run_id}: valid" in out


def test_history_shows_what_is_unfinished_and_what_cannot_be_read(mlps, sealed):
    results = sealed.root.parent
    for name, sealed_too in (("x-killed", False), ("y-broken", True)):
        (results / name).mkdir()
        (results / name / files.JOB).write_text("{}")
        if sealed_too:
            (results / name / files.MANIFEST).write_text("")
    entries = json.loads(mlps("history", results, "--json")[1])
    assert [(entry["status"], entry["verdict"]) for entry in entries] == [
        ("complete", "WHATIF"), ("unfinished", None), ("unreadable", None),
    ]  # fmt: skip
    assert mlps("history", results / "nowhere")[0] == 6


def test_a_sweep(mlps, player):
    code, out, err = mlps("-m", *player.overrides, "seed=1,2")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()] == [
        ["job", "overrides", "status"], ["1", "seed=1", "complete"], ["2", "seed=2", "complete"],
    ]  # fmt: skip
    assert err.splitlines()[-1].startswith(f"sweep {player.results_dir}/sweeps/")


def test_hydras_own_views(mlps):
    code, out, _ = mlps("--cfg", "job", "benchmark=kvcache/quick", "seed=7")
    assert code == 0
    assert "seed: 7\n" in out
