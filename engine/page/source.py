"""What a page is made from, read and not yet drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..canonical import Document
from .samples import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A launch of the plan with what it left; `result` is None where it reported nothing."""

    name: str
    measured: bool
    outcome: Document
    result: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive: its published documents, its stages, and where each value of the job is from."""

    result: Document
    verdict: Document
    job: Document
    origins: Mapping[str, Document]
    stages: Sequence[Stage]
    facts: Mapping[str, Document]
    rates: Rates | None

    @property
    def measured(self) -> list[tuple[Stage, Document]]:
        """Measured stages that reported a window, with their results."""
        return [
            (stage, stage.result)
            for stage in self.stages
            if stage.measured and stage.result is not None and stage.result.get("window")
        ]
