"""Vector search as the files of vdbbench and its wrapper tell of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ..edition import vector_limits
from ..rules import Finding
from ..units import GIB
from ..vector_form import grave_of, scales_of, source_of
from .documents import (
    LeafDocuments,
    count_at,
    mapping_at,
    near,
    number_at,
    same,
    shown,
    text_at,
    value_at,
)
from .upstream_common import require

SUMMARY = "summary.json"

_LOADED = ("num_vectors", "dimension", "inserted_vectors")
_SEARCHED = (
    "throughput_qps", "total_time_seconds", "query_count", "mean_latency_ms", "p95_latency_ms",
    "p99_latency_ms", "p999_latency_ms",
)  # fmt: skip
_ORDERED = ("mean_latency_ms", "p95_latency_ms", "p99_latency_ms", "p999_latency_ms")
# Key of the summary, key of the statistics that it was copied from.
_COPIES = (
    ("throughput_qps", "throughput_qps"),
    ("total_time_seconds", "total_time_seconds"),
    ("query_count", "total_queries"),
    ("mean_latency_ms", "mean_latency_ms"),
    ("p95_latency_ms", "p95_latency_ms"),
    ("p99_latency_ms", "p99_latency_ms"),
)


def judge_leaf(leaf: LeafDocuments) -> Iterator[Finding]:
    """Findings of a load or a run, by its own files alone."""
    runs = leaf.leaf.phase == "run"
    yield from require(leaf, SUMMARY, (*_LOADED, *(_SEARCHED if runs else ())))
    yield from _judge_load(leaf)
    if runs:
        yield from _judge_scale(leaf)
        yield from _judge_rates(leaf)
        yield from _judge_recall(leaf)
        yield from _judge_statistics(leaf)
        yield from _judge_truth(leaf)


def _judge_scale(leaf: LeafDocuments) -> Iterator[Finding]:
    """VDB-01: a dataset that the edition scores."""
    summary, limits = leaf.named(SUMMARY), vector_limits()
    vectors, dimension = count_at(summary, "num_vectors"), count_at(summary, "dimension")
    if vectors is None or dimension is None or (vectors, dimension) in limits.scales:
        return
    yield leaf.finding(
        "VDB-01",
        grave_of(limits),
        f"{vectors:,} vectors of {dimension:,} dimensions are none of {scales_of(limits)}"
        f"{source_of(limits)}",
        file=SUMMARY,
    )


def _judge_load(leaf: LeafDocuments) -> Iterator[Finding]:
    summary = leaf.named(SUMMARY)
    declared, stored = count_at(summary, "num_vectors"), count_at(summary, "inserted_vectors")
    if declared is not None and stored is not None and declared != stored:
        yield leaf.finding(
            "VDB-03",
            "error",
            f"{stored:,} of {declared:,} vectors are stored (Rules 5.2.1)",
            file=SUMMARY,
        )
    index = text_at(summary, "index_type")
    if index and not same(index, leaf.leaf.model):
        yield leaf.finding(
            "VDB-04",
            "error",
            f"index_type is {shown(index)}, the directory is of {leaf.leaf.model} (Rules 5.2.2)",
            file=SUMMARY,
        )
    backend = text_at(summary, "database.database") or text_at(summary, "database")
    limits = vector_limits()
    known = not backend or any(same(backend, each) for each in limits.closed_backends)
    if leaf.leaf.division in ("closed", "unknown") and not (
        known and leaf.leaf.model in limits.closed_indexes
    ):
        yield leaf.finding(
            "VDB-13",
            "error",
            f"closed searches with {' or '.join(limits.closed_backends)} and "
            f"{', '.join(limits.closed_indexes)}, this is {shown(backend)} and {leaf.leaf.model}",
        )


def _judge_rates(leaf: LeafDocuments) -> Iterator[Finding]:
    summary = leaf.named(SUMMARY)
    rate, count = number_at(summary, "throughput_qps"), count_at(summary, "query_count")
    took_s = number_at(summary, "total_time_seconds")
    if rate is not None and count is not None and took_s and took_s > 0:
        if not near(rate, count / took_s, 0.05):
            yield leaf.finding(
                "UPS-07",
                "error",
                f"throughput_qps is {rate:g}, {count:,} queries in "
                f"{took_s:.2f} s come to {count / took_s:g}",
                file=SUMMARY,
            )
        least_s = vector_limits().runtime_s_least
        if took_s < least_s * 0.99:
            yield leaf.finding(
                "VDB-07",
                "error",
                f"a run lasts {took_s:.2f} s, a score takes {least_s:g} s at least",
                file=SUMMARY,
            )
    if count is not None:
        yield from _judge_least(
            leaf, "VDB-07", "a number of queries", count, vector_limits().queries_least
        )
    latencies = [(name, value) for name in _ORDERED[1:] if (value := number_at(summary, name))]
    for (lower, one), (higher, other) in pairwise(latencies):
        if one > other:
            yield leaf.finding(
                "UPS-07",
                "error",
                f"{lower} is {one:g}, more than {higher} of {other:g}",
                file=SUMMARY,
            )
    if latencies and took_s is not None and latencies[-1][1] / 1000 > took_s:
        yield leaf.finding(
            "RES-04",
            "error",
            f"{latencies[-1][0]} is {latencies[-1][1] / 1000:.2f} s, longer "
            f"than the run of {took_s:.2f} s",
            file=SUMMARY,
        )


def recall_of(leaf: LeafDocuments) -> float | None:
    """Mean recall of a run, as a share; older tools wrote a mapping of it."""
    summary = leaf.named(SUMMARY)
    told = number_at(summary, "recall")
    return number_at(summary, "recall.mean_recall") if told is None else told


def _judge_recall(leaf: LeafDocuments) -> Iterator[Finding]:
    if leaf.named(SUMMARY) is None:
        return
    recall = recall_of(leaf)
    if recall is None:
        yield leaf.finding("VDB-06", "error", "tells no recall (Rules 5.3.2)", file=SUMMARY)
    elif not 0 < recall <= 1:
        yield leaf.finding(
            "VDB-06",
            "error",
            f"recall is {recall:g}; what finds nothing is no search (Rules 5.3.2)",
            file=SUMMARY,
        )
    else:
        yield from _judge_least(
            leaf, "VDB-06", "a mean recall", recall, vector_limits().recall_least
        )


def _judge_least(
    leaf: LeafDocuments, rule: str, noun: str, value: float, least: float
) -> Iterator[Finding]:
    """A value of the edition's table; nobody is refused by a provisional one."""
    limits = vector_limits()
    if value < least:
        text = f"{noun} of {value:,g} is less than {least:,g}{source_of(limits)}"
        yield leaf.finding(rule, grave_of(limits), text, file=SUMMARY)


