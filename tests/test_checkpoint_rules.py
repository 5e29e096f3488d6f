"""Where each rule of checkpointing fires and where it does not."""

from __future__ import annotations

import pytest
from checkpoint_results import (
    COMPLETE,
    GIB,
    Job,
    checkpoint_of,
    checkpoint_spec,
    layout_of,
    read,
    written,
)
from divisions import CLOSED, DIVISIONS, FORMS, OPEN

from mlps.engine.checkpoint_rules import (
    judge_accelerators,
    judge_checkpoint_form,
    judge_checkpoints,
    judge_form,
    judge_told_accelerators,
)
from mlps.engine.stage_rules import judge_stage_result

# What the open division lets a submitter change.
CLOSED_FORMS = pytest.mark.parametrize(
    ("changes", "severity"),
    [({}, "info"), (CLOSED, "error"), (OPEN, "info")],
    ids=["whatif", "closed", "open"],
)
WRITE, EVICT, READ = "00-write-0", "01-evict-0", "02-read-0"

# A job that has the form of a score, and accelerators that hold what the results report.
SCORE = {
    "cluster.ranks_per_host": 8,
    "benchmark.writes": 10,
    "benchmark.reads": 10,
    "benchmark.accelerator.memory_gib": 80,
    "benchmark.accelerator.count": 8,
    "benchmark.accelerator.checkpoint_gib": 105,
}


def found(findings):
    return [(finding.rule, finding.severity, finding.key) for finding in findings]


def form_of(changes):
    return judge_form(checkpoint_spec(SCORE | changes))


def of_rule(findings, rule):
    return [finding for finding in findings if finding.rule == rule]


class Judged(Job):
    """A job whose accelerators hold its checkpoints, unless told otherwise."""

    def __init__(self, make_result, changes=None):
        super().__init__(make_result, {"benchmark.accelerator.memory_gib": 80} | (changes or {}))

    def _all(self):
        return self.spec, self.plan, self.outcomes, self.results

    def form(self):
        return judge_checkpoint_form(*self._all())

    def checkpoints(self):
        return judge_checkpoints(*self._all())


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
    assert {finding.severity for finding in job.form()} == {"info"}
    assert job.checkpoints() == []


def test_a_job_of_another_family_has_none(make_spec, plan_of, make_result):
    spec, plan = make_spec(), plan_of()
    names = [launch.name for launch in plan.launches]
    outcomes = dict.fromkeys(names, COMPLETE)
    results = {name: make_result(checkpointing=read(ended_before_s=99)) for name in names}
    assert judge_form(spec) == []
    assert judge_accelerators(spec, {None: layout_of()}) == []
    assert judge_checkpoint_form(spec, plan, outcomes, results) == []
    assert judge_checkpoints(spec, plan, outcomes, results) == []


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_stage_that_did_not_end_well_is_not_judged(job, status):
    job.section(READ).update(read(checkpoint_of(1, does="read", resident_pct=50)))
    job.section(READ)["source"]["end_unix_s"] -= 100
    job.outcomes[READ]["status"] = status
    assert job.checkpoints() == []
    assert of_rule(job.form(), "CKP-05") == []


def test_what_is_wrong_with_several_options_is_told_once():
    options = [{"name": "one", "set": {}}, {"name": "two", "set": {"writes": 3}}]
    findings = form_of({"benchmark.options": options, "benchmark.scale": 0.5})
    assert [finding.rule for finding in findings] == ["CKP-07", "CKP-08"]


# ---------------------------------------------------------------- CKP-01: memory


def memory_of(changes, formula_bytes=4 * GIB):
    layouts = {None: layout_of(formula_bytes=formula_bytes)}
    return judge_accelerators(checkpoint_spec(changes), layouts)


@DIVISIONS
def test_ckp_01_fires_where_the_accelerators_hold_less(changes, severity):
    (finding,) = memory_of(changes | {"benchmark.accelerator.memory_gib": 0.75})
    assert found([finding]) == [("CKP-01", severity, "benchmark.accelerator.memory_gib")]
    assert finding.text == (
        "4 accelerators of 0.75 GiB have 3.00 GiB of memory together, a checkpoint has 4.00 GiB "
        "(computed 4.00)"
    )
    assert finding.hint.endswith("at least 1.00")


def test_ckp_01_goes_by_the_larger_of_the_computed_size_and_that_of_the_rules():
    of_rules = {"benchmark.accelerator.checkpoint_gib": 5, "benchmark.accelerator.memory_gib": 1.25}
    assert memory_of(of_rules) == []
    (finding,) = memory_of(of_rules, formula_bytes=6 * GIB)
    assert "6.00 GiB (computed 6.00, by the table of the rules 5.00)" in finding.text
    (finding,) = memory_of(of_rules | {"benchmark.accelerator.memory_gib": 1.2})
    assert "a checkpoint has 5.00 GiB (computed 4.00, by the table of the rules 5.00)" in (
        finding.text
    )


