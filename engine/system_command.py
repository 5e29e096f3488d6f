"""`mlps system init` and `mlps system check`."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import archive as files
from .arguments import Parser, print_json
from .canonical import Document
from .commands import ask_cluster
from .compose import parse_overrides
from .errors import ArchiveError, ConfigError
from .evidence import read_hosts_file
from .host_documents import HostFacts
from .options import find_options
from .plain_files import located_yaml
from .rules import Finding, errors
from .schema import Schema, describe, load_schema
from .system_clients import client_drift, clients_of, judge_clients
from .system_file import ROOT, read_system
from .system_power import footprint
from .system_rules import judge_system, normalised
from .tables import numbered

# Also the name of a directory of results and of its description (Rules 2.1.8).
_NAME_LIMIT = 128
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{_NAME_LIMIT - 1}}}")
_INIT = "mlps system init mysystem"

_HEAD = """\
# {name}, the system under test: fill in what is null, and take out what does not hold.
"""


def system(arguments: Sequence[str], *, config_dirs: Sequence[Path], as_json: bool) -> int:
    """`mlps system init NAME` or `mlps system check FILE`."""
    options, overrides = _parse(arguments)
    if options.word == "check":
        if overrides:
            raise ConfigError(f"mlps system check: {overrides[0]!r} is not wanted here")
        return _check(options.file, options.against, as_json=as_json)
    if as_json:
        raise ConfigError("mlps system init: --json has no effect, it writes a file")
    return _init(options, overrides, config_dirs)


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = Parser(
        prog="mlps system",
        description="Describes the system under test, and judges its description.",
        allow_abbrev=False,
    )
    words = parser.add_subparsers(dest="word", required=True, metavar="init|check")
    init = words.add_parser(
        "init", help="a skeleton with the facts of the hosts", allow_abbrev=False
    )
    init.add_argument("name", metavar="NAME", help="the system's name")
    init.add_argument("--out", type=Path, help="the file to write; conf/system/NAME.yaml")
    init.add_argument("--from", dest="source", type=Path, metavar="ARCHIVE", help="whose hosts")
    init.add_argument("--deployment", choices=("onprem", "cloud"), default="onprem")
    check = words.add_parser(
        "check", help="all that is wrong with a description", allow_abbrev=False
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument("--against", type=Path, metavar="ARCHIVE", help="compare with its hosts")
    overrides = [word for word in arguments if "=" in word and not word.startswith("-")]
    options = parser.parse_args([word for word in arguments if word not in overrides])
    return options, overrides


# ---------------------------------------------------------------- check


def _check(path: Path, against: Path | None, *, as_json: bool) -> int:
    try:
        found = read_system(path)
    except ArchiveError as error:
        # What somebody writes is configuration, not evidence of a run.
        raise ConfigError(error.message, hint=error.hint) from error
    findings = judge_system(found.description, name=found.option, where=found.where)
    has_form = not any(each.rule in ("SYS-18", "SYS-19") for each in findings)
    description = normalised(found.description)[0]
    hosts = None if against is None else _hosts_of(against)
    drift: list[str] = []
    if hosts is not None and has_form:
        findings += judge_clients(description, hosts)
        drift = client_drift(description[ROOT]["clients"], hosts)
    size = footprint(description[ROOT]) if has_form else None
    if as_json:
        print_json(
            {
                "path": str(path),
                "findings": [each.as_document() for each in findings],
                "footprint": None if size is None else size.as_document(),
                "drift": drift,
            }
        )
    else:
        _write_check(path, findings, drift)
        if size is not None and description[ROOT]["deployment"] == "onprem":
            units = "unknown" if size.rack_units is None else f"{size.rack_units} U"
            power = "unknown" if size.power_w is None else f"{size.power_w:,.0f} W"
            sys.stdout.write(f"product nodes and switches: {units}, {power} on their nameplates\n")
    return 7 if errors(findings) else 0


def _write_check(path: Path, findings: Sequence[Finding], drift: Sequence[str]) -> None:
    out = sys.stdout
    counts = ", ".join(
        numbered(count, word)
        for kind, word in (("error", "error"), ("warning", "warning"), ("info", "remark"))
        if (count := sum(1 for each in findings if each.severity == kind))
    )
    out.write(f"{path}: {counts or 'no flaws'}\n")
    out.writelines(f"  {finding}\n" for finding in findings)
    out.writelines(f"  {line}\n" for line in drift)


def _hosts_of(path: Path) -> HostFacts:
    return read_hosts_file(files.open_archive(path), files.HOSTS_START)


# ---------------------------------------------------------------- init


def _init(options: argparse.Namespace, overrides: Sequence[str], dirs: Sequence[Path]) -> int:
    _refuse_name(options.name)
    target = options.out or Path("conf/system") / f"{options.name}.yaml"
    if os.path.lexists(target):
        raise ConfigError(f"{target} exists, and is not written over", hint="--out FILE")
    if options.source is not None:
        hosts = _hosts_of(options.source)
    else:
        hosts, _ = ask_cluster(overrides, dirs)
    if not hosts.facts:
        raise ArchiveError("no host states its facts", hint="mlps facts says why")
    description = {ROOT: _skeleton(options.name, options.deployment, hosts)}
    option = {"name": options.name, "file": None, "description": description}
    text = _HEAD.format(name=options.name) + files.to_yaml(option, in_order=True).decode()
    blank = list(_blank_lines(text))
    lines = text.splitlines()
    for number, _, expected in blank:
        lines[number - 1] += f"  # {expected}" if expected else ""
    try:
        files.write_new(target, "\n".join([*lines, ""]).encode())
    except ArchiveError as error:
        hint = "--out FILE, in a directory that can be written to"
        raise ConfigError(error.message, hint=hint) from error
    for _, key, expected in blank:
        sys.stderr.write(f"to be filled in: {key}: {expected}\n")
    sys.stderr.write(
        f"{len(blank)} fields of {target} are left; then: mlps system check {target}\n"
    )
    return 0


def _refuse_name(name: str) -> None:
    """Refuse what is no file's name without its ending, and what `system=NAME` cannot choose."""
    wrong = None
    if not _NAME.fullmatch(name):
        wrong = "expected letters, digits, '.', '_' and '-', the first a letter or a digit, "
        wrong += f"at most {_NAME_LIMIT} of them"
    elif name.endswith(".yaml"):
        wrong = "expected a name without its ending"
    elif not isinstance(parse_overrides([f"system.name={name}"], multirun=False)[0].value(), str):
        wrong = f"system={name} would be read as a number, a truth value or null, not as a name"
    elif any(name == option.name for option in find_options("system", ())):
        wrong = "mlps has a packaged option of that name, which a file cannot replace"
    if wrong is not None:
        raise ConfigError(f"mlps system init: NAME is {name!r}: {wrong}", hint=_INIT)


