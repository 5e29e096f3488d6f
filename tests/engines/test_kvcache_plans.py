"""From benchmark sections to plans: each packaged one is planned, and no key is without effect."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.compose import compose
from mlps.engine.options import find_options
from mlps.engine.schema import load_schema
from mlps.engines.contract import Job, merged
from mlps.engines.errors import EngineError, JobError
from mlps.engines.kvcache_native.planning import plan_sha256
from mlps.engines.kvcache_native.plans import WORKLOADS, Place, planned, try_trace
from mlps.engines.kvcache_native.roofline import roofline_of
from mlps.engines.kvcache_native.search import search_of
from mlps.engines.kvcache_native.stages import KvCacheEngine
from mlps.engines.kvcache_native.traces import survey_trace
from mlps.engines.kvcache_native.workload import workload_of
from mlps.engines.section import Section

PLACE = Place(seed=42, rank=0, ranks=2)


def job_of(benchmark):
    return Job(sha256="0" * 64, run_id="r", benchmark=benchmark, data_dir=Path("/data"), seed=42)


# ---------------------------------------------------------------- the packaged benchmarks


@cache
def composed(name):
    words = [f"benchmark={name}", "benchmark.trace.path=/data/trace"]
    words = words if name == "kvcache/trace" else words[:1]
    return compose(words, conf_dirs=(), cwd=Path("/")).values["benchmark"]


def packaged(name):
    """A packaged benchmark's sections, one for each of its options."""
    benchmark = deepcopy(composed(name))
    options = benchmark["options"] or [{"set": {}}]
    return [merged(benchmark, option["set"]) for option in options]


PACKAGED = [
    option.name
    for option in find_options("benchmark", ())
    if option.name.partition("/")[0] == "kvcache"
]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_benchmark_makes_a_plan_and_states_its_needs(name, tmp_path, make_trace):
    for benchmark in packaged(name):
        if benchmark["workload"] == "trace":
            benchmark["trace"] |= {
                "path": str(make_trace(tmp_path, "mooncake")),
                "block_tokens": 64,
            }
        workload = workload_of(benchmark)
        source = workload.planned.trace
        survey = survey_trace(source) if source else None
        plan = workload.planned.plan(PLACE, survey)
        rows = next(plan.rows())
        assert len(rows) > 100
        assert set(rows["length"] % 4096) == {0}
        assert rows["length"].max() <= plan.slot_bytes
        assert rows["slot"].max() < plan.files.slots
        settings = workload.settings(plan, key=1, pool_seed=1, durability="none")
        assert settings.largest_bytes == plan.slot_bytes
        needs = KvCacheEngine().needs(job_of(benchmark), ranks=2)
        assert needs.disk_bytes == 2 * plan.files.slots * plan.slot_bytes
        assert needs.memory_bytes_per_rank > settings.buffer_bytes


def test_every_workload_is_packaged():
    found = {benchmark["workload"] for name in PACKAGED for benchmark in packaged(name)}
    assert found == set(WORKLOADS)


# ---------------------------------------------------------------- each key has an effect


def surveyed(workload):
    """What the whole trace holds, or why it cannot be read; None without a trace."""
    source = workload.planned.trace
    if source is None:
        return None
    try:
        return survey_trace(source)
    except EngineError as error:
        return str(error)


def seen(benchmark):
    """All that a section may have an effect on, by what it is."""
    workload = workload_of(benchmark)
    survey = surveyed(workload)
    plan = workload.planned.plan(PLACE, None if isinstance(survey, str) else survey)
    rows = list(islice(plan.rows(), 4)) if not isinstance(survey, str) else []
    section = Section(benchmark)
    has_search = "search" in section
    return {
        "plan": (
            plan_sha256(iter(rows)),
            plan.files,
            plan.slot_bytes,
            [block.tobytes() for block in plan.cached_rows()],
        ),
        "settings": workload.settings(plan, key=1, pool_seed=1, durability=workload.io.durability),
        "files": workload.io.direct,
        "needs": KvCacheEngine().needs(job_of(benchmark), ranks=2),
        "course": replace(workload, planned=None, io=None),
        "search": search_of(section.section("search"), 1.0) if has_search else None,
        "roofline": roofline_of(section.section("roofline")),
        "survey": survey,
    }


LATENT = {"kv_heads": None, "head_dim": None, "kv_lora_rank": 32, "qk_rope_head_dim": 32}
SHAREGPT = {"trace": {"format": "sharegpt", "rate_per_s": 5.0, "cycles": 1}}

