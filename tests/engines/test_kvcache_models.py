"""The model table: every size as the specification has it."""

from __future__ import annotations

import pytest

from mlps.engines.errors import JobError
from mlps.engines.kvcache_native.models import MODELS, Model, model_of

KIB, MIB, GIB = 2**10, 2**20, 2**30

# Bytes of a token, and of 16, 256, 512 and 8192 tokens.
SIZES = {
    "tiny-1b": (24_576, 384 * KIB, 6 * MIB, 12 * MIB, 192 * MIB),
    "mistral-7b": (131_072, 2 * MIB, 32 * MIB, 64 * MIB, GIB),
    "llama2-7b": (524_288, 8 * MIB, 128 * MIB, 256 * MIB, 4 * GIB),
    "llama3.1-8b": (131_072, 2 * MIB, 32 * MIB, 64 * MIB, GIB),
    "llama3.1-70b-instruct": (327_680, 5 * MIB, 80 * MIB, 160 * MIB, 2560 * MIB),
    "deepseek-v3": (70_272, 1_124_352, 17_989_632, 35_979_264, 549 * MIB),
    "qwen3-32b": (262_144, 4 * MIB, 64 * MIB, 128 * MIB, 2 * GIB),
    "gpt-oss-120b": (73_728, 1152 * KIB, 18 * MIB, 36 * MIB, 576 * MIB),
    "gpt-oss-20b": (49_152, 768 * KIB, 12 * MIB, 24 * MIB, 384 * MIB),
}


def test_the_table_is_complete():
    assert list(MODELS) == list(SIZES)
    assert all(name == model.name for name, model in MODELS.items())
    assert {model.dtype for model in MODELS.values()} == {"float16"}


@pytest.mark.parametrize("name", SIZES)
def test_bytes_of_a_token_and_of_entries(name):
    token_bytes, *entries = SIZES[name]
    model = model_of(name)
    assert model.token_bytes == token_bytes
    assert [model.entry_bytes(tokens) for tokens in (16, 256, 512, 8192)] == entries


@pytest.mark.parametrize(
    ("name", "hidden", "query_heads"),
    [
        ("tiny-1b", 1024, 8),
        ("mistral-7b", 4096, 32),
        ("llama2-7b", 4096, 32),
        ("llama3.1-8b", 4096, 32),
        ("llama3.1-70b-instruct", 8192, 64),
    ],
)
def test_heads_have_their_share_of_the_hidden_size(name, hidden, query_heads):
    assert MODELS[name].head_dim == hidden // query_heads


def test_each_of_several_devices_keeps_its_share():
    model = MODELS["llama3.1-8b"]
    assert model.entry_bytes(100, tensor_parallel=8) * 8 == model.entry_bytes(100)
    # The whole entry is divided, not the bytes of each token.
    small = Model(name="m", layers=1, kv_heads=1, head_dim=1, dtype="int8")
    assert small.entry_bytes(5, tensor_parallel=4) == 2


def test_a_mapping_describes_another_model():
    described = {
        "name": "mine",
        "layers": 2,
        "kv_heads": 3,
        "head_dim": 5,
        "kv_lora_rank": None,
        "qk_rope_head_dim": None,
        "dtype": "bfloat16",
    }
    assert model_of(described).token_bytes == 2 * 3 * 5 * 2 * 2
    latent = {"name": "mine", "layers": 2, "kv_lora_rank": 6, "qk_rope_head_dim": 1}
    assert model_of(latent).token_bytes == 2 * 7 * 2


HEADS = {"name": "m", "layers": 1, "kv_heads": 1, "head_dim": 8}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("gpt-9", "model 'gpt-9' is not one of tiny-1b, mistral-7b, "),
        (7, "model must be a name or a mapping, got 7"),
        (HEADS | {"heads": 3}, "model has no heads: it has dtype, head_dim, "),
        (HEADS | {"layers": None}, "model has no layers"),
        ({"layers": 1}, "model has no name"),
        (HEADS | {"layers": 0}, "model.layers must be a positive whole number, got 0"),
        (HEADS | {"layers": True}, "model.layers must be a positive whole number, got True"),
        (HEADS | {"kv_heads": 1.5}, "model.kv_heads must be a positive whole number, got 1.5"),
        (HEADS | {"dtype": "float15"}, "model.dtype 'float15' is not one of float32, "),
        (HEADS | {"dtype": 16}, "model.dtype must be a text, got 16"),
        (HEADS | {"head_dim": None}, "model needs either kv_heads and head_dim, or "),
        (HEADS | {"kv_lora_rank": 1, "qk_rope_head_dim": 1}, "model needs either "),
    ],
)
def test_what_is_no_model_is_refused(value, text):
    with pytest.raises(JobError) as caught:
        model_of(value)
    assert str(caught.value).startswith(text)