def _skeleton(name: str, deployment: str, hosts: HostFacts) -> Document:
    clients = clients_of(hosts)
    if deployment == "onprem":
        for node in clients:
            node["chassis"] |= {"rack_units": None, "power": _power()}
    capabilities = ("simultaneous_write", "simultaneous_read", "remap_time_in_seconds")
    architecture = load_schema("system")["$defs"]["solution"]["properties"]["architecture"]
    return {
        "solution": {
            "submission_name": name,
            "friendly_description": None,
            "usable_capacity_tib": None,
            "availability": None,
            "architecture": dict.fromkeys(architecture["required"]),
            "capabilities": {"multi_host": len(hosts.names) > 1, **dict.fromkeys(capabilities)},
        },
        "deployment": deployment,
        **({"total_rack_units": None} if deployment == "onprem" else {}),
        "clients": clients,
    }


def _power() -> Document:
    supply = ("unit_count", "inlet_voltage", "nameplate_power_watts", "efficiency")
    return {"min_psus_active": None, "psus_configured": [dict.fromkeys(supply)]}


def _blank_lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, key and what is expected there, of every field that is null in a skeleton."""
    lines = text.splitlines()
    for key, number in located_yaml(text, "the skeleton")[1].items():
        below = key.removeprefix("description.")
        if below != key and lines[number - 1].rstrip().endswith(f"{key.rpartition('.')[2]}: null"):
            yield number, below, _expected(below)


def _expected(key: str) -> str:
    """What the schema asks for at a key, in words."""
    schema: Schema = load_schema("system")
    definitions = schema["$defs"]
    for part in key.split("."):
        schema = schema.get("properties", {}).get(part) or schema.get("items", {})
        if "$ref" in schema:
            schema = {**definitions[schema["$ref"].removeprefix("#/$defs/")], **schema}
    items = schema.get("items", {})
    words = f"a list of {describe(items)}" if "enum" in items else describe(schema)
    about = str(schema.get("description", ""))
    return f"{words}: {about}" if about else words
