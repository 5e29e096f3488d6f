"""What an archive holds of a job: each document read once, in bounds, and not yet judged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from . import archive as files
from .archive import Archive
from .canonical import Document, canonical_json
from .compose import Origin
from .errors import ArchiveError, ConfigError
from .host_documents import HostFacts, read_hosts
from .plan import Plan, make_plan
from .protocol import RankTable, result_flaws
from .rules import Finding, from_document
from .schema import check
from .series import Series, read_series, windows_of
from .spec import JobSpec, build

# What a document of another form than this version writes makes of its readers.
FORM_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

USABLE = ("complete", "stopped")

# Longer than any time since 1970, and short enough for every computation with it.
LONGEST_S = 1e11

# What every outcome.json holds.
_OUTCOME_KEYS = (
    "name", "status", "reason", "message", "started_utc", "elapsed_s", "ranks_reported", "hosts",
    "job_sha256",
)  # fmt: skip

_NO_HOSTS = HostFacts(facts={}, clock_offset_s={}, without_facts={})

_Read = TypeVar("_Read")


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


# ---------------------------------------------------------------- all of it, or an error


def read_evidence(archive: Archive) -> Evidence:
    """All that a job left, from the archive alone. Raises ArchiveError."""
    spec, origins = read_job(archive), _read_provenance(archive)
    evidence = _read_environment(archive, spec, origins)
    outcomes, results = {}, {}
    for launch in evidence.plan.launches:
        outcomes[launch.name] = files.read_document(archive.stage(launch.name, files.OUTCOME))
        path = archive.stage(launch.name, files.RESULT)
        if path.is_file():
            results[launch.name] = files.read_document(path)
    return replace(
        evidence,
        outcomes=outcomes,
        results=results,
        hosts_start=read_hosts_file(archive, files.HOSTS_START),
        hosts_end=read_hosts_file(archive, files.HOSTS_END),
        series=read_series_file(archive, spec, results),
    )


def _read_provenance(archive: Archive) -> dict[str, Origin]:
    """Where the job's values came from. Raises ArchiveError."""
    path = archive.path(files.PROVENANCE)
    document = files.read_document(path)
    try:
        overrides_text(document["overrides"])
        return read_origins(document)
    except FORM_ERRORS as error:
        raise ArchiveError(f"{path} lacks what it must hold: {error}") from error


def _read_environment(archive: Archive, spec: JobSpec, origins: Mapping[str, Origin]) -> Evidence:
    """What was there before the first stage. Raises ArchiveError."""
    path = archive.path(files.ENVIRONMENT)
    environment = files.read_document(path)
    try:
        datetime.fromisoformat(environment["started_utc"])
        return Evidence(
            spec=spec,
            origins=origins,
            plan=make_plan(
                spec,
                python=str(environment["python"]["executable"]),
                program=str(environment["launcher"]["program"]),
                present=environment["rank_variables"],
            ),
            preflight=tuple(from_document(entry) for entry in environment["preflight"]),
            version=str(environment["mlps"]["version"]),
            outcomes={},
            results={},
            hosts_start=_NO_HOSTS,
            hosts_end=_NO_HOSTS,
            series=None,
        )
    except FORM_ERRORS as error:
        raise ArchiveError(f"{path} lacks what it must hold: {error}") from error


def overrides_text(overrides: Sequence[str]) -> bytes:
    """What overrides.txt holds: one override a line."""
    return "".join(f"{line}\n" for line in overrides).encode()


def read_hosts_file(archive: Archive, name: str) -> HostFacts:
    """The facts of the hosts, as a file of the archive holds them. Raises ArchiveError."""
    path = archive.path(name)
    try:
        return read_hosts(files.read_document(path))
    except FORM_ERRORS as error:
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
    except FORM_ERRORS as error:
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
    try:
        if files.read_bytes(path) != canonical_json(document):
            text = f"{path} is not in canonical form: it is not the file that was written"
            raise ArchiveError(text)
        return build(document, {})
    except ConfigError as error:
        raise ArchiveError(f"{path}: {error.message}") from error
    except FORM_ERRORS as error:
        raise ArchiveError(f"{path} is no job: {error}") from error


# ---------------------------------------------------------------- what can be read of it


