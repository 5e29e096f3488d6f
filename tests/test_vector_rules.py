"""Where each rule of vector search fires and where it does not."""

from __future__ import annotations

import pytest
from divisions import CLOSED, DIVISIONS, FORMS, OPEN
from vector_results import (
    COMPLETE,
    GIB,
    RAW_BYTES,
    VECTORS,
    Job,
    backend_of,
    cache_of,
    dataset_of,
    loaded,
    open_point,
    point_of,
    ran,
    rate_point,
    reads_of,
    recall_of,
    searched,
    swept,
    truth_made,
    vector_spec,
)

from mlps.engine.stage_rules import judge_stage_result
from mlps.engine.vector_form import judge_told_vectors, judge_vector_form
from mlps.engine.vector_rules import judge_vector_score, judge_vectors

# What only a provisional table asks for refuses nobody.
TABLES = pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "info"),
        (CLOSED, "warning"),
        (OPEN, "warning"),
        (CLOSED | {"edition.vectordb.status": "published"}, "error"),
    ],
    ids=["whatif", "closed", "open", "published"],
)
LOAD, TRUTH, PROBE, RUN, SECOND = "00-load", "01-truth", "02-probe", "03-run-0", "04-run-1"

# A job that has the form of a score.
SCORE = {
    "trials": 5,
    "benchmark.database.backend": "milvus",
    "benchmark.dataset.num_vectors": 1_000_000,
    "benchmark.dataset.dimension": 1536,
    "benchmark.index.index_type": "DISKANN",
    "benchmark.run.runtime_s": 300,
}


def found(findings):
    return [(finding.rule, finding.severity, finding.key) for finding in findings]


def form_of(changes):
    return judge_vector_form(vector_spec(SCORE | changes))


def of_rule(findings, rule):
    return [finding for finding in findings if finding.rule == rule]


class Judged(Job):
    """A job whose stages are judged; hosts have 8 GiB of memory."""

    memory_bytes = 8 * GIB

    def score(self):
        return judge_vector_score(*self.ended)

    def results_alone(self):
        return judge_vectors(*self.ended, self.memory_bytes)


@pytest.fixture
def make_job(make_result):
    return lambda changes=None: Judged(make_result, changes)


@pytest.fixture
def job(make_job):
    return make_job()


@pytest.mark.parametrize("division", [{}, CLOSED, OPEN], ids=["whatif", "closed", "open"])
def test_a_score_has_no_findings(division):
    assert form_of(division) == []


def test_a_good_job_has_no_findings_but_remarks_on_its_form(job):
    assert {finding.severity for finding in job.score()} == {"info"}
    assert job.results_alone() == []


def test_a_job_of_another_family_has_none(make_spec, plan_of, make_result):
    spec, plan = make_spec(), plan_of()
    names = [launch.name for launch in plan.launches]
    outcomes = dict.fromkeys(names, COMPLETE)
    results = {name: make_result(vectordb=ran(recall=None)) for name in names}
    assert judge_vector_form(spec) == judge_told_vectors(spec, {"vectordb": {}}) == []
    assert judge_vector_score(spec, plan, outcomes, results) == []
    assert judge_vectors(spec, plan, outcomes, results, None) == []


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_run_that_did_not_end_well_is_not_judged(job, status):
    job.point(RUN).update(recall=None, queries=1)
    job.outcomes[RUN]["status"] = status
    assert job.results_alone() == []


def test_what_is_wrong_with_several_options_is_told_once():
    options = [{"name": "one", "set": {}}, {"name": "two", "set": {"search": {"k": 3}}}]
    findings = form_of({"benchmark.options": options, "trials": 2})
    assert [finding.rule for finding in findings] == ["VDB-05"]


# ---------------------------------------------------------------- VDB-01, 05, 07: form


@TABLES
def test_vdb_01_fires_for_a_scale_that_is_not_scored(changes, severity):
    (finding,) = form_of(changes | {"benchmark.dataset.num_vectors": 999})
    assert found([finding]) == [("VDB-01", severity, "benchmark.dataset.num_vectors")]
    assert finding.text.startswith(
        "999 vectors of 1,536 dimensions are no scale that is scored (Rules 5.1.1); scored are "
        "1,000,000 x 1,536, 10,000,000 x 1,536"
    )
    assert ("provisional" in finding.text) is ("edition.vectordb.status" not in changes)