@FORMS
def test_ckp_01_fires_where_nobody_says_how_much_memory_there_is(changes, severity):
    (finding,) = memory_of(changes)
    assert found([finding]) == [("CKP-01", severity, "benchmark.accelerator.memory_gib")]
    assert finding.text == (
        "whether accelerators hold a checkpoint of 4.00 GiB is not known: their memory is not "
        "declared"
    )


def test_ckp_01_is_silent_where_they_hold_it_and_where_no_layout_is_known():
    assert memory_of({"benchmark.accelerator.memory_gib": 1}) == []
    assert judge_accelerators(checkpoint_spec(), {}) == []


def test_ckp_01_is_judged_by_what_the_engine_tells_beforehand():
    spec = checkpoint_spec({"benchmark.accelerator.memory_gib": 0.5})
    assert found(judge_told_accelerators(spec, {"checkpoint": layout_of()})) == [
        ("CKP-01", "warning", "benchmark.accelerator.memory_gib")
    ]
    assert judge_told_accelerators(spec, {}) == []


def test_ckp_01_is_judged_by_what_was_run(make_job):
    job = make_job({"benchmark.accelerator.memory_gib": 0.75})
    (finding,) = of_rule(job.form(), "CKP-01")
    assert finding.severity == "warning"
    job.results = {}
    assert of_rule(job.form(), "CKP-01") == []


# ---------------------------------------------------------------- form: the job alone


@CLOSED_FORMS
def test_ckp_02_fires_for_another_number_of_accelerators(changes, severity):
    (finding,) = form_of(changes | {"cluster.ranks_per_host": 7})
    assert found([finding]) == [("CKP-02", severity, "cluster.ranks")]
    assert finding.text == "there are 7 accelerators, a score takes 8 (Rules 4.6.1)"
    assert finding.hint == "cluster.ranks=8"


def test_ckp_02_is_silent_where_no_number_is_asked_for():
    free = {"benchmark.accelerator.count": None}
    assert form_of(CLOSED | free | {"cluster.ranks_per_host": 7}) == []


@DIVISIONS
def test_ckp_06_fires_without_fsync(changes, severity):
    (finding,) = form_of(changes | {"benchmark.io.fsync": False})
    assert found([finding]) == [("CKP-06", severity, "benchmark.io.fsync")]


def test_ckp_06_is_silent_where_nothing_is_written():
    assert form_of(CLOSED | {"benchmark.io.fsync": False, "benchmark.writes": 0}) == []


@FORMS
def test_ckp_07_fires_for_a_part_of_the_bytes(changes, severity):
    (finding,) = form_of(changes | {"benchmark.scale": 0.005})
    assert found([finding]) == [("CKP-07", severity, "benchmark.scale")]
    assert finding.text == "files have 0.5 % of the bytes of the model's"


SUBSET = {"benchmark.parallelism.mode": "subset", "benchmark.parallelism.data": 8}


@FORMS
def test_ckp_07_fires_for_a_subset_of_another_model(changes, severity):
    (finding,) = form_of(changes | SUBSET | {"benchmark.name": "checkpointing/llama3_70b"})
    assert found([finding]) == [("CKP-07", severity, "benchmark.parallelism.mode")]


@pytest.mark.parametrize(
    ("name", "ranks", "fires"),
    [
        ("checkpointing/llama3_8b_subset", 8, False),
        ("checkpointing/llama3_8b", 8, False),
        ("checkpointing/llama3_8b_subset", 7, True),
        ("checkpointing/llama3_1t", 8, True),
    ],
)
def test_ckp_07_knows_the_one_subset_that_counts(name, ranks, fires):
    changes = SUBSET | {"benchmark.name": name, "cluster.ranks_per_host": ranks}
    assert bool(of_rule(form_of(CLOSED | changes), "CKP-07")) is fires


@CLOSED_FORMS
@pytest.mark.parametrize(("writes", "reads"), [(3, 10), (10, 3), (0, 9)])
def test_ckp_08_fires_for_another_number_of_checkpoints(changes, severity, writes, reads):
    (finding,) = form_of(changes | {"benchmark.writes": writes, "benchmark.reads": reads})
    assert found([finding]) == [("CKP-08", severity, "benchmark.writes")]
    assert finding.text.startswith(f"{writes} checkpoints are written and {reads} read")


