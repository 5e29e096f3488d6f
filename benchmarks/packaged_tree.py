"""How long it takes to package, verify and report a tree of 150 results with 20,000 files.

    python benchmarks/packaged_tree.py RUNS [--results 150]

RUNS holds sealed archives of the four small workloads of tests/closed_runs.py, one directory each.
Each is copied under other names and sealed again, every four for a submitter of their own.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from systems import described

from mlps.engine import archive as files
from mlps.engine.archive import Archive
from mlps.engine.canonical import pretty_json
from mlps.engine.evidence import read_evidence
from mlps.engine.job_page import draw_page
from mlps.engine.package.verify import verify_package
from mlps.engine.package.write import Wish, make_package
from mlps.engine.tree.walk import Tree
from mlps.engine.tree_command import report_trees, verify_trees
from mlps.engine.verdict import make_result, make_verdict


def copied(source: Path, target: Path) -> Path:
    """An archive under another name, with the numbers and the seal that follow from it."""
    shutil.copytree(source, target)
    archive = Archive(root=target)
    evidence = read_evidence(archive)
    result = make_result(archive, evidence)
    archive.path(files.RESULT).write_bytes(pretty_json(result))
    _, verdict = make_verdict(archive, evidence, result)
    archive.path(files.VERDICT).write_bytes(pretty_json(verdict))
    archive.path(files.PAGE).write_bytes(draw_page(archive, evidence, result, verdict))
    files.seal(archive)
    return target


def packaged(sources: list[Path], root: Path, work: Path, results: int) -> float:
    """Package archives of as many submitters as it takes, into one tree; the time of packaging."""
    system, pdf = work / "rack1.yaml", work / "rack1.pdf"
    system.write_text(json.dumps(described("cloud", solution__submission_name="rack1")))
    pdf.write_bytes(b"%PDF-1.4\n% a page of the benchmark\n%%EOF\n")
    took_s = 0.0
    for number in range(-(-results // len(sources))):
        own = [copied(path, work / f"{path.name}-x{number}") for path in sources]
        out = work / f"out{number}"
        start = time.perf_counter()
        make_package(
            Wish(archives=tuple(own), org=f"org{number}", out=out, systems=(system,), pdfs=(pdf,))
        )
        took_s += time.perf_counter() - start
        shutil.copytree(out, root, dirs_exist_ok=True)
        for path in (out, *own):
            shutil.rmtree(path)
    return took_s


def timed(action: Callable[[], object]) -> tuple[object, float]:
    start = time.perf_counter()
    return action(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--results", type=int, default=150)
    options = parser.parse_args()
    sources = sorted(path.parent for path in options.runs.glob("*/*/job.json"))
    with tempfile.TemporaryDirectory() as home:
        work, root = Path(home, "work"), Path(home, "tree")
        work.mkdir()
        package_s = packaged(sources, root, work, options.results)
        count = sum(path.is_file() for path in root.rglob("*"))
        found, compare_s = timed(lambda: list(verify_package(root)))
        _, verify_s = timed(lambda: verify_trees(StringIO(), [Tree(root=root)], as_json=False))
        _, report_s = timed(
            lambda: report_trees(StringIO(), [Tree(root=root)], as_json=False, as_csv=False)
        )
    most = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(f"{options.results} results, {count:,} files, findings: {len(found)}")
    for name, value_s in (
        ("package", package_s),
        ("archives and files compared", compare_s),
        ("verify, all", verify_s),
        ("report", report_s),
    ):
        print(f"{name:<30}{value_s:8.1f} s")
    print(f"{'most memory of a process':<30}{most / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
