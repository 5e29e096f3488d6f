"""Foreign programs as a user runs them: real fio, an example of a page, and programs that fail."""

from __future__ import annotations

import json
import re
import shutil
import signal
import stat
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml
from foreign_benchmark import FOREIGN
from workplace import PATIENT

from mlps.engine.archive import Archive, seal

pytestmark = pytest.mark.mpi

PAGE = (Path(__file__).parents[2] / "docs/external.md").read_text(encoding="utf-8")

SMALL_FIO = (
    "benchmark=external/fio", "trials=2", "cluster.ranks=2", "data_dir=data",
    "benchmark.settings.file_bytes=4194304", "benchmark.settings.files=2",
    "benchmark.settings.job.ioengine=psync", "benchmark.settings.job.rw=randrw",
    "benchmark.settings.job.runtime=1", "benchmark.settings.job.ramp_time=0",
    "benchmark.settings.job.direct=0", "benchmark.settings.job.directory=/", *PATIENT,
)  # fmt: skip


def result_of(archive):
    return json.loads((archive / "result.json").read_text())


def rules_of(archive, severity="error"):
    findings = json.loads((archive / "verdict.json").read_text())["findings"]
    return [finding["rule"] for finding in findings if finding["severity"] == severity]


def values_of(archive):
    (summary,) = result_of(archive)["metrics"]
    return {name: spread["mean"] for name, spread in summary["values"].items()}


def own(values):
    """Values that the foreign program told."""
    return {name: values[name] for name in values if not name.startswith(("program_", "host_"))}


def stage_results(archive):
    paths = sorted((archive / "stages").glob("*-run-*/result.json"))
    return [json.loads(path.read_text()) for path in paths]


# ---------------------------------------------------------------- fio


