"""What a benchmark section says of a rank's work, and what is refused of it."""

from __future__ import annotations

import copy

import pytest

from mlps.engines.errors import JobError
from mlps.engines.kvcache_native.plans import Place
from mlps.engines.kvcache_native.workload import workload_of


@pytest.fixture
def workload(bench):
    """The workload of the small job with some keys changed."""

    def read(changes=None):
        bench.changes = changes or {}
        return workload_of(bench.job["benchmark"])

    return read


def settings_of(workload, durability="none"):
    plan = workload.planned.plan(Place(seed=42, rank=0, ranks=1))
    return workload.settings(plan, key=1, pool_seed=2, durability=durability)


def test_a_section_is_read_whole(workload):
    found = workload({"ramp_s": 3, "requests": 7, "precondition_passes": 2, "backlog_max": 9})
    assert (found.ramp_s, found.duration_s, found.requests) == (3.0, 0.2, 7)
    assert (found.precondition_passes, found.backlog_max) == (2, 9)
    assert (found.layout, found.planned.name) == ("segments", "turns")
    assert (found.io.direct, found.io.verify, found.io.core) == (True, "all", "auto")


@pytest.mark.parametrize(("tokens", "slot_bytes"), [(16, 4096), (33, 12288), (64, 16384)])
def test_operations_take_whole_blocks(workload, tokens, slot_bytes):
    settings = settings_of(workload({"chunk_tokens": tokens}))
    assert settings.largest_bytes == slot_bytes


def test_transfers_are_divided_over_rings(workload):
    for changes, rings in (
        ({"users": 4, "queue_depth": 9}, 2),
        ({"users": 1, "queue_depth": 9}, 1),
        ({"users": 4, "queue_depth": 1}, 1),
        ({"users": 4, "queue_depth": 9, "io": {"rings": 3}}, 3),
        ({"users": 4, "queue_depth": 9, "io": {"rings": 5}}, 4),
    ):
        settings = settings_of(workload(changes))
        assert settings.shards == rings
        assert settings.depth == changes["queue_depth"]


def test_settings_are_those_of_workload_and_plan(workload):
    settings = settings_of(
        workload({"layout": "file_per_chunk", "rate_per_s": 5.0, "backlog_max": 3}), "dsync"
    )
    assert (settings.key, settings.pool_seed, settings.durability) == (1, 2, "dsync")
    assert (settings.requests_in_flight, settings.store_cap) == (4, None)
    assert (settings.open_loop, settings.backlog_limit) == (True, 3)
    assert (settings.chunk_files, settings.gate_slots) == (True, 0)
    assert not settings_of(workload()).open_loop


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"workload": "v4"}, "workload must be one of turns, v3, prefix, trace, got 'v4'"),
        ({"users": 0}, "users must be a whole number of at least 1, got 0"),
        ({"users": True}, "users must be a whole number of at least 1, got True"),
        ({"users": 1.5}, "users must be a whole number of at least 1, got 1.5"),
        ({"chunks_per_user": 1}, "chunks_per_user must be 2 or more"),
        ({"continue_probability": 1.1}, "continue_probability must lie between 0 and 1"),
        ({"duration_s": 0}, "duration_s must be above 0"),
        ({"duration_s": -1}, "duration_s must be a number of at least 0, got -1"),
        ({"ramp_s": "long"}, "ramp_s must be a number of at least 0, got 'long'"),
        ({"rate_per_s": 0}, "rate_per_s must be above 0"),
        ({"requests": 0}, "requests must be a whole number of at least 1, got 0"),
        ({"backlog_max": 0}, "backlog_max must be a whole number of at least 1, got 0"),
        ({"precondition_passes": -1}, "precondition_passes must be a whole number of at least 0"),
        ({"layout": "files"}, "layout must be one of segments, file_per_chunk, got 'files'"),
        ({"tensor_parallel": 0}, "tensor_parallel must be a whole number of at least 1, got 0"),
        ({"queue_depth": 0}, "queue_depth must be a whole number of at least 1, got 0"),
        (
            {"layout": "file_per_chunk", "io": {"core": "uring"}},
            "io.core uring does not work with layout file_per_chunk: use threads, python or auto",
        ),
        ({"io": {"direct": 1}}, "io.direct must be true or false, got 1"),
        ({"io": {"verify": "some"}}, "io.verify must be one of all, sampled, none, got 'some'"),
        ({"io": {"core": "fast"}}, "io.core must be one of auto, uring, threads, python, noop"),
        ({"io": {"io_size_bytes": 5000}}, "io.io_size_bytes must be a multiple of 4096, got 5000"),
        ({"io": {"rings": 0}}, "io.rings must be a whole number of at least 1, got 0"),
        ({"io": {"durability": "sync"}}, "io.durability must be one of none, fdatasync, dsync"),
        ({"io": 4}, "io must be a mapping, got 4"),
        ({"model": {"dtype": "float15"}}, "model.dtype 'float15' is not one of"),
        ({"model": {"head_dim": None}}, "model needs either kv_heads and head_dim"),
        ({"model": {"kv_lora_rank": 4, "qk_rope_head_dim": 4}}, "model needs either"),
        ({"model": {"layers": 10**6}}, "a chunk has 16384000000 bytes; an operation moves at most"),
        ({"model": 1}, "model must be a name or a mapping, got 1"),
        ({"model": "gpt-9"}, "model 'gpt-9' is not one of tiny-1b, mistral-7b, "),
    ],
)
def test_what_makes_no_sense_is_refused(workload, changes, text):
    with pytest.raises(JobError) as caught:
        settings_of(workload(changes))
    assert str(caught.value).startswith(text)


@pytest.fixture
def without(bench):
    """The small job's section without a dotted key."""

    def leave_out(key):
        benchmark = copy.deepcopy(bench.job["benchmark"])
        *above, name = key.split(".")
        del (benchmark[above[0]] if above else benchmark)[name]
        return benchmark

    return leave_out


@pytest.mark.parametrize(
    "key",
    ["workload", "users", "layout", "duration_s", "backlog_max", "io", "io.direct", "io.core"],
)
def test_a_missing_key_is_named(without, key):
    with pytest.raises(JobError) as caught:
        workload_of(without(key))
    assert str(caught.value) == f"the benchmark has no {key}"


@pytest.mark.parametrize("key", ["requests", "rate_per_s", "io.rings"])
def test_a_key_that_may_be_null_need_not_be_there(without, key):
    workload = workload_of(without(key))
    assert (workload.requests, workload.io.rings) == (None, None)
    assert not workload.planned.open_loop
