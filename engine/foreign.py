"""What a benchmark of the family `external` declares: what is started, and what it leaves. Pure.

A foreign program is its argv as a list, with references into the job; there is no shell, and
nothing of the YAML is code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

from . import references
from .archive import to_yaml
from .canonical import Document, pretty_json
from .errors import Problem, problem_at
from .hosts import Host
from .json_path import Step, parse_path
from .quantities import factor
from .references import Scope, Text
from .variants import benchmark_of, merged

FAMILY = "external"
ENGINE = "external"

# The stage that removes the job's directory. mlps does that itself.
CLEANUP = "cleanup"

# The word for what a process writes on standard output, instead of the path of a file.
STDOUT = "stdout"

# Begin of names of metrics that mlps adds itself.
OWN_METRICS = "program_"

Start = Literal["rank", "host", "one"]
Reduction = Literal["one", "sum", "mean", "max", "min", "last"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number in what a program leaves: where it stands, its unit, what is made of several."""

    name: str
    output: str
    path: tuple[Step, ...] | None
    pattern: re.Pattern[str] | None
    factor: Fraction
    matches: Reduction
    processes: Reduction
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a stage starts, with the values of one job filled in."""

    start: Start
    argv: tuple[Text, ...]
    environment: Mapping[str, Text]
    files: Mapping[str, bytes]
    outputs: Mapping[str, Text]
    metrics: tuple[Metric, ...]

    def as_document(self) -> Document:
        """What a plan shows of it; what only a process knows stands in braces."""
        environment = {name: references.shown(text) for name, text in self.environment.items()}
        return {
            "start": self.start,
            "argv": [references.shown(word) for word in self.argv],
            "environment": environment,
            "files": {name: data.decode().splitlines() for name, data in self.files.items()},
            "outputs": {name: references.shown(text) for name, text in self.outputs.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a stage works. What is planned has no directories yet: their names stand for them."""

    run_dir: str = "{run_dir}"
    stage_dir: str = "{stage_dir}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """Which stage of which variant is started, and on which hosts the job runs."""

    stage: str
    option: str | None
    trial: int | None
    hosts: tuple[Host, ...]
    place: Place = field(default_factory=Place)


def start_hosts(document: Document, launched: Launched) -> tuple[Host, ...]:
    """The hosts of a stage with the number of its processes on each."""
    commands = benchmark_of(document, launched.option)["commands"]
    start = commands[launched.stage].get("start", "rank") if launched.stage in commands else "one"
    if start == "rank":
        return launched.hosts
    chosen = launched.hosts if start == "host" else launched.hosts[:1]
    return tuple(replace(host, ranks=1) for host in chosen)


def command_of(document: Document, launched: Launched) -> Command | None:
    """What a stage starts; None for the one that cleans up. Raises ValueError."""
    benchmark = benchmark_of(document, launched.option)
    if launched.stage == CLEANUP and CLEANUP not in benchmark["commands"]:
        return None
    values = benchmark["commands"][launched.stage]
    scope = _scope(document, benchmark, launched)
    environment, outputs, metrics, files = (
        sorted(part.items())
        for part in (
            values.get("environment", {}),
            values.get("outputs", {}),
            values.get("metrics", {}),
            benchmark["files"],
        )
    )
    return Command(
        start=values.get("start", "rank"),
        argv=tuple(references.fill_words(values["argv"], scope)),
        environment={name: references.fill_text(text, scope) for name, text in environment},
        files={name: render_file(form, scope) for name, form in files},
        outputs={name: references.fill_text(text, scope) for name, text in outputs},
        metrics=tuple(metric_of(name, entry) for name, entry in metrics),
    )


def metric_of(name: str, values: Document) -> Metric:
    """A metric of its YAML. Raises ValueError."""
    path, pattern = values.get("json"), values.get("regex")
    if (path is None) == (pattern is None):
        raise ValueError(f"metric {name} needs either json or regex")
    if name.startswith(OWN_METRICS):
        raise ValueError(f"metric {name}: names that begin with {OWN_METRICS} are those of mlps")
    try:
        compiled = None if pattern is None else re.compile(pattern, re.MULTILINE)
        steps = None if path is None else parse_path(path)
        scale = factor(values["unit"], name)
    except (ValueError, re.error) as error:
        raise ValueError(f"metric {name}: {error}") from error
    if compiled is not None and compiled.groups != 1:
        raise ValueError(f"metric {name}: its regex has {compiled.groups} groups, one is needed")
    return Metric(
        name=name,
        output=values["output"],
        path=steps,
        pattern=compiled,
        factor=scale,
        matches=values.get("matches", "one"),
        processes=values.get("processes", "one"),
        optional=values.get("optional", False),
    )


def render_file(values: Document, scope: Scope) -> bytes:
    """A working file. Raises ValueError."""
    form, content = values["form"], references.fill_value(values["content"], scope)
    if form == "yaml":
        return to_yaml(content)
    if form == "json":
        return pretty_json(content)
    if form == "ini":
        return _ini(content).encode()
    lines = content if isinstance(content, list) else [content]
    return "".join(f"{line}\n" for line in lines).encode()


def _ini(content: object) -> str:
    """Sections of a mapping, or of a list of mappings where their order counts."""
    sections: list[tuple[object, object]] = []
    for part in content if isinstance(content, list) else [content]:
        if not isinstance(part, Mapping):
            raise ValueError("an ini file needs a mapping of sections, or a list of these")
        sections += part.items()
    blocks = []
    for section, keys in sections:
        if not isinstance(keys, Mapping):
            raise ValueError(f"section {section} of an ini file needs a mapping")
        lines = [line for key, value in keys.items() for line in _ini_lines(str(key), value)]
        blocks.append("".join(f"{line}\n" for line in [f"[{section}]", *lines]))
    return "\n".join(blocks)


def _ini_lines(key: str, value: object) -> Iterator[str]:
    """A key's lines: none for null, several for a list; true and false are 1 and 0."""
    if isinstance(value, list):
        for each in value:
            yield from _ini_lines(key, each)
    elif isinstance(value, Mapping):
        raise ValueError(f"key {key} of an ini file has a mapping")
    elif value is not None:
        text = str(int(value)) if isinstance(value, bool) else str(value)
        if "\n" in f"{key}{text}":
            raise ValueError(f"key {key} of an ini file has more than one line")
        yield f"{key}={text}"


