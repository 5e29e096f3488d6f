"""A tree of results from its first file to its last: findings by workload, and rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .. import edition
from ..canonical import Document
from ..errors import ArchiveError
from ..options import find_options
from ..plain_files import read_json, read_yaml
from ..rules import Finding, errors
from ..system_file import ROOT
from ..system_rules import judge_file
from ..tables import numbered
from . import upstream_checkpointing as checkpointing
from . import upstream_kvcache as kvcache
from . import upstream_training as training
from . import upstream_vectordb as vectordb
from .documents import LeafDocuments, moment_at, shown, value_at
from .reading import read_leaf
from .rows import Row, has_row, image_of, row_of
from .structure import is_whole, judge_submitter, judge_workload
from .upstream_common import judge_common
from .upstream_phases import judge_phases
from .walk import Pool, Submitter, Tree, Workload, read_tree

_POINTER = re.compile(r"md5-tree-v[12]:([0-9a-f]{8})[0-9a-f]{24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Findings about one part of a tree, with its row where it is a workload."""

    path: str
    findings: tuple[Finding, ...]
    leaves: int = 0
    row: Row | None = None

    @property
    def is_valid(self) -> bool:
        return not errors(self.findings)

    def as_document(self) -> Document:
        """One entry of `mlps verify --json`."""
        return {
            "path": self.path,
            "valid": self.is_valid,
            "leaves": self.leaves,
            "row": None if self.row is None else self.row.as_document(),
            "findings": [finding.as_document() for finding in self.findings],
        }


@dataclass(slots=True, kw_only=True)
class _Images:
    """Which code images the leaves point to: by hash, the first leaf and how many there are."""

    wanted: dict[str, tuple[str, int]] = field(default_factory=dict)


def verify_tree(tree: Tree, *, proven: bool = False) -> Iterator[Group]:
    """Findings by workload, as they are found; those of submitters and of the whole at the end.

    `proven`: what the files of runs tell has been compared with archives, which prove more, so that
    only the structure is judged.

    Raises ArchiveError where the tree cannot be listed.
    """
    official = official_training()
    images = _Images()
    loose: list[Finding] = []
    for found in read_tree(tree):
        if loose and not isinstance(found, Finding):
            yield Group(path=tree.place or ".", findings=tuple(loose))
            loose = []
        match found:
            case Finding():
                loose.append(found)
            case Workload():
                yield _judge(tree, found, official, images, proven=proven)
            case Submitter():
                whole = is_whole(tree.place)
                findings = [*judge_submitter(found, whole=whole), *_read_manifest(tree, found)]
                if findings:
                    yield Group(path=found.path, findings=tuple(findings))
            case Pool():
                if is_whole(tree.place):
                    loose += _judge_pool(found, images, top=not tree.place)
    if loose:
        yield Group(path=tree.place or ".", findings=tuple(loose))


def official_training() -> Mapping[str, Document]:
    """The training workloads that mlps ships, as their files set them."""
    return {
        option.name: edition.official(option.name)
        for option in find_options("benchmark", ())
        if option.name.startswith("training/") and option.name != "training/quick"
    }


def _judge(
    tree: Tree,
    workload: Workload,
    official: Mapping[str, Document],
    images: _Images,
    *,
    proven: bool,
) -> Group:
    findings = list(judge_workload(workload))
    leaves = []
    order = sorted(workload.leaves, key=lambda leaf: (leaf.phase, leaf.timestamp))
    for leaf in order:
        documents, unread = read_leaf(tree, leaf, workload.leaves[leaf])
        leaves.append(documents)
        findings += unread
        if not proven:
            findings += _judge_leaf(documents, official)
        findings += _judge_pointer(documents, images)
    if not proven:
        findings += _judge_set(leaves)
    row = row_of(workload.path, leaves, len(errors(findings))) if leaves else None
    if (
        row is not None
        and not has_row(row)
        and any(leaf.leaf.phase in ("run", "") for leaf in leaves)
    ):
        findings.append(
            Finding(
                rule="UPS-15",
                severity="error",
                key=workload.path,
                text="no file holds a number that the results table publishes",
            )
        )
    return Group(path=workload.path, findings=tuple(findings), leaves=len(leaves), row=row)


def _judge_leaf(leaf: LeafDocuments, official: Mapping[str, Document]) -> Iterator[Finding]:
    yield from judge_common(leaf)
    match leaf.leaf.family, leaf.leaf.phase:
        case "training", "run":
            yield from training.judge_run(leaf, official)
        case "checkpointing", _:
            yield from checkpointing.judge_run(leaf)
        case "kvcache", "run":
            yield from kvcache.judge_run(leaf)
        case "vectordb", ("datagen" | "run"):
            yield from vectordb.judge_leaf(leaf)
    if leaf.leaf.layout == 3 and leaf.leaf.phase in ("run", ""):
        yield from _judge_separation(leaf)


def _judge_set(leaves: Sequence[LeafDocuments]) -> Iterator[Finding]:
    if not leaves:
        return
    sets: Mapping[str, Callable[[Sequence[LeafDocuments]], Iterator[Finding]]] = {
        "training": judge_phases,
        "checkpointing": checkpointing.judge_pair,
        "vectordb": vectordb.judge_set,
    }
    judge = sets.get(leaves[0].leaf.family)
    if judge is not None:
        yield from judge(leaves)
    if leaves[0].leaf.family == "training":
        yield from _judge_gaps([leaf for leaf in leaves if leaf.leaf.phase == "run"])


