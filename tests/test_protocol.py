"""Events of an engine, and what a result must hold to be used."""

from __future__ import annotations

import json

import pytest
from checkpoint_results import GIB, checkpoint_of, evicted, read, written
from training_results import dataset_of, epoch_of, training_of
from vector_results import (
    SECTIONS,
    WITHOUT_IO,
    histogram_of,
    load_of,
    open_point,
    point_of,
    section_of,
)

from mlps.engine.protocol import (
    ProtocolError,
    RankTable,
    parse_event,
    parse_ranks,
    result_flaws,
)

SHA = "ab" * 32

HISTOGRAM = {"unit": "ns", "upper": [5], "count": [2], "sum": 10, "min": 5, "max": 5}
MAXLESS = HISTOGRAM | {"max": None}
SIZES = {"below_bytes": 8192, "entries": 2, "bytes": 8192, "sum_ns": 10, "max_ns": 5}
PROBE = {
    "purpose": "confirm",
    "rate_per_s": 1.0,
    "requests": 2,
    "length_s": 2.0,
    "read_bytes": 8192,
    "write_bytes": 0,
    "prefix_load": HISTOGRAM,
}


@pytest.fixture
def table():
    return RankTable(places=(("node1", 100), ("node2", 100)), job_sha256={SHA: "0-1"})


@pytest.fixture
def launch(plan_of):
    return plan_of().launches[1]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(b"hello", "no JSON: 'hello'", id="words"),
        pytest.param(b'{"event": "ranks"', 'no JSON: \'{"event": "ranks"\'', id="half a line"),
        pytest.param(b"[1]", "no event: '[1]'", id="list"),
        pytest.param(b'{"a": 1}', "no event: '{\"a\": 1}'", id="other mapping"),
        pytest.param(b'{"event": 1}', "no event: '{\"event\": 1}'", id="event is no word"),
        pytest.param(b"\xff\xfe", "no JSON: '\ufffd\ufffd'", id="bytes"),
        pytest.param(b"x" * 100, f"no JSON: '{'x' * 77}...'", id="long"),
        pytest.param(b"[" * 100_000, f"no JSON: '{'[' * 77}...'", id="deep"),
    ],
)
def test_rubbish(line, text):
    with pytest.raises(ProtocolError) as caught:
        parse_event(line)
    assert str(caught.value) == text


def test_an_event():
    assert parse_event(b' {"event": "progress", "done": 1}\r') == {"event": "progress", "done": 1}


def test_ranks():
    event = {"event": "ranks", "ranks": [["a", 1], ["b", 2], ["a", 3]], "job_sha256": {SHA: "0-2"}}
    table = parse_ranks(event)
    assert table.hosts == ("a", "b")
    assert [table.name(rank) for rank in (0, 2, 3, -1)] == [
        "rank 0 on a (pid 1)",
        "rank 2 on a (pid 3)",
        "rank 3",
        "rank -1",
    ]


@pytest.mark.parametrize(
    "event",
    [
        {"job_sha256": {}},
        {"ranks": [["a"]], "job_sha256": {}},
        {"ranks": [["a", "x"]], "job_sha256": {}},
        {"ranks": 3, "job_sha256": {}},
        {"ranks": [], "job_sha256": []},
    ],
    ids=str,
)
def test_ranks_that_cannot_be_read(event):
    with pytest.raises(ProtocolError, match=r"^a ranks event that cannot be read: "):
        parse_ranks({"event": "ranks", **event})


@pytest.mark.parametrize(
    ("host", "pid", "rank"),
    [("node1", 100, 0), ("node2", 100, 1), (None, 100, 0), ("other", 100, 0), ("node1", 7, None)],
)
def test_find_a_rank_by_process(table, host, pid, rank):
    assert table.find(host=host, pid=pid) == rank


def test_a_good_result_has_no_flaws(make_result, launch, table):
    assert result_flaws(make_result(), launch, SHA, table) == []


def without(name):
    return lambda result: result.pop(name)


