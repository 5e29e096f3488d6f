"""Checks a composed job against the JSON schemas and reports every problem in a user's words."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from .canonical import Document
from .errors import Problem

Schema = Mapping[str, Any]

KINDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def check(values: Document, where: Mapping[str, str]) -> list[Problem]:
    """All problems of a composed job, in the order of its keys.

    `where` says of a dotted key where its value was set.
    """
    problems = list(_problems(load_schema("job"), values, (), where))
    benchmark = values.get("benchmark")
    family = benchmark.get("family") if isinstance(benchmark, dict) else None
    if isinstance(benchmark, dict) and family in families():
        schema = benchmark_schema(benchmark)
        problems += _problems(schema, benchmark, ("benchmark",), where)
        problems += _option_problems(schema, benchmark, where)
    return problems


def check_system(description: Document, where: Mapping[str, str]) -> list[Problem]:
    """All problems of a description of the system under test, in the order of its keys."""
    return list(_problems(load_schema("system"), description, (), where))


def benchmark_schema(benchmark: Document) -> Schema:
    """The closed schema of a benchmark: its family's, joined with that of its workload.

    Without a workload that is known nothing can be said of the keys that are not the family's.
    """
    family = load_schema(f"benchmark/{benchmark['family']}")
    workload = benchmark.get("workload")
    if workload not in family["properties"].get("workload", {}).get("enum", ()):
        return {**family, "additionalProperties": True}
    own = load_schema(f"benchmark/{benchmark['family']}_{workload}")
    return {
        **family,
        "properties": {**family["properties"], **own["properties"]},
        "required": [*family["required"], *own["required"]],
    }


@cache
def load_schema(name: str) -> Schema:
    """A packaged schema by its path without `.json`, for example `benchmark/kvcache`."""
    text = files("mlps.schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    schema: Schema = json.loads(text)
    return schema


def families() -> tuple[str, ...]:
    """Benchmark families that have a schema."""
    names: list[str] = load_schema("job")["$defs"]["benchmark"]["properties"]["family"]["enum"]
    return tuple(names)


def _problems(
    schema: Schema, values: object, prefix: tuple[str | int, ...], where: Mapping[str, str]
) -> Iterator[Problem]:
    for error in Draft202012Validator(schema).iter_errors(values):
        path = (*prefix, *error.absolute_path)
        if error.validator == "additionalProperties":
            yield from _unknown_keys(error, path, where)
        elif error.validator == "required":
            yield from _missing_keys(error, path, where)
        else:
            yield _wrong_value(error, path, where)


def _option_problems(
    schema: Schema, benchmark: Document, where: Mapping[str, str]
) -> Iterator[Problem]:
    """An option may set only keys of the workload, to values that they may have."""
    options = benchmark.get("options")
    partial = _partial(schema)
    for index, option in enumerate(options if isinstance(options, list) else []):
        changed = option.get("set") if isinstance(option, dict) else None
        if isinstance(changed, dict):
            yield from _problems(partial, changed, ("benchmark", "options", index, "set"), where)


def _partial(schema: Schema) -> Schema:
    """The schema of a part that is merged into a whole.

    Nothing is required at any depth, and what every benchmark has (declared `true` by a family)
    cannot be set: it holds for all options.
    """
    partial = {key: value for key, value in schema.items() if key != "required"}
    if "properties" in schema:
        partial["properties"] = {
            name: _partial(value)
            for name, value in schema["properties"].items()
            if value is not True
        }
    return partial


def _unknown_keys(
    error: ValidationError, path: tuple[str | int, ...], where: Mapping[str, str]
) -> Iterator[Problem]:
    known = list(_schema_of(error).get("properties", {}))
    for name in cast(Document, error.instance):
        if name in known:
            continue
        key = _dotted((*path, name))
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
        text = "unknown key" if near else f"unknown key; there are: {', '.join(sorted(known))}"
        hint = f"did you mean {_dotted((*path, near[0]))}?" if near else None
        yield Problem(key=key, text=text, where=_origin(key, where), hint=hint)


def _missing_keys(
    error: ValidationError, path: tuple[str | int, ...], where: Mapping[str, str]
) -> Iterator[Problem]:
    # jsonschema reports each missing key by itself; its name stands only in the message.
    required = cast(list[str], error.validator_value)
    name = next(name for name in required if f"{name!r} is" in error.message)
    key = _dotted((*path, name))
    subschema = _schema_of(error).get("properties", {}).get(name, {})
    expected = describe(subschema) if isinstance(subschema, Mapping) else "a value"
    yield Problem(key=key, text=f"missing: expected {expected}", where=_origin(key, where))


def _wrong_value(
    error: ValidationError, path: tuple[str | int, ...], where: Mapping[str, str]
) -> Problem:
    key = _dotted(path)
    value = json.dumps(error.instance, ensure_ascii=False)
    shown = value if len(value) <= 60 else f"{value[:57]}..."
    schema = _schema_of(error)
    examples = schema.get("examples")
    hint = None
    if examples:
        hint = f"for example {key}={json.dumps(examples[0], separators=(',', ':'))}"
    text = f"expected {describe(schema)}, got {shown}"
    return Problem(key=key, text=text, where=_origin(key, where), hint=hint)


def describe(schema: Schema) -> str:
    """What a value must be, in words: `an integer >= 1`."""
    target = _resolved(schema)
    if "enum" in target:
        return "one of " + ", ".join(str(item) for item in target["enum"])
    kinds = target.get("type", [])
    words = " or ".join(KINDS[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
    limits = [
        f"{sign} {target[name]}"
        for name, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if name in target
    ]
    if target.get("minItems") or target.get("minLength"):
        limits.append("that is not empty")
    if target.get("uniqueItems"):
        limits.append("without repetition")
    if "pattern" in target:
        limits.append(f"of the form {target['pattern']}")
    return " ".join([words or "a value", " and ".join(limits)]).strip()


def _schema_of(error: ValidationError) -> Schema:
    schema = error.schema
    return schema if isinstance(schema, Mapping) else {}


def _resolved(schema: Schema) -> Schema:
    reference = schema.get("$ref", "")
    if not reference.startswith("#/$defs/"):
        return schema
    target = _definitions()[reference.removeprefix("#/$defs/")]
    return {**target, **schema}


@cache
def _definitions() -> Mapping[str, Schema]:
    """What the schemas of a job and of a system refer to; they share no name."""
    found: dict[str, Schema] = {**load_schema("system")["$defs"], **load_schema("job")["$defs"]}
    return found


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in path)


def _origin(key: str, where: Mapping[str, str]) -> str:
    """Where a key was set: its own origin, that of the list it is in, or of its first leaf."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:length])) in where:
            return where[prefix]
    return next((text for leaf, text in where.items() if leaf.startswith(f"{key}.")), "")
