"""Models of MLPerf Storage's checkpoints, as a benchmark's sections have them, for tests."""

from __future__ import annotations

from mlps.engines.checkpoint_native.layout import layout_of
from mlps.engines.checkpoint_native.model import Architecture, architecture_of
from mlps.engines.checkpoint_native.parallelism import parallelism_of
from mlps.engines.section import Section

GIB = 2**30
VOCAB = 128256

MODELS = {
    "8b": {"layers": 32, "hidden": 4096, "ffn": 14336, "heads": 32, "kv_heads": 8},
    "70b": {"layers": 80, "hidden": 8192, "ffn": 28672, "heads": 128, "kv_heads": 8},
    "405b": {"layers": 126, "hidden": 16384, "ffn": 53248, "heads": 128, "kv_heads": 8},
    "1t": {"layers": 128, "hidden": 25872, "ffn": 98304, "heads": 192, "kv_heads": 32},
}
# tensor, pipeline, data, zero
SPREADS = {"8b": (1, 1, 8, 3), "70b": (8, 1, 8, 3), "405b": (8, 32, 2, 1), "1t": (8, 64, 2, 1)}
RANKS = {"8b": 8, "70b": 64, "405b": 512, "1t": 1024}


def model_section(name="8b", **changes):
    """The `model` section of a benchmark."""
    section = {"vocab": VOCAB, "datatype": "fp16", "optimizer_datatype": "fp32", **MODELS[name]}
    return Section({**section, **changes}, "model")


def architecture(name):
    """One of the four models."""
    return architecture_of(model_section(name))


def small(layers=3, hidden=8, ffn=20, heads=4, kv_heads=2, vocab=50, **more):
    """A model of a few elements."""
    return Architecture(
        layers=layers, hidden=hidden, ffn=ffn, heads=heads, kv_heads=kv_heads, vocab=vocab, **more
    )


def parallelism(ranks, *, tensor=1, pipeline=1, data=None, zero=1, mode=None):
    """Ranks in mode default, or subset where `data` is given."""
    values = {
        "mode": mode or ("default" if data is None else "subset"),
        "tensor": tensor,
        "pipeline": pipeline,
        "data": data,
        "zero": zero,
    }
    return parallelism_of(Section(values, "parallelism"), ranks)


def model_layout(name, ranks=None):
    """The layout of one of the four models, at its own number of ranks or for a subset of them."""
    tensor, pipeline, data, zero = SPREADS[name]
    spread = parallelism(
        ranks or RANKS[name],
        tensor=tensor,
        pipeline=pipeline,
        data=data if ranks else None,
        zero=zero,
    )
    return layout_of(architecture(name), spread)
