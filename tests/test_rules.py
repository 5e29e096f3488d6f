"""Where each rule of jobs and outcomes fires and where it does not; JOB-04 is in
test_cluster, RES and TRC in test_stage_rules, ENV, DIR and CAP in test_preflight, EVD in
test_verify."""

from __future__ import annotations

import pytest
from foreign_benchmark import FOREIGN

from mlps.engine.compose import Origin, flatten
from mlps.engine.options import packaged_conf
from mlps.engine.rules import (
    Finding,
    errors,
    from_document,
    judge_job,
    judge_outcomes,
)

ENGINE = packaged_conf().parent / "engine"

CLOSED = {
    "division.name": "closed",
    "division.any_workload": False,
    "division.may_change": ["cluster.*", "launcher.*", "system.*", "data_dir", "results_dir"],
    "edition.workloads": ["kvcache/quick"],
}
OPEN = CLOSED | {
    "division.name": "open",
    "division.may_change": [*CLOSED["division.may_change"], "seed", "trials", "benchmark.*"],
}


def packaged(spec):
    """Origins of a job of which nobody changed a value."""
    return {
        key: Origin(kind="packaged", where=f"conf/{key}.yaml") for key in flatten(spec.document)
    }


def judged(spec, changed=(), kind="override"):
    """Findings of a job whose user set some keys to other values than the official ones."""
    origins = packaged(spec) | {
        key: Origin(kind=kind, where=f"command line: {key}", default="official") for key in changed
    }
    return [str(finding) for finding in judge_job(spec, origins)]


# ---------------------------------------------------------------- JOB


def test_job_01_fires_for_a_workload_outside_the_edition(make_spec):
    spec = make_spec(CLOSED | {"edition.workloads": ["a", "b"]})
    assert judged(spec) == [
        "error JOB-01 benchmark.name: kvcache/quick is not scored in division closed of edition "
        "v3.0; scored are: a, b\n  hint: division=whatif"
    ]


@pytest.mark.parametrize("changes", [CLOSED, OPEN, {}], ids=["closed", "open", "whatif"])
def test_job_01_is_silent_for_a_workload_of_the_edition_and_in_whatif(make_spec, changes):
    assert judged(make_spec(changes)) == []


@pytest.mark.parametrize("key", ["benchmark.users", "seed", "trials", "benchmark.io.direct"])
@pytest.mark.parametrize("kind", ["override", "user"])
def test_job_02_fires_in_closed(make_spec, key, kind):
    assert judged(make_spec(CLOSED), [key], kind) == [
        f"error JOB-02 {key}: may not be changed in division closed (command line: {key})\n"
        "  hint: leave it out, or choose another division"
    ]


@pytest.mark.parametrize(
    ("division", "key"),
    [
        (CLOSED, "cluster.hosts"),
        (CLOSED, "launcher.extra_args"),
        (CLOSED, "data_dir"),
        (CLOSED, "system.name"),
        (OPEN, "benchmark.users"),
        (OPEN, "seed"),
        ({}, "benchmark.users"),
        ({}, "edition.name"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("division.name", "whatif"),
)
def test_job_02_is_silent_for_what_the_division_lets_change(make_spec, division, key):
    assert judged(make_spec(division), [key]) == []


def test_job_02_is_silent_for_an_override_to_the_official_value(make_spec):
    spec = make_spec(CLOSED)
    origins = packaged(spec) | {"seed": Origin(kind="override", where="x", default=42)}
    assert judge_job(spec, origins) == []


def test_job_02_fires_for_a_users_file_even_where_it_sets_null(make_spec):
    spec = make_spec(CLOSED | {"benchmark.io.rings": None})
    origins = packaged(spec) | {"benchmark.io.rings": Origin(kind="user", where="mine.yaml")}
    assert [finding.key for finding in judge_job(spec, origins)] == ["benchmark.io.rings"]


@pytest.mark.parametrize(
    "key", ["division.may_change", "division.any_workload", "division.name", "edition.workloads"]
)
@pytest.mark.parametrize("kind", ["override", "user"])
def test_job_02_fires_for_a_changed_rule_even_where_the_changed_rule_lets_it(make_spec, key, kind):
    spec = make_spec(CLOSED | {"division.may_change": ["*"]})
    (text,) = judged(spec, [key], kind)
    assert text.startswith(f"error JOB-02 {key}: may not be changed in division closed")


@pytest.mark.parametrize(
    ("changes", "severity"), [({}, "warning"), (CLOSED, "error"), (OPEN, "error")],
    ids=["whatif", "closed", "open"],
)  # fmt: skip
def test_job_03_fires_where_stages_are_left_out(make_spec, changes, severity):
    # The roofline stages of this benchmark never run: nobody has left them out.
    spec = make_spec({**changes, "stages": ["prepare"]})
    assert judged(spec) == [f"{severity} JOB-03 stages: stages left out: run, cleanup"]


def test_job_03_is_silent_where_all_stages_run(make_spec):
    assert judged(make_spec({"stages": None})) == []
    assert judged(make_spec(CLOSED | {"stages": None})) == []


@pytest.mark.parametrize(
    ("key", "form", "name"),
    [
        ("launcher.forward_env", "S3DLIO_H2C", "S3DLIO_H2C"),
        ("launcher.scheduler_env", "S3DLIO_*", "S3DLIO_NAME"),
        ("launcher.scheduler_env", "S*", "S3DLIO_NAME"),
        ("launcher.scheduler_env", "*", "S3DLIO_NAME"),
    ],
)
def test_job_06_fires_where_the_shell_tunes_object_storage(make_spec, key, form, name):
    assert judged(make_spec(CLOSED | {key: ["PATH", form]})) == [
        f"error JOB-06 {key}: {form} takes what the shell has; the job must hold the value "
        f"(Rules 1.2)\n  hint: leave it out; or 'launcher.env.{name}=\"VALUE\"'"
    ]
    assert judged(make_spec(OPEN | {key: ["PATH", form]})) == []
    assert judged(make_spec({key: ["PATH", form]})) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"launcher.forward_env": ["PATH", "S3_ENDPOINT"]},
        {"launcher.scheduler_env": ["SLURM_*", "S3DLIB_*"]},
        {"launcher.env": {"S3DLIO_H2C": "1"}},
        {"launcher.env": {"S3DLIO_H2C": "1"}, "launcher.forward_env": ["S3DLIO_H2C"]},
    ],
    ids=["another", "other forms", "declared", "declared and forwarded"],
)
def test_job_06_is_silent_where_the_job_holds_the_value(make_spec, changes):
    assert judged(make_spec(CLOSED | changes)) == []


