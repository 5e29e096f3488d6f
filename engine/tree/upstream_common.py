"""What documents of every family tell: types, commands, moments, means. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean, pstdev

from ..rules import Finding, Severity
from ..tables import numbered
from .documents import (
    LeafDocuments,
    flat,
    list_at,
    mapping_at,
    moment_at,
    near,
    number,
    same,
    shown,
    text_at,
    typeless,
    value_at,
)
from .layout import TIME, Leaf, is_timestamp

# How far the name of a directory may be from the start that its files tell, whatever the zone.
ZONE_S = 15 * 60
START_S = 600.0

# Options of upstream's command line, by what metadata calls them.
_FLAGS = {
    "duration": "--duration",
    "num_users": "--num-users",
    "gpu_mem_gb": "--gpu-mem-gb",
    "cpu_mem_gb": "--cpu-mem-gb",
    "generation_mode": "--generation-mode",
    "max_concurrent_allocs": "--max-concurrent-allocs",
}

UNPROVEN = (
    "these files do not prove that the configuration they hold is the one that ran, that reads "
    "came from storage and not from the page cache, how many bytes the devices moved, that no file "
    "was edited since, nor that the clocks of the hosts agreed"
)


def judge_common(leaf: LeafDocuments) -> Iterator[Finding]:
    """Findings that files of any family can give."""
    yield leaf.finding("UPS-01", "info", UNPROVEN)
    yield from judge_types(leaf)
    yield from judge_overrides(leaf)
    yield from judge_flags(leaf)
    yield from judge_identity(leaf)
    yield from judge_time(leaf)
    yield from judge_exit(leaf)


def judge_types(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-03: parameters that are numbers or truth values, written as text."""
    lost = []
    for part in ("parameters", "override_parameters"):
        lost += [
            f"{part}.{key}={shown(value)}"
            for key, value in typeless(mapping_at(leaf.metadata, part))
        ]
    if lost:
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        yield leaf.finding(
            "UPS-03",
            "warning",
            f"{numbered(len(lost), 'value is', 'values are')} written as text: "
            f"{', '.join(lost[:4])}{more}",
        )