# Keys of all workloads: what else is set, another value, and what it has an effect on.
COMMON_EFFECTS = {
    "model": ({}, "tiny-1b", "plan"),
    "model.layers": ({}, 2, "plan"),
    "model.kv_heads": ({}, 2, "plan"),
    "model.head_dim": ({}, 256, "plan"),
    "model.kv_lora_rank": ({"model": LATENT}, 512, "plan"),
    "model.qk_rope_head_dim": ({"model": LATENT}, 512, "plan"),
    "model.dtype": ({}, "float32", "plan"),
    "tensor_parallel": ({}, 2, "plan"),
    "layout": ({}, "file_per_chunk", "settings"),
    "queue_depth": ({}, 7, "settings"),
    "precondition_passes": ({}, 1, "course"),
    "ramp_s": ({}, 3, "course"),
    "duration_s": ({}, 3, "course"),
    "requests": ({}, 3, "course"),
    "backlog_max": ({}, 3, "settings"),
    "roofline.tool": ({}, "fio", "roofline"),
    "roofline.duration_s": ({}, 3, "roofline"),
    "io.direct": ({}, False, "files"),
    "io.verify": ({}, "none", "settings"),
    "io.durability": ({}, "dsync", "settings"),
    "io.core": ({}, "python", "settings"),
    "io.io_size_bytes": ({}, 4096, "settings"),
    "io.rings": ({}, 1, "settings"),
}

EFFECTS = {
    "turns": {
        "users": ({}, 5, "plan"),
        "chunk_tokens": ({}, 128, "plan"),
        "chunks_per_user": ({}, 9, "plan"),
        "turn_chunks_max": ({}, 4, "plan"),
        "continue_probability": ({}, 0.5, "plan"),
        "rate_per_s": ({}, 5.0, "plan"),
    },
    "v3": {
        "users": ({}, 5, "plan"),
        "capacity_gib": ({}, 0.01, "needs"),
        "cpu_cache_gib": ({}, 0.001, "plan"),
        "slot_bytes": ({}, 8192, "plan"),
        "stores_in_flight": ({}, 1, "settings"),
        "context_tokens_max": ({}, 150, "plan"),
        "speedup": ({}, 1.0, "plan"),
        "multi_turn": ({}, False, "plan"),
        "rag": ({"context_tokens_max": 3000}, True, "plan"),
        "rag_documents": ({"rag": True, "context_tokens_max": 3000}, 3, "plan"),
        "prefill_only": ({}, True, "plan"),
        "decode_only": ({"context_tokens_max": 3000}, True, "plan"),
    },
    "prefix": {
        "users": ({}, 5, "plan"),
        "chunk_tokens": ({}, 256, "plan"),
        "capacity_gib": ({}, 0.01, "needs"),
        "slot_bytes": ({}, 4096, "plan"),
        "traffic": ({}, "synthetic", "plan"),
        "shared_prefixes": ({}, 4, "needs"),
        "zipf_exponent": ({}, 2.0, "plan"),
        "rate_per_s": ({}, 5.0, "plan"),
        "search.prefix_load_ms": ({}, 3, "search"),
        "search.fraction": ({}, 0.5, "search"),
        "search.start_per_s": ({}, 3, "search"),
        "search.tolerance_pct": ({}, 3, "search"),
        "search.probe_s": ({}, 3, "search"),
        "search.requests_min": ({}, 3, "search"),
        "search.probes_max": ({}, 3, "search"),
    },
    "trace": {
        "chunk_tokens": ({"trace": {"format": "burstgpt"}}, 32, "plan"),
        "capacity_gib": ({}, 0.01, "needs"),
        "slot_bytes": ({}, 8192, "plan"),
        "requests_in_flight": ({}, 3, "settings"),
        "speedup": ({}, 1.0, "plan"),
        "trace.path": ({}, "/nowhere", "survey"),
        "trace.format": ({}, "burstgpt", "survey"),
        "trace.block_tokens": ({"trace": {"path": "one block.trace"}}, 128, "plan"),
        "trace.broken_lines_max": ({"trace": {"path": "broken.trace"}}, 1, "survey"),
        "trace.cycles": ({"trace": {"cycles": 1}}, 2, "plan"),
        "trace.same_ids": ({}, True, "plan"),
        "trace.rate_per_s": ({**SHAREGPT, "speedup": 1.0}, 9.0, "plan"),
        "trace.conversations_open": (SHAREGPT, 1, "plan"),
    },
}
# The keys of what is only a name, and of what the workflow engine alone reads.
ELSEWHERE = {"workload", "model.name", "roofline.when"}


