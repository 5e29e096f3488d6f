"""Sections of a benchmark by dotted keys: changes of one key, and all keys that a schema has."""

from __future__ import annotations

from mlps.engine.schema import load_schema


def nested(key, value):
    """The change of one dotted key, as sections are merged."""
    *above, last = key.split(".")
    change = {last: value}
    for name in reversed(above):
        change = {name: change}
    return change


def own_keys(schema, prefix="", root=None):
    """Dotted keys that the schema of a family has beside those of every benchmark, by its name."""
    document = load_schema(schema) if root is None else schema
    root = root or document
    for name, value in document["properties"].items():
        if value is True:
            continue
        value = {**root.get("$defs", {}).get(value.get("$ref", "").rpartition("/")[2], {}), **value}
        if value.get("properties"):
            yield from own_keys(value, f"{prefix}{name}.", root)
        else:
            yield f"{prefix}{name}"
