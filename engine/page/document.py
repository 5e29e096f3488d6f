"""The whole page of a job: the verdict first, then numbers, charts, and what they stand on."""

from __future__ import annotations

from ..canonical import Document
from ..tables import numbered
from . import families, sections
from .markup import section, table, text
from .source import Source
from .style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_READ_ON = (
    ("result.json", "every published number"),
    ("verdict.json", "the verdict with all findings"),
    ("job.yaml", "the whole job"),
    ("provenance.json", "where each value of the job comes from"),
    ("environment.json", "versions and the machine that started the job"),
    ("hosts-start.json", "facts of every host"),
    ("timeseries.jsonl.gz", "samples of every host"),
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
        f"{_failure(result)}{_what_ran(source)}</header>"
        + sections.findings(verdict["findings"])
        + sections.numbers(source)
        + families.epochs(source)
        + families.checkpoints(source)
        + families.recall(source)
        + sections.throughput(source)
        + sections.latencies(source)
        + sections.ranks(source)
        + sections.configuration(source)
        + sections.hosts(source.facts)
        + sections.stages(source)
        + section("Read on in the archive", table(("file", "what it holds"), _READ_ON))
    )
    return whole(title, inner)


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


def _failure(result: Document) -> str:
    status = "" if result["status"] == "complete" else f"<p>The job {text(result['status'])}.</p>"
    failure = result["failure"]
    if not failure:
        return status
    shown = failure.get("message") if isinstance(failure, dict) else failure
    return f"{status}<p>{text(shown or failure)}</p>"


def _what_ran(source: Source) -> str:
    result, job = source.result, source.job
    launcher = job["launcher"]
    return sections.pairs(
        (
            ("ran on", f"{numbered(result['hosts'], 'host')}, {numbered(result['ranks'], 'rank')}"),
            ("launcher", _name(launcher)),
            ("storage", job["data_dir"]),
            ("system", _name(job["system"])),
            ("division", _name(job["division"])),
            ("edition", _name(job["edition"])),
            ("job", result["job_sha256"]),
            ("mlps", result["mlps_version"]),
        )
    )


def _name(value: object) -> str:
    if isinstance(value, dict):
        return str(value.get("name", value.get("program", "")))
    return str(value)
