"""What a plan says of a checkpoint, as an engine tells it."""

from __future__ import annotations

import json
import os
import sys

import pytest
from checkpoint_results import GIB, checkpoint_spec, layout_of

from mlps.engine import checkpoint_plan, needs
from mlps.engine.checkpoint_job import checkpoint_jobs
from mlps.engine.checkpoint_plan import CheckpointSize, checkpoint_size_of
from mlps.engine.children import Command
from mlps.engine.commands import plan
from mlps.engine.needs import Needs
from mlps.engine.plan import make_plan

WORDS = ["benchmark=checkpointing/quick", "launcher=process", "cluster.ranks_per_host=1"]


def needs_with(layout):
    return Needs(
        disk_bytes=8 * GIB,
        memory_bytes_per_rank=1,
        disk_arithmetic="2 checkpoints of 4 GiB",
        facts={} if layout is None else {"checkpoint": layout},
    )


def size_of(changes=None, **layout):
    (job,) = checkpoint_jobs(checkpoint_spec(changes))
    return CheckpointSize(job=job, needs=needs_with(layout_of(**layout)))


def test_the_plan_of_another_family_has_no_checkpoint(make_spec, plan_of):
    assert checkpoint_size_of(make_spec(), plan_of(), {}) is None


def test_sizes_in_words():
    assert [*size_of().lines()] == [
        "checkpoint: 536,870,912 parameters, 4.00 GiB (model 1.00 GiB in 4 files, optimizer "
        "3.00 GiB in 4 files)",
        "each rank: 1.000 to 1.000 GiB (1,073,741,824 to 1,073,741,824 bytes)",
        "writes and reads: 2 and 2; on disk 8.00 GiB (2 checkpoints of 4 GiB)",
        "4 accelerators, of a memory that is not declared, must hold 4.00 GiB: "
        "benchmark.accelerator.memory_gib=GIB",
    ]


def test_a_part_of_the_bytes_is_told_with_the_whole():
    line = next(size_of(scale=0.5, formula_bytes=8 * GIB).lines())
    assert line.startswith("checkpoint: 536,870,912 parameters, 4.00 GiB, 50 % of 8.00 GiB (model")


@pytest.mark.parametrize(
    ("memory_gib", "table_gib", "text"),
    [
        (1, None, "4 accelerators with 4.00 GiB of memory together hold 4.00 GiB"),
        (0.5, None, "4 accelerators with 2.00 GiB of memory together do not hold 4.00 GiB"),
        (
            1,
            5,
            "4 accelerators with 4.00 GiB of memory together do not hold 5.00 GiB (the larger of "
            "computed and Rules)",
        ),
    ],
)
def test_whether_accelerators_hold_it(memory_gib, table_gib, text):
    changes = {
        "benchmark.accelerator.memory_gib": memory_gib,
        "benchmark.accelerator.checkpoint_gib": table_gib,
    }
    assert [*size_of(changes).lines()][-1] == text
    assert size_of(changes).as_document()["held"] is ("do not" not in text)


def test_the_document_has_the_layout_and_what_follows_from_it():
    assert size_of().as_document() == layout_of() | {
        "bytes": 4 * GIB,
        "disk_bytes": 8 * GIB,
        "accelerators": 4,
        "accelerator_memory_gib": None,
        "table_gib": None,
        "held": None,
    }


def test_an_engine_that_tells_no_layout_has_no_sizes():
    (job,) = checkpoint_jobs(checkpoint_spec())
    size = CheckpointSize(job=job, needs=needs_with(None))
    assert (size.as_document(), [*size.lines()]) == (None, [])


@pytest.fixture
def answering(monkeypatch):
    """Puts a program in the place of the engine, that writes this and ends so."""

    def answer(text, status=0):
        code = f"import sys; sys.{'stderr' if status else 'stdout'}.write({text!r})"
        argv = (sys.executable, "-S", "-c", f"{code}; sys.exit({status})")
        asked = []

        def commands(spec, python, ranks, env):
            asked.append((spec.engine, python, ranks, "MLPS_JOB" in env))
            return [Command(argv=argv, env={}, limit_s=20)]

        monkeypatch.setattr(needs, "needs_commands", commands)
        return asked

    return answer


