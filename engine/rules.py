"""What rules find: their form, and the rules of composed jobs and of how stages ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from .canonical import Document
from .compose import Origin, flatten
from .errors import ConfigError
from .foreign import FAMILY as FOREIGN
from .rule_rows import SKIPPABLE
from .rulebook import Severity
from .spec import JobSpec
from .tables import printable

# Reasons of an outcome that somebody asked for.
STOPPED = ("stop", "killed")

# Variables of s3dlio, the library through which benchmarks reach object storage, begin so.
TUNING = "S3DLIO_"

# What an edition of the user's own fixes as it likes: its limits, and its workloads.
_OF_EDITION = ("edition.", "benchmark.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a rule says about a job, a machine or an archive."""

    rule: str
    severity: Severity
    text: str
    key: str = ""
    hint: str | None = None
    host: str | None = None

    def as_document(self) -> Document:
        return {
            "rule": self.rule,
            "severity": self.severity,
            "key": self.key,
            "text": self.text,
            "hint": self.hint,
            "host": self.host,
        }

    def __str__(self) -> str:
        place = " ".join(printable(part) for part in (self.host, self.key) if part)
        head = f"{self.severity} {self.rule}" + (f" {place}" if place else "")
        hint = f"\n  hint: {printable(self.hint)}" if self.hint else ""
        return f"{head}: {printable(self.text)}{hint}"


