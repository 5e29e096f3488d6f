"""What stages of vector search report, as by hand: 10,000 vectors, 1,000 queries, two clients."""

from __future__ import annotations

import copy

from official_jobs import official_spec

from mlps.engine.plan import make_plan
from mlps.engine.spec import JobSpec

KIB, GIB = 2**10, 2**30
START_UNIX_S = 1.8e9

VECTORS, DIMENSION = 10_000, 128
RAW_BYTES = VECTORS * DIMENSION * 4
# What a query reads, in so many reads.
QUERY_BYTES, QUERY_READS = 256 * KIB, 16

BUILD = {"nlist": 100, "kmeans_rounds": 10, "sample": 4000}
SEARCH = {"nprobe": 16, "reads_in_flight": 4, "io": "auto"}


def histogram_of(fast, slow=0, slowest=0):
    """So many requests of 1 ms, of 2 ms and of 9 ms."""
    kinds = [(1, fast), (2, slow), (9, slowest)]
    taken = [(ms, count) for ms, count in kinds if count]
    return {
        "unit": "ns",
        "upper": [ms * 10**6 for ms, _ in taken],
        "count": [count for _, count in taken],
        "sum": sum(ms * count for ms, count in taken) * 10**6,
        "min": taken[0][0] * 10**6 if taken else None,
        "max": taken[-1][0] * 10**6 if taken else None,
    }


def backend_of(**changes):
    backend = {
        "name": "native_ivf",
        "version": "1",
        "index": "IVF",
        "io_class": "direct",
        "io_reason": None,
        "build": BUILD,
        "search": SEARCH,
    }
    return backend | changes


def dataset_of(**changes):
    dataset = {
        "sha256": "aa" * 32,
        "vectors": VECTORS,
        "dimension": DIMENSION,
        "distribution": "clustered",
        "source": None,
        "metric": "COSINE",
        "raw_bytes": RAW_BYTES,
    }
    return dataset | changes


def load_of(**changes):
    """10,000 vectors in 2 s, made durable in 0.5 s, built in 1.5 s."""
    load = {
        "reused": False,
        "inserted": VECTORS,
        "stored": VECTORS,
        "writers": 1,
        "insert_s": 2.0,
        "flush_s": 0.5,
        "build_s": 1.5,
        "compact_s": 0.25,
        "index_bytes": 2 * RAW_BYTES,
        "index_files": 2,
    }
    return load | changes


def truth_of(**changes):
    truth = {
        "reused": False,
        "depth": 100,
        "covered": 1.0,
        "sha256": "cc" * 32,
        "elapsed_s": 1.25,
        "parts": 2,
    }
    return truth | changes


def recall_of(mean=0.97, **changes):
    recall = {
        "k": 10,
        "queries": 1000,
        "mean": mean,
        "median": 1.0,
        "least": 0.5,
        "most": 1.0,
        "p5": 0.8,
        "p95": 1.0,
        "p99": 1.0,
        "zero_queries": 0,
        "epsilon": 0.001,
        "within_epsilon": min(1.0, mean + 0.01),
    }
    return recall | changes


def reads_of(queries, each=QUERY_BYTES):
    """As a backend that reads past the page cache and the kernel count."""
    size, reads = queries * each, queries * QUERY_READS
    process = {"bytes": size, "requested_bytes": size, "calls": reads, "major_faults": 0}
    return {"backend": {"bytes": size, "reads": reads}, "process": process}


def cache_of(**changes):
    cache = {
        "mode": "direct",
        "method": None,
        "hosts": 1,
        "files": 2,
        "bytes": 2 * RAW_BYTES,
        "elapsed_s": 0.0,
        "resident_before_pct": 0.0,
        "resident_after_pct": 0.0,
    }
    return cache | changes


