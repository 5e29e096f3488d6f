"""What differs between two archives: the configuration first, then each metric. Pure.

Whether two means differ by more than chance is told by the bootstrap of their difference
(Efron 1979) over trials: its middle 95 % does not hold 0.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from .canonical import Document
from .spread import CONFIDENCE

RESAMPLES = 4_000
# Up to this many pairs of resamples all are taken, which is exact.
EXACT_PAIRS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A key whose values differ."""

    key: str
    a: object
    b: object


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricChange:
    """A metric of both; `low_pct` to `high_pct` bound the difference in percent of the first.

    `beyond_chance` is None where one of them has fewer than two trials, or the first is 0.
    """

    stage: str
    option: str | None
    metric: str
    a: float
    b: float
    difference_pct: float | None
    low_pct: float | None
    high_pct: float | None
    beyond_chance: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One archive: its job, environment, facts of hosts, result, and trials of each metric.

    `trials` by (stage, option), then by metric.
    """

    job: Document
    environment: Document
    facts: Document
    result: Document
    trials: Mapping[tuple[str, str | None], Mapping[str, Sequence[float]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that differs. `obstacles` say why the numbers are not comparable."""

    runs: tuple[str, str]
    obstacles: tuple[str, ...]
    same_workload: bool
    configuration: tuple[Difference, ...]
    environment: tuple[Difference, ...]
    metrics: tuple[MetricChange, ...]

    def as_document(self) -> Document:
        """What `mlps compare --json` writes."""
        return asdict(self)


def compare(a: Side, b: Side) -> Comparison:
    """Compare two archives; they may be of anything."""
    configuration = tuple(differences(a.job, b.job))
    return Comparison(
        runs=(a.result["run_id"], b.result["run_id"]),
        obstacles=tuple(_obstacles(a, b)),
        same_workload=not any(each.key.startswith("benchmark.") for each in configuration)
        and a.job["seed"] == b.job["seed"],
        configuration=configuration,
        environment=(
            *differences({"environment": a.environment}, {"environment": b.environment}),
            *differences({"hosts": a.facts}, {"hosts": b.facts}),
        ),
        metrics=tuple(_metrics(a, b)),
    )


def differences(a: object, b: object, key: str = "") -> Iterator[Difference]:
    """Keys whose values differ, dotted; one that is missing has None."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            yield from differences(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif a != b:
        yield Difference(key=key, a=a, b=b)


def _obstacles(a: Side, b: Side) -> Iterator[str]:
    for word, one, other in (
        ("benchmarks", a.result["benchmark"], b.result["benchmark"]),
        ("divisions", a.job["division"]["name"], b.job["division"]["name"]),
        ("editions", a.job["edition"]["name"], b.job["edition"]["name"]),
    ):
        if one != other:
            yield f"their {word} differ: {one} and {other}"
    for side in (a, b):
        if side.result["status"] != "complete":
            yield f"{side.result['run_id']} did not complete: it {side.result['status']}"


def _metrics(a: Side, b: Side) -> Iterator[MetricChange]:
    for place, metrics in a.trials.items():
        others = b.trials.get(place, {})
        for name, values in metrics.items():
            if name in others and values and others[name]:
                yield _change(place, name, values, others[name])


def _change(
    place: tuple[str, str | None], name: str, a: Sequence[float], b: Sequence[float]
) -> MetricChange:
    mean_a, mean_b = fmean(a), fmean(b)
    low = high = None
    if min(len(a), len(b)) > 1 and mean_a:
        low, high = difference_interval(a, b)
    percent = 100 / abs(mean_a) if mean_a else None
    return MetricChange(
        stage=place[0],
        option=place[1],
        metric=name,
        a=mean_a,
        b=mean_b,
        difference_pct=None if percent is None else percent * (mean_b - mean_a),
        low_pct=None if low is None or percent is None else percent * low,
        high_pct=None if high is None or percent is None else percent * high,
        beyond_chance=None if low is None or high is None else low > 0 or high < 0,
    )


def difference_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of mean(b) - mean(a) over resamples of both; always the same for the same."""
    if len(a) ** len(a) * len(b) ** len(b) <= EXACT_PAIRS:
        means_a = [fmean(sample) for sample in itertools.product(a, repeat=len(a))]
        means_b = [fmean(sample) for sample in itertools.product(b, repeat=len(b))]
        found = sorted(two - one for one in means_a for two in means_b)
    else:
        generator = random.Random(0)  # fixed: a comparison says the same each time
        found = sorted(
            fmean(generator.choices(b, k=len(b))) - fmean(generator.choices(a, k=len(a)))
            for _ in range(RESAMPLES)
        )
    cut = (1 - CONFIDENCE) / 2
    last = len(found) - 1
    return found[round(cut * last)], found[round((1 - cut) * last)]
