"""From a benchmark section to the plan of a rank: one reader for each workload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from ..errors import JobError
from ..io_core.blocks import BLOCK_BYTES
from ..section import Section
from .models import Model, model_of
from .planning import RankPlan
from .prefix import PrefixParameters, PrefixPlan
from .trace import TraceParameters, TracePlan
from .traces import TraceSource, TraceSurvey, read_trace
from .traffic import TRAFFIC
from .turns import TurnsParameters, TurnsPlan
from .v3 import DEVIATIONS, V3Parameters, V3Plan

WorkloadName = Literal["turns", "v3", "prefix", "trace"]
WORKLOADS: tuple[WorkloadName, ...] = ("turns", "v3", "prefix", "trace")

# Requests of the v3.0 workload that are served at the same time, at most.
_V3_WORKERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which rank's plan it is."""

    seed: int
    rank: int
    ranks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A workload as its section describes it, for any rank.

    `make` gives the plan of a rank, and raises JobError for what cannot be planned.
    `requests_in_flight` and `stores_in_flight` bound what is served at the same time, None for no
    bound on stores. In an open loop requests wait for their arrival. `trace` is set where a trace
    must be surveyed before there can be a plan.
    """

    name: WorkloadName
    make: Callable[[Place, TraceSurvey | None], RankPlan]
    requests_in_flight: int
    open_loop: bool
    stores_in_flight: int | None = None
    trace: TraceSource | None = None
    deviations: tuple[str, ...] = ()

    def plan(self, place: Place, survey: TraceSurvey | None = None) -> RankPlan:
        """The plan of a rank; raises JobError for what cannot be planned."""
        return self.make(place, survey)


def planned(benchmark: Section) -> Planned:
    """Reads the workload of a benchmark; raises JobError naming what is wrong."""
    name = benchmark.choice("workload", WORKLOADS)
    model = model_of(benchmark.value("model"))
    return _READERS[name](benchmark, model)


def _turns(benchmark: Section, model: Model) -> Planned:
    users = benchmark.count("users")
    rate_per_s = benchmark.positive_or_none("rate_per_s")
    tensor_parallel = benchmark.count("tensor_parallel")
    chunk_tokens = _chunk_tokens(benchmark, model, tensor_parallel)

    def make(place: Place, _: TraceSurvey | None) -> RankPlan:
        return TurnsPlan(
            TurnsParameters(
                model=model,
                users=users,
                seed=place.seed,
                rank=place.rank,
                chunk_tokens=chunk_tokens,
                chunks_per_user=benchmark.count("chunks_per_user"),
                turn_chunks_max=benchmark.count("turn_chunks_max"),
                continue_probability=benchmark.number("continue_probability"),
                tensor_parallel=tensor_parallel,
                rate_per_s=rate_per_s,
            )
        )

    return Planned(
        name="turns", make=make, requests_in_flight=users, open_loop=rate_per_s is not None
    )


def _v3(benchmark: Section, model: Model) -> Planned:
    users = benchmark.count("users")

    def make(place: Place, _: TraceSurvey | None) -> RankPlan:
        return V3Plan(
            V3Parameters(
                model=model,
                users=users,
                seed=place.seed,
                rank=place.rank,
                capacity_gib=benchmark.positive("capacity_gib"),
                cpu_cache_gib=benchmark.number("cpu_cache_gib"),
                slot_bytes=benchmark.count("slot_bytes"),
                tensor_parallel=benchmark.count("tensor_parallel"),
                multi_turn=benchmark.flag("multi_turn"),
                rag=benchmark.flag("rag"),
                rag_documents=benchmark.count("rag_documents"),
                prefill_only=benchmark.flag("prefill_only"),
                decode_only=benchmark.flag("decode_only"),
                context_tokens_max=benchmark.count("context_tokens_max"),
                speedup=benchmark.positive_or_none("speedup"),
            )
        )

    return Planned(
        name="v3",
        make=make,
        requests_in_flight=min(users, _V3_WORKERS),
        stores_in_flight=benchmark.count_or_none("stores_in_flight"),
        open_loop="speedup" in benchmark,
        deviations=DEVIATIONS,
    )


def _prefix(benchmark: Section, model: Model) -> Planned:
    users = benchmark.count("users")
    rate_per_s = benchmark.positive_or_none("rate_per_s")
    tensor_parallel = benchmark.count("tensor_parallel")
    chunk_tokens = _chunk_tokens(benchmark, model, tensor_parallel)

    def make(place: Place, _: TraceSurvey | None) -> RankPlan:
        return PrefixPlan(
            PrefixParameters(
                model=model,
                traffic=TRAFFIC[benchmark.choice("traffic", tuple(TRAFFIC))],
                users=users,
                seed=place.seed,
                rank=place.rank,
                ranks=place.ranks,
                capacity_gib=benchmark.positive("capacity_gib"),
                io_bytes=benchmark.count("slot_bytes"),
                chunk_tokens=chunk_tokens,
                tensor_parallel=tensor_parallel,
                shared_prefixes=benchmark.count("shared_prefixes"),
                zipf_exponent=benchmark.number("zipf_exponent"),
                rate_per_s=rate_per_s,
            )
        )

    return Planned(
        name="prefix", make=make, requests_in_flight=users, open_loop=rate_per_s is not None
    )


def _trace(benchmark: Section, model: Model) -> Planned:
    source = _source(benchmark.section("trace"))
    tensor_parallel = benchmark.count("tensor_parallel")
    if source.format == "mooncake":  # which names blocks
        chunk_tokens = benchmark.count("chunk_tokens")
        _check_chunk("trace.block_tokens", source.block_tokens, model, tensor_parallel)
    else:
        chunk_tokens = _chunk_tokens(benchmark, model, tensor_parallel)
    speedup = benchmark.positive_or_none("speedup")
    if source.format == "sharegpt" and speedup and not source.rate_per_s:
        raise JobError(
            "a sharegpt trace has no times: set trace.rate_per_s, or speedup=null for a closed loop"
        )

    def make(place: Place, survey: TraceSurvey | None) -> RankPlan:
        return TracePlan(
            TraceParameters(
                source=source,
                survey=survey,
                model=model,
                rank=place.rank,
                ranks=place.ranks,
                capacity_gib=benchmark.positive("capacity_gib"),
                io_bytes=benchmark.count("slot_bytes"),
                chunk_tokens=chunk_tokens,
                tensor_parallel=tensor_parallel,
                speedup=speedup or 0.0,
                cycles=benchmark.section("trace").count("cycles", least=0),
                same_ids=benchmark.section("trace").flag("same_ids"),
            )
        )

    return Planned(
        name="trace",
        make=make,
        requests_in_flight=benchmark.count("requests_in_flight"),
        open_loop=speedup is not None,
        trace=source,
    )


_READERS: Mapping[WorkloadName, Callable[[Section, Model], Planned]] = {
    "turns": _turns,
    "v3": _v3,
    "prefix": _prefix,
    "trace": _trace,
}


def _chunk_tokens(benchmark: Section, model: Model, tensor_parallel: int) -> int:
    tokens = benchmark.count("chunk_tokens")
    _check_chunk("chunk_tokens", tokens, model, tensor_parallel)
    return tokens


def _check_chunk(key: str, tokens: int, model: Model, tensor_parallel: int) -> None:
    """Raises JobError for a chunk smaller than a block: it would mostly move what is not its own.

    `key` sets its tokens.
    """
    size_bytes = model.entry_bytes(tokens, tensor_parallel)
    if size_bytes < BLOCK_BYTES:
        enough = -(-BLOCK_BYTES * tensor_parallel // model.token_bytes)
        raise JobError(
            f"a chunk of {tokens} tokens has {size_bytes} bytes, I/O moves blocks of {BLOCK_BYTES}:"
            f" use {key} {enough} or more"
        )


def _source(trace: Section) -> TraceSource:
    return TraceSource(
        path=Path(trace.text("path")),
        format=trace.choice("format", ("mooncake", "burstgpt", "sharegpt")),
        block_tokens=trace.count("block_tokens"),
        broken_lines_max=trace.count("broken_lines_max", least=0),
        rate_per_s=trace.positive_or_none("rate_per_s") or 0.0,
        conversations_open=trace.count("conversations_open"),
    )


def try_trace(source: TraceSource) -> None:
    """Reads the beginning of a trace; raises EngineError for a file that is none."""
    for _ in islice(read_trace(source), 1):
        return
