"""What a plan says of vector search, as an engine tells it."""

from __future__ import annotations

import json

import pytest
from vector_results import GIB, vector_spec

from mlps.engine import vector_plan
from mlps.engine.commands import plan
from mlps.engine.needs import Needs
from mlps.engine.plan import make_plan
from mlps.engine.vector_job import vector_jobs
from mlps.engine.vector_plan import VectorSize, vector_size_of

WORDS = ["benchmark=vectordb/quick", "launcher=process", "cluster.ranks_per_host=1"]


def told_of(**changes):
    """What an engine tells of 10,000 vectors."""
    told = {
        "raw_bytes": GIB,
        "index_bytes": 2 * GIB,
        "truth_bytes": GIB // 4,
        "vectors": 10_000,
        "dimension": 128,
        "backend": "native_ivf",
        "index": "IVF",
        "io_class": "direct",
    }
    return told | changes


def needs_with(told):
    return Needs(
        disk_bytes=4 * GIB,
        memory_bytes_per_rank=1,
        disk_arithmetic="vectors, index, truth",
        facts={} if told is None else {"vectordb": told},
    )


def size_of(changes=None, **told):
    (job,) = vector_jobs(vector_spec(changes))
    return VectorSize(job=job, needs=needs_with(told_of(**told)))


def test_the_plan_of_another_family_has_no_vectors(make_spec, plan_of):
    assert vector_size_of(make_spec(), plan_of(), {}) is None


def test_sizes_in_words():
    assert [*size_of().lines()] == [
        "vectors: 10,000 of 128 dimensions, 1.000 GiB raw",
        "index: native_ivf, IVF, about 2.000 GiB, reads of class direct; truth 0.250 GiB",
        "on disk 4.000 GiB (vectors, index, truth)",
        "2 runs of 5 s by 2 clients in a closed loop, cache mode direct",
    ]


def test_a_server_does_not_tell_the_size_of_its_index():
    lines = [*size_of(index_bytes=None, io_class="server").lines()]
    assert lines[1].startswith(
        "index: native_ivf, IVF, of a size that is not known, reads of class"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"benchmark.run.load": "open", "benchmark.run.target_qps": 1500},
            "2 runs of 5 s by 2 clients in an open loop at 1,500 queries/s, cache mode direct",
        ),
        (
            {"benchmark.run.mode": "query_count", "benchmark.run.queries": 700, "trials": 1},
            "1 run of 700 queries by 2 clients in a closed loop, cache mode direct",
        ),
    ],
)
def test_runs_in_words(changes, text):
    assert [*size_of(changes).lines()][-1] == text


def test_the_document_has_what_the_engine_tells():
    assert size_of().as_document() == told_of() | {"disk_bytes": 4 * GIB, "clients": 2}


def test_an_engine_that_tells_nothing_has_no_sizes():
    (job,) = vector_jobs(vector_spec())
    size = VectorSize(job=job, needs=needs_with(None))
    assert (size.as_document(), [*size.lines()]) == (None, [])


def refuse(*_arguments):
    raise ValueError("no backend is called 'x'")


def test_what_the_engine_refuses_is_a_finding(monkeypatch):
    monkeypatch.setattr(vector_plan, "ask_needs", refuse)
    spec = vector_spec()
    size = vector_size_of(spec, make_plan(spec, python="/python"), {})
    assert (size.needs, size.as_document(), [*size.lines()]) == (None, None, [])
    finding = size.findings(spec)[-1]
    assert (finding.rule, finding.severity) == ("ENV-02", "error")
    assert finding.text == "engine vectordb cannot run this job: no backend is called 'x'"


def test_a_plan_prints_the_sizes_and_counts_by_them(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vector_plan, "ask_needs", lambda *_: needs_with(told_of()))
    assert plan(WORDS, config_dirs=(), as_json=False) == 0
    out = capsys.readouterr().out
    assert "\nvectors: 10,000 of 128 dimensions" in out
    assert "\ninfo VDB-05 trials: there are 3 runs" in out
    told = told_of(io_class="mmap")
    monkeypatch.setattr(vector_plan, "ask_needs", lambda *_: needs_with(told))
    assert plan(WORDS, config_dirs=(), as_json=True) == 7
    document = json.loads(capsys.readouterr().out)
    assert document["vectordb"]["io_class"] == "mmap"
    severities = {finding["rule"]: finding["severity"] for finding in document["findings"]}
    assert severities == {"VDB-01": "info", "VDB-05": "info", "VDB-07": "info", "VDB-10": "error"}
