"""What an engine agrees on with its caller: how the job arrives, the arguments, names of ranks."""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import JobError

JOB_VARIABLE = "MLPS_JOB"
RUN_VARIABLE = "MLPS_RUN_ID"
# What the first rank of each host says on standard error before it waits for others.
STARTED_ON = "mlps: started on "
# A single environment string ends at 128 KiB in Linux; the launchers need some of it.
JOB_LIMIT_BYTES = 100 * 1024
# The encoding is for the way, not for saving space: a job is never larger than this unpacked.
_UNPACKED_LIMIT_BYTES = 16 * 1024 * 1024
_RUN_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")

# What JSON holds. Any is honest here: each engine's workload turns its part into a typed value.
Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The command line of an engine.

    `ranks` are those to count for in the stage `needs`, and in others those that did the stages
    before, where fewer stand in for them.
    """

    stage: str
    option: str | None = None
    trial: int | None = None
    ranks: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an engine takes from a job: the benchmark with its option merged in, place and seed."""

    sha256: str
    run_id: str
    benchmark: Document
    data_dir: Path
    seed: int

    @property
    def directory(self) -> Path:
        """The job's own directory in the storage under test."""
        return self.data_dir / f"mlps-{self.run_id}"


def parse_arguments(argv: Sequence[str], stages: Sequence[str]) -> Arguments:
    """Reads the command line; raises SystemExit 2 with the usage on standard error."""
    parser = argparse.ArgumentParser(description="Runs one stage of a job that mlps has composed.")
    parser.add_argument("--stage", required=True, choices=[*stages, "needs"])
    parser.add_argument("--option", help="variant of the workload, by name")
    parser.add_argument("--trial", type=int, help="number of the repetition, from 0")
    parser.add_argument("--ranks", type=int, help="ranks to count for, or of the stages before")
    space = parser.parse_args(argv)
    if space.stage not in ("needs", "cleanup") and space.ranks is not None:
        parser.error("--ranks belongs to --stage needs and --stage cleanup")
    if space.stage == "needs" and space.ranks is None:
        parser.error("--stage needs takes --ranks")
    if space.ranks is not None and space.ranks < 1:
        parser.error("--ranks must be 1 or more")
    return Arguments(stage=space.stage, option=space.option, trial=space.trial, ranks=space.ranks)


def encode_job(canonical: bytes) -> str:
    """The text of MLPS_JOB for a job's canonical JSON bytes."""
    return base64.b64encode(zlib.compress(canonical, 9)).decode("ascii")


def decode_job(environment: Mapping[str, str]) -> bytes:
    """The job's canonical JSON bytes as they arrived; raises JobError."""
    text = environment.get(JOB_VARIABLE)
    if text is None:
        raise JobError(f"{JOB_VARIABLE} is not in the environment: the launcher did not forward it")
    if len(text) > JOB_LIMIT_BYTES:
        raise JobError(f"{JOB_VARIABLE} holds {len(text)} bytes, the limit is {JOB_LIMIT_BYTES}")
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(base64.b64decode(text, validate=True), _UNPACKED_LIMIT_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise JobError(f"{JOB_VARIABLE} cannot be decoded: {error}") from error
    if not unpack.eof:
        raise JobError(f"{JOB_VARIABLE} is cut short")
    return data


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def read_job(canonical: bytes, run_id: str | None, option: str | None) -> Job:
    """The job of these bytes with one option merged into its benchmark; raises JobError."""
    if not run_id or run_id.startswith(".") or not _RUN_ID_CHARACTERS.issuperset(run_id):
        raise JobError(f"{RUN_VARIABLE} must be letters, digits and -._, got {run_id!r}")
    try:
        document = json.loads(canonical)
        benchmark = document["benchmark"]
        data_dir = Path(document["data_dir"])
        seed = int(document["seed"])
    except (ValueError, KeyError, TypeError) as error:
        raise JobError(f"the job is not what an engine can read: {error!r}") from error
    if not data_dir.is_absolute():
        raise JobError(f"data_dir must be absolute, got {data_dir}")
    return Job(
        sha256=sha256_hex(canonical),
        run_id=run_id,
        benchmark=_with_option(benchmark, option),
        data_dir=data_dir,
        seed=seed,
    )


def _with_option(benchmark: Document, option: str | None) -> Document:
    if option is None:
        return benchmark
    options = {entry["name"]: entry.get("set") or {} for entry in benchmark.get("options") or []}
    if option not in options:
        known = ", ".join(options) or "none"
        raise JobError(f"the benchmark has no option {option!r}; it has: {known}")
    return merged(benchmark, options[option])


def merged(base: Document, changes: Document) -> Document:
    """A copy of `base` with `changes` laid over it; mappings merge, all else is replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            value = merged(below, value)
        result[key] = value
    return result


def rank_ranges(ranks: Sequence[int]) -> str:
    """Ascending rank numbers in short: 0, 1, 2, 7 is "0-2,7"."""
    spans: list[list[int]] = []
    for rank in ranks:
        if spans and rank == spans[-1][1] + 1:
            spans[-1][1] = rank
        else:
            spans.append([rank, rank])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in spans)