def put(value, *path):
    def change(result):
        for part in path[:-1]:
            result = result[part]
        result[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(without("window"), "$: 'window' is a required property", id="lacks a field"),
        pytest.param(put("prepare", "stage"), "it is of stage 'prepare', not of 'run'", id="stage"),
        pytest.param(put("x", "option"), "it is of option 'x', not of None", id="option"),
        pytest.param(put(1, "trial"), "it is of trial 1, not of 0", id="trial"),
        pytest.param(
            put("done", "status"),
            "$.status: 'done' is not one of ['complete', 'stopped', 'failed']",
            id="status",
        ),
        pytest.param(
            put(-1, "io", "read", "window_bytes"),
            "$.io.read.window_bytes: -1 is less than the minimum of 0",
            id="negative",
        ),
        pytest.param(
            put([1], "ranks", "read_p99_ns"), "read_p99_ns holds 1 of 2 ranks", id="ranks missing"
        ),
        pytest.param(
            put([0, 0, 0], "ranks", "host_index"), "host_index holds 3 of 2 ranks", id="ranks more"
        ),
        pytest.param(
            put([1, 1], "io", "read", "latency", "count"),
            "io.read: latency has 2 counts for 3 buckets",
            id="histogram of two lengths",
        ),
        pytest.param(
            put([1, 1, 1], "io", "read", "latency", "count"),
            "io.read: latency counts 3 of 1024 operations",
            id="histogram of other operations",
        ),
        pytest.param(
            put(None, "io", "write", "latency", "max"),
            "io.write: latency has no max",
            id="histogram without its end",
        ),
        pytest.param(put([0, 1], "ranks", "host_index"), "host_index 1 is no host", id="host"),
        pytest.param(
            put([1.0, None], "ranks", "cpu_user_s"),
            "cpu_user_s holds None where a number must be",
            id="no number",
        ),
        pytest.param(
            put({"entry_read": HISTOGRAM | {"upper": [1, 2]}}, "latency"),
            "latency.entry_read: latency has 1 counts for 2 buckets",
            id="another histogram",
        ),
        pytest.param(
            put(
                {"limit_ms": 1, "fraction": 0.9, "probes": [PROBE | {"prefix_load": MAXLESS}]},
                "search",
            ),
            "search.probes[0].prefix_load: latency has no max",
            id="histogram of a probe",
        ),
        pytest.param(
            put({"read": [SIZES | {"below_bytes": 6144}]}, "sizes"),
            "sizes.read: 6144 is no power of two",
            id="class of sizes",
        ),
        pytest.param(
            put({"write": [SIZES, SIZES]}, "sizes"),
            "sizes.write: classes are not in order: [8192, 8192]",
            id="class of sizes twice",
        ),
        pytest.param(
            put({"write": [SIZES | {"bytes": 0}]}, "sizes"),
            "sizes.write: 2 entries below 8192 bytes hold 0",
            id="entries of another class",
        ),
        pytest.param(
            put({"bin_s": 1, "read_bytes": [1, 2], "write_bytes": [1]}, "timeline"),
            "timeline has 2 bins of reads and 1 of writes",
            id="timeline",
        ),
    ],
)
def test_flaws(make_result, launch, table, change, text):
    result = make_result()
    change(result)
    assert result_flaws(result, launch, SHA, table) == [text]


def test_ranks_with_another_job(make_result, launch):
    table = RankTable(places=(("a", 1), ("a", 2)), job_sha256={SHA: "0", "cd": "1"})
    assert result_flaws(make_result(), launch, SHA, table) == [
        f"ranks had another job than the archived {SHA}: {{'{SHA}': '0', 'cd': '1'}}"
    ]


def test_too_few_ranks(make_result, launch):
    table = RankTable(places=(("a", 1),), job_sha256={SHA: "0"})
    assert result_flaws(make_result(), launch, SHA, table) == ["1 of 2 ranks reported"]


def test_every_flaw_is_named(make_result, launch):
    table = RankTable(places=(), job_sha256={})
    assert len(result_flaws(make_result("cleanup", trial=3), launch, SHA, table)) == 4


