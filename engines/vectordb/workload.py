"""A job of vector search as its benchmark says it: data, index, queries, load and caches."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .backend import Backend, IndexSpec, Value
from .backends import backend_of
from .data import Data, data_of
from .metrics import Metric

Load = Literal["closed", "open"]
Arrival = Literal["poisson", "constant"]
CacheMode = Literal["direct", "cold", "pressure", "warm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """The requests of one run. Of `runtime_s` and `queries` (of all ranks) one is None.

    `target_qps` is that of all ranks together, None in a closed loop.
    """

    runtime_s: float | None
    queries: int | None
    batch_size: int
    target_qps: float | None
    arrival: Arrival
    arrival_seed: int
    request_limit_s: float
    failures_most: int

    @property
    def load(self) -> Load:
        """closed: a client asks again once it is answered; open: at a rate."""
        return "closed" if self.target_qps is None else "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What memory may hold of the index when a run begins; `command` empties it, or ranks do."""

    mode: CacheMode
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitySearch:
    """The search for the highest rate whose latency at a percentile is within a limit."""

    fraction: float
    limit_ms: float
    runtime_s: float
    precision_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Runs with each value of a parameter of the search."""

    parameter: str
    values: tuple[Value, ...]
    runtime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSearch:
    """A whole job. Data and queries have their own readers: `data.py`.

    `search` are the parameters that are given; `probe_queries` are at most as many as there are
    queries, and `insert_batch` vectors are inserted at a time.
    """

    backend: Backend
    spec: IndexSpec
    search: Mapping[str, Value]
    k: int
    insert_batch: int
    truth_depth: int
    recall_least: float
    epsilon: float
    probe_queries: int
    cache: Cache
    traffic: Traffic
    capacity: CapacitySearch | None
    sweep: Sweep | None


def workload_of(benchmark: Document, ranks: int, data: Data | None = None) -> VectorSearch:
    """The workload of a job with so many ranks; raises JobError, and EngineError for its files.

    `data` are those of the job, where they are read already.
    """
    section = Section(benchmark)
    data = data or data_of(benchmark)
    backend = backend_of(section.section("database").text("backend"))
    spec = IndexSpec(
        dimension=data.dimension,
        metric=section.section("index").choice("metric_type", get_args(Metric)),
        vectors=data.vectors,
        seed=section.section("dataset").count("seed", least=0),
        build=_build(benchmark),
    )
    search = _given(benchmark, "search", "k")
    backend.check(spec, search)
    workload = VectorSearch(
        backend=backend,
        spec=spec,
        search=search,
        k=section.section("search").count("k"),
        insert_batch=section.section("dataset").count("batch_size"),
        truth_depth=section.section("truth").count("depth"),
        recall_least=section.section("recall").number("least"),
        epsilon=section.section("recall").number("epsilon"),
        probe_queries=min(section.section("probe").count("queries"), data.query_count),
        cache=_cache(section.section("cache"), backend),
        traffic=_traffic(section.section("run")),
        capacity=_capacity(section.section("capacity")),
        sweep=_sweep(section.section("sweep"), backend, spec, search),
    )
    _check(workload, data, ranks)
    return workload


# ---------------------------------------------------------------- index and search


def _build(benchmark: Document) -> dict[str, Value]:
    """Parameters of the index: where it is to be, and how it is built."""
    server = _given(benchmark, "database", "backend")
    index = _given(benchmark, "index", "metric_type")
    for key in index:
        if key in server:
            raise JobError(f"{key} is in database and in index: benchmark.index.{key}=null")
    return {**server, **index}


def _given(benchmark: Document, name: str, besides: str) -> dict[str, Value]:
    """The keys of a section that are not null, without one that is no parameter of a backend."""
    section = benchmark.get(name)
    if not isinstance(section, dict):
        raise JobError(f"{name} must be a mapping, got {section!r}")
    return {key: value for key, value in section.items() if key != besides and value is not None}


def _sweep(
    section: Section, backend: Backend, spec: IndexSpec, search: Mapping[str, Value]
) -> Sweep | None:
    if section.choice("when", ("never", "success")) == "never":
        return None
    keys = backend.describe().search_keys
    known = ", ".join(sorted(keys))
    if "parameter" not in section:
        raise JobError(f"a sweep needs sweep.parameter, one of: {known}")
    parameter, values = section.text("parameter"), section.value("values")
    if parameter not in keys:
        near = difflib.get_close_matches(parameter, keys, n=1)
        meant = f"did you mean {near[0]}? There are {known}" if near else f"there are {known}"
        raise JobError(f"sweep.parameter is {parameter!r}, no parameter of the search: {meant}")
    if not isinstance(values, list) or not values:
        raise JobError(
            f"sweep.values must be a list of values of search.{parameter}, got {values!r}:"
            " benchmark.sweep.values=[...]"
        )
    for value in values:
        backend.check(spec, {**search, parameter: value})
    return Sweep(
        parameter=parameter,
        values=tuple(cast(list[Value], values)),
        runtime_s=section.positive("runtime_s"),
    )


# ---------------------------------------------------------------- load


def _traffic(section: Section) -> Traffic:
    mode = section.choice("mode", ("timed", "query_count"))
    runtime_s = section.positive_or_none("runtime_s")
    queries = section.count_or_none("queries")
    wanted, other = ("runtime_s", "queries") if mode == "timed" else ("queries", "runtime_s")
    if wanted not in section:
        raise JobError(f"run.mode is {mode}, and run.{wanted} is null: benchmark.run.{wanted}=...")
    if other in section:
        raise JobError(
            f"run.mode is {mode}, and run.{other} is {section.value(other)}:"
            f" benchmark.run.{other}=null"
        )
    load = section.choice("load", get_args(Load))
    target_qps = section.positive_or_none("target_qps")
    if load == "open" and target_qps is None:
        raise JobError("run.load is open, and run.target_qps is null: benchmark.run.target_qps=...")
    if load == "closed" and target_qps is not None:
        raise JobError(
            f"run.load is closed, and run.target_qps is {target_qps:g}: benchmark.run.load=open, or"
            " benchmark.run.target_qps=null"
        )
    return Traffic(
        runtime_s=runtime_s,
        queries=queries,
        batch_size=section.count("batch_size"),
        target_qps=target_qps,
        arrival=section.choice("arrival", get_args(Arrival)),
        arrival_seed=section.count("arrival_seed", least=0),
        request_limit_s=section.positive("request_limit_s"),
        failures_most=section.count("failures_most", least=0),
    )


def _capacity(section: Section) -> CapacitySearch | None:
    if section.choice("when", ("never", "success")) == "never":
        return None
    fraction = section.positive("percentile")
    if fraction >= 1:
        raise JobError(f"capacity.percentile must be below 1, as 0.99 is, got {fraction:g}")
    return CapacitySearch(
        fraction=fraction,
        limit_ms=section.positive("limit_ms"),
        runtime_s=section.positive("runtime_s"),
        precision_pct=section.positive("precision_pct"),
    )


def _cache(section: Section, backend: Backend) -> Cache:
    mode = section.choice("mode", get_args(CacheMode))
    description = backend.describe()
    means = f"cache.mode is {mode}, and searches of {description.name} are of class"
    if mode == "direct" and description.io_class != "direct":
        raise JobError(
            f"{means} {description.io_class}, not past the page cache: benchmark.cache.mode=cold"
        )
    if mode != "warm" and description.io_class == "memory":
        raise JobError(f"{means} memory, which reads nothing: benchmark.cache.mode=warm")
    command = section.texts("command")
    if section.choice("method", ("drop", "command")) == "drop":
        if command:
            raise JobError("cache.command is for benchmark.cache.method=command, which is not set")
    elif not command:
        raise JobError(
            "cache.method is command, and cache.command is empty: benchmark.cache.command=[...],"
            " a program and its words"
        )
    elif mode != "cold":
        raise JobError(
            f"cache.mode is {mode}, which evicts nothing, and cache.method is command:"
            " benchmark.cache.method=drop"
        )
    return Cache(mode=mode, command=command)


# ---------------------------------------------------------------- what does not go together


def _check(workload: VectorSearch, data: Data, ranks: int) -> None:
    """Raises JobError."""
    if ranks > 1 and not workload.backend.describe().several_readers:
        name = workload.backend.describe().name
        raise JobError(f"an index of {name} has one reader alone, and there are {ranks} ranks")
    if workload.k > workload.truth_depth:
        raise JobError(
            f"search.k is {workload.k}, and truth.depth is {workload.truth_depth}:"
            f" benchmark.truth.depth={workload.k}"
        )
    if workload.recall_least > 1:
        raise JobError(f"recall.least must be at most 1, got {workload.recall_least:g}")
    wanted = ranks * workload.traffic.batch_size
    if wanted > data.query_count:
        raise JobError(
            f"query.num_query_vectors is {data.query_count}, and {ranks} ranks with"
            f" run.batch_size={workload.traffic.batch_size} need {wanted}, each its own:"
            f" benchmark.query.num_query_vectors={wanted}, or fewer ranks"
        )