def _judge_gaps(runs: Sequence[LeafDocuments]) -> Iterator[Finding]:
    """TREE-09: less time between two runs than a run takes (Rules 2.1.18)."""
    times = [
        (start, end, run)
        for run in runs
        if (start := moment_at(run.named("summary.json"), "start")) is not None
        and (end := moment_at(run.named("summary.json"), "end")) is not None
    ]
    if len(times) < len(runs):
        return  # what is missing between two runs is no pause
    ordered = sorted(times, key=lambda entry: entry[0])
    lengths = [end - start for start, end, _ in ordered]
    for (_, end, before), (following, _, after) in pairwise(ordered):
        gap_s = following - end
        if gap_s < 0:
            yield after.finding(
                "TREE-09",
                "error",
                f"starts {-gap_s:.0f} s before {before.leaf.timestamp} ends",
            )
        elif gap_s >= max(lengths):
            yield after.finding(
                "TREE-09",
                "error" if after.leaf.layout == 3 else "warning",
                f"starts {gap_s:.0f} s after {before.leaf.timestamp} has ended, and a run takes "
                f"{max(lengths):.0f} s (Rules 2.1.18)",
            )


def _judge_separation(leaf: LeafDocuments) -> Iterator[Finding]:
    """CAP-03: the evidence of two file systems, which every tool of v3.0 writes."""
    found = next(leaf.ending("fs_separation.json"), None)
    if found is None:
        if not any(name.endswith("fs_separation.json") for name in leaf.files):
            yield leaf.finding(
                "CAP-03",
                "error",
                "nothing shows that data and results were on different file systems: "
                "fs_separation.json is missing",
            )
        return
    same = value_at(found[1], "same_filesystem")
    if same is not False:
        yield leaf.finding("CAP-03", "error", f"same_filesystem is {shown(same)}", file=found[0])


def _judge_pointer(leaf: LeafDocuments, images: _Images) -> Iterator[Finding]:
    """TREE-15: the pointer is a hash and nothing else, so it leads nowhere but into the pool."""
    pointer = image_of(leaf)
    if not pointer:
        return
    found = _POINTER.fullmatch(pointer)
    if found is None:
        yield leaf.finding(
            "TREE-15",
            "error",
            f"{shown(pointer)} is no pointer to a code image, which is md5-tree-v2 and 32 digits",
            file=".mlps-code-image",
        )
        return
    first, count = images.wanted.get(found.group(1), (leaf.leaf.path, 0))
    images.wanted[found.group(1)] = (first, count + 1)


def _judge_pool(pool: Pool, images: _Images, *, top: bool) -> Iterator[Finding]:
    """TREE-15: pointers lead to images, images are pointed to; their hashes are not made anew."""
    for digits, (first, count) in sorted(images.wanted.items()):
        if digits not in pool.images and top:
            yield Finding(
                rule="TREE-15",
                severity="error",
                key=first,
                text=f"the code image code-{digits} is not in the tree; "
                f"{numbered(count, 'run')} named it",
            )
    for digits, path in sorted(pool.images.items()):
        if path not in pool.hashed:
            yield Finding(
                rule="TREE-15", severity="error", key=path, text="is without .code-hash.json"
            )
        if digits not in images.wanted:
            yield Finding(rule="TREE-15", severity="warning", key=path, text="is named by no run")
    if pool.images:
        yield Finding(
            rule="TREE-15",
            severity="info",
            key=next(iter(pool.images.values())).rpartition("/")[0] or ".",
            text="whether code images are what their hashes say is not known: the bytes that "
            "md5-tree-v2 is made of are not published",
        )
    strange = sorted(
        name
        for name in pool.tops
        if top
        and name not in pool.marked
        and not name.startswith(".")
        and name.lower() not in ("closed", "open", "whatif", "code-images")
    )
    for name in strange[:10]:
        yield Finding(
            rule="TREE-13",
            severity="error",
            key=name,
            text="is neither a division nor a pool of code images",
        )


def _read_manifest(tree: Tree, submitter: Submitter) -> Iterator[Finding]:
    """TREE-17, UPS-14: submission.yaml and the descriptions can be read, and name their place."""
    org, division = submitter.path.rpartition("/")[2], submitter.path.partition("/")[0].lower()
    names = [name for name in submitter.entries if name.lower() == "submission.yaml"]
    documents = [*names, *(f"{submitter.directory}/{name}" for name in submitter.systems
                           if name.endswith((".yaml", ".json")))]  # fmt: skip
    for name in documents[:1000]:
        path = f"{submitter.path}/{name}"
        try:
            document = (
                read_json(tree.file(path)) if name.endswith(".json") else read_yaml(tree.file(path))
            )
        except ArchiveError as error:
            text = error.message.replace(f"{tree.file(path)} ", "", 1)
            yield Finding(rule="TREE-17", severity="error", key=path, text=text)
            continue
        if name in names:
            told = (value_at(document, "org"), value_at(document, "division"))
            for what, value, right in (("org", told[0], org), ("division", told[1], division)):
                if value is not None and str(value).lower() != right.lower():
                    yield Finding(
                        rule="TREE-02",
                        severity="error",
                        key=path,
                        text=f"{what} is {shown(value)}, and the directory is {right}",
                    )
        elif name.endswith(".yaml"):
            yield from _judge_description(tree, path, document)


def _judge_description(tree: Tree, path: str, document: object) -> Iterator[Finding]:
    """SYS-01 to SYS-23, and TREE-04 where an older form names another system (Rules 2.1.8)."""
    if isinstance(value_at(document, ROOT), dict):
        yield from judge_file(tree.file(path), path)
        return
    stem = path.rpartition("/")[2].removesuffix(".yaml")
    told = value_at(document, "solution.submission_name")
    if told is not None and told != stem:
        text = f"solution.submission_name is {shown(told)}, and the file is {stem}"
        yield Finding(rule="TREE-04", severity="error", key=path, text=text)
    text = f"describes no system: it has no {ROOT}"
    yield Finding(rule="SYS-18", severity="error", key=path, text=text)
