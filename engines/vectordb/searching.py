"""The stages that search: probe, run, capacity, sweep. Each is one point or several.

Every point begins with fresh readers and with the caches that the job wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from ..errors import JobError
from ..result import Outcome
from ..stage import Session
from .capacity import Tried, Try, is_met, next_try
from .course import Clients, Measured
from .points import Point
from .setting import Setting, setting_of
from .workload import CapacitySearch

Part = TypeVar("Part")


def probe(session: Session) -> None:
    """Searches a little, which shows whether answers are right and come from storage."""
    with _clients(session, "probe") as clients:
        queries = clients.setting.workload.probe_queries
        point = replace(_point(clients.setting), purpose="probe", distinct=queries, queries=queries)
        clients.measure(point, session.outcome)


def run(session: Session) -> None:
    """Searches as the job says: what is measured."""
    with _clients(session, "run") as clients:
        traffic = clients.setting.workload.traffic
        point = replace(
            _point(clients.setting),
            runtime_s=traffic.runtime_s,
            queries=traffic.queries,
            target_qps=traffic.target_qps,
        )
        clients.measure(point, session.outcome)


def capacity(session: Session) -> None:
    """Searches for the highest rate at which requests are answered in time."""
    with _clients(session, "capacity") as clients:
        limits = session.agree(lambda: _wanted(clients.setting.workload.capacity, "capacity"))
        point = replace(_point(clients.setting), purpose="search", runtime_s=limits.runtime_s)
        closed_per_s = session.exchange(_rate(clients.measure(point, Outcome())))[0]
        tried: list[Tried] = []
        while (what := next_try(closed_per_s, limits.precision_pct, tried)) is not None:
            tried.append(_tried(clients, point, limits, what))


def sweep(session: Session) -> None:
    """Searches with each value of a parameter."""
    with _clients(session, "sweep") as clients:
        wanted = session.agree(lambda: _wanted(clients.setting.workload.sweep, "sweep"))
        for value in wanted.values:
            point = replace(
                _point(clients.setting),
                purpose="sweep",
                search={**clients.setting.workload.search, wanted.parameter: value},
                runtime_s=wanted.runtime_s,
                parameter=(wanted.parameter, value),
            )
            clients.measure(point, Outcome())


@contextmanager
def _clients(session: Session, does: str) -> Iterator[Clients]:
    """The clients of a stage; what they have measured is told however it ends."""
    setting = session.agree(lambda: setting_of(session.job, session.ranks))
    clients = Clients(session, setting)
    try:
        clients.ready()
        yield clients
    finally:
        if session.rank == 0:
            session.outcome.vectordb = setting.document(does, clients.io, points=clients.points)


def _point(setting: Setting) -> Point:
    """A run of all queries in a closed loop, neither so long nor so many yet."""
    workload = setting.workload
    return Point(
        purpose="run",
        search=workload.search,
        k=workload.k,
        batch_size=workload.traffic.batch_size,
        distinct=setting.data.query_count,
    )


def _wanted(part: Part | None, name: str) -> Part:
    """A part of the benchmark that a stage is about; raises JobError where it has none."""
    if part is None:
        raise JobError(f"{name}.when is never: there is nothing to do")
    return part


def _rate(measured: Measured | None) -> float:
    """Queries per second of a point; of rank 0 only."""
    if measured is None:
        return 0.0
    return float(measured.document["queries"] / measured.document["elapsed_s"])


def _tried(clients: Clients, point: Point, limits: CapacitySearch, what: Try) -> Tried:
    """Offers a rate; all ranks hear how that went."""
    # The last one, which confirms, is what the stage's own counters are of, and recall of all.
    confirms = what.purpose == "confirm"
    offered = replace(point, purpose=what.purpose, target_qps=what.rate_per_s, all_asked=confirms)
    measured = clients.measure(offered, clients.session.outcome if confirms else Outcome())
    least = clients.setting.workload.recall_least
    met = measured is not None and is_met(measured.document, measured.latency, limits, least)
    return Tried(what, clients.session.exchange(met)[0])