def point_of(queries=2000, elapsed_s=5.0, **changes):
    """Queries of two clients, half of them in 1 ms, 10 in 9 ms, the others in 2 ms."""
    bins = max(1, int(elapsed_s))
    latency = histogram_of(queries // 2, queries - queries // 2 - 10, 10)
    point = {
        "purpose": "run",
        "parameter": None,
        "target_qps": None,
        "k": 10,
        "batch_size": 1,
        "clients": 2,
        "start_unix_s": START_UNIX_S,
        "elapsed_s": elapsed_s,
        "requests": queries,
        "queries": queries,
        "failed_requests": 0,
        "late_requests": 0,
        "first_failure": None,
        "arrivals": None,
        "unserved": None,
        "lag_most_s": None,
        "latency": latency,
        "service": latency,
        "answers": {
            "short_queries": 0,
            "repeating_queries": 0,
            "foreign_ids": 0,
            "changed_queries": 0,
        },
        "recall": recall_of(),
        "asked_queries": 1000,
        "reads": reads_of(queries),
        "timeline": {
            "bin_s": 1,
            "queries": [queries // bins] * bins,
            "process_bytes": [queries // bins * QUERY_BYTES] * bins,
        },
        "cache": cache_of(),
    }
    return point | changes


def open_point(**changes):
    """Queries that arrived at 400 a second, of which 3 waited at the end."""
    arrived = {"target_qps": 400.0, "arrivals": 2003, "unserved": 3, "lag_most_s": 0.125}
    return point_of(**{**arrived, "service": histogram_of(2000), **changes})


def rate_point(target_qps, latency_ms=2, *, purpose="search", **changes):
    """One rate of a search for a capacity: all requests took as long."""
    queries = int(target_qps * 5)
    histogram = histogram_of(queries) | {
        "upper": [latency_ms * 10**6],
        "sum": queries * latency_ms * 10**6,
        "min": latency_ms * 10**6,
        "max": latency_ms * 10**6,
    }
    rate = {
        "purpose": purpose,
        "target_qps": float(target_qps),
        "arrivals": queries,
        "unserved": 0,
        "lag_most_s": 0.0,
        "latency": histogram,
        "service": histogram,
    }
    return point_of(queries, **rate | changes)


def sweep_point(value, recall, queries, **changes):
    """One value of a sweep."""
    own = {
        "purpose": "sweep",
        "parameter": {"name": "nprobe", "value": value},
        "recall": recall_of(recall),
    }
    return point_of(queries, **own | changes)


def section_of(does, *points, **changes):
    """The section `vectordb` of a stage that did this."""
    section = {
        "does": does,
        "backend": backend_of(),
        "dataset": dataset_of(),
        "queries": {"sha256": "bb" * 32, "count": 1000, "mode": "planted"},
        "directory": "/data/mlps-run/vectordb",
        "kept": False,
        "load": None,
        "truth": None,
        "points": list(points),
    }
    return copy.deepcopy(section | changes)


def loaded(**changes):
    """That of a stage that loaded all vectors."""
    return section_of("load", load=load_of(**changes))


def truth_made(**changes):
    """That of a stage that made the truth."""
    return section_of("truth", truth=truth_of(**changes))


def probed(**changes):
    """That of a stage that asked 100 queries before the first run."""
    return section_of("probe", point_of(100, 0.5, purpose="probe", **changes))


def ran(**changes):
    """That of a run."""
    return section_of("run", point_of(**changes))


def searched(*points):
    """That of a search for a capacity: clients reach 1,000 queries/s, 800 are too many, 400 not."""
    tried = [rate_point(800, 200), rate_point(400), rate_point(400, 3, purpose="confirm")]
    return section_of("capacity", *(points or [point_of(5000, purpose="search"), *tried]))


def swept(*points):
    """That of a sweep whose second value has less of both than the last one."""
    tried = [sweep_point(1, 0.5, 8000), sweep_point(4, 0.8, 2000), sweep_point(16, 0.96, 4000)]
    return section_of("sweep", *(points or tried))


SECTIONS = {
    "load": loaded,
    "truth": truth_made,
    "probe": probed,
    "run": ran,
    "capacity": searched,
    "sweep": swept,
}

# What stages of this engine report that move no bytes of their own.
WITHOUT_IO = {
    "io": {},
    "verify": {"operations": 0, "blocks": 0, "bytes": 0, "mismatches": 0},
    "plan": None,
    "core": None,
}

# Two clients and two trials: what the sections above report.
FITTING = {"cluster.ranks_per_host": 2, "trials": 2}


def vector_spec(changes=None, *, benchmark="vectordb/quick", fitting=True) -> JobSpec:
    """A job of vector search with some dotted keys changed."""
    return official_spec(benchmark, {**(FITTING if fitting else {}), **(changes or {})})


COMPLETE = {"status": "complete", "reason": None, "message": None, "elapsed_s": 1.0}


class Job:
    """A job whose stages all ended well and reported what fits its configuration."""

    def __init__(self, make_result, changes=None):
        self.spec = vector_spec(changes)
        self.plan = make_plan(self.spec, python="/python")
        self.results = {
            launch.name: make_result(
                ranks=2, vectordb=SECTIONS[launch.stage](), **copy.deepcopy(WITHOUT_IO)
            )
            for launch in self.plan.launches
            if launch.stage in SECTIONS
        }
        self.outcomes = {launch.name: dict(COMPLETE) for launch in self.plan.launches}

    @property
    def ended(self):
        """What rules and metrics take of it."""
        return self.spec, self.plan, self.outcomes, self.results

    def section(self, name):
        """What a stage reported of vector search."""
        return self.results[name]["vectordb"]

    def point(self, name):
        """Its only point."""
        (point,) = self.section(name)["points"]
        return point
