"""Models by name, and the bytes that a token's keys and values take in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import cast

from ..errors import JobError

DTYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {"float32": 4, "float16": 2, "bfloat16": 2, "fp8": 1, "int8": 1}
)
_COUNTS = ("layers", "kv_heads", "head_dim", "kv_lora_rank", "qk_rope_head_dim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The architecture that fixes the bytes of a token.

    `kv_heads` and `head_dim` belong to multi-head and grouped-query attention; `kv_lora_rank` and
    `qk_rope_head_dim` to multi-head latent attention.
    """

    name: str
    layers: int
    kv_heads: int | None = None
    head_dim: int | None = None
    kv_lora_rank: int | None = None
    qk_rope_head_dim: int | None = None
    dtype: str = "float16"

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers; raises JobError."""
        if self.dtype not in DTYPE_BYTES:
            raise JobError(f"model.dtype {self.dtype!r} is not one of {', '.join(DTYPE_BYTES)}")
        return self.layers * self._elements() * DTYPE_BYTES[self.dtype]

    def entry_bytes(self, tokens: int, tensor_parallel: int = 1) -> int:
        """Bytes that one of `tensor_parallel` devices keeps of so many tokens."""
        return self.token_bytes * tokens // tensor_parallel

    def _elements(self) -> int:
        """Numbers of one token and layer."""
        heads = (self.kv_heads, self.head_dim)
        latent = (self.kv_lora_rank, self.qk_rope_head_dim)
        if None not in heads and latent == (None, None):
            return cast(int, self.kv_heads) * cast(int, self.head_dim) * 2
        if None not in latent and heads == (None, None):
            return cast(int, self.kv_lora_rank) + cast(int, self.qk_rope_head_dim)
        raise JobError(
            "model needs either kv_heads and head_dim, or kv_lora_rank and qk_rope_head_dim"
        )


def model_of(value: object) -> Model:
    """The model that `benchmark.model` names, or describes as a mapping; raises JobError."""
    if isinstance(value, str):
        if value not in MODELS:
            raise JobError(
                f"model {value!r} is not one of {', '.join(MODELS)};"
                " another one is described by a mapping with name, layers, ..."
            )
        return MODELS[value]
    if not isinstance(value, Mapping):
        raise JobError(f"model must be a name or a mapping, got {value!r}")
    return _described(value)


def _described(section: Mapping[str, object]) -> Model:
    known = {field.name for field in fields(Model)}
    unknown = [str(key) for key in section if key not in known]
    if unknown:
        raise JobError(f"model has no {', '.join(unknown)}: it has {', '.join(sorted(known))}")
    for key in ("name", "dtype"):
        if key in section and not isinstance(section[key], str):
            raise JobError(f"model.{key} must be a text, got {section[key]!r}")
    for key in ("name", "layers"):
        if section.get(key) is None:
            raise JobError(f"model has no {key}")
    for key in _COUNTS:
        count = section.get(key)
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise JobError(f"model.{key} must be a positive whole number, got {count!r}")
    model = Model(**cast("dict[str, str]", section))  # type: ignore[arg-type]  # checked above
    _ = model.token_bytes  # raises for what is checked nowhere else
    return model


def _heads(name: str, layers: int, kv_heads: int, head_dim: int) -> Model:
    return Model(name=name, layers=layers, kv_heads=kv_heads, head_dim=head_dim)


# Architectures as the v3.0 benchmark has them, all in float16.
MODELS: Mapping[str, Model] = MappingProxyType(
    {
        model.name: model
        for model in (
            _heads("tiny-1b", 12, 4, 128),
            _heads("mistral-7b", 32, 8, 128),
            _heads("llama2-7b", 32, 32, 128),
            _heads("llama3.1-8b", 32, 8, 128),
            _heads("llama3.1-70b-instruct", 80, 8, 128),
            Model(name="deepseek-v3", layers=61, kv_lora_rank=512, qk_rope_head_dim=64),
            _heads("qwen3-32b", 64, 8, 128),
            _heads("gpt-oss-120b", 36, 8, 64),
            _heads("gpt-oss-20b", 24, 8, 64),
        )
    }
)
