"""Compares a package with what follows from its archives, each of which is verified in full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from .. import archive as archives
from ..canonical import sha256_file
from ..errors import ArchiveError
from ..evidence import FORM_ERRORS
from ..plain_files import is_junk, read_bytes, read_yaml, walk
from ..rules import Finding, errors
from ..tree.layout import DIVISIONS, Division, is_name
from ..verify import first_difference, read_and_verify
from .images import read_images
from .plan import (
    ARCHIVES,
    IMAGES,
    MANIFEST,
    TABLES,
    UNDESCRIBED,
    Image,
    Packed,
    collisions,
    division_files,
    division_of_verdict,
    pack,
    without_image,
)
from .write import missing_of_system

# Fewer archives than this are read faster by one process.
_FEW = 8
_SHOWN = 20

Where = tuple[Division, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    """A division of a submitter: by submission.yaml, the system and paths of each archive."""

    division: Division
    org: str
    systems: Mapping[str, str]
    paths: Mapping[str, tuple[str, ...]]

    @property
    def path(self) -> str:
        return f"{self.division}/{self.org}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What one archive of a package came to; `packed` is None where nothing follows from it."""

    run_id: str
    packed: Packed | None
    findings: tuple[Finding, ...]
    expected: frozenset[str]


def is_package(root: Path) -> bool:
    """Whether a directory was made by `mlps package`."""
    return (root / ARCHIVES).is_dir()


def verify_package(root: Path) -> Iterator[Finding]:
    """Findings as they are found. Raises ArchiveError where the directory cannot be listed."""
    images, flaws = read_images(root)
    yield from flaws
    homes: list[_Home] = []
    complete = True
    excused = [f"{ARCHIVES}/", f"{IMAGES}/"]
    for division, org in _submitters(root):
        home = _read_home(root, division, org)
        if isinstance(home, _Home):
            homes.append(home)
        else:
            excused.append(f"{division}/{org}/")
            complete = False
            yield home
    places = {run_id: _place(home, run_id) for home in homes for run_id in home.systems}
    yield from _unlisted(root, places, complete=complete)
    reads = list(_read_all(root, places, images))
    for each in reads:
        yield from each.findings
    yield from _judge_whole(root, homes, reads, excused)
    if complete and all(each.packed is not None for each in reads):
        used = {each.packed.image.name for each in reads if each.packed and each.packed.image}
        for image in images.values():
            if image.name not in used and len(reads) == len(places):
                yield _error("SUB-08", f"{IMAGES}/{image.name}", "is named by no run")


def _submitters(root: Path) -> Iterator[tuple[Division, str]]:
    """Divisions and submitters by the names of their directories."""
    divisions: tuple[Division, ...] = ("closed", "open")
    for division in divisions:
        if (root / division).is_dir():
            names = sorted(path.name for path in (root / division).iterdir() if path.is_dir())
            yield from ((division, name) for name in names if not is_junk(name))


def _read_home(root: Path, division: Division, org: str) -> _Home | Finding:
    key = f"{division}/{org}/{MANIFEST}"
    try:
        document = read_yaml(root / key)
        entries: Any = document["archives"]  # type: ignore[index]
        systems = {str(entry["run_id"]): str(entry["system"]) for entry in entries}
        paths = {
            str(entry["run_id"]): tuple(str(run["path"]) for run in entry["runs"])
            for entry in entries
        }
        wrong = [name for name in (*systems, *systems.values()) if not is_name(name)]
    except ArchiveError as error:
        return _error("SUB-05", key, error.message)
    except FORM_ERRORS:
        return _error("SUB-05", key, "has no list of archives with run_id, system and runs")
    if wrong or len(systems) < len(entries):
        return _error("SUB-05", key, "names an archive twice, or one that has no name")
    return _Home(division=division, org=org, systems=systems, paths=paths)


def _place(home: _Home, run_id: str) -> Where:
    return home.division, home.org, home.systems[run_id]


def _unlisted(root: Path, places: Mapping[str, Where], *, complete: bool) -> Iterator[Finding]:
    """SUB-07: archives that no submission.yaml names, unless one of these cannot be read."""
    present = {path.name for path in (root / ARCHIVES).iterdir() if not is_junk(path.name)}
    if complete:
        for run_id in sorted(present - set(places)):
            yield _error("SUB-07", f"{ARCHIVES}/{run_id}", f"no {MANIFEST} names it")
    for run_id in sorted(set(places) - present):
        yield _error("SUB-07", f"{ARCHIVES}/{run_id}", f"is missing, and {MANIFEST} names it")


def _read_all(
    root: Path, places: Mapping[str, Where], images: Mapping[str, Image]
) -> Iterator[_Read]:
    """Every archive that is there, in the order of their names."""
    there = [run_id for run_id in sorted(places) if (root / ARCHIVES / run_id).is_dir()]
    read = partial(_read_archive, root, places, images)
    workers = min(4, os.cpu_count() or 1)
    if len(there) < _FEW or workers < 2:
        yield from map(read, there)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(read, there)


