"""pgvector: a table in a PostgreSQL server, with an index of type HNSW or IVFFLAT.

The server is named by a connection text of libpq; passwords go by PGPASSWORD, a password file or a
service, never into a job. In the directory lies only the record, which tells the server and the
table. pgvector takes no seed: two builds differ. Where the server is on this machine, its files are
the data paths. From PostgreSQL 18 on a reader knows what its connection has read; that is what
the server asked of the kernel, whose page cache may have it.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, JobError
from ..io_core.directory import remove_files
from ..optional import VECTORDB, Foreign, library, version_of
from .adapter import (
    Record,
    begin,
    check_all_stored,
    check_most,
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
    Moved,
    Parameters,
    Scores,
    Value,
    Vectors,
    settings,
)
from .metrics import Metric

NAME = "pgvector"
# Of the type `vector`: more components cannot be indexed.
DIMENSION_MOST = 2000
_POLL_S = 0.2
_PAGE_BYTES = 8192
# Of a client, beside what it is given.
_MEMORY_BYTES = 32 * 2**20
_WORD = re.compile(r"[a-z_][a-z0-9_]{0,50}")
_OPERATORS: Mapping[str, str] = {"COSINE": "<=>", "L2": "<->", "IP": "<#>"}
_CLASSES: Mapping[str, str] = {
    "COSINE": "vector_cosine_ops",
    "L2": "vector_l2_ops",
    "IP": "vector_ip_ops",
}

BUILD_KEYS: Mapping[str, Key] = {
    # As libpq reads it; PGHOST and others count too.
    "connection": Key(types=(str,), default="", section="database"),
    "table": Key(types=(str,), default="mlps_vectors", section="database"),
    "index_type": Key(types=(str,), default="HNSW", choices=("HNSW", "IVFFLAT")),
    "M": Key(types=(int,), default=16, least=2),
    "ef_construction": Key(types=(int,), default=64, least=4),
    "nlist": Key(types=(int,), default=None, least=1),  # the square root of the vectors
}
SEARCH_KEYS: Mapping[str, Key] = {
    "search_ef": Key(types=(int,), default=None, least=1),  # 40
    "nprobe": Key(types=(int,), default=None, least=1),  # 8, or all lists where there are fewer
}
_FAMILIES = {"M": ("HNSW",), "ef_construction": ("HNSW",), "nlist": ("IVFFLAT",)}
_MOST = {"M": 100, "ef_construction": 1000, "nlist": 32768}

_PROGRESS = """
    select coalesce(max(tuples_done), 0)::bigint, coalesce(max(tuples_total), 0)::bigint
    from pg_stat_progress_create_index where pid = %s
"""
_FILES = """
    select pg_relation_filepath(each) from unnest(array[
        %(table)s::regclass::oid,
        (select reltoastrelid from pg_class where oid = %(table)s::regclass)
    ]) as owner, lateral (
        select owner as each union all select indexrelid from pg_index where indrelid = owner
    ) as relations where owner <> 0
"""
_READS = """
    select coalesce(sum(read_bytes), 0)::bigint, coalesce(sum(reads), 0)::bigint
    from pg_stat_get_backend_io(pg_backend_pid()) where object = 'relation'
