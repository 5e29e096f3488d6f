"""The tables of a submission's reviewers: one line per result, the columns of its family. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document

# What every table begins with. Who submits a result is known of a tree alone (tree/rows.py).
PREFIX = ("category", "system", "benchmark", "model", "accelerator")

_OF_FAMILY: Mapping[str, Sequence[tuple[str, str, float]]] = {
    # Name in result.json, head of the column with its unit, factor to that unit.
    "training": (("train_gib_s", "Read B/W (GiB/s)", 1.0),),
    "checkpointing": (
        ("save_gib_s", "Write B/W (GiB/s)", 1.0),
        ("load_gib_s", "Read B/W (GiB/s)", 1.0),
        ("save_s", "Write Duration (s)", 1.0),
        ("load_s", "Read Duration (s)", 1.0),
    ),
    "vectordb": (
        ("qps", "Queries (1/s)", 1.0),
        ("latency_mean_ms", "Query Latency (ms)", 1.0),
        ("recall_mean", "Recall (%)", 100.0),
        ("query_read_gib_s", "Read B/W (GiB/s)", 1.0),
    ),
    "kvcache": (
        ("tokens_per_s", "Throughput (tok/s)", 1.0),
        ("read_gib_s", "Read B/W (GiB/s)", 1.0),
        ("write_gib_s", "Write B/W (GiB/s)", 1.0),
        ("entry_read_p95_ms", "P95 Read Latency (ms)", 1.0),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsTable:
    """The results of one family: heads of columns and, per result, its cells."""

    family: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def right(self) -> Sequence[int]:
        """Columns that hold numbers."""
        first = len(PREFIX) + 1
        return range(first, first + len(_OF_FAMILY.get(self.family, ())))


def results_tables(results: Sequence[tuple[Document, Document, Document]]) -> list[ResultsTable]:
    """A table for each family; `results` are (job, result, verdict) of archives.

    What the job does not tell is left empty. A family without columns of its own has the prefix.
    """
    tables = []
    for family in dict.fromkeys(str(job["benchmark"]["family"]) for job, _, _ in results):
        columns = _OF_FAMILY.get(family, ())
        rows = [
            row
            for job, result, verdict in results
            if job["benchmark"]["family"] == family
            for row in _rows(family, job, result, verdict)
        ]
        heads = tuple(head for _, head, _ in columns)
        header = (*PREFIX, "option", *heads, "issues", "run")
        tables.append(ResultsTable(family=family, header=header, rows=rows))
    return tables


def _rows(family: str, job: Document, result: Document, verdict: Document) -> list[Sequence[str]]:
    system, name = job["system"], str(result["benchmark"]).partition("/")[2]
    # The official files of training are named after both: unet3d_b200.
    model, _, accelerator = name.rpartition("_") if family == "training" else (name, "", "")
    prefix = (
        verdict["verdict"].lower(),
        str(system.get("name") or ""),
        family,
        model or name,
        accelerator if model else "",
    )
    faults = [entry for entry in verdict["findings"] if entry["severity"] != "info"]
    end = ("; ".join(dict.fromkeys(entry["rule"] for entry in faults)), result["run_id"])
    return [
        (*prefix, option, *_cells(family, values), *end)
        for option, values in _by_option(result, family).items()
    ]


def _by_option(result: Document, family: str) -> dict[str, Document]:
    """Means of all complete stages of an option, by option: a save and a load are one result."""
    found: dict[str, Document] = {}
    for summary in result["metrics"]:
        values = found.setdefault(summary["option"] or "", {})
        if summary["complete"]:
            values.update({name: each["mean"] for name, each in summary["values"].items()})
    for aggregate in result.get("aggregates", []) if family == "kvcache" else ():
        tokens = aggregate["aggregated_avg_throughput_tokens_per_sec"]
        if tokens:
            found.setdefault(aggregate["option"] or "", {})["tokens_per_s"] = tokens
    return found or {"": {}}


def _cells(family: str, values: Document) -> list[str]:
    return [
        "" if values.get(name) is None else f"{factor * values[name]:.3f}"
        for name, _, factor in _OF_FAMILY.get(family, ())
    ]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; what would end a cell or begin HTML is escaped."""

    def escape(cell: str) -> str:
        return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(escape(cell) for cell in line) + " |\n" for line in lines)