def test_job_05_fires_for_an_edition_of_the_users_own(make_spec):
    assert judged(make_spec(), ["edition.name"], "user") == [
        "warning JOB-05 edition: edition v3.0 and its workloads are not those that mlps ships: the "
        "verdict is that of this edition alone\n  hint: edition=v3_0"
    ]


def test_job_05_is_silent_for_an_edition_that_is_shipped(make_spec):
    assert judged(make_spec(CLOSED)) == []


# ---------------------------------------------------------------- EXT-02

PROGRAM = FOREIGN | {
    "commands": {"run": {"argv": ["prog", "{benchmark.settings.size}"]}},
    "settings": {"size": 1},
    "metrics": {},
    "ignored": [{"key": "silence_limit_s", "why": "it has a limit of its own"}],
}


def test_ext_02_fires_for_a_key_that_a_foreign_program_does_not_read(make_spec):
    assert judged(make_spec({"benchmark": PROGRAM}), ["benchmark.silence_limit_s"]) == [
        "warning EXT-02 benchmark.silence_limit_s: prog ignores it: it has a limit of its own\n"
        "  hint: leave it out"
    ]


def test_ext_02_is_silent_where_nobody_has_set_it(make_spec):
    assert judged(make_spec({"benchmark": PROGRAM}), ["benchmark.settings.size"]) == []


# ---------------------------------------------------------------- RUN


def outcome(status, reason=None, message=None):
    return {"name": "01-run-0", "status": status, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param(
            outcome("failed", "silence", "rank 0 gave no sign of life for 31 s"),
            "error RUN-01 01-run-0: failed (silence): rank 0 gave no sign of life for 31 s",
            id="failed",
        ),
        pytest.param(
            outcome("not_run", None, "stage 00-prepare failed"),
            "error RUN-01 01-run-0: was not run: stage 00-prepare failed",
            id="not run",
        ),
        pytest.param(
            outcome("stopped", "stop", "stopped by SIGINT"),
            "error RUN-02 01-run-0: stopped (stop): stopped by SIGINT",
            id="stopped",
        ),
        pytest.param(
            outcome("failed", "killed", "a second request to stop ended it at once"),
            "error RUN-02 01-run-0: failed (killed): a second request to stop ended it at once",
            id="killed",
        ),
    ],
)
def test_run_01_and_02_fire(given, text):
    assert [str(finding) for finding in judge_outcomes([outcome("complete"), given])] == [text]


def test_run_01_and_02_are_silent_for_complete_stages():
    assert judge_outcomes([outcome("complete")] * 3) == []


# ---------------------------------------------------------------- findings


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (Finding(rule="A-1", severity="info", text="t"), "info A-1: t"),
        (
            Finding(rule="A-1", severity="error", text="t", key="k", host="h", hint="do"),
            "error A-1 h k: t\n  hint: do",
        ),
    ],
    ids=["short", "long"],
)
def test_a_finding_in_words_and_in_an_archive(finding, text):
    assert str(finding) == text
    assert from_document(finding.as_document()) == finding


def test_errors_are_what_makes_a_result_invalid():
    findings = [Finding(rule=name, severity=name, text="") for name in ("info", "warning", "error")]
    assert [finding.rule for finding in errors(findings)] == ["error"]
