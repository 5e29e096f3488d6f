"""The plan: the same for everybody, and never a read of what is not there."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.io_core.operations import LOAD, OPERATION, STORE
from mlps.engines.kvcache_native.layout import Layout, layout_of
from mlps.engines.kvcache_native.plan import PREFILL, PREFIX, Planner
from mlps.engines.kvcache_native.workload import SEGMENT_LIMIT_BYTES, Model, Workload


def workload(**changes):
    values = {
        "model": Model(name="m", layers=1, kv_heads=1, head_dim=64, dtype="float16"),
        "users": 3,
        "chunk_tokens": 16,
        "chunks_per_user": 8,
        "turn_chunks_max": 3,
        "continue_probability": 0.8,
        "queue_depth": 2,
        "ramp_s": 0.0,
        "duration_s": 1.0,
        "direct": True,
        "verify": "all",
        "durability": "none",
    }
    return Workload(**(values | changes))


def planner(load=None, seed=42, rank=0):
    load = load or workload()
    return Planner(
        workload=load, layout=layout_of(load, Path("/data/job"), rank), seed=seed, rank=rank
    )


def first(stream, count):
    """The first operations of a stream as one array."""
    blocks, held = [], 0
    for block in stream:
        blocks.append(block)
        held += len(block)
        if held >= count:
            break
    return np.concatenate(blocks)[:count]


workloads = st.builds(
    workload,
    users=st.integers(1, 5),
    chunks_per_user=st.integers(2, 20),
    turn_chunks_max=st.integers(1, 30),
    continue_probability=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
)
seeds = st.integers(0, 2**31)


@settings(max_examples=40, deadline=None)
@given(workloads, seeds, st.integers(0, 3))
def test_every_load_finds_what_was_stored_last(load, seed, rank):
    plan = planner(load, seed, rank)
    versions: dict[int, int] = {}  # slots hold version 0 unless something was stored since
    conversation_end: dict[int, int] = {}
    for row in first(plan.stream(0, 1), 1500):
        chunk, user = int(row["chunk"]), int(row["user"])
        slot = chunk - rank * load.slots - user * load.chunks_per_user
        assert 0 <= user < load.users
        assert 0 <= slot < load.chunks_per_user
        assert row["length"] == load.slot_bytes
        place = int(row["file"]) * plan.layout.slots_per_segment + int(row["offset"]) // 4096
        assert place == chunk - rank * load.slots
        if row["kind"] == LOAD:
            assert row["purpose"] == PREFIX
            assert row["version"] == versions.get(chunk, 0)
        else:
            assert row["purpose"] == PREFILL
            assert row["version"] >= versions.get(chunk, 0) + 1
            # Chunks are added one after the other, or a new conversation starts over.
            assert slot in (0, conversation_end.get(user, slot))
            versions[chunk] = int(row["version"])
            conversation_end[user] = slot + 1


@settings(max_examples=30, deadline=None)
@given(workloads, seeds)
def test_a_turn_loads_the_whole_conversation_then_adds_to_it(load, seed):
    for turns in (list(islice(planner(load, seed).turns(user), 30)) for user in range(load.users)):
        assert turns[0].conversation == 0
        assert 1 <= turns[0].cached == turns[0].warm <= load.turn_chunks_max
        for turn, following in pairwise(turns):
            full = turn.cached + turn.added == load.chunks_per_user
            assert 1 <= turn.added <= load.turn_chunks_max
            assert turn.cached + turn.added <= load.chunks_per_user
            assert turn.warm == (0 if turn.conversation else turns[0].warm)
            if following.conversation == turn.conversation:
                assert following.cached == turn.cached + turn.added
                assert not full
                assert load.continue_probability > 0
            else:
                assert (following.conversation, following.cached) == (turn.conversation + 1, 0)
                assert full or load.continue_probability < 1


def test_a_request_is_its_loads_then_its_stores_and_closes_once():
    rows = first(planner().stream(0, 1), 600)
    rows = rows[: int(np.flatnonzero(rows["closes"])[-1]) + 1]
    requests = np.split(rows, np.flatnonzero(rows["closes"])[:-1] + 1)
    assert len(requests) > 50
    for request in requests:
        assert len(set(request["user"].tolist())) == len(set(request["request"].tolist())) == 1
        assert request["closes"].tolist() == [0] * (len(request) - 1) + [1]
        kinds = request["kind"].tolist()
        assert kinds == sorted(kinds)
        assert kinds[-1] == STORE


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_share_the_plan_in_its_order(shards):
    plan = planner(workload(users=7))
    whole = first(plan.stream(0, 1), 3000)
    for shard in range(shards):
        own = whole[whole["user"] % shards == shard]
        assert (first(plan.stream(shard, shards), len(own)) == own).all()


def test_users_take_turns():
    rows = first(planner(workload(users=5)).stream(0, 1), 2000)
    closed = rows[rows["closes"] == 1]
    assert closed["user"].tolist() == [n % 5 for n in range(len(closed))]
    assert closed["request"].tolist() == [n // 5 for n in range(len(closed))]


def test_a_user_more_changes_nobody_elses_requests():
    few = first(planner(workload(users=3)).stream(0, 1), 3000)
    many = first(planner(workload(users=4)).stream(0, 1), 4000)
    for user in range(3):
        a, b = few[few["user"] == user], many[many["user"] == user]
        length = min(len(a), len(b))
        assert length > 500
        for column in ("version", "request", "kind", "closes"):
            assert (a[column][:length] == b[column][:length]).all()


def test_the_hash_is_that_of_the_first_operations_and_stays_as_it_is():
    plan = planner()
    assert plan.sha256() == planner().sha256()
    # A known value: a plan that changes needs another name of its generator.
    assert plan.sha256()[:16] == "d684a6851467ab24"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 43},
        {"rank": 1},
        {"load": workload(users=4)},
        {"load": workload(chunks_per_user=9)},
        {"load": workload(turn_chunks_max=4)},
        {"load": workload(continue_probability=0.7)},
        {"load": workload(chunk_tokens=32)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_hash_depends_on_what_the_operations_depend_on(other):
    assert planner(**other).sha256() != planner().sha256()


def test_the_hash_does_not_depend_on_how_operations_are_carried_out():
    other = workload(queue_depth=1, duration_s=9.0, verify="none", direct=False)
    assert planner(other).sha256() == planner().sha256()


def test_ranks_of_one_seed_differ_and_share_no_chunk():
    plans = [first(planner(rank=rank).stream(0, 1), 2000) for rank in range(3)]
    chunks = [set(plan["chunk"].tolist()) for plan in plans]
    assert not chunks[0] & chunks[1] and not chunks[1] & chunks[2]
    assert (plans[0]["kind"] != plans[1]["kind"]).any()


def test_sizes_of_prompts_are_uniform():
    load = workload(chunks_per_user=10**6, turn_chunks_max=4, continue_probability=1.0)
    sizes = [turn.added for turn in islice(planner(load).turns(0), 4000)]
    counts = np.bincount(sizes, minlength=5)
    assert counts[0] == 0
    assert all(880 <= count <= 1120 for count in counts[1:])  # 4 standard deviations


def test_conversations_go_on_as_often_as_asked():
    load = workload(chunks_per_user=10**6, continue_probability=0.8)
    turns = list(islice(planner(load).turns(0), 4000))
    ended = turns[-1].conversation / len(turns)
    assert 0.175 < ended < 0.225  # 4 standard deviations


def test_filling_stores_version_0_in_every_slot_once():
    load = workload(chunks_per_user=300)
    plan = planner(load, rank=1)
    rows = np.concatenate([block for shard in range(2) for block in plan.fill(shard, 2)])
    assert sorted(rows["chunk"].tolist()) == list(range(load.slots, 2 * load.slots))
    assert set(rows["version"].tolist()) == {0}
    assert set(rows["kind"].tolist()) == {STORE}
    places = set(zip(rows["file"].tolist(), rows["offset"].tolist(), strict=True))
    assert len(places) == load.slots


def test_warming_stores_what_first_conversations_load():
    plan = planner()
    warmed = np.concatenate(list(plan.warm(0, 1)))
    loaded = first(plan.stream(0, 1), 2000)
    loaded = loaded[(loaded["kind"] == LOAD) & (loaded["version"] == 0)]
    assert set(loaded["chunk"].tolist()) == set(warmed["chunk"].tolist())
    assert len(warmed) == plan.warm_slots()


def test_the_draws_continue_where_the_last_few_ended():
    plan = planner()
    key = np.array([42, 1 << 32 | 2], dtype=np.uint64)
    whole = np.random.Philox(key=key).random_raw(100).tolist()
    assert list(islice(plan._draws(1, 2), 100)) == whole


def test_operations_are_packed():
    assert OPERATION.itemsize == 64
    assert (first(planner().stream(0, 1), 500)["tokens"] == 0).all()


@given(st.integers(1, 5000), st.integers(1, 2**18).map(lambda blocks: blocks * 4096))
def test_no_slot_crosses_a_segment(slots, slot_bytes):
    layout = Layout(directory=Path("/d"), slots=slots, slot_bytes=slot_bytes)
    sizes = [layout.segment_bytes(segment) for segment in range(layout.segments)]
    assert sum(sizes) == slots * slot_bytes
    assert all(size % slot_bytes == 0 and 0 < size <= SEGMENT_LIMIT_BYTES for size in sizes)
    assert len(layout.paths) == layout.segments
