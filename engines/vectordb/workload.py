"""A job of vector search as its benchmark says it: data, index, queries, load and caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ..contract import Document
from ..errors import JobError
from ..section import Section
from .backend import Backend, IndexSpec, Value
from .backends import backend_of
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
    """A whole job. Data and queries have their own readers: `data.py`."""

    backend: Backend
    spec: IndexSpec
    search: Mapping[str, Value]
    k: int
    batch_size: int
    truth_depth: int
    recall_least: float
    epsilon: float
    probe_queries: int
    cache: Cache
    traffic: Traffic
    capacity: CapacitySearch | None
    sweep: Sweep | None
    data_path: Path | None
