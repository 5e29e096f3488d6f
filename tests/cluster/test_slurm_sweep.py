"""Sweeps whose jobs a real Slurm runs, submitted from a host that is in no allocation."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from workplace import PATIENT

pytestmark = [pytest.mark.cluster, pytest.mark.mpi]

SUBMITTED = (
    "cluster=slurm",
    "launcher=srun",
    "launcher.ssh=null",
    "cluster.ranks_per_host=2",
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.nodes=2",
    "hydra.launcher.cpus_per_task=2",
)


@pytest.fixture
def place(make_slurm_place):
    return make_slurm_place(2)


def words(place, *more):
    return ("-m", *place.small(*SUBMITTED, *more))


def sweep(place):
    (path,) = place.results_dir.glob("sweeps/*/sweep.json")
    return json.loads(path.read_bytes())


def jobs_running(place):
    done = place.cluster.head.run(["squeue", "-h", "-t", "R", "-o", "%i"], env=place.env)
    return done.stdout.split()


def ranks_at_work(place):
    return [run for _, run in place.cluster.processes("--stage run") if "-m mlps" in run.command]


def test_jobs_one_after_the_other_and_one_that_is_refused(place, load, wait_for):
    done = place.run(*words(place, "benchmark.users=2,0,4"), timeout=240)

    assert done.returncode == 2, done.stderr + done.stdout
    jobs = sweep(place)["jobs"]
    assert [job["status"] for job in jobs] == ["complete", "refused", "complete"]
    assert "job 2/3 refused: benchmark.users" in done.stderr
    jobs = [jobs[0], jobs[2]]
    assert [job["verdict"] for job in jobs] == ["WHATIF"] * 2
    assert [load(f"{job['archive']}/job.json")["benchmark"]["users"] for job in jobs] == [2, 4]
    assert len(place.archives()) == 2
    for archive in place.archives():
        result = load(archive / "result.json")
        assert (result["status"], result["hosts"]) == ("complete", 2)
        ranks = load(archive / "stages/01-run-0/result.json")["ranks"]
        assert ranks["hosts"] == ["node1", "node2"]
        assert place.run("verify", str(archive)).returncode == 0
    said = [re.sub(r"\d+_", "N_", line) for line in done.stderr.splitlines()]
    assert said[:3] == [
        f"job {number}/3: benchmark.users={users}: Slurm job N_{number - 1}"
        for number, users in ((1, 2), (2, 0), (3, 4))
    ]
    told = [re.sub(r": read .*", "", line) for line in said[3:-1]]
    ended = [line for line in told if re.match("job [13]/3 ", line)]
    assert ended == [
        f"job {number}/3 {what}" for number in (1, 3) for what in ("runs on node[1-2]", "complete")
    ]
    # No two at a time: they would measure each other.
    times = [load(f"{job['archive']}/environment.json")["started_utc"] for job in jobs]
    assert times == sorted(times)
    wait_for(lambda: not place.leftovers(), "the end of all processes", 20)


def test_a_job_that_is_killed_is_lost_and_ctrl_c_ends_the_rest(place, wait_for):
    more = ("benchmark.users=2,4,8", "benchmark.duration_s=60")
    with place.start(*words(place, *more)) as mlps:
        wait_for(lambda: ranks_at_work(place), "ranks of the first job", 60)
        first = jobs_running(place)
        place.cluster.node("node1").kill("submitit.core._submit")
        wait_for(
            lambda: jobs_running(place) not in ([], first) and ranks_at_work(place),
            "ranks of the second job", 60,
        )  # fmt: skip
        mlps.send_signal(signal.SIGINT)
        _, said = mlps.communicate(timeout=60)

    assert mlps.returncode == 130, said
    lost, stopped, waiting = sweep(place)["jobs"]
    assert (lost["status"], lost["exit_code"]) == ("lost", 4)
    assert re.match(r"Slurm job \d+_0 ended as FAILED on node\[1-2\] and left no", lost["message"])
    assert stopped["status"] == "interrupted"
    assert stopped["message"] == "stage 01-run-0 stop: stopped by the mlps that submitted it"
    assert (waiting["status"], waiting["exit_code"]) == ("skipped", 130)
    assert waiting["message"] == "stopped by SIGINT before it started"
    wait_for(lambda: jobs_running(place) == [], "an empty queue", 20)
    wait_for(lambda: not place.leftovers(), "the end of all processes", 20)


def test_a_job_is_sealed_before_its_time_limit(place, load):
    limits = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=40")
    more = ("benchmark.users=2", "benchmark.duration_s=60", *limits)
    done = place.run(*words(place, *more), timeout=120)

    assert done.returncode == 130, done.stderr
    assert load(place.archive() / "verdict.json")["exit_code"] == 130
    (job,) = sweep(place)["jobs"]
    assert job["status"] == "interrupted"
    assert job["message"].endswith("stopped by the time limit of its submitted job")


def test_results_that_the_nodes_do_not_share(place):
    place.results_dir.mkdir()
    for node in place.cluster.nodes:
        node.private_tmpfs(place.results_dir)
    done = place.run(*words(place, "benchmark.users=2,4"), timeout=120)

    assert done.returncode == 4, done.stderr
    assert [job["status"] for job in sweep(place)["jobs"]] == ["lost", "lost"]
    assert done.stderr.count("do the compute nodes share results_dir?") == 2


def test_what_slurm_refuses(place):
    words = ("seed=1,2", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=nosuch")
    done = place.run("-m", *place.small(*words))

    assert done.returncode == 3, done.stderr
    assert "the jobs could not be submitted: sbatch: error: invalid partition" in done.stderr
    assert "Traceback" not in done.stderr
    assert not place.results_dir.exists()


def test_jobs_that_no_nodes_are_there_for_say_so_until_they_are_stopped(place, wait_for):
    with place.start(*words(place, "seed=1,2", "hydra.launcher.nodes=3")) as mlps:
        line = ""
        while "job 2/2 waits" not in line:
            line = mlps.stderr.readline()
        mlps.send_signal(signal.SIGINT)
        _, said = mlps.communicate(timeout=60)

    assert "waits in the queue (Partition" in line
    assert mlps.returncode == 130, said
    assert [job["status"] for job in sweep(place)["jobs"]] == ["skipped"] * 2


# ---------------------------------------------------------------- what the page says


PAGE = (Path(__file__).parents[2] / "docs/slurm.md").read_text(encoding="utf-8")

# So that what the page shows takes seconds.
QUICK = "benchmark.chunk_tokens=4 benchmark.chunks_per_user=8 benchmark.ramp_s=0.1 "
QUICK += f"benchmark.duration_s=1 launcher.ssh=null {' '.join(PATIENT)}"


def lines_of_the_page():
    """The commands of the page's blocks, and the script between them."""
    ((name, script),) = re.findall(r"^```bash (\S+)\n(.*?)^```$", PAGE, re.M | re.S)
    return re.findall(r"^ {4}(\S.*)$", PAGE, re.M), name, script