def test_vdb_01_fires_for_vectors_of_a_file():
    (finding,) = form_of({"benchmark.dataset.path": "/data/base.fvecs"})
    assert finding.text.startswith("vectors of a file of your own are no scale")


@FORMS
def test_vdb_05_fires_for_another_number_of_runs(changes, severity):
    (finding,) = form_of(changes | {"trials": 3})
    assert found([finding]) == [("VDB-05", severity, "trials")]
    assert finding.text == "there are 3 runs, a score takes 5 (Rules 5.3.1)"


@FORMS
def test_vdb_07_fires_for_a_short_run(changes, severity):
    (finding,) = form_of(changes | {"benchmark.run.runtime_s": 29})
    assert found([finding]) == [("VDB-07", severity, "benchmark.run.runtime_s")]
    assert form_of(changes | {"benchmark.run.runtime_s": 30}) == []


COUNTED = {
    "benchmark.run.mode": "query_count",
    "benchmark.run.queries": 10_000,
    "benchmark.run.runtime_s": None,
}


@TABLES
def test_vdb_07_fires_for_few_queries(changes, severity):
    (finding,) = form_of(changes | COUNTED | {"benchmark.run.queries": 9_999})
    assert found([finding]) == [("VDB-07", severity, "benchmark.run.queries")]
    assert form_of(changes | COUNTED) == []


@TABLES
def test_vdb_07_counts_what_was_answered(make_job, changes, severity):
    job = make_job(changes)
    job.point(SECOND).update(point_of(10_000))
    findings = [each for each in of_rule(job.score(), "VDB-07") if each.key in (RUN, SECOND)]
    assert found(findings) == [("VDB-07", severity, RUN)]
    assert findings[0].text.startswith("2,000 queries in a run, a score takes 10,000 at least")


@FORMS
def test_vdb_07_measures_a_run_of_a_number_of_queries(make_job, changes, severity):
    job = make_job(changes | COUNTED)
    for name in (RUN, SECOND):
        job.point(name).update(point_of(20_000, 29.0 if name == RUN else 31.0))
    assert found(of_rule(job.score(), "VDB-07")) == [("VDB-07", severity, RUN)]


# ---------------------------------------------------------------- VDB-13: closed


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"benchmark.database.backend": "zvec"}, "benchmark.database.backend"),
        ({"benchmark.index.index_type": "IVF_FLAT"}, "benchmark.index.index_type"),
    ],
)
def test_vdb_13_fires_in_closed_alone(changes, key):
    assert found(form_of(CLOSED | changes)) == [("VDB-13", "error", key)]
    assert form_of(OPEN | changes) == form_of(changes) == []


@pytest.mark.parametrize("index_type", ["DISKANN", "HNSW", "AISAQ"])
def test_vdb_13_is_silent(index_type):
    assert form_of(CLOSED | {"benchmark.index.index_type": index_type}) == []


# ---------------------------------------------------------------- VDB-02 to VDB-04: what was loaded


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"vectors": 9_000}, "vectors: 10000 declared, 9000 loaded, 10000 searched"),
        ({"dimension": 64}, "dimension: 128 declared, 64 loaded, 128 searched"),
        ({"sha256": "dd" * 32}, "the vectors that were loaded are others than those that were"),
    ],
)
def test_vdb_02_fires_where_other_vectors_were_loaded(job, data, text):
    job.section(LOAD)["dataset"] = dataset_of(**data)
    findings = of_rule(job.results_alone(), "VDB-02")
    assert found(findings) == [("VDB-02", "error", RUN), ("VDB-02", "error", SECOND)]
    assert findings[0].text.startswith(text)


def test_vdb_02_fires_where_other_vectors_were_searched_than_declared(job):
    del job.results[LOAD]
    job.section(RUN)["dataset"] = dataset_of(vectors=5)
    (finding,) = of_rule(job.results_alone(), "VDB-02")
    assert finding.text.startswith("vectors: 10000 declared, 5 loaded, 5 searched")


def test_vdb_02_takes_a_file_as_it_is(make_job):
    job = make_job({"benchmark.dataset.path": "/data/base.fvecs"})
    for name in (LOAD, TRUTH, PROBE, RUN, SECOND):
        job.section(name)["dataset"] = dataset_of(vectors=77, dimension=5)
    assert of_rule(job.results_alone(), "VDB-02") == []


