"""`mlps report PATH...`: the numbers of archives as text, tables, CSV, JSON, and as a page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import archive as files
from .archive import Archive
from .arguments import parser_of, print_json
from .canonical import Document
from .checkpoint_summary import checkpoint_summaries
from .errors import ArchiveError, ConfigError
from .evidence import read_evidence
from .job_page import UNDRAWABLE, draw_page
from .report import Published, csv_report, read_published, readable, write_report
from .results_table import markdown, results_tables
from .sweep_page import SWEEP, draw_sweep
from .tables import printable, write_table
from .training_job import training_jobs
from .training_summary import dlio_summaries
from .tree.walk import Tree
from .tree_command import report_trees, trees_at
from .vector_job import vector_jobs
from .vector_summary import vector_summaries


def report(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps report PATH...`: the numbers of archives."""
    parser = parser_of("report")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--csv", action="store_true", help="one line per metric")
    parser.add_argument("--table", action="store_true", help="one line per result, by family")
    parser.add_argument("--markdown", action="store_true", help="the same in Markdown")
    parser.add_argument("--html", type=Path, metavar="OUT", help="write the page of one archive")
    parser.add_argument("--dlio", action="store_true", help="DLIO's summary.json of each run")
    parser.add_argument(
        "--vdbbench", action="store_true", help="vdbbench's summary and statistics of each run"
    )
    options = parser.parse_args(arguments)
    trees = trees_at("report", options.paths)
    if trees:
        return _report_trees(trees, options, as_json=as_json)
    if options.html is not None:
        return _write_html(options.paths, options.html)
    published, unreadable = _published(options.paths)
    archives = [item.archive for item in published]
    if not published:
        pass
    elif options.dlio or options.vdbbench:
        print_json((_dlio_documents if options.dlio else _vdbbench_documents)(archives))
    elif options.table or options.markdown:
        _write_tables(published, as_json=as_json, as_markdown=options.markdown)
    elif as_json:
        print_json([item.as_document() for item in published])
    elif options.csv:
        sys.stdout.write(csv_report(published))
    else:
        for item in published:
            write_report(sys.stdout, item)
    return _name_unreadable(unreadable)


def _report_trees(trees: Sequence[Tree], options: argparse.Namespace, *, as_json: bool) -> int:
    """The results tables of trees; what is made of archives alone is refused."""
    for name in ("dlio", "vdbbench", "table", "markdown", "html"):
        if getattr(options, name):
            raise ConfigError(f"--{name} is made of archives", hint="mlps report TREE")
    return report_trees(sys.stdout, trees, as_json=as_json, as_csv=options.csv)


def _published(paths: Sequence[Path]) -> tuple[list[Published], list[ArchiveError]]:
    """What the archives at some paths publish, and why some of them publish nothing."""
    published, unreadable = [], []
    for path in (archive for each in paths for archive in files.archives_at(each)):
        try:
            published.append(readable(read_published(files.open_archive(path))))
        except ArchiveError as error:
            unreadable.append(error)
    return published, unreadable


def _name_unreadable(unreadable: Sequence[ArchiveError]) -> int:
    """The exit code; archives that cannot be read are named, the last one by the error itself."""
    for error in unreadable[:-1]:
        sys.stderr.write(f"error: {printable(str(error))}\n")
    if unreadable:
        raise unreadable[-1]
    return 0


def _write_tables(reports: Sequence[Published], *, as_json: bool, as_markdown: bool) -> None:
    """The results of each family under its own columns."""
    results = [
        (files.read_document(each.archive.path(files.JOB)), each.result, each.verdict)
        for each in reports
    ]
    try:
        tables = results_tables(results)
    except UNDRAWABLE as error:
        text = f"a document cannot be read: {type(error).__name__}: {error}"
        raise ArchiveError(text, hint="mlps verify says which") from error
    if as_json:
        print_json(
            [
                {"family": table.family, "rows": [dict(zip(table.header, row, strict=True))
                                                  for row in table.rows]}
                for table in tables
            ]
        )  # fmt: skip
        return
    for number, table in enumerate(tables):
        sys.stdout.write("\n" if number else "")
        if as_markdown:
            sys.stdout.write(markdown(table.header, table.rows))
        else:
            write_table(sys.stdout, table.header, table.rows, right=table.right)


def _write_html(paths: Sequence[Path], out: Path) -> int:
    """The page of one archive or one sweep, drawn anew outside of it."""
    if len(paths) != 1:
        raise ConfigError(
            "--html takes one archive or one sweep", hint="mlps report PATH --html OUT"
        )
    if out.exists():
        raise ConfigError(f"{out} exists already", hint="name a file that does not exist")
    try:
        page = _page_of(paths[0])
    except UNDRAWABLE as error:
        text = f"{paths[0]}: no page can be drawn of it: {type(error).__name__}: {error}"
        raise ArchiveError(text, hint=f"mlps verify {paths[0]}") from error
    files.write_whole(out, page)
    sys.stderr.write(f"wrote {out}\n")
    return 0


def _page_of(path: Path) -> bytes:
    if (path / SWEEP).is_file():
        return draw_sweep(files.read_document(path / SWEEP))
    archive = files.open_archive(path)
    published = read_published(archive)
    return draw_page(archive, read_evidence(archive), published.result, published.verdict)


def _dlio_documents(archives: Sequence[Archive]) -> Document:
    """The summary.json of every trial of training or checkpointing, by its run and stage."""
    found: Document = {}
    for archive in archives:
        evidence = read_evidence(archive)
        told = (evidence.outcomes, evidence.results, evidence.hosts_start)
        summaries = [
            *dlio_summaries(evidence.plan, training_jobs(evidence.spec), *told),
            *checkpoint_summaries(evidence.plan, *told),
        ]
        found |= {f"{archive.run_id}/{name}": document for name, document in summaries}
    if not found:
        raise ArchiveError(
            "no archive holds a run of training or of checkpointing that has ended well"
        )
    return found


def _vdbbench_documents(archives: Sequence[Archive]) -> Document:
    """The files of vdbbench of every load and run of vector search, by its run and stage."""
    found: Document = {}
    for archive in archives:
        evidence = read_evidence(archive)
        summaries = vector_summaries(
            evidence.plan, vector_jobs(evidence.spec), evidence.outcomes, evidence.results
        )
        found |= {f"{archive.run_id}/{name}": documents for name, documents in summaries}
    if not found:
        raise ArchiveError("no archive holds vector search that has ended well")
    return found
