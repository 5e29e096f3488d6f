"""The plan of turns: the same for everybody, and never a read of what is not there."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import JobError
from mlps.engines.io_core.operations import LOAD, STORE
from mlps.engines.kvcache_native.models import Model
from mlps.engines.kvcache_native.planning import PREFILL, PREFIX, plan_sha256
from mlps.engines.kvcache_native.turns import TurnsParameters, TurnsPlan


def plan_of(**changes):
    values = {
        "model": Model(name="m", layers=1, kv_heads=1, head_dim=64, dtype="float16"),
        "users": 3,
        "seed": 42,
        "rank": 0,
        "chunk_tokens": 16,
        "chunks_per_user": 8,
        "turn_chunks_max": 3,
        "continue_probability": 0.8,
    }
    return TurnsPlan(TurnsParameters(**(values | changes)))


def first(plan, count):
    """The first operations of a plan as one array."""
    blocks, held = [], 0
    for block in plan.rows():
        blocks.append(block)
        held += len(block)
        if held >= count:
            break
    return np.concatenate(blocks)[:count]


plans = st.builds(
    plan_of,
    users=st.integers(1, 5),
    chunks_per_user=st.integers(2, 20),
    turn_chunks_max=st.integers(1, 30),
    continue_probability=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    seed=st.integers(0, 2**31),
    rank=st.integers(0, 3),
)


@settings(max_examples=40, deadline=None)
@given(plans)
def test_every_load_finds_what_was_stored_last(plan):
    parameters = plan.parameters
    versions: dict[int, int] = {}  # slots hold version 0 unless something was stored since
    conversation_end: dict[int, int] = {}
    for row in first(plan, 1500):
        chunk, user = int(row["chunk"]), int(row["user"])
        place = chunk - parameters.rank * parameters.slots
        slot = place - user * parameters.chunks_per_user
        assert 0 <= user < parameters.users
        assert 0 <= slot < parameters.chunks_per_user
        assert row["length"] == plan.slot_bytes
        assert row["slot"] == place
        file_slots = int(row["file"]) * plan.files.slots_per_file
        assert file_slots + int(row["offset"]) // plan.slot_bytes == place
        if row["kind"] == LOAD:
            assert row["purpose"] == PREFIX
            assert row["version"] == versions.get(chunk, 0)
        else:
            assert row["purpose"] == PREFILL
            assert row["version"] == versions.get(chunk, 0) + 1
            # Chunks are added one after the other, or a new conversation starts over.
            assert slot in (0, conversation_end.get(user, slot))
            versions[chunk] = int(row["version"])
            conversation_end[user] = slot + 1


@settings(max_examples=30, deadline=None)
@given(plans)
def test_a_turn_loads_the_whole_conversation_then_adds_to_it(plan):
    parameters = plan.parameters
    for turns in (list(islice(plan.turns(user), 30)) for user in range(parameters.users)):
        assert turns[0].conversation == 0
        assert 1 <= turns[0].cached <= parameters.turn_chunks_max
        for turn, following in pairwise(turns):
            full = turn.cached + turn.added == parameters.chunks_per_user
            assert 1 <= turn.added <= parameters.turn_chunks_max
            assert turn.cached + turn.added <= parameters.chunks_per_user
            if following.conversation == turn.conversation:
                assert following.cached == turn.cached + turn.added
                assert not full
                assert parameters.continue_probability > 0
            else:
                assert (following.conversation, following.cached) == (turn.conversation + 1, 0)
                assert full or parameters.continue_probability < 1


@settings(max_examples=20, deadline=None)
@given(plans)
def test_rows_are_those_of_the_turns_and_counts_are_theirs(plan):
    rows = next(plan.rows())
    counts = plan.counts()
    users = plan.parameters.users
    turns = [plan.turns(user) for user in range(users)]
    for number, request in enumerate(requests_of(rows)):
        turn = next(turns[number % users])
        assert (request["kind"] == LOAD).sum() == turn.cached
        assert (request["kind"] == STORE).sum() == turn.added
    assert counts == {
        "requests": number + 1,
        "loads": (rows["kind"] == LOAD).sum(),
        "stores": (rows["kind"] == STORE).sum(),
    }
    assert plan.ratios(counts) == {}


def requests_of(rows):
    """The rows of each request that is whole."""
    rows = rows[: int(np.flatnonzero(rows["closes"])[-1]) + 1]
    return np.split(rows, np.flatnonzero(rows["closes"])[:-1] + 1)


def test_a_request_is_its_loads_then_its_stores_and_closes_once():
    requests = requests_of(first(plan_of(), 600))
    assert len(requests) > 50
    for request in requests:
        assert len(set(request["user"].tolist())) == len(set(request["request"].tolist())) == 1
        assert request["closes"].tolist() == [0] * (len(request) - 1) + [1]
        kinds = request["kind"].tolist()
        assert kinds == sorted(kinds)
        assert kinds[-1] == STORE
        assert request["step"].tolist() == kinds  # stores wait for all loads


def test_nobody_waits_for_another_user():
    rows = first(plan_of(), 2000)
    assert not plan_of().gated
    assert not (rows["gate"].any() or rows["order"].any() or rows["tokens"].any())


def test_users_take_turns():
    rows = first(plan_of(users=5), 2000)
    closed = rows[rows["closes"] == 1]
    assert closed["user"].tolist() == [n % 5 for n in range(len(closed))]
    assert closed["request"].tolist() == [n // 5 for n in range(len(closed))]


def test_a_user_more_changes_nobody_elses_requests():
    few, many = first(plan_of(users=3), 3000), first(plan_of(users=4), 4000)
    for user in range(3):
        a, b = few[few["user"] == user], many[many["user"] == user]
        length = min(len(a), len(b))
        assert length > 500
        for column in ("version", "request", "kind", "closes"):
            assert (a[column][:length] == b[column][:length]).all()


def test_rows_can_be_had_again():
    plan = plan_of(rate_per_s=5.0)
    once, counts = first(plan, 5000), plan.counts()
    assert (first(plan, 5000) == once).all()
    assert plan.counts() == counts


def test_the_hash_stays_as_it_is():
    assert plan_sha256(plan_of().rows()) == plan_sha256(plan_of().rows())
    # Known values: a plan that changes needs another name of its generator.
    assert plan_of().generator == "kvcache-turns/3"
    assert plan_sha256(plan_of().rows())[:16] == "38cf1b6a4606e6e2"
    assert plan_sha256(plan_of(rank=1, rate_per_s=7.0).rows())[:16] == "650b123c49896724"


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 43},
        {"rank": 1},
        {"users": 4},
        {"chunks_per_user": 9},
        {"turn_chunks_max": 4},
        {"continue_probability": 0.7},
        {"chunk_tokens": 32},
        {"tensor_parallel": 2, "chunk_tokens": 64},
        {"rate_per_s": 1.0},
        {"model": Model(name="m", layers=2, kv_heads=1, head_dim=64)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_hash_depends_on_what_the_operations_depend_on(other):
    assert plan_sha256(plan_of(**other).rows()) != plan_sha256(plan_of().rows())


def test_ranks_of_one_seed_differ_and_share_no_chunk():
    plans = [first(plan_of(rank=rank), 2000) for rank in range(3)]
    chunks = [set(plan["chunk"].tolist()) for plan in plans]
    assert not chunks[0] & chunks[1] and not chunks[1] & chunks[2]
    assert (plans[0]["kind"] != plans[1]["kind"]).any()


def test_sizes_of_prompts_are_uniform():
    plan = plan_of(chunks_per_user=10**6, turn_chunks_max=4, continue_probability=1.0)
    sizes = [turn.added for turn in islice(plan.turns(0), 4000)]
    counts = np.bincount(sizes, minlength=5)
    assert counts[0] == 0
    assert all(880 <= count <= 1120 for count in counts[1:])  # 4 standard deviations


def test_conversations_go_on_as_often_as_asked():
    plan = plan_of(chunks_per_user=10**6, continue_probability=0.8)
    turns = list(islice(plan.turns(0), 4000))
    ended = turns[-1].conversation / len(turns)
    assert 0.175 < ended < 0.225  # 4 standard deviations


def test_what_first_conversations_load_is_found_cached():
    plan = plan_of()
    cached = np.concatenate(list(plan.cached_rows()))
    loaded = first(plan, 2000)
    loaded = loaded[(loaded["kind"] == LOAD) & (loaded["version"] == 0)]
    assert sorted(cached["chunk"].tolist()) == sorted(set(loaded["chunk"].tolist()))
    assert not cached["version"].any()
    assert set(cached["kind"].tolist()) == {STORE}


def test_the_draws_continue_where_the_last_few_ended():
    key = np.array([42, 1 << 32 | 2], dtype=np.uint64)
    whole = np.random.Philox(key=key).random_raw(100).tolist()
    assert list(islice(plan_of()._draws(1, 2), 100)) == whole


def test_requests_of_an_open_loop_come_as_a_poisson_process():
    rows = first(plan_of(users=50, rate_per_s=1000.0), 60_000)
    assert (rows["arrival"] > 0).all()
    gaps = np.diff(rows["arrival"][rows["closes"] == 1].astype(np.int64))
    assert (gaps >= 0).all()
    assert gaps.mean() == pytest.approx(1e6, rel=0.05)
    assert gaps.std() == pytest.approx(1e6, rel=0.08)
    for request in requests_of(rows)[:100]:
        assert len(set(request["arrival"].tolist())) == 1


def test_the_rate_only_changes_the_arrivals():
    closed, slow = first(plan_of(), 3000), first(plan_of(rate_per_s=1.0), 3000)
    assert (closed["arrival"] == 0).all()
    slow["arrival"] = 0
    assert (closed == slow).all()


@pytest.mark.parametrize(
    ("tokens", "tensor_parallel", "slot_bytes"), [(1, 1, 4096), (33, 1, 12288), (64, 4, 4096)]
)
def test_a_chunk_takes_whole_blocks(tokens, tensor_parallel, slot_bytes):
    plan = plan_of(chunk_tokens=tokens, tensor_parallel=tensor_parallel)
    assert plan.slot_bytes == slot_bytes
    assert set(first(plan, 100)["length"].tolist()) == {slot_bytes}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"chunks_per_user": 1}, "chunks_per_user must be 2 or more: a cached chunk, and room"),
        ({"continue_probability": 1.1}, "continue_probability must lie between 0 and 1"),
        ({"continue_probability": -0.1}, "continue_probability must lie between 0 and 1"),
        (
            {"chunk_tokens": 2**22 + 1},
            "a chunk has 1073745920 bytes; an operation moves at most 1073741824: use fewer",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, text):
    with pytest.raises(JobError) as caught:
        plan_of(**changes)
    assert str(caught.value).startswith(text)
