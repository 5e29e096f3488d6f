"""Code images: the files of mlps that ran, under hashes that are made anew from them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..canonical import Document, pretty_json, sha256_hex
from ..environment import content_of, mlps_version, source_files
from ..errors import ArchiveError
from ..plain_files import read_bytes, read_json, walk
from ..rules import Finding
from .plan import IMAGES, Image

HASHES = ".code-hash.json"
ALGORITHM = "md5-tree-v2"


def installed_image() -> Image:
    """The image of the code that runs now. Raises ArchiveError where a file cannot be read."""
    return _image_of(source_files())


def write_image(image: Image, root: Path) -> None:
    """Copy the installed code into a package. Raises OSError."""
    home = root / IMAGES / image.name
    for name, path in source_files().items():
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (home / HASHES).write_bytes(hashes_of(image))
    (root / IMAGES / ".mlps-image-pool").write_text(f"mlps_version={mlps_version()}\n")


def hashes_of(image: Image) -> bytes:
    """What .code-hash.json holds."""
    document: Document = {
        "hash": image.pointer.rpartition(":")[2],
        "algorithm": ALGORITHM,
        "content_sha256": image.content_sha256,
        "files": image.files,
    }
    return pretty_json(document)


def read_images(root: Path) -> tuple[dict[str, Image], list[Finding]]:
    """Images by the SHA-256 of their code, and SUB-08 for each that is not what it says.

    An image that was changed is given as what its hashes say, so that it has one finding only.
    """
    images: dict[str, Image] = {}
    findings: list[Finding] = []
    home = root / IMAGES
    if not home.is_dir():
        return images, findings
    for path in sorted(each for each in home.iterdir() if each.is_dir() and not each.is_symlink()):
        key = f"{IMAGES}/{path.name}"
        try:
            image, told = _image_of(_files_of(path)), _told_image(path)
        except ArchiveError as error:
            findings.append(_finding(key, error.message))
            continue
        images[told.content_sha256] = told
        if told.name != path.name:
            findings.append(_finding(key, f"its hash is that of {told.name}"))
        elif image != told:
            text = f"its files come to {image.pointer}, and {HASHES} says {told.pointer}"
            findings.append(_finding(key, text))
    return images, findings


def _told_image(path: Path) -> Image:
    document = read_json(path / HASHES)
    wanted: Mapping[str, type] = {"hash": str, "content_sha256": str, "files": int}
    if not isinstance(document, dict) or any(
        not isinstance(document.get(name), kind) for name, kind in wanted.items()
    ):
        raise ArchiveError(f"{HASHES} is without {', '.join(wanted)}")
    return Image(
        pointer=f"{ALGORITHM}:{document['hash']}",
        content_sha256=document["content_sha256"],
        files=document["files"],
    )


def _files_of(path: Path) -> dict[str, Path]:
    return {
        entry.name: path / entry.name
        for entry in walk(path)
        if entry.kind != "directory" and entry.name != HASHES
    }


def _image_of(files: Mapping[str, Path]) -> Image:
    digests = dict(_digests(files))
    tree = hashlib.md5(usedforsecurity=False)
    for name in sorted(digests):
        tree.update(f"{name}\0{digests[name]}\n".encode())
    return Image(
        pointer=f"{ALGORITHM}:{tree.hexdigest()}",
        content_sha256=content_of(digests),
        files=len(digests),
    )


def _digests(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    for name, path in files.items():
        yield name, sha256_hex(read_bytes(path))


def _finding(key: str, text: str) -> Finding:
    return Finding(rule="SUB-08", severity="error", key=key, text=text)
