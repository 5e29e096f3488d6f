"""Milvus: a collection in a server, with an index of type DISKANN, HNSW or AISAQ.

The server (2.5 or newer; AISAQ 2.6.4 or newer) is named by host and port, and has its own
cache: it must be restarted for a cold start, and its storage is for the job to name, for no client
can tell where it lies. An index of type HNSW the server may hold in memory. Milvus takes no seed.
The protocol was tested with pymilvus 3.0 against a stand-in that answers as Milvus does; no real
server was run: not its builds, its recall, its compaction, nor several shards.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import EngineError, JobError
from ..io_core.directory import remove_files
from ..optional import VECTORDB, Foreign, library, version_of
from .adapter import (
    Record,
    begin,
    check_all_stored,
    check_queries,
    check_rows,
    check_spec,
    of_family,
    padded,
    read_record,
    record_of,
    record_path,
    require_begun,
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

NAME = "milvus"
FIELD = "vector"
INDEX = "vector_index"
# Vectors that one call carries: servers refuse messages of more than 64 MiB.
INSERT_BYTES = 32 * 2**20
CONNECT_TIMEOUT_S = 10.0
# pymilvus asks a server that does not answer again, for as long as this.
SEARCH_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 600.0
COMPACT_TIMEOUT_S = 6 * 3600.0
POLL_S = 0.5
# Of a client: pymilvus with what it needs.
_MEMORY_BYTES = 256 * 2**20

BUILD_KEYS: Mapping[str, Key] = {
    "host": Key(types=(str,), default="127.0.0.1", section="database"),
    "port": Key(types=(int,), default=19530, least=1, section="database"),
    "collection": Key(types=(str,), default="mlps_vectors", section="database"),
    "num_shards": Key(types=(int,), default=1, least=1, section="database"),
    "index_type": Key(types=(str,), default="DISKANN", choices=("AISAQ", "DISKANN", "HNSW")),
    "max_degree": Key(types=(int,), default=64, least=1),
    "search_list_size": Key(types=(int,), default=200, least=1),
    "M": Key(types=(int,), default=64, least=2),
    "ef_construction": Key(types=(int,), default=200, least=1),
    "inline_pq": Key(types=(int,), default=16, least=0),
}
SEARCH_KEYS: Mapping[str, Key] = {"search_ef": Key(types=(int,), default=200, least=1)}
_FAMILIES = {
    "max_degree": ("AISAQ", "DISKANN"),
    "search_list_size": ("AISAQ", "DISKANN"),
    "M": ("HNSW",),
    "ef_construction": ("HNSW",),
    "inline_pq": ("AISAQ",),
}
# What Milvus calls a parameter, where that differs: it passes over names that it does not know.
_NAMES = {"ef_construction": "efConstruction"}


def _build_of(spec: IndexSpec) -> dict[str, Value]:
    check_spec(spec)
    found = settings(spec.build, BUILD_KEYS, "index")
    build = of_family(spec.build, found, str(found["index_type"]), _FAMILIES, "index")
    if not str(build["collection"]).isidentifier():
        raise JobError(f"database.collection must be a plain name, got {build['collection']!r}")
    return build


def _search_of(search: Mapping[str, Value]) -> int:
    return int(settings(search, SEARCH_KEYS, "search")["search_ef"] or 0)


class _Inserter:
    """Brings vectors into one collection; see `Inserter`."""

    def __init__(self, directory: Path, spec: IndexSpec, record: Record) -> None:
        self._directory, self._spec, self._record = directory, spec, record
        self._collection = str(record.build["collection"])
        self._server = _server(record.build)
        self._client: Foreign = _connected(self._server)

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors; see `Writer`. Milvus does not see that an id is there already."""
        ids, vectors = check_rows(ids, vectors, self._spec)
        step = max(1, INSERT_BYTES // (4 * self._spec.dimension))
        stored = 0
        for first in range(0, len(ids), step):
            part = slice(first, first + step)
            rows = [
                {"id": number, FIELD: vector}
                for number, vector in zip(ids[part].tolist(), vectors[part], strict=True)
            ]
            with _errors("insert into", self._server):
                found = self._open().insert(self._collection, rows, timeout=CALL_TIMEOUT_S)
            stored += int(found.get("insert_count", 0))
        return stored

    def flush(self) -> None:
        """Makes durable all that was inserted."""
        with _errors("flush", self._server):
            self._open().flush(self._collection, timeout=CALL_TIMEOUT_S)

    def close(self) -> None:
        """Lets go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> Foreign:
        if self._client is None:
            raise EngineError(f"the writer of {self._directory} is closed")
        return self._client


class MilvusJoiner(_Inserter):
    """Brings vectors into the collection that another process has made."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Raises EngineError unless that very collection is there."""
        record = require_begun(directory, record_of(NAME, spec, _build_of(spec)))
        super().__init__(directory, spec, record)
        try:
            with _errors("look for a collection of", self._server):
                mark = _mark_of(self._client, self._collection)
            if mark != record.mark:
                raise EngineError(f"the collection {self._collection} is not what was begun")
        except EngineError:
            self.close()
            raise


class MilvusWriter(_Inserter):
    """Makes one collection with its index; see `Writer`."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Removes what is left of a build that did not end; raises EngineError beside an index."""
        record = record_of(NAME, spec, _build_of(spec), uuid.uuid4().hex)
        super().__init__(directory, spec, record)
        try:
            if (left := begin(directory, record)) is not None:
                _drop_collection(left)
            self._create()
        except EngineError:
            self.close()
            raise

    def build(self, alive: Alive) -> bool:
        """Makes the index complete; see `Writer`. The server cannot be told to end: it goes on."""
        self.flush()
        with _errors("build the index of", self._server):
            parameters = self._open().prepare_index_params()
            parameters.add_index(
                field_name=FIELD,
                index_name=INDEX,
                index_type=self._record.build["index_type"],
                metric_type=self._spec.metric,
                params=_index_parameters(self._record.build),
            )
            self._open().create_index(
                self._collection, parameters, timeout=CALL_TIMEOUT_S, sync=False
            )
        if not self._indexed(alive):
            return False
        # Only what is loaded can be counted.
        with _errors("load", self._server):
            self._open().load_collection(self._collection, timeout=CALL_TIMEOUT_S)
        stored = self._counted()
        check_all_stored(stored, self._spec)
        write_record(self._directory, self._record, stored)
        return True

    def compact(self) -> None:
        """Merges segments and waits for the index of what was merged."""
        deadline = time.monotonic() + COMPACT_TIMEOUT_S
        with _errors("compact", self._server):
            job = self._open().compact(self._collection, timeout=CALL_TIMEOUT_S)
            while self._open().get_compaction_state(job, timeout=CALL_TIMEOUT_S) != "Completed":
                if time.monotonic() > deadline:
                    raise EngineError(f"{self._server} has not compacted {self._collection}")
                time.sleep(POLL_S)
        if not self._indexed(lambda done, total: time.monotonic() < deadline):
            raise EngineError(f"{self._server} has not indexed what it compacted")

    def count(self) -> int:
        """Vectors stored: counted by the server once there is an index, its statistics before."""
        with _errors("count", self._server):
            indexed = self._open().list_indexes(self._collection, timeout=CALL_TIMEOUT_S)
            if not indexed:
                found = self._open().get_collection_stats(self._collection, timeout=CALL_TIMEOUT_S)
                return int(found["row_count"])
        return self._counted()

    def _create(self) -> None:
        """The collection with its mark."""
        pymilvus = library("pymilvus", f"backend {NAME}", VECTORDB)
        with _errors("create a collection of", self._server):
            if self._open().has_collection(self._collection, timeout=CALL_TIMEOUT_S):
                raise EngineError(
                    f"{self._server} has a collection {self._collection} that is not this job's:"
                    " name another one"
                )
            write_record(self._directory, self._record)
            schema = self._open().create_schema(
                auto_id=False, enable_dynamic_field=False, description=self._record.mark
            )
            schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
            schema.add_field(FIELD, pymilvus.DataType.FLOAT_VECTOR, dim=self._spec.dimension)
            self._open().create_collection(
                self._collection,
                schema=schema,
                timeout=CALL_TIMEOUT_S,
                num_shards=self._record.build["num_shards"],
            )

    def _indexed(self, alive: Alive) -> bool:
        """Waits until all rows are indexed: a state of Finished alone is no proof of that."""
        while True:
            with _errors("ask for the index of", self._server):
                found = self._open().describe_index(self._collection, INDEX, timeout=CALL_TIMEOUT_S)
            if found is None:
                raise EngineError(f"{self._server} has no index of {self._collection}")
            done, total, state = found["indexed_rows"], found["total_rows"], found["state"]
            if state == "Failed":
                raise EngineError(f"{self._server} failed to build the index: {found}")
            complete = total >= self._spec.vectors and done >= total
            if complete and state == "Finished" and not found["pending_index_rows"]:
                alive(total, total)
                return True
            if not alive(min(done, total), max(total, 1)):
                return False
            time.sleep(POLL_S)

    def _counted(self) -> int:
        with _errors("count", self._server):
            rows = self._open().query(
                self._collection,
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=CALL_TIMEOUT_S,
            )
            return int(rows[0]["count(*)"])


class MilvusReader:
    """Searches one collection; see `Reader`."""

    def __init__(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """A connection of its own; the server loads the index unless it has done so."""
        self._spec = spec
        build = _build_of(spec)
        name = "ef" if build["index_type"] == "HNSW" else "search_list"
        self._parameters = {"metric_type": spec.metric, "params": {name: _search_of(search)}}
        require_complete(directory, record_of(NAME, spec, build))
        self._index_type = build["index_type"]
        self._collection, self._server = str(build["collection"]), _server(build)
        self._client: Foreign = _connected(self._server)
        try:
            with _errors("load", self._server):
                self._client.load_collection(self._collection, timeout=CALL_TIMEOUT_S)
        except EngineError:
            self.close()
            raise

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest of each query; see `Reader`."""
        if self._client is None:
            raise EngineError(f"the reader of {self._collection} is closed")
        queries = check_queries(queries, self._spec.dimension)
        with _errors("search in", self._server):
            found = self._client.search(
                self._collection,
                list(queries),
                limit=k,
                anns_field=FIELD,
                search_params=self._parameters,
                # All that was inserted is flushed and indexed: there is nothing to wait for.
                consistency_level="Eventually",
                timeout=SEARCH_TIMEOUT_S,
            )
        # Squared distances for L2; for others what Milvus tells is higher for what is nearer.
        sign = -1 if self._spec.metric == "L2" else 1
        return padded([[(hit["id"], sign * hit["distance"]) for hit in hits] for hits in found], k)

    def moved(self) -> None:
        """Unknown: the server reads."""

    def io(self) -> Io:
        """The server reads, or not."""
        reason = "Milvus may hold an index of type HNSW in memory"
        return Io(io_class="server", reason=reason if self._index_type == "HNSW" else None)

    def close(self) -> None:
        """Lets go of the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
    return Parameters(build=_build_of(spec), search={"search_ef": _search_of(search)})


def _estimate(spec: IndexSpec, _: Mapping[str, Value]) -> Estimate:
    """Of the server's storage, without what it keeps of its log until that is cleared."""
    build, raw = _build_of(spec), 4 * spec.dimension
    links = 4 * int(build.get("max_degree", 0)) or 8 * int(build.get("M", 0))
    row = 2 * raw + links
    return Estimate(
        index_bytes=spec.vectors * row,
        building_bytes=spec.vectors * row,
        # What one call carries, as rows and as a message.
        writer_bytes=_MEMORY_BYTES + 3 * INSERT_BYTES,
        reader_bytes=_MEMORY_BYTES,
        disk=f"on the server: {spec.vectors:,} x ({raw} B + an index of {raw + links} B)",
    )


def _data_paths(_: Path) -> tuple[Path, ...]:
    """None: where the server keeps its data no client can tell."""
    return ()


def _drop(directory: Path) -> None:
    """Removes the collection if it bears the mark of the record, and the record."""
    record = read_record(directory, NAME)
    if record is not None:
        _drop_collection(record)
        remove_files(directory, [record_path(directory, NAME).name])


def backend() -> Backend:
    """A server of Milvus; the version is the client's."""
    return Assembled(
        description=Description(
            name=NAME,
            version=version_of("pymilvus"),
            index="AISAQ, DISKANN, HNSW",
            io_class="server",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
            several_writers=True,
            packages=("pymilvus",),
        ),
        checks=_check,
        estimates=_estimate,
        writes=MilvusWriter,
        reads=MilvusReader,
        files=_data_paths,
        removes=_drop,
        joins=MilvusJoiner,
    )


def _server(build: Mapping[str, Value]) -> str:
    return f"http://{build['host']}:{build['port']}"


def _index_parameters(build: Mapping[str, Value]) -> dict[str, Value]:
    return {_NAMES.get(key, key): build[key] for key in _FAMILIES if key in build}


def _connected(server: str) -> Foreign:
    pymilvus = library("pymilvus", f"backend {NAME}", VECTORDB)
    with _errors("connect to", server):
        # A connection that is not shared: closing it closes it.
        return pymilvus.MilvusClient(uri=server, timeout=CONNECT_TIMEOUT_S, dedicated=True)


@contextmanager
def _errors(action: str, server: str) -> Iterator[None]:
    """Errors of pymilvus as EngineError that names the server."""
    pymilvus, grpc = (library(name, f"backend {NAME}", VECTORDB) for name in ("pymilvus", "grpc"))
    try:
        yield
    except (pymilvus.MilvusException, grpc.RpcError) as error:
        text = " ".join(str(error).split())
        raise EngineError(f"cannot {action} Milvus at {server}: {text}") from error


def _drop_collection(record: Record) -> None:
    server, name = _server(record.build), str(record.build["collection"])
    client = _connected(server)
    try:
        with _errors("drop a collection of", server):
            if _mark_of(client, name) == record.mark:
                client.drop_collection(name, timeout=CALL_TIMEOUT_S)
    finally:
        client.close()


def _mark_of(client: Foreign, collection: str) -> str | None:
    """What is written upon a collection; None if there is no such one."""
    if not client.has_collection(collection, timeout=CALL_TIMEOUT_S):
        return None
    return str(client.describe_collection(collection, timeout=CALL_TIMEOUT_S)["description"])
