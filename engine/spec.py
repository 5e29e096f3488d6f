"""The frozen job: what the engine reads of a checked document, and the job's identity."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .canonical import Document, canonical_json, sha256_hex
from .cluster import Cluster, build_cluster
from .errors import ConfigError, Problem, problem_at
from .foreign import FAMILY as FOREIGN
from .foreign import foreign_problems
from .launcher import Launcher, build_launcher, launcher_problems

# Both MPIs of the tests carry 120 KB in one variable; beyond it a kernel limit is near.
MAX_JOB_ENV_BYTES = 100_000

# What the origin of a value begins with that was typed.
COMMAND_LINE = "command line"

# Keys of the composed root that steer a sweep and are no part of what a job does.
SWEEP_KEYS = ("fail_fast",)

When = Literal["success", "always", "never"]
Each = Literal["job", "option", "trial"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A step of a benchmark as its YAML declares it."""

    name: str
    each: Each
    measured: bool
    when: When
    undone_by: str | None
    time_limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """How the hosts are checked before anything is written; `skip` holds rule ids."""

    skip: tuple[str, ...]
    ssh_limit_s: float
    launch_limit_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """How hosts are asked for facts and samples; `interval_s` None: no samples are taken.

    `via` None: as the launcher reaches hosts. `python` None: that of the ranks.
    """

    interval_s: float | None
    via: Literal["ssh", "launcher"] | None
    python: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """What a submitter may change in this job: patterns of keys."""

    name: Literal["closed", "open", "whatif"]
    may_change: tuple[str, ...]
    any_workload: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One resolved job. `document` is all of it; the other fields are what the engine reads."""

    document: Document
    sha256: str
    benchmark: str
    family: str
    engine: str
    stages: tuple[Stage, ...]
    options: tuple[str, ...]
    option_delay_s: float
    silence_limit_s: float
    start_limit_s: float
    trials: int
    selected: tuple[str, ...] | None
    cluster: Cluster
    launcher: Launcher
    preflight: Preflight
    monitor: Monitor
    division: Division
    edition: str
    workloads: tuple[str, ...]
    data_dir: Path
    results_dir: Path
    lockfile: Path | None

    @property
    def canonical(self) -> bytes:
        """The bytes whose SHA-256 is the job's identity; job.json holds exactly these."""
        return canonical_json(self.document)

    @property
    def env_value(self) -> str:
        """The job as ranks receive it: canonical JSON, zlib, base64."""
        return base64.b64encode(zlib.compress(self.canonical, 9)).decode()


def build(values: Document, where: Mapping[str, str]) -> JobSpec:
    """The job of schema-checked values.

    Raises ConfigError with every problem that only shows between keys: more ranks than slots,
    unknown stages, a launcher that cannot start several ranks, a job too large for its variable.
    """
    document = {key: value for key, value in values.items() if key not in SWEEP_KEYS}
    problems = [
        problem_at(
            key, "is no finite number", where, hint="quote it where it is a word: 'k=\"nan\"'"
        )
        for key in _not_finite(document)
    ]
    if problems:
        raise ConfigError.of(problems)
    cluster = build_cluster(document, where, problems)
    stages = _stages(document["benchmark"], where, problems)
    spec = _job(document, stages, cluster)
    problems += _selection_problems(spec, where)
    problems += _without_effect(document["benchmark"], where)
    if spec.family == FOREIGN:
        problems += foreign_problems(document, cluster.hosts, where)
    problems += launcher_problems(spec.launcher, cluster, where)
    if len(spec.env_value) > MAX_JOB_ENV_BYTES:
        text = f"the job takes {len(spec.env_value)} bytes, the limit is {MAX_JOB_ENV_BYTES}"
        hint = "write host lists as ranges: 'cluster.hosts=[\"node[001-128]\"]'"
        problems.append(Problem(key="", text=text, hint=hint))
    if problems:
        raise ConfigError.of(problems)
    return spec


