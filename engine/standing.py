"""Where a job stands: the strictest division that takes it, and what bars it from others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document
from .rules import Finding, errors
from .tables import printable

# From the strictest to the one in which anything goes.
DIVISIONS = ("closed", "open", "whatif")
# Findings that are told of a division; the others are counted.
SHOWN = 3
# Overrides that choose a division or change what it holds.
_OF_DIVISION = re.compile(r"[+~]*division[.=@]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What of a job would be invalid in divisions other than its own.

    `strictest` is None where the job is invalid in every division, `barred` holds the errors of
    each division that is stricter than that one.
    """

    division: str
    strictest: str | None
    barred: Mapping[str, tuple[Finding, ...]]

    def as_document(self) -> Document:
        return {
            "division": self.division,
            "strictest": self.strictest,
            "barred": {
                name: [finding.as_document() for finding in found]
                for name, found in self.barred.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """For people: which division would take the job, and what bars it from stricter ones.

        Errors of its own division are left out: they are findings of the job.
        """
        if self.strictest is None:
            yield "no division would take it"
        elif self.strictest != self.division:
            yield f"division={self.strictest} would take it"
        for names, found in self._groups():
            if self.division in names:
                continue
            yield f"INVALID in {' and '.join(names)}:"
            yield from (f"  {_line(finding)}" for finding in found[:SHOWN])
            if len(found) > SHOWN:
                yield f"  and {len(found) - SHOWN} more: division={names[0]} shows them"

    def _groups(self) -> list[tuple[list[str], tuple[Finding, ...]]]:
        """Divisions of which the same rules are broken by the same keys, told together."""
        groups: dict[tuple[tuple[str, str], ...], tuple[list[str], tuple[Finding, ...]]] = {}
        for name, found in self.barred.items():
            broken = tuple((finding.rule, finding.key) for finding in found)
            groups.setdefault(broken, ([], found))[0].append(name)
        return list(groups.values())


def _line(finding: Finding) -> str:
    return printable(
        " ".join(part for part in (finding.rule, finding.key) if part) + f": {finding.text}"
    )


def standing(division: str, findings: Mapping[str, Sequence[Finding]]) -> Standing:
    """The standing of a job in `division`, from what rules find of it in each of DIVISIONS."""
    barred: dict[str, tuple[Finding, ...]] = {}
    for name in DIVISIONS:
        grave = errors(findings[name])
        if not grave:
            return Standing(division=division, strictest=name, barred=barred)
        barred[name] = tuple(grave)
    return Standing(division=division, strictest=None, barred=barred)


def in_division(overrides: Sequence[str], name: str) -> list[str]:
    """The same overrides with another choice of division, as it is packaged."""
    kept = [word for word in overrides if not _OF_DIVISION.match(word)]
    return [*kept, f"division={name}"]
