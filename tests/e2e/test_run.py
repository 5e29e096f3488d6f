"""One job from the command line to its archive."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.mpi

REPORT = """\
kvcache/quick on 2 ranks, 1 host: complete, verdict WHATIF
run, mean of 1 trial
                                   read  write
GiB/s                                 #      #
operations/s                          #      #
latency mean, ms                      #      #
latency p50, ms                       #      #
latency p95, ms                       #      #
latency p99, ms                       #      #
latency p99 of the worst rank, ms     #      #
latency max, ms                       #      #
prefix load latency, ms: p50 #, p95 #, p99 #
request latency, ms: p50 #, p95 #, p99 #
requests #/s
entry latency p95, ms: read #, write #
client CPU # s per GiB, # context switches per GiB
verified # GiB, # mismatches
working set # GiB, # % of the memory of the hosts (# GiB)
window # s, drain # s, peak memory of a rank # MiB
"""

MESSAGES = """\
checking the machine
collecting facts
stage 1/3 prepare: started
00-prepare: complete in # s, write # GiB/s
stage 2/3 run: started
01-run-0: complete in # s, read # GiB/s, write # GiB/s
stage 3/3 cleanup: started
02-cleanup: complete in # s
verifying
writing results
archive PATH
"""


def messages_of(text: str) -> str:
    """Times and rates become #, paths become PATH."""
    text = re.sub(r"(?m)^archive .*$", "archive PATH", text)
    return re.sub(r"\b[\d.]+(?= (?:s|GiB/s)\b)", "#", text)


def report_of(text: str) -> str:
    """Numbers below the first two lines become #, columns shrink to one space."""
    first, second, rest = text.split("\n", 2)
    # Not on a tmpfs; on a disk and a network, whatever else is going on there.
    counted = "of these bytes the block device moved:|block device|network|warning RES-05"
    rest = re.sub(rf"(?m)^({counted}) .*\n", "", rest)
    rest = re.sub(r"(?<![\w.])\d[\d,]*(\.\d+)?(?!\w)", "#", rest)
    return "\n".join([first, second, re.sub(r"(?<=\S) {2,}", " ", re.sub(r"(?m)^ +", " ", rest))])


def test_quick_run_reports_verifies_and_leaves_no_data(place):
    done = place.run(*place.small())

    assert (done.returncode, done.stderr) == (0, done.stderr)
    assert report_of(done.stdout) == report_of(REPORT)
    assert messages_of(done.stderr) == MESSAGES
    assert list(place.data_dir.iterdir()) == []
    assert place.leftovers() == []
    files = [path for path in place.archive().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 200_000

    verified = place.run("verify", str(place.archive()))
    assert (verified.returncode, verified.stdout) == (
        0,
        f"{place.archive().name}: valid, verdict WHATIF\n",
    )


def test_report_prints_what_a_reader_needs(place, finished):
    text = place.run("report", str(finished)).stdout
    assert report_of(text) == report_of(REPORT)

    (document,) = json.loads(place.run("report", "--json", str(finished)).stdout)
    values = document["result"]["metrics"][0]["values"]
    for direction in ("read", "write"):
        for name in ("gib_s", "ops_per_s", "p50_ms", "p95_ms", "p99_ms"):
            assert values[f"{direction}_{name}"]["mean"] > 0
    assert values["cpu_s_per_gib"]["mean"] > 0
    assert values["verified_bytes"]["mean"] > 0

    lines = place.run("report", "--csv", str(finished)).stdout.splitlines()
    assert lines[0].startswith("run_id,benchmark,verdict,stage,option,trials,metric,mean")
    assert len(lines) == 1 + len(values)


def test_planned_archived_and_started_argv_are_equal(place, wait_for, load):
    job = place.small("benchmark.duration_s=1")
    planned = json.loads(place.run("plan", "--json", *job).stdout)

    process = place.start(*job)
    started = {}

    def launcher_of_run():
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                argv = child.cmdline()
            except psutil.Error:
                continue
            if argv and Path(argv[0]).name == "mpiexec" and "--stage" in argv:
                started[argv[argv.index("--stage") + 1]] = argv
        return "run" in started

    wait_for(launcher_of_run, "the launcher of the run stage")
    ranks = wait_for(lambda: len(place.ranks()) == 2 and place.ranks(), "two ranks")
    rank_argv = ranks[0].cmdline()
    process.communicate(timeout=60)

    archived = load(place.archive() / "plan.json")
    assert archived["launches"] == planned["launches"]
    (run,) = [launch for launch in planned["launches"] if launch["stage"] == "run"]
    assert started["run"] == run["argv"]
    assert rank_argv == run["argv"][run["argv"].index("2") + 1 :]
    assert load(place.archive() / "stages" / run["name"] / "argv.json") == run["argv"]


def test_job_json_is_the_identity_that_every_rank_reports(finished, load):
    digest = hashlib.sha256((finished / "job.json").read_bytes()).hexdigest()

    assert load(finished / "plan.json")["job_sha256"] == digest
    assert finished.name.split("-")[3] == digest[:8]
    outcomes = [load(path) for path in sorted(finished.glob("stages/*/outcome.json"))]
    assert [outcome["job_sha256"] for outcome in outcomes] == [{digest: "0-1"}] * 3


def test_manifest_is_one_that_sha256sum_reads(finished):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "MANIFEST.sha256"],
        cwd=finished,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_prints_its_result_issues_the_same_operations_and_keeps_no_secret(
    place, finished, load
):
    """One job for three questions: what it prints, what it does and what its archive holds."""
    secret = {"AWS_SECRET_ACCESS_KEY": "hunter2-hunter2"}
    done = place.run(*place.small("benchmark.io.direct=false"), "--json", **secret)
    assert done.returncode == 0, done.stderr

    document = json.loads(done.stdout)
    assert document["result"] == load(place.archive() / "result.json")
    assert (document["exit_code"], document["verdict"]) == (0, "WHATIF")

    reference = load(finished / "stages/01-run-0/result.json")
    result = load(place.archive() / "stages/01-run-0/result.json")
    assert result["ranks"]["plan_sha256"] == reference["ranks"]["plan_sha256"]
    assert result["plan"]["sha256"] == reference["plan"]["sha256"]

    everything = [path.read_bytes() for path in place.archive().rglob("*") if path.is_file()]
    assert not any(b"hunter2" in data for data in everything)


def test_a_job_without_mpi_issues_the_operations_of_one_with_it_and_history_lists_both(
    place, finished, load
):
    done = place.run(*place.small("launcher=process", "cluster.ranks_per_host=1"))
    assert done.returncode == 0, done.stderr
    assert load(place.archive() / "result.json")["ranks"] == 1
    reference = load(finished / "stages/01-run-0/result.json")
    result = load(place.archive() / "stages/01-run-0/result.json")
    assert result["ranks"]["plan_sha256"] == reference["ranks"]["plan_sha256"][:1]

    shutil.copytree(finished, place.results_dir / finished.name)
    entries = json.loads(place.run("history", "--json").stdout)
    assert len(entries) == 2
    assert [entry["path"] for entry in entries] == [str(path) for path in place.archives()]
    assert {entry["status"] for entry in entries} == {"complete"}
    assert place.run("history").stdout.splitlines()[0].split() == [
        "run", "status", "verdict", "result",
    ]  # fmt: skip
