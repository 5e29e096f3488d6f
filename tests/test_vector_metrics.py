"""From points of vector search to rates, latencies, recall and what was read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vector_results import (
    DIMENSION,
    GIB,
    QUERY_BYTES,
    QUERY_READS,
    VECTORS,
    Job,
    backend_of,
    cache_of,
    histogram_of,
    loaded,
    open_point,
    point_of,
    probed,
    ran,
    rate_point,
    recall_of,
    searched,
    section_of,
    sweep_point,
    swept,
    truth_made,
    vector_spec,
)

from mlps.engine.collect import collect, stage_metrics
from mlps.engine.host_documents import HostFacts
from mlps.engine.vector_job import vector_jobs
from mlps.engine.vector_metrics import (
    capacity_metrics,
    capacity_rows,
    keeps_up,
    point_row,
    stored_bytes,
    sweep_metrics,
    sweep_rows,
    told_of_runs,
    vector_metrics,
    vector_notes,
)

NFS = [{"host": "node1", "type": "nfs4", "read_bytes": GIB, "write_bytes": 0}]
LUSTRE = [{"host": "node1", "type": "lustre"}]
CARRIED = {"receive_bytes": 3 * GIB, "send_bytes": 0}
CARRIERS = [{"host": "node1", "interfaces": ["eth0"], **CARRIED}]
DEVICE = [{"host": "node1", "device": "sda", "read_bytes": 2 * GIB, "write_bytes": 0}]


@pytest.fixture
def metrics_of(make_result):
    """The metrics of a stage that reports this section."""
    return lambda section, **changes: vector_metrics(make_result(vectordb=section, **changes))


@pytest.fixture(scope="module")
def job():
    (only,) = vector_jobs(vector_spec())
    return only


# ---------------------------------------------------------------- a run


def test_a_stage_of_another_family_has_none(make_result):
    assert vector_metrics(make_result()) == {}
    assert vector_metrics(make_result(vectordb=None)) == {}
    assert "qps" not in stage_metrics(make_result())


def test_the_rate_is_queries_over_the_time_from_the_common_start(metrics_of):
    metrics = metrics_of(ran())
    assert (metrics["queries"], metrics["elapsed_s"], metrics["qps"]) == (2000, 5.0, 400)
    # A batch of queries is one request.
    batch = {"batch_size": 10, "requests": 200, "latency": histogram_of(200)}
    assert metrics_of(ran(**batch))["qps"] == 400


def test_latencies_are_those_of_requests(metrics_of):
    metrics = metrics_of(ran())
    assert metrics["latency_mean_ms"] == (1000 * 1 + 990 * 2 + 10 * 9) / 2000
    told = [metrics[f"latency_{name}_ms"] for name in ("p50", "p95", "p99", "p999", "max")]
    assert told == [1, 2, 2, 9, 9]
    assert "service_mean_ms" not in metrics


def test_an_open_loop_tells_waiting_apart(metrics_of):
    metrics = metrics_of(section_of("run", open_point()))
    assert (metrics["latency_p50_ms"], metrics["service_p99_ms"]) == (1, 1)
    assert metrics["service_mean_ms"] == 1 < metrics["latency_mean_ms"]
    assert metrics["unserved_requests"] == 3


def test_recall_and_what_was_lost(metrics_of):
    metrics = metrics_of(ran(failed_requests=2, late_requests=1))
    assert (metrics["recall_mean"], metrics["recall_p5"], metrics["recall_least"]) == (
        0.97, 0.8, 0.5
    )  # fmt: skip
    assert metrics["recall_within_epsilon"] == pytest.approx(0.98)
    assert (metrics["failed_requests"], metrics["late_requests"]) == (2, 1)
    assert "recall_mean" not in metrics_of(ran(recall=None))


def test_processor_time_of_a_query(metrics_of):
    # 1.5 s of each of two ranks.
    assert metrics_of(ran())["cpu_ms_per_query"] == 1000 * 3 / 2000


def test_a_run_without_an_answer_has_neither_latency_nor_reads_of_a_query(metrics_of):
    nothing = histogram_of(0)
    metrics = metrics_of(ran(queries=0, requests=0, latency=nothing, service=nothing))
    assert metrics["qps"] == 0
    assert not [name for name in metrics if name.startswith("latency_") or "per_query" in name]


def test_residency_is_told_where_it_is_known(metrics_of):
    metrics = metrics_of(ran(cache=cache_of(resident_before_pct=0.5, resident_after_pct=None)))
    assert metrics["resident_before_pct"] == 0.5
    assert "resident_after_pct" not in metrics


# ---------------------------------------------------------------- what was read


def reads(make_result, io_class, own, **changes):
    section = section_of("run", point_of(reads=own), backend=backend_of(io_class=io_class))
    result = make_result(vectordb=section, **changes)
    row = point_row(result, section["points"][0])
    return row.get("reads_by"), row.get("read_bytes_per_query"), row.get("reads_per_query")


def own(backend=None, process=None, calls=0, faults=0, requested=None):
    """What a backend and the kernel count, in bytes of each of 2000 queries."""
    found = {"backend": None, "process": None}
    if backend is not None:
        found["backend"] = {"bytes": 2000 * backend, "reads": 2000 * QUERY_READS}
    if process is not None:
        found["process"] = {
            "bytes": 2000 * process,
            "requested_bytes": 2000 * (process if requested is None else requested),
            "calls": calls,
            "major_faults": faults,
        }
    return found


@pytest.mark.parametrize(
    ("io_class", "counted", "changes", "expected"),
    [
        ("direct", own(4096, 5000), {}, ("backend", 4096, QUERY_READS)),
        ("direct", own(None, 5000, calls=4000), {}, ("process", 5000, 2)),
        ("direct", own(None, 5000), {}, ("process", 5000, None)),
        # Reads through io_uring are none of the calls.
        ("direct", own(None, 5000, calls=40, requested=9), {}, ("process", 5000, None)),
        # What a backend asked for may have come from the page cache.
        ("buffered", own(4096, 500, calls=2000), {}, ("process", 500, None)),
        ("mmap", own(4096, 500, calls=9, faults=6000), {}, ("process", 500, 3)),
        ("mmap", own(4096, 0), {}, ("process", 0, 0)),
        # The kernel does not count for some file systems of a network.
        ("buffered", own(4096, 0), {"mount": LUSTRE}, (None, None, None)),
        (
            "buffered", own(4096, 0), {"mount": LUSTRE, "network": CARRIERS},
            ("network", 3 * GIB / 2000, None),
        ),
        ("mmap", own(None, 500), {"mount": NFS}, ("process", 500, 0)),
        ("mmap", own(None, 0), {"mount": NFS}, ("mount", GIB / 2000, None)),
        # The clients of a server read nothing by themselves.
        ("server", own(8192, 0), {}, ("backend", 8192, QUERY_READS)),
        ("server", own(None, 7000), {}, (None, None, None)),
        ("server", own(None, 0), {"device": DEVICE}, ("device", 2 * GIB / 2000, None)),
        (
            "server", own(None, 0), {"device": [DEVICE[0] | {"read_bytes": 2000 * 511}]},
            (None, None, None),
        ),
        ("direct", own(), {}, (None, None, None)),
    ],
)  # fmt: skip
def test_who_tells_what_was_read(make_result, io_class, counted, changes, expected):
    assert reads(make_result, io_class, counted, **changes) == expected


def test_counters_of_devices_tell_nothing_of_one_point_of_several(make_result):
    points = [point_of(reads=own()), point_of(reads=own())]
    result = make_result(vectordb=section_of("sweep", *points), device=DEVICE)
    assert "reads_by" not in point_row(result, points[0])


@pytest.mark.parametrize(
    ("io_class", "counted", "changes", "stored"),
    [
        # On a local file system the kernel decides, whatever a backend says of itself.
        ("direct", own(4096, 0), {}, 0),
        ("direct", own(4096, 4096), {}, 2000 * 4096),
        ("direct", own(4096, 0), {"mount": LUSTRE}, 2000 * 4096),
        ("memory", own(None, 0), {}, 0),
        ("server", own(8192, 0), {}, 2000 * 8192),
        ("server", own(None, 0), {}, None),
        ("direct", own(), {}, None),
    ],
)
def test_what_is_known_to_have_come_from_storage(make_result, io_class, counted, changes, stored):
    section = section_of("run", point_of(reads=counted), backend=backend_of(io_class=io_class))
    result = make_result(vectordb=section, **changes)
    assert stored_bytes(result, section["points"][0]) == stored


def test_throughput_of_reads(metrics_of):
    metrics = metrics_of(ran())
    assert metrics["read_bytes_per_query"] == QUERY_BYTES
    assert metrics["reads_per_query"] == QUERY_READS
    assert metrics["query_read_gib_s"] == pytest.approx(2000 * QUERY_BYTES / GIB / 5)


# ---------------------------------------------------------------- the stages before


def test_metrics_of_a_load(metrics_of):
    metrics = metrics_of(loaded())
    assert metrics["insert_vectors_per_s"] == VECTORS / 2
    assert metrics["load_vectors_per_s"] == VECTORS / (2 + 0.5 + 1.5)
    assert metrics["build_s"] == 1.5
    assert metrics["index_to_raw_pct"] == 200
    assert metrics["index_gib"] == 2 * VECTORS * DIMENSION * 4 / GIB


def test_an_index_that_was_there_has_no_speed(metrics_of):
    nothing = dict.fromkeys(("insert_s", "flush_s", "build_s", "compact_s"), 0.0)
    metrics = metrics_of(loaded(reused=True, inserted=0, index_bytes=None, **nothing))
    assert metrics == {"stored_vectors": VECTORS}


def test_metrics_of_a_truth(metrics_of):
    assert metrics_of(truth_made()) == {"truth_covered_pct": 100, "truth_s": 1.25}
    assert metrics_of(truth_made(reused=True, covered=0.25)) == {"truth_covered_pct": 25}


def test_a_probe_has_no_rates(metrics_of):
    metrics = metrics_of(probed())
    assert metrics["probe_recall_mean"] == 0.97
    assert metrics["probe_read_bytes_per_query"] == QUERY_BYTES
    assert not [name for name in metrics if "qps" in name or "latency" in name]


@pytest.mark.parametrize("does", ["load", "truth", "probe", "run"])
def test_a_stage_that_was_stopped_early_has_none(metrics_of, does):
    assert metrics_of(section_of(does)) == {}


# ---------------------------------------------------------------- capacity


def test_the_capacity_is_the_rate_that_was_confirmed(make_result, job):
    result = make_result(vectordb=searched())
    assert [row["met"] for row in capacity_rows(job, result)][1:] == [False, True, True]
    assert capacity_metrics(job, result) == {
        "capacity_qps": 400,
        "capacity_answered_qps": 400,
        "capacity_latency_p99_ms": 3,
        "capacity_recall_mean": 0.97,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_ms": 101},
        {"recall": recall_of(0.94)},
        {"failed_requests": 1},
        {"late_requests": 1},
        {"unserved": 43},
    ],
)
def test_what_a_rate_may_miss_the_limit_by(make_result, job, changes):
    met = rate_point(400, 100, purpose="confirm", unserved=42)
    missed = rate_point(400, **{"latency_ms": 100, "purpose": "confirm", **changes})
    assert capacity_metrics(job, make_result(vectordb=searched(met)))["capacity_qps"] == 400
    assert capacity_metrics(job, make_result(vectordb=searched(missed))) == {}


def test_a_rate_that_was_never_confirmed_is_no_capacity(make_result, job):
    assert capacity_metrics(job, make_result(vectordb=searched(rate_point(400)))) == {}


def test_requests_of_the_very_end_may_wait():
    # 2 % of 2003 arrivals and one of each of 2 clients.
    assert keeps_up(open_point(unserved=42))
    assert not keeps_up(open_point(unserved=43))
    assert keeps_up(point_of())


# ---------------------------------------------------------------- sweep


def test_the_front_of_a_sweep(make_result, job):
    result = make_result(vectordb=swept())
    rows = sweep_rows(result)
    assert [(row["parameter"], row["value"], row["front"]) for row in rows] == [
        ("nprobe", 1, True),
        ("nprobe", 4, False),
        ("nprobe", 16, True),
    ]
    assert sweep_metrics(job, result) == {"sweep_best_qps": 800}


def test_a_sweep_that_finds_too_little_has_no_best(make_result, job):
    result = make_result(vectordb=swept(sweep_point(1, 0.5, 1000)))
    assert sweep_metrics(job, result) == {}


@given(
    found=st.lists(
        st.tuples(st.integers(0, 10).map(lambda tenths: tenths / 10), st.integers(1, 20)),
        min_size=1,
        max_size=8,
    )
)
def test_a_front_is_what_nothing_beats(found):
    points = [sweep_point(place, *each) for place, each in enumerate(found)]
    for place, (_, queries) in enumerate(found):
        points[place]["latency"] = points[place]["service"] = histogram_of(queries)
    result = {"vectordb": section_of("sweep", *points), "ranks": {}}
    on_front = {pair for pair, row in zip(found, sweep_rows(result), strict=True) if row["front"]}
    beaten = {
        own
        for own in found
        if any(other[0] >= own[0] and other[1] >= own[1] and other != own for other in found)
    }
    assert on_front == set(found) - beaten
    # As recall rises along the front, the rate falls.
    rates = [rate for _, rate in sorted(on_front)]
    assert rates == sorted(rates, reverse=True)


# ---------------------------------------------------------------- over trials

NO_HOSTS = HostFacts(facts={}, clock_offset_s={}, without_facts={})
BOTH = {
    "benchmark.stages": [
        {"name": "load", "each": "job"},
        {"name": "truth", "each": "job"},
        {"name": "probe", "each": "job"},
        {"name": "run", "each": "trial", "measured": True},
        {"name": "capacity", "each": "job"},
        {"name": "sweep", "each": "job"},
    ]
}


def collected(job):
    return collect(
        job.plan, run_id="r", version="1", benchmark="b", family="vectordb",
        outcomes=job.outcomes, results=job.results, hosts=NO_HOSTS, series=None, evidence={},
        searching=vector_jobs(job.spec),
    )  # fmt: skip


def test_metrics_are_means_over_trials_with_what_other_stages_tell(make_result):
    job = Job(make_result, BOTH)
    job.point("04-run-1").update(point_of(1000))
    document = collected(job)
    (summary,) = document["metrics"]
    values = summary["values"]
    assert [values["qps"][name] for name in ("mean", "min", "max")] == [300, 200, 400]
    assert values["qps"]["ci95_low"] < 300 < values["qps"]["ci95_high"]
    assert values["capacity_qps"]["mean"] == 400
    assert values["sweep_best_qps"]["mean"] == 800
    assert values["build_s"]["mean"] == 1.5
    assert values["truth_covered_pct"]["mean"] == 100
    assert [point["qps"] for point in summary["notes"]["points"]] == [400, 200]
    of_stages = {entry["name"]: entry["metrics"] for entry in document["stages"]}
    assert of_stages["05-capacity"]["capacity_qps"] == 400
    assert of_stages["00-load"]["build_s"] == 1.5


def test_notes_of_runs(make_result):
    job = Job(make_result, BOTH)
    (settings,) = vector_jobs(job.spec)
    launches = job.plan.measured[("run", None)]
    notes = vector_notes(*job.ended[1:], job=settings, launches=launches)
    assert list(notes) == ["vectordb", "points", "capacity", "sweep"]
    assert notes["vectordb"]["reads_by"] == "backend"
    assert notes["vectordb"]["load"]["stored"] == VECTORS
    assert notes["capacity"]["percentile"] == "p99"
    assert [row["front"] for row in notes["sweep"]] == [True, False, True]
    for outcome in job.outcomes.values():
        outcome["status"] = "failed"
    assert vector_notes(*job.ended[1:], job=settings, launches=launches) == {}
    assert vector_notes(*job.ended[1:], job=None, launches=launches) == {}


def test_what_belongs_to_all_options_is_told_of_each(make_result):
    options = [{"name": "few", "set": {}}, {"name": "many", "set": {"search": {"k": 20}}}]
    job = Job(make_result, {"trials": 1, "benchmark.options": options})
    told = told_of_runs(*job.ended[1:], vector_jobs(job.spec))
    assert {"03-run-few-0", "04-run-many-0"} <= set(told)
    assert told["04-run-many-0"]["build_s"] == 1.5
