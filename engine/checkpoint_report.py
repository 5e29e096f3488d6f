"""The published numbers of checkpointing for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TextIO

from .canonical import Document
from .checkpoint_metrics import WITH_RESULT, done_of
from .tables import noun, numbered, shortened, write_table

# Begin of names of metrics that have a place of their own in the report of checkpointing.
CHECKPOINT_METRICS = ("save_", "load_", "evicted_", "checkpoint_gib", "gap_s")

# What the table of checkpoints shows: name of a value, head of the column, digits.
_COLUMNS = (
    ("wall_s", "length, s", 2),
    ("gib_s", "GiB/s", 3),
    ("rank_median_s", "median rank, s", 2),
    ("rank_least_s", "fastest rank, s", 2),
    ("sync_s", "made durable, s", 2),
    ("stall_s", "stall, s", 2),
    ("resident_pct", "in memory before, %", 1),
    ("counted_pct", "by storage, %", 1),
)

# What was done in a phase.
_VERBS = {"save": "saved", "load": "loaded"}


def phase_of(values: Mapping[str, object]) -> str | None:
    """`save` or `load` by the names of metrics; None where no checkpoint was written or read."""
    return next((phase for phase in _VERBS if f"{phase}_gib_s" in values), None)


def checkpoint_headline(values: Document) -> str:
    """The few numbers that a table of many jobs shows of one; empty where there are none."""
    return _headline({name: spread["mean"] for name, spread in values.items()})


def checkpoint_line(metrics: Mapping[str, float]) -> str | None:
    """What is told of a stage of checkpointing when it has ended; None for other stages."""
    if phase_of(metrics) is not None:
        return _headline(metrics)
    if "evicted_files" not in metrics:
        return None
    stayed = ""
    if "evicted_resident_pct" in metrics:
        stayed = f", {metrics['evicted_resident_pct']:.1f} % of them stayed in memory"
    files = f"{metrics['evicted_files']:,.0f} {noun(metrics['evicted_files'], 'file')}"
    return f"{files}, {metrics['evicted_gib']:.2f} GiB dropped{stayed}"


def partly_done(result: Document, reason: str | None) -> str | None:
    """What a stage that did not end well had completed; None for other stages."""
    section = done_of(result) if reason in WITH_RESULT else None
    if section is None:
        return None
    return _partly(section["does"], len(section["checkpoints"]), section["planned"])


def _partly(does: str, done: object, planned: object) -> str:
    verb = "written" if does == "write" else "read"
    return f"{done} of {numbered(planned, 'checkpoint')} had been {verb}"


def _headline(means: Mapping[str, float]) -> str:
    phase = phase_of(means)
    if phase is None:
        return ""
    count = means[f"{phase}_checkpoints"]
    return (
        f"{phase} {means[f'{phase}_gib_s']:.2f} GiB/s, {means[f'{phase}_s']:.2f} s for each of "
        f"{count:.0f} {noun(count, 'checkpoint')} of {means['checkpoint_gib']:.2f} GiB"
    )


# ---------------------------------------------------------------- the report of a summary


def write_checkpoints(out: TextIO, values: Document, notes: Document) -> None:
    """What comes first in the report: throughput and time, the slowest rank, each checkpoint."""
    means = {name: spread["mean"] for name, spread in values.items()}
    phase = phase_of(means)
    if phase is not None:
        end = _end(phase, notes["checkpointing"])
        out.writelines(f"{line}\n" for line in _lines(phase, end, means, values))
        _write_table(out, notes["checkpoints"])
    out.writelines(f"{line}\n" for line in _setting(notes["checkpointing"], means))


def write_partial(out: TextIO, notes: Document) -> None:
    """The checkpoints that stages completed which did not end well."""
    for part in notes.get("partial", []):
        setting = notes["checkpointing"]
        told = _partly(setting["does"], len(part["checkpoints"]), setting["planned"])
        ended = "was stopped" if part["status"] == "stopped" else "failed"
        out.write(f"{part['stage']}: partial, {told} when it {ended}\n")
        _write_table(out, [part["checkpoints"]])


def _end(phase: str, setting: Document) -> str:
    """What a rank has come to when its time ends."""
    if phase == "load":
        return "had read its part"
    return (
        "had handed over its part" if setting["durable"] is False else "had made its part durable"
    )


def _lines(phase: str, end: str, means: Mapping[str, float], values: Document) -> Iterator[str]:
    verb = _VERBS[phase]
    count = means[f"{phase}_checkpoints"]
    yield (
        f"{verb} {count:.0f} {noun(count, 'checkpoint')} of {means['checkpoint_gib']:,.2f} GiB at "
        f"{means[f'{phase}_gib_s']:.3f} GiB/s: {means[f'{phase}_s']:.2f} s until the last rank "
        f"{end} (least {values[f'{phase}_min_s']['min']:.2f} s, median "
        f"{means[f'{phase}_median_s']:.2f} s, most {values[f'{phase}_max_s']['max']:.2f} s)"
    )
    yield (
        f"by the time of rank 0, as DLIO computes it, {means[f'{phase}_rank0_gib_s']:.3f} GiB/s; "
        f"the slowest rank moved its own part at {means[f'{phase}_rank_least_gib_s']:.3f} GiB/s"
    )
    parts = f"transfers took up to {means[f'{phase}_transfer_s']:.2f} s"
    if f"{phase}_sync_s" in means:
        parts += f", making it durable {means[f'{phase}_sync_s']:.2f} s"
    yield parts
    if f"{phase}_stall_s" in means:
        yield (
            f"training was held up {means[f'{phase}_stall_s']:.2f} s by a checkpoint, at most "
            f"{values[f'{phase}_stall_max_s']['max']:.2f} s"
        )
    if "gap_s" in means:
        yield (
            f"the first read began {means['gap_s']:.1f} s after the last write; "
            f"{means['save_to_load_s']:.1f} s from the first write to the last read"
        )


def _write_table(out: TextIO, trials: Sequence[Sequence[Document]]) -> None:
    """A line a checkpoint, means over the trials that have it; the slowest rank of them all."""
    places = range(max(len(trial) for trial in trials))
    of_place = [[trial[place] for trial in trials if place < len(trial)] for place in places]
    columns = [
        (name, head, digits)
        for name, head, digits in _COLUMNS
        if any(name in row for rows in of_place for row in rows)
    ]
    table = [
        (
            str(rows[0]["number"]),
            *(_cell(rows, name, digits) for name, _, digits in columns),
            _slowest(rows),
        )
        for rows in of_place
    ]
    header = ("checkpoint", *(head for _, head, _ in columns), "slowest rank")
    write_table(out, header, shortened(table), right=range(len(header) - 1))


def _cell(rows: Sequence[Document], name: str, digits: int) -> str:
    found = [row[name] for row in rows if name in row]
    return f"{fmean(found):,.{digits}f}" if found else ""


def _slowest(rows: Sequence[Document]) -> str:
    longest = max(rows, key=lambda row: float(row["wall_s"]))
    return f"{longest['straggler']} on {longest['straggler_host']}"


def _setting(setting: Document, means: Mapping[str, float]) -> Iterator[str]:
    """What was written or read, and how."""
    scale = ""
    if setting["scale"] != 1:
        scale = f", {100 * setting['scale']:g} % of {setting['formula_gib']:,.2f} GiB"
    table = ""
    if setting["table_gib"] is not None:
        table = f" (by the table of the rules {setting['table_gib']:,g} GiB)"
    yield (
        f"a checkpoint of {setting['parameters']:,} parameters: {setting['files']:,} files, "
        f"{setting['checkpoint_gib']:,.2f} GiB{scale}{table}, {_parts(setting)} a rank"
    )
    if setting["does"] == "read":
        yield f"{_read_by(setting)}; {_evicted(setting['eviction'], means)}"
    if setting["training"] is not None:
        training = setting["training"]
        how = "beside the writes" if training["background"] else "before each write"
        yield (
            f"training {how}: {numbered(training['steps'], 'step')} of "
            f"{1000 * training['computation_s']:g} ms"
        )


def _parts(setting: Document) -> str:
    least, most = (f"{setting[f'rank_gib_{which}']:,.3f}" for which in ("least", "most"))
    return f"{most} GiB" if least == most else f"{least} to {most} GiB"


def _read_by(setting: Document) -> str:
    if not setting["shift"]:
        return "each rank read what it wrote"
    crossed = setting["crossed_ranks"] or 0
    places = numbered(setting["shift"], "place")
    return (
        f"each rank read what the rank {places} after it wrote, {crossed:,} of them what was "
        "written on another host"
    )


def _evicted(eviction: Document | None, means: Mapping[str, float]) -> str:
    if eviction is None:
        return "files stayed in the page caches"
    how = "by a program of the site" if eviction["method"] == "command" else "by the ranks"
    text = f"{numbered(eviction['files'], 'file')} dropped from the page caches {how}"
    if eviction["resident_pct"] is not None:
        text += f", {eviction['resident_pct']:.1f} % stayed"
    if "load_resident_pct" in means:
        text += f", at most {means['load_resident_pct']:.1f} % were there before a read"
    return text
