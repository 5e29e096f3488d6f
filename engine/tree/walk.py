"""One pass over a tree of results: its workloads, submitters, and what has no place in it.

Memory holds the names of the files of one workload at a time, and those in systems/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..plain_files import Entry, is_junk, walk
from ..rules import Finding
from ..tables import numbered
from .layout import (
    DIVISIONS,
    FAMILY_DIRECTORIES,
    IMAGE,
    UNKNOWN,
    Leaf,
    division_of,
    family_of,
    is_name,
    leaf_of,
    place_of_root,
    workload_depth,
)

# What stands at the top of a tree, or of a submitter, beside results.
_TOP_FILES = ("mlperf-results.yaml", "results.json", "results.csv", "submission.yaml")
_POOLS = ("code-images",)
_RESULT_TABLES = ("results.json", "results.csv", "mlperf_storage_report.json")
# Of the entries of one directory that have no place, so many are named.
SHOWN_OF_DIRECTORY = 10


@dataclass(slots=True, kw_only=True)
class Workload:
    """The leaves of one model or index on one system, each with its files by relative name."""

    path: str
    leaves: dict[Leaf, dict[str, int]] = field(default_factory=dict)
    # Files outside of the leaves, relative to the workload.
    others: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Submitter:
    """What one <division>/<org> holds, found on the way."""

    path: str
    entries: dict[str, str] = field(default_factory=dict)
    systems: dict[str, int] = field(default_factory=dict)
    # The name of systems/ in its own case.
    directory: str = "systems"
    result_systems: set[str] = field(default_factory=set)
    legacy: bool = False


@dataclass(slots=True, kw_only=True)
class Pool:
    """Code images, by the first 8 digits of their hash; and directories at the top of a tree."""

    images: dict[str, str] = field(default_factory=dict)
    # Images that have a .code-hash.json, by path.
    hashed: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    tops: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A directory to verify: where it is, and its place in a tree where it is a part of one."""

    root: Path
    place: str = ""

    def file(self, path: str) -> Path:
        """A file by its path in the tree."""
        inner = path.removeprefix(f"{self.place}/") if self.place else path
        return self.root / inner


def find_tree(root: Path) -> Tree | None:
    """The tree at a directory, if it is one or a part of one; only its first level is read."""
    try:
        names = [entry.name for entry in root.iterdir()]
    except OSError:
        return None
    lower = {name.lower() for name in names}
    if lower & set(DIVISIONS):
        return Tree(root=root)
    name = root.absolute().name
    if name.lower() in DIVISIONS and any((root / each / "results").is_dir() for each in names):
        return Tree(root=root, place=name)
    place = place_of_root(root.absolute().parts)
    if place:
        return Tree(root=root, place=place)
    if "results" in lower and ("systems" in lower or "submission.yaml" in lower):
        return Tree(root=root, place=f"{UNKNOWN}/{root.absolute().name or 'org'}")
    return None


Found = Finding | Workload | Submitter | Pool


def read_tree(tree: Tree) -> Iterator[Found]:
    """Findings of entries, each workload once its files are known; submitters and the pool last.

    Raises ArchiveError where the root cannot be listed.
    """
    submitters: dict[str, Submitter] = {}
    workloads: dict[str, Workload] = {}
    pool = Pool()
    current, junk, strange = "", _Counted(tell=_junk_of), _Counted(tell=_more_of)
    listed = _Listed()
    for entry in walk(tree.root, keep_going=True):
        name = f"{tree.place}/{entry.name}" if tree.place else entry.name
        yield from junk.next(name)
        yield from strange.next(name)
        if is_junk(name):
            junk.count += 1
            continue
        if _is_below_junk(name):
            continue
        if entry.kind == "file" and listed.keeps(name, entry.size_bytes):
            continue
        parts = name.split("/")
        _note_pool(entry, parts, pool)
        kept = _keep(entry, name, parts, submitters, workloads)
        if isinstance(kept, Finding):
            strange.count += 1
            if strange.count <= SHOWN_OF_DIRECTORY:
                yield kept
            continue
        if kept is not None and kept != current:
            if current in workloads:
                yield workloads.pop(current)
            current = kept
        if kept is not None and entry.kind == "file":
            listed.note(name, workloads[kept])
    yield from junk.next("")
    yield from strange.next("")
    yield from workloads.values()
    yield from submitters.values()
    yield pool


