"""The workload that a benchmark section describes, and the sizes that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar, cast, get_args

from ..contract import Document
from ..errors import JobError
from ..io_core.blocks import BLOCK_BYTES
from ..io_core.executor import DEFAULT_IO_BYTES, CoreChoice, Durability, Settings, Verify

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "fp8": 1, "int8": 1}
SEGMENT_LIMIT_BYTES = 2**30

Choice = TypeVar("Choice")


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
    dtype: str

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values in all layers; raises JobError."""
        if self.dtype not in _DTYPE_BYTES:
            raise JobError(f"model.dtype {self.dtype!r} is not one of {', '.join(_DTYPE_BYTES)}")
        return self.layers * self._elements() * _DTYPE_BYTES[self.dtype]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What each rank does: users with conversations, their caches, and how I/O is done."""

    model: Model
    users: int
    chunk_tokens: int
    chunks_per_user: int
    turn_chunks_max: int
    continue_probability: float
    queue_depth: int
    ramp_s: float
    duration_s: float
    direct: bool
    verify: Verify
    durability: Durability
    core: CoreChoice = "auto"
    io_size_bytes: int = DEFAULT_IO_BYTES
    rings: int | None = None

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk's keys and values."""
        return self.model.token_bytes * self.chunk_tokens

    @property
    def slot_bytes(self) -> int:
        """What a chunk takes in a file and in one operation: whole blocks."""
        return -(-self.chunk_bytes // BLOCK_BYTES) * BLOCK_BYTES

    @property
    def slots(self) -> int:
        """Chunks that a rank's files hold."""
        return self.users * self.chunks_per_user

    def settings(self, *, key: int, pool_seed: int, durability: Durability) -> Settings:
        """How a rank's operations are carried out; `durability` may be less than the run's."""
        return Settings(
            depth=self.queue_depth,
            rings=self.rings,
            key=key,
            pool_seed=pool_seed,
            largest_bytes=self.slot_bytes,
            io_size_bytes=self.io_size_bytes,
            requests_in_flight=self.users,
            verify=self.verify,
            durability=durability,
            core=self.core,
        )


def workload_of(benchmark: Document) -> Workload:
    """Reads a benchmark section; raises JobError naming what is wrong."""
    io = _section(benchmark, "io")
    model = _section(benchmark, "model")
    known = {field.name for field in fields(Model)}
    workload = Workload(
        model=Model(**{name: value for name, value in model.items() if name in known}),
        direct=bool(_key(io, "direct")),
        verify=_choice(io, "verify", get_args(Verify)),
        durability=_choice(io, "durability", get_args(Durability)),
        core=_choice(io, "core", get_args(CoreChoice)) if "core" in io else "auto",
        io_size_bytes=_count(io, "io_size_bytes") if "io_size_bytes" in io else DEFAULT_IO_BYTES,
        rings=_count(io, "rings") if io.get("rings") is not None else None,
        continue_probability=_number(benchmark, "continue_probability"),
        ramp_s=_number(benchmark, "ramp_s"),
        duration_s=_number(benchmark, "duration_s"),
        **{name: _count(benchmark, name) for name in _COUNTS},
    )
    _check(workload)
    return workload


_COUNTS = ("users", "chunk_tokens", "chunks_per_user", "turn_chunks_max", "queue_depth")


def _check(workload: Workload) -> None:
    if workload.chunks_per_user < 2:
        raise JobError("chunks_per_user must be 2 or more: a cached chunk, and room for a new one")
    if not 0 <= workload.continue_probability <= 1:
        raise JobError("continue_probability must lie between 0 and 1")
    if workload.ramp_s < 0 or workload.duration_s <= 0:
        raise JobError("duration_s must be positive and ramp_s not negative")
    if workload.io_size_bytes % BLOCK_BYTES:
        raise JobError(
            f"io.io_size_bytes must be a multiple of {BLOCK_BYTES}, got {workload.io_size_bytes}"
        )
    if workload.slot_bytes > SEGMENT_LIMIT_BYTES:
        raise JobError(
            f"a chunk has {workload.slot_bytes} bytes; an operation moves at most"
            f" {SEGMENT_LIMIT_BYTES}: use fewer chunk_tokens"
        )


def _key(section: Document, name: str) -> object:
    if name not in section:
        raise JobError(f"the benchmark has no {name}")
    return section[name]


def _section(benchmark: Document, name: str) -> Document:
    value = _key(benchmark, name)
    if not isinstance(value, dict):
        raise JobError(f"{name} must be a mapping, got {value!r}")
    return value


def _count(section: Document, name: str) -> int:
    value = _key(section, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise JobError(f"{name} must be a positive whole number, got {value!r}")
    return value


def _number(section: Document, name: str) -> float:
    value = _key(section, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise JobError(f"{name} must be a number, got {value!r}")
    return float(value)


def _choice(section: Document, name: str, choices: tuple[Choice, ...]) -> Choice:
    value = _key(section, name)
    for choice in choices:
        if choice == value:
            return choice
    raise JobError(f"io.{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
