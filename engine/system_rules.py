"""Whether a description of a system under test is whole and agrees with itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .canonical import Document
from .rulebook import Rule, Severity
from .rules import Finding
from .schema import Schema, check_system, load_schema
from .system_file import ROOT, read_system
from .system_power import footprint

SYSTEM_RULES: Mapping[str, Rule] = {
    "SYS-01": Rule(
        text="on premises every product node has its rack units",
        phase="package", covers=("9.2/1",),
    ),
    "SYS-02": Rule(
        text="on premises every product node has its power supplies",
        phase="package", covers=("9.2/2",),
    ),
    "SYS-03": Rule(
        text="on premises every client has its rack units", phase="package", covers=("9.2/3",)
    ),
    "SYS-04": Rule(
        text="on premises every client has its power supplies", phase="package", covers=("9.2/4",)
    ),
    "SYS-05": Rule(
        text="on premises the rack units of the whole are given", phase="package", covers=("9.2/5",)
    ),
    "SYS-06": Rule(
        text="on premises every switch has its rack units and power supplies",
        phase="package", covers=("9.2/6",),
    ),
    "SYS-07": Rule(text="a cloud has no switches", phase="package", covers=("9.2/7",)),
    "SYS-08": Rule(
        text="a cloud has no power supplies of racks", phase="package", covers=("9.2/8",)
    ),
    "SYS-09": Rule(text="a cloud has no rack units", phase="package", covers=("9.2/9",)),
    "SYS-10": Rule(text="a cloud has no power supplies", phase="package", covers=("9.2/10",)),
    "SYS-11": Rule(
        text="the rack units of the whole are the sum of product nodes and switches",
        phase="package", covers=("9.2/11",),
    ),
    "SYS-12": Rule(
        text="no more power supplies must be active than there are",
        phase="package", covers=("9.2/12",),
    ),
    "SYS-13": Rule(
        text="the time to remap is 0 exactly where hosts read and write at the same time",
        phase="package", covers=("9.2/13",),
    ),
    "SYS-14": Rule(
        text="footprint and installation on clients are both n/a, or neither is",
        phase="package", covers=("9.2/14",),
    ),
    "SYS-15": Rule(
        text="product nodes of remote storage have a network", phase="package", covers=("9.2/15",)
    ),
    "SYS-16": Rule(
        text="clients of remote storage have a network", phase="package", covers=("9.2/16",)
    ),
    "SYS-17": Rule(text="local storage has no switches", phase="package", covers=("9.2/17",)),
    "SYS-18": Rule(
        text="a description has the form that the edition asks for, and every field of it",
        phase="package", covers=("4.7.3", "4.7.4"),
    ),
    "SYS-19": Rule(text="no field is left blank", phase="package"),
    "SYS-20": Rule(
        text="words to choose from are written as the edition writes them",
        phase="package", severity="info",
    ),
    "SYS-21": Rule(
        text="the power supplies are those of chassis, not of racks alone",
        phase="package", severity="warning",
    ),
    "SYS-22": Rule(
        text="the description is named as the system is", phase="package", covers=("2.1.8",)
    ),
    "SYS-23": Rule(
        text="usable capacity and availability, which reviewers ask for, are given",
        phase="package", severity="warning",
    ),
    "SYS-24": Rule(
        text="the number of clients is that of the hosts that ran", phase="run", covers=("2.1.9",)
    ),
    "SYS-25": Rule(
        text="hosts have the memory of the clients that are described, within 10 %",
        phase="run",
    ),
    "SYS-26": Rule(
        text="a system for one host is run on one host", phase="run", covers=("3.3.4",)
    ),
    "SYS-27": Rule(
        text="the clients that are described are what the hosts say of themselves",
        phase="run", severity="warning",
    ),
    "SYS-28": Rule(
        text="the machines that are remote storage are described",
        phase="package", severity="warning",
    ),
}  # fmt: skip

# Fields of a chassis that hardware of no usual kind may leave null.
_CUSTOM = ("cpu_model", "cpu_qty", "cpu_cores", "memory_capacity")


def judge_system(
    description: Document, *, name: str | None = None, where: Mapping[str, str] | None = None
) -> list[Finding]:
    """All findings about a description. `name`: what the system is called elsewhere.

    `where` says of a dotted key in which file and line it stands. Rules that compare fields are
    judged once the description has its form.
    """
    places = where or {}
    written, spellings = normalised(description)
    filled, blank = _without_blanks(written)
    problems = [
        problem
        for problem in check_system(filled, {})
        if not any(key == problem.key or key.startswith(f"{problem.key}.") for key in blank)
    ]
    findings = [
        _finding("SYS-20", key, f"{old!r} is read as {new!r}", severity="info")
        for key, (old, new) in spellings.items()
    ]
    findings += [_finding("SYS-19", key, "is left blank") for key in blank]
    findings += [
        _finding("SYS-18", problem.key, problem.text, hint=problem.hint) for problem in problems
    ]
    if not problems and not blank:
        findings += _judge_fields(filled[ROOT], name)
    return [_placed(finding, places) for finding in findings]


def judge_file(path: Path, name: str) -> list[Finding]:
    """All findings about a description in a tree of results; `name` is its path there.

    Raises ArchiveError where the file cannot be read.
    """
    found = read_system(path)
    lines = {key: f"line {place.rpartition(':')[2]}" for key, place in found.where.items()}
    findings = judge_system(found.description, name=path.stem, where=lines)
    return [replace(each, key=f"{name} {each.key}") for each in findings]


def _finding(
    rule: str, key: str, text: str, *, severity: Severity = "error", hint: str | None = None
) -> Finding:
    return Finding(rule=rule, severity=severity, key=key, text=text, hint=hint)


def _placed(finding: Finding, where: Mapping[str, str]) -> Finding:
    """The finding with the place of its key, or of the nearest part above it."""
    parts = finding.key.split(".")
    for length in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:length])) in where:
            return replace(finding, text=f"{finding.text} ({where[prefix]})")
    return finding


# ---------------------------------------------------------------- form


def normalised(description: Document) -> tuple[Document, dict[str, tuple[str, str]]]:
    """The description with words to choose from as the schema writes them, and what was changed."""
    changed: dict[str, tuple[str, str]] = {}
    schema = load_schema("system")
    return _normalised(description, schema, schema["$defs"], (), changed), changed


def _normalised(
    value: Any,  # noqa: ANN401 - any part of a document
    schema: Schema,
    definitions: Mapping[str, Schema],
    path: tuple[str, ...],
    changed: dict[str, tuple[str, str]],
) -> Any:  # noqa: ANN401 - as above
    if "$ref" in schema:
        schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        return {
            key: _normalised(part, parts.get(key, {}), definitions, (*path, str(key)), changed)
            for key, part in value.items()
        }
    if isinstance(value, list):
        items = schema.get("items", {})
        return [
            _normalised(part, items, definitions, (*path, str(index)), changed)
            for index, part in enumerate(value)
        ]
    if isinstance(value, str) and value not in schema.get("enum", [value]):
        word = next((word for word in schema["enum"] if word.lower() == value.lower()), value)
        if word != value:
            changed[".".join(path)] = (value, word)
        return word
    return value


def _without_blanks(description: Document) -> tuple[Document, list[str]]:
    """The description without fields that are null or empty text, and the keys of these."""
    blank: list[str] = []

    def filled(value: Any, path: tuple[str, ...], custom: bool) -> Any:  # noqa: ANN401 - as above
        if isinstance(value, list):
            return [filled(part, (*path, str(i)), custom) for i, part in enumerate(value)]
        if not isinstance(value, dict):
            return value
        custom = custom or value.get("custom_hardware") is True
        found: Document = {}
        for key, part in value.items():
            if part is None and custom and key in _CUSTOM:
                found[key] = part
            elif part is None or part == "":
                blank.append(".".join((*path, str(key))))
            else:
                found[key] = filled(part, (*path, str(key)), custom)
        return found

    document: Document = filled(description, (), False)
    return document, blank


# ---------------------------------------------------------------- fields against each other


def _judge_fields(system: Document, name: str | None) -> Iterator[Finding]:
    if system["deployment"] == "onprem":
        yield from _judge_premises(system)
    else:
        yield from _judge_cloud(system)
    yield from _judge_supplies(system)
    yield from _judge_solution(system["solution"], name)
    yield from _judge_networks(system)


def _nodes(system: Document, kind: str) -> Sequence[tuple[str, Document]]:
    """Nodes of a kind with their keys."""
    return [(f"{ROOT}.{kind}.{i}", node) for i, node in enumerate(system.get(kind, []))]


def _judge_premises(system: Document) -> Iterator[Finding]:
    racks = bool(system.get("rack_power_supplies"))
    for kind, units, power in (
        ("product_nodes", "SYS-01", "SYS-02"),
        ("clients", "SYS-03", "SYS-04"),
    ):
        for key, node in _nodes(system, kind):
            if "rack_units" not in node["chassis"]:
                yield _finding(units, f"{key}.chassis.rack_units", "missing on premises")
            if "power" not in node["chassis"]:
                yield _no_power(power, f"{key}.chassis.power", racks)
    for key, switch in _nodes(system, "product_switches"):
        if "rack_units" not in switch:
            yield _finding("SYS-06", f"{key}.rack_units", "missing on premises")
        if "power" not in switch:
            yield _no_power("SYS-06", f"{key}.power", racks)
    total, counted = system.get("total_rack_units"), footprint(system).rack_units
    if total is None:
        hint = None if counted is None else f"the parts have {counted}"
        yield _finding("SYS-05", f"{ROOT}.total_rack_units", "missing on premises", hint=hint)
    elif counted is not None and total != counted:
        text = f"{total}, but product nodes and switches have {counted}; clients do not count"
        yield _finding("SYS-11", f"{ROOT}.total_rack_units", text)


def _no_power(rule: str, key: str, racks: bool) -> Finding:
    """Power supplies of racks are taken in their place, as the schema's own text says."""
    if racks:
        text = "missing: rack_power_supplies are taken in its place, which upstream's check refuses"
        return _finding("SYS-21", key, text, severity="warning")
    return _finding(rule, key, "missing on premises")