@pytest.fixture(scope="module")
def fio_place(module_place):
    """A workplace in which fio has run, and what mlps printed."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    done = module_place.run(*SMALL_FIO)
    assert done.returncode == 0, done.stderr
    return module_place, done


def test_fio_runs_and_its_numbers_are_those_of_its_reports(fio_place):
    place, done = fio_place
    archive = place.archive()
    for result in stage_results(archive):
        stage = archive / "stages" / f"{1 + result['trial']:02d}-run-{result['trial']}"
        reports = [stage / f"outputs/report-{rank}" for rank in (0, 1)]
        texts = [path.read_text() for path in reports]
        jobs = [json.loads(text[text.index("{") :])["jobs"][0] for text in texts]
        metrics = result["foreign"]["metrics"]
        for word in ("read", "write"):
            rate = sum(job[word]["bw_bytes"] for job in jobs) / 2**30
            assert metrics[f"{word}_gib_s"] == pytest.approx(rate)
            assert metrics[f"{word}_ops_per_s"] == pytest.approx(
                sum(job[word]["iops"] for job in jobs)
            )
            worst_ns = max(job[word]["clat_ns"]["percentile"]["99.000000"] for job in jobs)
            assert metrics[f"{word}_p99_worst_rank_ms"] == pytest.approx(worst_ns / 1e6)
            assert rate > 0
    assert re.search(r"^GiB/s +[0-9.]+ +[0-9.]+$", done.stdout, re.M)
    assert "measured by fio, not by mlps" in done.stdout
    assert place.run("verify", str(archive)).returncode == 0
    assert list(place.data_dir.iterdir()) == []
    assert list(Path("/").glob("fio.*")) == []
    assert rules_of(archive) == []
    assert rules_of(archive, "warning") == ["EXT-02"]  # of `directory`, which SMALL_FIO sets
    assert rules_of(archive, "info").count("EXT-01") == 2


def test_the_program_and_its_version_are_in_the_evidence(fio_place):
    place, _ = fio_place
    (first, _) = stage_results(place.archive())
    (program,) = first["foreign"]["programs"]
    assert program["path"] == shutil.which("fio")
    assert program["version"].startswith("fio-")
    assert first["ranks"]["exit_status"] == [0, 0]
    assert all(value > 0 for value in first["ranks"]["peak_rss_bytes"])


@pytest.mark.parametrize(
    ("name", "rule"), [("outputs/report-1", "EVD-03"), ("files/job.fio", "EVD-02")]
)
def test_verify_reads_outputs_and_files_again(fio_place, tmp_path, name, rule):
    place, _ = fio_place
    archive = Path(shutil.copytree(place.archive(), tmp_path / place.archive().name))
    path = archive / "stages/01-run-0" / name
    text = path.read_text()
    changed = re.sub(r'("bw_bytes" : )(\d+)', r"\g<1>9\2", text).replace("bs=128k", "bs=4k")
    assert changed != text
    path.write_text(changed)
    seal(Archive(root=archive))
    done = place.run("verify", str(archive))
    assert done.returncode == 7
    assert rule in done.stdout


def test_keys_that_are_ignored_are_found_before_and_after(place):
    words = [*SMALL_FIO, "trials=1", "benchmark.settings.job.numjobs=3"]
    words = [word for word in words if word != "trials=2"]
    planned = place.run("plan", *words)
    assert planned.returncode == 0
    assert (
        "EXT-02 benchmark.settings.job.numjobs: fio ignores it: benchmark.settings.files says it"
        in planned.stdout
    )


# ---------------------------------------------------------------- the example of the page


def test_the_example_of_the_page_runs(place):
    for _kind, name, text in re.findall(r"^```(yaml|python) (\S+)\n(.*?)^```$", PAGE, re.M | re.S):
        path = place.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    benchmark = (place.root / "conf/benchmark/copybench.yaml").read_text()
    assert len(benchmark.splitlines()) <= 30
    done = place.run("benchmark=copybench", "data_dir=data", *PATIENT)
    assert done.returncode == 0, done.stderr
    assert "run, option small, mean of 2 trials" in done.stdout
    summaries = result_of(place.archive())["metrics"]
    assert [summary["option"] for summary in summaries] == ["small", "large"]
    assert all(summary["values"]["write_gib_s"]["mean"] > 0 for summary in summaries)
    assert place.run("verify", str(place.archive())).returncode == 0


# ---------------------------------------------------------------- programs that misbehave

PROGRAM = """
import json, os, signal, subprocess, sys, time

def hang():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)

mode, rank = sys.argv[1], sys.argv[2]
if mode in ("hang", "deaf"):
    hang()
if mode == "leave":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
if mode == "fail" and rank == "1":
    print("it went wrong", file=sys.stderr)
    sys.exit(3)
if mode == "signal":
    os.kill(os.getpid(), signal.SIGSEGV)
if mode == "large":
    print("x" * 5_000_000)
value = float("nan") if mode == "no_number" else 100
print(json.dumps({} if mode == "missing" else {"mb_per_s": value}))
if mode != "no_file" or rank == "0":
    open(f"left-{rank}", "w").write(os.environ["WORD"])
