"""zvec: DiskANN in this process, read past the page cache.

Measured with zvec 0.8.0. It must be initialised before it opens a collection that another process
has made: without that it ends the process. Its builds cannot be interrupted: one that is told to
end goes on to its end, and only then counts as ended. The seed is not used: zvec takes none.

It keeps what it has read of an index in memory of its own, by default up to 0.8 of what the machine
has: an index of 425 MB was read once, and then no more. So a process that searches gives it the
least that it takes, and it takes that once: a process that has made an index before is not bound.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ..errors import EngineError, storage_error
from ..io_core.directory import remove_files
from ..io_core.files import sync_directory
from ..optional import VECTORDB, Foreign, library, version_of
from .adapter import (
    begin,
    check_all_stored,
    check_most,
    check_queries,
    check_rows,
    check_spec,
    padded,
    read_record,
    record_of,
    record_path,
    require_complete,
    write_record,
)
from .backend import (
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
from .metrics import Metric

NAME = "zvec"
COLLECTION = "zvec"
FIELD = "vector"
# What zvec takes in one call at most is 1024.
BATCH = 1000
_POLL_S = 0.2
# Nodes of the graph lie in blocks; beside them each vector has an id and its codes.
_BLOCK_BYTES = 4096
_BESIDE_BYTES = 300
# The least limit of memory that zvec takes is above 100 MiB.
_POOL_MIB = 101
# Measured with small sets: what zvec takes however many vectors there are.
_MEMORY_BYTES = 128 * 2**20

BUILD_KEYS: Mapping[str, Key] = {
    "max_degree": Key(types=(int,), default=64, least=1),
    "search_list_size": Key(types=(int,), default=100, least=10),
    "pq_chunks": Key(types=(int,), default=0, least=0),  # 0: zvec derives it from the dimension
}
SEARCH_KEYS: Mapping[str, Key] = {"search_ef": Key(types=(int,), default=200, least=1)}
# zvec clamps what is above these without a word.
_MOST = {"max_degree": 100, "search_list_size": 100, "pq_chunks": 1024}


def _zvec(memory_limit_mib: int | None = None) -> Foreign:
    zvec = library("zvec", f"backend {NAME}", VECTORDB)
    with suppress(RuntimeError):  # this process has done so before
        zvec.init(log_level=zvec.LogLevel.ERROR, memory_limit_mb=memory_limit_mib)
    return zvec


def _searching_mib(spec: IndexSpec) -> int:
    """Memory for a search: the codes of all vectors, and the least of the index."""
    chunks = int(_build_of(spec)["pq_chunks"]) or spec.dimension // 2
    return _POOL_MIB + spec.vectors * chunks // 2**20


def _build_of(spec: IndexSpec) -> dict[str, Value]:
    check_spec(spec)
    values = {
        key: value
        for key, value in settings(spec.build, BUILD_KEYS, "index").items()
        if value is not None
    }
    check_most("index", values, {**_MOST, "pq_chunks": min(_MOST["pq_chunks"], spec.dimension)})
    return values


def _search_of(search: Mapping[str, Value]) -> int:
    return int(settings(search, SEARCH_KEYS, "search")["search_ef"] or 0)


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / COLLECTION).rglob("*") if path.is_file())


class ZvecWriter:
    """Makes one collection; see `Writer`."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Removes what is left of a build that did not end; raises EngineError beside an index."""
        self._directory, self._spec = directory, spec
        self._record = record_of(NAME, spec, _build_of(spec))
        self._zvec = _zvec()
        if begin(directory, self._record) is not None:
            _remove(directory)
        write_record(directory, self._record)
        self._collection = self._created()

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors; see `Writer`. An id that is there already is not stored again."""
        ids, vectors = check_rows(ids, vectors, self._spec)
        stored = 0
        for first in range(0, len(ids), BATCH):
            part = slice(first, first + BATCH)
            documents = [
                self._zvec.Doc(id=str(number), vectors={FIELD: vector})
                for number, vector in zip(ids[part].tolist(), vectors[part], strict=True)
            ]
            statuses = self._asked("insert", self._open().insert, documents)
            stored += sum(status.ok() for status in statuses)
        return stored

    def flush(self) -> None:
        """Makes durable all that was inserted."""
        self._asked("flush", self._open().flush)
        _sync(self._directory)

    def build(self, alive: Alive) -> bool:
        """Makes the index complete; see `Writer`. zvec tells nothing of how far it is."""
        collection = self._open()
        check_all_stored(self.count(), self._spec)
        if not alive(0, self._spec.vectors):
            return False
        went_on = self._optimised(collection, alive)
        if not went_on:
            return False
        complete = collection.stats.index_completeness.get(FIELD)
        if complete != 1.0:
            raise EngineError(f"zvec has indexed {complete} of {self._directory}, not all of it")
        self.flush()
        write_record(self._directory, self._record, self.count())
        alive(self._spec.vectors, self._spec.vectors)
        return True

    def compact(self) -> None:
        """Merges segments; the build has left one."""
        self._asked("compact", self._open().optimize)
        _sync(self._directory)

    def count(self) -> int:
        """Vectors stored, as zvec counts them."""
        return int(self._open().stats.doc_count)

    def close(self) -> None:
        """Lets go of the collection."""
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    def _created(self) -> Foreign:
        zvec, build = self._zvec, self._record.build
        index = zvec.DiskAnnIndexParam(
            metric_type=getattr(zvec.MetricType, self._spec.metric),
            max_degree=build["max_degree"],
            list_size=build["search_list_size"],
            pq_chunk_num=build["pq_chunks"],
        )
        vector = zvec.VectorSchema(
            FIELD, zvec.DataType.VECTOR_FP32, self._spec.dimension, index_param=index
        )
        schema = zvec.CollectionSchema(name="mlps", fields=[], vectors=[vector])
        option = zvec.CollectionOption(read_only=False, enable_mmap=False)
        path = str(self._directory / COLLECTION)
        return self._asked("create", zvec.create_and_open, path, schema, option)

    def _optimised(self, collection: Foreign, alive: Alive) -> bool:
        """Builds in a thread, to ask whether to go on; False once that was denied."""
        failures: list[EngineError] = []

        def work() -> None:
            try:
                self._asked("build", collection.optimize)
            except EngineError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        went_on = True
        while thread.is_alive():
            thread.join(_POLL_S)
            went_on = went_on and alive(0, self._spec.vectors)
        if failures:
            raise failures[0]
        return went_on

    def _open(self) -> Foreign:
        if self._collection is None:
            raise EngineError(f"the writer of {self._directory} is closed")
        return self._collection

    def _asked(self, action: str, call: Foreign, *words: Foreign) -> Foreign:
        return _asked(f"{action} {self._directory / COLLECTION}", call, *words)


class ZvecReader:
    """Searches one collection; see `Reader`."""

    def __init__(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """Opens it read-only: other readers may be there too."""
        self._spec, self._path = spec, directory / COLLECTION
        self._zvec = _zvec(_searching_mib(spec))
        self._parameter = self._zvec.DiskAnnQueryParam(list_size=_search_of(search))
        require_complete(directory, record_of(NAME, spec, _build_of(spec)))
        option = self._zvec.CollectionOption(read_only=True, enable_mmap=False)
        self._collection = _asked(f"open {self._path}", self._zvec.open, str(self._path), option)

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest of each query; see `Reader`."""
        if self._collection is None:
            raise EngineError(f"the reader of {self._path} is closed")
        queries = check_queries(queries, self._spec.dimension)
        return padded([self._nearest(query, k) for query in queries], k)

    def moved(self) -> None:
        """Unknown: zvec does not count its reads."""

    def io(self) -> Io:
        """As the descriptors of the index tell: zvec opens it with O_DIRECT where it can."""
        if any(flags & os.O_DIRECT for flags in _flags_below(self._path)):
            return Io(io_class="direct")
        return Io(io_class="buffered", reason=f"zvec has no file of {self._path} open for O_DIRECT")

    def close(self) -> None:
        """Lets go of the collection."""
        if self._collection is not None:
            self._collection.close()
            self._collection = None

    def _nearest(self, query: Vectors, k: int) -> list[tuple[int, float]]:
        asked = self._zvec.Query(field_name=FIELD, vector=query, param=self._parameter)
        try:
            found = self._collection.query(asked, topk=k, output_fields=[])
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"zvec cannot search {self._path}: {error}") from error
        return [(int(each.id), score_of(each.score, self._spec.metric)) for each in found]


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
    return Parameters(build=_build_of(spec), search={"search_ef": _search_of(search)})