def _not_finite(value: object, key: str = "") -> Iterator[str]:
    """Keys of numbers that JSON does not have: a job with one would have no identity."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key
    elif isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, below in pairs:
            yield from _not_finite(below, f"{key}.{name}" if key else str(name))


def _may_change(division: Document, benchmark: Document) -> tuple[str, ...]:
    own = division["may_change_in"]
    names = (benchmark["family"], benchmark["name"])
    return (*division["may_change"], *(key for name in names for key in own.get(name, ())))


def _workloads(edition: Document, division: str) -> tuple[str, ...]:
    """Benchmarks that the edition scores in a division."""
    return (*edition["workloads"], *(edition["workloads_open"] if division == "open" else ()))


def _job(document: Document, stages: tuple[Stage, ...], cluster: Cluster) -> JobSpec:
    benchmark = document["benchmark"]
    division = document["division"]
    selected, lockfile = document["stages"], document["lockfile"]
    return JobSpec(
        document=document,
        sha256=sha256_hex(canonical_json(document)),
        benchmark=benchmark["name"],
        family=benchmark["family"],
        engine=benchmark["engine"],
        stages=stages,
        options=tuple(option["name"] for option in benchmark["options"]),
        option_delay_s=benchmark["option_delay_s"],
        silence_limit_s=benchmark["silence_limit_s"],
        start_limit_s=benchmark["start_limit_s"],
        trials=document["trials"],
        selected=None if selected is None else tuple(selected),
        cluster=cluster,
        launcher=build_launcher(document["launcher"]),
        preflight=Preflight(
            skip=tuple(document["preflight"]["skip"]),
            ssh_limit_s=document["preflight"]["ssh_limit_s"],
            launch_limit_s=document["preflight"]["launch_limit_s"],
        ),
        monitor=Monitor(
            interval_s=document["monitor"]["interval_s"],
            via=document["monitor"]["via"],
            python=document["monitor"]["python"],
        ),
        division=Division(
            name=division["name"],
            may_change=_may_change(division, benchmark),
            any_workload=division["any_workload"],
        ),
        edition=document["edition"]["name"],
        workloads=_workloads(document["edition"], division["name"]),
        data_dir=Path(document["data_dir"]),
        results_dir=Path(document["results_dir"]),
        lockfile=None if lockfile is None else Path(lockfile),
    )


def _stages(
    benchmark: Document, where: Mapping[str, str], problems: list[Problem]
) -> tuple[Stage, ...]:
    stages = tuple(
        Stage(
            name=item["name"],
            each=item["each"],
            measured=item.get("measured", False),
            when=_when(benchmark, item, where, problems),
            undone_by=_undone_by(benchmark, item, where, problems),
            time_limit_s=item.get("time_limit_s", benchmark["time_limit_s"]),
        )
        for item in benchmark["stages"]
    )
    names = [stage.name for stage in stages]
    for index, stage in enumerate(stages):
        if stage.name in names[:index]:
            text = f"stage {stage.name} is declared twice"
            problems.append(problem_at("benchmark.stages", text, where))
        if stage.undone_by is not None and stage.undone_by not in names:
            text = f"stage {stage.name} is undone by {stage.undone_by}, which is no stage"
            problems.append(problem_at("benchmark.stages", text, where))
    options = [option["name"] for option in benchmark["options"]]
    if len(set(options)) < len(options):
        problems.append(problem_at("benchmark.options", "two options have one name", where))
    return stages


def _when(
    benchmark: Document, item: Document, where: Mapping[str, str], problems: list[Problem]
) -> When:
    """When a stage runs: never where the number that it is for is 0."""
    when: When = item.get("when", "success")
    key = item.get("if_any")
    if key is None:
        return when
    count = benchmark.get(key)
    if isinstance(count, bool) or not isinstance(count, int | float):
        text = (
            f"stage {item['name']} is left out where {key} is 0, but benchmark.{key} is no number"
        )
        problems.append(problem_at("benchmark.stages", text, where))
    return when if count else "never"


def _undone_by(
    benchmark: Document, item: Document, where: Mapping[str, str], problems: list[Problem]
) -> str | None:
    """Who removes what a stage makes: nobody where the key is set that it is kept with."""
    undone_by: str | None = item.get("undone_by")
    key = item.get("kept_with")
    if key is None:
        return undone_by
    if key not in benchmark:
        text = (
            f"what stage {item['name']} makes is kept with {key}, but there is no benchmark.{key}"
        )
        problems.append(problem_at("benchmark.stages", text, where))
    return undone_by if benchmark.get(key) is None else None


def _selection_problems(spec: JobSpec, where: Mapping[str, str]) -> list[Problem]:
    names = [stage.name for stage in spec.stages]
    return [
        problem_at("stages", f"{name} is no stage; there are: {', '.join(names)}", where)
        for name in spec.selected or ()
        if name not in names
    ]


def _without_effect(benchmark: Document, where: Mapping[str, str]) -> list[Problem]:
    """Keys that the command line sets and every option of the benchmark sets again."""
    options = benchmark["options"]
    typed = [
        key.split(".")
        for key, origin in where.items()
        if key.startswith("benchmark.") and origin.startswith(COMMAND_LINE)
    ]
    names = ", ".join(option["name"] for option in options)
    return [
        problem_at(
            ".".join(parts),
            f"has no effect: {names} set it again",
            where,
            hint="'benchmark.options=[]' runs the benchmark once, without its options",
        )
        for parts in typed
        if options and all(_sets(option["set"], parts[1:]) for option in options)
    ]


def _sets(changes: Document, parts: list[str]) -> bool:
    value: object = changes
    for part in parts:
        if not isinstance(value, dict):
            return True  # replaced as a whole
        if part not in value:
            return False
        value = value[part]
    return True
