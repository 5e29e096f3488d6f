"""Renders the tables of keys and of rules in these pages from the schemas and from the code.

    scripts/schema_tables

A table stands between two comments, of which the first says what is rendered:

    <!-- keys schema=job/$defs/cluster prefix=cluster values=cluster/local -->
    <!-- end -->

`schema` is a schema and the way into it, `prefix` what its keys begin with in a job, `values` the
packaged file whose values are shown. `<!-- rules -->` stands for the rules of findings,
`<!-- models -->` for the models of training, `<!-- checkpoints -->` for those of checkpointing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlps.engine.compose import compose
from mlps.engine.edition_rules import EDITION_RULES
from mlps.engine.options import find_options, packaged_conf
from mlps.engine.rule_table import RULES
from mlps.engine.rules_command import edition_rows, remark_rows
from mlps.engine.schema import describe, load_schema
from mlps.engines.checkpoint_native.layout import layout_of
from mlps.engines.checkpoint_native.model import architecture_of
from mlps.engines.checkpoint_native.parallelism import parallelism_of
from mlps.engines.section import Section

PLACE = re.compile(
    r"(?P<head><!-- (?P<kind>keys|rules|edition|remarks|models|checkpoints)(?P<words>[^>]*?) -->\n)"
    r"(?P<table>.*?)(?P<tail><!-- end -->)",
    re.DOTALL,
)

# The end of a key that tells the unit of its number, and the unit in words.
UNITS = {"_s": "seconds", "_bytes": "bytes", "_tokens": "tokens"}

# Words of a schema that a reader of a table has no use for, or that are resolved already.
LEFT_OUT = ("$ref", "pattern")

# A longer value is not shown: the packaged file is the place to read it.
SHOWN_CHARACTERS = 100

MODEL_HEADER = (
    "benchmark", "format", "files", "samples a file", "bytes of a sample", "GiB", "batch",
    "computation, s", "epochs", "AU, %",
)  # fmt: skip

CHECKPOINT_HEADER = (
    "benchmark", "parameters", "T x P", "ZeRO", "ranks", "model, GiB", "optimizer, GiB", "all, GiB",
    "files", "by the rules, GiB",
)  # fmt: skip

# What a packaged file says of a key that it does not have.
NOT_SET = object()

Schema = Mapping[str, Any]


def rendered(page: str) -> str:
    """A page with every table as it must be."""
    return PLACE.sub(lambda place: f"{place['head']}{_table(place)}{place['tail']}", page)


def _table(place: re.Match[str]) -> str:
    if place["kind"] == "rules":
        return _markdown(("rule", "judged", "at most", "what it demands"), [*_rule_rows()])
    if place["kind"] == "edition":
        return _markdown(("v3.0", "judged by", "what it asks for"), [*_edition_rows()])
    if place["kind"] == "remarks":
        return _markdown(("v3.0", "why it is not judged, or what side is taken"), [*_remark_rows()])
    if place["kind"] == "models":
        return _markdown(MODEL_HEADER, [*_model_rows()])
    if place["kind"] == "checkpoints":
        return _markdown(CHECKPOINT_HEADER, [*_checkpoint_rows()])
    words = dict(word.split("=", 1) for word in place["words"].split())
    values = _packaged_values(words["values"]) if "values" in words else None
    prefix = f"{words['prefix']}." if words.get("prefix") else ""
    definitions = _definitions(words["schema"])
    rows = [*_rows(_schema_at(words["schema"]), prefix, values, definitions)]
    if values is None:
        return _markdown(("key", "value", "meaning"), [(row[0], row[1], row[3]) for row in rows])
    return _markdown(("key", "value", f"in `{words['values']}`", "meaning"), rows)


def _rule_rows() -> Iterator[tuple[str, ...]]:
    for name, rule in RULES.items():
        yield f"`{name}`", rule.phase, rule.severity, rule.text


def _edition_rows() -> Iterator[tuple[str, ...]]:
    for name, judges, text in edition_rows(dict(EDITION_RULES)):
        yield f"`{name}`", judges, text


def _remark_rows() -> Iterator[tuple[str, ...]]:
    for name, text in remark_rows(dict(EDITION_RULES)):
        yield f"`{name}`", text


def _model_rows() -> Iterator[tuple[str, ...]]:
    """A row for each shipped model: its dataset, its batch, its computation."""
    for option in find_options("benchmark", ()):
        if not re.fullmatch(r"training/\w+_\w+", option.name):
            continue
        job = compose([f"benchmark={option.name}"], conf_dirs=(), cwd=Path("/")).values
        benchmark = job["benchmark"]
        data, train = benchmark["dataset"], benchmark["train"]
        files, samples = data["train"]["files"], data["samples_per_file"]
        yield (
            f"`{option.name}`",
            data["format"],
            f"{files:,}",
            f"{samples:,}",
            f"{data['record_bytes']:,}",
            f"{files * samples * data['record_bytes'] / 2**30:,.0f}",
            f"{benchmark['reader']['batch']:,}",
            f"{train['computation_s']:.7f}".rstrip("0"),
            str(train["epochs"]),
            str(benchmark["au_least_pct"]),
        )


def _checkpoint_rows() -> Iterator[tuple[str, ...]]:
    """A row for each shipped model with a number of ranks: its checkpoint, as it is computed."""
    for option in find_options("benchmark", ()):
        if not option.name.startswith("checkpointing/llama3_"):
            continue
        job = compose([f"benchmark={option.name}"], conf_dirs=(), cwd=Path("/")).values
        benchmark = job["benchmark"]
        ranks, table_gib = (benchmark["accelerator"][key] for key in ("count", "checkpoint_gib"))
        architecture = architecture_of(Section(benchmark).section("model"))
        parallelism = parallelism_of(Section(benchmark).section("parallelism"), ranks)
        totals = layout_of(architecture, parallelism).totals()
        sizes = (totals.model_bytes, totals.optimizer_bytes)
        yield (
            f"`{option.name}`",
            f"{architecture.parameter_count:,}",
            f"{parallelism.tensor} x {parallelism.pipeline}",
            str(parallelism.zero),
            f"{ranks:,}",
            *(f"{size / 2**30:,.2f}" for size in (*sizes, sum(sizes))),
            f"{totals.model_files + totals.optimizer_files:,}",
            f"{table_gib:,}",
        )


def _rows(
    schema: Schema, prefix: str, values: Mapping[str, Any] | None, definitions: Schema
) -> Iterator[tuple[str, str, str, str]]:
    for name, part in schema["properties"].items():
        target = {} if part is True else _resolved(part, definitions)
        key = f"{prefix}{name}"
        value = (values or {}).get(name, NOT_SET)
        if part is True or ("properties" in target and _is_of_the_job(part)):
            continue  # has a table of its own
        # What may also be a word or null is a value by itself.
        if "properties" not in target or {"string", "null"} & {*target["type"]}:
            yield f"`{key}`", _kind(name, target), _shown(value), target.get("description", "")
        if "properties" in target:
            inner = value if isinstance(value, dict) else {}
            yield from _rows(target, f"{key}.", inner, definitions)


def _shown(value: object) -> str:
    if value is NOT_SET:
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= SHOWN_CHARACTERS else "see the file"


def _kind(name: str, schema: Schema) -> str:
    """What a value must be, with its unit where the key's name ends in one."""
    unit = next((f", {unit}" for end, unit in UNITS.items() if name.endswith(end)), "")
    return describe({word: rule for word, rule in schema.items() if word not in LEFT_OUT}) + unit


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target: Schema = definitions[reference.removeprefix("#/$defs/")]
    return {**target, **schema}


def _is_of_the_job(part: Schema) -> bool:
    """Whether a part of a schema is one of the definitions of a job."""
    return part.get("$ref", "").removeprefix("#/$defs/") in load_schema("job")["$defs"]


def _definitions(place: str) -> Schema:
    """What a schema's references name: its own definitions, else those of a job."""
    own = load_schema(place.partition("/$defs/")[0])
    return {**load_schema("job")["$defs"], **own.get("$defs", {})}


def _schema_at(place: str) -> Schema:
    """`job/$defs/cluster` is the part cluster of $defs of the schema job."""
    name, dollar, way = place.partition("/$defs/")
    schema = load_schema(name)
    return schema["$defs"][way] if dollar else schema


def _packaged_values(option: str) -> Mapping[str, Any]:
    text = (packaged_conf() / f"{option}.yaml").read_text(encoding="utf-8")
    values: Mapping[str, Any] = yaml.safe_load(text)
    return values


def _markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in lines
    )


def main() -> None:
    """Bring the tables of all pages up to date; say which pages have changed."""
    for path in sorted(Path(__file__).parent.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{path.name} has changed\n")


if __name__ == "__main__":
    main()