def test_a_result_without_operations_has_no_flaws(make_result, launch, table):
    result = make_result()
    for io in result["io"].values():
        io |= {"window_bytes": 0, "window_operations": 0}
        io["latency"] |= {"upper": [], "count": [], "sum": 0, "min": None, "max": None}
    assert result_flaws(json.loads(json.dumps(result)), launch, SHA, table) == []


def test_a_result_with_all_that_may_be_left_out_has_no_flaws(make_result, launch, table):
    result = make_result(
        latency={"prefix_load": HISTOGRAM},
        sizes={"read": [SIZES, SIZES | {"below_bytes": 2**14, "bytes": 2**14}], "write": []},
        search={"limit_ms": 1, "fraction": 0.9, "probes": [PROBE]},
        timeline={"bin_s": 1, "read_bytes": [1, 2], "write_bytes": [1, 2]},
        roofline=None,
    )
    assert result_flaws(result, launch, SHA, table) == []
    assert result_flaws(result | {"search": None}, launch, SHA, table) == []


def test_a_result_of_training_has_no_flaws(make_result, launch, table):
    result = make_result(training=training_of(ranks=2), dataset=dataset_of())
    assert result_flaws(result, launch, SHA, table) == []
    no_epoch = make_result(training=training_of(ranks=2, epochs=0))
    assert result_flaws(no_epoch, launch, SHA, table) == []


@pytest.mark.parametrize(
    ("epochs", "text"),
    [
        ([epoch_of(2, ranks=2), epoch_of(1, ranks=2)], "epochs are not in order: [2, 1]"),
        ([epoch_of(1, ranks=2), epoch_of(1, ranks=2)], "epochs are not in order: [1, 1]"),
        ([epoch_of(1, ranks=3)], "epoch 1: rank 2 of 2 ranks"),
        ([epoch_of(1, ranks=2) | {"block_sum_s": 1}], "epoch 1: 2.241 s of steps in 1 s"),
    ],
)
def test_flaws_of_epochs(make_result, launch, table, epochs, text):
    result = make_result(training=training_of(ranks=2) | {"epochs": epochs})
    assert result_flaws(result, launch, SHA, table) == [f"training: {text}"]


# ---------------------------------------------------------------- checkpointing


@pytest.fixture
def flaws_of(plan_of, make_result):
    """Flaws of a stage of 4 ranks that reports this section."""
    launch = plan_of({"cluster.ranks_per_host": 4}).launches[1]
    places = tuple(("node1", pid) for pid in range(4))
    table = RankTable(places=places, job_sha256={SHA: "0-3"})

    def flaws(section, **changes):
        result = make_result(ranks=4, checkpointing=section, **changes)
        return result_flaws(json.loads(json.dumps(result)), launch, SHA, table)

    return flaws


@pytest.mark.parametrize("section", [written(), read(), evicted()], ids=["write", "read", "evict"])
def test_a_result_of_checkpointing_has_no_flaws(flaws_of, section):
    assert flaws_of(section) == []


def test_a_checkpoint_may_be_read_again(flaws_of):
    twice = read(*[checkpoint_of(1, does="read")] * 2)
    assert flaws_of(twice) == []


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_stage_that_ended_early_may_lack_checkpoints(flaws_of, status):
    assert flaws_of(written(checkpoint_of(1)), status=status) == []


FIRST = "checkpoint 1 (the 1. of the stage): "


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (written(checkpoint_of(2), checkpoint_of(1)), "checkpoints are not in order: [2, 1]"),
        (written(checkpoint_of(1), checkpoint_of(1)), "checkpoints are not in order: [1, 1]"),
        (written(planned=1), "2 checkpoints where 1 were planned"),
        (written(planned=3), "it is complete with 2 of 3 checkpoints"),
        (read(planned=3), "it is complete with 2 of 3 checkpoints"),
        (written(checkpoint_of(1, bytes=GIB), planned=1), f"{FIRST}{GIB} bytes, its files have "),
        (written(checkpoint_of(1, straggler=4), planned=1), f"{FIRST}rank 4 of 4 ranks"),
        (
            written(checkpoint_of(1, rank_least_s=1.6), planned=1),
            f"{FIRST}rank_least_s 1.6 is more than rank_median_s 1.5",
        ),
        (
            written(checkpoint_of(1, rank_median_s=2.1), planned=1),
            f"{FIRST}rank_median_s 2.1 is more than wall_s 2",
        ),
        (
            written(checkpoint_of(1, rank0_s=2.1), planned=1),
            f"{FIRST}rank0_s 2.1 is more than wall_s 2",
        ),
        (
            written(checkpoint_of(1, rank0_s=0.9), planned=1),
            f"{FIRST}rank_least_s 1 is more than rank0_s 0.9",
        ),
    ],
)
def test_checkpoints_that_contradict_themselves(flaws_of, section, text):
    (flaw,) = flaws_of(section)
    assert flaw.startswith(f"checkpointing: {text}")


