"""The commands that read archives. Each takes its arguments and returns an exit code."""

from __future__ import annotations

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
from .report import Published, csv_report, headline, read_published, readable, write_report
from .tables import printable, write_table
from .training_job import training_jobs
from .training_summary import dlio_summaries
from .tree_command import report_trees, trees_at
from .vector_job import vector_jobs
from .vector_summary import vector_summaries


def report(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps report PATH...`: the numbers of archives."""
    parser = parser_of("report")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--csv", action="store_true", help="one line per metric")
    parser.add_argument("--dlio", action="store_true", help="DLIO's summary.json of each run")
    parser.add_argument(
        "--vdbbench", action="store_true", help="vdbbench's summary and statistics of each run"
    )
    options = parser.parse_args(arguments)
    trees = trees_at("report", options.paths)
    if trees and (options.dlio or options.vdbbench):
        raise ConfigError("--dlio and --vdbbench are made of archives", hint="mlps report TREE")
    if trees:
        return report_trees(sys.stdout, trees, as_json=as_json, as_csv=options.csv)
    published, unreadable = _published(options.paths)
    archives = [item.archive for item in published]
    if not published:
        pass
    elif options.dlio:
        print_json(_dlio_documents(archives))
    elif options.vdbbench:
        print_json(_vdbbench_documents(archives))
    elif as_json:
        print_json([item.as_document() for item in published])
    elif options.csv:
        sys.stdout.write(csv_report(published))
    else:
        for item in published:
            write_report(sys.stdout, item)
    return _name_unreadable(unreadable)


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


def history(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps history`: the archives of a results directory, oldest first."""
    parser = parser_of("history")
    parser.add_argument("results_dir", nargs="?", type=Path, default=Path("results"))
    results_dir = parser.parse_args(arguments).results_dir.absolute()
    if not results_dir.is_dir():
        raise ArchiveError(f"{results_dir} is not a directory", hint="mlps history RESULTS_DIR")
    entries = [_history_entry(archive) for archive in files.listed_archives(results_dir)]
    if as_json:
        print_json(entries)
    else:
        names = ("run_id", "status", "verdict", "headline")
        rows = [tuple(str(entry[name] or "") for name in names) for entry in entries]
        write_table(sys.stdout, ("run", "status", "verdict", "result"), rows)
    return 0


def _history_entry(archive: Archive) -> Document:
    entry: Document = {"run_id": archive.run_id, "path": str(archive.root)}
    if not archive.sealed:
        return entry | {"status": "unfinished", "verdict": None, "headline": None}
    try:
        published = readable(read_published(archive))
    except ArchiveError as error:
        return entry | {"status": "unreadable", "verdict": None, "headline": error.message}
    return entry | {
        "status": published.result["status"],
        "verdict": published.verdict["verdict"],
        "headline": headline(published.result),
    }
