"""faiss: inverted lists (IVF) with exact vectors in a file that searches map into memory.

Pages that a search has touched stay in the page cache: a long run measures memory, and while a
reader is open nothing evicts them. Inserted vectors are kept in a file until the build, which
gathers the lists of parts of them, so that never more than one part is in memory. faiss prints a
line to standard output when it makes the file of lists and when it opens it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import EngineError, JobError, storage_error
from ..io_core.directory import remove_files
from ..io_core.files import sync_directory
from ..optional import VECTORDB, Foreign, library, version_of
from .adapter import (
    begin,
    check_all_stored,
    check_queries,
    check_rows,
    check_spec,
    read_record,
    record_of,
    record_path,
    require_complete,
    unit,
    write_record,
)
from .backend import (
    NO_ID,
    Alive,
    Assembled,
    Backend,
    Description,
    Estimate,
    Ids,
    IndexSpec,
    Io,
    Key,
    Parameters,
    Scores,
    Value,
    Vectors,
    settings,
)

NAME = "faiss"
INDEX = "faiss.index"
LISTS = "faiss.lists"
SPILL = "faiss.spill"
SPILL_IDS = "faiss.spill_ids"
PART = "faiss.part"
# Vectors of a part: what is in memory at a time while lists are gathered.
PART_BYTES = 256 * 2**20
# faiss warns of fewer training vectors for each list than 39.
_SAMPLE_PER_LIST = 64

BUILD_KEYS: Mapping[str, Key] = {
    "nlist": Key(types=(int,), default=None, least=1),  # the square root of the vectors
    "kmeans_rounds": Key(types=(int,), default=10, least=1),
    "sample": Key(types=(int,), default=None, least=1),  # 64 vectors for each list
}
SEARCH_KEYS: Mapping[str, Key] = {
    "nprobe": Key(types=(int,), default=None, least=1),  # 8, or all lists where there are fewer
    "threads": Key(types=(int,), default=1, least=1),
}


def _build_of(spec: IndexSpec) -> dict[str, int]:
    check_spec(spec)
    found = settings(spec.build, BUILD_KEYS, "index")
    nlist = int(found["nlist"] or max(1, round(math.sqrt(spec.vectors))))
    if nlist > spec.vectors:
        raise JobError(f"index.nlist is {nlist}, and there are {spec.vectors} vectors")
    sample = int(found["sample"] or min(spec.vectors, _SAMPLE_PER_LIST * nlist))
    if not nlist <= sample <= spec.vectors:
        raise JobError(
            f"index.sample must be between index.nlist ({nlist}) and the number of vectors"
            f" ({spec.vectors}), got {sample}"
        )
    rounds = int(found["kmeans_rounds"] or 0)
    return {"nlist": nlist, "kmeans_rounds": rounds, "sample": sample}


def _search_of(spec: IndexSpec, search: Mapping[str, Value]) -> tuple[int, int]:
    """Lists that a search reads, and threads that do."""
    nlist = _build_of(spec)["nlist"]
    found = settings(search, SEARCH_KEYS, "search")
    nprobe = int(found["nprobe"] or min(8, nlist))
    if nprobe > nlist:
        raise JobError(f"search.nprobe is {nprobe}, and the index has {nlist} lists")
    return nprobe, int(found["threads"] or 1)


class FaissWriter:
    """Makes one index; see `Writer`."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Removes what is left of a build that did not end; raises EngineError beside an index."""
        self._directory, self._spec = directory, spec
        self._build = _build_of(spec)
        self._faiss = library("faiss", f"backend {NAME}", VECTORDB)
        self._record = record_of(NAME, spec, self._build)
        if begin(directory, self._record) is not None:
            _remove(directory)
        write_record(directory, self._record)
        self._rows = np.zeros(spec.vectors, bool)
        self._spill = _opened(directory / SPILL)
        self._spill_ids = _opened(directory / SPILL_IDS)
        self._is_open = True

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors; see `Writer`. An id that is there already is not stored again."""
        ids, vectors = check_rows(ids, vectors, self._spec)
        self._check_open()
        _, first = np.unique(ids, return_index=True)
        new = np.sort(first[~self._rows[ids[first]]])
        ids, vectors = ids[new], vectors[new]
        try:
            self._spill.write(_kept(vectors, self._spec).data)
            self._spill_ids.write(ids.data)
        except OSError as error:
            raise storage_error(error, "write", self._directory / SPILL) from error
        self._rows[ids] = True
        return len(ids)

    def flush(self) -> None:
        """Makes durable all that was inserted."""
        self._check_open()
        for file in (self._spill, self._spill_ids):
            file.flush()
            _sync(Path(file.name))

    def build(self, alive: Alive) -> bool:
        """Makes the index complete; see `Writer`. `alive` is asked for each part."""
        self.flush()
        check_all_stored(self.count(), self._spec)
        if not alive(0, self._spec.vectors):
            return False
        ids, vectors = self._spilled()
        index = self._trained(vectors)
        try:
            if not self._gathered(index, ids, vectors, alive):
                return False
        except RuntimeError as error:
            raise EngineError(f"faiss cannot build {self._directory}: {error}") from error
        sync_directory(self._directory)
        write_record(self._directory, self._record, self.count())
        return True

    def compact(self) -> None:
        """Removes the files of inserted vectors."""
        found = read_record(self._directory, NAME)
        if found is None or found.stored is None:
            raise EngineError(f"{self._directory} holds no complete index to compact")
        self._close_spill()
        remove_files(self._directory, [SPILL, SPILL_IDS])

    def count(self) -> int:
        """Vectors stored."""
        return int(np.count_nonzero(self._rows))

    def close(self) -> None:
        """Lets go of the files of inserted vectors."""
        self._close_spill()

    def _spilled(self) -> tuple[Ids, Vectors]:
        ids = np.memmap(self._directory / SPILL_IDS, np.int64, mode="r")
        vectors = np.memmap(self._directory / SPILL, np.float32, mode="r")
        return ids, vectors.reshape(-1, self._spec.dimension)

    def _trained(self, vectors: Vectors) -> Foreign:
        """An index that has centroids and no vectors, from a sample that the seed decides."""
        faiss, build = self._faiss, self._build
        rng = np.random.default_rng(self._spec.seed)
        sample = np.sort(rng.choice(len(vectors), build["sample"], replace=False))
        index = _empty(faiss, self._spec, build["nlist"])
        index.cp.seed = self._spec.seed % 2**31
        index.cp.niter = build["kmeans_rounds"]
        # The sample is taken already, and how small it may be is for the job to say.
        index.cp.max_points_per_centroid = len(sample)
        index.cp.min_points_per_centroid = 1
        index.train(np.ascontiguousarray(vectors[sample]))
        return index

    def _gathered(self, index: Foreign, ids: Ids, vectors: Vectors, alive: Alive) -> bool:
        """Writes the lists of each part, then all of them into one file, and the index."""
        faiss = self._faiss
        trained = str(self._directory / INDEX)
        faiss.write_index(index, trained)
        parts = list(_parts(len(ids), self._spec.dimension))
        for number, part in enumerate(parts):
            of_part = faiss.read_index(trained)
            of_part.add_with_ids(vectors[part], np.ascontiguousarray(ids[part]))
            faiss.write_index(of_part, str(self._part(number)))
            if not alive(part.stop, len(ids)):
                return False
        self._merge(index, len(parts))
        faiss.write_index(index, trained)
        for name in (INDEX, LISTS):
            _sync(self._directory / name)
        remove_files(self._directory, [self._part(number).name for number in range(len(parts))])
        return True

    def _merge(self, index: Foreign, parts: int) -> None:
        faiss = self._faiss
        lists = faiss.OnDiskInvertedLists(
            index.nlist, index.code_size, str(self._directory / LISTS)
        )
        # Kept until the end: the lists that are merged live in these.
        opened = [
            faiss.read_index(str(self._part(number)), faiss.IO_FLAG_MMAP) for number in range(parts)
        ]
        pointers = faiss.InvertedListsPtrVector()
        for each in opened:
            pointers.push_back(each.invlists)
        index.ntotal = lists.merge_from_multiple(pointers.data(), pointers.size(), False)
        index.replace_invlists(lists, True)
        lists.this.disown()  # of the index now, which lets go of the mapping

    def _part(self, number: int) -> Path:
        return self._directory / f"{PART}{number}"

    def _check_open(self) -> None:
        if not self._is_open:
            raise EngineError(f"the writer of {self._directory} is closed")

    def _close_spill(self) -> None:
        self._is_open = False
        self._spill.close()
        self._spill_ids.close()


class FaissReader:
    """Searches one index; see `Reader`."""

    def __init__(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """Maps the lists read-only: other readers may do so too."""
        self._spec, self._directory = spec, directory
        nprobe, threads = _search_of(spec, search)
        faiss = library("faiss", f"backend {NAME}", VECTORDB)
        require_complete(directory, record_of(NAME, spec, _build_of(spec)))
        flags = faiss.IO_FLAG_ONDISK_SAME_DIR | faiss.IO_FLAG_READ_ONLY
        try:
            self._index = faiss.read_index(str(directory / INDEX), flags)
        except RuntimeError as error:
            raise EngineError(f"faiss cannot open {directory / INDEX}: {error}") from error
        self._index.nprobe = nprobe
        faiss.omp_set_num_threads(threads)

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest of each query; see `Reader`."""
        if self._index is None:
            raise EngineError(f"the reader of {self._directory} is closed")
        queries = _kept(check_queries(queries, self._spec.dimension), self._spec)
        scores, ids = self._index.search(queries, k)
        if self._spec.metric == "L2":
            scores = -scores
        scores[ids == NO_ID] = -np.inf
        return ids, scores

    def moved(self) -> None:
        """Unknown: what is mapped is read by faults, and by those of others."""

    def io(self) -> Io:
        """Page faults."""
        return Io(io_class="mmap")

    def close(self) -> None:
        """Lets go of the mapping."""
        self._index = None


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
    nprobe, threads = _search_of(spec, search)
    return Parameters(build=_build_of(spec), search={"nprobe": nprobe, "threads": threads})


