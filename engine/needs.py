"""What an engine says that a job needs, asked for each of its options."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .canonical import Document
from .children import Answer, Command, run_all
from .plan import Plan, engine_command
from .rules import Finding
from .spec import JobSpec

NEEDS_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an engine says that a job needs, for all ranks together and for each.

    `packages` of Python and `programs` on PATH are needed on every host. `facts` is what the engine
    tells of the job beforehand.
    """

    disk_bytes: int
    memory_bytes_per_rank: int
    disk_arithmetic: str
    memory_arithmetic: str | None = None
    packages: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    open_files_per_rank: int = 0
    facts: Document = field(default_factory=dict)

    def as_document(self) -> Document:
        document: Document = {
            "disk_bytes": self.disk_bytes,
            "memory_bytes_per_rank": self.memory_bytes_per_rank,
            "disk_arithmetic": self.disk_arithmetic,
        }
        if self.memory_arithmetic is not None:
            document["memory_arithmetic"] = self.memory_arithmetic
        for name in ("packages", "programs"):
            document |= {name: list(getattr(self, name))} if getattr(self, name) else {}
        if self.open_files_per_rank:
            document["open_files_per_rank"] = self.open_files_per_rank
        if self.facts:
            document["facts"] = self.facts
        return document


def needs_commands(spec: JobSpec, python: str, ranks: int, env: Mapping[str, str]) -> list[Command]:
    """The commands that ask the engine for its needs, one for each option."""
    return [
        Command(
            argv=engine_command(
                spec,
                python,
                *("--stage", "needs", "--ranks", str(ranks)),
                *(() if option is None else ("--option", option)),
            ),
            env=env,
            limit_s=NEEDS_LIMIT_S,
        )
        for option in spec.options or (None,)
    ]


def ask_needs(spec: JobSpec, plan: Plan, env: Mapping[str, str]) -> Needs:
    """The needs of all options, asked on this machine. Raises ValueError, KeyError and TypeError.

    The Python that runs this answers: that of the ranks may be on their hosts alone.
    """
    answers = run_all(needs_commands(spec, sys.executable, plan.ranks, env))
    return largest([needs_of(answer) for answer in answers])


def refusal(spec: JobSpec, said: str) -> Finding:
    """The finding that a job's engine cannot run it, in the engine's words."""
    return Finding(
        rule="ENV-02",
        severity="error",
        key="benchmark",
        text=f"engine {spec.engine} cannot run this job: {said}",
    )


def largest(found: Sequence[Needs]) -> Needs:
    """What satisfies the needs of every option."""
    disk = max(found, key=lambda needs: needs.disk_bytes)
    memory = max(found, key=lambda needs: needs.memory_bytes_per_rank)
    return replace(
        disk,
        memory_bytes_per_rank=memory.memory_bytes_per_rank,
        memory_arithmetic=memory.memory_arithmetic,
        packages=tuple(sorted({name for needs in found for name in needs.packages})),
        programs=tuple(sorted({name for needs in found for name in needs.programs})),
        open_files_per_rank=max(needs.open_files_per_rank for needs in found),
    )


def needs_of(answer: Answer) -> Needs:
    """The needs that an engine has stated. Raises ValueError, KeyError and TypeError."""
    if answer.exit_status != 0:
        raise ValueError(answer.start_error or answer.last_words or _ending(answer))
    event = json.loads(answer.stdout)
    return Needs(
        disk_bytes=int(event["disk_bytes"]),
        memory_bytes_per_rank=int(event["memory_bytes_per_rank"]),
        disk_arithmetic=str(event["disk_arithmetic"]),
        memory_arithmetic=event.get("memory_arithmetic"),
        packages=tuple(event.get("packages", ())),
        programs=tuple(event.get("programs", ())),
        open_files_per_rank=int(event.get("open_files_per_rank", 0)),
        facts=dict(event.get("facts", {})),
    )


def _ending(answer: Answer) -> str:
    if answer.exit_status is None:
        return f"it did not answer within {NEEDS_LIMIT_S:g} s"
    return f"exit status {answer.exit_status}"
