"""Makes a package: reads archives, verifies each in full, and writes a tree whole or not at all."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import archive as archives
from ..canonical import Document, sha256_hex
from ..errors import ArchiveError, ComplianceError, ConfigError
from ..plain_files import read_bytes
from ..rules import Finding, errors
from ..system_rules import judge_file
from ..tables import numbered
from ..tree.layout import is_name
from ..verify import read_and_verify
from .images import installed_image, write_image
from .leaves import Place, runs_of
from .plan import (
    ARCHIVES,
    Image,
    Packed,
    division_files,
    division_of_verdict,
    pack,
    system_of,
    without_image,
)

MOST_FILE_BYTES = 100_000_000
MOST_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a package is to be made of: archives, descriptions and pictures of systems."""

    archives: tuple[Path, ...]
    org: str
    out: Path
    systems: tuple[Path, ...]
    pdfs: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made of it: its files and their bytes, and what is missing for a submission."""

    packed: tuple[Packed, ...]
    files: int
    size_bytes: int
    findings: tuple[Finding, ...]


def make_package(wish: Wish) -> Made:
    """Write a package to `out`, which must not be there or be empty.

    Raises ConfigError for wrong names, ComplianceError for archives that cannot be handed in,
    ArchiveError where something cannot be read or written; nothing is left at `out` then.
    """
    _check(wish)
    partial = wish.out.with_name(f".{wish.out.name}.{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        packed, findings = _write(wish, partial)
        files, size_bytes, large = sizes_of(partial)
        partial.rename(wish.out)
    except OSError as error:
        raise ArchiveError(f"{wish.out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Made(
        packed=tuple(packed), files=files, size_bytes=size_bytes, findings=(*findings, *large)
    )


def _check(wish: Wish) -> None:
    if not is_name(wish.org):
        raise ConfigError(
            f"--org {wish.org!r} is no name of a submitter", hint="letters, digits, '.', '_', '-'"
        )
    if wish.out.is_symlink() or (
        wish.out.exists() and (not wish.out.is_dir() or any(wish.out.iterdir()))
    ):
        raise ConfigError(f"{wish.out} is there already", hint="--out names a new directory")
    for flag, paths, suffix in (
        ("--system", wish.systems, ".yaml"), ("--pdf", wish.pdfs, ".pdf"),
    ):  # fmt: skip
        for path in paths:
            if not path.is_file() or path.suffix != suffix or not is_name(path.stem):
                raise ConfigError(
                    f"{flag} {path}: no file NAME{suffix}",
                    hint="NAME has letters, digits, '.', '_' and '-'",
                )
        if len({path.stem for path in paths}) < len(paths):
            raise ConfigError(f"{flag}: two files have the same name")
    described = {path.stem for path in wish.systems}
    stray = [path.name for path in wish.pdfs if path.stem not in described]
    if stray:
        raise ConfigError(f"--pdf {stray[0]}: no --system has that name")


def _write(wish: Wish, root: Path) -> tuple[list[Packed], list[Finding]]:
    """Everything but the move to its place; one archive is in memory at a time."""
    image = installed_image()
    described = [path.stem for path in wish.systems]
    packed: list[Packed] = []
    taken: dict[str, Path] = {}
    told: dict[str, bytes] = {}
    for path in wish.archives:
        images = {image.content_sha256: image}
        packed.append(_pack(path, wish.org, described, images, root, taken, told))
    if any(each.image is not None for each in packed):
        write_image(image, root)
    told |= {path.stem: read_bytes(path) for path in wish.systems}
    systems = {name: sha256_hex(content) for name, content in told.items()}
    findings = _write_systems(wish, root, packed, told)
    for division in sorted({each.place.division for each in packed}):
        of_division = [each for each in packed if each.place.division == division]
        for name, content in division_files(division, wish.org, of_division, systems):
            writer(root)(name, content)
    return packed, [*findings, *without_image(packed)]


def _pack(
    path: Path,
    org: str,
    described: Sequence[str],
    images: Mapping[str, Image],
    root: Path,
    taken: dict[str, Path],
    told: dict[str, bytes],
) -> Packed:
    """One archive and what follows from it; `told` gets the description that its job holds."""
    verification, evidence = read_and_verify(path)
    division = division_of_verdict(verification.verdict)
    if verification.exit_code or division is None or evidence is None:
        wrong = [*verification.findings, *errors(verification.judged)]
        more = "".join(f"\n  {finding}" for finding in wrong[:5])
        raise ComplianceError(
            f"{path} cannot be handed in: its verdict is {verification.verdict}, and that must be "
            f"CLOSED or OPEN of an archive without flaws{more}",
            hint=f"mlps verify {path}",
        )
    system = system_of(evidence, described)
    if system is None or (described and system not in described):
        raise ComplianceError(
            f"{path} is of the system {evidence.spec.document['system']['name']}, and there are "
            f"descriptions of {', '.join(described)}",
            hint="--system SYSTEM.yaml is named for its system",
        )
    _keep_description(path, system, evidence.spec.document["system"]["description"], told)
    archive = archives.open_archive(path)
    runs = runs_of(evidence, Place(division=division, org=org, system=system, image=None))
    workload = runs[0].leaf.workload if runs else ""
    if workload in taken:
        raise ComplianceError(
            f"{path} is an attempt at {workload}, and so is {taken[workload]} (Rules 2.1.17)",
            hint="package one of them",
        )
    taken[workload] = path
    done = pack(archive, evidence, (division, org, system), images, writer(root))
    if done is None:
        raise ComplianceError(f"{path}: v3.0 has no place for {evidence.spec.benchmark}")
    for name in (*archives.file_names(archive), archives.MANIFEST):
        target = root / ARCHIVES / archive.run_id / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(archive.path(name), target)
    return done


def _keep_description(
    path: Path, system: str, description: Document | None, told: dict[str, bytes]
) -> None:
    """The description of a system as the jobs of its archives hold it, which must agree (2.1.9)."""
    if description is None:
        return
    content = archives.to_yaml(description)
    if told.setdefault(system, content) != content:
        raise ComplianceError(
            f"{path} describes {system} otherwise than the archives before it (Rules 2.1.9)",
            hint=f"--system {system}.yaml, if it is the same system",
        )


def writer(root: Path) -> Callable[[str, bytes], None]:
    """Writes a file below a directory; each has one writer only. Raises OSError."""

    def write(name: str, content: bytes) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)

    return write


def _write_systems(
    wish: Wish, root: Path, packed: Sequence[Packed], told: Mapping[str, bytes]
) -> list[Finding]:
    """Write descriptions to the divisions that their systems are in; judge them, say what lacks."""
    findings = []
    pdfs = {path.stem: path for path in wish.pdfs}
    for division, system in sorted({(each.place.division, each.place.system) for each in packed}):
        home = root / division / wish.org / "systems"
        home.mkdir(parents=True, exist_ok=True)
        if system in told:
            path = home / f"{system}.yaml"
            path.write_bytes(told[system])
            findings += judge_file(path, f"{division}/{wish.org}/systems/{system}.yaml")
        else:
            findings.append(missing_of_system(division, wish.org, system, "yaml"))
        if system in pdfs:
            shutil.copyfile(pdfs[system], home / f"{system}.pdf")
        else:
            findings.append(missing_of_system(division, wish.org, system, "pdf"))
    return findings


def missing_of_system(division: str, org: str, system: str, ending: str) -> Finding:
    """SUB-09: a description is needed; a pdf may follow, as people draw it."""
    flag = {"yaml": "--system", "pdf": "--pdf"}[ending]
    return Finding(
        rule="SUB-09",
        severity="error" if ending == "yaml" else "warning",
        key=f"{division}/{org}/systems/{system}.{ending}",
        text="is missing",
        hint=f"mlps package ... {flag} {system}.{ending}",
    )


def sizes_of(root: Path) -> tuple[int, int, list[Finding]]:
    """Files of a package and their bytes; SUB-11 for what is larger than a site takes."""
    sizes = [
        (path.relative_to(root).as_posix(), path.stat().st_size)
        for path in root.rglob("*")
        if path.is_file()
    ]
    total = sum(size for _, size in sizes)
    large = [
        Finding(
            rule="SUB-11", severity="warning", key=name, text=f"has {size / 1e6:,.0f} MB, over 100"
        )
        for name, size in sizes
        if size > MOST_FILE_BYTES
    ]
    if total > MOST_BYTES:
        text = f"{numbered(len(sizes), 'file')} with {total / 1e9:.1f} GB in all, over 2"
        large.append(Finding(rule="SUB-11", severity="warning", key=".", text=text))
    return len(sizes), total, large
