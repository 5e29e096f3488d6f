"""From what foreign programs have left to numbers. Pure, so that verify can repeat it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from .canonical import Document
from .foreign import Metric, Reduction
from .json_path import values_at
from .rules import Finding

_REDUCE: Mapping[Reduction, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum,
    "mean": fmean,
    "max": max,
    "min": min,
    "last": lambda values: values[-1],
}


class _Outputs:
    """The outputs of a stage by name; the JSON of each is read once."""

    def __init__(self, outputs: Mapping[str, Sequence[bytes]]) -> None:
        self._outputs = outputs
        self._documents: dict[tuple[str, int], object] = {}

    def of(self, name: str) -> Sequence[bytes]:
        return self._outputs.get(name, ())

    def document(self, name: str, index: int) -> object:
        """Raises ValueError where it is no JSON."""
        key = (name, index)
        if key not in self._documents:
            try:
                self._documents[key] = _parse(self._outputs[name][index])
            except (ValueError, RecursionError) as error:
                raise ValueError(f"output {name} is no JSON: {error}") from error
        return self._documents[key]


def _parse(data: bytes) -> object:
    """The JSON document of an output; lines of text may stand around it. Raises ValueError."""
    text = data.decode()
    begin = re.search(r"^[{\[]", text, re.MULTILINE)
    if begin is None:
        return json.loads(text)
    document, _ = json.JSONDecoder().raw_decode(text, begin.start())
    return document


def extract(
    metrics: Sequence[Metric], outputs: Mapping[str, Sequence[bytes]]
) -> tuple[dict[str, float], dict[str, str]]:
    """(values, why there is none) by metric. An optional metric that nothing holds is in neither.

    `outputs` holds each output's contents, one for each process that has left one.
    """
    values: dict[str, float] = {}
    flaws: dict[str, str] = {}
    read = _Outputs(outputs)
    for metric in metrics:
        try:
            value = _value(metric, read)
        except ValueError as error:
            flaws[metric.name] = str(error)
            continue
        if value is not None:
            values[metric.name] = value
    return values, flaws


def _value(metric: Metric, outputs: _Outputs) -> float | None:
    """The number of all processes; None where an optional one is nowhere. Raises ValueError."""
    count = len(outputs.of(metric.output))
    if count == 0:
        raise ValueError(f"output {metric.output} is missing")
    found = []
    for index in range(count):
        numbers = [_number(match) for match in _matches(metric, outputs, index)]
        if numbers:
            found.append(_reduced(numbers, metric.matches, "matches"))
    if not found and metric.optional:
        return None
    if len(found) < count:
        some = "" if count == 1 else f" of {count - len(found)} of {count} processes"
        raise ValueError(f"it is not in output {metric.output}{some}")
    return _reduced(found, metric.processes, "processes") * float(metric.factor)


def _matches(metric: Metric, outputs: _Outputs, index: int) -> Iterator[Any]:
    if metric.path is not None:
        document = outputs.document(metric.output, index)
        yield from (value for value in values_at(document, metric.path) if value is not None)
    elif metric.pattern is not None:
        text = outputs.of(metric.output)[index].decode(errors="replace")
        yield from (match[1] for match in metric.pattern.finditer(text) if match[1] is not None)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{json.dumps(value)[:60]} is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number that can be published")
    return number


def _reduced(numbers: Sequence[float], reduction: Reduction, key: str) -> float:
    if reduction != "one":
        return _REDUCE[reduction](numbers)
    if len(numbers) > 1:
        raise ValueError(f"there are {len(numbers)} of it; say what is made of them: {key}")
    return numbers[0]


def restated(
    result: Document, metrics: Sequence[Metric], outputs: Mapping[str, Sequence[bytes]]
) -> Document:
    """A stage's result with the numbers that follow from its outputs."""
    values, flaws = extract(metrics, outputs)
    return {**result, "foreign": {**result["foreign"], "metrics": values, "flaws": flaws}}


def foreign_metrics(result: Document) -> dict[str, float | int]:
    """The metrics of a stage of a foreign program: its own, and what it cost."""
    ranks = result["ranks"]
    metrics: dict[str, float | int] = dict(result["foreign"]["metrics"])
    if ranks["elapsed_s"]:
        metrics["program_elapsed_s"] = max(ranks["elapsed_s"])
        metrics["program_cpu_s"] = math.fsum([*ranks["cpu_user_s"], *ranks["cpu_system_s"]])
        metrics["program_peak_rss_max_mib"] = max(ranks["peak_rss_bytes"]) / 2**20
    return metrics


# ---------------------------------------------------------------- rules


def judge_foreign(name: str, measured: bool, result: Document) -> Iterator[Finding]:
    """EXT-01, EXT-03 and EXT-04: whose numbers these are, and which there are not."""
    foreign = result["foreign"]
    if measured:
        versions = [_named(entry) for entry in foreign["programs"]]
        text = f"its numbers are those of {foreign['measured_by']} ({', '.join(versions)})"
        yield Finding(
            rule="EXT-01",
            severity="info",
            key=name,
            text=f"{text}; mlps did not measure them",
        )
    for output, text in foreign["missing"].items():
        yield Finding(rule="EXT-03", severity="error", key=f"{name} {output}", text=text)
    for metric, text in foreign["flaws"].items():
        yield Finding(rule="EXT-04", severity="error", key=f"{name} {metric}", text=text)


def _named(program: Document) -> str:
    return f"{program['program']}: {program['version'] or 'version unknown'}"
