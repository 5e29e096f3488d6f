"""What a user reads about values that a job cannot have."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from mlps.engine.options import packaged_conf
from mlps.engine.schema import check, describe, families, load_schema


def texts(document, where=None):
    return [str(problem) for problem in check(document, where or {})]


def test_the_official_job_has_no_problems(make_document):
    assert texts(make_document()) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            {"benchmark.users": "four"},
            'benchmark.users: expected an integer >= 1 and <= 100000, got "four"\n'
            "     hint: for example benchmark.users=4",
            id="type",
        ),
        pytest.param(
            {"benchmark.users": 0},
            "benchmark.users: expected an integer >= 1 and <= 100000, got 0\n"
            "     hint: for example benchmark.users=4",
            id="range",
        ),
        pytest.param(
            {"benchmark.duration_s": 0},
            "benchmark.duration_s: expected a number > 0 and <= 86400, got 0\n"
            "     hint: for example benchmark.duration_s=5",
            id="exclusive range",
        ),
        pytest.param(
            {"benchmark.io.verify": True},
            "benchmark.io.verify: expected one of all, sampled, none, got true",
            id="choice",
        ),
        pytest.param(
            {"benchmark.user": 4},
            "benchmark.user: unknown key\n     hint: did you mean benchmark.users?",
            id="unknown key with a neighbour",
        ),
        pytest.param(
            {"cluster.xyzzy": 4},
            "cluster.xyzzy: unknown key; there are: allocation, hostfile, hosts, name, python, "
            "ranks, ranks_per_host, slots_per_host",
            id="unknown key without",
        ),
        pytest.param(
            {"sed": 4}, "sed: unknown key\n     hint: did you mean seed?", id="unknown root key"
        ),
        pytest.param(
            {"seed": -1},
            "seed: expected an integer >= 0 and <= 4294967295, got -1\n"
            "     hint: for example seed=42",
            id="root key",
        ),
        pytest.param(
            {"stages": []},
            "stages: expected a list or null that is not empty and without repetition, got []\n"
            '     hint: for example stages=["prepare"]',
            id="empty list",
        ),
        pytest.param(
            {"benchmark.family": "nosuch"},
            "benchmark.family: expected one of kvcache, training, checkpointing, vectordb, "
            'external, got "nosuch"',
            id="family",
        ),
        pytest.param(
            {"benchmark.workload": "v2"},
            'benchmark.workload: expected one of turns, v3, prefix, trace, got "v2"',
            id="workload",
        ),
        pytest.param(
            {"benchmark.chunk_token": 4, "benchmark.workload": "turns"},
            "benchmark.chunk_token: unknown key\n     hint: did you mean benchmark.chunk_tokens?",
            id="unknown key of a workload",
        ),
        pytest.param(
            {"benchmark.slot_bytes": 4096},
            "benchmark.slot_bytes: unknown key; there are: backlog_max, chunk_tokens, "
            "chunks_per_user, cleanup, continue_probability, duration_s, engine, family, io, "
            "layout, model, name, option_delay_s, options, precondition_passes, queue_depth, "
            "ramp_s, ranks_per_host, rate_per_s, requests, roofline, silence_limit_s, stages, "
            "start_limit_s, tensor_parallel, time_limit_s, trials, turn_chunks_max, users, "
            "workload",
            id="key of another workload",
        ),
        pytest.param(
            {"benchmark": 4}, "benchmark: expected a mapping, got 4", id="no benchmark mapping"
        ),
        pytest.param(
            {"benchmark.time_limit_s": "1h"},
            'benchmark.time_limit_s: expected a number > 0 and <= 604800, got "1h"',
            id="referenced definition",
        ),
        pytest.param(
            {"data_dir": ""},
            'data_dir: expected a string that is not empty, got ""',
            id="empty string",
        ),
    ],
)
def test_a_wrong_value(make_document, changes, text):
    assert texts(make_document(changes)) == [text]


def test_long_values_are_cut(make_document):
    (text,) = texts(make_document({"seed": "x" * 100}))
    assert f'got "{"x" * 56}...' in text


def test_a_missing_key(make_document):
    assert texts(make_document(without=["benchmark.users", "seed"])) == [
        "seed: missing: expected an integer >= 0 and <= 4294967295",
        "benchmark.users: missing: expected an integer >= 1 and <= 100000",
    ]


def test_all_problems_are_found_at_once(make_document):
    document = make_document({"seed": "x", "benchmark.user": 1, "cluster.ranks": 0, "trials": None})
    assert sorted(problem.key for problem in check(document, {})) == [
        "benchmark.user",
        "cluster.ranks",
        "seed",
        "trials",
    ]


@pytest.mark.parametrize(
    ("key", "where", "origin"),
    [
        ("seed", {"seed": "command line: seed=x"}, "command line: seed=x"),
        ("seed", {"trials": "elsewhere"}, ""),
    ],
)
def test_a_problem_says_where_the_value_was_set(make_document, key, where, origin):
    (problem,) = check(make_document({key: "x"}), where)
    assert problem.where == origin
    assert str(problem).startswith(f"{key} ({origin}): expected" if origin else f"{key}: expected")


def test_a_value_in_a_list_has_the_origin_of_the_list(make_document):
    document = make_document({"benchmark.stages": [{"name": "a", "each": "weekly"}]})
    (problem,) = check(document, {"benchmark.stages": "mine.yaml"})
    assert str(problem) == (
        'benchmark.stages.0.each (mine.yaml): expected one of job, option, trial, got "weekly"'
    )


def test_a_mapping_has_the_origin_of_its_first_leaf(make_document):
    document = make_document({"benchmark.xyzzy": {"deep": 1}})
    (problem,) = check(document, {"benchmark.xyzzy.deep": "command line"})
    assert problem.where == "command line"


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        pytest.param({"users": 8}, [], id="a key"),
        pytest.param({"users": "x"}, ["benchmark.options.0.set.users"], id="a wrong value"),
        pytest.param({"user": 8}, ["benchmark.options.0.set.user"], id="an unknown key"),
        pytest.param({"io": {"verify": "none"}}, [], id="one key of a mapping"),
        pytest.param({"model": {"layers": 3}}, [], id="one key of another mapping"),
        pytest.param({"io": {"verify": 1}}, ["benchmark.options.0.set.io.verify"], id="wrong deep"),
        pytest.param({"io": {"x": 1}}, ["benchmark.options.0.set.io.x"], id="unknown deep"),
    ],
)
def test_an_option_may_set_what_the_benchmark_has(make_document, changed, keys):
    document = make_document({"benchmark.options": [{"name": "a", "set": changed}]})
    assert [problem.key for problem in check(document, {})] == keys


@pytest.mark.parametrize(
    "changed",
    [{"trials": 3}, {"stages": []}, {"engine": "kvcache_native"}, {"time_limit_s": 5}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_option_may_not_set_what_holds_for_all_options(make_document, changed):
    document = make_document({"benchmark.options": [{"name": "a", "set": changed}]})
    (problem,) = check(document, {})
    (name,) = changed
    assert problem.key == f"benchmark.options.0.set.{name}"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer"}, "an integer"),
        ({"type": ["string", "null"], "minLength": 1}, "a string or null that is not empty"),
        ({"enum": [1, "x"]}, "one of 1, x"),
        ({"type": "number", "minimum": 0, "maximum": 1}, "a number >= 0 and <= 1"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "a number > 0 and < 1"),
        ({"type": "boolean"}, "true or false"),
        ({"$ref": "#/$defs/seconds"}, "a number > 0 and <= 604800"),
        ({}, "a value"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_describe(schema, words):
    assert describe(schema) == words


def test_every_family_and_workload_has_a_schema_and_every_schema_is_one_of_these():
    names = set(families())
    for family in families():
        workload = load_schema(f"benchmark/{family}")["properties"].get("workload", {})
        names |= {f"{family}_{name}" for name in workload.get("enum", ())}
    root = packaged_conf().parent / "schemas" / "benchmark"
    assert {path.stem for path in root.glob("*.json")} == names


def test_schemas_are_schemas():
    root = packaged_conf().parent / "schemas"
    for path in root.rglob("*.json"):
        name = path.relative_to(root).with_suffix("").as_posix()
        schema = load_schema(name)
        Draft202012Validator.check_schema(schema)
        assert schema == json.loads(path.read_bytes())
        assert schema["$id"] == f"mlps:{name}"
