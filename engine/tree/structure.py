"""What must hold of a tree by its names alone: files, phases, numbers of runs, systems. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..edition import training_runs, vector_limits
from ..rulebook import Severity
from ..rules import Finding
from ..tables import numbered
from .documents import is_metadata
from .layout import DIVISIONS, MODELS, UNKNOWN, Family, Leaf, is_name, is_timestamp
from .walk import Submitter, Workload

# Rules 2.1.22: all in one, or writes and then reads.
CHECKPOINT_RUNS = (1, 2)

# What is left of a log that was too large to be published.
PLACEHOLDER_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file that a leaf must have: any whose relative name a pattern matches as a whole."""

    pattern: str
    shown: str
    severity: Severity = "error"

    def among(self, files: Mapping[str, int]) -> bool:
        form = re.compile(self.pattern)
        return any(form.fullmatch(name) for name in files)


def _exactly(*names: str, severity: Severity = "error") -> tuple[Wanted, ...]:
    return tuple(Wanted(pattern=re.escape(name), shown=name, severity=severity) for name in names)


_DLIO = _exactly("dlio_config/config.yaml", "dlio_config/overrides.yaml", "dlio_config/hydra.yaml")
_RANK_FILES = (
    Wanted(pattern=r"(\d+_)?output\.json", shown="<rank>_output.json"),
    Wanted(pattern=r"(\d+_)?per_epoch_stats\.json", shown="<rank>_per_epoch_stats.json"),
)
_EVIDENCE = _exactly(".mlps-code-image", severity="warning")


def _metadata(prefix: str) -> Wanted:
    return Wanted(
        pattern=rf"{prefix}_[^/]*_metadata(\.EXCERPT)?\.json",
        shown=f"{prefix}_<time>_metadata.json",
    )


def _logs(stem: str) -> tuple[Wanted, ...]:
    return _exactly(f"{stem}.stdout.log", f"{stem}.stderr.log")


# Rules 2.1.15, 2.1.20, 2.1.26, and the files that the tools of v3.0 write.
WANTED: Mapping[tuple[Family, str], Sequence[Wanted]] = {
    ("training", "datasize"): (_metadata("training"),),
    ("training", "datagen"): (*_logs("training_datagen"), *_exactly("dlio.log"), *_DLIO),
    ("training", "run"): (
        *_logs("training_run"),
        *_exactly("summary.json", "dlio.log"),
        *_RANK_FILES,
        *_DLIO,
        _metadata("training"),
        *_EVIDENCE,
    ),
    ("checkpointing", ""): (
        *_logs("checkpointing_run"),
        *_exactly("summary.json", "dlio.log"),
        *_RANK_FILES,
        *_DLIO,
        _metadata("checkpointing"),
        *_EVIDENCE,
    ),
    ("kvcache", "run"): (
        Wanted(pattern=r"summary\.json|kvcache_run_summary_[^/]*\.json", shown="summary.json"),
        _metadata("kv_cache"),
        *_EVIDENCE,
    ),
    ("vectordb", "datagen"): (*_exactly("summary.json"), _metadata("vector_database")),
    ("vectordb", "run"): (
        *_exactly("summary.json"),
        _metadata("vector_database"),
        Wanted(pattern=r"(.*/)?(statistics|vdb_multi_node_summary)\.json", shown="statistics.json"),
        *_EVIDENCE,
    ),
}
LEGACY_WANTED: Sequence[Wanted] = (*_exactly("summary.json"), _RANK_FILES[1])


def judge_workload(workload: Workload) -> Iterator[Finding]:
    """All that the names of a workload's directories and files tell."""
    leaves = sorted(workload.leaves, key=lambda leaf: (leaf.phase, leaf.timestamp))
    for leaf in leaves:
        yield from _judge_leaf(leaf, workload.leaves[leaf])
    for name in workload.others:
        if name.rpartition("/")[2] not in ("results.json", "results.csv"):
            yield _finding(
                "TREE-13",
                "error",
                f"{workload.path}/{name.rstrip('/')}",
                "has no place among the runs of a workload",
            )
    if not leaves:
        yield _finding("TREE-07", "error", workload.path, "holds no run")
        return
    if leaves[0].layout == 3:
        yield from _judge_model(leaves[0], workload)
        yield from _judge_tables(workload, leaves)
    yield from _judge_phases(workload, leaves)


