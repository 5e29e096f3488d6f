"""Ranks: where each stands, which layers its stage has, and which numbers of them are refused."""

from __future__ import annotations

import pytest
from checkpoint_models import parallelism
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.checkpoint_native.parallelism import Parallelism, Place
from mlps.engines.errors import JobError

kinds = st.integers(1, 6)


@pytest.mark.parametrize(
    ("rank", "place"),
    [
        (0, (0, 0, 0, 0)),
        (7, (7, 0, 0, 7)),
        (8, (0, 1, 0, 8)),
        (255, (7, 31, 0, 255)),
        (256, (0, 0, 1, 0)),
        (511, (7, 31, 1, 255)),
    ],
)
def test_tensor_ranks_are_neighbours_then_stages_then_copies(rank, place):
    tensor_rank, pipeline_rank, data_rank, model_rank = place
    assert parallelism(512, tensor=8, pipeline=32).place(rank) == Place(
        tensor_rank=tensor_rank,
        pipeline_rank=pipeline_rank,
        data_rank=data_rank,
        model_rank=model_rank,
    )


@given(kinds, kinds, kinds)
def test_every_rank_has_a_place_of_its_own(tensor, pipeline, data):
    spread = parallelism(tensor * pipeline * data, tensor=tensor, pipeline=pipeline)
    places = [spread.place(rank) for rank in range(spread.ranks)]
    assert spread.data == data
    assert {(place.tensor_rank, place.pipeline_rank, place.data_rank) for place in places} == {
        (t, p, d) for t in range(tensor) for p in range(pipeline) for d in range(data)
    }
    assert len({(place.data_rank, place.model_rank) for place in places}) == spread.ranks
    assert all(
        place.model_rank == place.pipeline_rank * tensor + place.tensor_rank for place in places
    )


@given(st.integers(1, 40), st.integers(0, 160))
def test_stages_have_all_layers_in_order_and_the_first_ones_one_block_more(pipeline, more_blocks):
    blocks = pipeline + more_blocks
    spread = parallelism(pipeline, pipeline=pipeline)
    stages = [spread.stage_layers(stage, blocks) for stage in range(pipeline)]
    assert [layer for stage in stages for layer in stage] == list(range(blocks + 3))
    counts = [len(spread.stage_blocks(stage, blocks)) for stage in range(pipeline)]
    assert sum(counts) == blocks
    assert counts == sorted(counts, reverse=True)
    assert counts[0] - counts[-1] <= 1


def test_stages_of_the_two_models_with_a_pipeline():
    big = parallelism(512, tensor=8, pipeline=32)
    assert [big.stage_layers(stage, 126) for stage in (0, 1, 29, 30, 31)] == [
        range(5), range(5, 9), range(117, 121), range(121, 124), range(124, 129),
    ]  # fmt: skip
    bigger = parallelism(1024, tensor=8, pipeline=64)
    assert [bigger.stage_layers(stage, 128) for stage in (0, 1, 63)] == [
        range(3), range(3, 5), range(127, 131),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("zero", "model_writers", "optimizer_writers", "model_shards", "optimizer_shards"),
    [(0, 4, 4, 1, 4), (1, 4, 12, 1, 12), (2, 4, 12, 1, 12), (3, 12, 12, 3, 12)],
)
def test_what_each_stage_of_zero_divides(
    zero, model_writers, optimizer_writers, model_shards, optimizer_shards
):
    spread = parallelism(12, tensor=4, zero=zero)
    assert (spread.model_writers, spread.optimizer_writers) == (model_writers, optimizer_writers)
    assert (spread.model_shards, spread.optimizer_shards) == (model_shards, optimizer_shards)


@given(kinds, kinds, kinds, st.integers(0, 2), st.data())
def test_a_subset_is_the_first_ranks_of_the_whole(tensor, pipeline, data, zero, draw):
    world = tensor * pipeline * data
    ranks = draw.draw(st.integers(1, world))
    whole = parallelism(world, tensor=tensor, pipeline=pipeline, zero=zero)
    part = parallelism(ranks, tensor=tensor, pipeline=pipeline, data=data, zero=zero)
    assert part.world_ranks == whole.world_ranks == world
    assert [part.place(rank) for rank in range(ranks)] == [
        whole.place(rank) for rank in range(ranks)
    ]
    assert part.optimizer_shards == whole.optimizer_shards


@given(kinds, kinds, st.integers(1, 200))
def test_in_mode_default_only_multiples_of_a_copy_are_accepted(tensor, pipeline, ranks):
    if ranks % (tensor * pipeline):
        with pytest.raises(JobError, match="ranks are no multiple"):
            parallelism(ranks, tensor=tensor, pipeline=pipeline)
    else:
        assert parallelism(ranks, tensor=tensor, pipeline=pipeline) == Parallelism(
            ranks=ranks,
            tensor=tensor,
            pipeline=pipeline,
            data=ranks // tensor // pipeline,
            zero=1,
        )


@pytest.mark.parametrize(
    ("ranks", "values", "message"),
    [
        (
            8,
            {"pipeline": 2, "zero": 3},
            "parallelism.zero=3 goes with no pipeline, parallelism.pipeline is 2:"
            " set parallelism.pipeline=1 or a lower parallelism.zero",
        ),
        (8, {"zero": 4}, "parallelism.zero must be 0, 1, 2 or 3, got 4"),
        (8, {"zero": -1}, "parallelism.zero must be a whole number of at least 0, got -1"),
        (8, {"tensor": 0}, "parallelism.tensor must be a whole number of at least 1, got 0"),
        (8, {"pipeline": None}, "parallelism.pipeline must be a whole number of at least 1,"
         " got None"),
        (8, {"mode": "half"}, "parallelism.mode must be one of default, subset, got 'half'"),
        (
            20,
            {"tensor": 8},
            "20 ranks are no multiple of parallelism.tensor x parallelism.pipeline = 8:"
            " start 16 or 24, or set parallelism.mode=subset",
        ),
        (
            8,
            {"tensor": 8, "pipeline": 32},
            "8 ranks are no multiple of parallelism.tensor x parallelism.pipeline = 256:"
            " start 256, or set parallelism.mode=subset",
        ),
        (
            8,
            {"data": 8, "mode": "default"},
            "parallelism.data 8 is for parallelism.mode=subset;"
            " in mode default it follows from the ranks: set parallelism.data=null",
        ),
        (
            8,
            {"mode": "subset"},
            "parallelism.mode=subset needs parallelism.data: the copies of the model",
        ),
        (8, {"data": 0}, "parallelism.data must be a whole number of at least 1, got 0"),
        (
            17,
            {"tensor": 4, "pipeline": 2, "data": 2},
            "17 ranks are more than parallelism.data x parallelism.tensor x parallelism.pipeline"
            " = 16, which a whole checkpoint takes",
        ),
    ],
)  # fmt: skip
def test_what_no_ranks_can_be_is_refused(ranks, values, message):
    with pytest.raises(JobError) as caught:
        parallelism(ranks, **values)
    assert str(caught.value) == message
