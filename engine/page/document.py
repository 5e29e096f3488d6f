"""The whole page of a job: the verdict first, then numbers, charts, and what they stand on."""

from __future__ import annotations

from ..canonical import Document
from ..tables import numbered
from . import families, sections
from .axes import number
from .markup import section, table, text
from .source import Source
from .style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_SAMPLES = "timeseries.jsonl.gz"

_MEANING = {
    "WHATIF": "Not for submission: in this division anything may be changed.",
    "INVALID": "No result: the findings of severity error say why.",
}

_READ_ON = (
    ("result.json", "every published number"),
    ("verdict.json", "the verdict with all findings"),
    ("job.yaml", "the whole job"),
    ("provenance.json", "where each value of the job comes from"),
    ("environment.json", "versions and the machine that started the job"),
    ("hosts-start.json", "facts of every host"),
    (_SAMPLES, "samples of every host"),
    ("stages/", "what each stage was called with, said and reported"),
    ("MANIFEST.sha256", "the seal"),
)


def job_page(source: Source) -> bytes:
    """The page of one job. The same source gives the same bytes.

    Raises LookupError, TypeError, ValueError, AttributeError or ArithmeticError where a document
    is of another form than this version writes.
    """
    result, verdict = source.result, source.verdict
    title = f"{result['benchmark']}: {verdict['verdict']}"
    inner = (
        f"<header><h1>{text(result['benchmark'])}</h1>"
        f'<p class="sub">{text(result["run_id"])}</p>{sections.badge(verdict["verdict"])}'
        f"{_meaning(verdict['verdict'])}{_failure(result)}{_what_ran(source)}</header>"
        + sections.findings(verdict["findings"])
        + sections.numbers(source)
        + families.aggregates(source)
        + families.epochs(source)
        + families.checkpoints(source)
        + families.recall(source)
        + sections.throughput(source)
        + sections.latencies(source)
        + sections.ranks(source)
        + sections.configuration(source)
        + sections.hosts(source.facts)
        + sections.stages(source)
        + section("Read on in the archive", table(("file", "what it holds"), _files(source)))
    )
    return whole(title, inner)


def _files(source: Source) -> list[tuple[str, str]]:
    """Where to read on; without samples there is no file of them."""
    sampled = source.result.get("monitor") is not None
    return [row for row in _READ_ON if sampled or row[0] != _SAMPLES]


def whole(title: str, inner: str) -> bytes:
    """A page that loads nothing and runs nothing."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{inner}</main></body></html>\n"
    ).encode()


def _meaning(verdict: str) -> str:
    meaning = _MEANING.get(verdict)
    return f'<p class="note">{text(meaning)}</p>' if meaning else ""


def _failure(result: Document) -> str:
    status = "" if result["status"] == "complete" else f"<p>Status: {text(result['status'])}.</p>"
    failure = result["failure"]
    if not failure:
        return status
    if isinstance(failure, dict):
        failure = ": ".join(filter(None, (failure.get("stage"), failure.get("message"))))
    return f"{status}<p>{text(failure)}</p>"


def _what_ran(source: Source) -> str:
    result, job = source.result, source.job
    launcher = job["launcher"]
    return sections.pairs(
        (
            ("started", _started(source)),
            ("ran on", f"{numbered(result['hosts'], 'host')}, {numbered(result['ranks'], 'rank')}"),
            ("launcher", _name(launcher)),
            ("data_dir", job["data_dir"]),
            ("system", _name(job["system"])),
            ("division", _name(job["division"])),
            ("edition", _name(job["edition"])),
            ("SHA-256 of the job", result["job_sha256"]),
            ("version of mlps", result["mlps_version"]),
        )
    )


def _started(source: Source) -> str:
    """When the first stage began, to the second, and how long all stages took."""
    begun = [each.outcome["started_utc"] for each in source.stages if each.outcome["started_utc"]]
    if not begun:
        return ""
    lasted_s = sum(each.outcome["elapsed_s"] or 0 for each in source.stages)
    return f"{min(begun)[:19].replace('T', ' ')} UTC, stages took {number(lasted_s)} s"


def _name(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name", value.get("program", "")))
    return str(value)