@pytest.mark.parametrize(
    "load", [{"stored": 9_999}, {"inserted": 9_999}, {"stored": 0, "inserted": 0}]
)
def test_vdb_03_fires_where_vectors_are_missing(job, load):
    job.results[LOAD]["vectordb"] = loaded(**load)
    (finding,) = job.results_alone()
    assert found([finding]) == [("VDB-03", "error", LOAD)]
    assert finding.text.startswith("10,000 vectors were to be stored, ")


@DIVISIONS
def test_vdb_03_fires_where_nobody_counted(make_job, changes, severity):
    job = make_job(changes)
    job.outcomes[LOAD]["status"] = "not_run"
    assert found(of_rule(job.results_alone(), "VDB-03")) == [("VDB-03", severity, RUN)]


def test_vdb_03_is_silent_where_the_index_was_there(job):
    job.results[LOAD]["vectordb"] = loaded(reused=True, inserted=0, build_s=None)
    assert job.results_alone() == []


def test_vdb_04_fires_where_nothing_was_built(job):
    job.results[LOAD]["vectordb"] = loaded(build_s=None)
    assert found(job.results_alone()) == [("VDB-04", "error", LOAD)]


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ({"index": "HNSW"}, "index IVF, then HNSW"),
        ({"build": {"nlist": 7}}, "build kmeans_rounds=10 nlist=100 sample=4000, then nlist=7"),
        ({"name": "faiss"}, "name native_ivf, then faiss"),
    ],
)
def test_vdb_04_fires_where_another_index_was_searched(job, backend, text):
    job.section(RUN)["backend"] = backend_of(**backend)
    (finding,) = of_rule(job.results_alone(), "VDB-04")
    assert found([finding]) == [("VDB-04", "error", RUN)]
    assert text in finding.text


def test_vdb_04_lets_searches_differ(job):
    job.section(RUN)["backend"] = backend_of(search={"nprobe": 2})
    assert job.results_alone() == []


# ---------------------------------------------------------------- VDB-06: recall


@pytest.mark.parametrize("name", [PROBE, RUN])
@pytest.mark.parametrize(
    ("recall", "text"),
    [
        (None, "nothing is known of its recall (Rules 5.3.2)"),
        (recall_of(0.0), "no query found any of its nearest: recall 0 (Rules 5.3.2)"),
        (recall_of(0.9499), "recall@10 is 0.9499, benchmark.recall.least asks for 0.95"),
    ],
)
def test_vdb_06_fires_where_too_little_was_found(job, name, recall, text):
    job.point(name)["recall"] = recall
    findings = [each for each in job.results_alone() if each.severity == "error"]
    assert found(findings) == [("VDB-06", "error", name)]
    assert findings[0].text == text


def test_vdb_06_is_silent_for_what_was_asked_for_and_for_sweeps(make_job):
    job = make_job({"benchmark.recall.least": 0.97})
    assert job.results_alone() == []
    job.results["05-cleanup"] = job.results[RUN] | {"vectordb": swept()}
    assert job.results_alone() == []


@TABLES
def test_vdb_06_compares_with_the_table_too(make_job, changes, severity):
    job = make_job(changes | {"benchmark.recall.least": 0.5})
    job.point(RUN)["recall"] = recall_of(0.94)
    findings = of_rule(job.score(), "VDB-06")
    assert found(findings) == [("VDB-06", severity, RUN)]
    assert findings[0].text.startswith("recall@10 is 0.9400, a score takes 0.95 (Rules 5.3.2)")


@pytest.mark.parametrize(("recall", "fires"), [(0.979, False), (0.9801, True)])
def test_vdb_06_warns_of_trials_that_differ(job, recall, fires):
    job.point(SECOND)["recall"] = recall_of(recall)
    expected = [("VDB-06", "warning", RUN)] if fires else []
    assert found(job.results_alone()) == expected


# ---------------------------------------------------------------- VDB-08: truth


