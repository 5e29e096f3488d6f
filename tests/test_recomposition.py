"""The job of an archive against the one that its files and overrides make."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest

from mlps.engine.compose import compose
from mlps.engine.recomposition import judge_composition
from mlps.engine.spec import SWEEP_KEYS, build

WORDS = ["benchmark=kvcache/quick", "division=open", "benchmark.users=8", "data_dir=/d"]


def composed(words=WORDS, conf_dirs=()):
    """A job, and what provenance.json says of it."""
    found = compose(words, conf_dirs=conf_dirs, cwd=Path("/nowhere"))
    document = {key: value for key, value in found.values.items() if key not in SWEEP_KEYS}
    provenance = {
        "overrides": list(found.overrides),
        "choices": copy.deepcopy(found.choices),
        "values": {key: origin.as_document() for key, origin in found.origins.items()},
    }
    return document, provenance


@pytest.fixture(scope="module")
def honest():
    return composed()


@pytest.fixture
def judged(honest):
    """What is found once job and provenance have been changed."""

    def judge(of_job=None, of_provenance=None, conf_dirs=()):
        document, provenance = copy.deepcopy(honest)
        if of_job is not None:
            of_job(document)
        if of_provenance is not None:
            of_provenance(provenance)
        found = [*judge_composition(build(document, {}), provenance, conf_dirs)]
        assert {(each.rule, each.severity, each.key) for each in found} <= {
            ("EVD-02", "error", "job.json")
        }
        return [each.text for each in found]

    return judge


def test_a_job_is_what_its_files_and_overrides_make(judged):
    assert judged() == []


def test_hosts_and_directories_are_those_of_a_site(judged):
    def elsewhere(document):
        document["cluster"]["hosts"] = ["node[1-4]"]
        document["data_dir"] = "/other"

    assert judged(elsewhere) == []


def test_a_value_that_nothing_gives_is_found(judged):
    assert judged(lambda job: job["benchmark"].update(users=9)) == [
        "benchmark.users is 9, its files and overrides make it 8"
    ]
    (text,) = judged(lambda job: job["benchmark"].update(
        users=9, chunk_tokens=1, chunks_per_user=64, queue_depth=2, duration_s=1
    ))  # fmt: skip
    assert text.endswith("; benchmark.chunk_tokens is 1, its files and overrides make it 64; "
                         "benchmark.chunks_per_user is 64, its files and overrides make it 32, "
                         "and 2 more")  # fmt: skip


def test_an_override_that_was_left_out_is_found(judged):
    def hide(provenance):
        provenance["overrides"].remove("benchmark.users=8")

    (text,) = judged(of_provenance=hide)
    assert text.startswith("benchmark.users is 8, its files and overrides make it 4; ")


def test_an_origin_that_is_another_is_found(judged):
    def hide(provenance):
        provenance["values"]["benchmark.users"] = {"from": "packaged", "where": "x"}

    assert judged(of_provenance=hide) == [
        "benchmark.users is said to come from packaged, it comes from override"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda choices: choices["benchmark"].update(sha256="0" * 64),
        lambda choices: choices["benchmark"].update(option="nothing"),
        lambda choices: choices["benchmark"].update(option="../../../etc/passwd"),
    ],
    ids=["another file", "no file", "a file elsewhere"],
)
def test_files_of_another_version_are_found(judged, change):
    (text,) = judged(of_provenance=lambda provenance: change(provenance["choices"]))
    assert text.endswith("this version of mlps has another file, or none")


def test_no_choices_are_found_where_a_job_is_scored(judged):
    assert judged(of_provenance=lambda provenance: provenance["choices"].clear()) == [
        "provenance.json does not tell of which files the job is made"
    ]


def test_a_job_for_trial_may_be_of_any_files():
    document, provenance = composed(["benchmark=kvcache/quick"])
    provenance["choices"].clear()
    assert [*judge_composition(build(document, {}), provenance, ())] == []


def test_overrides_that_make_no_job_are_found(judged):
    def other(provenance):
        provenance["overrides"] = ["benchmark=nothing"]

    (text,) = judged(of_provenance=other)
    assert text.startswith("its files and overrides make no job: ")


def test_a_users_own_files_are_compared_where_they_are_at_hand(tmp_path):
    path = tmp_path / "benchmark/mine.yaml"
    path.parent.mkdir()
    path.write_text("# Mine\ndefaults: [/benchmark/kvcache/quick@_here_, _self_]\nusers: 3\n")
    document, provenance = composed(["benchmark=mine", "division=open"], [tmp_path])
    spec = build(document, {})
    assert [*judge_composition(spec, provenance, [tmp_path])] == []
    changed = replace(spec, document=document | {"seed": 7})
    (found,) = judge_composition(changed, provenance, [tmp_path])
    assert found.text == "seed is 7, its files and overrides make it 42"
    assert [*judge_composition(changed, provenance, [])] == []
