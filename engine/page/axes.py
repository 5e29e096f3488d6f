"""Scales of charts: round ticks, numbers for people, positions on a line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values from `low` to `high` to places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies; what is outside lies at the end."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        share = (at - low) / (high - low) if high > low else 0.0
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values in the range."""
        if self.log:
            return decades(self.low, self.high)
        step = round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [step * number for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is no less; 1 for nothing."""
    if least <= 0 or not math.isfinite(least):
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * 0.999999)


def decades(low: float, high: float) -> list[float]:
    """Powers of ten in a range, or 1, 2 and 5 times those where it is narrow."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in found if low * 0.999999 <= value <= high * 1.000001]


def from_zero(values: Sequence[float]) -> tuple[float, float]:
    """A range from 0 (or the least, if negative) up to the next round value."""
    high = max(values, default=0.0)
    low = min(0.0, min(values, default=0.0))
    step = round_step((high - low) / 4)
    return (math.floor(low / step) * step, max(math.ceil(high / step - 1e-9), 1) * step)


def around(values: Sequence[float]) -> tuple[float, float]:
    """A range of round values that just holds all values."""
    low, high = min(values), max(values)
    step = round_step((high - low) / 4 or abs(high) / 10 or 1.0)
    return (math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step)


def number(value: float | None) -> str:
    """A number for people: three significant digits below 1,000, thousands apart above."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 4)}f}"


def tick_text(value: float) -> str:
    """The label of a tick, of six letters or few more: no digits that say nothing."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e5:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{round(value, 10):g}"