"""


def _build_of(spec: IndexSpec) -> dict[str, Value]:
    check_spec(spec)
    if spec.dimension > DIMENSION_MOST:
        raise JobError(
            f"pgvector indexes at most {DIMENSION_MOST} components, got {spec.dimension}"
        )
    found = settings(spec.build, BUILD_KEYS, "index")
    if found["nlist"] is None:
        found["nlist"] = max(1, round(math.sqrt(spec.vectors)))
    build = of_family(spec.build, found, str(found["index_type"]), _FAMILIES, "index")
    check_most("index", build, _MOST)
    if build["index_type"] == "HNSW" and int(build["ef_construction"]) < 2 * int(build["M"]):
        raise JobError("index.ef_construction must be at least twice index.M")
    if not _WORD.fullmatch(str(build["table"])):
        raise JobError(
            f"database.table must be a plain name in small letters, got {build['table']!r}"
        )
    return build


def _search_of(spec: IndexSpec, search: Mapping[str, Value]) -> tuple[str, int]:
    """The setting of PostgreSQL that searches take, and its value."""
    build = _build_of(spec)
    found = settings(search, SEARCH_KEYS, "search")
    families = {"search_ef": ("HNSW",), "nprobe": ("IVFFLAT",)}
    values = of_family(search, found, str(build["index_type"]), families, "search")
    if build["index_type"] == "HNSW":
        check_most("search", values, {"search_ef": 1000})
        return "hnsw.ef_search", int(values.get("search_ef", 40))
    nlist = int(build["nlist"])
    nprobe = int(values.get("nprobe", min(8, nlist)))
    if nprobe > nlist:
        raise JobError(f"search.nprobe is {nprobe}, and the index has {nlist} lists")
    return "ivfflat.probes", nprobe


def _check_connection(text: str) -> None:
    psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
    try:
        words = psycopg.conninfo.conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        raise JobError(f"database.connection is no connection text: {error}") from error
    if "password" in words:
        raise JobError(
            "database.connection holds a password, and jobs are kept: set PGPASSWORD, or name a"
            " service or a password file"
        )


class _Inserter:
    """Brings vectors into one table; see `Inserter`."""

    def __init__(self, directory: Path, spec: IndexSpec, record: Record) -> None:
        self._directory, self._spec, self._record = directory, spec, record
        self._server = str(record.build["connection"])
        self._table = str(record.build["table"])
        self._connection: Foreign = _connected(self._server)

    def insert(self, ids: Ids, vectors: Vectors) -> int:
        """Takes vectors; see `Writer`. Of a batch with an id that is there nothing is stored."""
        ids, vectors = check_rows(ids, vectors, self._spec)
        with _errors("insert into", self._server), self._open().cursor() as cursor:
            with cursor.copy(f"copy {self._table} from stdin (format binary)") as copy:
                copy.write(_copied(ids, vectors))
            return int(cursor.rowcount)

    def flush(self) -> None:
        """Nothing: what `insert` has stored is committed, and so durable."""

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Foreign:
        if self._connection is None:
            raise EngineError(f"the writer of {self._directory} is closed")
        return self._connection


class PgvectorJoiner(_Inserter):
    """Brings vectors into the table that another process has made."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Raises EngineError unless that very table is there."""
        record = require_begun(directory, record_of(NAME, spec, _build_of(spec)))
        super().__init__(directory, spec, record)
        try:
            with _errors("look for the table of", self._server):
                mark = _mark_of(self._connection, self._table)
            if mark != record.mark:
                raise EngineError(f"the table {self._table} is not the one that was begun")
        except EngineError:
            self.close()
            raise


