"""The vectors and the queries of a job: generated, or of files of the user's, behind one face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from ..contract import Document
from ..errors import JobError
from ..section import Section
from . import queries, sources, vectors
from .queries import Queries, base_ids, move, queries_of
from .random import Ids, Vectors
from .sources import Source, open_source
from .truth import lengths_of
from .vectors import Dataset, dataset_of

Asked = Literal["planted", "independent", "file"]
# Formats in which a vector can be read without those before it.
_AT_RANDOM = ("fvecs", "fbin", "npy", "hdf5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """So many vectors and queries, the first of what each of their origins has."""

    origin: Dataset | Source
    asked: Queries | Source
    vectors: int
    dimension: int
    query_count: int

    @property
    def raw_bytes(self) -> int:
        """Of all components of all vectors."""
        return 4 * self.vectors * self.dimension

    @property
    def distribution(self) -> str | None:
        """How generated vectors are distributed; None of a file's."""
        return self.origin.distribution if isinstance(self.origin, Dataset) else None

    @property
    def source(self) -> Path | None:
        """The user's file of vectors."""
        return self.origin.path if isinstance(self.origin, Source) else None

    @property
    def mode(self) -> Asked:
        """Where the queries come from."""
        return self.asked.mode if isinstance(self.asked, Queries) else "file"

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions of Python that reading it needs beside numpy."""
        readers = {"parquet": "pyarrow", "hdf5": "h5py"}
        formats = (each.format for each in (self.origin, self.asked) if isinstance(each, Source))
        return tuple(sorted({readers[each] for each in formats if each in readers}))

    def rows(self, first: int, count: int) -> Iterator[tuple[Ids, Vectors]]:
        """Ids from the first on and their vectors, some at a time; raises EngineError."""
        if not 0 <= first <= first + count <= self.vectors:
            raise ValueError(f"ids {first} to {first + count} are not in {self.vectors} vectors")
        if isinstance(self.origin, Dataset):
            return vectors.rows(self.origin, first, count)
        return sources.rows(self.origin, first, count)

    def batches(self, first: int, count: int, size: int) -> Iterator[tuple[Ids, Vectors]]:
        """The same in batches of `size`, the last one perhaps shorter."""
        waiting: list[tuple[Ids, Vectors]] = []
        held = 0
        for ids, found in self.rows(first, count):
            for begin in _cuts(len(ids), size, held):
                some = min(size - held, len(ids) - begin)
                waiting.append((ids[begin : begin + some], found[begin : begin + some]))
                held += some
                if held == size:
                    yield _joined(waiting)
                    waiting, held = [], 0
        if held:
            yield _joined(waiting)

    def query_vectors(self, first: int, count: int) -> Vectors:
        """Queries from the first-th on, shape (count, dimension); raises EngineError."""
        if not 0 <= first <= first + count <= self.query_count:
            raise ValueError(f"queries {first} to {first + count} are not in {self.query_count}")
        if isinstance(self.asked, Source):
            return _of_file(self.asked, first, count)
        if isinstance(self.origin, Dataset):
            return queries.query_vectors(self.origin, self.asked, first, count)
        return _beside_file(self.origin, self.vectors, self.asked, first, count)

    def fingerprint(self) -> Document:
        """All that decides the vectors, with digests of some; raises EngineError."""
        return dict(_fingerprint(self))

    def queries_fingerprint(self) -> Document:
        """All that decides the queries, with their `count`; raises EngineError."""
        return dict(_queries_fingerprint(self))


def data_of(benchmark: Document) -> Data:
    """The data that a job declares; raises JobError, and EngineError for a file that is none.

    With `dataset.path` the dimension is the file's, whatever `dataset.dimension` says, and
    `dataset.num_vectors` takes the first so many of its vectors, null all. `query.path` and
    `query.num_query_vectors` do the same for queries. Queries beside vectors of a file are those of
    its length, moved by noise in proportion to it.
    """
    section = Section(benchmark)
    origin = _origin(section.section("dataset"))
    if isinstance(origin, Dataset):
        count = origin.vectors
    else:
        count = _taken(section.section("dataset"), "dataset.num_vectors", origin)
    asked = _asked(section.section("query"), origin)
    if isinstance(asked, Source):
        if asked.dimension != origin.dimension:
            raise JobError(
                f"query.path: the queries of {asked.path} have {asked.dimension} dimensions, the"
                f" vectors have {origin.dimension}"
            )
        query_count = _taken(section.section("query"), "query.num_query_vectors", asked)
    else:
        query_count = asked.count
    return Data(
        origin=origin,
        asked=asked,
        vectors=count,
        dimension=origin.dimension,
        query_count=query_count,
    )


# ---------------------------------------------------------------- what a job declares


def _origin(section: Section) -> Dataset | Source:
    return _source(section, "dataset") if "path" in section else dataset_of(section)


def _asked(section: Section, origin: Dataset | Source) -> Queries | Source:
    if "path" in section:
        return _source(section, "query")
    asked = queries_of(section)
    if isinstance(origin, Dataset):
        return asked
    if asked.mode == "independent":
        raise JobError(
            "query.mode is independent, and how the vectors of dataset.path are distributed is not"
            " known: benchmark.query.mode=planted, or queries of a file with benchmark.query.path"
        )
    if origin.format not in _AT_RANDOM:
        raise JobError(
            f"planted queries need single vectors of {origin.path}, which {origin.format} does not"
            " give: queries of a file with benchmark.query.path=..., or the vectors in another"
            f" format ({', '.join(_AT_RANDOM)})"
        )
    return asked


def _source(section: Section, name: str) -> Source:
    path = Path(section.text("path"))
    if not path.is_absolute():
        raise JobError(f"{name}.path must be a whole path, got {str(path)!r}")
    return open_source(path, section.text("name") if "name" in section else "")


def _taken(section: Section, key: str, source: Source) -> int:
    """How many of a file's vectors are used."""
    count = section.count_or_none(key.partition(".")[2])
    if count is None:
        return source.vectors
    if count > source.vectors:
        raise JobError(
            f"{key} is {count}, and {source.path} has {source.vectors}:"
            f" benchmark.{key}={source.vectors} takes all of them"
        )
    return count