def _estimate(spec: IndexSpec, _: Mapping[str, Value]) -> Estimate:
    """Measured: 1,158 B a vector of 128 components, 4,670 of 768; nodes do not cross a block."""
    node = 4 * spec.dimension + 4 * int(_build_of(spec)["max_degree"]) + 4
    blocks = -(-node // _BLOCK_BYTES)
    row = blocks * _BLOCK_BYTES // max(_BLOCK_BYTES // node, 1)
    beside = _BESIDE_BYTES + spec.dimension // 2
    raw = 4 * spec.dimension * spec.vectors
    index = spec.vectors * (row + beside)
    return Estimate(
        index_bytes=index,
        building_bytes=index + raw + 256 * spec.vectors,
        writer_bytes=_MEMORY_BYTES + 2 * raw,
        reader_bytes=_MEMORY_BYTES + beside * spec.vectors,
        disk=f"{spec.vectors:,} x {row} B in nodes and {beside} B in ids and codes, beside all"
        " vectors until it is complete",
    )


def _data_paths(directory: Path) -> tuple[Path, ...]:
    """All files of the collection that hold anything."""
    return tuple(path for path in _files(directory) if path.stat().st_size)


def _drop(directory: Path) -> None:
    """Removes the collection and its record."""
    if read_record(directory, NAME) is not None:
        _remove(directory)


def backend() -> Backend:
    """DiskANN of zvec."""
    return Assembled(
        description=Description(
            name=NAME,
            version=version_of("zvec"),
            index="DISKANN",
            io_class="direct",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
            packages=("zvec",),
        ),
        checks=_check,
        estimates=_estimate,
        writes=ZvecWriter,
        reads=ZvecReader,
        files=_data_paths,
        removes=_drop,
    )


def score_of(distance: float, metric: Metric) -> float:
    """A score from what zvec tells: 1 - cosine, the squared distance, or the inner product."""
    if metric == "COSINE":
        return 1 - distance
    return -distance if metric == "L2" else distance


def _asked(action: str, call: Foreign, *words: Foreign) -> Foreign:
    try:
        return call(*words)
    # All that zvec raises, by its status codes.
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise EngineError(f"zvec cannot {action}: {error}") from error


def _remove(directory: Path) -> None:
    path = directory / COLLECTION
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    remove_files(directory, [record_path(directory, NAME).name])


def _sync(directory: Path) -> None:
    """Makes the files durable: what zvec calls a flush need not be."""
    files = _files(directory)
    for path in files:
        try:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, "flush", path) from error
    for parent in {path.parent for path in files} | {directory}:
        sync_directory(parent)


def _flags_below(path: Path) -> list[int]:
    """Flags of the descriptors of this process for files below a path."""
    found = []
    inside = f"{path.resolve()}/"
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if str(descriptor.readlink()).startswith(inside):
                found.append(_flags(descriptor.name))
        except OSError:
            continue  # closed meanwhile
    return found


def _flags(name: str) -> int:
    lines = Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
    return next((int(line.split()[1], 8) for line in lines if line.startswith("flags:")), 0)