@dataclass(slots=True, kw_only=True)
class _Counted:
    """Entries of one kind in the directory that is being listed, told once for all of it."""

    tell: Callable[[str, int], Finding | None]
    directory: str = ""
    count: int = 0

    def next(self, name: str) -> Iterator[Finding]:
        """The finding of the directory before, once another one is listed."""
        directory = name.rpartition("/")[0]
        if directory == self.directory and name:
            return
        finding = self.tell(self.directory or ".", self.count)
        if finding is not None:
            yield finding
        self.directory, self.count = directory, 0


def _junk_of(directory: str, count: int) -> Finding | None:
    if not count:
        return None
    return Finding(
        rule="TREE-11",
        severity="warning",
        key=directory,
        text=f"{numbered(count, 'file')} that a desktop or an editor has left behind",
        hint="leave ._*, .DS_Store and the like out of a tree",
    )


def _more_of(directory: str, count: int) -> Finding | None:
    """What is told of a directory after the first findings of its entries."""
    if count <= SHOWN_OF_DIRECTORY:
        return None
    text = f"{count - SHOWN_OF_DIRECTORY:,} more entries like these"
    return Finding(rule="TREE-13", severity="error", key=directory, text=text)


def _is_below_junk(name: str) -> bool:
    return any(is_junk(part) for part in name.split("/")[:-1])


@dataclass(slots=True, kw_only=True)
class _Listed:
    """The directory of a leaf whose files are being listed: its place is found once."""

    directory: str = ""
    inside: str = ""
    files: dict[str, int] | None = None

    def keeps(self, name: str, size_bytes: int) -> bool:
        """Note a further file of the directory; whether it is one."""
        directory, _, last = name.rpartition("/")
        if self.files is None or directory != self.directory:
            return False
        self.files[self.inside + last] = size_bytes
        return True

    def note(self, name: str, workload: Workload) -> None:
        """Remember the directory of a file that was kept in a leaf."""
        self.directory = name.rpartition("/")[0]
        leaf = leaf_of(self.directory.split("/"))
        self.files = None if leaf is None else workload.leaves.get(leaf)
        self.inside = "" if leaf is None else f"{self.directory}/"[len(leaf.path) + 1 :]


def _note_pool(entry: Entry, parts: list[str], pool: Pool) -> None:
    """Images may stand below code-images, below a submitter at the top, or below a division's."""
    if len(parts) == 1 and entry.kind == "directory":
        pool.tops.add(parts[0])
    path = "/".join(parts)
    last = parts[-1]
    if entry.kind == "directory" and len(parts) <= 3 and IMAGE.fullmatch(last):
        pool.images.setdefault(last.removeprefix("code-"), path)
    elif entry.kind == "file" and last == ".code-hash.json" and len(parts) <= 4:
        pool.hashed.add("/".join(parts[:-1]))
    elif entry.kind == "file" and last == ".mlps-image-pool":
        pool.marked.add("/".join(parts[:-1]))


def _keep(
    entry: Entry,
    name: str,
    parts: list[str],
    submitters: dict[str, Submitter],
    workloads: dict[str, Workload],
) -> Finding | str | None:
    """Note an entry where it belongs; the path of its workload, or what is wrong with it."""
    if entry.kind in ("link", "other", "unlistable"):
        return _no_file(entry, name)
    if len(parts) > 2 and division_of(parts[0]) is not None:
        _note_submitter(entry, parts, submitters)
    depth = workload_depth(parts)
    if depth is None or len(parts) < depth or (len(parts) == depth and entry.kind == "file"):
        return _stranger(entry, name, parts)
    path = "/".join(parts[:depth])
    workload = workloads.setdefault(path, Workload(path=path))
    leaf = leaf_of(parts if entry.kind == "directory" else parts[:-1])
    if leaf is None:
        if entry.kind == "file":
            workload.others.append("/".join(parts[depth:]))
        elif len(parts) > depth and not _is_phase_directory(parts, depth):
            workload.others.append("/".join(parts[depth:]) + "/")
    else:
        files = workload.leaves.setdefault(leaf, {})
        if entry.kind == "file":
            files[name[len(leaf.path) + 1 :]] = entry.size_bytes
    # A directory is listed with its siblings, before what it holds.
    return path if len(parts) > depth else None


