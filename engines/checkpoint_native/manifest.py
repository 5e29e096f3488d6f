"""The manifest beside checkpoints: who wrote them, of which model and ranks, which are complete.

What is read is compared with what this says, so it bears a checksum of itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..contract import Document, sha256_hex
from ..errors import EngineError, storage_error
from ..io_core.directory import remove_files
from ..io_core.files import sync_directory, write_whole
from ..section import Section
from ..version import mlps_version
from .model import architecture_of
from .parallelism import parallelism_of

MANIFEST = "CHECKPOINTS.json"
# Of the manifest itself, should its form ever change.
_FORM = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a run has written into a directory.

    `key` and `seed` make the content of its files, as io_core/blocks.py has them.
    `hosts` has the host of each rank, `checkpoints` the numbers of those that are complete.
    `row_bytes` is the length of the operations that the content was made in, times are those of
    rank 0's clock: when the first write began, and when the last one had ended.
    """

    run_id: str
    job_sha256: str
    identity: Document
    key: int
    seed: int
    row_bytes: int
    hosts: tuple[str, ...]
    checkpoints: tuple[int, ...]
    start_unix_s: float
    end_unix_s: float


def identity_of(benchmark: Document, ranks: int) -> Document:
    """All that decides names and sizes of files, by the keys of the benchmark; raises JobError."""
    section = Section(benchmark)
    model = architecture_of(section.section("model"))
    parallelism = parallelism_of(section.section("parallelism"), ranks)
    return {
        "model.layers": model.layers,
        "model.hidden": model.hidden,
        "model.ffn": model.ffn,
        "model.heads": model.heads,
        "model.kv_heads": model.kv_heads,
        "model.vocab": model.vocab,
        "model.datatype": model.datatype,
        "model.optimizer_datatype": model.optimizer_datatype,
        "parallelism.tensor": parallelism.tensor,
        "parallelism.pipeline": parallelism.pipeline,
        "parallelism.data": parallelism.data,
        "parallelism.zero": parallelism.zero,
        "scale": section.positive("scale"),
        "ranks": ranks,
    }


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Puts it in place whole and durable; raises EngineError."""
    names = list(dict.fromkeys(manifest.hosts))
    places = {name: place for place, name in enumerate(names)}
    content = {
        "run_id": manifest.run_id,
        "job_sha256": manifest.job_sha256,
        "mlps": mlps_version(),
        "identity": manifest.identity,
        "key": manifest.key,
        "seed": manifest.seed,
        "row_bytes": manifest.row_bytes,
        "hosts": names,
        "host_index": [places[host] for host in manifest.hosts],
        "checkpoints": list(manifest.checkpoints),
        "start_unix_s": manifest.start_unix_s,
        "end_unix_s": manifest.end_unix_s,
    }
    document = {"form": _FORM, **content, "sha256": _checksum(content)}
    write_whole(directory / MANIFEST, json.dumps(document).encode() + b"\n")


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a directory; raises EngineError where there is none that can be read."""
    path = directory / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise EngineError(_why_none(directory)) from error
    except OSError as error:
        raise storage_error(error, "read", path) from error
    try:
        document = dict(json.loads(data))
        form, written_by = int(document.pop("form")), document.get("mlps")
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, repr(error)) from error
    if form != _FORM:
        raise EngineError(
            f"{path} is of form {form} and was written by another version of mlps, {written_by}:"
            f" this one, {mlps_version()}, reads form {_FORM}"
        )
    if document.pop("sha256", None) != _checksum(document):
        raise _damaged(path, "its checksum is another")
    try:
        return _manifest(document)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _damaged(path, repr(error)) from error


def forget_manifest(directory: Path) -> None:
    """Removes it, durably, before what it tells of is changed; raises EngineError."""
    if remove_files(directory, [MANIFEST, f"{MANIFEST}.new"]):
        sync_directory(directory)


def _manifest(document: Document) -> Manifest:
    names = [str(name) for name in document["hosts"]]
    return Manifest(
        run_id=str(document["run_id"]),
        job_sha256=str(document["job_sha256"]),
        identity=dict(document["identity"]),
        key=int(document["key"]),
        seed=int(document["seed"]),
        row_bytes=int(document["row_bytes"]),
        hosts=tuple(names[place] for place in document["host_index"]),
        checkpoints=tuple(int(number) for number in document["checkpoints"]),
        start_unix_s=float(document["start_unix_s"]),
        end_unix_s=float(document["end_unix_s"]),
    )


def _checksum(content: Document) -> str:
    return sha256_hex(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _why_none(directory: Path) -> str:
    what = f"has no file {MANIFEST}" if directory.is_dir() else "does not exist"
    return (
        f"{directory} {what}: no complete checkpoint was written there. A job with the same"
        " benchmark.directory and benchmark.writes above 0 writes them"
    )


def _damaged(path: Path, why: str) -> EngineError:
    return EngineError(
        f"{path} is damaged ({why}): what is beside it cannot be told. Write the checkpoints anew,"
        " into an empty benchmark.directory"
    )