@dataclass(slots=True)
class Reading:
    """What can be read of an archive: `evidence` without the files named in `lost`.

    `lost` grows by each file that cannot be read, for which there is one finding.
    """

    archive: Archive
    lost: set[str]
    evidence: Evidence | None = None
    findings: list[Finding] = field(default_factory=list)

    def take(self, name: str, rule: str, read: Callable[[], _Read]) -> _Read | None:
        """What a file holds; None where it is lost, or is now."""
        if name in self.lost:
            return None
        try:
            return read()
        except ArchiveError as error:
            text = error.message
        except FORM_ERRORS as error:
            text = f"a document cannot be read: {type(error).__name__}: {error}"
        self.lose(name, rule, text)
        return None

    def lose(self, name: str, rule: str, text: str) -> None:
        """A file whose content is of no use, and why."""
        self.lost.add(name)
        self.findings.append(Finding(rule=rule, severity="error", key=name, text=text))


def read_what_there_is(archive: Archive, lost: Collection[str]) -> Reading:
    """All evidence but that of lost files; one finding for each file that cannot be used."""
    reading = Reading(archive=archive, lost=set(lost))
    if reading.lost & {files.JOB, files.PROVENANCE, files.ENVIRONMENT}:
        return reading
    spec = reading.take(files.JOB, "EVD-03", lambda: read_job(archive))
    origins = reading.take(files.PROVENANCE, "EVD-03", lambda: _read_provenance(archive))
    if spec is None or origins is None:
        return reading
    inputs = reading.take(
        files.ENVIRONMENT, "EVD-03", lambda: _read_environment(archive, spec, origins)
    )
    if inputs is None:
        return reading
    outcomes, results = _read_stages(reading, inputs)
    series = reading.take(
        files.SERIES_GZ, "EVD-03", lambda: read_series_file(archive, spec, results)
    )
    start, end = (
        reading.take(name, "EVD-03", partial(read_hosts_file, archive, name))
        for name in (files.HOSTS_START, files.HOSTS_END)
    )
    reading.evidence = replace(
        inputs,
        outcomes=outcomes,
        results=results,
        hosts_start=start or _NO_HOSTS,
        hosts_end=end or _NO_HOSTS,
        series=series,
    )
    return reading


def _read_stages(
    reading: Reading, inputs: Evidence
) -> tuple[dict[str, Document], dict[str, Document]]:
    """What outcome.json and result.json of stages hold, by launch name."""
    archive = reading.archive
    outcomes: dict[str, Document] = {}
    results: dict[str, Document] = {}
    launches = {launch.name: launch for launch in inputs.plan.launches}
    missing = [name for name in launches if not archive.path(f"stages/{name}").is_dir()]
    if missing and not reading.lost & {files.stage_file(missing[0], files.OUTCOME)}:
        text = f"stages of the plan are not in the archive: {', '.join(missing)}"
        reading.findings.append(Finding(rule="EVD-06", severity="error", key="stages", text=text))
    reading.lost |= {files.stage_file(name, files.OUTCOME) for name in missing}
    strangers = []
    for name, launch in launches.items():
        place = files.stage_file(name, files.OUTCOME)
        outcome = reading.take(place, "EVD-03", partial(_outcome, archive, place))
        if outcome is not None:
            outcomes[name] = outcome
        place = files.stage_file(name, files.RESULT)
        if outcome is None or not archive.path(place).is_file():
            continue
        result: Any = reading.take(
            place, "EVD-03", partial(files.read_document, archive.path(place))
        )
        if place in reading.lost:
            continue
        if result is not None and {*outcome["job_sha256"]} - {inputs.spec.sha256}:
            strangers.append(name)
            reading.lost.add(place)
            continue
        flaws: list[str] = []
        if outcome["status"] in USABLE and not launch.is_foreign:
            flaws = result_flaws(result, launch, inputs.spec.sha256, _table(outcome))
            flaws = flaws or _window_flaws(result)
        if flaws:
            reading.lose(place, "EVD-06", f"is no result of this stage: {'; '.join(flaws)[:500]}")
        else:
            results[name] = result
    if strangers:
        text = f"ranks had another job than the archived one: {', '.join(strangers)}"
        reading.findings.append(Finding(rule="EVD-06", severity="error", key="stages", text=text))
    return outcomes, results


def _outcome(archive: Archive, name: str) -> Document:
    document = files.read_document(archive.path(name))
    if not isinstance(document, dict) or any(key not in document for key in _OUTCOME_KEYS):
        raise ArchiveError(f"{archive.path(name)} is no outcome of a stage")
    known: Document = document
    return known


def _window_flaws(result: Document) -> list[str]:
    window = result["window"] or {}
    return [
        f"window.{name} is a number that no clock shows"
        for name, value in window.items()
        if not abs(value) < LONGEST_S
    ]


def _table(outcome: Document) -> RankTable:
    """Who reported, as far as an outcome tells."""
    return RankTable(
        places=(("", 0),) * int(outcome["ranks_reported"]),
        job_sha256=dict(outcome["job_sha256"]),
    )