class PgvectorWriter(_Inserter):
    """Makes one table with its index; see `Writer`."""

    def __init__(self, directory: Path, spec: IndexSpec) -> None:
        """Removes what is left of a build that did not end; raises EngineError beside an index."""
        record = record_of(NAME, spec, _build_of(spec), uuid.uuid4().hex)
        super().__init__(directory, spec, record)
        try:
            if (left := begin(directory, record)) is not None:
                _drop_table(left)
            write_record(directory, record)
            self._create()
        except EngineError:
            self.close()
            raise

    def build(self, alive: Alive) -> bool:
        """Makes the index complete; see `Writer`. Progress is what PostgreSQL tells of it."""
        connection = self._open()
        stored = self.count()
        check_all_stored(stored, self._spec)
        if not alive(0, stored):
            return False
        with _errors("build the index of", self._server):
            if not self._indexed(connection, alive):
                return False
        with _errors("look at the index of", self._server):
            query = "select indisvalid from pg_index where indexrelid = %s::regclass"
            row = connection.execute(query, [_index(self._table)]).fetchone()
        if row is None or not row[0]:
            raise EngineError(f"the index {_index(self._table)} is not valid")
        write_record(self._directory, self._record, stored)
        alive(stored, stored)
        return True

    def compact(self) -> None:
        """Vacuums, and writes what the server still has in memory if the user may ask for that."""
        psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
        with _errors("vacuum", self._server):
            self._open().execute(f"vacuum (analyze) {self._table}")
            with suppress(psycopg.errors.InsufficientPrivilege):
                self._open().execute("checkpoint")

    def count(self) -> int:
        """Vectors stored, counted by the server."""
        with _errors("count", self._server):
            return int(self._open().execute(f"select count(*) from {self._table}").fetchone()[0])

    def _create(self) -> None:
        """The table with its mark, both or none."""
        psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
        connection = self._open()
        with _errors("create the table of", self._server):
            connection.execute("create extension if not exists vector")
            try:
                with connection.transaction():
                    connection.execute(
                        f"create table {self._table} (id bigint primary key,"
                        f" v vector({self._spec.dimension}) not null)"
                    )
                    connection.execute(f"comment on table {self._table} is '{self._record.mark}'")
            except psycopg.errors.DuplicateTable as error:
                _remove_record(self._directory)
                raise EngineError(
                    f"there is a table {self._table} that is not this job's: name another one"
                ) from error

    def _indexed(self, connection: Foreign, alive: Alive) -> bool:
        """Builds in a thread, to tell of progress and to ask whether to go on."""
        psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
        failures: list[Exception] = []

        def work() -> None:
            try:
                connection.execute(_index_statement(self._record))
            except psycopg.Error as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        with _connected(self._server) as watcher:
            thread.start()
            try:
                went_on = self._watched(thread, watcher, connection, alive)
            finally:
                if thread.is_alive():
                    connection.cancel_safe()
                thread.join()
        if not went_on:
            return False
        if failures:
            raise failures[0]
        return True

    def _watched(
        self, thread: threading.Thread, watcher: Foreign, connection: Foreign, alive: Alive
    ) -> bool:
        pid = connection.info.backend_pid
        while thread.is_alive():
            done, total = watcher.execute(_PROGRESS, [pid]).fetchone()
            if not alive(min(done, total), max(total, 1)):
                return False
            thread.join(_POLL_S)
        return True


