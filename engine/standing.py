"""Where a job stands: the strictest division that takes it, and what bars it from others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document
from .rules import Finding, errors

# From the strictest to the one in which anything goes.
DIVISIONS = ("closed", "open", "whatif")
# Findings that are told of a division; the others are counted.
SHOWN = 3


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
        """For people: which division would take the job, and the first errors in those before."""
        for name, found in self.barred.items():
            if name != self.division:
                yield f"in division {name} it would be INVALID:"
                yield from (
                    f"  {finding.rule} {finding.key}: {finding.text}" for finding in found[:SHOWN]
                )
                if len(found) > SHOWN:
                    yield f"  and {len(found) - SHOWN} more: division={name} shows them"
        if self.strictest is not None and self.strictest != self.division:
            yield f"it would be {self.strictest.upper()} with division={self.strictest}"


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
    """The same overrides with another choice of division."""
    kept = [word for word in overrides if word.lstrip("+").partition("=")[0] != "division"]
    return [*kept, f"division={name}"]