def test_the_engine_is_asked_on_this_machine(answering):
    asked = answering(json.dumps({"event": "needs", **needs_with(layout_of()).as_document()}))
    spec = checkpoint_spec({"cluster.hosts": ["node1", "node2"]})
    size = checkpoint_size_of(spec, make_plan(spec, python="/their/python"), {})
    assert size.needs == needs_with(layout_of())
    assert asked == [("checkpoint_native", sys.executable, 8, True)]


@pytest.mark.parametrize(
    ("model", "hosts", "ranks", "gib", "files"),
    [("llama3_70b", 8, 8, 911.21, 128), ("llama3_1t", 8, 128, 15426.59, 2072)],
)
def test_the_engine_itself_tells_the_sizes_of_models(model, hosts, ranks, gib, files):
    changes = {
        "cluster.hosts": [f"node[1-{hosts}]"],
        "cluster.slots_per_host": ranks,
        "cluster.ranks_per_host": ranks,
    }
    spec = checkpoint_spec(changes, benchmark=f"checkpointing/{model}", fitting=False)
    told = checkpoint_size_of(spec, make_plan(spec, python="/python"), os.environ).as_document()
    assert round(told["bytes"] / GIB, 2) == gib
    assert told["bytes"] == told["formula_bytes"] == told["disk_bytes"] // 10
    assert told["model_files"] + told["optimizer_files"] == files


@pytest.mark.parametrize(
    ("text", "status", "trouble"),
    [
        ("7 ranks are no multiple of 8\n", 4, "7 ranks are no multiple of 8"),
        ("{}", 0, "'disk_bytes'"),
    ],
)
def test_what_the_engine_refuses_is_a_finding(answering, text, status, trouble):
    answering(text, status)
    spec = checkpoint_spec()
    size = checkpoint_size_of(spec, make_plan(spec, python="/python"), {})
    assert (size.needs, size.as_document(), [*size.lines()]) == (None, None, [])
    finding = size.findings(spec)[-1]
    assert (finding.rule, finding.severity) == ("ENV-02", "error")
    assert finding.text == f"engine checkpoint_native cannot run this job: {trouble}"


def test_a_plan_prints_the_sizes_and_counts_by_them(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = needs_with(layout_of())
    monkeypatch.setattr(checkpoint_plan, "ask_needs", lambda *_arguments: told)
    assert plan(WORDS, config_dirs=(), as_json=False) == 0
    out = capsys.readouterr().out
    assert "\ncheckpoint: 536,870,912 parameters, 4.00 GiB (model" in out
    assert "\ninfo CKP-08 benchmark.writes: 3 checkpoints are written and 3 read" in out
    assert "\n00-write-0: 1 rank" in out
    less = "benchmark.accelerator.memory_gib=3"
    assert plan([*WORDS, "division=closed", less], config_dirs=(), as_json=True) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["checkpoint"]["held"] is False
    severities = {finding["rule"]: finding["severity"] for finding in document["findings"]}
    assert (severities["CKP-01"], severities["CKP-08"]) == ("error", "error")
    assert plan(["benchmark=kvcache/quick"], config_dirs=(), as_json=True) == 0
    assert "checkpoint" not in json.loads(capsys.readouterr().out)


def test_a_plan_that_the_engine_refuses_would_be_invalid(capsys, monkeypatch, tmp_path, answering):
    monkeypatch.chdir(tmp_path)
    answering("no such model", 4)
    assert plan(WORDS, config_dirs=(), as_json=False) == 7
    out = capsys.readouterr().out
    assert "would be INVALID" in out
    assert "error ENV-02 benchmark: engine checkpoint_native cannot run this job: no such" in out
