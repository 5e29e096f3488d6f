"""The architecture of a language model: the elements of its layers, and of all of it.

Layer 0 is the embedding, 1 to `layers` are the blocks, then come the output head and the last norm.
Sizes are those of DLIO, with its rounding: every division drops the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from ..errors import JobError
from ..section import Section

Datatype = Literal["fp32", "fp16", "bf16", "fp8"]

DATATYPE_BYTES: Mapping[Datatype, int] = MappingProxyType(
    {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder with grouped-query attention and gated feed-forward layers.

    `heads` need not divide `hidden`: a head then has the whole part of the quotient.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    vocab: int
    datatype: Datatype = "fp16"
    optimizer_datatype: Datatype = "fp32"

    @property
    def parameter_count(self) -> int:
        """Elements of all layers."""
        blocks = self.layers * (sum(self._block_matrices()) + 2 * self.hidden)
        return 2 * self.vocab * self.hidden + blocks + self.hidden

    @property
    def element_bytes(self) -> int:
        """Bytes of an element of the model's states."""
        return DATATYPE_BYTES[self.datatype]

    @property
    def optimizer_element_bytes(self) -> int:
        """Bytes of an element of the optimizer's states."""
        return DATATYPE_BYTES[self.optimizer_datatype]

    @property
    def head_layer(self) -> int:
        """The number of the output head."""
        return self.layers + 1

    @property
    def last_layer(self) -> int:
        """The number of the last norm."""
        return self.layers + 2

    def layer_elements(self, layer: int, *, tensor: int = 1, shards: int = 1) -> int:
        """Elements of a layer that one rank keeps.

        The layer's matrices are split between `tensor` ranks, each of which keeps the norms whole,
        and what a rank has of it between `shards`.
        """
        if layer in (0, self.head_layer):
            return self.vocab * self.hidden // tensor // shards
        if layer == self.last_layer:
            return self.hidden // shards
        matrices = sum(size // tensor // shards for size in self._block_matrices())
        return matrices + 2 * (self.hidden // shards)

    def optimizer_elements(self, parameters: int) -> int:
        """Elements of the optimizer's states of so many of the parameters.

        Three times: the parameters and both moments of each, every time with five norms.
        """
        return 3 * (parameters + 5 * self.hidden)

    def _block_matrices(self) -> tuple[int, ...]:
        """Elements of each matrix of a block; two norms of `hidden` elements are beside them."""
        hidden, ffn = self.hidden, self.ffn
        kv_width = hidden // self.heads * self.kv_heads
        queries_keys_values = hidden * (hidden + 2 * kv_width)
        return queries_keys_values, hidden * hidden, 2 * hidden * ffn, hidden * ffn


def architecture_of(section: Section) -> Architecture:
    """Reads the benchmark's `model`; raises JobError naming what is wrong."""
    architecture = Architecture(
        layers=section.count("layers"),
        hidden=section.count("hidden"),
        ffn=section.count("ffn"),
        heads=section.count("heads"),
        kv_heads=section.count("kv_heads"),
        vocab=section.count("vocab"),
        datatype=section.choice("datatype", get_args(Datatype)),
        optimizer_datatype=section.choice("optimizer_datatype", get_args(Datatype)),
    )
    if architecture.heads > architecture.hidden:
        raise JobError(
            f"model.heads {architecture.heads} is more than model.hidden {architecture.hidden}:"
            " a head would have no elements"
        )
    if architecture.kv_heads > architecture.heads:
        raise JobError(
            f"model.kv_heads {architecture.kv_heads} is more than model.heads"
            f" {architecture.heads}, which share them"
        )
    return architecture