def _judge_statistics(leaf: LeafDocuments) -> Iterator[Finding]:
    for file, found in [
        *leaf.ending("statistics.json"),
        *leaf.ending("vdb_multi_node_summary.json"),
    ]:
        if "load" in file.rpartition("/")[2]:
            continue
        for key, source in _COPIES:
            one, other = number_at(leaf.named(SUMMARY), key), number_at(found, source)
            if one is not None and other is not None and not near(one, other, 1e-3):
                yield leaf.finding(
                    "UPS-14", "error", f"{source} is {other:g}, the summary has {one:g}", file=file
                )
        mpi = mapping_at(found, "mpi")
        lost = [
            f"{name} is {shown(mpi[name])}"
            for name in ("missing_ranks", "failed_ranks", "malformed_payload_count")
            if mpi.get(name) not in (None, 0, [], False)
        ]
        expected, count = count_at(mpi, "expected_ranks"), count_at(mpi, "rank_count")
        if expected is not None and count is not None and expected != count:
            lost.append(f"{count} of {expected} ranks have reported")
        if lost or mpi.get("partial_failure") is True:
            yield leaf.finding(
                "UPS-11", "error", "; ".join(lost) or "the run says partial_failure", file=file
            )
        if count_at(found, "failed_batches"):
            yield leaf.finding(
                "VDB-12",
                "error",
                f"{count_at(found, 'failed_batches'):,} batches of queries failed",
                file=file,
            )
        read = count_at(found, "disk_io.total_bytes_read")
        if value_at(found, "disk_io.applicable") is not False and read == 0:
            yield leaf.finding(
                "VDB-09", "warning", "no host has read from a disk while it searched", file=file
            )


def _judge_truth(leaf: LeafDocuments) -> Iterator[Finding]:
    """VDB-08: the verdict file, which tells whether the ground truth is whole (Rules 5.3.5)."""
    found = next(leaf.ending("result_verdict.json"), None)
    if found is None:
        yield leaf.finding(
            "VDB-08",
            "error",
            "is without result_verdict.json: whether the ground truth is whole "
            "is not known (Rules 5.3.5)",
        )
        return
    file, verdict = found
    coverage = number_at(verdict, "flat_setup.coverage")
    if value_at(verdict, "flat_setup.ok") is not True or coverage is None or coverage < 1:
        yield leaf.finding(
            "VDB-08",
            "error",
            f"flat_setup.ok is {shown(value_at(verdict, 'flat_setup.ok'))}, its "
            f"coverage {shown(value_at(verdict, 'flat_setup.coverage'))}: the ground truth is not "
            "whole",
            file=file,
        )


def judge_set(leaves: Sequence[LeafDocuments]) -> Iterator[Finding]:
    """VDB-02, VDB-06: what was loaded is what was searched, the same in all runs."""
    loads = [leaf for leaf in leaves if leaf.leaf.phase == "datagen"]
    runs = [leaf for leaf in leaves if leaf.leaf.phase == "run"]
    for load in loads[:1]:
        for run in runs:
            for key in ("num_vectors", "dimension"):
                one = count_at(load.named(SUMMARY), key)
                other = count_at(run.named(SUMMARY), key)
                if one is not None and other is not None and one != other:
                    yield run.finding(
                        "VDB-02",
                        "error",
                        f"{key} is {other:,} when searched and {one:,} when loaded (Rules 5.1.2)",
                        file=SUMMARY,
                    )
    recalls = {recall for leaf in runs if (recall := recall_of(leaf)) is not None}
    if len(recalls) > 1 and max(recalls) - min(recalls) > 0.01:
        yield runs[0].finding(
            "VDB-06",
            "warning",
            f"recall is between {min(recalls):g} and {max(recalls):g} in runs of one index",
        )
    doubles = [leaf for leaf in runs if leaf.named(SUMMARY) is not None]
    for before, after in pairwise(doubles):
        if before.named(SUMMARY) == after.named(SUMMARY):
            yield after.finding(
                "UPS-14",
                "error",
                f"is the same to the last digit as that of {before.leaf.timestamp}",
                file=SUMMARY,
            )


def iops_of(leaf: LeafDocuments) -> tuple[float | None, float | None]:
    """Reads per second and GiB/s of the disks, where statistics tell of them."""
    for _, found in leaf.ending("statistics.json"):
        seconds = number_at(found, "disk_io.duration_seconds")
        total = number_at(found, "disk_io.total_bytes_read")
        reads = number_at(found, "disk_io.total_read_ios")
        if seconds and seconds > 0:
            return (
                None if reads is None else reads / seconds,
                None if total is None else total / GIB / seconds,
            )
    return None, None
