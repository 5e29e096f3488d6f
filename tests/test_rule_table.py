"""The table of rules: code judges each row, tests name it, and each id of v3.0 has its place."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest
import rule_recorder
from rule_cases import RULE_CASES, Case
from rule_recorder import node_of, recorded, refuted

from mlps.engine.edition_rules import EDITION_RULES, judged_by
from mlps.engine.errors import ConfigError
from mlps.engine.foreign_metrics import judge_foreign
from mlps.engine.options import packaged_conf
from mlps.engine.plain_files import read_yaml
from mlps.engine.rule_table import RULES
from mlps.engine.rules import Finding, from_document
from mlps.engine.rules_command import rules

ENGINE = packaged_conf().parent / "engine"
TESTS = Path(__file__).parent

# Ids of the text of v3.0, by family: its common rules, those of each family, and its gates.
TEXT = """
1.1 1.2 2.1.1 2.1.2 2.1.3 2.1.4 2.1.5a 2.1.5b 2.1.6 2.1.7 2.1.8 2.1.9 2.1.10 2.1.11 2.1.12 2.1.13
2.1.14 2.1.15 2.1.16 2.1.17 2.1.18 2.1.18a 2.1.19 2.1.20 2.1.21 2.1.22 2.1.23 2.1.24 2.1.25 2.1.26
2.1.27 2.29 3.1.1 3.1.2 3.2.1 3.3.1 3.3.2 3.3.3 3.3.4 3.3.5 3.3.6 3.3.7 3.3.8 3.4.1 3.4.2 3.6.1
3.6.2 3.6.3 4.3.1 4.3.2 4.3.3 4.3.4 4.3.5 4.3.6 4.4.1 4.4.2 4.6.1 4.6.2 4.6.3 4.6.4 4.7.1 4.7.2
4.7.3 4.7.4 5.1.1 5.1.2 5.2.1 5.2.2 5.3.1 5.3.2 5.3.3 5.3.4 5.3.5 5.4.1 5.4.2 5.5.1 5.6.1 5.6.2
5.6.3 5.6.4 5.6.5 6.3.1.1 6.3.2.1 6.3.2.2 6.3.3.1 6.3.3.2 6.3.3.3 6.3.3.4 6.3.4.1 6.3.4.2 6.3.4.3
6.3.4.4 6.3.4.5 6.4.1 6.4.2 6.5.x 6.6.1 6.6.2 6.6.3
EDN-01 EDN-02 EDN-03 CAP-01 CAP-02 CAP-03 LEAF-01 RPT-01 PROV-01 PROV-02
CHECK-01 CHECK-02 CHECK-03 CHECK-04
"""
CODES = """
OVERRUN UNDERRUN DATADIR-MISMATCH DATASIZE-REUSED DATASIZE-MISSING DATAGEN-MISSING
DATASIZE-MALFORMED EVAL-FIELD-MISSING
"""


def is_table(node):
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.target).endswith("RULES")


@cache
def emitted():
    """Severities that code gives with the id of a rule, outside of the tables; unknown: None."""
    found = {}
    for path in ENGINE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        tree.body = [node for node in tree.body if not is_table(node)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in RULES:
                found.setdefault(node.value, set())
            if isinstance(node, ast.Call):
                words = [*node.args, *(keyword.value for keyword in node.keywords)]
                said = [word.value for word in words if isinstance(word, ast.Constant)]
                for rule in said:
                    if isinstance(rule, str) and rule in RULES:
                        found[rule] = found.get(rule, set()) | {
                            word for word in said if word in ("error", "warning", "info")
                        }
    return found


def test_code_judges_every_row_and_no_row_is_missing():
    assert set(emitted()) == set(RULES)
    stranger = re.compile(r"\b(?:JOB|ENV|PKG|DIR|CAP|RUN|RES|MON|TRC|TRN|CKP|VDB|EXT|EVD)-\d\d\b")
    named = {rule for path in ENGINE.rglob("*.py") for rule in stranger.findall(path.read_text())}
    assert named <= set(RULES)


def test_nothing_is_graver_than_its_row_says():
    order = ("info", "warning", "error")
    graver = {
        rule: said
        for rule, words in emitted().items()
        for said in words
        if order.index(said) > order.index(RULES[rule].severity)
    }
    assert graver == {}


# ---------------------------------------------------------------- the cases of each rule


def test_every_rule_has_its_cases():
    assert [*RULE_CASES] == [*RULES]
    assert [rule for rule, case in RULE_CASES.items() if case.fires == case.silent] == []


def test_the_cases_are_tests_that_are_run(request):
    """That they fire, or judge and are silent, is then asserted while they run, by conftest."""
    named = {node for case in RULE_CASES.values() for node in (case.fires, case.silent)}
    # Of a run of all tests this is nothing, and costs nothing.
    nodes = sorted(named - {node_of(item) for item in request.session.items})
    if not nodes:
        return
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *nodes], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(nodes)} tests collected" in done.stdout


@cache
def parts_of(name):
    """The source of all at the top of a file of tests, by the names that it gives."""
    text = (TESTS / name).read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(text).body:
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda each: each.lineno)
        source = "\n".join(text.splitlines()[first.lineno - 1 : node.end_lineno])
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            found[ast.unparse(target)] = source
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = source
    return found


@pytest.mark.parametrize("rule", RULE_CASES)
def test_the_test_that_fires_a_rule_names_it(rule):
    """In itself, in its parameters, or in a table of its file that it uses."""
    name, _, test = RULE_CASES[rule].fires.partition("::")
    parts = parts_of(name)
    own = parts[test.partition("[")[0]]
    tables = [parts[word] for word in re.findall(r"\b[A-Z_]+\b", own) if word in parts]
    assert any(rule in source for source in (own, *tables))


UNMEASURED = {"foreign": {"programs": [], "measured_by": "x", "missing": {}, "flaws": {}}}
JUDGE = "foreign_metrics:judge_foreign"


@pytest.mark.parametrize(
    ("measured", "judge", "wrong"),
    [
        (True, JUDGE, ["EXT-01 fired"]),
        (False, JUDGE, ["EXT-01 did not fire in foreign_metrics:judge_foreign"]),
        (True, "rules:judge_job", ["EXT-01 did not fire in rules:judge_job", "EXT-01 fired",
         "EXT-01 was not judged: rules:judge_job was not called"]),
    ],
    ids=["fired", "silent", "judged elsewhere"],
)  # fmt: skip
def test_what_the_table_says_of_a_test_is_refuted_where_it_is_not_so(measured, judge, wrong):
    case = {"EXT-01": Case(judge=judge, fires="", silent="")}
    with recorded(calls=True) as record:
        assert len([*judge_foreign("run", measured, UNMEASURED)]) == int(measured)
    assert refuted(record, case, case) == wrong


def test_findings_that_are_read_or_made_by_a_test_are_no_judgement():
    with recorded(calls=False) as record:
        finding = Finding(rule="JOB-01", severity="info", text="")
        assert from_document(finding.as_document()) == finding
    assert record.fired == {}


def test_a_test_of_the_table_is_held_to_it(monkeypatch):
    """Conftest's hook is given a test that neither fires nor judges what it should."""
    item = SimpleNamespace(path=TESTS / "test_x.py", name="test_y")
    case = Case(judge=JUDGE, fires="test_x.py::test_y", silent="test_x.py::test_z")
    monkeypatch.setattr(rule_recorder, "RULE_CASES", {"EXT-01": case})
    running = conftest.pytest_runtest_call(item)
    next(running)
    with pytest.raises(AssertionError, match="EXT-01 did not fire"):
        running.send(None)