def keys_of(name):
    """Dotted keys of a schema: of those below mappings too, which are no keys by themselves."""
    for key, value in load_schema(f"benchmark/{name}")["properties"].items():
        inner = value.get("properties", {}) if value is not True else None
        if inner is None:
            continue
        if not inner or key == "model":
            yield key
        yield from (f"{key}.{below}" for below in inner)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_key_of_the_schemas_is_in_the_tables(workload):
    assert set(COMMON_EFFECTS) | ELSEWHERE == set(keys_of("kvcache"))
    assert set(EFFECTS[workload]) == set(keys_of(f"kvcache_{workload}"))


CASES = [
    pytest.param(workload, key, *effect, id=f"{workload} {key}")
    for workload in WORKLOADS
    for key, effect in (COMMON_EFFECTS | EFFECTS[workload]).items()
]


@pytest.fixture(scope="module")
def traces(tmp_path_factory, make_trace):
    """A directory with small traces, one of them broken."""
    directory = tmp_path_factory.mktemp("traces")
    for form in ("mooncake", "burstgpt", "sharegpt"):
        make_trace(directory, form)
    good = (directory / "mooncake.trace").read_text()
    (directory / "broken.trace").write_text(good + "x\n")
    line = {"timestamp": 1, "input_length": 64, "output_length": 1, "hash_ids": [1]}
    (directory / "one block.trace").write_text(json.dumps(line))
    return directory


@pytest.fixture
def section_of(make_section, traces):
    """The small section of a workload with some keys changed; a trace is one of the small ones."""

    def make(workload, *changes):
        benchmark = make_section(workload)
        for change in changes:
            benchmark = merged(benchmark, change)
        if workload == "trace":
            trace = benchmark["trace"]
            name = Path(trace["path"]).name
            small = traces / (f"{trace['format']}.trace" if name == "trace" else name)
            benchmark = merged(benchmark, {"trace": {"path": str(small)}})
        return benchmark

    return make


@pytest.mark.parametrize(("workload", "key", "around", "value", "part"), CASES)
def test_each_key_has_an_effect(section_of, traces, workload, key, around, value, part):
    for name in reversed(key.split(".")):
        value = {name: value}
    if key == "trace.path":
        value = {"trace": {"path": str(traces / "broken.trace")}}
    if key == "trace.format":
        # The file stays the one that it was.
        around = {"trace": {"path": "mooncake.trace"}}
    if key == "model":
        around = merged(around, {"slot_bytes": 2**20, "capacity_gib": 0.5})
        around = {name: around[name] for name in around if name in section_of(workload)}
    before = seen_or_error(section_of(workload, around))
    after = seen_or_error(section_of(workload, around, value))
    assert before[part] != after[part]


def seen_or_error(benchmark):
    """What is seen of a section; of a trace that cannot be read only why."""
    try:
        return seen(benchmark)
    except EngineError as error:
        if benchmark["workload"] != "trace":
            raise
        return {"survey": str(error)}


PLAN_ONLY = ["queue_depth", "io.direct", "io.verify", "io.core", "io.rings", "io.durability"]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_plan_does_not_depend_on_how_operations_are_carried_out(section_of, workload):
    before = seen(section_of(workload))["plan"]
    for key in (*PLAN_ONLY, "io.io_size_bytes", "layout", "duration_s", "backlog_max"):
        value = COMMON_EFFECTS[key][1]
        for name in reversed(key.split(".")):
            value = {name: value}
        assert seen(section_of(workload, value))["plan"] == before, key


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("workload", ["turns", "prefix", "trace"])
@given(
    tokens=st.integers(1, 40),
    tensor_parallel=st.integers(1, 2000),
    head_dim=st.integers(1, 200),
)
def test_a_chunk_smaller_than_a_block_is_refused_with_what_to_type(
    make_section, workload, tokens, tensor_parallel, head_dim
):
    changes = {
        "chunk_tokens": tokens,
        "tensor_parallel": tensor_parallel,
        "model": {"name": "m", "layers": 1, "kv_heads": 1, "head_dim": head_dim},
    }
    benchmark = make_section(workload, **changes)
    if workload == "trace":
        benchmark["trace"] = benchmark["trace"] | {"format": "burstgpt"}
    size_bytes = tokens * 4 * head_dim // tensor_parallel
    if size_bytes >= 4096:
        planned(Section(benchmark))
        return
    with pytest.raises(JobError) as caught:
        planned(Section(benchmark))
    text, _, hint = str(caught.value).rpartition(": use chunk_tokens ")
    assert text == f"a chunk of {tokens} tokens has {size_bytes} bytes, I/O moves blocks of 4096"
    enough = int(hint.removesuffix(" or more"))
    planned(Section(benchmark | {"chunk_tokens": enough}))
    with pytest.raises(JobError):
        planned(Section(benchmark | {"chunk_tokens": enough - 1}))


