"""The verdict of a job, and the check of an archive from its own files alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import archive as files
from .archive import Archive
from .canonical import Document, canonical_json, pretty_json, sha256_file, sha256_hex
from .checkpoint_job import checkpoint_jobs
from .checkpoint_rules import judge_checkpoint_form, judge_checkpoints
from .collect import collect
from .compose import Origin
from .errors import ArchiveError, ConfigError
from .foreign_evidence import derived_files
from .host_documents import HostFacts, hosts_text, read_hosts, totals
from .job_page import draw_page, is_redrawable
from .monitor_rules import judge_cpu, judge_hosts, judge_series
from .plan import Launch, Plan, make_plan, without_hosts
from .rules import (
    Finding,
    errors,
    from_document,
    judge_job,
    judge_outcomes,
)
from .schema import check
from .series import Series, read_series, windows_of
from .spec import JobSpec, build
from .stage_rules import judge_rooflines, judge_stage_result
from .training_job import training_jobs
from .training_rules import judge_dataset_size, judge_training, judge_utilisation
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an archive holds of a job that has ended, read and not yet judged."""

    spec: JobSpec
    origins: Mapping[str, Origin]
    plan: Plan
    preflight: tuple[Finding, ...]
    version: str
    outcomes: Mapping[str, Document]
    results: Mapping[str, Document]
    hosts_start: HostFacts
    hosts_end: HostFacts
    series: Series | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the check of one archive found."""

    path: Path
    run_id: str
    verdict: str
    findings: tuple[Finding, ...]
    exit_code: int

    def as_document(self) -> Document:
        return {
            "path": str(self.path),
            "run_id": self.run_id,
            "valid": self.exit_code == 0,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "findings": [finding.as_document() for finding in self.findings],
        }


# ---------------------------------------------------------------- the verdict


def judge(evidence: Evidence, result: Document) -> Verdict:
    """The verdict of a job that has ended. Pure."""
    memory_bytes = totals(evidence.hosts_start).memory_bytes
    ended = (evidence.spec, evidence.plan, evidence.outcomes, evidence.results)
    findings = [
        *judge_job(evidence.spec, evidence.origins),
        *evidence.preflight,
        *judge_outcomes(evidence.outcomes[launch.name] for launch in evidence.plan.launches),
        *judge_dataset_size(evidence.spec, memory_bytes),
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
    for launch in evidence.plan.launches:
        result = evidence.results.get(launch.name)
        usable = evidence.outcomes[launch.name]["status"] in ("complete", "stopped")
        if result is not None and usable:
            yield from judge_stage_result(launch.name, launch.measured, result, memory_bytes)


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
    archive: Archive, evidence: Evidence, result: Document
) -> tuple[Verdict, Document]:
    """The verdict and the document of verdict.json, bound to every other file of the archive."""
    verdict = judge(evidence, result)
    later = (files.VERDICT, files.PAGE)
    names = [name for name in files.file_names(archive) if name not in later]
    return verdict, verdict.as_document(digests(archive, names))


def make_page(archive: Archive, evidence: Evidence, result: Document, verdict: Document) -> bytes:
    """The page of report.html. Raises ArchiveError, or one of UNDRAWABLE."""
    return draw_page(
        archive,
        job=evidence.spec.document,
        origins=evidence.origins,
        launches=evidence.plan.launches,
        outcomes=evidence.outcomes,
        results=evidence.results,
        facts=evidence.hosts_start.facts,
        result=result,
        verdict=verdict,
    )


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


# ---------------------------------------------------------------- reading an archive


def read_evidence(archive: Archive) -> Evidence:
    """All that a job left, from the archive alone. Raises ArchiveError."""
    spec = read_job(archive)
    provenance = files.read_document(archive.path(files.PROVENANCE))
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    try:
        origins = read_origins(provenance)
        plan = make_plan(
            spec,
            python=str(environment["python"]["executable"]),
            program=str(environment["launcher"]["program"]),
            present=environment["rank_variables"],
        )
        preflight = tuple(from_document(entry) for entry in environment["preflight"])
        version = str(environment["mlps"]["version"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArchiveError(
            f"{archive.root}: a document lacks what it must hold: {error}"
        ) from error
    outcomes, results = {}, {}
    for launch in plan.launches:
        outcomes[launch.name] = files.read_document(archive.stage(launch.name, files.OUTCOME))
        path = archive.stage(launch.name, files.RESULT)
        if path.is_file():
            results[launch.name] = files.read_document(path)
    return Evidence(
        spec=spec,
        origins=origins,
        plan=plan,
        preflight=preflight,
        version=version,
        outcomes=outcomes,
        results=results,
        hosts_start=read_hosts_file(archive, files.HOSTS_START),
        hosts_end=read_hosts_file(archive, files.HOSTS_END),
        series=read_series_file(archive, spec, results),
    )


def read_hosts_file(archive: Archive, name: str) -> HostFacts:
    """The facts of the hosts, as a file of the archive holds them. Raises ArchiveError."""
    path = archive.path(name)
    try:
        return read_hosts(files.read_document(path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{path} holds no facts of hosts: {type(error).__name__}: {error}"
        raise ArchiveError(text) from error


def read_series_file(
    archive: Archive, spec: JobSpec, results: Mapping[str, Document]
) -> Series | None:
    """The compressed time series; None for a job that took no samples. Raises ArchiveError."""
    if spec.monitor.interval_s is None:
        return None
    try:
        return read_series(files.series_lines(archive), windows_of(results))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{archive.path(files.SERIES_GZ)}: {type(error).__name__}: {error}"
        raise ArchiveError(text) from error


def read_origins(provenance: Document) -> dict[str, Origin]:
    """The origin of every value, of what provenance.json holds."""
    return {
        key: Origin(kind=entry["from"], where=entry["where"], default=entry.get("default"))
        for key, entry in provenance["values"].items()
    }


def read_job(archive: Archive) -> JobSpec:
    """The job of an archive. Raises ArchiveError where job.json is no job of this version."""
    path = archive.path(files.JOB)
    document = files.read_document(path)
    if not isinstance(document, dict):
        raise ArchiveError(f"{path} holds no job")
    problems = check(document, {})
    if problems:
        raise ArchiveError(f"{path} is no job of this version of mlps: {problems[0]}")
    if path.read_bytes() != canonical_json(document):
        raise ArchiveError(f"{path} is not in canonical form: it is not the file that was written")
    try:
        return build(document, {})
    except ConfigError as error:
        raise ArchiveError(f"{path}: {error.message}") from error


# ---------------------------------------------------------------- verification


def verify_archive(path: Path) -> Verification:
    """Recompute everything that an archive claims. Raises ArchiveError where the path is none."""
    archive = files.open_archive(path)
    if not archive.sealed:
        text = "it has no seal: its job is still running, or was killed"
        hint = f"mlps resume {path}"
        unsealed = Finding(
            rule="EVD-01", severity="error", key=files.MANIFEST, text=text, hint=hint
        )
        return _verification(archive, "none", [unsealed], 6)
    broken = [
        Finding(rule="EVD-01", severity="error", key=name, text=text)
        for name, text in files.manifest_flaws(archive)
    ]
    if broken:
        # What would be recomputed from changed files says no more than that they were changed.
        return _verification(archive, "none", broken, 6)
    findings: list[Finding] = []
    verdict = "none"
    try:
        verdict = str(files.read_document(archive.path(files.VERDICT))["verdict"])
        findings += _recompute(archive, read_evidence(archive))
    except ArchiveError as error:
        findings.append(Finding(rule="EVD-03", severity="error", text=error.message))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # A document of another form than this version writes; its place is all that is known.
        text = f"a document cannot be read: {type(error).__name__}: {error}"
        findings.append(Finding(rule="EVD-03", severity="error", text=text))
    code = 7 if findings or verdict in ("INVALID", "none") else 0
    return _verification(archive, verdict, findings, code)


def _verification(
    archive: Archive, verdict: str, findings: Sequence[Finding], code: int
) -> Verification:
    return Verification(
        path=archive.root,
        run_id=archive.run_id,
        verdict=verdict,
        findings=tuple(findings),
        exit_code=code,
    )


def _recompute(archive: Archive, evidence: Evidence) -> list[Finding]:
    """Compare every derived file with what follows from the evidence."""
    result = make_result(archive, evidence)
    _, verdict = make_verdict(archive, evidence, result)
    spec, plan = evidence.spec, evidence.plan
    derived: list[tuple[str, str, bytes]] = [
        ("EVD-02", files.PLAN, pretty_json(plan.as_document())),
        ("EVD-02", files.JOB_YAML, files.to_yaml(spec.document)),
        ("EVD-02", files.SYSTEM, files.to_yaml(spec.document["system"])),
        ("EVD-02", files.OVERRIDES, _overrides(archive)),
        ("EVD-03", files.HOSTS_START, hosts_text(evidence.hosts_start)),
        ("EVD-03", files.HOSTS_END, hosts_text(evidence.hosts_end)),
        ("EVD-03", files.RESULT, pretty_json(result)),
        ("EVD-04", files.VERDICT, pretty_json(verdict)),
    ]
    derived += [
        ("EVD-02", files.stage_file(launch.name, files.ARGV), _argv(evidence, launch))
        for launch in plan.launches
        if archive.stage(launch.name, files.ARGV).exists()
    ]
    derived += derived_files(archive, spec, plan, evidence.results)
    findings = []
    for rule, name, expected in derived:
        path = archive.path(name)
        actual = path.read_bytes() if path.is_file() else b""
        if actual != expected:
            text = f"is not what follows from the evidence: {_difference(actual, expected)}"
            findings.append(Finding(rule=rule, severity="error", key=name, text=text))
    if findings or not is_redrawable(archive):
        # The page follows from the other files: where they are wrong it says nothing new, and
        # other code draws another page.
        return findings
    return _page_flaws(archive, make_page(archive, evidence, result, verdict))


def _page_flaws(archive: Archive, expected: bytes) -> list[Finding]:
    actual = archive.path(files.PAGE).read_bytes()
    if actual == expected:
        return []
    text = f"is not what follows from the evidence: {_difference(actual, expected)}"
    return [Finding(rule="EVD-03", severity="error", key=files.PAGE, text=text)]


def _argv(evidence: Evidence, launch: Launch) -> bytes:
    """What argv.json holds: the plan's argv, or the one for the hosts that were left."""
    lost = evidence.outcomes.get(launch.name, {}).get("without_hosts")
    if lost and launch.when == "always":
        with contextlib.suppress(ValueError):
            launch = without_hosts(evidence.spec, evidence.plan, launch, lost)
    return pretty_json(list(launch.argv))


def _overrides(archive: Archive) -> bytes:
    provenance = files.read_document(archive.path(files.PROVENANCE))
    return overrides_text(provenance["overrides"])


def overrides_text(overrides: Sequence[str]) -> bytes:
    """What overrides.txt holds: one override a line."""
    return "".join(f"{line}\n" for line in overrides).encode()


def _difference(actual: bytes, expected: bytes) -> str:
    """The first line that differs, for a reader who wants to know where to look."""
    pairs: list[tuple[Any, Any]] = list(
        zip(actual.split(b"\n"), expected.split(b"\n"), strict=False)
    )
    for number, (left, right) in enumerate(pairs, 1):
        if left != right:
            found, wanted = (text.decode(errors="replace").strip()[:80] for text in (left, right))
            return f"line {number} is {found!r}, expected {wanted!r}"
    return f"{len(actual)} bytes with {sha256_hex(actual)[:12]}, expected {len(expected)} bytes"
