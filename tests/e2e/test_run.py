"""One job from the command line to its archive."""

from __future__ import annotations

import hashlib
import json
import re
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
    job = place.small("benchmark.duration_s=2")
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


def test_archive_is_small_and_holds_no_secret(place):
    done = place.run(*place.small(), AWS_SECRET_ACCESS_KEY="hunter2-hunter2")
    assert done.returncode == 0, done.stderr

    everything = [path.read_bytes() for path in place.archive().rglob("*") if path.is_file()]
    assert sum(map(len, everything)) < 200_000
    assert not any(b"hunter2" in data for data in everything)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_rank_issues_the_same_operations_whatever_surrounds_it(place, finished, ranks, load):
    done = place.run(*place.small(f"cluster.ranks={ranks}", "benchmark.io.direct=false"))
    assert done.returncode == 0, done.stderr

    reference = load(finished / "stages/01-run-0/result.json")
    result = load(place.archive() / "stages/01-run-0/result.json")
    assert result["ranks"]["plan_sha256"] == reference["ranks"]["plan_sha256"][:ranks]
    if ranks == 2:
        assert result["plan"]["sha256"] == reference["plan"]["sha256"]


def test_run_without_mpi(place, load):
    done = place.run(*place.small("launcher=process", "cluster.ranks_per_host=1"))
    assert done.returncode == 0, done.stderr
    assert load(place.archive() / "result.json")["ranks"] == 1


def test_json_of_a_run_is_the_published_result(place, load):
    done = place.run(*place.small(), "--json")
    document = json.loads(done.stdout)
    assert document["result"] == load(place.archive() / "result.json")
    assert (document["exit_code"], document["verdict"]) == (0, "WHATIF")


def test_history_lists_every_run_with_its_outcome(place):
    place.run(*place.small())
    place.run(*place.small("seed=7"))

    entries = json.loads(place.run("history", "--json").stdout)
    assert [entry["path"] for entry in entries] == [str(path) for path in place.archives()]
    assert {entry["status"] for entry in entries} == {"complete"}
    assert place.run("history").stdout.splitlines()[0].split() == [
        "run", "status", "verdict", "result",
    ]  # fmt: skip
