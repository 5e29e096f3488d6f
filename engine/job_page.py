"""Reads what the page of an archive is made from; the page itself is drawn by `page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from . import archive as files
from .archive import Archive
from .canonical import Document, canonical_json
from .environment import content_sha256
from .evidence import Evidence
from .host_documents import machine_of
from .page.document import job_page
from .page.samples import Behind, read_rates
from .page.source import Source, Stage

# What drawing raises for a document of another form than this version writes.
UNDRAWABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def draw_page(archive: Archive, evidence: Evidence, result: Document, verdict: Document) -> bytes:
    """The page of report.html. Raises ArchiveError, or one of UNDRAWABLE."""
    sampled = archive.path(files.SERIES_GZ).is_file()
    hosts = evidence.hosts_start.facts
    stages = [
        Stage(
            name=launch.name,
            measured=launch.measured,
            outcome=_as_read(evidence.outcomes[launch.name]),
            result=_as_read(evidence.results.get(launch.name)),
        )
        for launch in evidence.plan.launches
    ]
    return job_page(
        Source(
            result=_as_read(result),
            verdict=_as_read(verdict),
            job=_as_read(evidence.spec.document),
            origins=_as_read({key: each.as_document() for key, each in evidence.origins.items()}),
            stages=stages,
            facts={name: _as_read(facts) for name, facts in hosts.items()},
            rates=read_rates(files.series_lines(archive), behind_data(hosts)) if sampled else None,
        )
    )


def behind_data(hosts: Mapping[str, Document]) -> dict[str, Behind]:
    """What counts the bytes of data_dir on each host, so that each byte is counted once.

    That are disks, whole and below all layers, as the probe names them; not those of results_dir
    alone. Of containers of one machine, which show the same counters, it is the first that counts.
    """
    found: dict[str, Behind] = {}
    seen: set[tuple[str, str]] = set()
    for name, facts in hosts.items():
        place = facts.get("data_dir") or {}
        blocks, mount = place.get("blocks"), f"mount of {place.get('source')}"
        machine = machine_of(name, facts)
        own = {(machine, each) for each in (*(blocks if isinstance(blocks, list) else ()), mount)}
        new = {thing for _, thing in own - seen}
        seen |= own
        found[name] = Behind(disks=frozenset(new - {mount}), mount=mount in new)
    return found


def _as_read(document: Any) -> Any:  # noqa: ANN401 - any document, as it is
    """A document as an archive gives it back: its keys are in the order of canonical JSON."""
    return json.loads(canonical_json(document))


def is_redrawable(archive: Archive) -> bool:
    """Whether the page was drawn by the very code that runs now."""
    if not archive.path(files.PAGE).is_file():
        return False
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    return bool(environment["mlps"]["content_sha256"] == content_sha256())
