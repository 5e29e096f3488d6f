"""The check of an archive from its own files alone: all that is wrong with it, each once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import archive as files
from .archive import Archive
from .canonical import Document, pretty_json, sha256_hex
from .errors import ArchiveError, ConfigError
from .evidence import (
    FORM_ERRORS,
    USABLE,
    Evidence,
    Reading,
    overrides_text,
    read_what_there_is,
)
from .evidence_rules import judge_evidence
from .foreign_evidence import derived_files
from .host_documents import hosts_text
from .job_page import draw_page, is_redrawable
from .jobs import conf_dirs
from .plan import Launch, without_hosts
from .recomposition import judge_composition
from .rules import Finding
from .verdict import make_result, make_verdict

# (rule, file, what it must hold)
Derived = tuple[str, str, bytes]

# Files at the root of an archive that are not in it from the start.
_ROOT_FILES = frozenset(
    {
        files.JOB, files.JOB_YAML, files.OVERRIDES, files.PROVENANCE, files.PLAN,
        files.ENVIRONMENT, files.SYSTEM, files.HOSTS_START, files.HOSTS_END, files.SERIES,
        files.SERIES_GZ, files.RESULT, files.VERDICT, files.PAGE, files.MANIFEST,
    }
)  # fmt: skip
_STAGE_FILES = frozenset({files.ARGV, files.STDOUT, files.STDERR, files.OUTCOME, files.RESULT})
_STAGE_DIRECTORIES = ("outputs", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What the check of one archive found.

    `findings` are of the archive itself; `judged` is what the rules say of the job that it holds,
    judged anew; empty where too little can be read.
    """

    path: Path
    run_id: str
    verdict: str
    findings: tuple[Finding, ...]
    judged: tuple[Finding, ...] = ()
    exit_code: int

    def as_document(self) -> Document:
        return {
            "path": str(self.path),
            "run_id": self.run_id,
            "valid": self.exit_code == 0,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "findings": [finding.as_document() for finding in self.findings],
            "judged": [finding.as_document() for finding in self.judged],
        }


def verify_archive(path: Path) -> Verification:
    """Recompute everything that an archive claims. Raises ArchiveError where the path is none."""
    return read_and_verify(path)[0]


def read_and_verify(path: Path) -> tuple[Verification, Evidence | None]:
    """The same, with the evidence where it can be read, so that nobody reads it again."""
    archive = files.open_archive(path)
    if not archive.sealed:
        text = "it has no seal: its job is still running, or was killed"
        hint = f"mlps resume {path}"
        unsealed = Finding(
            rule="EVD-01", severity="error", key=files.MANIFEST, text=text, hint=hint
        )
        return _verification(archive, "none", [unsealed], (), 6), None
    listed, flaws = files.manifest_flaws(archive)
    broken = [Finding(rule="EVD-01", severity="error", key=name, text=text) for name, text in flaws]
    lost = {name for name, _ in flaws}
    reading = read_what_there_is(archive, lost)
    findings = list(reading.findings)
    judged: tuple[Finding, ...] = ()
    if reading.evidence is not None:
        check = _Check(reading=reading, evidence=reading.evidence, listed=listed)
        found, judged = check.findings()
        findings += found
    verdict = _verdict_name(archive, reading)
    code = 6 if broken else 7 if findings or verdict in ("INVALID", "none") else 0
    return _verification(archive, verdict, [*broken, *findings], judged, code), reading.evidence


def _verification(
    archive: Archive,
    verdict: str,
    findings: Sequence[Finding],
    judged: tuple[Finding, ...],
    code: int,
) -> Verification:
    return Verification(
        path=archive.root,
        run_id=archive.run_id,
        verdict=verdict,
        findings=tuple(findings),
        judged=judged,
        exit_code=code,
    )