@pytest.mark.parametrize(("writes", "reads"), [(10, 0), (0, 10), (10, 10)])
def test_ckp_08_is_silent(writes, reads):
    assert form_of(CLOSED | {"benchmark.writes": writes, "benchmark.reads": reads}) == []


@pytest.mark.parametrize(
    ("division", "ranks", "severities"),
    [
        (CLOSED, 3, ["error"]),
        (CLOSED, 4, ["warning"]),
        (CLOSED, 5, []),
        (OPEN, 3, ["error"]),
        (OPEN, 4, ["warning"]),
        ({}, 3, ["info"]),
        ({}, 4, ["info"]),
        ({}, 5, []),
    ],
)
def test_ckp_09_fires_for_few_accelerators_on_a_host(division, ranks, severities):
    changes = {"cluster.ranks_per_host": ranks, "benchmark.accelerator.count": None}
    findings = form_of(division | changes)
    assert found(findings) == [("CKP-09", each, "cluster.ranks_per_host") for each in severities]


def test_ckp_09_tells_of_the_contradiction_in_the_rules():
    changes = {"cluster.ranks_per_host": 4, "benchmark.accelerator.count": None}
    (finding,) = form_of(CLOSED | changes)
    assert finding.text == (
        "a host has 4 accelerators; Rules 4.6.2 ask for more than 4, their table for as many"
    )


@FORMS
def test_ckp_10_fires_where_training_goes_on(changes, severity):
    training = {"steps": 2, "computation_s": 0.1, "background": True}
    (finding,) = form_of(changes | {"benchmark.training": training})
    assert found([finding]) == [("CKP-10", severity, "benchmark.training")]


# ---------------------------------------------------------------- CKP-03: all of them


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (WRITE, "2 checkpoints were to be written, 1 were"),
        (READ, "2 checkpoints were to be read, 1 were"),
    ],
)
def test_ckp_03_fires_for_a_missing_checkpoint(job, name, text):
    del job.section(name)["checkpoints"][1]
    (finding,) = job.checkpoints()
    assert found([finding]) == [("CKP-03", "error", name)]
    assert finding.text == text


def test_ckp_03_goes_by_the_job_and_not_by_what_the_stage_says(make_job):
    findings = make_job({"benchmark.reads": 3}).checkpoints()
    assert found(findings) == [("CKP-03", "error", READ)]


def test_ckp_03_fires_where_a_stage_reports_no_checkpoints(job):
    job.results[WRITE]["checkpointing"] = None
    assert found(job.checkpoints()) == [("CKP-03", "error", WRITE)]


# ---------------------------------------------------------------- CKP-04: from storage


@DIVISIONS
def test_ckp_04_fires_where_pages_were_in_memory(make_job, changes, severity):
    job = make_job(changes)
    job.section(READ)["checkpoints"][1]["resident_pct"] = 1.5
    (finding,) = job.checkpoints()
    assert found([finding]) == [("CKP-04", severity, READ)]
    assert finding.text == (
        "checkpoints were read from memory (cached), at least in part (in memory before they were "
        "read: checkpoint 2 1.5 %, at most 1 % may be)"
    )


@DIVISIONS
def test_ckp_04_fires_where_storage_moved_less(make_job, changes, severity):
    job = make_job(changes)
    job.section(READ)["checkpoints"][0]["counted_bytes"] = {"device": GIB, "network": 4 * GIB}
    (finding,) = job.checkpoints()
    assert found([finding]) == [("CKP-04", severity, READ)]
    assert finding.text.endswith(
        "(the block devices moved less than 98 % of them: checkpoint 1 25.0 %)"
    )


def test_ckp_04_goes_by_the_mount_of_nfs(job):
    job.results[READ]["mount"] = [{"host": "node1", "type": "nfs4"}]
    for checkpoint in job.section(READ)["checkpoints"]:
        checkpoint["counted_bytes"] = {"device": 0, "mount": 4 * GIB}
    assert job.checkpoints() == []
    job.section(READ)["checkpoints"][1]["counted_bytes"] = {"device": 4 * GIB, "mount": 0}
    (finding,) = job.checkpoints()
    assert finding.text.endswith("(the mounts moved less than 98 % of them: checkpoint 2 0.0 %)")


@pytest.mark.parametrize(
    "change",
    [
        {"resident_pct": 1.0},
        {"resident_pct": None},
        {"counted_bytes": {}},
        {"counted_bytes": {"mount": 0}},
        {"counted_bytes": {"device": round(3.92 * GIB) + 1}},
        {"counted_bytes": {"device": 0}, "bytes": 256 * 2**20 - 1},
    ],
    ids=["1 %", "not seen", "nobody counts", "the mount of a disk", "98 %", "too little"],
)
def test_ckp_04_is_silent(job, change):
    for checkpoint in job.section(READ)["checkpoints"]:
        checkpoint |= change
    assert job.checkpoints() == []


