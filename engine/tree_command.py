"""`mlps verify TREE` and `mlps report TREE`: what trees of results come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from . import archive as files
from .errors import ArchiveError, ConfigError
from .package.verify import is_package, verify_package
from .rule_table import RULES
from .rulebook import GRAVITY
from .rules import Finding
from .sarif import sarif_document
from .tables import csv_text, numbered, printable, write_table
from .tree.rows import COLUMNS, PREFIX, Row
from .tree.verify import Group, verify_tree
from .tree.walk import Tree, find_tree

# Told once at the end for people, and of each leaf in JSON.
_UNPROVEN = "UPS-01"
# What makes a tree broken, not only out of the rules.
_BROKEN = "TREE-17"


def trees_at(command: str, paths: Sequence[Path]) -> list[Tree]:
    """The trees at paths; none where they are archives. Raises ConfigError where they are both."""
    found = [_tree_at(path) for path in paths]
    trees = [tree for tree in found if tree is not None]
    if trees and len(trees) < len(paths):
        raise ConfigError(
            "archives and trees of results are read apart", hint=f"mlps {command} TREE"
        )
    return trees


def _tree_at(path: Path) -> Tree | None:
    if not path.is_dir() or (path / files.JOB).exists():
        return None
    tree = find_tree(path)
    return None if tree is None or files.listed_archives(path) else tree


def verify_trees(out: TextIO, trees: Sequence[Tree], *, as_json: bool) -> int:
    """Write the findings of trees as they are found; the exit code."""
    code = 0
    writer = _write_documents if as_json else _write_groups
    for tree in trees:
        count = _Count()
        writer(out, count.over(_groups(tree)))
        if not as_json:
            _write_sum(out, tree, count)
        _refuse_empty(tree, count)
        code = max(code, count.exit_code, key=(0, 7, 6).index)
    return code


def tree_sarif(trees: Sequence[Tree], version: str) -> tuple[dict[str, object], int]:
    """The findings of trees as one log of SARIF, and the exit code."""
    pairs: list[tuple[Path, Finding]] = []
    code = 0
    for tree in trees:
        depth = len(tree.place.split("/")) if tree.place else 0
        top = tree.root.absolute()
        top = top.parents[depth - 1] if depth and len(top.parents) >= depth else top
        count = _Count()
        pairs += [(top, each) for group in count.over(_groups(tree)) for each in group.findings]
        _refuse_empty(tree, count)
        code = max(code, count.exit_code, key=(0, 7, 6).index)
    texts = {rule: each.text for rule, each in RULES.items()}
    return sarif_document(pairs, texts, version), code


def _groups(tree: Tree) -> Iterator[Group]:
    """Findings of a tree; one that was made of archives is compared with them first."""
    packaged = _is_packaged(tree)
    if packaged:
        findings = tuple(verify_package(tree.root))
        if findings:
            yield Group(path=".", findings=findings)
    yield from verify_tree(tree, proven=packaged)


def _is_packaged(tree: Tree) -> bool:
    return not tree.place and is_package(tree.root)


class _Count:
    """What went by: groups, leaves, findings by severity, and whether something is unreadable."""

    def __init__(self) -> None:
        self.workloads = self.leaves = self.valid = 0
        self.broken = False
        self.unproven = ""
        self.severities: Counter[str] = Counter()

    def over(self, groups: Iterator[Group]) -> Iterator[Group]:
        for group in groups:
            if group.row is not None:
                self.workloads += 1
                self.valid += group.is_valid
            self.leaves += group.leaves
            for finding in group.findings:
                self.severities[finding.severity] += 1
                self.broken = self.broken or finding.rule == _BROKEN
                if finding.rule == _UNPROVEN:
                    self.unproven = finding.text
            yield group

    @property
    def exit_code(self) -> int:
        if self.broken:
            return ArchiveError.exit_code
        return 7 if self.severities["error"] else 0


def _refuse_empty(tree: Tree, count: _Count) -> None:
    """A tree without a result is an error: nothing was verified."""
    if not count.leaves:
        raise ArchiveError(
            f"{tree.root} holds no results that mlps knows",
            hint="a tree of results has closed/ORG/results/SYSTEM/... (docs/verify.md)",
        )


def _write_documents(out: TextIO, groups: Iterator[Group]) -> None:
    """A list, one group at a time; escapes for all that is not ASCII, as names may not be UTF-8."""
    separator = "["
    for group in groups:
        out.write(f"{separator}\n{json.dumps(group.as_document())}")
        separator = ","
    out.write("\n]\n" if separator == "," else "[]\n")


def _write_groups(out: TextIO, groups: Iterator[Group]) -> None:
    for group in groups:
        shown = [finding for finding in group.findings if finding.rule != _UNPROVEN]
        if group.row is None and not shown:
            continue
        state = ""
        if group.row is not None:
            runs = numbered(group.leaves, "directory", "directories")
            state = f": {'valid' if group.is_valid else 'NOT VALID'}, {runs}"
        out.write(f"{printable(group.path)}{state}\n")
        for finding in sorted(shown, key=lambda each: (each.key, GRAVITY[each.severity])):
            out.write(f"  {_below(finding, group.path)}\n")


def _below(finding: Finding, path: str) -> str:
    """A finding with its place below the group that it is shown in."""
    key = finding.key.removeprefix(f"{path}/")
    return str(
        Finding(
            rule=finding.rule,
            severity=finding.severity,
            text=finding.text,
            key="" if key == path else key,
            hint=finding.hint,
        )
    )


def _write_sum(out: TextIO, tree: Tree, count: _Count) -> None:
    if count.unproven:
        out.write(f"{numbered(count.leaves, 'directory', 'directories')}: {count.unproven}\n")
    told = ", ".join(
        numbered(count.severities[name], noun)
        for name, noun in (("error", "error"), ("warning", "warning"), ("info", "remark"))
    )
    out.write(
        f"{printable(str(tree.root))}: {numbered(count.workloads, 'workload')}, {count.valid} "
        f"valid, {count.workloads - count.valid} not; {told}\n"
    )


# ---------------------------------------------------------------- the results table


def report_trees(out: TextIO, trees: Sequence[Tree], *, as_json: bool, as_csv: bool) -> int:
    """Write a row for each workload; the exit code says whether something cannot be read."""
    rows, code = [], 0
    for tree in trees:
        count = _Count()
        rows += [
            group.row
            for group in count.over(verify_tree(tree, proven=_is_packaged(tree)))
            if group.row is not None
        ]
        _refuse_empty(tree, count)
        code = max(code, ArchiveError.exit_code if count.broken else 0)
    if as_json:
        out.write(json.dumps([row.as_document() for row in rows], indent=1) + "\n")
        return code
    for family, columns in COLUMNS.items():
        of_family = [row for row in rows if row.family == family]
        if not of_family:
            continue
        header = (*PREFIX, *columns, "errors")
        cells = [_cells(row) for row in of_family]
        if as_csv:
            out.write(csv_text(header, cells))
        else:
            write_table(out, header, cells, right=range(len(PREFIX), len(header)))
    return code


def _cells(row: Row) -> tuple[str, ...]:
    values = ("-" if value is None else f"{value:,.2f}" for value in row.values)
    return (*(printable(part) or "-" for part in row.prefix), *values, str(row.issues))