def _judge_leaf(leaf: Leaf, files: Mapping[str, int]) -> Iterator[Finding]:
    if leaf.layout == 3 and not is_timestamp(leaf.timestamp):
        yield _finding(
            "TREE-08", "error", leaf.path, "the name of a run is its time, YYYYMMDD_HHMMSS"
        )
    wanted = WANTED.get((leaf.family, leaf.phase), ()) if leaf.layout == 3 else LEGACY_WANTED
    severities: tuple[Severity, ...] = ("error", "warning")
    for severity in severities:
        missing = [
            each.shown for each in wanted if each.severity == severity and not each.among(files)
        ]
        if missing:
            yield _finding("TREE-10", severity, leaf.path, f"is without {', '.join(missing)}")
    several = [name for name in files if "/" not in name and is_metadata(name)]
    if len(several) > 1:
        yield _finding(
            "TREE-10",
            "error",
            leaf.path,
            f"has {len(several)} files of metadata, and one invocation has one: "
            f"{', '.join(sorted(several)[:3])}",
        )
    yield from _judge_sizes(leaf, files)


def _judge_sizes(leaf: Leaf, files: Mapping[str, int]) -> Iterator[Finding]:
    """TREE-14: files that were emptied, or cut down to a note that they were."""
    cut = sorted(name for name, size in files.items() if size == PLACEHOLDER_BYTES)
    excerpts = sorted(name for name in files if ".EXCERPT." in name)
    empty = sorted(
        name for name, size in files.items() if not size and name.endswith((".json", ".yaml"))
    )
    told: Sequence[tuple[list[str], Severity, str]] = (
        (cut, "warning", "of 16 bytes, as what is left of a file that was cut out"),
        (excerpts, "warning", "named as an excerpt"),
        (empty, "error", "without content"),
    )
    for names, severity, text in told:
        if names:
            yield _finding(
                "TREE-14",
                severity,
                f"{leaf.path}/{names[0]}",
                f"{numbered(len(names), 'file')} {text}: {', '.join(names[:3])}",
            )


def _judge_model(leaf: Leaf, workload: Workload) -> Iterator[Finding]:
    model = workload.path.rpartition("/")[2]
    if leaf.model in MODELS[leaf.family]:
        if model != leaf.model:
            yield _finding(
                "TREE-05", "warning", workload.path, f"is read as {leaf.model}, as the rules write"
            )
    elif leaf.division != "whatif" and (leaf.family != "vectordb" or leaf.division != "open"):
        known = ", ".join(MODELS[leaf.family])
        yield _finding("TREE-05", "error", workload.path, f"is none of {known}")
    for each in workload.leaves:
        parts = each.path.split("/")
        if each.phase and parts[-2] != each.phase:
            yield _finding("TREE-05", "warning", each.path, f"{parts[-2]} is read as {each.phase}")


def _judge_phases(workload: Workload, leaves: Sequence[Leaf]) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    for leaf in leaves:
        counts[leaf.phase] = counts.get(leaf.phase, 0) + 1
    wanted = _wanted_counts(leaves[0])
    missing = [phase for phase in wanted if phase not in counts]
    if missing:
        yield _finding(
            "TREE-06", "error", workload.path, f"the phase {' and '.join(missing)} is missing"
        )
    for phase, allowed in wanted.items():
        count = counts.get(phase, 0)
        if count and count not in allowed:
            of_phase = f" of phase {phase}" if phase else ""
            yield _finding(
                "TREE-07",
                "warning" if phase == "datasize" else "error",
                f"{workload.path}/{phase}".rstrip("/"),
                f"has {numbered(count, 'directory', 'directories')}{of_phase}, and a score takes "
                f"{' or '.join(str(number) for number in allowed)}",
            )


def _wanted_counts(leaf: Leaf) -> Mapping[str, tuple[int, ...]]:
    """How many directories a score has of each phase; v1.0 kept none but the runs that count."""
    warmup, runs = training_runs()
    match leaf.family:
        case "training" if leaf.layout != 3:
            return {"run": (runs,)}
        case "training":
            return {"datasize": (1,), "datagen": (1,), "run": (warmup + runs,)}
        case "checkpointing":
            return {"": CHECKPOINT_RUNS}
        case "vectordb":
            return {"datagen": (1,), "run": (vector_limits().runs,)}
        case "kvcache":
            return {"run": (1,)}


