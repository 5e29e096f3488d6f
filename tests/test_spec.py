"""The frozen job: problems between keys, and its identity."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.errors import ConfigError
from mlps.engine.spec import MAX_JOB_ENV_BYTES, build


def refused(document, where=None):
    with pytest.raises(ConfigError) as caught:
        build(document, where or {})
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            {"cluster.ranks_per_host": 17},
            "cluster.ranks_per_host: 17 ranks on a host, but it has 16 slots\n"
            "  hint: fewer ranks, or cluster.slots_per_host=17",
            id="ranks_per_host above slots",
        ),
        pytest.param(
            {"cluster.ranks": 17},
            "cluster.ranks: 17 ranks on a host, but it has 16 slots\n"
            "  hint: fewer ranks, or cluster.slots_per_host=17",
            id="ranks above slots",
        ),
        pytest.param(
            {"cluster.ranks": 7, "cluster.hosts": ["a", "b"]},
            "cluster.ranks: 7 ranks cannot be the same number on each of 2 hosts\n"
            "  hint: cluster.ranks=6",
            id="ranks uneven",
        ),
        pytest.param(
            {"cluster.ranks": 1, "cluster.hosts": ["a", "b"]},
            "cluster.ranks: 1 ranks cannot be the same number on each of 2 hosts\n"
            "  hint: cluster.ranks=2",
            id="fewer ranks than hosts",
        ),
        pytest.param(
            {"cluster.hosts": ["n[3-1]"]},
            "cluster.hosts: 'n[3-1]': the range '3-1' runs backwards",
            id="hosts",
        ),
        pytest.param(
            {"stages": ["run", "walk"]},
            "stages: walk is no stage; there are: prepare, roofline_before, run, roofline_after, "
            "cleanup",
            id="selected stage",
        ),
        pytest.param(
            {"launcher.ranks": "one", "launcher.name": "process"},
            "launcher.name: starts one rank, but the job has 2\n"
            "  hint: cluster.ranks_per_host=1 or launcher=mpich",
            id="launcher of one rank",
        ),
        pytest.param(
            {"benchmark.stages": [{"name": "a", "each": "job"}, {"name": "a", "each": "job"}]},
            "benchmark.stages: stage a is declared twice",
            id="stage twice",
        ),
        pytest.param(
            {"benchmark.stages": [{"name": "a", "each": "job", "undone_by": "b"}]},
            "benchmark.stages: stage a is undone by b, which is no stage",
            id="undone_by",
        ),
        pytest.param(
            {"benchmark.options": [{"name": "a", "set": {}}, {"name": "a", "set": {"users": 1}}]},
            "benchmark.options: two options have one name",
            id="option twice",
        ),
    ],
)
def test_problems_between_keys(make_document, changes, text):
    assert refused(make_document(changes)) == text


def test_a_problem_says_where_the_value_was_set(make_document):
    text = refused(make_document({"stages": ["walk"]}), {"stages": "command line: stages=[walk]"})
    assert text.startswith("stages (command line: stages=[walk]): walk is no stage")


def test_all_problems_are_a_numbered_list(make_document):
    text = refused(make_document({"stages": ["walk"], "cluster.ranks_per_host": 99}))
    assert text.splitlines() == [
        "2 problems in the configuration, nothing was started:",
        "  1. cluster.ranks_per_host: 99 ranks on a host, but it has 16 slots",
        "     hint: fewer ranks, or cluster.slots_per_host=99",
        "  2. stages: walk is no stage; there are: prepare, roofline_before, run, roofline_after, "
        "cleanup",
    ]


def test_a_job_must_fit_into_its_variable(make_document):
    letters = random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=200_000)
    document = make_document({"launcher.extra_args": ["".join(letters)]})
    text = refused(document)
    assert text.startswith("the job takes 1")
    assert text.endswith(
        f"bytes, the limit is {MAX_JOB_ENV_BYTES}\n"
        "  hint: write host lists as ranges: 'cluster.hosts=[\"node[001-128]\"]'"
    )


def test_a_hundred_thousand_hosts_in_a_range_fit(make_spec):
    spec = make_spec({"cluster.hosts": ["node[00001-99999]"]})
    assert spec.cluster.ranks == 2 * 99_999
    assert len(spec.env_value) < 4000


def test_identity_is_the_digest_of_the_canonical_document(make_spec, make_document):
    spec = make_spec()
    assert spec.sha256 == hashlib.sha256(spec.canonical).hexdigest()
    assert json.loads(spec.canonical) == make_document()
    assert zlib.decompress(base64.b64decode(spec.env_value)) == spec.canonical


@given(st.randoms())
def test_order_of_keys_does_not_change_the_identity(make_document, make_spec, rng):
    def shuffled(value):
        if not isinstance(value, dict):
            return value
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    assert build(shuffled(make_document()), {}).sha256 == make_spec().sha256


def test_every_value_is_part_of_the_identity(make_spec, make_document):
    seen = {make_spec().sha256}
    for changes in (
        {"seed": 43},
        {"data_dir": "/other"},
        {"benchmark.users": 5},
        {"launcher.env": {"A": "b"}},
        {"system.name": "mine"},
    ):
        seen.add(make_spec(changes).sha256)
    assert len(seen) == 6


def test_what_steers_a_sweep_is_no_part_of_the_job(make_document, make_spec):
    spec = build(make_document() | {"fail_fast": True}, {})
    assert spec.sha256 == make_spec().sha256
    assert "fail_fast" not in spec.document


def test_a_stage_has_the_benchmarks_limit_unless_it_has_its_own(make_spec):
    stages = [{"name": "a", "each": "job"}, {"name": "b", "each": "job", "time_limit_s": 7}]
    spec = make_spec({"benchmark.stages": stages, "benchmark.time_limit_s": 99})
    assert [stage.time_limit_s for stage in spec.stages] == [99, 7]


def test_ranks_are_those_of_all_hosts(make_spec):
    spec = make_spec({"cluster.hosts": ["a", "b", "c"], "cluster.ranks_per_host": 4})
    assert (spec.cluster.names, spec.cluster.ranks) == (("a", "b", "c"), 12)


def test_a_job_is_frozen(make_spec):
    with pytest.raises(AttributeError):
        make_spec().trials = 4


OPTIONS = [
    {"name": "few", "set": {"users": 2, "io": {"verify": "none"}, "model": "tiny-1b"}},
    {"name": "many", "set": {"users": 9, "io": {"verify": "all"}, "model": "tiny-1b"}},
]


@pytest.mark.parametrize(
    "key", ["benchmark.users", "benchmark.io.verify", "benchmark.model.layers"]
)
def test_what_every_option_sets_again_is_not_to_be_typed(make_document, key):
    document = make_document({"benchmark.options": OPTIONS})
    assert refused(document, {key: f"command line: {key}=3"}).startswith(
        f"{key} (command line: {key}=3): has no effect: few, many set it again\n  hint: "
    )


@pytest.mark.parametrize(
    ("options", "key", "origin"),
    [
        pytest.param([], "benchmark.users", "command line: benchmark.users=3", id="no options"),
        pytest.param(OPTIONS, "benchmark.ramp_s", "command line: benchmark.ramp_s=3", id="other"),
        pytest.param(OPTIONS, "benchmark.users", "conf/benchmark/mine.yaml", id="a file's own"),
        pytest.param(
            [*OPTIONS, {"name": "default", "set": {}}],
            "benchmark.users",
            "command line: benchmark.users=3",
            id="one option leaves it",
        ),
    ],
)
def test_what_has_an_effect_may_be_typed(make_document, options, key, origin):
    build(make_document({"benchmark.options": options}), {key: origin})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, float("-inf")]])
def test_a_number_that_json_does_not_have_is_a_problem(make_document, value):
    document = make_document()
    document["benchmark"]["anything"] = value
    with pytest.raises(ConfigError, match=r"benchmark\.anything.*is no finite number"):
        build(document, {})


# ---------------------------------------------------------------- stages that are for some number

COUNTED = {"name": "run", "each": "trial", "measured": True, "if_any": "users"}


@pytest.mark.parametrize(
    ("count", "when", "expected"),
    [
        (1, "success", "success"),
        (0.5, "success", "success"),
        (0, "success", "never"),
        (0.0, "success", "never"),
        (0, "always", "never"),
        (3, "always", "always"),
        (3, "never", "never"),
    ],
)
def test_a_stage_is_left_out_where_its_number_is_0(make_spec, count, when, expected):
    stages = [COUNTED | {"when": when}]
    spec = make_spec({"benchmark.users": count, "benchmark.stages": stages})
    assert spec.stages[0].when == expected


@pytest.mark.parametrize(
    ("key", "value"), [("users", True), ("users", None), ("users", "many"), ("nosuch", None)]
)
def test_a_stage_needs_a_number_that_it_is_for(make_document, key, value):
    document = make_document({"benchmark.stages": [COUNTED | {"if_any": key}]})
    if value is not None or key in document["benchmark"]:
        document["benchmark"][key] = value
    assert refused(document) == (
        f"benchmark.stages: stage run is left out where {key} is 0, but benchmark.{key} is no "
        "number"
    )


UNDONE = {"name": "run", "each": "trial", "undone_by": "run"}


@pytest.mark.parametrize(("kept", "undone_by"), [(None, "run"), ("there", None), (0, None)])
def test_what_is_kept_is_not_undone(make_document, kept, undone_by):
    document = make_document({"benchmark.stages": [UNDONE | {"kept_with": "directory"}]})
    document["benchmark"]["directory"] = kept
    assert build(document, {}).stages[0].undone_by == undone_by


def test_a_stage_is_kept_with_a_key_that_there_is(make_document):
    document = make_document({"benchmark.stages": [UNDONE | {"kept_with": "nosuch"}]})
    assert refused(document) == (
        "benchmark.stages: what stage run makes is kept with nosuch, but there is no "
        "benchmark.nosuch"
    )
