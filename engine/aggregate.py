"""The figures of Rules 6.3.4 for a KV cache, under the names that upstream gives them. Pure.

Sums over ranks within a trial, means over trials, and the worst rank of all trials for a p95. The
names say gbps; the unit is GiB/s, as upstream has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from .archive import RESULT, stage_file
from .canonical import Document
from .plan import Launch, Plan, ended_well
from .units import GIB

FAMILY = "kvcache"

COLUMNS = (
    "read_bytes",
    "write_bytes",
    "entry_read_p95_ns",
    "entry_write_p95_ns",
    "generated_tokens",
    "storage_s",
)

LATENCY_DEFINITION = (
    "device: I/O latency of an entry from the first submission to the last completion, as the "
    "client sees it, not what a device measures; p95_latency: a request from its intended start "
    "to its end; each the worst rank of all trials"
)


def aggregates(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> list[Document]:
    """One document for each measured stage and option whose results have the columns of ranks.

    One with a missing trial has no figures: a mean over the trials that are left is of another job.
    """
    documents = []
    for (stage, option), launches in plan.measured.items():
        done = [launch for launch in launches if _has_window(launch, outcomes, results)]
        trials = [results[launch.name] for launch in done]
        if any(column not in trial["ranks"] for trial in trials for column in COLUMNS):
            continue
        documents.append(
            {
                "stage": stage,
                "option": option,
                **_figures(trials, complete=len(done) == len(launches)),
                "rank_count": plan.ranks,
                "trial_count": len(done),
                "partial_failure": len(done) < len(launches),
                "missing_files": [
                    stage_file(launch.name, RESULT) for launch in launches if launch not in done
                ],
                "cpu_tier_ranks": _cpu_tier_ranks(trials),
                "latency_definition": LATENCY_DEFINITION,
            }
        )
    return documents


def _has_window(
    launch: Launch, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> bool:
    if not ended_well(launch, outcomes, results):
        return False
    window = results[launch.name]["window"]
    return window is not None and window["length_s"] > 0


def _figures(trials: Sequence[Document], *, complete: bool) -> Document:
    means = {
        "aggregated_read_bandwidth_gbps": _bandwidth_gib_s("read_bytes"),
        "aggregated_write_bandwidth_gbps": _bandwidth_gib_s("write_bytes"),
        "aggregated_avg_throughput_tokens_per_sec": _tokens_per_s,
        "aggregated_storage_throughput_tokens_per_sec": _storage_tokens_per_s,
    }
    worst = {
        "aggregated_device_read_p95_ms": "entry_read_p95_ns",
        "aggregated_device_write_p95_ms": "entry_write_p95_ns",
        "aggregated_p95_latency_ms": "request_p95_ns",
    }
    if not complete:
        return dict.fromkeys((*means, *worst))
    return {
        **{name: fmean(of_trial(trial) for trial in trials) for name, of_trial in means.items()},
        **{name: _worst_ms(trials, column) for name, column in worst.items()},
    }


def _bandwidth_gib_s(column: str) -> Callable[[Document], float]:
    def of_trial(trial: Document) -> float:
        return float(sum(trial["ranks"][column]) / GIB / trial["window"]["length_s"])

    return of_trial


def _tokens_per_s(trial: Document) -> float:
    return float(sum(trial["ranks"]["generated_tokens"]) / trial["window"]["length_s"])


def _storage_tokens_per_s(trial: Document) -> float:
    """Generated tokens over the time of a rank's I/O, which overlaps; a rank without I/O has 0."""
    ranks = trial["ranks"]
    pairs = zip(ranks["generated_tokens"], ranks["storage_s"], strict=True)
    return math.fsum(tokens / storage_s for tokens, storage_s in pairs if storage_s > 0)


def _worst_ms(trials: Sequence[Document], column: str) -> float | None:
    """Of all ranks and trials; None where no rank had such an operation."""
    found = [
        value for trial in trials for value in trial["ranks"].get(column, []) if value is not None
    ]
    return max(found) / 1e6 if found else None


def _cpu_tier_ranks(trials: Sequence[Document]) -> list[int]:
    """Ranks that moved no byte of storage in the window of a trial: memory served them."""
    return sorted(
        {
            rank
            for trial in trials
            for rank, moved in enumerate(
                zip(trial["ranks"]["read_bytes"], trial["ranks"]["write_bytes"], strict=True)
            )
            if not any(moved)
        }
    )
