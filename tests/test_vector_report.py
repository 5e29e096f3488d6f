"""What people read of a job of vector search, from archives of a job that was played."""

from __future__ import annotations

import json

import pytest
from conftest import Silent, request_of, stage_result
from divisions import closed_job
from report_texts import assert_follows_from_evidence, squeezed, text_of
from vector_results import (
    SECTIONS,
    WITHOUT_IO,
    cache_of,
    histogram_of,
    loaded,
    open_point,
    point_of,
    probed,
    ran,
    rate_point,
    reads_of,
    searched,
    section_of,
    sweep_point,
    swept,
    truth_made,
    vector_spec,
)

from mlps.engine import run as run_module
from mlps.engine.errors import ArchiveError, ComplianceError
from mlps.engine.needs import Needs
from mlps.engine.preflight import Machine
from mlps.engine.report import csv_report, headline, read_published
from mlps.engine.report_command import report
from mlps.engine.run import run_job
from mlps.engine.signals import StopRequests
from mlps.engine.vector_job import vector_jobs
from mlps.engine.vector_report import vector_line


def reported(section):
    """What a stage reports that asked queries."""
    result = stage_result(ranks=1, vectordb=section, **WITHOUT_IO)
    named = ("event", "stage", "option", "trial")
    return {key: value for key, value in result.items() if key not in named}


def behaviours(trials=1, **sections):
    made = {name: make() for name, make in SECTIONS.items()} | sections
    runs = {f"run-{trial}": reported(made["run"]) for trial in range(trials)}
    return runs | {
        stage: {"vectordb": made[stage]}
        for stage in ("load", "truth", "probe", "capacity", "sweep")
    }


STAGES = [
    {"name": "load", "each": "job"},
    {"name": "truth", "each": "job"},
    {"name": "probe", "each": "job"},
    {"name": "run", "each": "trial", "measured": True},
    {"name": "capacity", "each": "job"},
    {"name": "sweep", "each": "job"},
]


@pytest.fixture
def play_job(player):
    """Runs a whole job of vector search with a player, and gives what came of it."""

    def run(changes=None, *, played=None, trials=1, display=None):
        player.behave(played or behaviours(trials))
        fitting = {"trials": trials, "cluster.ranks_per_host": 1}
        spec = vector_spec({**player.changes, **fitting, **(changes or {})})
        return run_job(request_of(spec), display or Silent(), StopRequests())

    return run


TEXT = """\
vectordb/quick on 1 rank, 1 host: complete, verdict WHATIF
run, mean of 2 trials
400.0 queries/s by 2 clients in a closed loop
recall@10 0.9700, of 95 % of the queries at least 0.8000, with near ones 0.9800
a query read 256.0 KiB in 16.0 reads, 0.098 GiB/s, as the backend counts
latency request, ms
mean 1.535
p50 1.000
p95 2.000
p99 2.000
p99.9 9.000
max 9.000
trial recall queries/s p99, ms KiB a query
0 0.9700 400.0 2.00 256.0
1 0.9700 400.0 2.00 256.0
native_ivf 1, IVF (nlist=100 kmeans_rounds=10 sample=4000), searched with nprobe=16 \
reads_in_flight=4 io=auto; reads of class direct
10,000 vectors of 128 dimensions (clustered), COSINE, 0.005 GiB, index 0.010 GiB (200 %)
loaded by 1 rank: 2,500 vectors/s until it was built; insert 2.0 s, flush 0.5 s, build 1.5 s, \
compact 0.2 s
1000 queries (planted), truth to a depth of 100
cache mode direct: reads go past the page cache; of the index in memory 0.0 % before, 0.0 % after
clients' processor time 0.750 ms a query
capacity 400.0 queries/s, p99 3.00 ms, recall 0.9700, by p99 of a request <= 100 ms and recall \
>= 0.95
asked, queries/s queries/s p99, ms recall not begun limit
closed loop 1,000.0 2.00 0.9700
800.0 800.0 200.00 0.9700 0 missed
400.0 400.0 2.00 0.9700 0 met
400.0 400.0 3.00 0.9700 0 met when confirmed
nprobe recall queries/s p99, ms KiB a query no other has more of both
1 0.5000 1,600.0 2.00 256.0 *
4 0.8000 400.0 2.00 256.0
16 0.9600 800.0 2.00 256.0 *
queries/s
1,600.0 |*
|
|
|
|
|
|
| *
|
|
|
400.0 | o
+------------------------------------------------------------
0.5000 0.9600 recall
window 2.00 s, drain 0.25 s, peak memory of a rank 100 MiB
"""


