"""Where chunks are: each place once, found by all ranks that name it, and nothing else left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engines.errors import EngineError
from mlps.engines.io_core.failures import chunk_path
from mlps.engines.io_core.operations import STORE
from mlps.engines.kvcache_native.layout import Layout
from mlps.engines.kvcache_native.models import Model
from mlps.engines.kvcache_native.planning import (
    PREFIX,
    PREFIX_STORE,
    SEGMENT_LIMIT_BYTES,
    Files,
    Rows,
    slots_per_file,
)
from mlps.engines.kvcache_native.prefix import PrefixParameters, PrefixPlan
from mlps.engines.kvcache_native.traffic import TRAFFIC

KINDS = ("segments", "file_per_chunk")
both_kinds = pytest.mark.parametrize("kind", KINDS)


def layout_of(own=10, shared=0, slot_bytes=4096, rank=0, ranks=1, kind="segments", job="/d"):
    files = Files(own_slots=own, shared_slots=shared, slots_per_file=slots_per_file(slot_bytes))
    return Layout(
        job_directory=Path(job),
        rank=rank,
        ranks=ranks,
        files=files,
        slot_bytes=slot_bytes,
        kind=kind,
    )


def place_of(layout, row):
    """The file in which a row works, and where in it."""
    directory = layout.paths[int(row["file"])]
    if layout.kind == "file_per_chunk":
        return chunk_path(directory, int(row["chunk"])), 0
    return directory, int(row["offset"])


# Slots of 256 MiB: a file holds four.
layouts = st.builds(
    layout_of,
    own=st.integers(1, 100),
    shared=st.integers(0, 20),
    slot_bytes=st.sampled_from([4096, 2**28, 3 * 2**28, 2**30]),
    ranks=st.integers(1, 4),
    kind=st.sampled_from(KINDS),
)


@settings(max_examples=20)
@given(layouts, st.randoms(use_true_random=False) | st.none())
def test_all_ranks_together_fill_every_place_once(layout, shuffle):
    filled, chunks = set(), set()
    for rank in range(layout.ranks):
        own = replace(layout, rank=rank)
        order = list(range(own.files.slots))
        if shuffle is not None:
            shuffle.shuffle(order)
        rows = np.concatenate(list(own.fill_rows(np.array(order) if shuffle else None)))
        assert rows["slot"].tolist() == order
        assert set(rows["length"].tolist()) == {own.slot_bytes}
        assert set(rows["kind"].tolist()) == {STORE}
        assert not (rows["version"].any() or rows["gate"].any())
        places = {place_of(own, row) for row in rows}
        assert len(places) == len(rows)
        assert not places & filled
        assert all(own.directory in path.parents for path, _ in places)
        filled |= places
        chunks |= set(rows["chunk"].tolist())
    assert len(filled) == len(chunks) == layout.ranks * layout.files.slots
    if layout.kind == "segments":
        sizes = {
            path: own.own_bytes(number)
            for own in (replace(layout, rank=rank) for rank in range(layout.ranks))
            for number, path in enumerate(own.own)
        }
        step = layout.slot_bytes
        assert filled == {(path, at) for path in sizes for at in range(0, sizes[path], step)}


@given(layouts)
def test_segments_hold_all_slots_and_none_crosses_their_limit(layout):
    layout = replace(layout, kind="segments")
    sizes = [layout.own_bytes(number) for number in range(len(layout.own))]
    assert sum(sizes) == layout.size_bytes == layout.files.slots * layout.slot_bytes
    assert all(size % layout.slot_bytes == 0 for size in sizes)
    assert all(0 < size <= SEGMENT_LIMIT_BYTES for size in sizes)
    assert len(sizes) == len(set(layout.own)) == layout.files.own + layout.files.shared
    assert len(layout.paths) == layout.files.own + layout.ranks * layout.files.shared


@settings(max_examples=20)
@given(st.integers(1, 80), st.sampled_from([4096, 2**26, 3 * 2**23, 2**30]))
def test_rows_of_a_plan_lie_where_the_layout_has_them(slots, slot_bytes):
    layout = layout_of(own=slots, slot_bytes=slot_bytes)
    rows = Rows(slots=slots, slot_bytes=slot_bytes, rank=0).initial(
        np.arange(slots), np.full(slots, slot_bytes)
    )
    filled = np.concatenate(list(layout.fill_rows()))
    assert [place_of(layout, row) for row in rows] == [place_of(layout, row) for row in filled]
    assert (rows["chunk"] == filled["chunk"]).all()
    assert not (rows["version"].any() or rows["gate"].any())
    assert set(rows["kind"].tolist()) == {STORE}


def test_what_is_filled_together_is_one_request_and_spread_over_shards():
    blocks = list(layout_of(own=2000).fill_rows())
    assert [len(set(block["user"].tolist())) for block in blocks] == [1] * len(blocks)
    assert len({int(block["user"][0]) for block in blocks}) == len(blocks) > 4
    assert all(block["closes"].tolist() == [0] * (len(block) - 1) + [1] for block in blocks)


# ---------------------------------------------------------------- documents of all ranks


def prefix_plan(rank, ranks):
    return PrefixPlan(
        PrefixParameters(
            model=Model(name="mini", layers=1, kv_heads=1, head_dim=64),
            traffic=TRAFFIC["conversation"],
            users=2,
            seed=42,
            rank=rank,
            ranks=ranks,
            capacity_gib=0.001,
            io_bytes=16384,
            chunk_tokens=100,
            shared_prefixes=7,
        )
    )


@both_kinds
@pytest.mark.parametrize("ranks", [1, 3])
def test_every_document_is_filled_by_one_rank_and_read_there_by_all(kind, ranks):
    plans = [prefix_plan(rank, ranks) for rank in range(ranks)]
    views = [
        Layout(
            job_directory=Path("/d"),
            rank=rank,
            ranks=ranks,
            files=plan.files,
            slot_bytes=plan.slot_bytes,
            kind=kind,
        )
        for rank, plan in enumerate(plans)
    ]
    filled = {}  # place -> the rank that fills it, and the chunk that its stamp names
    for rank, layout in enumerate(views):
        for row in np.concatenate(list(layout.fill_rows())):
            place = place_of(layout, row)
            assert place not in filled
            filled[place] = (rank, int(row["chunk"]))
    documents = {}
    for rank, (plan, layout) in enumerate(zip(plans, views, strict=True)):
        cached = np.concatenate(list(plan.cached_rows()))
        for row in cached[cached["purpose"] == PREFIX_STORE]:
            place = place_of(layout, row)
            assert place not in documents
            assert filled[place] == (rank, int(row["chunk"]))
            documents[place] = int(row["chunk"])
    # 1024 tokens are 10 chunks of two operations.
    assert len(documents) == len(set(documents.values())) == 7 * 10 * 2
    for plan, layout in zip(plans, views, strict=True):
        read = {}
        for block, _ in zip(plan.rows(), range(8), strict=False):
            for row in block:
                place = place_of(layout, row)
                assert filled[place][1] == int(row["chunk"])
                if row["purpose"] == PREFIX:
                    read[place] = int(row["chunk"])
        assert read == documents


# ---------------------------------------------------------------- a file for each chunk


@settings(max_examples=3)
@given(st.integers(0, 3), st.integers(1, 200_000), st.data())
def test_the_directories_of_all_chunks_are_known(rank, slots, data):
    layout = layout_of(own=slots, rank=rank, ranks=4, kind="file_per_chunk")
    directories = layout.chunk_directories()
    assert len(set(directories)) == len(directories)
    for slot in {0, slots - 1, data.draw(st.integers(0, slots - 1))}:
        path = chunk_path(layout.own[0], rank * slots + slot)
        assert {path.parent, path.parent.parent, path.parent.parent.parent} <= set(directories)


def test_directories_are_made_that_can_be_removed_in_their_order(tmp_path):
    layout = layout_of(own=300, kind="file_per_chunk", job=tmp_path)
    layout.directory.mkdir()
    made = list(layout.make_chunk_directories())
    found = {path for path in layout.directory.rglob("*") if path.is_dir()}
    assert found == set(layout.chunk_directories())
    assert len(made) == len(found) - 1  # and the one that holds them
    list(layout.make_chunk_directories())  # once more, as a prepare that is repeated does
    for directory in layout.chunk_directories():
        directory.rmdir()
    assert list(layout.directory.iterdir()) == []


def test_all_chunk_files_and_their_drafts_are_known_by_name():
    layout = layout_of(own=300, shared=20, rank=1, ranks=2, kind="file_per_chunk")
    paths = [place_of(layout, row)[0] for block in layout.fill_rows() for row in block]
    drafts = [path.with_name(path.name + ".new") for path in paths]
    assert sorted(layout.chunk_names()) == sorted(paths + drafts)


# ---------------------------------------------------------------- the note of the state


@pytest.fixture
def layout(tmp_path):
    layout = layout_of(own=3, shared=2, job=tmp_path)
    layout.directory.mkdir()
    return layout


def test_the_state_is_what_was_noted_last(layout):
    layout.write_state({"runs": 0})
    layout.write_state({"runs": 1, "survey": {"requests": 2}})
    assert layout.read_state() == {"runs": 1, "survey": {"requests": 2}}
    assert {path.name for path in layout.directory.iterdir()} <= set(layout.state_names)
    layout.forget_state()
    layout.forget_state()
    with pytest.raises(EngineError, match=r"STATE is missing: the stage prepare has not completed"):
        layout.read_state()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", '{"runs": "x"}', '{"runs": null}'])
def test_a_damaged_state_is_named(layout, text):
    (layout.directory / "STATE").write_text(text)
    with pytest.raises(EngineError, match=r"rank_0000/STATE is damaged: prepare again"):
        layout.read_state()


def test_files_of_another_size_are_named(layout):
    first, second = layout.own
    first.write_bytes(bytes(3 * 4096))
    with pytest.raises(EngineError, match=r"cannot find .*shared_0000\.dat: No such file"):
        layout.check()
    second.write_bytes(bytes(4096))
    with pytest.raises(EngineError, match=r"shared_0000\.dat has 4096 bytes, prepared were 8192"):
        layout.check()
    second.write_bytes(bytes(2 * 4096))
    layout.check()
