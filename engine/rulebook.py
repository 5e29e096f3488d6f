"""The form in which rules are written down: what each demands, of whom, when, on what ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]

# The gravest first, for what is sorted.
GRAVITY: Mapping[Severity, int] = {"error": 0, "warning": 1, "info": 2}

# When a rule can first be judged: from the composed job, on the machines, from what ran, from an
# archive that is read again, or from a tree of results as it is handed in.
Phase = Literal["compose", "preflight", "run", "archive", "package"]

Family = Literal["training", "checkpointing", "kvcache", "vectordb", "external"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: `covers` names the ids of the edition's text that it judges.

    `severity` is the gravest that it has in the closed division; an empty `families` means all;
    `limits` are the keys of the edition whose values it compares with.
    """

    text: str
    phase: Phase
    severity: Severity = "error"
    families: tuple[Family, ...] = ()
    covers: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