def test_a_report_of_vector_search_follows_from_its_evidence(play_job, edit, reseal):
    archive = play_job({"benchmark.stages": STAGES}, trials=2).archive
    assert squeezed(text_of(archive)) == squeezed(TEXT)
    assert headline(read_published(archive).result) == (
        "400.0 queries/s, recall 0.9700, p99 2.00 ms, 256.0 KiB a query"
    )
    text = csv_report([read_published(archive)])
    metrics = {line.split(",")[6] for line in text.splitlines()[1:]}
    assert metrics >= {
        "qps", "latency_p999_ms", "recall_mean", "read_bytes_per_query", "capacity_qps",
        "sweep_best_qps", "load_vectors_per_s",
    }  # fmt: skip
    assert_follows_from_evidence(archive, "qps", edit, reseal)


def test_what_else_there_is_to_tell(play_job):
    cold = cache_of(mode="cold", method="command", resident_before_pct=0.25)
    section = section_of("run", open_point(batch_size=4, requests=2000, cache=cold))
    section["dataset"] |= {"distribution": None, "source": "/data/base.fvecs"}
    section["backend"] |= {"io_reason": "it may hold some in memory", "search": {}}
    played = behaviours(run=section, load=loaded(reused=True, inserted=0, build_s=0.0))
    changes = {"benchmark.cache.mode": "cold", "benchmark.dataset.path": "/data/base.fvecs"}
    lines = squeezed(text_of(play_job(changes, played=played).archive))
    assert "400.0 queries/s by 2 clients in an open loop at 400 queries/s, 4 queries a request" in (
        lines
    )
    assert "3 requests had not been begun at the end" in lines
    assert "latency request, ms service, ms" in lines
    assert "mean 1.535 1.000" in lines
    assert "the index was there from a job before" in lines
    assert (
        "cache mode cold: evicted before each run by a program of the site; of the index in "
        in ("\n".join(lines))
    )
    assert any("(/data/base.fvecs), COSINE" in line for line in lines)
    assert any(
        "searched with nothing set; reads of class direct (it may hold some in memory)" in line
        for line in lines
    )


@pytest.mark.parametrize(
    ("reads", "line"),
    [
        (
            reads_of(2000, 0),
            "not storage-bound: queries read nothing, as the backend counts",
        ),
        ({"backend": None, "process": None}, "what queries read from storage is not known"),
    ],
)
def test_a_run_that_read_nothing_is_told_as_such(play_job, reads, line):
    done = play_job({"benchmark.cache.mode": "warm"}, played=behaviours(run=ran(reads=reads)))
    assert line in text_of(done.archive).splitlines()


def test_a_search_that_found_nothing_and_no_recall(play_job):
    sections = {"capacity": searched(rate_point(400, 200)), "sweep": swept(sweep_point(1, 0.5, 99))}
    archive = play_job({"benchmark.stages": STAGES}, played=behaviours(**sections)).archive
    text = text_of(archive)
    assert "\nno rate met the limit, by p99 of a request <= 100 ms" in text
    assert "warning RES-07 04-capacity: no rate met the limit" in text