def quickened(command):
    return re.sub(r"^(.*\bmlps .*)$", rf"\1 {QUICK}", command, flags=re.M)


def in_a_shell(place, command, limit_s=240):
    path = f"{place.mlps.parent}:/usr/bin:/bin"
    return place.cluster.head.run(
        ["sh", "-c", command], cwd=place.root, env={**place.env, "PATH": path}, timeout=limit_s
    )


def test_each_command_of_the_page(place, load):
    commands, name, script = lines_of_the_page()
    (place.root / name).write_text(quickened(script))
    (place.root / name).chmod(0o755)
    assert [command.split()[0] for command in commands] == ["salloc", "sbatch", "mlps"]
    for command in commands:
        done = in_a_shell(place, quickened(command))
        log = place.root / "job.log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")
    assert [load(path / "result.json")["hosts"] for path in place.archives()] == [2] * 5
    ranks = [load(path / "result.json")["ranks"] for path in place.archives()]
    assert ranks[:2] == [4, 4]


def test_a_script_is_asked_to_stop_as_the_page_says(place, load, wait_for):
    _, name, script = lines_of_the_page()
    (place.root / name).write_text(quickened(script).replace("duration_s=1", "duration_s=60"))
    (submitted,) = re.findall(r"\d+", in_a_shell(place, f"sbatch {name}").stdout)
    wait_for(lambda: ranks_at_work(place), "ranks", 60)
    (asked,) = re.findall(r"`(scancel --batch [^`]*)`", PAGE)
    assert in_a_shell(place, asked.replace("JOBID", submitted)).returncode == 0
    wait_for(lambda: jobs_running(place) == [], "an empty queue", 30)

    assert load(place.archive() / "verdict.json")["exit_code"] == 130
    assert list(place.data_dir.iterdir()) == []