def _is_phase_directory(parts: list[str], depth: int) -> bool:
    return len(parts) == depth + 1 and leaf_of([*parts, "x"]) is not None


def _no_file(entry: Entry, name: str) -> Finding:
    if entry.kind == "unlistable":
        return Finding(
            rule="TREE-17", severity="error", key=name, text="the directory cannot be listed"
        )
    what = "a symbolic link, which is not followed" if entry.kind == "link" else "no regular file"
    return Finding(rule="TREE-12", severity="error", key=name, text=what)


def _note_submitter(entry: Entry, parts: list[str], submitters: dict[str, Submitter]) -> None:
    path = "/".join(parts[:2])
    submitter = submitters.setdefault(path, Submitter(path=path))
    if len(parts) == 3:
        submitter.entries[parts[2]] = entry.kind
    elif len(parts) == 4 and parts[2].lower() == "systems" and entry.kind == "file":
        submitter.systems[parts[3]] = entry.size_bytes
        submitter.directory = parts[2]
    elif len(parts) == 5 and parts[2].lower() == "results" and entry.kind == "directory":
        if family_of(parts[4]) is not None:
            submitter.result_systems.add(parts[3])
        else:
            leaf = leaf_of([*parts, "run1"])
            submitter.legacy = submitter.legacy or parts[4].lower() in ("runs", "run")
            if leaf is not None and submitter.legacy:
                submitter.result_systems.add(parts[3])


def _stranger(entry: Entry, name: str, parts: list[str]) -> Finding | None:
    """What stands above the workloads, and has no place there."""
    top = parts[0]
    if _in_pool(parts):
        return None
    division = division_of(top)
    if division is None:
        if len(parts) > 1 or top.startswith(".") or top in (*_TOP_FILES, *_POOLS):
            return None
        if entry.kind == "directory" and is_name(top):
            # The pool of a submitter, at the top of a tree of many; its content tells.
            return None
        return _no_place(name)
    if len(parts) == 1:
        return None if top in (*DIVISIONS, UNKNOWN) else _case(name, division)
    if parts[-1].startswith("."):
        return None
    return _below_division(entry, name, parts)


def _below_division(entry: Entry, name: str, parts: list[str]) -> Finding | None:
    last = parts[-1]
    if len(parts) == 2:
        if entry.kind == "file":
            return None if last in _RESULT_TABLES else _no_place(name)
        return None if is_name(last) else _bad_name(name)
    area = parts[2].lower()
    if len(parts) == 3 or area != "results":
        return None  # judged with the submitter
    if entry.kind == "file":
        return None if last in _RESULT_TABLES else _no_place(name)
    if len(parts) == 4:
        return None if is_name(last) else _bad_name(name)
    if len(parts) == 5:
        return _family_directory(name, last)
    return None


def _family_directory(name: str, last: str) -> Finding | None:
    family = family_of(last)
    if family is None:
        if last.lower() in ("runs", "run", "results") or leaf_of([*name.split("/"), "run1"]):
            return None
        return _no_place(name)
    right = FAMILY_DIRECTORIES[family]
    return None if last == right else _case(name, right)


def _in_pool(parts: list[str]) -> bool:
    """Whether something stands in a pool of code images or in what tools keep for themselves."""
    return (
        parts[0] in _POOLS
        or parts[0].startswith(".")
        or any(IMAGE.fullmatch(part) for part in parts[:3])
    )


def _no_place(name: str) -> Finding:
    return Finding(
        rule="TREE-13",
        severity="error",
        key=name,
        text="has no place in a tree of results",
        hint="mlps verify names what a tree holds; docs/verify.md shows its form",
    )


def _bad_name(name: str) -> Finding:
    return Finding(
        rule="TREE-05",
        severity="error",
        key=name,
        text="a name in a tree has the letters A-Z, a-z, 0-9, '.', '_' and '-' alone",
    )


def _case(name: str, right: str) -> Finding:
    return Finding(
        rule="TREE-05",
        severity="warning",
        key=name,
        text=f"is read as {right}, which is how the rules write it",
        hint=f"rename it to {right}",
    )
