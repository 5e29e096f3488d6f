"""The published numbers of training for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TextIO

from .canonical import Document
from .tables import noun, shortened, write_table

# Begin of names of metrics that have a place of their own in the report of training.
TRAINING_METRICS = (
    "au_", "samples_", "compute_pct", "stall_", "overshoot_", "engine_pct", "epoch_counted_",
    "eval_", "checkpoint_", "dataset_", "train_", "nominal_",
)  # fmt: skip

# What the time of ranks goes to, in words.
_SHARES = (
    ("compute_pct", "computing"),
    ("stall_load_pct", "waiting for batches"),
    ("stall_meeting_pct", "for other ranks"),
    ("overshoot_pct", "computing too long"),
    ("engine_pct", "the engine itself"),
)

# What the table of epochs shows: name of a value, head of the column, digits.
_COLUMNS = (
    ("wall_s", "length, s", 2),
    ("au_nominal_pct", "AU, %", 2),
    ("au_dlio_pct", "DLIO's AU, %", 2),
    ("au_worst_rank_pct", "worst rank, %", 2),
    ("train_gib_s", "GiB/s", 3),
    ("samples_per_s", "samples/s", 1),
    ("counted_pct", "from storage, %", 1),
)


def is_training(values: Mapping[str, object]) -> bool:
    """Whether these are metrics of epochs."""
    return "au_nominal_pct" in values


def headline_of(values: Document) -> str:
    """The few numbers that a table of many jobs shows of one; empty where it did not train."""
    return _headline({name: spread["mean"] for name, spread in values.items()})


def stage_line(metrics: Mapping[str, float]) -> str | None:
    """What is told of a stage of training when it has ended; None for other stages."""
    if is_training(metrics):
        return _headline(metrics)
    if "dataset_files" not in metrics:
        return None
    files, gib = metrics["dataset_files"], metrics["dataset_gib"]
    written = metrics["dataset_written_files"]
    speed = f" at {metrics['write_gib_s']:.2f} GiB/s" if "write_gib_s" in metrics else ""
    told = f"{written:,.0f} of them written{speed}" if written else "all of them were there"
    return f"{files:,.0f} files, {gib:.2f} GiB, {told}"


def _headline(means: Mapping[str, float]) -> str:
    if not is_training(means):
        return ""
    rate = f"{means['train_gib_s']:.2f} GiB/s" if "train_gib_s" in means else "without reads"
    samples = [f"{means['samples_per_s']:,.0f} samples/s"] if "samples_per_s" in means else []
    return ", ".join([f"AU {means['au_nominal_pct']:.1f} %", rate, *samples])


def write_training(out: TextIO, values: Document, notes: Document) -> None:
    """What comes first in the report of training: utilisation, throughput, stalls, epochs."""
    means = {name: spread["mean"] for name, spread in values.items()}
    out.writelines(f"{line}\n" for line in _lines(means, values, notes))
    _write_epochs(out, notes["epochs"])
    out.writelines(f"{line}\n" for line in _beside(means, values))
    out.writelines(f"{line}\n" for line in _setting(notes))


def _lines(means: Mapping[str, float], values: Document, notes: Document) -> Iterator[str]:
    least_pct = notes["training"]["au_least_pct"]
    lowest_pct = values["au_nominal_pct"]["min"]
    asked = ""
    if least_pct is not None:
        state = "reached" if lowest_pct >= least_pct else "missed"
        asked = f", {least_pct:g} % asked for: {state}"
    ceiling = "not measured"
    if "au_engine_ceiling_pct" in means:
        ceiling = f"{means['au_engine_ceiling_pct']:.2f} %"
    yield f"accelerator utilisation (AU) {means['au_nominal_pct']:.2f} %{asked}"
    yield (
        f"AU without reads {ceiling}, as DLIO computes it {means['au_dlio_pct']:.2f} %, "
        f"of whole epochs {means['au_wall_pct']:.2f} %, "
        f"of the worst rank and epoch {values['au_worst_rank_pct']['min']:.2f} %"
    )
    if "train_gib_s" in means:
        yield (
            f"read {means['train_gib_s']:.3f} GiB/s (nominal {means['nominal_gib_s']:.3f} GiB/s), "
            f"{means['samples_per_s']:,.1f} samples/s (as DLIO computes it "
            f"{means['samples_dlio_per_s']:,.1f})"
        )
    if "engine_pct" in means:
        parts = ", ".join(f"{words} {_share(means[name])} %" for name, words in _SHARES)
        yield f"time of ranks: {parts}"
    for name, words in (("batch_wait", "wait for a batch"), ("batch_read", "reading a batch")):
        if f"{name}_p50_ms" in means:
            parts = ", ".join(
                f"{q} {means[f'{name}_{q}_ms']:,.3f}" for q in ("p50", "p95", "p99", "max")
            )
            yield f"{words}, ms: {parts}"


def _share(share_pct: float) -> str:
    """One digit, without the sign of what rounds to nothing."""
    return f"{share_pct:.1f}".replace("-0.0", "0.0")


def _write_epochs(out: TextIO, trials: Sequence[Sequence[Document]]) -> None:
    """A line an epoch, means over the trials that made it."""
    of_epoch: dict[int, list[Document]] = {}
    for trial in trials:
        for row in trial:
            of_epoch.setdefault(row["epoch"], []).append(row)
    columns = [
        (name, head, digits)
        for name, head, digits in _COLUMNS
        if any(name in row for rows in of_epoch.values() for row in rows)
    ]
    table = [
        (
            str(number),
            f"{rows[0]['steps']:,}",
            *(_cell(rows, name, digits) for name, _, digits in columns),
        )
        for number, rows in sorted(of_epoch.items())
    ]
    header = ("epoch", "steps", *(head for _, head, _ in columns))
    write_table(out, header, shortened(table), right=range(len(header)))


def _cell(rows: Sequence[Document], name: str, digits: int) -> str:
    found = [row[name] for row in rows if name in row]
    return f"{fmean(found):,.{digits}f}" if found else ""


def _beside(means: Mapping[str, float], values: Document) -> Iterator[str]:
    """Evaluations and checkpoints."""
    if "eval_gib_s" in means:
        samples = (
            f", {means['eval_samples_per_s']:,.1f} samples/s"
            if "eval_samples_per_s" in means
            else ""
        )
        yield f"evaluation {means['eval_s']:.2f} s, {means['eval_gib_s']:.3f} GiB/s{samples}"
    if "checkpoint_gib_s" in means:
        yield (
            f"checkpoints {means['checkpoint_gib_s']:.3f} GiB/s, the longest "
            f"{values['checkpoint_max_s']['max']:.2f} s"
        )


def _setting(notes: Document) -> Iterator[str]:
    """What was trained on, and how."""
    training = notes["training"]
    left_over = training["dropped_samples"]
    resident_pct = training["resident_pct"]
    evicted = "files stayed in the page caches"
    if training["evicted"]:
        seen = "" if resident_pct is None else f", {resident_pct:.1f} % stayed"
        evicted = f"files were dropped from the page caches{seen}"
    yield (
        f"batches of {training['batch']:,}, {1000 * training['computation_s']:g} ms each, "
        f"{_count(training['threads'], 'reader')} and "
        f"{_count(training['look_ahead_batches'], 'batch', 'batches')} ahead on each rank; "
        f"{evicted}"
    )
    if "dataset" not in notes:
        return
    dataset = notes["dataset"]
    speed = dataset["write_gib_s"]
    made = "not made by mlps" if dataset["made_by"] == "other" else f"{dataset['checked']} checked"
    if speed is not None:
        made = f"written at {speed:.2f} GiB/s"
    yield (
        f"dataset: {dataset['train_files'] + dataset['eval_files']:,} {dataset['format']} files, "
        f"{dataset['bytes'] / 2**30:,.2f} GiB, {made}"
        + (f"; {_count(left_over, 'sample')} left over in each epoch" if left_over else "")
    )


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {noun(number, one, many)}"
