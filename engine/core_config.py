"""The core configuration: what of a workload makes results comparable, and its digest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .canonical import Document, canonical_json, sha256_hex
from .spec import JobSpec

# The digest is of this project: upstream's exact form of numbers and keys is not published.
ALGORITHM = "mlps-core-1"
DIGITS = 16

# Family -> keys of the benchmark that are kept, each with all below it; what a site may tune is
# left out. Those of training and checkpointing are upstream's under the names that they have here.
CORE_KEYS: Mapping[str, tuple[str, ...]] = {
    "training": (
        "au_least_pct",
        "dataset.format",
        "dataset.samples_per_file",
        "dataset.record_bytes",
        "dataset.record_bytes_stdev",
        "dataset.jpeg_encoding",
        "dataset.parquet",
        "reader.batch",
        "reader.shuffle_files",
        "reader.shuffle_samples",
        "reader.reseed",
        "train",
        "evaluation",
        "checkpoint",
    ),
    "checkpointing": ("model", "parallelism", "scale", "training", "io.fsync"),
    "kvcache": (
        "workload",
        "options",
        "model",
        "users",
        "cpu_cache_gib",
        "stores_in_flight",
        "tensor_parallel",
        "context_tokens_max",
        "multi_turn",
        "rag",
        "rag_documents",
        "prefill_only",
        "decode_only",
        "speedup",
        "duration_s",
    ),
    "vectordb": (
        "database.backend",
        "dataset.path",
        "dataset.name",
        "dataset.num_vectors",
        "dataset.dimension",
        "dataset.distribution",
        "dataset.seed",
        "dataset.clusters",
        "dataset.cluster_spread",
        "index",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreConfig:
    """A digest and the class in which results with it are compared.

    `accelerator` None: the workload names none.
    """

    digest: str
    edition: str
    division: str
    family: str
    model: str
    accelerator: str | None

    def line(self) -> str:
        """For people: the digest and the class."""
        parts = (self.edition, self.division, self.family, self.model, self.accelerator)
        comparable = ", ".join(part for part in parts if part is not None)
        return f"core configuration {self.digest} ({ALGORITHM}), compared in: {comparable}"

    def as_document(self) -> Document:
        return {
            "algorithm": ALGORITHM,
            "hash": self.digest,
            "class": {
                "edition": self.edition,
                "division": self.division,
                "family": self.family,
                "model": self.model,
                "accelerator": self.accelerator,
            },
        }


def core_config(spec: JobSpec) -> CoreConfig | None:
    """The core configuration of a job (Rules, comparability of results).

    None where no list of keys says what is comparable: foreign programs, and workloads of the
    family kvcache that are not the suite of the edition.
    """
    benchmark = spec.document["benchmark"]
    keys = CORE_KEYS.get(spec.family)
    if keys is None or (spec.family == "kvcache" and benchmark["workload"] != "v3"):
        return None
    kept = {key: _plain(_value(benchmark, key)) for key in keys}
    model, accelerator = _model(spec)
    return CoreConfig(
        digest=sha256_hex(canonical_json(kept))[:DIGITS],
        edition=spec.edition,
        division=spec.division.name,
        family=spec.family,
        model=model,
        accelerator=accelerator,
    )


def _model(spec: JobSpec) -> tuple[str, str | None]:
    """Model and accelerator, as the name of a workload of training ends in its accelerator."""
    name = spec.benchmark.rpartition("/")[2]
    if spec.family == "training" and "_" in name:
        model, _, accelerator = name.rpartition("_")
        return model, accelerator
    return name, None


def _value(benchmark: Document, key: str) -> object:
    """What stands under a dotted key; None where a key above it is missing or null."""
    value: object = benchmark
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _plain(value: object) -> object:
    """The value with 2.0 written as 2: one number has one digest."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(below) for below in value]
    return value
