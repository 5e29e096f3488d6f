"""`mlps verify PATH...`: recompute everything that archives claim, and say all that is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from .archive import archives_at
from .arguments import parser_of, print_json
from .environment import mlps_version
from .errors import ArchiveError
from .evidence_rules import EVIDENCE_RULES
from .rules import RULES, Finding, errors
from .sarif import sarif_document
from .tables import noun, numbered, printable
from .tree_command import tree_sarif, trees_at, verify_trees
from .verify import Verification, verify_archive


def verify(arguments: Sequence[str], *, as_json: bool) -> int:
    """The highest exit code of all archives; each is read, whatever the others are."""
    parser = parser_of("verify")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--sarif", action="store_true", help="the findings as SARIF 2.1.0")
    options = parser.parse_args(arguments)
    trees = trees_at("verify", options.paths)
    if trees and options.sarif:
        log, code = tree_sarif(trees, mlps_version())
        print_json(log)
        return code
    if trees:
        return verify_trees(sys.stdout, trees, as_json=as_json)
    found = list(_verifications(options.paths))
    if options.sarif:
        print_json(_sarif(found))
    elif as_json:
        print_json([verification.as_document() for verification in found])
    else:
        for verification in found:
            _write(sys.stdout, verification)
        if len(found) > 1:
            _write_sum(sys.stdout, found)
    return max(verification.exit_code for verification in found)


def _verifications(paths: Sequence[Path]) -> Iterator[Verification]:
    """A path that is no archive is an error only where it is the only one."""
    archives = [archive for path in paths for archive in archives_at(path)]
    for path in archives:
        try:
            yield verify_archive(path)
        except ArchiveError as error:
            if len(archives) == 1:
                raise
            finding = Finding(rule="EVD-01", severity="error", text=error.message, hint=error.hint)
            yield Verification(
                path=path, run_id=path.name, verdict="none", findings=(finding,), exit_code=6
            )


def _sarif(found: Sequence[Verification]) -> dict[str, object]:
    texts = {**RULES, **{rule: each.text for rule, each in EVIDENCE_RULES.items()}}
    pairs = [
        (verification.path, finding)
        for verification in found
        for finding in (*verification.findings, *verification.judged)
    ]
    return sarif_document(pairs, texts, mlps_version())


def _write(out: TextIO, verification: Verification) -> None:
    state = "valid" if verification.exit_code == 0 else "NOT VALID"
    verdict = printable(verification.verdict)
    out.write(f"{printable(verification.run_id)}: {state}, verdict {verdict}\n")
    broken = errors(verification.judged)
    for title, findings in (
        ("of the archive", verification.findings),
        ("of the job, judged anew", broken),
    ):
        if findings:
            out.write(f"  {title}: {numbered(len(findings), 'finding')}\n")
            out.writelines(f"  {finding}\n" for finding in findings)


def _write_sum(out: TextIO, found: Sequence[Verification]) -> None:
    bad = [verification for verification in found if verification.exit_code]
    count = sum(
        len(errors(verification.findings)) + len(errors(verification.judged))
        for verification in bad
    )
    out.write(
        f"{numbered(len(found), 'archive')}: {len(found) - len(bad)} valid, {len(bad)} not, "
        f"{count} {noun(count, 'error')}\n"
    )
