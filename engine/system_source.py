"""The description of the system of a job: from its own file, and judged before and after a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .canonical import Document
from .compose import Composition, Origin
from .errors import ArchiveError, Problem
from .host_documents import HostFacts
from .rules import Finding, errors
from .spec import JobSpec
from .system_clients import judge_clients
from .system_file import read_system
from .system_rules import judge_system, normalised


def find_description(composition: Composition) -> Composition:
    """The composition with the description that `system.file` names, or with a problem more.

    The system is called what the file calls it, unless the job has a name for it.
    """
    system = composition.values.get("system")
    if not isinstance(system, dict) or not isinstance(system.get("file"), str):
        return composition
    told = composition.origins.get("system.file")
    try:
        if system.get("description") is not None:
            raise ArchiveError("a description comes from a file or stands in the option, not both")
        found = read_system(Path(system["file"]))
    except ArchiveError as error:
        problem = Problem(
            key="system.file",
            text=error.message,
            where="" if told is None else told.where,
            hint=error.hint,
        )
        return replace(composition, problems=(*composition.problems, problem))
    values: Document = {"description": found.description}
    named = composition.origins.get("system.name")
    # The packaged option's name says that there is no description.
    if named is None or named.kind == "packaged":
        values["name"] = found.name
    origin = Origin(kind="found", where=f"file {system['file']}")
    return replace(
        composition,
        values=composition.values | {"system": system | values},
        origins=composition.origins | {f"system.{key}": origin for key in values},
    )


def judge_described(spec: JobSpec, hosts: HostFacts | None = None) -> Iterator[Finding]:
    """What is wrong with the description of a job's system, also by the hosts that ran.

    A submission needs a description without errors; a run is not lost for want of one, so that
    here they are warnings. In whatif nobody needs one.
    """
    system = spec.document["system"]
    if system["description"] is None:
        if spec.division.name != "whatif":
            yield Finding(
                rule="SYS-18",
                severity="warning",
                key="system.description",
                text="missing: a submission needs a description of the system under test",
                hint="mlps system init NAME makes a skeleton from the facts of the hosts",
            )
        return
    found = judge_system(system["description"], name=system["name"])
    if hosts is not None and not any(each.rule in ("SYS-18", "SYS-19") for each in found):
        found += judge_clients(normalised(system["description"])[0], hosts)
    grave = errors(found)
    for finding in found:
        key = f"system.description.{finding.key}"
        severity = "warning" if finding in grave else finding.severity
        yield replace(finding, key=key, severity=severity)
