"""The verdict of a job that has ended, and its published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from . import archive as files
from .archive import Archive
from .canonical import Document, sha256_file
from .checkpoint_job import checkpoint_jobs
from .checkpoint_rules import judge_checkpoint_form, judge_checkpoints
from .collect import collect
from .core_config import core_config
from .errors import ArchiveError
from .evidence import USABLE, Evidence
from .host_documents import totals
from .monitor_rules import judge_cpu, judge_hosts, judge_series
from .plan import Plan
from .rules import Finding, errors, judge_job, judge_outcomes
from .stage_rules import judge_rooflines, judge_stage_result
from .system_source import judge_described
from .training_job import training_jobs
from .training_rules import (
    judge_client_memory,
    judge_dataset_size,
    judge_training,
    judge_utilisation,
)
from .vector_job import vector_jobs
from .vector_rules import judge_vector_score, judge_vectors

Name = Literal["CLOSED", "OPEN", "WHATIF", "INVALID"]

VERDICT_SCHEMA = 1

EXIT_BY_STATUS = {"complete": 0, "failed": 4, "interrupted": 130}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """CLOSED, OPEN, WHATIF or INVALID, with the findings behind it and the exit code."""

    name: Name
    status: str
    exit_code: int
    findings: tuple[Finding, ...]

    def as_document(self, evidence: Mapping[str, str]) -> Document:
        """What verdict.json holds; `evidence` binds it to the other files by their SHA-256."""
        return {
            "schema": VERDICT_SCHEMA,
            "verdict": self.name,
            "status": self.status,
            "exit_code": self.exit_code,
            "findings": [finding.as_document() for finding in self.findings],
            "evidence": dict(sorted(evidence.items())),
        }


# ---------------------------------------------------------------- the verdict


def judge(evidence: Evidence, result: Document) -> Verdict:
    """The verdict of a job that has ended. Pure."""
    memory_bytes = totals(evidence.hosts_start).memory_bytes
    ended = (evidence.spec, evidence.plan, evidence.outcomes, evidence.results)
    findings = [
        *judge_job(evidence.spec, evidence.origins),
        *judge_described(evidence.spec, evidence.hosts_start),
        *evidence.preflight,
        *judge_outcomes(evidence.outcomes[launch.name] for launch in evidence.plan.launches),
        *judge_dataset_size(evidence.spec, memory_bytes),
        *judge_client_memory(evidence.spec, evidence.plan.ranks, memory_bytes),
        *judge_utilisation(*ended),
        *judge_checkpoint_form(*ended),
        *judge_vector_score(*ended),
    ]
    unusable = [
        *_judge_stages(evidence, memory_bytes),
        *judge_rooflines(evidence.plan, evidence.outcomes, evidence.results),
        *judge_training(*ended),
        *judge_checkpoints(*ended),
        *judge_vectors(*ended, memory_bytes),
        *judge_hosts(evidence.hosts_start, evidence.hosts_end),
        *_judge_series(evidence),
    ]
    code = EXIT_BY_STATUS[result["status"]]
    if code == 0 and errors(unusable):
        code = 5
    if code == 0 and errors(findings):
        code = 7
    findings += unusable
    names: dict[str, Name] = {"closed": "CLOSED", "open": "OPEN", "whatif": "WHATIF"}
    name: Name = "INVALID" if errors(findings) else names[evidence.spec.division.name]
    return Verdict(name=name, status=result["status"], exit_code=code, findings=tuple(findings))


def _judge_stages(evidence: Evidence, memory_bytes: int | None) -> Iterator[Finding]:
    memory_times = evidence.spec.document["edition"]["memory_times"]
    for launch in evidence.plan.launches:
        result = evidence.results.get(launch.name)
        usable = evidence.outcomes[launch.name]["status"] in USABLE
        if result is not None and usable:
            yield from judge_stage_result(
                launch.name, launch.measured, result, memory_bytes, memory_times=memory_times
            )


def _judge_series(evidence: Evidence) -> Iterator[Finding]:
    series = evidence.series
    if series is None:
        return
    yield from judge_series(series, evidence.plan.hosts)
    for launch in evidence.plan.launches:
        if launch.measured:
            loads = series.loads.get(launch.name, {})
            busy_pct = {host: load.cpu_busy_pct for host, load in loads.items()}
            yield from judge_cpu(launch.name, busy_pct)


def make_result(archive: Archive, evidence: Evidence) -> Document:
    """The published numbers of an archive's evidence."""
    return collect(
        evidence.plan,
        run_id=archive.run_id,
        version=evidence.version,
        benchmark=evidence.spec.benchmark,
        family=evidence.spec.family,
        outcomes=evidence.outcomes,
        results=evidence.results,
        hosts=evidence.hosts_start,
        series=evidence.series,
        evidence=digests(archive, _sources(archive, evidence.plan)),
        training=training_jobs(evidence.spec),
        checkpointing=checkpoint_jobs(evidence.spec),
        searching=vector_jobs(evidence.spec),
    )


def make_verdict(
    archive: Archive, evidence: Evidence, result: Document, known: Mapping[str, str] | None = None
) -> tuple[Verdict, Document]:
    """The verdict and the document of verdict.json, bound to all that it follows from.

    `known` are the digests of these files, where they need not be read. Raises ArchiveError.
    """
    verdict = judge(evidence, result)
    if known is None:
        known = digests(archive, [*files.file_names(archive)])
    # The page shows the verdict: it comes after it.
    later = (files.VERDICT, files.PAGE)
    bound = {name: digest for name, digest in known.items() if name not in later}
    core = core_config(evidence.spec)
    document = verdict.as_document(bound)
    return verdict, document | {"core_config": None if core is None else core.as_document()}


def digests(archive: Archive, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of files of an archive. Raises ArchiveError."""
    try:
        return {name: sha256_file(archive.path(name)) for name in names}
    except OSError as error:
        raise ArchiveError(f"{error.filename} cannot be read: {error.strerror}") from error


def _sources(archive: Archive, plan: Plan) -> list[str]:
    """Files that the numbers follow from."""
    names = [files.HOSTS_START, files.SERIES_GZ]
    names += [
        files.stage_file(launch.name, file)
        for launch in plan.launches
        for file in (files.OUTCOME, files.RESULT)
    ]
    return [name for name in names if archive.path(name).is_file()]
