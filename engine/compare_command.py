"""`mlps compare A B`: what differs between two archives, for people and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import archive as files
from .arguments import parser_of, print_json
from .collect import stage_metrics
from .compare import Comparison, Difference, MetricChange, Side, compare
from .errors import ArchiveError
from .evidence import read_evidence
from .report import read_published
from .results_table import markdown
from .tables import Row, write_table

# Facts that differ from one moment to the next, or from one run to the next.
_FACTS = (
    "system",
    "cpu",
    "memory",
    "cgroup",
    "data_dir",
    "nics",
    "blocks",
    "sysctl",
    "environment",
)
_ENVIRONMENT = ("mlps", "python", "packages", "launcher")


def compare_archives(arguments: Sequence[str], *, as_json: bool) -> int:
    """`mlps compare A B`: the configuration first, then each metric."""
    parser = parser_of("compare")
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument("--markdown", action="store_true", help="tables in Markdown")
    options = parser.parse_args(arguments)
    found = compare(_side(options.a), _side(options.b))
    if as_json:
        print_json(found.as_document())
    else:
        _write(found, _write_markdown if options.markdown else _write_plain)
    return 0


def _side(path: Path) -> Side:
    archive = files.open_archive(path)
    result = read_published(archive).result
    evidence = read_evidence(archive)
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    if not isinstance(environment, dict):
        raise ArchiveError(f"{archive.path(files.ENVIRONMENT)} holds no environment")
    trials: dict[tuple[str, str | None], dict[str, list[float]]] = {}
    complete = {
        (summary["stage"], summary["option"]): summary["values"]
        for summary in result["metrics"]
        if summary["complete"]
    }
    for launch in evidence.plan.launches:
        place = (launch.stage, launch.option)
        stage = evidence.results.get(launch.name)
        if not launch.measured or stage is None or place not in complete:
            continue
        for name, value in stage_metrics(stage).items():
            trials.setdefault(place, {}).setdefault(name, []).append(value)
    for place, values in complete.items():
        # What follows from several stages has no value of a single trial.
        for name, spread in values.items():
            if spread["mean"] is not None:
                trials.setdefault(place, {}).setdefault(name, [spread["mean"]])
    return Side(
        job=evidence.spec.document,
        environment={key: environment.get(key) for key in _ENVIRONMENT},
        facts={
            host: {key: facts.get(key) for key in _FACTS}
            for host, facts in evidence.hosts_start.facts.items()
        },
        result=result,
        trials=trials,
    )


Writer = Callable[[Row, Sequence[Row], Sequence[int]], None]


def _write_plain(header: Row, rows: Sequence[Row], right: Sequence[int]) -> None:
    write_table(sys.stdout, header, rows, right=right)


def _write_markdown(header: Row, rows: Sequence[Row], right: Sequence[int]) -> None:
    sys.stdout.write(markdown(header, rows))


def _write(found: Comparison, write: Writer) -> None:
    sys.stdout.write(f"A: {found.runs[0]}\nB: {found.runs[1]}\n")
    sys.stdout.writelines(f"not comparable: {text}\n" for text in found.obstacles)
    same = "the same workload" if found.same_workload else "the workloads differ"
    sys.stdout.write(f"{same}\n")
    for title, entries in (
        ("configuration", found.configuration),
        ("environment and hosts", found.environment),
    ):
        if entries:
            sys.stdout.write(f"\n{title}\n\n")
            write(("key", "A", "B"), list(_differences(entries)), ())
    if found.metrics:
        sys.stdout.write("\n")
        header = ("stage", "metric", "A", "B", "difference, %", "95 % interval", "beyond chance")
        write(header, [_metric(each) for each in found.metrics], (2, 3, 4, 5))


def _differences(entries: Sequence[Difference]) -> Iterator[Row]:
    for each in entries:
        yield (each.key, _short(each.a), _short(each.b))


def _short(value: object) -> str:
    shown = "none" if value is None else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _metric(each: MetricChange) -> Row:
    place = " ".join(filter(None, (each.stage, each.option)))
    interval = "" if each.low_pct is None else f"{each.low_pct:+.1f} to {each.high_pct:+.1f}"
    chance = {None: "unknown", True: "yes", False: "no"}[each.beyond_chance]
    difference = "" if each.difference_pct is None else f"{each.difference_pct:+.1f}"
    return (place, each.metric, f"{each.a:.4g}", f"{each.b:.4g}", difference, interval, chance)