def _judge_cloud(system: Document) -> Iterator[Finding]:
    if system.get("product_switches"):
        yield _finding("SYS-07", f"{ROOT}.product_switches", "in a cloud there are none to see")
    if system.get("rack_power_supplies"):
        yield _finding("SYS-08", f"{ROOT}.rack_power_supplies", "in a cloud there are none to see")
    if "total_rack_units" in system:
        yield _finding("SYS-09", f"{ROOT}.total_rack_units", "a cloud has none")
    for kind in ("product_nodes", "clients"):
        for key, node in _nodes(system, kind):
            if "rack_units" in node["chassis"]:
                yield _finding("SYS-09", f"{key}.chassis.rack_units", "a cloud has none")
            if "power" in node["chassis"]:
                yield _finding("SYS-10", f"{key}.chassis.power", "a cloud has none")


def _judge_supplies(system: Document) -> Iterator[Finding]:
    parts = [
        (f"{key}.chassis.power", node["chassis"].get("power"))
        for kind in ("product_nodes", "clients")
        for key, node in _nodes(system, kind)
    ]
    parts += [
        (f"{key}.power", switch.get("power")) for key, switch in _nodes(system, "product_switches")
    ]
    parts += list(_nodes(system, "rack_power_supplies"))
    for key, power in parts:
        if power is None:
            continue
        installed = sum(each["unit_count"] for each in power["psus_configured"])
        if power["min_psus_active"] > installed:
            text = f"{power['min_psus_active']}, but {installed} are configured"
            yield _finding("SYS-12", f"{key}.min_psus_active", text)


