"""What a plain reader and writer moved just before and just after a measured stage. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .canonical import Document
from .plan import Launch, Plan, ended_well
from .units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Throughput of one roofline stage, all ranks."""

    tool: str
    read_gib_s: float
    write_gib_s: float
    cpu_s_per_gib: float

    @property
    def gib_s(self) -> float:
        """Reads and writes together."""
        return self.read_gib_s + self.write_gib_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """The rooflines nearest to a measured stage, of its option; one of them may be missing."""

    before: Roofline | None
    after: Roofline | None

    @property
    def both(self) -> Sequence[Roofline]:
        """Those that there are."""
        return [found for found in (self.before, self.after) if found is not None]

    @property
    def spread_pct(self) -> float | None:
        """How far before and after lie apart, in percent of their mean."""
        if self.before is None or self.after is None:
            return None
        before, after = self.before.gib_s, self.after.gib_s
        return 100 * abs(before - after) / ((before + after) / 2)


def roofline_of(result: Document) -> Roofline | None:
    """The roofline of a stage's result; None for other stages, or where nothing was moved."""
    found = result.get("roofline")
    if found is None:
        return None
    moved_bytes = found["read_bytes"] + found["write_bytes"]
    if not moved_bytes or not found["elapsed_s"]:
        return None
    return Roofline(
        tool=found["tool"],
        read_gib_s=found["read_bytes"] / GIB / found["elapsed_s"],
        write_gib_s=found["write_bytes"] / GIB / found["elapsed_s"],
        cpu_s_per_gib=found["cpu_s"] / (moved_bytes / GIB),
    )


def rooflines_around(
    plan: Plan, outcomes: Mapping[str, Document], results: Mapping[str, Document]
) -> dict[str, Around]:
    """By name of a measured launch: the rooflines next to it in the plan, of the same option."""
    found = {
        launch.name: roofline
        for launch in plan.launches
        if ended_well(launch, outcomes, results)
        if (roofline := roofline_of(results[launch.name])) is not None
    }
    around = {}
    for place, launch in enumerate(plan.launches):
        if not launch.measured:
            continue
        pair = Around(
            before=_first(found, launch, plan.launches[:place][::-1]),
            after=_first(found, launch, plan.launches[place + 1 :]),
        )
        if pair.both:
            around[launch.name] = pair
    return around


def _first(
    found: Mapping[str, Roofline], measured: Launch, launches: Sequence[Launch]
) -> Roofline | None:
    names = [launch.name for launch in launches if launch.option == measured.option]
    return next((found[name] for name in names if name in found), None)


def roofline_metrics(rooflines: Sequence[Roofline]) -> dict[str, float | int]:
    """Their mean, as a stage's metrics."""
    return {
        f"roofline_{name}": sum(getattr(found, name) for found in rooflines) / len(rooflines)
        for name in ("read_gib_s", "write_gib_s", "cpu_s_per_gib")
        if rooflines
    }


def metrics_against(around: Around, metrics: Mapping[str, float | int]) -> dict[str, float | int]:
    """What a measured stage publishes of its rooflines; `metrics` are its own."""
    published = roofline_metrics(around.both)
    roof_gib_s = published["roofline_read_gib_s"] + published["roofline_write_gib_s"]
    own_gib_s = [metrics[name] for name in ("read_gib_s", "write_gib_s") if name in metrics]
    if own_gib_s:
        published["of_roofline_pct"] = 100 * sum(own_gib_s) / roof_gib_s
    if around.spread_pct is not None:
        published["roofline_spread_pct"] = around.spread_pct
    return published