def test_blocks_of_a_trace_that_names_them_are_what_must_be_large_enough(make_section):
    small = make_section("trace", chunk_tokens=1, trace={"block_tokens": 16})
    assert planned(Section(small)).trace is not None
    small["trace"] = small["trace"] | {"block_tokens": 15}
    with pytest.raises(JobError) as caught:
        planned(Section(small))
    assert str(caught.value) == (
        "a chunk of 15 tokens has 3840 bytes, I/O moves blocks of 4096:"
        " use trace.block_tokens 16 or more"
    )


def test_an_open_loop_of_a_trace_without_times_needs_a_rate(make_section):
    timeless = make_section("trace", speedup=2.0, trace={"format": "sharegpt"})
    with pytest.raises(JobError) as caught:
        planned(Section(timeless))
    assert str(caught.value) == (
        "a sharegpt trace has no times: set trace.rate_per_s, or speedup=null for a closed loop"
    )
    timeless["trace"] = timeless["trace"] | {"rate_per_s": 3.0}
    assert planned(Section(timeless)).open_loop
    closed = make_section("trace", trace={"format": "sharegpt"})
    assert not planned(Section(closed)).open_loop


@pytest.mark.parametrize(
    ("workload", "changes", "text"),
    [
        ("v3", {"capacity_gib": 2**-18}, "capacity_gib 3.8147e-06 cannot hold the largest entry"),
        ("v3", {"prefill_only": True, "decode_only": True}, "prefill_only and decode_only exclude"),
        ("v3", {"stores_in_flight": 0}, "stores_in_flight must be a whole number of at least 1"),
        ("v3", {"speedup": 0}, "speedup must be above 0"),
        ("prefix", {"traffic": "none"}, "traffic must be one of conversation, synthetic, got 'no"),
        ("prefix", {"capacity_gib": 2**-15}, "capacity_gib 3.0517578125e-05 holds 2 chunks, fewer"),
        ("prefix", {"slot_bytes": 5000}, "io_bytes 5000 is not a multiple of 4096"),
        ("trace", {"requests_in_flight": 0}, "requests_in_flight must be a whole number of at le"),
        ("trace", {"trace": {"format": "csv"}}, "trace.format must be one of mooncake, burstgpt,"),
        ("trace", {"trace": {"path": ""}}, "trace.path must be a text, got ''"),
        ("trace", {"trace": {"cycles": -1}}, "trace.cycles must be a whole number of at least 0"),
        ("trace", {"trace": {"same_ids": None}}, "trace.same_ids must be true or false, got None"),
    ],
)
def test_what_cannot_be_planned_is_refused(make_section, workload, changes, text):
    with pytest.raises(JobError) as caught:
        planned(Section(make_section(workload, **changes))).plan(PLACE)
    assert str(caught.value).startswith(text)


def test_a_file_that_is_no_trace_is_refused_before_anything_is_written(tmp_path, make_section):
    for form in ("mooncake", "burstgpt", "sharegpt"):
        trace = {"path": str(tmp_path / "data"), "format": form, "rate_per_s": 1.0}
        source = planned(Section(make_section("trace", trace=trace))).trace
        with pytest.raises(EngineError, match=r"cannot read .*/data: No such file"):
            try_trace(source)
        (tmp_path / "data").write_text("hello\n")
        with pytest.raises(EngineError, match=r"data line 1: "):
            try_trace(source)
        (tmp_path / "data").unlink()


def test_ranks_of_all_workloads_differ_by_their_place(section_of):
    for workload in WORKLOADS:
        found = planned(Section(section_of(workload)))
        survey = survey_trace(found.trace) if found.trace else None
        plans = [found.plan(replace(PLACE, rank=rank), survey) for rank in range(2)]
        first, second = (next(plan.rows()) for plan in plans)
        assert first.tobytes() != second.tobytes()
        assert plans[0].files == plans[1].files
        assert found.plan(replace(PLACE, seed=43), survey).files == plans[0].files
        own = [set(rows["chunk"][rows["kind"] == 1].tolist()) for rows in (first, second)]
        assert not own[0] & own[1]
        assert np.isin(first["file"], range(found.plan(PLACE).files.own + 2)).all()
