"""Where things stand in a tree of results: the grammar of v3.0, and of older rounds. Pure.

    <division>/<org>/{submission.yaml, systems/<system>.{yaml,pdf}, results/<system>/<tail>}
    tail = training/<model>/<datasize|datagen|run>/<time>
         | checkpointing/<model>/<time>
         | vector_database/[<engine>/]<INDEX>/<datagen|run>/<time>
         | kv_cache/<model>/run/<time>

Trees of v1.0 have <division>/<org>/results/<workload>/runs/run<n> and systems/*.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Division = Literal["closed", "open", "whatif", "unknown"]
Family = Literal["training", "checkpointing", "vectordb", "kvcache"]

DIVISIONS = ("closed", "open", "whatif")
# Stands for the division of a tree that does not tell its own; it is judged like closed.
UNKNOWN = "unknown"

FAMILY_DIRECTORIES: Mapping[Family, str] = {
    "training": "training",
    "checkpointing": "checkpointing",
    "vectordb": "vector_database",
    "kvcache": "kv_cache",
}
# Names that tools have used beside these.
_FAMILIES: Mapping[str, Family] = {
    **{name: family for family, name in FAMILY_DIRECTORIES.items()},
    "vectordb": "vectordb",
    "kvcache": "kvcache",
}

# Models and indexes of the closed and open divisions, as directories name them.
MODELS: Mapping[Family, tuple[str, ...]] = {
    "training": ("unet3d", "retinanet"),
    "checkpointing": ("llama3-8b", "llama3-70b", "llama3-405b", "llama3-1t"),
    "vectordb": ("AISAQ", "DISKANN", "HNSW"),
    "kvcache": ("llama3.1-8b", "llama3.1-70b-instruct"),
}
PHASES: Mapping[Family, tuple[str, ...]] = {
    "training": ("datasize", "datagen", "run"),
    "checkpointing": (),
    "vectordb": ("datagen", "run"),
    "kvcache": ("run",),
}
_OPTIONAL_PHASES = {"vectordb": ("datasize",), "kvcache": ("datasize",)}

NAME = re.compile(r"[A-Za-z0-9._-]+")
TIME = re.compile(r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)")
_LEGACY_RUN = re.compile(r"run_?\d+", re.IGNORECASE)
IMAGE = re.compile(r"code-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One directory with the files of one invocation.

    `model` is the index of vector search; `phase` is empty for checkpointing. `timestamp` is the
    name of the directory, which need not have the form of one. `path` is relative to the tree, with
    the case that it has there. `layout` is 3, or 1 for the trees of v1.0.
    """

    division: Division
    org: str
    system: str
    family: Family
    model: str
    phase: str
    timestamp: str
    path: str
    layout: int = 3

    @property
    def workload(self) -> str:
        """The directory that holds all leaves of the model."""
        depth = 2 if self.phase else 1
        return self.path.rsplit("/", depth)[0]


def is_name(text: str) -> bool:
    """Whether a part of a path has the form that the rules ask for."""
    return NAME.fullmatch(text) is not None and text not in (".", "..")


def is_timestamp(text: str) -> bool:
    """Whether a name is YYYYMMDD_HHMMSS, of a time that there is."""
    found = TIME.fullmatch(text)
    if found is None:
        return False
    _, month, day, hour, minute, second = (int(part) for part in found.groups())
    return 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60


def division_of(text: str) -> Division | None:
    """The division that a directory's name stands for, in any case."""
    match text.lower():
        case "closed" | "open" | "whatif" | "unknown" as division:
            return division
        case _:
            return None


def family_of(text: str) -> Family | None:
    """The family that a directory's name stands for, in any case."""
    return _FAMILIES.get(text.lower())


def canonical_model(family: Family, text: str) -> str:
    """The name of a model or index in the case that the rules give it."""
    return next((name for name in MODELS[family] if name.lower() == text.lower()), text)


def leaf_path(leaf: Leaf, engine: str = "") -> str:
    """Where the v3.0 tree has a leaf; `engine` is that of vector search."""
    phase = [leaf.phase] if leaf.phase else []
    engines = [engine] if engine else []
    tail = [FAMILY_DIRECTORIES[leaf.family], *engines, leaf.model, *phase, leaf.timestamp]
    return "/".join([leaf.division, leaf.org, "results", leaf.system, *tail])


def leaf_of(parts: Sequence[str]) -> Leaf | None:
    """The leaf whose directory has these parts of a path, or which holds what has; else None."""
    division = division_of(parts[0]) if parts else None
    if division is None or len(parts) < 5 or parts[2].lower() != "results":
        return None
    family = family_of(parts[4])
    if family is None:
        return _legacy_leaf(division, parts)
    tail = _tail(family, parts[5:])
    if tail is None:
        return None
    model, phase, depth = tail
    if len(parts) < 6 + depth:
        return None
    return Leaf(
        division=division,
        org=parts[1],
        system=parts[3],
        family=family,
        model=canonical_model(family, model),
        phase=phase.lower(),
        timestamp=parts[5 + depth],
        path="/".join(parts[: 6 + depth]),
    )


def _tail(family: Family, rest: Sequence[str]) -> tuple[str, str, int] | None:
    """Model, phase, and how many parts stand between the family and the time."""
    if not rest:
        return None
    if family == "checkpointing":
        return rest[0], "", 1
    if len(rest) < 2:
        return None
    if family == "vectordb" and not is_phase(family, rest[1]):
        return (rest[1], rest[2], 3) if len(rest) > 2 and is_phase(family, rest[2]) else None
    return (rest[0], rest[1], 2) if is_phase(family, rest[1]) else None


def is_phase(family: Family, text: str) -> bool:
    """Whether a directory's name is a phase of a family, in any case."""
    return text.lower() in (*PHASES[family], *_OPTIONAL_PHASES.get(family, ()))


def _legacy_leaf(division: Division, parts: Sequence[str]) -> Leaf | None:
    """A run of v1.0: the first part run<n>, below a directory that is named for its workload."""
    for index in range(4, len(parts)):
        if _LEGACY_RUN.fullmatch(parts[index]):
            break
    else:
        return None
    between = [part for part in parts[3:index] if part.lower() not in ("runs", "run", "results")]
    workload = between[-1] if between else parts[index - 1]
    return Leaf(
        division=division,
        org=parts[1],
        system=between[0] if len(between) > 1 else "",
        family="training",
        model=workload.lower(),
        phase="run",
        timestamp=parts[index],
        path="/".join(parts[: index + 1]),
        layout=1,
    )


def workload_depth(parts: Sequence[str]) -> int | None:
    """How many parts of a path name the workload that it stands in; None outside of one.

    The leaves of v1.0 have their parent as workload.
    """
    division = division_of(parts[0]) if parts else None
    if division is None or len(parts) < 5 or parts[2].lower() != "results":
        return None
    family = family_of(parts[4])
    if family is None:
        legacy = _legacy_leaf(division, parts)
        return None if legacy is None else legacy.path.count("/")
    if len(parts) < 6:
        return None
    if family != "vectordb" or len(parts) < 7 or is_phase(family, parts[6]):
        # An index of vector search stands below its engine, where one is named.
        return None if family == "vectordb" and len(parts) < 7 else 6
    return 7


def place_of_root(parts: Sequence[str]) -> str:
    """The place in a tree of a directory that is verified on its own, by its absolute path.

    Empty where no parent is a division with a submitter in it, as the root of a tree.
    """
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() in DIVISIONS and (
            len(parts) == index + 2 or parts[index + 2].lower() in ("results", "systems")
        ):
            return "/".join(parts[index:])
    return ""
