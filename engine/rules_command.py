"""`mlps rules`: what is judged, when and how gravely; and what judges each rule of the edition."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from .arguments import parser_of, print_json
from .canonical import Document
from .edition import packaged_edition
from .edition_rules import EDITION_RULES, EditionRule, judged_by
from .rule_table import RULES
from .rulebook import Rule
from .schema import families
from .tables import Row, write_table

NOBODY = "-"


def rules(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps rules [--family FAMILY]`."""
    parser = parser_of("rules")
    parser.add_argument("--family", choices=families(), help="only what holds for this family")
    family: str | None = parser.parse_args(arguments).family
    rows = {name: rule for name, rule in RULES.items() if _is_of(rule.families, family)}
    edition = {
        name: rule
        for name, rule in EDITION_RULES.items()
        if _is_of((rule.family,) if rule.family else (), family)
    }
    if as_json:
        print_json(rules_document(rows, edition))
        return 0
    for number, (header, table) in enumerate(_tables(rows, edition, family)):
        sys.stdout.write("\n" if number else "")
        write_table(sys.stdout, header, table, prose=True)
    return 0


def _tables(
    rows: dict[str, Rule], edition: dict[str, EditionRule], family: str | None
) -> Iterator[tuple[Row, list[Row]]]:
    demands: list[Row] = [*_rule_rows(rows, families=family is None)]
    yield ("rule", "judged", "at most", "what it demands"), demands
    yield ("limit", "compared by", "in v3.0"), [*_limit_rows(rows)]
    yield ("v3.0", "judged by", "what the edition asks for"), [*edition_rows(edition)]
    yield ("v3.0", "why it is not judged, or what side is taken"), [*remark_rows(edition)]


def _is_of(own: Sequence[str], family: str | None) -> bool:
    return family is None or not own or family in own


def rules_document(rows: dict[str, Rule], edition: dict[str, EditionRule]) -> Document:
    """The rule table and the edition's rules, with what judges each."""
    return {
        "rules": [
            {
                "rule": name,
                "text": rule.text,
                "phase": rule.phase,
                "severity": rule.severity,
                "families": list(rule.families),
                "covers": list(rule.covers),
                "limits": {limit: _limit(limit) for limit in rule.limits},
            }
            for name, rule in rows.items()
        ],
        "edition": [
            {
                "id": name,
                "text": rule.text,
                "family": rule.family or None,
                "judged_by": list(judged_by(name)),
                "reason": rule.reason or None,
                "choice": rule.choice or None,
            }
            for name, rule in edition.items()
        ],
    }


def _rule_rows(rows: dict[str, Rule], *, families: bool) -> Iterator[tuple[str, ...]]:
    for name, rule in rows.items():
        of = f"{', '.join(rule.families)}: " if families and rule.families else ""
        yield name, rule.phase, rule.severity, of + rule.text


def _limit_rows(rows: dict[str, Rule]) -> Iterator[tuple[str, ...]]:
    """Key below `edition`, the rules that compare with it, and its value."""
    for limit in dict.fromkeys(limit for rule in rows.values() for limit in rule.limits):
        rules = [name for name, rule in rows.items() if limit in rule.limits]
        yield limit, " ".join(rules), _shown(_limit(limit))


def _limit(key: str) -> object:
    value: object = packaged_edition()
    for name in key.split("."):
        assert isinstance(value, dict), key
        value = value[name]
    return value


def _shown(value: object) -> str:
    """A limit's value in words: a table of names and numbers, a list, or one of them."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(each) for each in value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def edition_rows(edition: dict[str, EditionRule]) -> Iterator[tuple[str, ...]]:
    """Id, what judges it, and what it asks for."""
    for name, rule in edition.items():
        yield name, " ".join(judged_by(name)) or NOBODY, rule.text


def remark_rows(edition: dict[str, EditionRule]) -> Iterator[tuple[str, ...]]:
    """Id, and why it is not judged or which side is taken where the sources disagree."""
    for name, rule in edition.items():
        if rule.reason:
            yield name, f"not judged: {rule.reason}"
        if rule.choice:
            yield name, rule.choice