def test_stages_tell_how_they_did(play_job):
    display = Silent()
    play_job({"benchmark.stages": STAGES}, display=display)
    ended = [line for line in display.lines if ": complete in " in line]
    assert [line.partition(" s, ")[2] for line in ended] == [
        "10,000 vectors inserted at 5,000/s, index built in 1.5 s, 0.010 GiB",
        "truth of 1000 queries over 100 % of the vectors in 1.2 s",
        "100 queries, recall 0.9700, 256.0 KiB a query",
        "400.0 queries/s, recall 0.9700, p99 2.00 ms, 256.0 KiB a query",
        "capacity 400.0 queries/s, p99 3.00 ms, recall 0.9700",
        "3 values, the best that found enough 800.0 queries/s",
    ]


NOTHING = histogram_of(0)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (loaded(reused=True), "an index of 10,000 vectors was there, 0.010 GiB"),
        (truth_made(reused=True), "truth of 1000 queries over 100 % of the vectors, was there"),
        (probed(recall=None, reads={"backend": None, "process": None}), "100 queries"),
        (searched(rate_point(400)), "no rate met the limit"),
        (swept(sweep_point(1, 0.5, 99)), "1 value, none of which found enough"),
        (
            ran(recall=None, latency=NOTHING, service=NOTHING, requests=0, queries=0),
            "0.0 queries/s",
        ),
    ],
)
def test_lines_of_other_ends(section, line):
    jobs = vector_jobs(vector_spec())
    assert vector_line(jobs, None, stage_result(vectordb=section)) == line


def test_other_stages_have_no_line():
    jobs = vector_jobs(vector_spec())
    assert vector_line(jobs, None, stage_result()) is None
    assert vector_line(jobs, None, None) is None
    assert vector_line((), None, stage_result(vectordb=ran())) is None


# ---------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("sections", "rule"),
    [
        ({"run": ran(answers=dict.fromkeys(point_of()["answers"], 7))}, "VDB-11"),
        ({"run": ran(reads=reads_of(2000, 0))}, "VDB-09"),
    ],
)
def test_what_makes_a_number_wrong_makes_it_unusable(play_job, sections, rule):
    done = play_job(played=behaviours(**sections))
    assert (done.verdict.name, done.verdict.exit_code) == ("INVALID", 5)
    assert rule in {each.rule for each in done.verdict.findings if each.severity == "error"}


CLOSED = closed_job("vectordb/quick")


def test_closed_refuses_another_form_before_anything_is_written(play_job, player):
    with pytest.raises(ComplianceError, match=r"(?s)VDB-05 .*VDB-07 .*VDB-13 "):
        play_job(CLOSED)
    assert not player.results_dir.exists()


def test_a_backend_that_cannot_do_it_is_refused_before_anything_is_written(
    play_job, player, monkeypatch
):
    whole = run_module.check_machine

    def told(*arguments) -> Machine:
        machine = whole(*arguments)
        needs = Needs(
            disk_bytes=1,
            memory_bytes_per_rank=1,
            disk_arithmetic="1 byte",
            facts={"vectordb": {"io_class": "mmap"}},
        )
        return Machine(
            **{name: getattr(machine, name) for name in Machine.__slots__} | {"needs": needs}
        )

    monkeypatch.setattr(run_module, "check_machine", told)
    with pytest.raises(ComplianceError, match=r"VDB-10 .* does not read past the page cache"):
        play_job()
    assert not player.results_dir.exists()


# ---------------------------------------------------------------- upstream's files


def test_files_of_vdbbench(play_job, sealed, capsys):
    archive = play_job(trials=2).archive
    assert report([str(archive.root), "--vdbbench"], as_json=False) == 0
    documents = json.loads(capsys.readouterr().out)
    names = ("00-load", "03-run-0", "04-run-1")
    assert list(documents) == [f"{archive.run_id}/{name}" for name in names]
    assert documents[f"{archive.run_id}/03-run-0"]["summary.json"]["throughput_qps"] == 400
    with pytest.raises(ArchiveError, match="no archive holds vector search"):
        report([str(sealed.root), "--vdbbench"], as_json=False)