def _estimate(spec: IndexSpec, _: Mapping[str, Value]) -> Estimate:
    build, row = _build_of(spec), 4 * spec.dimension + 8
    centroids = 4 * spec.dimension * build["nlist"]
    index = spec.vectors * row + centroids
    parts = -(-spec.vectors * spec.dimension * 4 // PART_BYTES)
    return Estimate(
        index_bytes=index,
        # Inserted vectors, the lists of each part with their centroids, and all lists.
        building_bytes=index + 2 * spec.vectors * row + parts * centroids,
        # What is gathered is there twice, as is the sample.
        writer_bytes=2 * min(PART_BYTES, spec.vectors * row)
        + 8 * spec.dimension * build["sample"]
        + 2 * centroids
        + spec.vectors,
        reader_bytes=2 * centroids + 16 * build["nlist"],
        disk=f"{spec.vectors:,} x {row} B and centroids, three times until it is complete",
    )


def _data_paths(directory: Path) -> tuple[Path, ...]:
    """The index, its lists, and until `compact` the inserted vectors."""
    return tuple(path for path in _own_files(directory) if path.exists())


def _drop(directory: Path) -> None:
    """Removes the files of a writer and its record."""
    if read_record(directory, NAME) is not None:
        _remove(directory)


def backend() -> Backend:
    """Inverted lists of faiss, mapped from disk."""
    return Assembled(
        description=Description(
            name=NAME,
            version=version_of("faiss-cpu"),
            index="IVF_FLAT",
            io_class="mmap",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
            packages=("faiss-cpu",),
        ),
        checks=_check,
        estimates=_estimate,
        writes=FaissWriter,
        reads=FaissReader,
        files=_data_paths,
        removes=_drop,
    )


def _empty(faiss: Foreign, spec: IndexSpec, nlist: int) -> Foreign:
    l2 = spec.metric == "L2"
    metric = faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT
    centroids = (faiss.IndexFlatL2 if l2 else faiss.IndexFlatIP)(spec.dimension)
    index = faiss.IndexIVFFlat(centroids, spec.dimension, nlist, metric)
    # The index lets go of its centroids, and they live on until then.
    centroids.this.disown()
    index.own_fields = True
    return index


def _kept(vectors: Vectors, spec: IndexSpec) -> Vectors:
    """Vectors as faiss takes them: it knows no cosine, but the inner product of length 1."""
    return unit(vectors) if spec.metric == "COSINE" else vectors


def _parts(rows: int, dimension: int) -> Iterator[slice]:
    step = max(1, PART_BYTES // (4 * dimension))
    for first in range(0, rows, step):
        yield slice(first, min(rows, first + step))


def _own_files(directory: Path) -> list[Path]:
    parts = [path for path in directory.glob(f"{PART}*") if path.name[len(PART) :].isdigit()]
    return [directory / name for name in (INDEX, LISTS, SPILL, SPILL_IDS)] + sorted(parts)


def _remove(directory: Path) -> None:
    names = [path.name for path in (*_own_files(directory), record_path(directory, NAME))]
    remove_files(directory, names)


def _opened(path: Path) -> Foreign:
    try:
        return path.open("wb")
    except OSError as error:
        raise storage_error(error, "write", path) from error


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, "flush", path) from error