def _judge_solution(solution: Document, name: str | None) -> Iterator[Finding]:
    key = f"{ROOT}.solution"
    able = solution["capabilities"]
    both = able["simultaneous_read"] and able["simultaneous_write"]
    remap_s = able["remap_time_in_seconds"]
    if both != (remap_s == 0):
        text = (
            f"{remap_s}, but hosts read and write at the same time: expected 0"
            if both
            else "0, but hosts do not both read and write at the same time: expected the time"
        )
        yield _finding("SYS-13", f"{key}.capabilities.remap_time_in_seconds", text)
    form = solution["architecture"]
    parts = (form["client_footprint"], form["client_installation"])
    if (parts[0] == "n/a") != (parts[1] == "n/a"):
        text = f"client_footprint is {parts[0]}, client_installation is {parts[1]}"
        yield _finding("SYS-14", f"{key}.architecture.client_installation", text)
    if name is not None and solution["submission_name"] != name:
        text = f"{solution['submission_name']!r}, but the system is called {name!r}"
        yield _finding("SYS-22", f"{key}.submission_name", text)
    for field in ("usable_capacity_tib", "availability"):
        if field not in solution:
            yield _finding("SYS-23", f"{key}.{field}", "missing", severity="warning")


def _no_storage(location: str, deployment: str) -> Finding:
    """The edition lets product nodes out, but only a provider's service has none to describe."""
    if deployment == "onprem":
        text = f"missing: storage is {location}, so that its rack units and power count for nothing"
        return _finding("SYS-28", f"{ROOT}.product_nodes", text, severity="warning")
    text = f"missing: storage is {location}; right only where all of it is the provider's service"
    return _finding("SYS-28", f"{ROOT}.product_nodes", text, severity="info")


def _judge_networks(system: Document) -> Iterator[Finding]:
    location = system["solution"]["architecture"]["storage_location"]
    if location == "local":
        if system.get("product_switches"):
            yield _finding("SYS-17", f"{ROOT}.product_switches", "storage is local")
        return
    if not system.get("product_nodes"):
        yield _no_storage(location, system["deployment"])
    for kind, rule in (("product_nodes", "SYS-15"), ("clients", "SYS-16")):
        for key, node in _nodes(system, kind):
            if not node.get("networking"):
                yield _finding(rule, f"{key}.networking", f"missing: storage is {location}")