# ---------------------------------------------------------------- the edition


def test_every_id_of_the_edition_stands_in_the_table_once():
    codes = [f"3.3.1 {code}" for code in CODES.split()]
    expected = [*TEXT.split(), *codes, *(f"9.2/{number}" for number in range(1, 18))]
    assert sorted(EDITION_RULES) == sorted(expected)


@pytest.mark.parametrize("rule", EDITION_RULES)
def test_an_id_is_judged_or_has_the_reason_why_it_is_not(rule):
    assert bool(judged_by(rule)) != bool(EDITION_RULES[rule].reason)
    assert EDITION_RULES[rule].text


# Keys of an edition that are no limits: its name, whose values those of vector search are.
NO_LIMITS = {"name", "vectordb.status", "vectordb.source"}


def limits_of(edition):
    """Keys of an edition that hold a value, a list or a table of one kind of values."""
    for key, value in edition.items():
        if isinstance(value, dict) and key != "accelerator_memory_gb":
            yield from (f"{key}.{inner}" for inner in limits_of(value))
        else:
            yield key


def test_every_limit_of_the_edition_is_named_by_a_rule_that_compares_with_it():
    named = {limit for row in RULES.values() for limit in row.limits}
    edition = read_yaml(packaged_conf() / "edition/v3_0.yaml")
    assert named == set(limits_of(edition)) - NO_LIMITS


def test_rows_cover_ids_that_there_are():
    assert {each for row in RULES.values() for each in row.covers} <= set(EDITION_RULES)


def printed(capsys, *arguments):
    """The tables of `mlps rules`: the first words of their lines, and the lines."""
    assert rules([*arguments], as_json=False) == 0
    tables = [table.splitlines() for table in capsys.readouterr().out.split("\n\n")]
    return [([line.split("  ")[0] for line in lines if line[0] != " "], lines) for lines in tables]


def test_the_command_prints_every_rule(capsys):
    judged, limits, asked, _ = printed(capsys)
    assert judged[0] == ["rule", *RULES]
    assert limits[0][1:] == [*dict.fromkeys(key for row in RULES.values() for key in row.limits)]
    assert asked[0] == ["v3.0", *EDITION_RULES]
    (steps,) = (line for line in limits[1] if line.startswith("training.steps_per_epoch "))
    assert steps.split() == ["training.steps_per_epoch", "TRN-01", "500"]
    assert rules([], as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["rule"] for each in document["rules"]] == list(RULES)
    assert [each["id"] for each in document["edition"]] == list(EDITION_RULES)
    (sized,) = (each for each in document["rules"] if each["rule"] == "TRN-01")
    assert sized["limits"] == {"training.steps_per_epoch": 500, "training.memory_times": 5}


def test_a_family_sees_what_holds_for_it(capsys):
    assert rules(["--family", "vectordb"], as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    names = {each["rule"] for each in document["rules"]}
    assert {"VDB-01", "RES-01"} <= names
    assert not names & {"TRN-01", "CKP-01"}
    assert {each["family"] for each in document["edition"]} == {None, "vectordb"}


def test_a_family_that_there_is_not():
    with pytest.raises(ConfigError, match="invalid choice: 'storage'"):
        rules(["--family", "storage"], as_json=False)
