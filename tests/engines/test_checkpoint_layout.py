"""The files of checkpoints: those of the four models to the byte, and what holds for any model."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from checkpoint_models import (
    GIB,
    MODELS,
    RANKS,
    SPREADS,
    architecture,
    model_layout,
    parallelism,
    small,
)
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.checkpoint_native.layout import Totals, folder_name, layout_of, read_rank
from mlps.engines.errors import JobError

MODEL_BYTES = {
    "8b": {2_007_565_312: 8},
    "70b": {2_184_120_320: 64},
    "405b": {3_713_269_760: 8, 3_187_933_184: 29 * 8, 2_390_949_888: 8, 2_916_319_232: 8},
    "1t": {5_425_047_936: 8, 4_595_488_128: 62 * 8, 5_425_099_680: 8},
}
OPTIMIZER_BYTES = {
    "8b": 12_045_637_632,
    "70b": 13_103_482_368,
    "405b": 9_513_171_840,
    "1t": 13_865_244_924,
}
LAYER_BYTES = {
    "405b": {525_336_576: 2 * 8, 796_983_296: 126 * 8, 32_768: 8},
    "1t": {829_559_808: 2 * 8, 2_297_744_064: 128 * 8, 51_744: 8},
}


@st.composite
def layouts(draw, *, whole=False, divisible=False):
    """A layout of a small model at some number of ranks that is allowed."""
    zero = draw(st.integers(0, 3))
    tensor = draw(st.integers(1, 4))
    pipeline = 1 if zero == 3 else draw(st.integers(1, 5))
    data = draw(st.integers(1, 4))
    world = tensor * pipeline * data
    ranks, given_data = world, None
    if not whole and draw(st.booleans()):
        ranks, given_data = draw(st.integers(1, world)), data
    hidden = draw(st.integers(1, 6)) * (tensor * data if divisible else 1) * 4
    model = small(
        layers=draw(st.integers(pipeline, 12)),
        hidden=hidden,
        ffn=draw(st.integers(1, 30)),
        vocab=draw(st.integers(20, 60)),
        datatype=draw(st.sampled_from(["fp32", "fp16", "fp8"])),
    )
    spread = parallelism(ranks, tensor=tensor, pipeline=pipeline, data=given_data, zero=zero)
    return model, layout_of(model, spread)


def files_of(layout):
    """The files of all ranks, rank by rank."""
    return [layout.files(rank) for rank in range(layout.parallelism.ranks)]


def counted(files):
    """Totals, one file after the other."""
    sizes = [[file.size_bytes for rank in files for file in rank if file.state == state]
             for state in ("model", "optimizer")]  # fmt: skip
    return Totals(
        model_bytes=sum(sizes[0]),
        optimizer_bytes=sum(sizes[1]),
        model_files=len(sizes[0]),
        optimizer_files=len(sizes[1]),
    )


# ---------------------------------------------------------------- the four models


@pytest.mark.parametrize(
    ("name", "model_gib", "optimizer_gib", "gib", "gb", "files"),
    [
        ("8b", 14.96, 89.75, 104.70, 112.4, (8, 8)),
        ("70b", 130.18, 781.03, 911.21, 978.4, (64, 64)),
        ("405b", 756.01, 4536.23, 5292.25, 5682.5, (1032, 512)),
        ("1t", 2203.66, 13222.93, 15426.59, 16564.2, (1048, 1024)),
    ],
)
def test_totals_of_the_four_models(name, model_gib, optimizer_gib, gib, gb, files):
    totals = model_layout(name).totals()
    assert round(totals.model_bytes / GIB, 2) == model_gib
    assert round(totals.optimizer_bytes / GIB, 2) == optimizer_gib
    assert round(totals.size_bytes / GIB, 2) == gib
    assert round(totals.size_bytes / 1e9, 1) == gb
    assert (totals.model_files, totals.optimizer_files) == files
    assert totals.files == sum(files)


@pytest.mark.parametrize("name", MODELS)
def test_every_rank_of_the_four_models_writes_its_bytes(name):
    layout = model_layout(name)
    model, optimizer = Counter(), Counter()
    for rank, files in enumerate(files_of(layout)):
        states = [file.size_bytes for file in files if file.state == "model"]
        model[sum(states)] += 1
        optimizer[layout.rank_bytes(rank) - sum(states)] += 1
    assert {size: ranks for size, ranks in model.items() if size} == MODEL_BYTES[name]
    assert optimizer == {OPTIMIZER_BYTES[name]: RANKS[name]}


@pytest.mark.parametrize("name", LAYER_BYTES)
def test_files_of_the_layers(name):
    files = files_of(model_layout(name))
    sizes = Counter(file.size_bytes for rank in files for file in rank if file.state == "model")
    assert sizes == LAYER_BYTES[name]


@pytest.mark.parametrize("copies", [1, 2, 3, 8])
@pytest.mark.parametrize("name", MODELS)
def test_the_files_of_the_four_models_add_up_at_every_multiple_of_a_copy(name, copies):
    tensor, pipeline, _, zero = SPREADS[name]
    spread = parallelism(copies * tensor * pipeline, tensor=tensor, pipeline=pipeline, zero=zero)
    layout = layout_of(architecture(name), spread)
    assert counted(files_of(layout)) == layout.totals()


@pytest.mark.parametrize(
    ("name", "gib"), [("8b", 104.70), ("70b", 113.90), ("405b", 98.54), ("1t", 143.72)]
)
def test_eight_ranks_write_their_share(name, gib):
    layout = model_layout(name, ranks=8)
    assert round(layout.totals().size_bytes / GIB, 2) == gib
    assert files_of(layout) == files_of(model_layout(name))[:8]


def test_a_thousand_ranks_are_planned_in_time():
    begin = time.process_time()
    layout = model_layout("1t")
    assert sum(map(len, files_of(layout))) == layout.totals().files
    assert time.process_time() - begin < 2


# ---------------------------------------------------------------- names


def test_names_with_zero_3():
    assert [file.name for file in model_layout("70b").files(63)] == [
        "zero_pp_rank_7_mp_rank_7_model_states.pt",
        "zero_pp_rank_7_mp_rank_7_optim_states.pt",
    ]


def test_names_with_a_pipeline():
    layout = model_layout("405b")
    assert [file.name for file in layout.files(255)] == [
        "layer_124-model_255_model_states.pt",
        "layer_125-model_255_model_states.pt",
        "layer_126-model_255_model_states.pt",
        "layer_127-model_255_model_states.pt",
        "layer_128-model_255_model_states.pt",
        "zero_pp_rank_0_mp_rank_255_optim_states.pt",
    ]
    assert [file.name for file in layout.files(256)] == ["zero_pp_rank_1_mp_rank_0_optim_states.pt"]


@pytest.mark.parametrize(
    ("zero", "first", "second_copy"),
    [
        (
            0,
            ["zero_pp_rank_0_mp_rank_1_model_states.pt",
             "zero_pp_rank_0_mp_rank_1_optim_states.pt"],
            [],
        ),
        (
            1,
            ["model_1_model_states.pt", "zero_pp_rank_0_mp_rank_1_optim_states.pt"],
            ["zero_pp_rank_1_mp_rank_1_optim_states.pt"],
        ),
        (
            2,
            ["model_1_model_states.pt", "zero_pp_rank_0_mp_rank_1_optim_states.pt"],
            ["zero_pp_rank_1_mp_rank_1_optim_states.pt"],
        ),
    ],
)  # fmt: skip
def test_names_without_a_pipeline(zero, first, second_copy):
    layout = layout_of(small(), parallelism(4, tensor=2, zero=zero))
    assert [file.name for file in layout.files(1)] == first
    assert [file.name for file in layout.files(3)] == second_copy


def test_without_zero_a_stage_of_a_pipeline_is_one_file():
    layout = layout_of(small(), parallelism(4, pipeline=2, zero=0))
    assert [[file.name for file in files] for files in files_of(layout)] == [
        [
            f"zero_pp_rank_0_mp_rank_{rank}_model_states.pt",
            f"zero_pp_rank_0_mp_rank_{rank}_optim_states.pt",
        ]
        for rank in (0, 1)
    ] + [[], []]


def test_a_checkpoint_has_a_folder_by_its_number():
    assert folder_name(10) == "global_epoch1_step10"
    assert folder_name(1, epoch=2) == "global_epoch2_step1"


# ---------------------------------------------------------------- any model


@given(layouts())
def test_totals_are_the_sum_over_ranks(of):
    _, layout = of
    assert counted(files_of(layout)) == layout.totals()


@given(layouts())
def test_no_rank_writes_the_file_of_another(of):
    _, layout = of
    names = [file.name for rank in files_of(layout) for file in rank]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name]


@given(layouts())
def test_no_file_is_empty(of):
    _, layout = of
    assert all(file.size_bytes > 0 for rank in files_of(layout) for file in rank)


@given(layouts(whole=True, divisible=True))
def test_a_whole_checkpoint_has_every_parameter_once_and_the_norms_of_each_tensor_rank(of):
    model, layout = of
    spread = layout.parallelism
    norms = (2 * model.layers + 1) * model.hidden
    elements = model.parameter_count + (spread.tensor - 1) * norms
    assert layout.totals().model_bytes == elements * model.element_bytes


@given(layouts(whole=True))
def test_the_optimizer_has_three_numbers_to_each_parameter(of):
    model, layout = of
    writers = layout.parallelism.optimizer_writers
    norms = 15 * model.hidden * writers
    parameters, rest = divmod(layout.totals().optimizer_bytes // 4 - norms, 3)
    assert rest == 0
    assert 0 <= model.parameter_count - parameters < writers


@given(st.integers(1, 50), st.integers(0, 200))
def test_shifted_ranks_read_every_rank_once(ranks, shift):
    read = [read_rank(rank, shift=shift, ranks=ranks) for rank in range(ranks)]
    assert sorted(read) == list(range(ranks))
    assert (read == list(range(ranks))) == (shift % ranks == 0)


def test_a_shift_by_the_ranks_of_a_host_reads_what_the_next_host_wrote():
    assert [read_rank(rank, shift=2, ranks=6) for rank in range(6)] == [2, 3, 4, 5, 0, 1]


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("model", "spread", "message"),
    [
        (
            small(layers=3),
            parallelism(4, pipeline=4),
            "parallelism.pipeline 4 is more than the 3 layers of the model: a stage would have"
            " none",
        ),
        (
            small(layers=1, hidden=1, ffn=1, heads=1, kv_heads=1, vocab=1),
            parallelism(13, zero=1),
            "the model's 12 parameters are too few to be spread over 13 ranks: some of their files"
            " would be empty",
        ),
        (
            small(layers=1, hidden=1, ffn=1, heads=1, kv_heads=1, vocab=1),
            parallelism(8, zero=3),
            "the model's 12 parameters are too few to be spread over 8 ranks: some of their files"
            " would be empty",
        ),
    ],
    ids=["pipeline", "optimizer", "model"],
)
def test_a_model_that_leaves_a_rank_nothing_is_refused(model, spread, message):
    with pytest.raises(JobError) as caught:
        layout_of(model, spread)
    assert str(caught.value) == message