"""

BENCHMARK = FOREIGN | {
    "ranks_per_host": 2,
    "stages": [
        {"name": "run", "each": "trial", "measured": True},
        {"name": "cleanup", "each": "option", "when": "${benchmark.cleanup}"},
    ],
    "start_limit_s": 60,
    "programs": [{"program": "python3", "version": None, "install": {}}],
    "needs": {
        "disk_bytes_per_rank": 0, "memory_bytes_per_rank": 0, "path_keys": ["settings.script"],
    },
    "settings": {"script": "prog.py", "mode": "good"},
    "commands": {
        "run": {
            "argv": [
                sys.executable, "{benchmark.settings.script}", "{benchmark.settings.mode}",
                "{rank}",
            ],
            "environment": {"WORD": "{seed} {trial} {rank}"},
            "outputs": {"log": "stdout", "left": "left-{rank}"},
            "metrics": {
                "read_gib_s": {
                    "output": "log", "json": "$.mb_per_s", "unit": "MB/s", "processes": "sum",
                }
            },
        }
    },
}  # fmt: skip


@pytest.fixture
def foreign(place):
    """The words of a job of the program above, which is put into the workplace."""
    path = place.root / "conf/benchmark/foreign.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# A program of a test\n" + yaml.safe_dump(BENCHMARK))
    (place.root / "prog.py").write_text(PROGRAM)
    return ["benchmark=foreign", "data_dir=data", *PATIENT]


def test_values_reach_the_program_and_its_outputs_the_archive(place, foreign):
    done = place.run(*foreign)
    assert done.returncode == 0, done.stderr
    stage = place.archive() / "stages/00-run-0"
    assert [(stage / f"outputs/left-{rank}").read_text() for rank in (0, 1)] == [
        "42 0 0", "42 0 1",
    ]  # fmt: skip
    assert values_of(place.archive())["read_gib_s"] == pytest.approx(200e6 / 2**30)
    assert list(place.data_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "code", "rule", "text"),
    [
        ("fail", 4, "RUN-01", r"rank 1 on \S+ ended with exit status 3; its last words: it went"),
        ("no_number", 5, "EXT-04", "no number that can be published"),
        ("no_file", 5, "EXT-03", "left-1: No such file or directory"),
    ],
)
def test_what_a_program_does_wrong_is_said(place, foreign, mode, code, rule, text):
    done = place.run(*foreign, f"benchmark.settings.mode={mode}")
    assert done.returncode == code, done.stderr
    assert rule in rules_of(place.archive())
    assert re.search(text, done.stdout)
    if code == 5 and mode != "no_file":
        assert "read_gib_s" not in values_of(place.archive())
    assert place.run("verify", str(place.archive())).stdout.count("EVD") == 0
    assert list(place.data_dir.iterdir()) == []
    assert place.leftovers() == []


@pytest.mark.parametrize("mode", ["hang", "deaf"])
def test_a_time_limit_ends_the_program_and_all_that_it_started(place, foreign, mode):
    words = [f"benchmark.settings.mode={mode}", "benchmark.time_limit_s=3"]
    done = place.run(*foreign, *words)
    assert done.returncode == 4
    assert "failed (time_limit): it took longer than 3 s" in done.stdout
    assert place.leftovers() == []


def test_what_a_program_leaves_running_is_ended(place, foreign):
    done = place.run(*foreign, "benchmark.settings.mode=leave")
    assert done.returncode == 0, done.stderr
    assert place.leftovers() == []


def wait_for(condition, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def programs(place):
    return [
        words for words in place.leftovers() if "prog.py" in words and "mlps.engines" not in words
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_ends_the_program(place, foreign, number):
    process = place.start(*foreign, "benchmark.settings.mode=hang")
    assert wait_for(lambda: len(programs(place)) >= 2)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert result_of(place.archive())["status"] == "interrupted"
    assert "RUN-02" in rules_of(place.archive())
    assert list(place.data_dir.iterdir()) == []
    assert place.leftovers() == []


def test_a_kill_of_mlps_ends_the_program(place, foreign):
    process = place.start(*foreign, "benchmark.settings.mode=deaf")
    assert wait_for(lambda: len(programs(place)) >= 2)
    process.kill()
    process.communicate(timeout=60)
    assert wait_for(lambda: place.leftovers() == [])


def test_a_program_that_is_missing_is_found_before_anything_is_written(place):
    path = place.root / "conf/benchmark/foreign.yaml"
    path.parent.mkdir(parents=True)
    programs = [{"program": "no_such_program", "version": None, "install": {"pip": "such-program"}}]
    path.write_text("# A program of a test\n" + yaml.safe_dump({**BENCHMARK, "programs": programs}))
    (place.root / "prog.py").write_text(PROGRAM)
    done = place.run("benchmark=foreign", "data_dir=data", *PATIENT)
    assert done.returncode == 3
    assert "program no_such_program, which foreign starts, is not on PATH" in done.stderr
    assert "-m pip install such-program" in done.stderr
    (place.root / "prog.py").unlink()
    done = place.run("benchmark=foreign", "data_dir=data", *PATIENT)
    assert "prog.py: no such file or directory" in done.stderr
    assert place.archives() == []


def test_a_finished_trial_is_taken_over_with_its_outputs(place, foreign):
    words = [*foreign, "trials=2", "benchmark.cleanup=success"]
    done = place.run(*words, "benchmark.settings.mode=fail", "cluster.ranks=1")
    assert done.returncode == 0, done.stderr  # rank 0 alone does not fail
    first = place.archive()
    shutil.rmtree(first / "stages/01-run-1")
    (first / "MANIFEST.sha256").unlink()
    done = place.run("resume", str(first))
    assert done.returncode == 0, done.stderr
    (second,) = [path for path in place.archives() if path != first]
    assert (second / "stages/00-run-0/outputs/log-0").read_bytes() == (
        first / "stages/00-run-0/outputs/log-0"
    ).read_bytes()
    assert place.run("verify", str(second)).returncode == 0


# ---------------------------------------------------------------- DLIO

SUMMARY = {
    "num_accelerators": 2,
    "num_hosts": 1,
    "hostname": "node1",
    "metric": {
        "train_au_percentage": [91.87, 95.65],
        "train_au_mean_percentage": 93.76,
        "train_au_meet_expectation": "success",
        "train_au_stdev_percentage": 1.89,
        "train_throughput_samples_per_second": [7.9, 18.8],
        "train_throughput_mean_samples_per_second": 13.36,
        "train_throughput_stdev_samples_per_second": 5.46,
        "train_io_mean_MB_per_second": 512.0,
        "train_io_stdev_MB_per_second": 5.46,
    },
    "num_files_train": 8,
    "epochs": 2,
}


@pytest.fixture
def fake_dlio(place):
    """A directory with a `dlio_benchmark` that reads its configuration and writes a summary."""
    path = place.root / "bin/dlio_benchmark"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\n"
        + textwrap.dedent(
            f"""
            import json, os, pathlib, sys, yaml
            words = dict(word.split("=", 1) for word in sys.argv[1:])
            conf = pathlib.Path(words["--config-dir"]) / "workload" / f"{{words['workload']}}.yaml"
            workload = yaml.safe_load(conf.read_text())
            out = pathlib.Path(words["hydra.run.dir"].strip("'"))
            data = pathlib.Path(words["++workload.dataset.data_folder"].strip("'")) / "train"
            rank = os.environ["PMI_RANK"]
            if words["++workload.workflow.generate_data"] == "True":
                data.mkdir(parents=True, exist_ok=True)
                for n in range(workload["dataset"]["num_files_train"]):
                    (data / f"img_{{n}}.npz").write_bytes(b"x")
                sys.exit()
            assert len(list(data.iterdir())) == workload["dataset"]["num_files_train"]
            (out / f"{{rank}}_output.json").write_text("{{}}")
            if rank == "0":
                (out / "dlio_config").mkdir()
                (out / "dlio_config" / "config.yaml").write_text(conf.read_text())
                (out / "summary.json").write_text(json.dumps({SUMMARY!r}, indent=4))
            """
        )
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path.parent


def test_dlio_writes_trains_and_its_summary_is_mapped(place, fake_dlio):
    words = [
        "benchmark=external/dlio", "trials=1", "cluster.ranks=2", "data_dir=data",
        "benchmark.settings.workload.dataset.num_files_train=8",
        "benchmark.settings.workload.checkpoint.fsync=true", *PATIENT,
    ]  # fmt: skip
    path = f"{fake_dlio}:{place.env()['PATH']}"
    done = place.run(*words, PATH=path)
    assert done.returncode == 0, done.stderr
    archive = place.archive()
    values = values_of(archive)
    assert values["au_pct"] == 93.76
    assert values["samples_per_s"] == 13.36
    assert values["nominal_read_gib_s"] == 0.5
    assert "checkpoint_save_gib_s" not in values
    assert rules_of(archive, "warning") == ["EXT-02"]
    assert "EXT-02 benchmark.settings.workload.checkpoint.fsync: DLIO ignores it" in done.stdout
    names = sorted(path.name for path in (archive / "stages/01-run-0/outputs").iterdir())
    assert names == ["rank-0", "rank-1", "summary", "workload"]
    assert place.run("verify", str(archive)).returncode == 0
    assert list(place.data_dir.iterdir()) == []


# ---------------------------------------------------------------- kv-cache.py and vdbbench

KV_CACHE = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("model", "generation-mode", "cache-dir", "output", "config"):
    parser.add_argument(f"--{name}")
for name in ("num-users", "duration", "gpu-mem-gb", "cpu-mem-gb", "max-concurrent-allocs",
             "storage-capacity-gb", "seed"):
    parser.add_argument(f"--{name}", type=int)
parser.add_argument("--precondition", action="store_true")
told = parser.parse_args()
pathlib.Path(told.cache_dir).mkdir()
(pathlib.Path(told.cache_dir) / "entry.npy").write_bytes(b"x")
rank = int(told.output[-6])
stats = {
    "tier_storage_read_bandwidth_gbps": 2.0 + rank, "tier_storage_write_bandwidth_gbps": 0.5,
    "storage_read_device_p95_ms": 10.0 * (rank + 1),
}
summary = {
    "avg_throughput_tokens_per_sec": 100.0, "storage_throughput_tokens_per_sec": 50.0,
    "requests_per_second": told.num_users, "cache_stats": stats,
}
assert told.precondition and told.config is None
pathlib.Path(told.output).write_text(json.dumps({"seed": told.seed, "summary": summary}))
"""


