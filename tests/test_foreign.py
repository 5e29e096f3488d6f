"""Benchmarks of foreign programs: what is started and rendered, and what is refused before."""

from __future__ import annotations

import json

import pytest
import yaml
from foreign_benchmark import FOREIGN

from mlps.engine.errors import ConfigError
from mlps.engine.foreign import Launched, Place, command_of, metric_of, render_file, start_hosts
from mlps.engine.hosts import Host
from mlps.engine.jobs import prepare
from mlps.engine.references import shown

HOSTS = (Host(name="a", slots=4, ranks=2), Host(name="b", slots=4, ranks=2))

BENCHMARK = FOREIGN | {
    "name": "mine",
    "stages": [
        {"name": "run", "each": "trial", "measured": True},
        {"name": "cleanup", "each": "job"},
    ],
    "time_limit_s": 10,
    "silence_limit_s": 10,
    "start_limit_s": 10,
    "settings": {"size": 1},
    "commands": {"run": {"argv": ["prog", "{benchmark.settings.size}"]}},
}
METRIC = {"output": "log", "regex": "([0-9]+)", "unit": "1/s"}


@pytest.fixture
def problems_of(tmp_path, monkeypatch):
    """The problems of the benchmark above with some of its keys replaced."""
    monkeypatch.chdir(tmp_path)

    def problems(**changes):
        path = tmp_path / "conf/benchmark/mine.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# A benchmark of a test\n" + json.dumps({**BENCHMARK, **changes}))
        try:
            prepare(["benchmark=mine"])
        except ConfigError as error:
            return [f"{problem.key}: {problem.text}" for problem in error.problems]
        return []

    return problems


def with_run(**changes):
    return {"commands": {"run": {"argv": ["prog", "{benchmark.settings.size}"], **changes}}}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"commands": {}}, "benchmark.stages: stage run has no entry in benchmark.commands"),
        (
            {"commands": {**BENCHMARK["commands"], "warm": {"argv": ["x"]}}},
            "benchmark.commands.warm: there is no stage of this name",
        ),
        (
            {"commands": {**BENCHMARK["commands"], "cleanup": {"argv": ["rm"]}}},
            "benchmark.commands.cleanup: mlps itself removes the job's directory",
        ),
        ({"engine": "kvcache_native"}, "benchmark.engine: benchmarks of family external"),
        (
            {"settings": {"size": 1, "sise": 2}},
            "benchmark.settings.sise: has no effect: nothing refers to it",
        ),
        (
            {"options": [{"name": "a", "set": {"settings": {"more": 2}}}]},
            "benchmark.settings.more: has no effect: nothing refers to it",
        ),
        (
            with_run(argv=["prog", "{benchmark.settings.sizes}"]),
            "benchmark.commands.run: {benchmark.settings.sizes} is nothing of the job",
        ),
        (
            with_run(metrics={"x_per_s": METRIC}),
            "benchmark.commands.run: metric x_per_s: log is no output of the stage",
        ),
        (
            with_run(outputs={"log": "stdout"}, metrics={"x_ms": METRIC}),
            "benchmark.commands.run: metric x_ms: 1/s is no time, as a name that ends in _ms says",
        ),
        (
            {"files": {"../x": {"form": "text", "content": "{benchmark.settings.size}"}}},
            "benchmark.commands.run: file ../x would not be in the job's directory",
        ),
        (
            {"files": {"/etc/x": {"form": "text", "content": "x"}}},
            "benchmark.commands.run: file /etc/x would not be in the job's directory",
        ),
        (
            {"files": {"x": {"form": "text", "content": "{rank}"}}},
            "benchmark.commands.run: {rank} is known to a process alone; no file can hold it",
        ),
        (with_run(unknown=1), "benchmark.commands.run.unknown: unknown key"),
        (with_run(argv=[]), "benchmark.commands.run.argv: expected a list that is not"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_benchmark(problems_of, changes, problem):
    found = problems_of(**changes)
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("values", "flaw"),
    [
        ({}, "needs either json or regex"),
        ({"json": "$.a", "regex": "(a)"}, "needs either json or regex"),
        ({"json": "$..a"}, "is no JSON path"),
        ({"regex": "("}, "unterminated subpattern"),
        ({"regex": "a"}, "its regex has 0 groups, one is needed"),
        ({"regex": "(a)(b)"}, "its regex has 2 groups"),
    ],
)
def test_a_metric_that_cannot_be_read(values, flaw):
    with pytest.raises(ValueError, match=flaw):
        metric_of("x_per_s", {"output": "log", "unit": "1/s", **values})