def judge_overrides(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-04: parameters, overrides, the command line and what DLIO read name equal values."""
    metadata = leaf.metadata
    parameters = flat(mapping_at(metadata, "parameters"))
    config = flat(mapping_at(leaf.named("dlio_config/config.yaml"), "workload"))
    overridden = mapping_at(metadata, "override_parameters")
    words = command_overrides(text_at(metadata, "executed_command"))
    lines = leaf.named("dlio_config/overrides.yaml")
    words_listed = (
        [word for word in lines if isinstance(word, str)] if isinstance(lines, list) else []
    )
    listed = command_overrides(" ".join(words_listed))
    sources: Sequence[tuple[str, dict[str, object]]] = (
        ("parameters", parameters),
        ("override_parameters", dict(overridden)),
        ("executed_command", words),
        ("dlio_config/overrides.yaml", listed),
        ("dlio_config/config.yaml", config),
    )
    for key in sorted({key for _, values in sources[1:4] for key in values}):
        told = [(name, values[key]) for name, values in sources if key in values]
        differing = [(name, value) for name, value in told[1:] if not same(value, told[0][1])]
        if differing:
            name, value = differing[0]
            yield leaf.finding(
                "UPS-04",
                "error",
                f"{key} is {shown(told[0][1])} in {told[0][0]} and {shown(value)} in {name}",
            )
    judged = {*overridden, *words, *listed}
    for key in sorted((parameters.keys() & config.keys()) - judged):
        if not same(parameters[key], config[key]):
            yield leaf.finding(
                "UPS-04",
                "error",
                f"{key} is {shown(parameters[key])} in parameters and {shown(config[key])} "
                "in dlio_config/config.yaml, which is what ran",
            )


def command_overrides(command: str) -> dict[str, object]:
    """The values that a command of DLIO sets for its workload, by their keys below it."""
    found: dict[str, object] = {}
    for word in command.split():
        key, equals, value = word.lstrip("+").partition("=")
        if equals and key.startswith("workload."):
            found[key.removeprefix("workload.")] = value
    return found


def judge_flags(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-04: what metadata says of a run, against every command line that it records."""
    metadata = leaf.metadata
    commands = [text_at(metadata, "executed_command")]
    commands += [text_at(entry, "command") for entry in list_at(metadata, "command_output_files")]
    for name, flag in _FLAGS.items():
        in_parameters = name in mapping_at(metadata, "parameters")
        key = f"{'parameters' if in_parameters else 'args'}.{name}"
        told = value_at(metadata, key)
        ran = {value for command in commands for value in flag_values(command, flag)}
        wrong = sorted(value for value in ran if told is not None and not same(told, value))
        if wrong:
            yield leaf.finding(
                "UPS-04",
                "error",
                f"{key} is {shown(told)}, and the commands that ran have "
                f"{flag} {', '.join(shown(value) for value in wrong[:4])}",
            )


def flag_values(command: str, flag: str) -> Iterator[str]:
    """The values of an option in a command line, as `--flag value` or `--flag=value`."""
    words = command.split()
    for word, following in pairwise([*words, ""]):
        if word == flag:
            yield following
        elif word.startswith(f"{flag}="):
            yield word.partition("=")[2]


def judge_identity(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-14: metadata names the model, the command and the time of its directory."""
    metadata = leaf.metadata
    model = text_at(metadata, "model")
    if (
        model
        and leaf.leaf.family in ("training", "checkpointing")
        and not same(model, leaf.leaf.model)
    ):
        yield leaf.finding(
            "UPS-14",
            "error",
            f"metadata names the model {shown(model)}, the directory {leaf.leaf.model}",
        )
    stamp = text_at(metadata, "run_datetime")
    if is_timestamp(leaf.leaf.timestamp) and TIME.fullmatch(stamp) and stamp != leaf.leaf.timestamp:
        yield leaf.finding(
            "UPS-14", "error", f"metadata is of {stamp}, the directory of {leaf.leaf.timestamp}"
        )
    verification = text_at(metadata, "verification")
    if (
        verification.lower() in ("closed", "open", "invalid")
        and leaf.leaf.division
        in (
            "closed",
            "open",
        )
        and verification.lower() != leaf.leaf.division
    ):
        grave: Severity = "error" if leaf.leaf.division == "closed" else "warning"
        yield leaf.finding(
            "UPS-14",
            grave,
            f"the tool judged the run {verification.upper()}, and it stands in "
            f"{leaf.leaf.division}",
        )
    file = text_at(metadata, "timeseries_data.file")
    if file and ("/" in file or file in (".", "..")):
        yield leaf.finding(
            "UPS-14", "error", f"timeseries_data.file {shown(file)} is no file of the run"
        )


def judge_time(leaf: LeafDocuments) -> Iterator[Finding]:
    """UPS-13: start and end of the summary, in order and near to the name of the directory."""
    summary = leaf.named("summary.json")
    start, end = moment_at(summary, "start"), moment_at(summary, "end")
    if start is not None and end is not None and end < start:
        yield leaf.finding("UPS-13", "error", "ends before it starts", file="summary.json")
    named = stamp_s(leaf.leaf)
    if named is None or start is None:
        return
    # The name is local time, the summary too, but nothing says of which zone either is.
    distance_s = (start - named + ZONE_S / 2) % ZONE_S - ZONE_S / 2
    days = abs(start - named) / 86400
    if days > 1 or not -60 <= distance_s <= START_S:
        yield leaf.finding(
            "UPS-13",
            "warning",
            f"starts {text_at(summary, 'start')}, and the directory is of {leaf.leaf.timestamp}",
            file="summary.json",
        )


def judge_exit(leaf: LeafDocuments) -> Iterator[Finding]:
    """RUN-01: an exit status that is not 0."""
    status = number(value_at(leaf.metadata, "exit_status"))
    if status:
        yield leaf.finding("RUN-01", "error", f"the run ended with exit status {status:g}")


def stamp_s(leaf: Leaf) -> float | None:
    """The time of a directory's name in s, as if it were UTC."""
    found = TIME.fullmatch(leaf.timestamp)
    if found is None:
        return None
    year, month, day, hour, minute, second = found.groups()
    return moment_at({"t": f"{year}-{month}-{day}T{hour}:{minute}:{second}"}, "t")


def require(
    leaf: LeafDocuments, file: str, keys: Sequence[str], *, lists: Sequence[str] = ()
) -> Iterator[Finding]:
    """UPS-02: keys that a document has not, or that hold no number or no list of numbers."""
    document = leaf.named(file)
    if document is None:
        return
    missing = [key for key in (*keys, *lists) if value_at(document, key) is None]
    wrong = [
        f"{key} is {shown(value_at(document, key))}"
        for key in keys
        if key not in missing and number(value_at(document, key)) is None
    ]
    wrong += [
        f"{key} is {shown(value_at(document, key))}"
        for key in lists
        if key not in missing
        and (
            not list_at(document, key)
            or any(number(value) is None for value in list_at(document, key))
        )
    ]
    if missing:
        yield leaf.finding("UPS-02", "error", f"is without {', '.join(missing)}", file=file)
    if wrong:
        yield leaf.finding(
            "UPS-02",
            "error",
            f"is without a number where one is due: {'; '.join(wrong)}",
            file=file,
        )


def judge_means(
    leaf: LeafDocuments, file: str, pairs: Sequence[tuple[str, str, str]]
) -> Iterator[Finding]:
    """UPS-07: of each list of values, its mean and its deviation (of a population)."""
    document = leaf.named(file)
    for values_key, mean_key, deviation_key in pairs:
        values = [
            value for each in list_at(document, values_key) if (value := number(each)) is not None
        ]
        if not values:
            continue
        for key, right in ((mean_key, fmean(values)), (deviation_key, pstdev(values))):
            told = number(value_at(document, key))
            if told is not None and not near(told, right, 1e-4):
                yield leaf.finding(
                    "UPS-07",
                    "error",
                    f"{key} is {told:g}, and the values of {values_key} give {right:g}",
                    file=file,
                )