def from_document(entry: Document) -> Finding:
    """A finding as an archive holds it."""
    return Finding(**{name: entry[name] for name in Finding.__slots__})


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that make a result invalid."""
    return [finding for finding in findings if finding.severity == "error"]


# ---------------------------------------------------------------- before the run


def check_skips(spec: JobSpec) -> None:
    """Raise ConfigError where `preflight.skip` names what is no rule of preflight."""
    unknown = [name for name in spec.preflight.skip if name not in SKIPPABLE]
    if unknown:
        raise ConfigError(
            f"preflight.skip: {', '.join(unknown)}: no rule that can be skipped",
            hint=f"there are: {', '.join(SKIPPABLE)}",
        )


def judge_job(spec: JobSpec, origins: Mapping[str, Origin]) -> list[Finding]:
    """Whether the job would count in its division, before anything is touched."""
    findings = []
    division = spec.division
    if not division.any_workload and spec.benchmark not in spec.workloads:
        akin = [name for name in spec.workloads if name.partition("/")[0] == spec.family]
        known = f"scored{f' of {spec.family}' if akin else ''} are: "
        known += ", ".join(akin or spec.workloads) or "none"
        findings.append(
            Finding(
                rule="JOB-01",
                severity="error",
                key="benchmark.name",
                text=f"{spec.benchmark} is not scored in division {division.name} of edition "
                f"{spec.edition}; {known}",
                hint="division=whatif",
            )
        )
    values = flatten(spec.document)
    own_edition = "edition.name" in origins and origins["edition.name"].kind == "user"
    if own_edition:
        findings.append(_own_edition(spec))
    for key, origin in origins.items():
        if key not in values or not _changed(values[key], origin):
            continue
        if own_edition and origin.kind == "user" and key.startswith(_OF_EDITION):
            continue
        if _is_rule(key, spec) or not any(fnmatchcase(key, form) for form in division.may_change):
            findings.append(
                Finding(
                    rule="JOB-02",
                    severity="error",
                    key=key,
                    text=f"may not be changed in division {division.name} ({origin.where})",
                    hint=_may_change_hint(key, division.may_change),
                )
            )
    if spec.family == FOREIGN:
        findings += _ignored_keys(spec.document, origins)
    if spec.selected is not None:
        findings.append(_partial_stages(spec))
    if not spec.cluster.is_even:
        findings.append(_uneven_ranks(spec))
    if division.name == "closed":
        findings += _undeclared_tuning(spec)
    return findings


def _may_change_hint(key: str, may_change: Iterable[str]) -> str:
    """What to do about JOB-02, with the nearest key that the division lets change."""
    text = "leave it out, or choose another division"
    named = {form.rpartition(".")[2]: form for form in may_change if "*" not in form}
    near = get_close_matches(key.rpartition(".")[2], named, n=1)
    return f"{text}; the nearest key that may be changed is {named[near[0]]}" if near else text


def _own_edition(spec: JobSpec) -> Finding:
    return Finding(
        rule="JOB-05",
        severity="warning",
        key="edition",
        text=f"edition {spec.edition} and its workloads are not those that mlps ships: the verdict "
        "is that of this edition alone",
        hint="edition=v3_0",
    )


def _is_rule(key: str, spec: JobSpec) -> bool:
    """Whether a key holds what this job is judged by; its own value cannot excuse its change."""
    return spec.division.name != "whatif" and key.startswith(("division.", "edition."))


def _ignored_keys(document: Document, origins: Mapping[str, Origin]) -> Iterator[Finding]:
    """EXT-02: keys of a foreign program that somebody has set, and that it does not read."""
    benchmark, values = document["benchmark"], flatten(document)
    keys = [key for key, origin in origins.items() if key in values]
    keys = [key for key in keys if _changed(values[key], origins[key])]
    for option in benchmark["options"]:
        keys += [f"benchmark.{key}" for key in flatten(option["set"])]
    for entry in benchmark["ignored"]:
        key = f"benchmark.{entry['key']}"
        if any(each == key or each.startswith(f"{key}.") for each in keys):
            yield Finding(
                rule="EXT-02",
                severity="warning",
                key=key,
                text=f"{benchmark['measured_by']} ignores it: {entry['why']}",
                hint="leave it out",
            )


def breach(spec: JobSpec) -> Severity:
    """How grave it is to break a rule of the edition: whatif says it, other divisions refuse."""
    return "warning" if spec.division.name == "whatif" else "error"


def remark(spec: JobSpec) -> Severity:
    """How grave it is to miss the form of a score: any run for trial does, worth a remark alone."""
    return "info" if spec.division.name == "whatif" else "error"


def _partial_stages(spec: JobSpec) -> Finding:
    left = [
        stage.name
        for stage in spec.stages
        if stage.when != "never" and stage.name not in (spec.selected or ())
    ]
    return Finding(
        rule="JOB-03",
        severity=breach(spec),
        key="stages",
        text=f"stages left out: {', '.join(left) or 'none'}",
    )


def _uneven_ranks(spec: JobSpec) -> Finding:
    hosts = spec.cluster.hosts
    least = min(hosts, key=lambda host: host.ranks)
    most = max(hosts, key=lambda host: host.ranks)
    return Finding(
        rule="JOB-04",
        severity=breach(spec),
        key="cluster.ranks_per_host",
        text=f"{least.name} has {least.ranks} ranks, {most.name} has {most.ranks}",
        hint=f"cluster.ranks_per_host={least.ranks}",
    )


def _changed(value: object, origin: Origin) -> bool:
    if origin.kind == "packaged":
        return False
    return origin.kind in ("user", "found") or value != origin.default


def _undeclared_tuning(spec: JobSpec) -> Iterator[Finding]:
    """JOB-06: variables whose values are those of somebody's shell, which no archive holds.

    Ranks get what these two keys let through and what `launcher.env`, or the environment of a
    foreign program, sets to a value that stands in the job.
    """
    launcher = spec.launcher
    for key, forms in (
        ("launcher.forward_env", launcher.forward_env),
        ("launcher.scheduler_env", launcher.scheduler_env),
    ):
        for form in forms:
            if _lets_tuning_through(form) and form not in launcher.env:
                name = f"{TUNING}NAME" if "*" in form else form
                yield Finding(
                    rule="JOB-06",
                    severity="error",
                    key=key,
                    text=f"{form} takes what the shell has; the job must hold the value "
                    "(Rules 1.2)",
                    hint=f"leave it out; or 'launcher.env.{name}=\"VALUE\"'",
                )


def _lets_tuning_through(form: str) -> bool:
    start, star, _ = form.partition("*")
    return start.startswith(TUNING) or bool(star and TUNING.startswith(start))


# ---------------------------------------------------------------- after the run


def judge_outcomes(outcomes: Iterable[Document]) -> list[Finding]:
    """Findings about stages that did not end as they must; takes what outcome.json holds."""
    findings = []
    for outcome in outcomes:
        if outcome["status"] == "complete":
            continue
        rule = "RUN-02" if outcome["reason"] in STOPPED else "RUN-01"
        if outcome["status"] == "not_run":
            text = f"was not run: {outcome['message']}"
        else:
            text = f"{outcome['status']} ({outcome['reason']}): {outcome['message']}"
        findings.append(Finding(rule=rule, severity="error", key=outcome["name"], text=text))
    return findings
