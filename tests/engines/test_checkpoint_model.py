"""Architectures: their parameters, the elements of their layers, and what is refused."""

from __future__ import annotations

import pytest
from checkpoint_models import architecture, model_section, small
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.checkpoint_native.model import Architecture, architecture_of
from mlps.engines.errors import JobError

sizes = st.integers(1, 40)
architectures = st.builds(
    Architecture,
    layers=st.integers(1, 9),
    hidden=st.integers(4, 40),
    ffn=sizes,
    heads=st.just(4),
    kv_heads=st.integers(1, 4),
    vocab=sizes,
)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("8b", 8_030_261_248),
        ("70b", 69_882_617_856),
        ("405b", 405_853_388_800),
        ("1t", 1_183_035_102_480),
    ],
)
def test_parameters_of_the_four_models(name, parameters):
    assert architecture(name).parameter_count == parameters


@given(architectures)
def test_the_layers_have_all_parameters(model):
    layers = range(model.last_layer + 1)
    assert sum(model.layer_elements(layer) for layer in layers) == model.parameter_count


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))
def test_tensor_ranks_and_shards_divide_matrices_and_shards_alone_divide_norms(
    hidden, tensor, shards
):
    model = small(hidden=hidden * tensor * shards, heads=1, kv_heads=1)
    whole = [model.layer_elements(layer) for layer in range(model.last_layer + 1)]
    parts = [
        tensor * shards * model.layer_elements(layer, tensor=tensor, shards=shards)
        for layer in range(model.last_layer + 1)
    ]
    more = (tensor - 1) * model.hidden
    blocks = [size + 2 * more for size in whole[1:-2]]
    assert parts == [whole[0], *blocks, whole[-2], whole[-1] + more]


def test_every_division_drops_the_rest():
    model = small(hidden=10, heads=4, kv_heads=3, ffn=7, vocab=11)
    assert model.layer_elements(0, tensor=3, shards=4) == 9  # 110 -> 36 -> 9
    # A head has 2 elements: 220 and 100, 140, 70 in matrices of 3 x 4 parts; norms of 4 parts.
    assert model.layer_elements(1, tensor=3, shards=4) == 18 + 8 + 11 + 5 + 2 * 2
    assert model.layer_elements(model.last_layer, tensor=3, shards=4) == 2


def test_datatypes_have_their_bytes():
    model = architecture_of(model_section(datatype="bf16", optimizer_datatype="fp8"))
    assert (model.element_bytes, model.optimizer_element_bytes) == (2, 1)
    model = architecture_of(model_section(datatype="fp32", optimizer_datatype="fp16"))
    assert (model.element_bytes, model.optimizer_element_bytes) == (4, 2)


@pytest.mark.parametrize("key", ["layers", "hidden", "ffn", "heads", "kv_heads", "vocab"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "8", None])
def test_a_count_that_is_none_is_named(key, wrong):
    with pytest.raises(JobError, match=rf"^model\.{key} must be a whole number of at least 1, "):
        architecture_of(model_section(**{key: wrong}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"datatype": "fp64"},
            "model.datatype must be one of fp32, fp16, bf16, fp8, got 'fp64'",
        ),
        (
            {"optimizer_datatype": None},
            "model.optimizer_datatype must be one of fp32, fp16, bf16, fp8, got None",
        ),
        (
            {"heads": 8192},
            "model.heads 8192 is more than model.hidden 4096: a head would have no elements",
        ),
        (
            {"kv_heads": 33},
            "model.kv_heads 33 is more than model.heads 32, which share them",
        ),
    ],
    ids=["datatype", "optimizer datatype", "heads", "kv heads"],
)
def test_what_is_no_model_is_refused(changes, message):
    with pytest.raises(JobError) as caught:
        architecture_of(model_section(**changes))
    assert str(caught.value) == message
