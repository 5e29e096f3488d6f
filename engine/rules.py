"""What must hold of a job and of its results, by rule id; one table for plan, run and verify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from .canonical import Document
from .compose import Origin, flatten
from .errors import ConfigError
from .foreign import FAMILY as FOREIGN
from .spec import JobSpec
from .tables import printable

# Reasons of an outcome that somebody asked for.
STOPPED = ("stop", "killed")

# What an edition of the user's own fixes as it likes: its limits, and its workloads.
_OF_EDITION = ("edition.", "benchmark.")

Severity = Literal["error", "warning", "info"]

# Rule id -> what it demands. The ids of an edition's own rules are those of its text.
RULES: Mapping[str, str] = {
    "JOB-01": "the workload is one that the edition scores in this division",
    "JOB-02": "only keys that the division lets a submitter change differ from the official files",
    "JOB-03": "all stages of the benchmark are run",
    "JOB-04": "every host has the same number of ranks (Rules 6.3.3.1 and 3.3.6)",
    "JOB-05": "the edition is one that mlps ships, as are its workloads",
    "ENV-01": "the launcher's program is installed",
    "ENV-02": "the benchmark's engine starts and states what it needs",
    "ENV-03": "every rank has the memory that the engine needs",
    "ENV-04": "every host can be reached and states its facts",
    "ENV-05": "every host has the mlps that starts the job",
    "ENV-06": "every host has the Python that starts the job",
    "ENV-07": "the launcher and mpi4py on every host are of one MPI",
    "ENV-08": "programs that the benchmark starts are on PATH on every host",
    "ENV-09": "Python packages that the benchmark needs are installed on every host",
    "ENV-10": "the launcher may start ranks for this user",
    "ENV-11": "a trial launch starts every rank on its host",
    "ENV-12": "every rank may open as many files as it needs",
    "ENV-13": "the clocks of the hosts are within 1 s",
    "ENV-14": "ranks may use all cores of their hosts",
    "ENV-15": "no host removes shared memory while ranks use it",
    "ENV-16": "the hosts are alike in memory, cores, software and network",
    "ENV-17": "the launcher has the allocation of its scheduler",
    "PKG-03": "the packages of every host are those of the job's lock file",
    "DIR-01": "data_dir is a directory that the job can write to",
    "DIR-02": "results_dir can be written to",
    "DIR-03": "data_dir and results_dir are different directories",
    "CAP-01": "data_dir has the free space that the job needs",
    "CAP-02": "every rank sees the same data_dir",
    "CAP-03": "data_dir and results_dir are on different file systems",
    "RUN-01": "every stage that was started ended as it must",
    "RUN-02": "nobody stopped the job before its end",
    "RES-01": "every measured stage moved data in its window",
    "RES-02": "no read differed from what was written, and reads were compared",
    "RES-03": "I/O went past the page cache",
    "RES-04": "no latency is longer than the time in which its operation ran",
    "RES-05": "the block device moved the bytes that the benchmark says it moved, within 2 %",
    "RES-06": "the measured window was steady: no drift of more than 10 % that is no chance",
    "RES-07": "a search found a rate that met its limit and was confirmed",
    "RES-08": "the rooflines before and after a measured stage agree within 10 %",
    "RES-09": "the storage kept up with the rate at which requests arrived",
    "RES-10": "what carried out the operations touched storage",
    "RES-11": "the working set is at least 3 times the memory of the hosts",
    "RES-12": "the fastest core for I/O carried out the operations, with all that it uses",
    "RES-13": "a file system that counts moved the bytes that the benchmark says, within 2 %",
    "RES-14": "the network carried the bytes of a network file system, and none of a local one",
    "MON-01": "every host states its facts before the first stage and after the last",
    "MON-02": "no host, mount or limit changes while the job runs",
    "MON-03": "the samples of every host are whole",
    "MON-04": "the processors of the hosts are not what holds up a measured stage",
    "TRC-01": "every line of the trace was used, and in the order of time",
    "TRN-01": "the dataset is as large as Rules 3.1.2 ask for",
    "TRN-02": "the nominal accelerator utilisation reaches what is asked for (Rules 3.3.2)",
    "TRN-03": "the nominal utilisation and DLIO's agree on whether it does",
    "TRN-04": "no epoch was served from memory: storage moved at least 90 % of its bytes",
    "TRN-05": "at most 1 % of the files were in memory after they had been dropped from it",
    "TRN-06": "every epoch was made, with all of its steps",
    "TRN-07": "mlps made the dataset",
    "TRN-08": "the epochs read the files of the dataset that was made or checked",
    "CKP-01": "the memory of all accelerators holds a checkpoint (Rules 4.3.4)",
    "CKP-02": "there are as many accelerators as a score takes (Rules 4.6.1)",
    "CKP-03": "every checkpoint that was planned was written and read",
    "CKP-04": "checkpoints were read from storage, not from memory (Rules 4.3.1)",
    "CKP-05": "the first read begins at most 30 s after the last write (Rules 4.7.1)",
    "CKP-06": "a checkpoint is written once it is durable (Rules 4.3.2)",
    "CKP-07": "checkpoints are whole: scale 1, and a subset only of Llama 3 8B (Rules 4.3.5)",
    "CKP-08": "10 checkpoints are written, or 10 are read, or both (Rules 4.6.3)",
    "CKP-09": "there are more than 4 accelerators on each host (Rules 4.6.2)",
    "CKP-10": "nothing else goes on while checkpoints are written and read",
    "VDB-01": "the dataset has a scale that is scored (Rules 5.1.1)",
    "VDB-02": "vectors and dimension are the same when loaded and when searched (Rules 5.1.2)",
    "VDB-03": "all vectors that are declared are stored (Rules 5.2.1)",
    "VDB-04": "the index that was built is the one that was searched (Rules 5.2.2)",
    "VDB-05": "there are 5 runs (Rules 5.3.1)",
    "VDB-06": "recall is known, is what is asked for, and the same in all trials (Rules 5.3.2)",
    "VDB-07": "a run is long enough and has enough queries (Rules 5.3.3)",
    "VDB-08": "the truth is of these vectors and queries, and covers all of them (Rules 5.3.5)",
    "VDB-09": "queries read from storage, until the end of the run",
    "VDB-10": "what keeps memory from answering is what the job says, and worked",
    "VDB-11": "every answer holds as many ids as were asked for, of vectors, each once",
    "VDB-12": "every request was answered in time, and no backlog grew",
    "VDB-13": "closed searches with Milvus and DISKANN, HNSW or AISAQ (Rules 5.6.2, 5.6.3)",
    "EXT-01": "the numbers of a foreign program are named as its own",
    "EXT-02": "no key is set that the foreign program ignores",
    "EXT-03": "a foreign program leaves every output that its benchmark names",
    "EXT-04": "every metric of a foreign program is in its outputs, as a number",
    "EVD-01": "every file is what was sealed, none is missing, none was added",
    "EVD-02": "the plan follows from the archived job, the job from its files and overrides",
    "EVD-03": "every published number follows from the archived evidence",
    "EVD-04": "the verdict follows from the archived evidence",
}


# Rules of preflight, which `preflight.skip` may name.
SKIPPABLE = tuple(rule for rule in RULES if rule.startswith(("ENV-", "PKG-", "DIR-", "CAP-")))


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