def _judge_tables(workload: Workload, leaves: Sequence[Leaf]) -> Iterator[Finding]:
    """TREE-19: results.json of a model, or of its runs, which the rules want."""
    family = leaves[0].family
    if family not in ("training", "checkpointing"):
        return
    if not any(name.rpartition("/")[2] == "results.json" for name in workload.others):
        yield _finding("TREE-19", "warning", workload.path, "has no results.json (Rules 2.1.16)")


# ---------------------------------------------------------------- a submitter


def judge_submitter(submitter: Submitter, *, whole: bool) -> Iterator[Finding]:
    """What must hold of <division>/<org>; `whole` where its own directory was read, not a part."""
    path, entries = submitter.path, submitter.entries
    org = path.rpartition("/")[2]
    if not is_name(org):
        return  # named on the way
    names = {name.lower(): name for name in entries if not name.startswith(".")}
    if whole:
        yield from _judge_top(submitter, names)
    if whole or "systems" in names:
        yield from _judge_systems(submitter)


def _judge_top(submitter: Submitter, names: Mapping[str, str]) -> Iterator[Finding]:
    path = submitter.path
    wanted = ("results", "systems", *(() if submitter.legacy else ("submission.yaml",)))
    missing = [name for name in wanted if name not in names]
    if missing:
        yield _finding("TREE-02", "error", path, f"is without {', '.join(missing)}")
    for lower, name in sorted(names.items()):
        kind = submitter.entries[name]
        if lower == "code":
            yield _finding(
                "TREE-16", "warning", f"{path}/{name}", "is of the layout of older rounds"
            )
        elif lower.startswith("code-") or lower in ("results.json", "results.csv", "readme.md"):
            continue
        elif lower not in ("results", "systems", "submission.yaml"):
            noun = "directory" if kind == "directory" else "file"
            yield _finding("TREE-02", "error", f"{path}/{name}", f"is a {noun} without a place")
        elif name != lower:
            yield _finding("TREE-05", "warning", f"{path}/{name}", f"is read as {lower}")
    older = _older_round(submitter, names)
    if older:
        yield _finding(
            "TREE-18", "info", path, f"has the layout of {older}; it is judged by the rules of v3.0"
        )


def _older_round(submitter: Submitter, names: Mapping[str, str]) -> str | None:
    """The round whose layout a submitter's tree has, if that is not v3.0.

    v2.0 names results as v3.0 does; its code stands beside them, and a web form was its
    submission.yaml.
    """
    if submitter.legacy:
        return "v1.0"
    return "v2.0" if "code" in names and "submission.yaml" not in names else None


def _judge_systems(submitter: Submitter) -> Iterator[Finding]:
    described = ".json" if submitter.legacy else ".yaml"
    stems: dict[str, set[str]] = {}
    for name, size in sorted(submitter.systems.items()):
        stem, dot, ending = name.rpartition(".")
        if name.startswith(".") or ending == "md":
            continue
        if f"{dot}{ending}" not in (described, ".pdf"):
            yield _finding(
                "TREE-03",
                "error",
                f"{submitter.path}/{submitter.directory}/{name}",
                "is no description",
            )
            continue
        stems.setdefault(stem, set()).add(ending)
        if size in (0, PLACEHOLDER_BYTES):
            yield _finding(
                "TREE-14",
                "error",
                f"{submitter.path}/{submitter.directory}/{name}",
                "is empty" if not size else "has 16 bytes, as what is left of a file cut out",
            )
    for stem, endings in sorted(stems.items()):
        for ending in {described[1:], "pdf"} - endings:
            yield _finding(
                "TREE-03",
                "error",
                f"{submitter.path}/{submitter.directory}/{stem}.{sorted(endings)[0]}",
                f"is without {stem}.{ending}",
            )
    descriptions = {stem for stem, endings in stems.items() if described[1:] in endings}
    for system in sorted(submitter.result_systems - descriptions):
        yield _finding(
            "TREE-04",
            "error",
            f"{submitter.path}/results/{system}",
            f"has no description systems/{system}{described}",
        )
    for system in sorted(descriptions - submitter.result_systems):
        yield _finding(
            "TREE-04",
            "error",
            f"{submitter.path}/{submitter.directory}/{system}{described}",
            f"has no results/{system}",
        )


def is_whole(place: str) -> bool:
    """Whether a tree of this place holds all of a submitter: the top, a division or an org."""
    parts = place.split("/")
    return not place or (len(parts) < 3 and parts[0].lower() in (*DIVISIONS, UNKNOWN))


def _finding(rule: str, severity: Severity, key: str, text: str) -> Finding:
    return Finding(rule=rule, severity=severity, key=key, text=text)