def test_times_are_compared_as_they_are_rounded(flaws_of):
    rounded = checkpoint_of(1, rank_median_s=2.000004, rank0_s=2.000004)
    assert flaws_of(written(rounded, planned=1)) == []


# ---------------------------------------------------------------- vector search


@pytest.fixture
def search_flaws_of(plan_of, make_result):
    """Flaws of a stage of 2 ranks that reports this section."""
    launch = plan_of({"cluster.ranks_per_host": 2}).launches[1]
    places = tuple(("node1", pid) for pid in range(2))
    table = RankTable(places=places, job_sha256={SHA: "0-1"})

    def flaws(section, **changes):
        result = make_result(ranks=2, vectordb=section, **WITHOUT_IO, **changes)
        return result_flaws(json.loads(json.dumps(result)), launch, SHA, table)

    return flaws


@pytest.mark.parametrize("does", SECTIONS)
def test_a_result_of_vector_search_has_no_flaws(search_flaws_of, does):
    assert search_flaws_of(SECTIONS[does]()) == []


@pytest.mark.parametrize("does", SECTIONS)
def test_a_stage_of_vector_search_that_failed_may_tell_nothing(search_flaws_of, does):
    assert search_flaws_of(section_of(does), status="failed") == []


def test_requests_that_came_too_late_may_be_among_the_latencies(search_flaws_of):
    late = histogram_of(1990, 0, 10)
    point = point_of(queries=1995) | {"late_requests": 5, "latency": late, "service": late}
    assert search_flaws_of(section_of("run", point)) == []


TIMELINE = {"bin_s": 1, "queries": [1, 2], "process_bytes": [1]}


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (section_of("load"), "it is complete and tells nothing of load"),
        (section_of("truth", load=load_of()), "it is complete and tells nothing of truth"),
        (section_of("run"), "it is complete with 0 points, there is one"),
        (section_of("probe", *[point_of()] * 2), "it is complete with 2 points, there is one"),
        (
            section_of("run", point_of() | {"requests": 1999, "queries": 1999}),
            "points[0]: latency counts 2000 of 1999 requests",
        ),
        (
            section_of("run", point_of(service=histogram_of(3))),
            "points[0]: service counts 3 of 2000 requests",
        ),
        (
            section_of("run", point_of(latency=histogram_of(2000) | {"max": None})),
            "points[0]: latency: latency has no max",
        ),
        (section_of("sweep", point_of(queries=2000) | {"queries": 2001}),
         "points[0]: 2001 queries in 2000 requests"),
        (section_of("run", point_of() | {"elapsed_s": 0}), "points[0]: 2000 queries in no time"),
        (
            section_of("run", point_of(timeline=TIMELINE)),
            "points[0]: timeline has 2 bins of queries and 1 of bytes",
        ),
        (
            section_of("run", open_point(unserved=None)),
            "points[0]: an open loop that does not tell what arrived",
        ),
    ],
)  # fmt: skip
def test_searches_that_contradict_themselves(search_flaws_of, section, text):
    assert search_flaws_of(section)[0] == f"vectordb: {text}"


@pytest.mark.parametrize(
    ("key", "value"), [("recall", {}), ("reads", None), ("answers", {}), ("purpose", "x")]
)
def test_a_point_fits_its_schema(search_flaws_of, key, value):
    (flaw,) = search_flaws_of(section_of("run", point_of(**{key: value})))
    assert flaw.startswith(f"$.vectordb.points[0].{key}: ")
