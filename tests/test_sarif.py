"""Findings in SARIF: the essential structure of the format, and where each finding points to."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from mlps.engine.rules import Finding
from mlps.engine.sarif import sarif_document

TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
# What https://json.schemastore.org/sarif-2.1.0.json asks of the parts that are written.
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "version", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id", "shortDescription"],
                                            "properties": {"shortDescription": TEXT},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                            "additionalProperties": False,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": TEXT,
                                "locations": {"type": "array", "minItems": 1, "maxItems": 1},
                            },
                        },
                    },
                },
            },
        },
    },
}

RULES = {"EVD-01": "every file is what was sealed", "RES-06": "the window was steady"}


def finding(**values):
    return Finding(**({"rule": "EVD-01", "severity": "error", "text": "was changed"} | values))


def log_of(*findings):
    root = Path("/results/run 1")
    log = sarif_document([(root, each) for each in findings], RULES, "1.0")
    Draft202012Validator(SCHEMA).validate(log)
    (run,) = log["runs"]
    return run


def uri(result):
    (location,) = result["locations"]
    return location["physicalLocation"]["artifactLocation"]["uri"]


def test_no_findings_are_a_log_too():
    run = log_of()
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])


def test_each_rule_stands_there_once_with_its_text():
    run = log_of(finding(), finding(rule="RES-06", severity="warning"), finding(key="plan.json"))
    rules = run["tool"]["driver"]["rules"]
    assert [(rule["id"], rule["shortDescription"]["text"]) for rule in rules] == [*RULES.items()]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


@pytest.mark.parametrize(
    ("severity", "level"), [("error", "error"), ("warning", "warning"), ("info", "note")]
)
def test_levels(severity, level):
    assert log_of(finding(severity=severity))["results"][0]["level"] == level


def test_a_hint_is_part_of_the_message():
    (result,) = log_of(finding(hint="mlps resume"))["results"]
    assert result["message"]["text"] == "was changed (hint: mlps resume)"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("", "file:///results/run%201"),
        ("plan.json", "file:///results/run%201/plan.json"),
        ("stages/01-run-0/result.json", "file:///results/run%201/stages/01-run-0/result.json"),
        ("benchmark.users", "file:///results/run%201"),
        ("notes<b>.json", "file:///results/run%201/notes%3Cb%3E.json"),
        ("\udcff.json", "file:///results/run%201/%FF.json"),
    ],
)
def test_a_finding_points_to_its_file_or_to_its_archive(key, expected):
    (result,) = log_of(finding(key=key))["results"]
    assert uri(result) == expected
    assert result["message"]["text"].isprintable()


def test_a_key_and_a_host_are_a_logical_location():
    (result,) = log_of(finding(key="benchmark.users", host="node1"))["results"]
    (location,) = result["locations"]
    assert location["logicalLocations"] == [{"fullyQualifiedName": "node1 benchmark.users"}]
