"""From archives to the files of a package: what stands where, and what it holds.

All follows from the archives, the name of the submitter, the names of the systems and the code
images: the same files come of them when a package is made and when it is verified.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .. import archive as archives
from ..archive import Archive
from ..canonical import Document, pretty_json, sha256_hex
from ..evidence import Evidence
from ..rules import Finding
from ..tables import csv_text
from ..tree.documents import LeafDocuments, is_metadata
from ..tree.layout import Division, is_name
from ..tree.rows import COLUMNS, PREFIX, Row, row_of
from .files import LAYOUT_VERSION, run_files
from .leaves import Place, Run, runs_of

MANIFEST = "submission.yaml"
ARCHIVES = ".mlps/archives"
IMAGES = "code-images"
TABLES = ("results.json", "results.csv")
UNDESCRIBED = "undescribed"

_DIVISIONS: Mapping[str, Division] = {"CLOSED": "closed", "OPEN": "open"}
# Files of a run that the results table is made of.
_TOLD = ("summary.json", "statistics.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A code image: its pointer, and the SHA-256 that archives name the same code by."""

    pointer: str
    content_sha256: str
    files: int

    @property
    def name(self) -> str:
        """The directory of the image."""
        return f"code-{self.pointer.rpartition(':')[2][:8]}"

    def as_document(self) -> Document:
        return {
            "name": self.name,
            "hash": self.pointer,
            "content_sha256": self.content_sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What came of one archive: its entry of submission.yaml, its row, and what to say of it."""

    place: Place
    run_id: str
    workload: str
    entry: Document
    row: Row
    image: Image | None


def division_of_verdict(verdict: str) -> Division | None:
    """The division that an archive of this verdict is handed in to; None where to none."""
    return _DIVISIONS.get(verdict)


def system_of(evidence: Evidence, described: Sequence[str]) -> str | None:
    """The system that an archive is of; the only one that is described, where the job names none.

    None where that leaves a choice.
    """
    name = str(evidence.spec.document["system"]["name"])
    if name != UNDESCRIBED:
        return name
    if not described:
        return UNDESCRIBED
    return described[0] if len(described) == 1 else None


def pack(
    archive: Archive,
    evidence: Evidence,
    place: tuple[Division, str, str],
    images: Mapping[str, Image],
    give: Callable[[str, bytes], None],
) -> Packed | None:
    """Give every file of an archive's runs with its path; None where v3.0 has no place for it."""
    environment = archives.read_document(archive.path(archives.ENVIRONMENT))
    image = images.get(environment["mlps"]["content_sha256"])
    division, org, system = place
    where = Place(
        division=division, org=org, system=system, image=None if image is None else image.pointer
    )
    runs = runs_of(evidence, where)
    if not runs or not is_name(runs[0].leaf.model):
        return None
    leaves = []
    for run in runs:
        sizes: dict[str, int] = {}
        told: dict[str, object] = {}
        for name, content in run_files(archive, evidence, where, run):
            give(f"{run.leaf.path}/{name}", content)
            sizes[name] = len(content)
            if name.endswith(_TOLD) or is_metadata(name):
                told[name] = json.loads(content)
        leaves.append(LeafDocuments(leaf=run.leaf, files=sizes, documents=told))
    workload = runs[0].leaf.workload
    row = row_of(workload, leaves, 0)
    for name, content in tables_of([row]):
        give(f"{workload}/{name}", content)
    return Packed(
        place=where,
        run_id=archive.run_id,
        workload=workload,
        entry=_entry(archive, evidence, where, runs),
        row=row,
        image=image,
    )


def _entry(archive: Archive, evidence: Evidence, place: Place, runs: Sequence[Run]) -> Document:
    manifest = archives.read_bytes(archive.path(archives.MANIFEST))
    return {
        "run_id": archive.run_id,
        "system": place.system,
        "manifest_sha256": sha256_hex(manifest),
        "benchmark": evidence.spec.benchmark,
        "edition": evidence.spec.edition,
        "mlps_version": evidence.version,
        "code_image": place.image or "unknown",
        "runs": [
            {
                "path": run.leaf.path.split("/", 2)[2],
                "model": run.leaf.model,
                "command": run.leaf.phase or "run",
                "stages": [launch.name for launch in run.launches],
            }
            for run in runs
        ],
    }


# ---------------------------------------------------------------- what all archives come to


def tables_of(rows: Sequence[Row]) -> list[tuple[str, bytes]]:
    """results.json and results.csv of rows; the CSV has one line for each metric."""
    lines = [
        (*row.prefix, name, "" if value is None else repr(value))
        for row in rows
        for name, value in zip(COLUMNS[row.family], row.values, strict=True)
    ]
    header = (*PREFIX, "metric", "value")
    return [
        (TABLES[0], pretty_json([row.as_document() for row in rows])),
        (TABLES[1], csv_text(header, lines).encode()),
    ]


def submission_of(
    division: str, org: str, packed: Sequence[Packed], systems: Mapping[str, str]
) -> bytes:
    """submission.yaml of one division; `systems` are SHA-256 of descriptions. No clock is in it."""
    images = {each.image.name: each.image for each in packed if each.image is not None}
    document = {
        "schema": "mlps-submission-manifest/1",
        "org": org,
        "division": division,
        "layout_version": LAYOUT_VERSION,
        "timestamps": "UTC",
        "systems": {
            name: {"description_sha256": systems.get(name)}
            for name in sorted({each.place.system for each in packed})
        },
        "archives": [each.entry for each in sorted(packed, key=lambda each: each.run_id)],
        "code_images": [images[name].as_document() for name in sorted(images)],
    }
    return archives.to_yaml(document)


def division_files(
    division: str, org: str, packed: Sequence[Packed], systems: Mapping[str, str]
) -> list[tuple[str, bytes]]:
    """Path and content of the files of a division that follow from all of its archives."""
    ordered = sorted(packed, key=lambda each: each.workload)
    home = f"{division}/{org}"
    tables = tables_of([each.row for each in ordered])
    return [
        (f"{home}/{MANIFEST}", submission_of(division, org, packed, systems)),
        *((f"{home}/{name}", content) for name, content in tables),
    ]


def collisions(packed: Sequence[Packed]) -> list[Finding]:
    """SUB-10: archives that take the same place; each pair is named."""
    first: dict[str, Packed] = {}
    found = []
    for each in sorted(packed, key=lambda each: each.run_id):
        other = first.setdefault(each.workload, each)
        if other is not each:
            text = f"is an attempt at {each.workload}, and so is {other.run_id}"
            found.append(_about("SUB-10", "error", each.run_id, text, "package one of them"))
    return found


def without_image(packed: Sequence[Packed]) -> list[Finding]:
    """SUB-12: archives whose code is in no image."""
    text = "was made by code that is not installed here, so that no image of it can be in a package"
    return [
        _about("SUB-12", "warning", each.run_id, text, "package it where it was run")
        for each in packed
        if each.image is None
    ]


def _about(
    rule: str, severity: Literal["error", "warning"], run_id: str, text: str, hint: str
) -> Finding:
    key = f"{ARCHIVES}/{run_id}"
    return Finding(rule=rule, severity=severity, key=key, text=text, hint=hint)