def test_names_of_our_own_metrics_are_taken():
    with pytest.raises(ValueError, match="are those of mlps"):
        metric_of("program_x_per_s", {"output": "o", "unit": "1/s", "json": "$"})


# ---------------------------------------------------------------- hosts and files


@pytest.mark.parametrize(("start", "ranks"), [("rank", [2, 2]), ("host", [1, 1]), ("one", [1])])
def test_how_many_processes_are_started(start, ranks):
    commands = {"run": {"argv": ["x"], "start": start}}
    document = {"benchmark": {**BENCHMARK, "commands": commands}}
    launched = Launched(stage="run", option=None, trial=0, hosts=HOSTS)
    assert [host.ranks for host in start_hosts(document, launched)] == ranks
    assert start_hosts(
        document, Launched(stage="cleanup", option=None, trial=None, hosts=HOSTS)
    ) == (Host(name="a", slots=4, ranks=1),)


def test_all_that_can_be_referred_to():
    names = ["data_dir", "run_dir", "stage_dir", "seed", "trials", "stage", "option", "trial",
             "ranks", "ranks_per_host", "host_count", "processes", "rank", "host"]  # fmt: skip
    argv = [f"{name}={{{name}}}" for name in names] + ["{hosts}"]
    document = {
        "data_dir": "/d", "seed": 7, "trials": 3,
        "benchmark": {**BENCHMARK, "commands": {"run": {"argv": argv, "start": "host"}}},
    }  # fmt: skip
    launched = Launched(
        stage="run", option=None, trial=2, hosts=HOSTS,
        place=Place(run_dir="/d/r", stage_dir="/d/r/s"),
    )  # fmt: skip
    assert [shown(word) for word in command_of(document, launched).argv] == [
        "data_dir=/d", "run_dir=/d/r", "stage_dir=/d/r/s", "seed=7", "trials=3", "stage=run",
        "option=", "trial=2", "ranks=4", "ranks_per_host=2", "host_count=2", "processes=2",
        "rank={rank}", "host={host}", "a", "b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "content", "text"),
    [
        ("text", "a {seed}", "a 7\n"),
        ("text", ["a", "{seed}"], "a\n7\n"),
        ("json", {"b": "{seed}", "a": [True]}, '{\n "a": [\n  true\n ],\n "b": 7\n}\n'),
        ("yaml", {"b": {"c": "{seed}"}, "a": None}, "a: null\nb:\n  c: 7\n"),
        (
            "ini",
            [{"global": {"size": "{seed}", "on": True, "no": None}}, {"a": {"f": ["x", "y"]}}],
            "[global]\non=1\nsize=7\n\n[a]\nf=x\nf=y\n",
        ),
    ],
)
def test_forms_of_files(form, content, text):
    assert render_file({"form": form, "content": content}, {"seed": 7}).decode() == text


@pytest.mark.parametrize(
    "content", ["text", {"a": 1}, {"a": {"b": {"c": 1}}}, {"a": {"b": "x\ny"}}, [["a"]]]
)
def test_what_is_no_ini(content):
    with pytest.raises(ValueError, match=r"ini file"):
        render_file({"form": "ini", "content": content}, {})


