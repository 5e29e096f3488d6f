"""The published numbers of vector search for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from .canonical import Document
from .scatter import Axis, Mark, drawn
from .tables import numbered, write_table
from .units import GIB, KIB
from .vector_job import VectorJob
from .vector_metrics import COUNTED_BY, does, job_metrics

# Begin of names of metrics that have a place of their own in the report of vector search.
VECTOR_METRICS = ("insert_vectors_", "load_vectors_", "index_", "truth_", "resident_")

NO_CAPACITY = "no rate met the limit"

_LATENCIES = (
    ("mean", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99"), ("p999", "p99.9"),
    ("max", "max"),
)  # fmt: skip

_MODES = {
    "direct": "reads go past the page cache",
    "cold": "evicted before each run",
    "pressure": "an index far larger than memory",
    "warm": "nothing keeps memory from answering",
}


def is_search(values: Mapping[str, object]) -> bool:
    """Whether these are metrics of queries."""
    return "qps" in values


def vector_headline(values: Document) -> str:
    """The few numbers that a table of many jobs shows of one; empty where nothing was searched."""
    return _headline({name: spread["mean"] for name, spread in values.items()})


def vector_line(
    jobs: Sequence[VectorJob], option: str | None, result: Document | None
) -> str | None:
    """What is told of a stage of vector search when it has ended; None for other stages."""
    fitting = [job for job in jobs if option in (None, job.option)]
    if not fitting or result is None or does(result) is None:
        return None
    told = {"load": _loaded, "truth": _true, "probe": _probed, "sweep": _swept}
    metrics = job_metrics(fitting[0], result)
    if does(result) == "capacity":
        return _capacity(metrics) or NO_CAPACITY
    if does(result) == "run":
        return _headline(metrics) or None
    return told[str(does(result))](metrics, result["vectordb"])


def _headline(means: Mapping[str, float]) -> str:
    if not is_search(means):
        return ""
    parts = [f"{means['qps']:,.1f} queries/s"]
    if "recall_mean" in means:
        parts.append(f"recall {means['recall_mean']:.4f}")
    if "latency_p99_ms" in means:
        parts.append(f"p99 {means['latency_p99_ms']:,.2f} ms")
    if "read_bytes_per_query" in means:
        parts.append(f"{_kib(means['read_bytes_per_query'])} a query")
    return ", ".join(parts)


def _kib(size: float) -> str:
    return f"{size / KIB:,.1f} KiB"


def _loaded(metrics: Mapping[str, float], section: Document) -> str:
    size = f", {metrics['index_gib']:.3f} GiB" if "index_gib" in metrics else ""
    vectors = f"{metrics.get('stored_vectors', 0):,.0f} vectors"
    if section["load"] is not None and section["load"]["reused"]:
        return f"an index of {vectors} was there{size}"
    speed = ""
    if "insert_vectors_per_s" in metrics:
        speed = f" inserted at {metrics['insert_vectors_per_s']:,.0f}/s"
    built = f", index built in {metrics['build_s']:.1f} s" if "build_s" in metrics else ""
    return f"{vectors}{speed}{built}{size}"


def _true(metrics: Mapping[str, float], section: Document) -> str:
    took = f" in {metrics['truth_s']:.1f} s" if "truth_s" in metrics else ", was there"
    covered = metrics.get("truth_covered_pct", 0.0)
    count = numbered(section["queries"]["count"], "query", "queries")
    return f"truth of {count} over {covered:g} % of the vectors{took}"


def _probed(metrics: Mapping[str, float], _: Document) -> str:
    parts = [numbered(int(metrics["probe_queries"]), "query", "queries")]
    if "probe_recall_mean" in metrics:
        parts.append(f"recall {metrics['probe_recall_mean']:.4f}")
    if "probe_read_bytes_per_query" in metrics:
        parts.append(f"{_kib(metrics['probe_read_bytes_per_query'])} a query")
    return ", ".join(parts)


def _swept(metrics: Mapping[str, float], section: Document) -> str:
    values = numbered(len(section["points"]), "value")
    if "sweep_best_qps" not in metrics:
        return f"{values}, none of which found enough"
    return f"{values}, the best that found enough {metrics['sweep_best_qps']:,.1f} queries/s"


def _capacity(metrics: Mapping[str, float]) -> str:
    if "capacity_qps" not in metrics:
        return ""
    (latency,) = (name for name in metrics if name.startswith("capacity_latency_"))
    percentile = latency.removeprefix("capacity_latency_").removesuffix("_ms")
    recall = ""
    if "capacity_recall_mean" in metrics:
        recall = f", recall {metrics['capacity_recall_mean']:.4f}"
    return (
        f"capacity {metrics['capacity_qps']:,.1f} queries/s, {percentile} "
        f"{metrics[latency]:,.2f} ms{recall}"
    )


# ---------------------------------------------------------------- the report of a summary


def write_vectors(out: TextIO, values: Document, notes: Document) -> None:
    """What comes first in the report: rate, recall, latencies, what was read; then how it was."""
    means = {name: spread["mean"] for name, spread in values.items()}
    setting = notes["vectordb"]
    out.writelines(f"{line}\n" for line in _rates(means, setting))
    _write_latencies(out, means)
    if len(notes["points"]) > 1:
        _write_trials(out, notes["points"])
    out.writelines(f"{line}\n" for line in _setting(means, setting))
    if "capacity" in notes:
        _write_capacity(out, notes["capacity"], means)
    if "sweep" in notes:
        _write_sweep(out, notes["sweep"])


def _rates(means: Mapping[str, float], setting: Document) -> Iterator[str]:
    loop = "a closed loop"
    if setting["target_qps"] is not None:
        loop = f"an open loop at {setting['target_qps']:,g} queries/s"
    batch = setting["batch_size"]
    requests = "" if batch == 1 else f", {batch} queries a request"
    yield (
        f"{means['qps']:,.1f} queries/s by {numbered(setting['clients'], 'client')} in {loop}"
        f"{requests}"
    )
    if "recall_mean" in means:
        yield (
            f"recall@{setting['k']} {means['recall_mean']:.4f}, of 95 % of the queries at least "
            f"{means['recall_p5']:.4f}, with near ones {means['recall_within_epsilon']:.4f}"
        )
    yield _read(means, setting["reads_by"])
    if setting["target_qps"] is not None:
        yield f"{means['unserved_requests']:,.0f} requests had not been begun at the end"


def _read(means: Mapping[str, float], by: str | None) -> str:
    if by is None or "read_bytes_per_query" not in means:
        return "what queries read from storage is not known"
    if not means["read_bytes_per_query"]:
        return f"not storage-bound: queries read nothing, {COUNTED_BY[by]}"
    reads = f" in {means['reads_per_query']:,.1f} reads" if "reads_per_query" in means else ""
    rate = f", {means['query_read_gib_s']:.3f} GiB/s" if "query_read_gib_s" in means else ""
    size = _kib(means["read_bytes_per_query"])
    return f"a query read {size}{reads}{rate}, {COUNTED_BY[by]}"


def _write_latencies(out: TextIO, means: Mapping[str, float]) -> None:
    kinds = [name for name in ("latency", "service") if f"{name}_mean_ms" in means]
    heads = {"latency": "request, ms", "service": "service, ms"}
    rows = [
        (label, *(f"{means[f'{kind}_{name}_ms']:,.3f}" for kind in kinds))
        for name, label in _LATENCIES
        if kinds
    ]
    if rows:
        header = ("latency", *(heads[kind] for kind in kinds))
        write_table(out, header, rows, right=range(1, len(header)))


def _write_trials(out: TextIO, points: Sequence[Document]) -> None:
    rows = [(str(number), *_cells(point)) for number, point in enumerate(points)]
    write_table(out, ("trial", *_HEADER), rows, right=range(len(_HEADER) + 1))


_HEADER = ("recall", "queries/s", "p99, ms", "KiB a query")


def _cells(row: Document) -> tuple[str, ...]:
    size = row.get("read_bytes_per_query")
    return (
        _number(row.get("recall_mean"), 4),
        _number(row["qps"], 1),
        _number(row.get("latency_p99_ms"), 2),
        "" if size is None else _number(size / KIB, 1),
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _setting(means: Mapping[str, float], setting: Document) -> Iterator[str]:
    """What was searched, and how."""
    backend, data = setting["backend"], setting["dataset"]
    yield (
        f"{backend['name']} {backend['version']}, {backend['index']} ({_told(backend['build'])}), "
        f"searched with {_told(backend['search']) or 'nothing set'}; reads of class "
        f"{backend['io_class']}"
        + ("" if backend["io_reason"] is None else f" ({backend['io_reason']})")
    )
    source = data["distribution"] or data["source"]
    size = f", index {means['index_gib']:,.3f} GiB" if "index_gib" in means else ""
    ratio = f" ({means['index_to_raw_pct']:.0f} %)" if "index_to_raw_pct" in means else ""
    yield (
        f"{data['vectors']:,} vectors of {data['dimension']:,} dimensions ({source}), "
        f"{data['metric']}, {data['raw_bytes'] / GIB:,.3f} GiB{size}{ratio}"
    )
    if (load := setting["load"]) is not None:
        yield _load(means, load)
    queries, truth = setting["queries"], setting["truth"]
    depth = "" if truth is None else f", truth to a depth of {truth['depth']}"
    yield f"{numbered(queries['count'], 'query', 'queries')} ({queries['mode']}){depth}"
    yield _cache(means, setting)
    if "cpu_ms_per_query" in means:
        yield f"clients' processor time {means['cpu_ms_per_query']:.3f} ms a query"


def _told(parameters: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items() if value is not None)


def _load(means: Mapping[str, float], load: Document) -> str:
    if load["reused"]:
        return "the index was there from a job before"
    times = ", ".join(
        f"{word} {load[name]:,.1f} s"
        for word, name in (
            ("insert", "insert_s"),
            ("flush", "flush_s"),
            ("build", "build_s"),
            ("compact", "compact_s"),
        )
        if load[name] is not None
    )
    speed = ""
    if "load_vectors_per_s" in means:
        speed = f"{means['load_vectors_per_s']:,.0f} vectors/s until it was built; "
    return f"loaded by {numbered(load['writers'], 'rank')}: {speed}{times}"


def _cache(means: Mapping[str, float], setting: Document) -> str:
    mode = setting["cache_mode"]
    text = f"cache mode {mode}: {_MODES[mode]}"
    if mode == "cold":
        text += " by a program of the site" if setting["cache_method"] == "command" else ""
    parts = [
        f"{means[name]:.1f} % {when}"
        for name, when in (("resident_before_pct", "before"), ("resident_after_pct", "after"))
        if name in means
    ]
    return f"{text}; of the index in memory {', '.join(parts)}" if parts else text


def _write_capacity(out: TextIO, search: Document, means: Mapping[str, float]) -> None:
    limit = (
        f"{search['percentile']} of a request <= {search['limit_ms']:g} ms and recall >= "
        f"{search['recall_least']:g}"
    )
    out.write(f"{_capacity(means) or NO_CAPACITY}, by {limit}\n")
    rows = [
        (
            _number(row.get("target_qps"), 1) or "closed loop",
            _number(row["qps"], 1),
            _number(row.get(f"latency_{search['percentile']}_ms"), 2),
            _number(row.get("recall_mean"), 4),
            _number(row.get("unserved_requests"), 0),
            _limit(row),
        )
        for row in search["points"]
    ]
    header = (
        "asked, queries/s", "queries/s", f"{search['percentile']}, ms", "recall", "not begun",
        "limit",
    )  # fmt: skip
    write_table(out, header, rows, right=range(5))


def _limit(row: Document) -> str:
    """Whether a rate met the limit; what clients reach by themselves is only where it begins."""
    if "target_qps" not in row:
        return ""
    confirmed = " when confirmed" if row["purpose"] == "confirm" else ""
    return ("met" if row["met"] else "missed") + confirmed


def _write_sweep(out: TextIO, rows: Sequence[Document]) -> None:
    """A line a value, and all in a plot; those on the front have a star."""
    name = str(rows[0].get("parameter", "value")) if rows else "value"
    table = [(str(row.get("value", "")), *_cells(row), "*" if row["front"] else "") for row in rows]
    header = (name, *_HEADER, "no other has more of both")
    write_table(out, header, table, right=range(5))
    # Those on the front last: they are seen where others lie below them.
    marks = [
        Mark(row["recall_mean"], row["qps"], "*" if row["front"] else "o")
        for row in sorted(rows, key=lambda row: bool(row["front"]))
        if "recall_mean" in row
    ]
    plot = drawn(marks, Axis(name="recall", digits=4), Axis(name="queries/s", digits=1))
    out.writelines(f"{line}\n" for line in plot)