@pytest.mark.parametrize(("covered", "told"), [(0, "0"), (0.99, "99"), (0.9999, "99.99")])
def test_vdb_08_fires_for_a_truth_of_a_part(job, covered, told):
    job.results[TRUTH]["vectordb"] = truth_made(covered=covered)
    (finding,) = job.results_alone()
    assert found([finding]) == [("VDB-08", "error", TRUTH)]
    assert finding.text == (
        f"the truth covers {told} % of the vectors, all are asked for (Rules 5.3.5)"
    )


def test_vdb_08_fires_for_a_truth_of_others(job):
    job.section(TRUTH)["queries"]["sha256"] = "ee" * 32
    job.section(TRUTH)["dataset"]["sha256"] = "ee" * 32
    findings = job.results_alone()
    assert found(findings) == [("VDB-08", "error", RUN), ("VDB-08", "error", SECOND)]
    assert findings[0].text == "the truth is that of other vectors and queries (Rules 5.3.5)"


@DIVISIONS
def test_vdb_08_fires_without_a_truth(make_job, changes, severity):
    job = make_job(changes)
    job.outcomes[TRUTH]["status"] = "not_run"
    assert found(job.results_alone()) == [("VDB-08", severity, RUN)]


# ---------------------------------------------------------------- VDB-09: storage


def with_reads(job, reads, **backend):
    job.point(RUN)["reads"] = reads
    job.section(RUN)["backend"] = backend_of(**backend)


@pytest.mark.parametrize("division", [{}, CLOSED, OPEN], ids=["whatif", "closed", "open"])
def test_vdb_09_fires_where_nothing_was_read(make_job, division):
    job = make_job(division)
    with_reads(job, reads_of(2000) | {"process": reads_of(2000, 0)["process"]})
    (finding,) = of_rule(job.results_alone(), "VDB-09")
    assert found([finding]) == [("VDB-09", "error", RUN)]
    assert finding.text.startswith("2,000 queries read nothing from storage: memory answered")


@DIVISIONS
def test_vdb_09_fires_where_nobody_knows(make_job, changes, severity):
    job = make_job(changes | {"benchmark.cache.mode": "cold"})
    with_reads(job, {"backend": None, "process": None}, io_class="server")
    assert found(of_rule(job.results_alone(), "VDB-09")) == [("VDB-09", severity, RUN)]


def long_point(last, **changes):
    """20 s, in whose last fifth a query reads so many bytes, before that 256 KiB."""
    read = [400 * 2**18] * 16 + [400 * last] * 4
    return point_of(8000, 20.0, **changes) | {
        "timeline": {"bin_s": 1, "queries": [400] * 20, "process_bytes": read}
    }


