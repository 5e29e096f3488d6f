"""The KV cache as the files of kv-cache.py and its wrapper tell of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from ..edition import official
from ..rulebook import Severity
from ..rules import Finding
from ..tables import numbered
from .documents import (
    LeafDocuments,
    count_at,
    list_at,
    mapping_at,
    near,
    number,
    number_at,
    same,
    shown,
    text_at,
    value_at,
)
from .upstream_common import flag_values

RANK_FILE = re.compile(r"option_(\d{1,3})/trial_(\d{1,3})/rank_(\d{1,6})/kvcache_results_.*\.json")

OPTIONS = ("1", "2", "3")
# Flags of the program, and the keys of our own suite that they are.
_FLAGS: Mapping[str, str] = {
    "--model": "model",
    "--num-users": "users",
    "--cpu-mem-gb": "cpu_cache_gib",
    "--max-concurrent-allocs": "stores_in_flight",
}
# Rules 6.3.2.1; a rank adds its number.
SEED = 42

# Published key, key of a rank's result; sums over ranks, then means over trials.
_SUMS = (
    ("aggregated_read_bandwidth_gbps",
     "summary.cache_stats.tier_storage_read_bandwidth_gbps"),
    ("aggregated_write_bandwidth_gbps",
     "summary.cache_stats.tier_storage_write_bandwidth_gbps"),
    ("aggregated_storage_throughput_tokens_per_sec",
     "summary.storage_throughput_tokens_per_sec"),
    ("aggregated_avg_throughput_tokens_per_sec", "summary.avg_throughput_tokens_per_sec"),
)  # fmt: skip
# The worst of all ranks and trials.
_WORST = (
    ("aggregated_device_read_p95_ms", "summary.cache_stats.storage_read_device_p95_ms"),
    ("aggregated_device_write_p95_ms", "summary.cache_stats.storage_write_device_p95_ms"),
)
_SHOWN = 5

Rank = tuple[int, int]


def fixed(option: str) -> Mapping[str, object]:
    """What an Option fixes, by the flags of the program (Rules 6.3.1.1)."""
    suite = official("kvcache")
    values = suite["options"][int(option) - 1]["set"]
    return {
        **{flag: values[key] for flag, key in _FLAGS.items()},
        "--duration": suite["duration_s"],
        "--gpu-mem-gb": 0,
        "--generation-mode": "none",
    }


def summary_of(leaf: LeafDocuments) -> tuple[str, object] | None:
    """The summary under its name of today, or under an older one."""
    if "summary.json" in leaf.documents:
        return "summary.json", leaf.documents["summary.json"]
    older = [name for name in leaf.documents if name.startswith("kvcache_run_summary_")]
    return (older[0], leaf.documents[older[0]]) if older else None


def judge_run(leaf: LeafDocuments) -> Iterator[Finding]:
    """Findings of a run: its Options, their ranks, the aggregates of them."""
    found = summary_of(leaf)
    file, summary = found if found is not None else ("summary.json", None)
    ranks = count_at(summary, "total_ranks") or count_at(leaf.metadata, "num_processes")
    results = rank_results(leaf)
    if summary is not None and not mapping_at(summary, "options"):
        yield leaf.finding("UPS-02", "error", "is without options", file=file)
    closed = leaf.leaf.division in ("closed", "unknown")
    asked = official("kvcache")["trials"]
    trials = count_at(summary, "trials_per_option") or asked
    if closed and trials != asked:
        yield leaf.finding(
            "UPS-12",
            "error",
            f"has {numbered(trials, 'trial')}, Rules 6.3.2.1 ask for {asked}",
            file=file,
        )
    for option in OPTIONS:
        told = mapping_at(summary, f"options.{option}")
        if summary is None and not results:
            continue
        if summary is not None and not told:
            grave: Severity = "error" if closed else "warning"
            yield leaf.finding("UPS-12", grave, f"Option {option} was not run", file=file)
            continue
        here = results.get(option, {})
        missing = list(_judge_missing(leaf, file, option, told, here, ranks, trials))
        yield from missing
        if not missing:
            yield from _judge_sums(leaf, file, option, told, here)
        yield from _judge_results(leaf, option, here, closed=closed)
    if value_at(summary, "partial_failure") is True:
        yield leaf.finding("UPS-11", "error", "the summary itself says partial_failure", file=file)
    yield from _judge_commands(leaf)


def rank_results(leaf: LeafDocuments) -> dict[str, dict[Rank, tuple[str, object]]]:
    """By Option, and by trial and rank: the file of a result and its document."""
    found: dict[str, dict[Rank, tuple[str, object]]] = {}
    for name in sorted(leaf.files):
        place = RANK_FILE.fullmatch(name)
        if place is not None:
            option, trial, rank = (str(int(part)) for part in place.groups())
            results = found.setdefault(option, {})
            results[int(trial), int(rank)] = (name, leaf.documents.get(name))
    return found


def _judge_missing(
    leaf: LeafDocuments,
    file: str,
    option: str,
    told: Mapping[str, object],
    here: Mapping[Rank, object],
    ranks: int | None,
    trials: int,
) -> Iterator[Finding]:
    """UPS-11: which ranks of which trials have left nothing, each by its name."""
    count = ranks or count_at(told, "rank_count") or 0
    if count * trials > 1_000_000:
        yield leaf.finding("UPS-02", "error", f"tells of {count:,} ranks", file=file)
        return
    missing = [
        f"trial {trial} rank {rank}"
        for trial in range(trials)
        for rank in range(count)
        if (trial, rank) not in here
    ]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        yield leaf.finding(
            "UPS-11",
            "error",
            f"Option {option}: {len(missing)} of {count * trials} results of ranks are missing: "
            f"{', '.join(missing[:_SHOWN])}{more}",
        )
    listed = list_at(told, "missing_files")
    if (value_at(told, "partial_failure") is True or listed) and not missing:
        yield leaf.finding(
            "UPS-11",
            "error",
            f"Option {option}: the summary says that results are missing",
            file=file,
        )


def _judge_sums(
    leaf: LeafDocuments,
    file: str,
    option: str,
    told: Mapping[str, object],
    here: Mapping[Rank, tuple[str, object]],
) -> Iterator[Finding]:
    """UPS-10: sums over ranks, then the mean over trials; P95 of the worst rank."""
    if not here or not told:
        return
    for key, inner in _SUMS:
        values = _values(here, inner)
        published = number_at(told, key)
        if published is None:
            if key in (_SUMS[0][0], _SUMS[1][0]):
                yield leaf.finding(
                    "UPS-02", "error", f"Option {option} is without {key}", file=file
                )
            continue
        if len(values) != len(here):
            continue  # what is missing in a result is named with it
        sums = [
            sum(value for (trial, _), value in values.items() if trial == each)
            for each in sorted({trial for trial, _ in values})
        ]
        right = fmean(sums)
        if not near(published, right, 1e-3):
            tripled = " (the sum of all trials)" if near(published, sum(sums), 1e-3) else ""
            yield leaf.finding(
                "UPS-10",
                "error",
                f"Option {option}: {key} is {published:g}{tripled}, and the mean "
                f"over trials of sums over ranks is {right:g}",
                file=file,
            )
    for key, inner in _WORST:
        published, worst = number_at(told, key), _values(here, inner)
        if published is not None and worst and not near(published, max(worst.values()), 1e-3):
            yield leaf.finding(
                "UPS-10",
                "error",
                f"Option {option}: {key} is {published:g}, the worst rank has "
                f"{max(worst.values()):g}",
                file=file,
            )


def _values(here: Mapping[Rank, tuple[str, object]], key: str) -> dict[Rank, float]:
    """The values of ranks at a key; the parts of a summary may stand at the top of a result."""
    found = {}
    for rank, (_, document) in here.items():
        value = number_at(document, key)
        if value is None:
            value = number_at(document, key.removeprefix("summary."))
        if value is not None:
            found[rank] = value
    return found


def _judge_results(
    leaf: LeafDocuments, option: str, here: Mapping[Rank, tuple[str, object]], *, closed: bool
) -> Iterator[Finding]:
    """One finding for each kind of flaw of an Option's ranks, with the worst of them."""
    duration_s = official("kvcache")["duration_s"]
    late: list[tuple[float, float, str]] = []
    incomplete, idle, short, seeds = [], [], [], []
    for (_, rank), (name, document) in sorted(here.items()):
        if document is None:
            continue  # named where it was read
        elapsed_s = number_at(document, "summary.elapsed_time")
        latencies = [
            value
            for each in list_at(document, "end_to_end_latencies")
            if (value := number(each)) is not None
        ]
        most = max(latencies, default=_worst_ms(document))
        if elapsed_s is None:
            incomplete.append(name)
        elif most is not None and most > elapsed_s:
            late.append((most, elapsed_s, name))
        if elapsed_s is not None and elapsed_s < duration_s * 0.99:
            short.append((elapsed_s, name))
        if number_at(document, "summary.cache_stats.storage_entries") == 0:
            idle.append(name)
        seed = number_at(document, "seed")
        if seed is not None and seed not in (SEED, SEED + rank):
            seeds.append((f"{seed:g}", name))
    if incomplete:
        yield leaf.finding(
            "UPS-02",
            "error",
            f"Option {option}: {numbered(len(incomplete), 'result')} of ranks "
            "without summary.elapsed_time",
            file=incomplete[0],
        )
    if late:
        most, elapsed_s, name = max(late)
        yield leaf.finding(
            "RES-04",
            "error",
            f"Option {option}: {numbered(len(late), 'rank')} with a latency "
            f"longer than the run; the longest has {most:.1f} s in {elapsed_s:.1f} s: bytes that "
            "came after the window count as if they came within it",
            file=name,
        )
    if short and closed:
        elapsed_s, name = min(short)
        yield leaf.finding(
            "UPS-12",
            "error",
            f"Option {option}: {numbered(len(short), 'rank')} ran for less than "
            f"{duration_s:g} s; the shortest for {elapsed_s:.1f} s",
            file=name,
        )
    if seeds and closed:
        yield leaf.finding(
            "UPS-12",
            "error",
            f"Option {option}: seed {seeds[0][0]}, Rules 6.3.2.1 fix {SEED} plus the rank",
            file=seeds[0][1],
        )
    if idle:
        whole = len(idle) == len(here)
        yield leaf.finding(
            "RES-10",
            "error" if whole else "warning",
            f"Option {option}: {numbered(len(idle), 'rank')} stored nothing (Rules 6.3.4.4)",
            file=idle[0],
        )


