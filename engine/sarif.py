"""Findings in SARIF 2.1.0, which editors and reviews of code show. Pure.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from .canonical import Document
from .rules import Finding
from .tables import printable

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def sarif_document(
    found: Iterable[tuple[Path, Finding]], rules: Mapping[str, str], version: str
) -> Document:
    """One run of a log: `found` are findings with the archive or tree that they are of.

    `rules` tells the text of each rule by its id; only those that were found are in the log.
    """
    results = list(found)
    named = sorted({finding.rule for _, finding in results})
    places = {rule: number for number, rule in enumerate(named)}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "mlps",
                        "version": version,
                        "rules": [
                            {"id": rule, "shortDescription": {"text": rules.get(rule, rule)}}
                            for rule in named
                        ],
                    }
                },
                "results": [
                    _result(root, finding, places[finding.rule]) for root, finding in results
                ],
            }
        ],
    }


def _result(root: Path, finding: Finding, place: int) -> Document:
    text = finding.text if finding.hint is None else f"{finding.text} (hint: {finding.hint})"
    where = " ".join(part for part in (finding.host, finding.key) if part)
    location: Document = {"physicalLocation": {"artifactLocation": {"uri": _uri(root, finding)}}}
    if where:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(where)}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": place,
        "level": _LEVELS[finding.severity],
        "message": {"text": printable(text)},
        "locations": [location],
    }


def _uri(root: Path, finding: Finding) -> str:
    """The file that a finding is about, where its key is one; else the archive."""
    is_file = "/" in finding.key or (root / finding.key).suffix in _SUFFIXES
    path = root / finding.key if finding.key and is_file else root
    return "file://" + quote(str(path).encode(errors="surrogateescape"))


_SUFFIXES = (".json", ".yaml", ".txt", ".gz", ".sha256", ".html", ".pdf", ".log")