@DIVISIONS
def test_vdb_09_fires_where_memory_took_over(make_job, changes, severity):
    job = make_job(changes)
    job.point(RUN).update(long_point(last=2**18 // 50))
    (finding,) = of_rule(job.results_alone(), "VDB-09")
    assert found([finding]) == [("VDB-09", severity, RUN)]
    assert finding.text == (
        "queries read 262,144 bytes each in the first fifth of the run and 5,242 in the last: "
        "memory took over"
    )


def test_vdb_09_is_silent_where_reads_go_on(job):
    job.point(RUN).update(long_point(last=2**18 // 10))
    assert job.results_alone() == []


def test_vdb_09_is_silent_for_a_short_run_and_for_a_server(job):
    job.point(SECOND).update(long_point(last=0))
    job.point(SECOND)["timeline"]["process_bytes"] = None
    job.point(RUN)["timeline"]["process_bytes"] = [2**20, 0, 0, 0, 0]
    assert job.results_alone() == []
    job.point(RUN).update(long_point(last=0))
    job.section(RUN)["backend"]["io_class"] = "server"
    assert of_rule(job.results_alone(), "VDB-09") == []


def test_vdb_09_is_silent_for_a_run_that_claims_nothing(make_job):
    job = make_job({"benchmark.cache.mode": "warm"})
    with_reads(job, reads_of(2000, 0), io_class="memory")
    assert job.results_alone() == []


# ---------------------------------------------------------------- VDB-10: caches


@DIVISIONS
def test_vdb_10_never_scores_a_warm_run(changes, severity):
    (finding,) = form_of(changes | {"benchmark.cache.mode": "warm"})
    assert found([finding]) == [("VDB-10", severity, "benchmark.cache.mode")]


def test_vdb_10_refuses_a_program_without_a_name():
    program = {"benchmark.cache.mode": "cold", "benchmark.cache.method": "command"}
    assert found(form_of(program)) == [("VDB-10", "error", "benchmark.cache.command")]
    assert form_of(program | {"benchmark.cache.command": ["/x"]}) == []


@pytest.mark.parametrize("io_class", ["buffered", "mmap", "server", "memory"])
def test_vdb_10_wants_direct_reads_in_mode_direct(job, io_class):
    told = {"vectordb": {"io_class": io_class}}
    (finding,) = judge_told_vectors(job.spec, told)
    assert found([finding]) == [("VDB-10", "error", "benchmark.cache.mode")]
    job.section(RUN)["backend"] = backend_of(io_class=io_class, io_reason="O_DIRECT was refused")
    (finding,) = of_rule(job.results_alone(), "VDB-10")
    assert found([finding]) == [("VDB-10", "error", RUN)]
    assert f"reads are of class {io_class} (O_DIRECT was refused)" in finding.text


@pytest.mark.parametrize("mode", ["cold", "pressure"])
def test_vdb_10_wants_storage_that_is_read_at_all(mode):
    spec = vector_spec({"benchmark.cache.mode": mode})
    (finding,) = judge_told_vectors(spec, {"vectordb": {"io_class": "memory"}})
    assert "answers from memory alone" in finding.text
    for io_class in ("direct", "buffered", "mmap", "server"):
        assert judge_told_vectors(spec, {"vectordb": {"io_class": io_class}}) == []


def test_vdb_10_knows_nothing_before_the_engine_tells():
    assert judge_told_vectors(vector_spec(), {}) == []


COLD = {"benchmark.cache.mode": "cold"}


def cold_job(make_job, changes, io_class="mmap", **cache):
    job = make_job(COLD | changes)
    for name in (RUN, SECOND):
        job.section(name)["backend"] = backend_of(io_class=io_class)
        job.point(name)["cache"] = cache_of(mode="cold", method="drop")
    job.point(RUN)["cache"].update(cache)
    return job


@DIVISIONS
@pytest.mark.parametrize(
    ("resident_pct", "text"),
    [
        (1.5, "1.5 % of the index were in memory before the run, at most 1 % may be"),
        (None, "how much of the index was in memory before the run is not known: it is not"),
    ],
)
def test_vdb_10_wants_a_cold_index(make_job, changes, severity, resident_pct, text):
    job = cold_job(make_job, changes, resident_before_pct=resident_pct)
    (finding,) = of_rule(job.results_alone(), "VDB-10")
    assert found([finding]) == [("VDB-10", severity, RUN)]
    assert finding.text.startswith(text)


def test_vdb_10_is_silent_for_a_cold_index(make_job):
    job = cold_job(make_job, {}, resident_before_pct=1.0, resident_after_pct=90.0)
    assert job.results_alone() == []
    more = cold_job(make_job, {"benchmark.cache.resident_most_pct": 5}, resident_before_pct=5)
    assert more.results_alone() == []


@pytest.mark.parametrize("division", [{}, CLOSED, OPEN], ids=["whatif", "closed", "open"])
def test_vdb_10_warns_of_a_server_whose_caches_a_program_emptied(make_job, division):
    job = cold_job(make_job, division, "server", method="command", resident_before_pct=None)
    findings = of_rule(job.results_alone(), "VDB-10")
    assert found(findings) == [("VDB-10", "warning", RUN)]
    assert "that it did is not proven" in findings[0].text


@DIVISIONS
@pytest.mark.parametrize(
    ("load", "memory_gib", "io_class", "text"),
    [
        ({"index_bytes": 39 * GIB}, 8, "mmap", "the index has 39.00 GiB, under pressure it has 5 "
         "x the 8.00 GiB of memory of the hosts"),
        ({"index_bytes": None}, 8, "mmap", "the size of the index is not known"),
        ({}, 0, "mmap", "the memory of the hosts is not known"),
        ({"index_bytes": 99 * GIB}, 8, "server", "whether the index is larger than the memory of "
         "the server is not known"),
    ],
)  # fmt: skip
def test_vdb_10_wants_pressure(make_job, changes, severity, load, memory_gib, io_class, text):
    job = make_job(changes | {"benchmark.cache.mode": "pressure", "trials": 1})
    job.memory_bytes = memory_gib * GIB or None
    job.results[LOAD]["vectordb"] = loaded(**load)
    job.section(RUN)["backend"]["io_class"] = io_class
    (finding,) = of_rule(job.results_alone(), "VDB-10")
    assert found([finding]) == [("VDB-10", severity, RUN)]
    assert finding.text.startswith(text)


def test_vdb_10_is_silent_under_pressure(make_job):
    pressure = {"benchmark.cache.mode": "pressure", "benchmark.cache.memory_ratio": 2}
    job = make_job(pressure)
    job.memory_bytes = RAW_BYTES
    assert job.results_alone() == []


# ---------------------------------------------------------------- VDB-11: answers


@pytest.mark.parametrize("name", [PROBE, RUN])
@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"foreign_ids": 1200}, "answers are wrong: 1,200 ids of no vector"),
        ({"repeating_queries": 1}, "answers are wrong: 1 query with an id twice"),
        ({"short_queries": 3}, "answers are wrong: 3 queries with fewer ids than were asked for"),
    ],
)
def test_vdb_11_fires_for_answers_that_are_none(job, name, answers, text):
    job.point(name)["answers"].update(answers)
    (finding,) = job.results_alone()
    assert found([finding]) == [("VDB-11", "error", name)]
    assert finding.text.startswith(text)