def _worst_ms(document: object) -> float | None:
    """The longest latency that a result tells, in s, where it has no list of them."""
    for name in ("max", "p9999", "p999", "p99", "p95"):
        value = number_at(document, f"summary.end_to_end_latency_ms.{name}")
        if value is not None:
            return value / 1000
    return None


def _judge_commands(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-12: the commands that ran against what an Option fixes; closed lets nothing differ."""
    if leaf.leaf.division not in ("closed", "unknown"):
        return
    for entry in list_at(leaf.metadata, "command_output_files"):
        command = text_at(entry, "command")
        named = re.search(
            r"(?:opt(?:ion)?_?)([123])\b|opt([123])_", command + text_at(entry, "stdout")
        )
        if named is None:
            continue
        option = named.group(1) or named.group(2)
        for flag, right in fixed(option).items():
            wrong = [value for value in flag_values(command, flag) if not same(value, right)]
            if wrong:
                yield leaf.finding(
                    "UPS-12",
                    "error",
                    f"Option {option} ran with {flag} {shown(wrong[0])}, Rules "
                    f"6.3.1.1 fix {shown(right)}",
                )


def option_metrics(leaf: LeafDocuments, option: str) -> Sequence[float | None]:
    """Of an Option: tokens/s, read and write GiB/s, P95 in ms; what the summary publishes."""
    found = summary_of(leaf)
    told = mapping_at(found[1] if found else None, f"options.{option}")
    p95 = number_at(told, "aggregated_device_read_p95_ms")
    return (
        number_at(told, "aggregated_storage_throughput_tokens_per_sec"),
        number_at(told, "aggregated_read_bandwidth_gbps"),
        number_at(told, "aggregated_write_bandwidth_gbps"),
        number_at(told, "aggregated_p95_latency_ms") if p95 is None else p95,
    )