# ---------------------------------------------------------------- the shipped benchmarks


def planned(*words):
    plan = prepare([*words, "data_dir=/data"]).plan
    return {launch.name: launch.command for launch in plan.launches}


def test_the_configuration_directory_of_dlio_is_rendered_whole():
    command = planned(
        "benchmark=external/dlio", "trials=1", "benchmark.settings.workload.reader.batch_size=7"
    )["01-run-0"]
    assert list(command.files) == ["conf/workload/mlps.yaml"]
    assert yaml.safe_load(command.files["conf/workload/mlps.yaml"]) == {
        "framework": "pytorch",
        "model": {"name": "unet3d", "type": "cnn"},
        "workflow": {
            "generate_data": False, "train": True, "checkpoint": False, "evaluation": False,
        },
        "dataset": {
            "format": "npz", "num_files_train": 64, "num_samples_per_file": 1,
            "record_length_bytes": 4194304, "record_length_bytes_stdev": 0,
        },
        "reader": {
            "data_loader": "pytorch", "batch_size": 7, "read_threads": 2, "file_shuffle": "seed",
            "sample_shuffle": "seed", "multiprocessing_context": "fork",
        },
        "train": {"epochs": 3, "computation_time": 0.1, "seed": 123},
        "metric": {"au": 0.9},
    }  # fmt: skip
    assert command.as_document()["argv"] == [
        "dlio_benchmark",
        "--config-dir={run_dir}/conf",
        "workload=mlps",
        "hydra.run.dir='{stage_dir}'",
        "++hydra.output_subdir=dlio_config",
        "++workload.output.folder='{stage_dir}'",
        "++workload.dataset.data_folder='{run_dir}/data'",
        "++workload.checkpoint.checkpoint_folder='{stage_dir}/checkpoints'",
        "++workload.workflow.generate_data=False",
        "++workload.workflow.train=True",
    ]


def test_the_jobfile_of_fio_is_rendered_whole():
    command = planned("benchmark=external/fio", "trials=1", "benchmark.settings.job.rw=randrw")[
        "01-run-0"
    ]
    assert command.files["job.fio"].decode().splitlines() == [
        "[global]", "bs=128k", "direct=1", "iodepth=16", "ioengine=libaio", "ramp_time=2",
        "runtime=30", "rw=randrw", "time_based=1", "",
        "[mlps]", "directory={run_dir}", "filename_format=fio.${MLPS_FIO_RANK}.$jobnum",
        "filesize=1073741824", "group_reporting=1", "numjobs=4", "randseed=42",
    ]  # fmt: skip


def test_the_command_line_of_kv_cache_py(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["benchmark=external/kv_cache_py", "benchmark.settings.script=kv-cache.py", "trials=1"]
    argv = planned(*words)["00-run-0"].as_document()["argv"]
    assert argv == [
        "python3", str(tmp_path / "kv-cache.py"), "--cpu-mem-gb", "0", "--duration", "60",
        "--generation-mode", "none", "--gpu-mem-gb", "0", "--max-concurrent-allocs", "16",
        "--model", "tiny-1b", "--num-users", "100", "--storage-capacity-gb", "10", "--seed", "42",
        "--cache-dir", "{stage_dir}/cache-{rank}", "--output", "{stage_dir}/results-{rank}.json",
    ]  # fmt: skip


def test_vdbbench_is_one_process_on_the_first_host():
    words = ["benchmark=external/vdbbench", "benchmark.settings.flags.collection-name=mine"]
    plan = prepare([*words, "cluster=8node", "trials=1"]).plan
    assert [launch.ranks for launch in plan.launches] == [1, 1]
    argv = plan.launches[0].command.as_document()["argv"]
    assert argv[:5] == ["vdbbench", "--batch-size", "1", "--collection-name", "mine"]
    assert argv[-4:] == ["--seed", "42", "--output-dir", "{stage_dir}"]
