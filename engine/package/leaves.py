"""The directories of runs that follow from one archive, with the files of v3.0. Pure.

A directory is named for the start of its first launch, in UTC, and one second later where the
one before it has that name already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from ..canonical import Document
from ..evidence import USABLE, Evidence
from ..plan import Launch
from ..training_metrics import training_of
from ..tree.layout import Division, Family, Leaf, leaf_path
from ..vector_metrics import does

STAMP = "%Y%m%d_%H%M%S"

# What the directory of Rules 6.3 is called although its third Option has another model.
SUITE_MODEL = "llama3.1-8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a tree the runs of an archive stand, and the code image that made them."""

    division: Division
    org: str
    system: str
    image: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One directory of a tree: its place, the launches it is of, when it began and ended."""

    leaf: Leaf
    launches: tuple[Launch, ...]
    started: datetime
    ended: datetime

    @property
    def stamp(self) -> str:
        return self.leaf.timestamp


def runs_of(evidence: Evidence, place: Place) -> list[Run]:
    """All directories of an archive whose stages have ended well, in the order of their launches.

    Empty for a family that v3.0 has no place for.
    """
    family = family_of(evidence)
    if family is None:
        return []
    runs: list[Run] = []
    model, engine = _model(evidence)
    for phase, launches in _phases(evidence, family):
        taken = {run.stamp for run in runs if run.leaf.phase == phase}
        started = _started(evidence, launches[0])
        named = started
        while named.strftime(STAMP) in taken:
            named += timedelta(seconds=1)
        leaf = Leaf(
            division=place.division,
            org=place.org,
            system=place.system,
            family=family,
            model=model,
            phase=phase,
            timestamp=named.strftime(STAMP),
            path="",
        )
        last = launches[-1]
        ended = _started(evidence, last) + timedelta(
            seconds=evidence.outcomes[last.name]["elapsed_s"]
        )
        leaf = replace(leaf, path=leaf_path(leaf, engine))
        runs.append(Run(leaf=leaf, launches=tuple(launches), started=started, ended=ended))
    return runs


def family_of(evidence: Evidence) -> Family | None:
    """The family as a tree has it; None for programs of others."""
    match evidence.spec.family:
        case "training" | "checkpointing" | "vectordb" | "kvcache" as family:
            return family
        case _:
            return None


def accelerator_of(evidence: Evidence) -> str:
    """The accelerator that the name of a training workload ends in; else empty."""
    _, _, name = evidence.spec.benchmark.rpartition("/")
    return name.rpartition("_")[2] if evidence.spec.family == "training" and "_" in name else ""


def _model(evidence: Evidence) -> tuple[str, str]:
    """Model or index, and the engine of vector search."""
    name = evidence.spec.benchmark.rpartition("/")[2]
    match evidence.spec.family:
        case "training":
            return name.rpartition("_")[0] or name, ""
        case "checkpointing":
            return name.removesuffix("_subset").replace("_", "-"), ""
        case "kvcache":
            official = evidence.spec.benchmark == "kvcache"
            return (SUITE_MODEL if official else evidence.spec.document["benchmark"]["model"]), ""
        case _:
            backend = next(
                (section["backend"] for result in evidence.results.values()
                 if (section := result.get("vectordb"))),
                {"index": name, "name": "unknown"},
            )  # fmt: skip
            return backend["index"], backend["name"]


def _phases(evidence: Evidence, family: Family) -> Iterator[tuple[str, Sequence[Launch]]]:
    """The phase and the launches of each directory."""
    ended = [launch for launch in evidence.plan.launches if _ended(evidence, launch)]
    match family:
        case "training":
            yield from _training(evidence.results, ended)
        case "vectordb":
            loads = [each for each in ended if does(evidence.results[each.name]) == "load"]
            yield from [("datagen", loads[:1])] if loads else []
            yield from (("run", [launch]) for launch in ended if launch.measured)
        case "checkpointing":
            measured = [launch for launch in ended if launch.measured]
            yield from [("", measured)] if measured else []
        case "kvcache":
            measured = [launch for launch in ended if launch.measured]
            yield from [("run", measured)] if measured else []


def _training(
    results: Mapping[str, Document], ended: Sequence[Launch]
) -> Iterator[tuple[str, Sequence[Launch]]]:
    makers = [launch for launch in ended if results[launch.name]["dataset"]]
    if makers:
        yield "datasize", makers[:1]
        yield "datagen", makers[:1]
    for launch in ended:
        if training_of(results[launch.name]) and (launch.measured or launch.stage == "warmup"):
            yield "run", [launch]


def _ended(evidence: Evidence, launch: Launch) -> bool:
    good = evidence.outcomes[launch.name]["status"] in USABLE
    return good and launch.name in evidence.results


def _started(evidence: Evidence, launch: Launch) -> datetime:
    return datetime.fromisoformat(evidence.outcomes[launch.name]["started_utc"])