# ---------------------------------------------------------------- vectors of files


def _of_file(source: Source, first: int, count: int) -> Vectors:
    parts = [part for _, part in sources.rows(source, first, count)]
    return np.concatenate(parts) if parts else np.zeros((0, source.dimension), np.float32)


def _beside_file(source: Source, count_of: int, asked: Queries, first: int, count: int) -> Vectors:
    """Planted queries beside the first `count_of` vectors of a file."""
    bases = np.empty((count, source.dimension), dtype=np.float32)
    for number, base in enumerate(base_ids(asked, count_of, first, count).tolist()):
        bases[number] = _of_file(source, base, 1)[0]
    lengths = lengths_of(bases)[:, np.newaxis]
    found = np.divide(bases, lengths, out=np.zeros(bases.shape), where=lengths > 0)
    moved: Vectors = found.astype(np.float32)
    move(moved, asked, first)
    # What has no length has no neighbourhood either: its query stays at the length of the noise.
    return (moved * np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _cuts(rows: int, size: int, held: int) -> Iterator[int]:
    """Where batches begin in some rows, if `held` rows wait already for the first to be full."""
    yield 0
    yield from range(size - held, rows, size)


def _joined(parts: list[tuple[Ids, Vectors]]) -> tuple[Ids, Vectors]:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([part for _, part in parts])


# ---------------------------------------------------------------- fingerprints


@lru_cache(maxsize=4)
def _fingerprint(data: Data) -> Document:
    if isinstance(data.origin, Dataset):
        return vectors.fingerprint(data.origin)
    found = sources.fingerprint(data.origin)
    return {**found, "vectors": data.vectors, "vectors_of_file": data.origin.vectors}


@lru_cache(maxsize=4)
def _queries_fingerprint(data: Data) -> Document:
    asked = data.asked
    if isinstance(asked, Source):
        found = sources.fingerprint(asked)
        return {**found, "mode": "file", "count": data.query_count}
    if isinstance(data.origin, Dataset):
        return queries.fingerprint(data.origin, asked)
    first, last = (data.query_vectors(number, 1) for number in (0, asked.count - 1))
    return {
        "count": asked.count,
        "mode": asked.mode,
        "noise": asked.noise,
        "seed": asked.seed,
        "first_sha256": vectors.digest(first),
        "last_sha256": vectors.digest(last),
    }