NEVER = {"benchmark.eviction.when": "never"}


def test_ckp_04_remarks_that_nothing_was_evicted_where_memory_held_nothing(make_job):
    (finding,) = make_job(CLOSED | NEVER).checkpoints()
    assert found([finding]) == [("CKP-04", "info", READ)]
    assert finding.text == (
        "nothing dropped checkpoints from memory before they were read "
        "(benchmark.eviction.when=never), which held at most 0.0 % of them"
    )


@DIVISIONS
def test_ckp_04_fires_where_nothing_was_evicted_and_nothing_is_known(make_job, changes, severity):
    job = make_job(changes | NEVER)
    for checkpoint in job.section(READ)["checkpoints"]:
        checkpoint["resident_pct"] = None
    (finding,) = job.checkpoints()
    assert found([finding]) == [("CKP-04", severity, READ)]
    assert finding.text.endswith("(benchmark.eviction.when=never), which may have held them")


def test_ckp_04_says_why_memory_held_them(make_job):
    job = make_job(NEVER)
    for checkpoint in job.section(READ)["checkpoints"]:
        checkpoint["resident_pct"] = 100.0
    (finding,) = job.checkpoints()
    assert finding.severity == "warning"
    assert "checkpoint 1 100.0 %, checkpoint 2 100.0 %" in finding.text
    assert finding.text.endswith("before: benchmark.eviction.when=never")


# ---------------------------------------------------------------- CKP-05: the gap


@DIVISIONS
def test_ckp_05_fires_where_reads_begin_late(make_job, changes, severity):
    job = make_job(changes)
    job.section(READ).update(read(ended_before_s=25.5))
    (finding,) = of_rule(job.form(), "CKP-05")
    assert found([finding]) == [("CKP-05", severity, READ)]
    assert finding.text == (
        "the first read began 30.5 s after the last write had ended, at most 30 s are allowed "
        "(Rules 4.7.1)"
    )


@pytest.mark.parametrize("changes", [{}, CLOSED], ids=["whatif", "closed"])
def test_ckp_05_warns_of_clocks_where_reads_begin_before_the_writes_end(make_job, changes):
    job = make_job(changes)
    job.section(READ).update(read(ended_before_s=-7.5))
    (finding,) = of_rule(job.form(), "CKP-05")
    assert found([finding]) == [("CKP-05", "warning", READ)]
    assert "began 2.5 s before the last write had ended: the clocks" in finding.text


@pytest.mark.parametrize("ended_before_s", [-5, 15, 25])
def test_ckp_05_is_silent(job, ended_before_s):
    job.section(READ).update(read(ended_before_s=ended_before_s))
    assert of_rule(job.form(), "CKP-05") == []


# ---------------------------------------------------------------- rules of all stages

NOTHING_COMPARED = {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0}


def of_stage(result, memory_bytes=None):
    findings = judge_stage_result("r", True, result, memory_bytes, memory_times=3)
    return [(finding.rule, finding.severity) for finding in findings]


def test_a_write_compares_nothing_and_a_read_must(make_result):
    compared = make_result(verify=NOTHING_COMPARED)
    assert of_stage(compared | {"checkpointing": written()}) == []
    assert of_stage(compared | {"checkpointing": read()}) == [("RES-02", "warning")]
    wrong = {"verify": NOTHING_COMPARED | {"mismatches": 1}, "checkpointing": written()}
    assert of_stage(make_result(**wrong)) == [("RES-02", "error")]


def test_pauses_between_checkpoints_are_no_drift(make_result):
    timeline = {"bin_s": 1, "read_bytes": [*range(20)], "write_bytes": [0] * 20}
    result = make_result(timeline=timeline)
    result["window"] |= {"length_s": 20.0}
    assert of_stage(result) == [("RES-06", "warning")]
    assert of_stage(result | {"checkpointing": read()}) == []


@pytest.mark.parametrize(
    ("section", "findings"),
    [
        (read(), [("RES-11", "info")]),
        (read(checkpoint_of(1, does="read", resident_pct=2.0)), [("RES-11", "warning")]),
        (read(checkpoint_of(1, does="read", resident_pct=None)), [("RES-11", "warning")]),
        (written(), []),
    ],
    ids=["cold", "warm", "not seen", "written"],
)
def test_small_checkpoints_are_a_note_where_memory_held_none_of_them(
    make_result, section, findings
):
    result = make_result(details={"working_set_bytes": GIB}, checkpointing=section)
    result["core"]["direct"] = False
    assert of_stage(result, GIB) == findings
