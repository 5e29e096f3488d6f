"""Numbers from what programs leave: where they stand, what is made of several, none by guess."""

from __future__ import annotations

import json

import pytest

from mlps.engine.foreign import metric_of
from mlps.engine.foreign_metrics import extract, foreign_metrics, judge_foreign, restated


def found(values, *outputs):
    """(value, flaw) of one metric over outputs of processes."""
    metric = metric_of("x_per_s", {"output": "out", "unit": "1/s", **values})
    texts = [text if isinstance(text, bytes) else json.dumps(text).encode() for text in outputs]
    got, flaws = extract([metric], {"out": texts})
    return got.get("x_per_s"), flaws.get("x_per_s")


SEVERAL = {"n": [3, 1, 2]}


@pytest.mark.parametrize(
    ("how", "value"), [("sum", 6), ("mean", 2), ("max", 3), ("min", 1), ("last", 2)]
)
def test_several_matches(how, value):
    assert found({"json": "$.n[*]", "matches": how}, SEVERAL) == (value, None)


@pytest.mark.parametrize(
    ("how", "value"), [("sum", 6), ("mean", 2), ("max", 3), ("min", 1), ("last", 2)]
)
def test_several_processes(how, value):
    outputs = ({"n": 3}, {"n": 1}, {"n": 2})
    assert found({"json": "$.n", "processes": how}, *outputs) == (value, None)


def test_several_of_which_nothing_is_said():
    assert found({"json": "$.n[*]"}, SEVERAL)[1].endswith("say what is made of them: matches")
    assert found({"json": "$.n"}, {"n": 1}, {"n": 2})[1].endswith("made of them: processes")


def test_matches_of_a_regular_expression():
    text = b"rate: 1.5\nrate: 2.5e1 x\nrate: no\n"
    assert found({"regex": r"^rate: ([0-9.e]+)", "matches": "sum"}, text) == (26.5, None)
    assert found({"regex": "speed ([0-9]+)"}, text) == (None, "it is not in output out")


def test_a_number_is_converted():
    metric = metric_of("read_gib_s", {"output": "out", "json": "$.n", "unit": "MB/s"})
    values, _ = extract([metric], {"out": [b'{"n": 1073.741824}']})
    assert values == {"read_gib_s": pytest.approx(1.0)}


@pytest.mark.parametrize(
    ("output", "flaw"),
    [
        (b"", "output out is no JSON"),
        (b"{", "output out is no JSON"),
        (b"\xff{}", "output out is no JSON"),
        (b'{"n": NaN}', "no number that can be published"),
        (b'{"n": 1e999}', "no number that can be published"),
        (b'{"n": "nan"}', "no number that can be published"),
        (b'{"n": true}', "true is no number"),
        (b'{"n": "fast"}', "'fast' is no number"),
        (b'{"n": {}}', "{} is no number"),
        (b'{"m": 1}', "it is not in output out"),
        (b'{"n": null}', "it is not in output out"),
        (b"[" * 100_000, "output out is no JSON"),
    ],
)
def test_what_is_no_number(output, flaw):
    value, text = found({"json": "$.n"}, output)
    assert value is None
    assert flaw in text


def test_lines_around_a_document_are_no_flaw():
    text = b'note: a warning\nnote: 2\n{"n": 4}\nbye\n'
    assert found({"json": "$.n"}, text) == (4, None)


def test_a_number_in_quotes_is_a_number():
    assert found({"json": "$.n"}, {"n": "4.5"}) == (4.5, None)


def test_an_optional_metric_may_be_nowhere_but_not_half():
    optional = {"json": "$.n", "optional": True, "processes": "sum"}
    assert found(optional, {}, {}) == (None, None)
    assert found(optional, {"n": 1}, {}) == (
        None, "it is not in output out of 1 of 2 processes",
    )  # fmt: skip
    assert found(optional) == (None, "output out is missing")


RESULT = {
    "ranks": {"elapsed_s": [1.0, 2.0], "cpu_user_s": [0.5, 0.5], "cpu_system_s": [0.25, 0.25],
              "peak_rss_bytes": [2**20, 2**21]},
    "foreign": {"measured_by": "prog",
                "programs": [{"program": "p", "path": "/p", "version": "p 1"}],
                "metrics": {"x_per_s": 1.0}, "flaws": {"y_ms": "gone"}, "missing": {"out": "gone"}},
}  # fmt: skip


def test_the_metrics_of_a_stage_and_what_it_cost():
    assert foreign_metrics(RESULT) == {
        "x_per_s": 1.0, "program_elapsed_s": 2.0, "program_cpu_s": 1.5,
        "program_peak_rss_max_mib": 2.0,
    }  # fmt: skip


def test_findings_say_who_measured_and_what_is_missing():
    findings = list(judge_foreign("00-run-0", True, RESULT))
    assert [(f.rule, f.severity, f.key) for f in findings] == [
        ("EXT-01", "info", "00-run-0"),
        ("EXT-03", "error", "00-run-0 out"),
        ("EXT-04", "error", "00-run-0 y_ms"),
    ]
    assert findings[0].text == "its numbers are those of prog (p: p 1); mlps did not measure them"


def test_of_a_stage_that_is_not_measured_nobody_says_who_measured_it():
    assert [f.rule for f in judge_foreign("x", False, RESULT)] == ["EXT-03", "EXT-04"]


def test_a_stage_with_all_its_numbers_has_only_the_remark_who_measured_them():
    whole = {"foreign": RESULT["foreign"] | {"flaws": {}, "missing": {}}}
    assert [f.rule for f in judge_foreign("00-run-0", True, whole)] == ["EXT-01"]


def test_numbers_are_stated_anew_from_outputs_alone():
    metric = metric_of("z_per_s", {"output": "out", "json": "$.z", "unit": "1/s"})
    again = restated(RESULT, [metric], {"out": [b'{"z": 3}']})
    assert again["foreign"]["metrics"] == {"z_per_s": 3.0}
    assert again["foreign"]["flaws"] == {}
    assert again["ranks"] == RESULT["ranks"]
