"""`mlps rules` as a user reads it."""

from __future__ import annotations

import pytest

from mlps.engine.edition_rules import EDITION_RULES
from mlps.engine.rule_table import RULES
from mlps.engine.rules_command import rules
from mlps.engine.tables import PROSE_WIDTH


@pytest.fixture
def lines(capsys):
    def run(*words):
        assert rules(words, as_json=False) == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_every_line_fits_and_begins_with_what_it_is_about(lines):
    found = lines()
    assert max(map(len, found)) <= PROSE_WIDTH
    limits = {limit for rule in RULES.values() for limit in rule.limits}
    names = {*RULES, *EDITION_RULES, *limits, "rule", "limit", "v3.0", ""}
    assert {line.split("  ")[0] for line in found} == names


def test_the_text_of_a_rule_is_whole(lines):
    found = lines()
    text = "training: the nominal accelerator utilisation reaches what is asked for (Rules 3.3.2)"
    (number,) = [number for number, line in enumerate(found) if line.startswith("TRN-02")]
    below = found[number + 1]
    assert below.lstrip() == "(Rules 3.3.2)"
    assert " ".join(f"{found[number]} {below}".split()) == f"TRN-02 run error {text}"


def test_of_one_family_its_name_is_not_repeated(lines):
    text = "the dataset is as large as Rules 3.1.2 ask for"
    assert f"TRN-01   run        error    {text}" in lines("--family", "training")
    assert f"TRN-01   run        error    training: {text}" in lines()