def test_kv_cache_py_is_told_its_options_and_its_results_are_mapped(place):
    (place.root / "kv-cache.py").write_text(KV_CACHE)
    done = place.run(
        "benchmark=external/kv_cache_py", "benchmark.settings.script=kv-cache.py", "trials=1",
        f"benchmark.settings.python={sys.executable}", "cluster.ranks=2", "data_dir=data",
        "benchmark.settings.flags.num-users=7", "benchmark.settings.flags.precondition=true",
        "benchmark.needs.disk_bytes_per_rank=1024", "benchmark.needs.memory_bytes_per_rank=1024",
        *PATIENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = values_of(place.archive())
    assert own(values) == {
        "read_gib_s": 5.0, "write_gib_s": 1.0, "generated_tokens_per_s": 200.0,
        "storage_tokens_per_s": 100.0, "requests_per_s": 14.0,
        "device_read_p95_worst_rank_ms": 20.0,
    }  # fmt: skip
    assert list(place.data_dir.iterdir()) == []


VDBBENCH = """
import json, pathlib, sys
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert told["--collection-name"] == "mine" and told["--seed"] == "42"
statistics = {
    "throughput_qps": 812.5, "mean_latency_ms": 1.25, "p95_latency_ms": 2.5, "p99_latency_ms": 4.0,
    "recall": {"mean_recall": 0.975}, "disk_io": {"applicable": False},
}
pathlib.Path(told["--output-dir"], "statistics.json").write_text(json.dumps(statistics))
"""


def test_vdbbench_is_started_once_and_its_statistics_are_mapped(place):
    program = place.root / "vdbbench"
    program.write_text(f"#!{sys.executable}\n{VDBBENCH}")
    program.chmod(0o755)
    done = place.run(
        "benchmark=external/vdbbench", f"benchmark.settings.program={program}", "trials=1",
        "benchmark.settings.flags.collection-name=mine", "cluster.ranks=2", "data_dir=data",
        *PATIENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    values = values_of(place.archive())
    assert own(values) == {
        "queries_per_s": 812.5, "query_mean_ms": 1.25, "query_p95_ms": 2.5, "query_p99_ms": 4.0,
        "recall_pct": pytest.approx(97.5),
    }  # fmt: skip
    assert stage_results(place.archive())[0]["ranks"]["exit_status"] == [0]