class PgvectorReader:
    """Searches one table through its index; see `Reader`."""

    def __init__(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """A connection of its own that may only read, and that must use the index."""
        self._spec = spec
        build = _build_of(spec)
        setting, value = _search_of(spec, search)
        require_complete(directory, record_of(NAME, spec, build))
        self._server, self._table = str(build["connection"]), str(build["table"])
        operator = _OPERATORS[spec.metric]
        self._query = (
            f"select id, v {operator} %b from {self._table} order by v {operator} %b limit %b"
        )
        self._connection: Foreign = _connected(self._server)
        try:
            with _errors("open", self._server):
                self._packed = _prepared(self._connection)
                self._set_up(setting, value)
                self._check_index()
                self._before = self._moved()
        except EngineError:
            self.close()
            raise

    def search(self, queries: Vectors, k: int) -> tuple[Ids, Scores]:
        """The k nearest of each query; see `Reader`."""
        queries = check_queries(queries, self._spec.dimension)
        bodies = _bodies(queries)
        with _errors("search in", self._server), self._open().cursor(binary=True) as cursor:
            found = [self._nearest(cursor, bodies[row].tobytes(), k) for row in range(len(queries))]
        return padded(found, k)

    def moved(self) -> Moved | None:
        """What this connection has read since it was opened; None before PostgreSQL 18."""
        with _errors("ask for statistics of", self._server):
            now = self._moved()
        if now is None or self._before is None:
            return None
        return Moved(
            read_bytes=now.read_bytes - self._before.read_bytes,
            reads=now.reads - self._before.reads,
        )

    def io(self) -> Io:
        """The server reads."""
        return Io(io_class="server")

    def close(self) -> None:
        """Lets go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_up(self, setting: str, value: int) -> None:
        for name, word in (
            ("default_transaction_read_only", "on"),
            # Without the index a search would be exact, and say nothing about it.
            ("enable_seqscan", "off"),
            ("enable_sort", "off"),
            # What is planned as a long scan would be compiled first, and ends after k rows.
            ("jit", "off"),
            (setting, str(value)),
        ):
            self._connection.execute("select set_config(%s, %s, false)", [name, word])

    def _check_index(self) -> None:
        """Raises EngineError unless the server searches through the index."""
        body = self._packed(_bodies(np.ones((1, self._spec.dimension), np.float32))[0].tobytes())
        plan = self._connection.execute(f"explain {self._query}", [body, body, 1]).fetchall()
        if not any(_index(self._table) in line for (line,) in plan):
            raise EngineError(
                f"PostgreSQL does not use {_index(self._table)} for searches: {plan[0][0]}"
            )

    def _nearest(self, cursor: Foreign, body: bytes, k: int) -> list[tuple[int, float]]:
        query = self._packed(body)
        cursor.execute(self._query, [query, query, k], prepare=True)
        return [
            (number, score_of(distance, self._spec.metric))
            for number, distance in cursor.fetchall()
        ]

    def _moved(self) -> Moved | None:
        if self._open().info.server_version < 180000:
            return None
        self._open().execute("select pg_stat_force_next_flush()")
        read_bytes, reads = self._open().execute(_READS).fetchone()
        return Moved(read_bytes=read_bytes, reads=reads)

    def _open(self) -> Foreign:
        if self._connection is None:
            raise EngineError(f"the reader of {self._table} is closed")
        return self._connection


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
    build, (setting, value) = _build_of(spec), _search_of(spec, search)
    _check_connection(str(build["connection"]))
    name = "search_ef" if setting == "hnsw.ef_search" else "nprobe"
    return Parameters(build=build, search={name: value})


def _estimate(spec: IndexSpec, _: Mapping[str, Value]) -> Estimate:
    """Of the server's disk: rows with their heads, and the index, which holds all vectors again."""
    build, raw = _build_of(spec), 4 * spec.dimension + 8
    # A node has up to 2 M neighbours in its lowest layer and M in others, of 6 bytes each.
    links = 12 * int(build["M"]) + 6 * int(build["M"]) if build["index_type"] == "HNSW" else 0
    # Pages of 8 KiB of which none holds a part of a node.
    node = raw + links + 100
    page = _PAGE_BYTES // max(_PAGE_BYTES // node, 1) if node <= _PAGE_BYTES else node
    index = spec.vectors * page
    table = spec.vectors * (raw + 64)
    return Estimate(
        index_bytes=index + table,
        building_bytes=index + table,
        writer_bytes=_MEMORY_BYTES,
        reader_bytes=_MEMORY_BYTES,
        disk=f"on the server: {spec.vectors:,} x ({raw + 64} B in the table + {page} in the index)",
    )


def _data_paths(directory: Path) -> tuple[Path, ...]:
    """The server's files of table and indexes; none if it is elsewhere or does not tell."""
    record = read_record(directory, NAME)
    return () if record is None else _local_files(record)


def _drop(directory: Path) -> None:
    """Removes the table if it bears the mark of the record, and the record."""
    record = read_record(directory, NAME)
    if record is not None:
        _drop_table(record)
        _remove_record(directory)


def backend() -> Backend:
    """A server of PostgreSQL with pgvector; the version is the client's."""
    return Assembled(
        description=Description(
            name=NAME,
            version=version_of("psycopg"),
            index="HNSW, IVFFLAT",
            io_class="server",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
            several_writers=True,
            packages=("psycopg",),
        ),
        checks=_check,
        estimates=_estimate,
        writes=PgvectorWriter,
        reads=PgvectorReader,
        files=_data_paths,
        removes=_drop,
        joins=PgvectorJoiner,
    )


def score_of(distance: float, metric: Metric) -> float:
    """A score from 1 - cosine, the distance (not squared), or minus the inner product."""
    if metric == "COSINE":
        return 1 - distance
    return -(distance**2) if metric == "L2" else -distance


def _index(table: str) -> str:
    return f"{table}_index"


def _index_statement(record: Record) -> str:
    build = record.build
    if build["index_type"] == "HNSW":
        kind, words = "hnsw", f"m = {build['M']}, ef_construction = {build['ef_construction']}"
    else:
        kind, words = "ivfflat", f"lists = {build['nlist']}"
    return (
        f"create index {_index(str(build['table']))} on {build['table']}"
        f" using {kind} (v {_CLASSES[record.metric]}) with ({words})"
    )


def _connected(server: str) -> Foreign:
    psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
    _check_connection(server)
    with _errors("connect to", server):
        return psycopg.connect(server, autocommit=True, connect_timeout=10)


def _prepared(connection: Foreign) -> Foreign:
    """The class of vectors in the server's own form, known to the connection."""
    psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
    # Also loads pgvector, whose settings the server does not check before.
    row = connection.execute("select 'vector'::regtype::oid::int, '[1]'::vector::text").fetchone()

    class Packed(bytes):
        """A vector in the server's own form."""

    base: Foreign = psycopg.adapt.Dumper

    class PackedDumper(base):  # type: ignore[misc]  # has no types: imported late
        """Hands it over as it is."""

        format = psycopg.pq.Format.BINARY
        oid = row[0]

        def dump(self, obj: bytes) -> bytes:
            """The bytes alone."""
            return bytes(obj)

    connection.adapters.register_dumper(Packed, PackedDumper)
    return Packed


@contextmanager
def _errors(action: str, server: str) -> Iterator[None]:
    """Errors of PostgreSQL as EngineError that names the server."""
    psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
    try:
        yield
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        raise EngineError(f"cannot {action} PostgreSQL ({server or 'default'}): {text}") from error


def _bodies(vectors: Vectors) -> NDArray[np.void]:
    """Vectors as pgvector sends and receives them, one record each."""
    dimension = vectors.shape[1]
    form = np.dtype([("dimension", ">i2"), ("unused", ">i2"), ("v", ">f4", (dimension,))])
    bodies = np.zeros(len(vectors), form)
    bodies["dimension"], bodies["v"] = dimension, vectors
    return bodies


def _copied(ids: Ids, vectors: Vectors) -> bytes:
    """Rows in the binary form of COPY: for each a number of columns, and each with its length."""
    bodies = _bodies(vectors)
    row = np.dtype(
        [
            ("columns", ">i2"), ("id_bytes", ">i4"), ("id", ">i8"), ("v_bytes", ">i4"),
            ("v", bodies.dtype),
        ]
    )  # fmt: skip
    rows = np.zeros(len(ids), row)
    rows["columns"], rows["id_bytes"], rows["id"] = 2, 8, ids
    rows["v_bytes"], rows["v"] = bodies.dtype.itemsize, bodies
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    return head + rows.tobytes() + struct.pack(">h", -1)


def _drop_table(record: Record) -> None:
    server, table = str(record.build["connection"]), str(record.build["table"])
    with _connected(server) as connection, _errors("drop the table of", server):
        if _mark_of(connection, table) == record.mark:
            connection.execute(f"drop table {table}")


def _mark_of(connection: Foreign, table: str) -> str | None:
    """What is written upon a table; None if nothing is, or there is no such table."""
    query = "select obj_description(to_regclass(%s), 'pg_class')"
    mark: str | None = connection.execute(query, [table]).fetchone()[0]
    return mark


def _remove_record(directory: Path) -> None:
    remove_files(directory, [record_path(directory, NAME).name])


def _local_files(record: Record) -> tuple[Path, ...]:
    psycopg = library("psycopg", f"backend {NAME}", VECTORDB)
    server, table = str(record.build["connection"]), str(record.build["table"])
    with _connected(server) as connection, _errors("ask for files of", server):
        try:
            row = connection.execute(
                "select current_setting('data_directory'), system_identifier"
                " from pg_control_system()"
            ).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return ()
        names = connection.execute(_FILES, {"table": table}).fetchall()
    home = Path(row[0])
    if not _is_home_of(home, row[1]):
        return ()
    return tuple(path for (name,) in names if name for path in _segments(home / name))


def _is_home_of(home: Path, identifier: int) -> bool:
    """Whether this is the server's directory, and not that of another one of the same name."""
    try:
        with (home / "global" / "pg_control").open("rb") as file:
            return int(struct.unpack("=Q", file.read(8))[0]) == identifier % 2**64
    except (OSError, struct.error):
        return False


def _segments(path: Path) -> list[Path]:
    """A relation's files: each holds at most 1 GiB."""
    more = [each for each in path.parent.glob(f"{path.name}.*") if each.suffix[1:].isdigit()]
    return sorted(each for each in [path, *more] if each.exists() and each.stat().st_size)