def test_vdb_11_looks_at_every_point_of_every_stage(job):
    points = [rate_point(100), rate_point(200)]
    points[1]["answers"] = points[1]["answers"] | {"foreign_ids": 5}
    job.results["05-cleanup"] = job.results[RUN] | {"vectordb": searched(*points)}
    assert found(of_rule(job.results_alone(), "VDB-11")) == [("VDB-11", "error", "05-cleanup")]


def test_vdb_11_warns_of_answers_that_change(job):
    job.point(RUN)["answers"]["changed_queries"] = 2
    assert found(job.results_alone()) == [("VDB-11", "warning", RUN)]


# ---------------------------------------------------------------- VDB-12: requests


def test_vdb_12_fires_for_requests_that_failed_or_came_too_late(job):
    job.point(RUN).update(failed_requests=1, late_requests=2, first_failure="no server at node7")
    (finding,) = job.results_alone()
    assert found([finding]) == [("VDB-12", "error", RUN)]
    assert finding.text == (
        "1 request failed and 2 requests came too late; they count in no number (first: no server "
        "at node7)"
    )


def test_vdb_12_fires_for_a_backlog(job):
    job.point(RUN).update(open_point(unserved=900))
    (finding,) = job.results_alone()
    assert found([finding]) == [("VDB-12", "error", RUN)]
    assert finding.text == (
        "900 of 2,003 requests that arrived were not begun when the run ended, at 400 queries/s: a "
        "backlog grew"
    )


def test_vdb_12_is_silent_for_what_waits_at_the_very_end(job):
    job.point(RUN).update(open_point(unserved=42))
    assert job.results_alone() == []


def test_vdb_12_lets_a_search_for_a_capacity_overload(job):
    tried = [rate_point(800, unserved=2000), rate_point(400), rate_point(400, purpose="confirm")]
    job.results["05-cleanup"] = job.results[RUN] | {"vectordb": searched(*tried)}
    assert job.results_alone() == []


def test_res_07_warns_of_a_search_that_found_nothing(job):
    job.results["05-cleanup"] = job.results[RUN] | {"vectordb": searched(rate_point(400, 200))}
    (finding,) = job.results_alone()
    assert found([finding]) == [("RES-07", "warning", "05-cleanup")]
    assert finding.text == ("no rate met the limit: p99 of a request <= 100 ms and recall >= 0.95")


# ---------------------------------------------------------------- rules of all stages


def test_a_run_moves_no_bytes_of_its_own_and_compares_with_the_truth(job):
    result = job.results[RUN] | {"details": {"working_set_bytes": VECTORS}}
    assert judge_stage_result(RUN, True, result, 8 * GIB, memory_times=3) == []
    assert [finding.rule for finding in judge_stage_result(RUN, True, result | {"vectordb": None},
                                                           8 * GIB, memory_times=3)] == [
        "RES-01", "RES-02", "RES-11",
    ]  # fmt: skip