def _read_archive(
    root: Path, places: Mapping[str, Where], images: Mapping[str, Image], run_id: str
) -> _Read:
    """Verify an archive, and compare all files that follow from it with those of the package."""
    key = f"{ARCHIVES}/{run_id}"
    path = root / ARCHIVES / run_id
    found: list[Finding] = []
    expected: set[str] = set()
    try:
        verification, evidence = read_and_verify(path)
    except ArchiveError as error:
        return _nothing(run_id, [_error("SUB-07", key, error.message)])
    wrong = [*verification.findings, *errors(verification.judged)]
    if wrong or evidence is None:
        return _nothing(run_id, [replace(each, key=f"{key}/{each.key}") for each in wrong])
    if division_of_verdict(verification.verdict) != places[run_id][0]:
        text = f"its verdict is {verification.verdict}, and it stands in {places[run_id][0]}"
        return _nothing(run_id, [_error("SUB-01", key, text)])
    named = str(evidence.spec.document["system"]["name"])
    if named not in (UNDESCRIBED, places[run_id][2]):
        text = f"is of the system {named}, and {MANIFEST} says {places[run_id][2]}"
        return _nothing(run_id, [_error("SUB-07", key, text)])

    def compare(name: str, content: bytes) -> None:
        expected.add(name)
        found.extend(_compared(root, name, content))

    packed = pack(archives.open_archive(path), evidence, places[run_id], images, compare)
    if packed is None:
        return _nothing(run_id, [_error("SUB-01", key, "v3.0 has no place for it")])
    return _Read(run_id=run_id, packed=packed, findings=tuple(found), expected=frozenset(expected))


def _nothing(run_id: str, findings: Sequence[Finding]) -> _Read:
    return _Read(run_id=run_id, packed=None, findings=tuple(findings), expected=frozenset())


def _compared(root: Path, name: str, content: bytes) -> Iterator[Finding]:
    """SUB-02, SUB-03, SUB-05, SUB-06: a file that is another than what follows, or is not there."""
    path, last = root / name, name.rpartition("/")[2]
    if not os.path.lexists(path):
        yield _error("SUB-03", name, "is missing")
        return
    try:
        actual = read_bytes(path, len(content) + 1)
    except ArchiveError as error:
        yield _error(_rule_of(last), name, error.message)
        return
    if actual != content:
        yield _error(
            _rule_of(last),
            name,
            f"is not what follows from the archives: {first_difference(actual, content)}",
        )


def _rule_of(name: str) -> str:
    if name in TABLES:
        return "SUB-06"
    return "SUB-05" if name == MANIFEST else "SUB-02"


# ---------------------------------------------------------------- the whole


def _judge_whole(
    root: Path,
    homes: Sequence[_Home],
    reads: Sequence[_Read],
    excused: list[str],
) -> Iterator[Finding]:
    """What all archives together come to, systems, and files that nothing accounts for."""
    expected = {name for each in reads for name in each.expected}
    by_id = {each.run_id: each.packed for each in reads if each.packed is not None}
    packed = list(by_id.values())
    yield from collisions(packed)
    yield from without_image(packed)
    for home in homes:
        here = [by_id[run_id] for run_id in home.systems if run_id in by_id]
        lost = [run_id for run_id in home.systems if run_id not in by_id]
        excused += [f"{home.path}/{path}/" for run_id in lost for path in home.paths[run_id]]
        whole = division_files(home.division, home.org, here, _digests(root, home))
        expected |= {name for name, _ in whole}
        if lost:
            # What follows from an archive that is no more cannot be compared.
            excused += [f"{home.path}/results/"]
        else:
            for name, content in whole:
                yield from _compared(root, name, content)
        yield from _judge_systems(root, home)
    yield from _strangers(root, expected, excused)


def _digests(root: Path, home: _Home) -> dict[str, str]:
    """SHA-256 of the descriptions that are there."""
    found = {}
    for system in {*home.systems.values()}:
        path = root / home.path / "systems" / f"{system}.yaml"
        if path.is_file() and not path.is_symlink():
            found[system] = sha256_file(path)
    return found


def _judge_systems(root: Path, home: _Home) -> Iterator[Finding]:
    for system in sorted({*home.systems.values()}):
        for ending in ("yaml", "pdf"):
            path = root / home.path / "systems" / f"{system}.{ending}"
            if not path.is_file() or path.is_symlink():
                yield missing_of_system(home.division, home.org, system, ending)


def _strangers(root: Path, expected: set[str], excused: Sequence[str]) -> Iterator[Finding]:
    """SUB-04: what nothing accounts for; of a directory that has no place, only its own name."""
    known = {str(parent) for name in expected for parent in PurePosixPath(name).parents}
    begins = tuple(excused)
    strange: list[str] = []
    for entry in walk(root):
        name = entry.name
        if name in expected or name in known or f"{name}/".startswith(begins):
            continue
        if any(each.startswith(f"{name}/") for each in begins) or is_junk(name.rpartition("/")[2]):
            continue
        if _is_system(name) or (strange and name.startswith(tuple(f"{each}/" for each in strange))):
            continue
        strange.append(name)
    for name in strange[:_SHOWN]:
        yield _error("SUB-04", name, "follows from no archive of the package")
    if len(strange) > _SHOWN:
        yield _error("SUB-04", ".", f"{len(strange) - _SHOWN} more follow from no archive")


def _is_system(name: str) -> bool:
    """Whether something is in systems/, where TREE-03 and TREE-04 judge what there is."""
    parts = name.split("/")
    return len(parts) in (3, 4) and parts[0] in DIVISIONS and parts[2] == "systems"


def _error(rule: str, key: str, text: str) -> Finding:
    return Finding(rule=rule, severity="error", key=key, text=text)