def _verdict_name(archive: Archive, reading: Reading) -> str:
    """What verdict.json says, if that is worth something."""
    if files.VERDICT in reading.lost:
        return "none"
    with contextlib.suppress(ArchiveError, *FORM_ERRORS):
        return str(files.read_document(archive.path(files.VERDICT))["verdict"])
    return "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Check:
    """An archive, what could be read of it, and the digests that its manifest lists."""

    reading: Reading
    evidence: Evidence
    listed: Mapping[str, str]

    def findings(self) -> tuple[list[Finding], tuple[Finding, ...]]:
        """What is wrong with the archive, and what the rules say of the job."""
        found: list[Finding] = [*self._strangers(), *self._composition()]
        for derived in (self._of_inputs, self._of_stages, self._of_hosts):
            for rule, name, expected in derived():
                found += self._compared(rule, name, expected)
        if not self._whole():
            return found, ()
        found += judge_evidence(self.evidence, self._environment())
        try:
            return self._numbers(found)
        except ArchiveError as error:
            text = error.message
        except FORM_ERRORS as error:
            text = f"a document cannot be read: {type(error).__name__}: {error}"
        if not any(finding.rule in ("EVD-06", "EVD-07") for finding in found):
            found.append(Finding(rule="EVD-03", severity="error", text=text))
        return found, ()

    def _whole(self) -> bool:
        """Whether all is there that numbers and verdict follow from."""
        names = {files.HOSTS_START, files.HOSTS_END, files.SERIES_GZ}
        for launch in self.evidence.plan.launches:
            names |= {files.stage_file(launch.name, each) for each in (files.OUTCOME, files.RESULT)}
        return not names & self.reading.lost

    def _environment(self) -> Document:
        document: Document = files.read_document(self.reading.archive.path(files.ENVIRONMENT))
        return document

    def _compared(self, rule: str, name: str, expected: bytes) -> Iterator[Finding]:
        """A file that is lost already is none that differs, too."""
        if name in self.reading.lost:
            return
        try:
            actual = files.read_bytes(self.reading.archive.path(name))
        except ArchiveError as error:
            yield Finding(rule=rule, severity="error", key=name, text=error.message)
            return
        if actual != expected:
            text = f"is not what follows from the evidence: {first_difference(actual, expected)}"
            yield Finding(rule=rule, severity="error", key=name, text=text)

    def _strangers(self) -> Iterator[Finding]:
        """Files that no run leaves, and stages that the plan does not have."""
        stages = {launch.name for launch in self.evidence.plan.launches}
        others: dict[str, None] = {}
        for name in files.file_names(self.reading.archive):
            if name in self.reading.lost or name in _ROOT_FILES:
                continue
            first, _, rest = name.partition("/")
            stage, _, file = rest.partition("/")
            if first == "stages" and stage not in stages:
                others[stage] = None
            elif first != "stages" or not _of_stage(file):
                text = "is not what a run of this job leaves"
                yield Finding(rule="EVD-06", severity="error", key=name, text=text)
        if others:
            text = f"stages that the plan does not have are in the archive: {', '.join(others)}"
            yield Finding(rule="EVD-06", severity="error", key="stages", text=text)

    def _composition(self) -> list[Finding]:
        archive, spec = self.reading.archive, self.evidence.spec
        provenance = files.read_document(archive.path(files.PROVENANCE))
        try:
            return [*judge_composition(spec, provenance, conf_dirs(()))]
        except (ArchiveError, ConfigError, *FORM_ERRORS) as error:
            text = f"where the job came from cannot be read: {error}"
            return [Finding(rule="EVD-02", severity="error", key=files.PROVENANCE, text=text)]

    # ------------------------------------------------------------ what follows from what

    def _of_inputs(self) -> Iterator[Derived]:
        spec, plan = self.evidence.spec, self.evidence.plan
        provenance = files.read_document(self.reading.archive.path(files.PROVENANCE))
        yield "EVD-02", files.PLAN, pretty_json(plan.as_document())
        yield "EVD-02", files.JOB_YAML, files.to_yaml(spec.document)
        yield "EVD-02", files.SYSTEM, files.to_yaml(spec.document["system"])
        yield "EVD-02", files.OVERRIDES, overrides_text(provenance["overrides"])

    def _of_stages(self) -> Iterator[Derived]:
        for launch in self.evidence.plan.launches:
            outcome = self.evidence.outcomes.get(launch.name)
            name = files.stage_file(launch.name, files.ARGV)
            started = outcome is not None and outcome["status"] in USABLE
            if outcome is not None and (started or self.reading.archive.path(name).exists()):
                yield "EVD-02", name, _argv(self.evidence, launch, outcome)

    def _of_hosts(self) -> Iterator[Derived]:
        for name, hosts in (
            (files.HOSTS_START, self.evidence.hosts_start),
            (files.HOSTS_END, self.evidence.hosts_end),
        ):
            if name not in self.reading.lost:
                yield "EVD-03", name, hosts_text(hosts)

    def _numbers(self, found: list[Finding]) -> tuple[list[Finding], tuple[Finding, ...]]:
        """Numbers, verdict, and what a foreign program's outputs tell. Raises ArchiveError."""
        archive, evidence = self.reading.archive, self.evidence
        foreign = derived_files(archive, evidence.spec, evidence.plan, evidence.results)
        for rule, name, expected in foreign:
            found += self._compared(rule, name, expected)
        result = make_result(archive, evidence)
        found += self._compared("EVD-03", files.RESULT, pretty_json(result))
        verdict, document = make_verdict(archive, evidence, result, self.listed)
        if files.VERDICT not in self.reading.lost:
            found += self._verdict(document, follows=bool(found or self.reading.lost))
        # The page follows from the other files: where they are wrong it says nothing new, and
        # other code draws another page.
        if not found and not self.reading.lost and is_redrawable(archive):
            page = draw_page(archive, evidence, result, document)
            found += self._compared("EVD-03", files.PAGE, page)
        return found, verdict.findings

    def _verdict(self, document: Document, *, follows: bool) -> Iterator[Finding]:
        """Where another file is wrong, what the verdict says counts, not what it is bound to."""
        name = files.VERDICT
        if not follows:
            yield from self._compared("EVD-04", name, pretty_json(document))
            return
        try:
            said = files.read_document(self.reading.archive.path(name))
            parts = {key: said[key] for key in document if key != "evidence"}
        except (ArchiveError, *FORM_ERRORS) as error:
            yield Finding(rule="EVD-04", severity="error", key=name, text=f"no verdict: {error}")
            return
        expected = {key: value for key, value in document.items() if key != "evidence"}
        if parts != expected:
            text = "is not what follows from the evidence: " + first_difference(
                pretty_json(parts), pretty_json(expected)
            )
            yield Finding(rule="EVD-04", severity="error", key=name, text=text)


def _of_stage(file: str) -> bool:
    return file in _STAGE_FILES or file.partition("/")[0] in _STAGE_DIRECTORIES


def _argv(evidence: Evidence, launch: Launch, outcome: Document) -> bytes:
    """What argv.json holds: the plan's argv, or the one for the hosts that were left."""
    lost = outcome.get("without_hosts")
    if lost and launch.when == "always":
        with contextlib.suppress(ValueError):
            launch = without_hosts(evidence.spec, evidence.plan, launch, lost)
    return pretty_json(list(launch.argv))


def first_difference(actual: bytes, expected: bytes) -> str:
    """The first line that differs, for a reader who wants to know where to look."""
    pairs: list[tuple[Any, Any]] = list(
        zip(actual.split(b"\n"), expected.split(b"\n"), strict=False)
    )
    for number, (left, right) in enumerate(pairs, 1):
        if left != right:
            found, wanted = (text.decode(errors="replace").strip()[:80] for text in (left, right))
            return f"line {number} is {found!r}, expected {wanted!r}"
    return f"{len(actual)} bytes with {sha256_hex(actual)[:12]}, expected {len(expected)} bytes"
