"""Expected errors: one paragraph and an exit code each. A bug alone shows a traceback.

MlpsError
├── ConfigError       2    the configuration is wrong; nothing was touched
├── PreflightError    3    the machine is not ready for the job; nothing was written
├── StageError        4    a stage did not end as it must
├── ResultError       5    the results cannot be used
├── ArchiveError      6    an archive or its evidence is broken
├── ComplianceError   7    the job or its results break a rule
└── Interrupted     130    somebody asked for the end
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class MlpsError(Exception):
    """Root of every error that a user can cause and mend."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  hint: {self.hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with a composed job: where, what, and what to type instead."""

    key: str
    text: str
    where: str = ""
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.key} ({self.where})" if self.where else self.key
        head = f"{place}: {self.text}" if self.key else self.text
        return head if self.hint is None else f"{head}\n     hint: {self.hint}"


def problem_at(
    key: str, text: str, where: Mapping[str, str], *, hint: str | None = None
) -> Problem:
    """A problem of a key, with the place where its value was set."""
    return Problem(key=key, text=text, where=where.get(key, ""), hint=hint)


class ConfigError(MlpsError):
    """The configuration is wrong. Holds all problems that were found, not only the first."""

    exit_code = 2

    def __init__(
        self, message: str, *, hint: str | None = None, problems: Sequence[Problem] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigError:
        """One error for a non-empty list of problems."""
        if len(problems) == 1:
            only = problems[0]
            text = str(Problem(key=only.key, text=only.text, where=only.where))
            return cls(text, hint=only.hint, problems=problems)
        lines = [f"  {number}. {problem}" for number, problem in enumerate(problems, 1)]
        head = f"{len(problems)} problems in the configuration, nothing was started:"
        return cls("\n".join([head, *lines]), problems=problems)


class PreflightError(MlpsError):
    """The machine is not ready for the job."""

    exit_code = 3


class StageError(MlpsError):
    """A stage failed: a rank died, a limit passed, an engine broke the protocol."""

    exit_code = 4


class ResultError(MlpsError):
    """All stages ended, but what they reported cannot be used."""

    exit_code = 5


class ArchiveError(MlpsError):
    """An archive cannot be read or written, or is not what its manifest says."""

    exit_code = 6


class ComplianceError(MlpsError):
    """A rule of the edition or division is broken."""

    exit_code = 7


class Interrupted(MlpsError):
    """Ctrl-C or SIGTERM."""

    exit_code = 130
