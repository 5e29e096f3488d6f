"""Sizes of models and workloads."""

from __future__ import annotations

import pytest

from mlps.engines.errors import JobError
from mlps.engines.kvcache_native.workload import Model, workload_of


@pytest.mark.parametrize(
    ("name", "layers", "kv_heads", "head_dim", "token_bytes"),
    [
        ("tiny-1b", 12, 4, 128, 24_576),
        ("mistral-7b", 32, 8, 128, 131_072),
        ("llama2-7b", 32, 32, 128, 524_288),
        ("llama3.1-8b", 32, 8, 128, 131_072),
        ("llama3.1-70b-instruct", 80, 8, 128, 327_680),
        ("qwen3-32b", 64, 8, 128, 262_144),
        ("gpt-oss-120b", 36, 8, 64, 73_728),
        ("gpt-oss-20b", 24, 8, 64, 49_152),
    ],
)
def test_bytes_of_a_token(name, layers, kv_heads, head_dim, token_bytes):
    model = Model(name=name, layers=layers, kv_heads=kv_heads, head_dim=head_dim, dtype="float16")
    assert model.token_bytes == token_bytes


def test_bytes_of_a_token_with_latent_attention():
    model = Model(
        name="deepseek-v3", layers=61, kv_lora_rank=512, qk_rope_head_dim=64, dtype="float16"
    )
    assert model.token_bytes == 70_272


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float32", 4), ("float16", 2), ("bfloat16", 2), ("fp8", 1), ("int8", 1)]
)
def test_width_of_a_number(dtype, factor):
    model = Model(name="m", layers=1, kv_heads=1, head_dim=8, dtype=dtype)
    assert model.token_bytes == 16 * factor


def test_a_chunk_takes_whole_blocks(bench):
    bench.changes = {"chunk_tokens": 1}
    workload = workload_of(bench.job["benchmark"])
    assert (workload.chunk_bytes, workload.slot_bytes) == (256, 4096)
    bench.changes = {"chunk_tokens": 33}
    workload = workload_of(bench.job["benchmark"])
    assert (workload.chunk_bytes, workload.slot_bytes) == (8448, 12288)


def test_transfers_are_divided_over_rings(bench):
    for changes, rings in (
        ({"users": 4, "queue_depth": 9}, 2),
        ({"users": 1, "queue_depth": 9}, 1),
        ({"users": 4, "queue_depth": 1}, 1),
        ({"users": 4, "queue_depth": 9, "io": {"rings": 3}}, 3),
        ({"users": 4, "queue_depth": 9, "io": {"rings": 5}}, 4),
    ):
        bench.changes = changes
        settings = workload_of(bench.job["benchmark"]).settings(
            key=1, pool_seed=2, durability="none"
        )
        assert settings.shards == rings
        assert settings.depth == changes["queue_depth"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"users": 0}, "users must be a positive whole number, got 0"),
        ({"users": True}, "users must be a positive whole number"),
        ({"users": 1.5}, "users must be a positive whole number"),
        ({"chunks_per_user": 1}, "chunks_per_user must be 2 or more"),
        ({"continue_probability": 1.1}, "continue_probability must lie between 0 and 1"),
        ({"duration_s": 0}, "duration_s must be positive"),
        ({"ramp_s": "long"}, "ramp_s must be a number, got 'long'"),
        ({"io": {"verify": "some"}}, "io.verify must be one of all, sampled, none, got 'some'"),
        ({"io": {"core": "fast"}}, "io.core must be one of auto, uring, threads, python"),
        ({"io": {"io_size_bytes": 5000}}, "io.io_size_bytes must be a multiple of 4096"),
        ({"io": {"rings": 0}}, "rings must be a positive whole number, got 0"),
        ({"io": {"durability": "sync"}}, "io.durability must be one of"),
        ({"model": {"dtype": "float15"}}, "model.dtype 'float15' is not one of"),
        ({"model": {"head_dim": None}}, "model needs either kv_heads and head_dim"),
        ({"model": {"kv_lora_rank": 4, "qk_rope_head_dim": 4}}, "model needs either"),
        ({"model": {"layers": 10**6}}, "an operation moves at most 1073741824"),
        ({"model": 1}, "model must be a mapping"),
    ],
)
def test_what_makes_no_sense_is_refused(bench, changes, text):
    bench.changes = changes
    with pytest.raises(JobError, match=text.replace(".", r"\.")):
        workload_of(bench.job["benchmark"])


def test_a_missing_key_is_named(bench):
    benchmark = bench.job["benchmark"]
    del benchmark["users"]
    with pytest.raises(JobError, match="has no users"):
        workload_of(benchmark)
