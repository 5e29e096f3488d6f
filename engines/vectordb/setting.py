"""What a stage of vector search works on, and how its result tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..contract import Document, Job
from ..place import Place, place_of
from .backend import Io, Value
from .data import Data, data_of
from .place import OWN, Kept, index_directory, sha256_of, truth_name
from .truth import truth_of
from .workload import VectorSearch, workload_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The workload of a job, its data, and where index and truth are."""

    job: Job
    workload: VectorSearch
    data: Data
    place: Place

    @property
    def index_directory(self) -> Path:
        """Where the backend keeps the index."""
        return index_directory(self.place)

    @property
    def truth_path(self) -> Path:
        """The file of the truth."""
        return self.place.directory / truth_name(self.job.benchmark)

    def truth_fingerprint(self) -> Document:
        """What the truth is the truth of; raises EngineError. Reads of the data: for rank 0."""
        data = self.data
        metric = self.workload.spec.metric
        return truth_of(data.fingerprint(), data.queries_fingerprint(), metric)

    def kept(self) -> Kept:
        """The record of the index that is begun; raises EngineError. For rank 0."""
        spec, backend = self.workload.spec, self.workload.backend
        name = backend.describe().name
        build = backend.check(spec, self.workload.search).build
        return Kept(
            run_id=self.job.run_id,
            backend=name,
            identity={
                **{f"dataset.{key}": value for key, value in self.data.fingerprint().items()},
                "database.backend": name,
                "index.metric_type": spec.metric,
                "index.seed": spec.seed,
                **{f"index.{key}": value for key, value in sorted(build.items())},
            },
        )

    def document(self, does: str, io: Io | None = None, **more: object) -> Document:
        """The result of a stage, with nulls for what `more` does not give; for rank 0.

        `io` is what readers really do; before there are any, what the backend means to is told.
        """
        data = self.data
        return {
            "does": does,
            "backend": self._backend(io),
            "dataset": {
                "sha256": sha256_of(data.fingerprint()),
                "vectors": data.vectors,
                "dimension": data.dimension,
                "distribution": data.distribution,
                "source": None if data.source is None else str(data.source),
                "metric": self.workload.spec.metric,
                "raw_bytes": data.raw_bytes,
            },
            "queries": {
                "sha256": sha256_of(data.queries_fingerprint()),
                "count": data.query_count,
                "mode": data.mode,
            },
            "directory": str(self.place.directory),
            "kept": self.place.kept,
            "load": None,
            "truth": None,
            "points": [],
            **more,
        }

    def _backend(self, io: Io | None) -> Document:
        workload = self.workload
        description = workload.backend.describe()
        values = workload.backend.check(workload.spec, workload.search)
        return {
            "name": description.name,
            "version": description.version,
            "index": index_of(values.build, description.index),
            "io_class": description.io_class if io is None else io.io_class,
            "io_reason": None if io is None else io.reason,
            "build": dict(values.build),
            "search": dict(values.search),
        }


def setting_of(job: Job, ranks: int) -> Setting:
    """The setting of a job with so many ranks; raises JobError, and EngineError for its files."""
    data = data_of(job.benchmark)
    return Setting(
        job=job,
        workload=workload_of(job.benchmark, ranks, data),
        data=data,
        place=place_of(job, OWN),
    )


def index_of(build: Mapping[str, Value], otherwise: str) -> str:
    """The kind of an index: its build's, where that has one."""
    return str(build.get("index_type", otherwise))