def _scope(document: Document, benchmark: Document, launched: Launched) -> Scope:
    """All that a reference can name, but for `rank` and `host`, which processes know."""
    hosts = launched.hosts
    return {
        "data_dir": document["data_dir"],
        "seed": document["seed"],
        "trials": document["trials"],
        "run_dir": launched.place.run_dir,
        "stage_dir": launched.place.stage_dir,
        "stage": launched.stage,
        "option": launched.option or "",
        "trial": launched.trial or 0,
        "ranks": sum(host.ranks for host in hosts),
        "ranks_per_host": hosts[0].ranks,
        "hosts": [host.name for host in hosts],
        "host_count": len(hosts),
        "processes": sum(host.ranks for host in start_hosts(document, launched)),
        "benchmark": benchmark,
    }


# ---------------------------------------------------------------- what is wrong with it


def foreign_problems(
    document: Document, hosts: tuple[Host, ...], where: Mapping[str, str]
) -> list[Problem]:
    """All that only shows between the keys of a benchmark of this family."""
    benchmark = document["benchmark"]
    stages, commands = [stage["name"] for stage in benchmark["stages"]], benchmark["commands"]
    found = [
        *(
            (f"benchmark.commands.{name}", "there is no stage of this name")
            for name in commands
            if name not in stages
        ),
        *(
            ("benchmark.stages", f"stage {name} has no entry in benchmark.commands")
            for name in stages
            if name not in commands and name != CLEANUP
        ),
    ]
    if CLEANUP in commands:
        found.append((f"benchmark.commands.{CLEANUP}", "mlps itself removes the job's directory"))
    if benchmark["engine"] != ENGINE:
        found.append(("benchmark.engine", f"benchmarks of family {FAMILY} need {ENGINE}"))
    names: list[str | None] = [option["name"] for option in benchmark["options"]]
    if not found:
        found += dict.fromkeys(
            (f"benchmark.commands.{stage}", text)
            for option in names or [None]
            for stage in stages
            if stage in commands
            for text in _flaws(document, Launched(stage=stage, option=option, trial=0, hosts=hosts))
        )
    if not found:
        found += _unused(benchmark)
    return [problem_at(key, text, where) for key, text in found]


def _flaws(document: Document, launched: Launched) -> Iterator[str]:
    try:
        command = command_of(document, launched)
    except ValueError as error:
        yield str(error)
        return
    if command is None:
        return
    for metric in command.metrics:
        if metric.output not in command.outputs:
            yield f"metric {metric.name}: {metric.output} is no output of the stage"
    for name in command.files:
        if any(part in ("", ".", "..") for part in name.split("/")) or name.startswith("stages/"):
            yield f"file {name} would not be in the job's directory, beside its stages"


def _unused(benchmark: Document) -> Iterator[tuple[str, str]]:
    """Settings that nothing refers to: whoever sets one would believe that it has an effect."""
    parts = (benchmark["commands"], benchmark["files"])
    try:
        names = {name for part in parts for name in references.names_in(part)}
    except ValueError:
        return  # told where it stands
    used = [name.removeprefix("benchmark.").split(".") for name in names]
    settings: Document = {"settings": benchmark["settings"]}
    for option in benchmark["options"]:
        settings = merged(settings, {"settings": option["set"].get("settings", {})})
    for keys in _leaves(settings):
        if not any(_covers(name, keys) for name in used):
            yield f"benchmark.{'.'.join(keys)}", "has no effect: nothing refers to it"


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        elif value != {}:
            yield (*above, key)


def _covers(name: Sequence[str], keys: Sequence[str]) -> bool:
    return list(keys[: len(name)]) == list(name)
