"""Units of what foreign programs report, and the unit that a metric's name ends in. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Kind = Literal["time", "bytes", "byte rate", "rate", "share", "count"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is measured, and how much of its base unit one of these is."""

    kind: Kind
    size: Fraction


_TIMES = {
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "ms": Fraction(1, 1000),
    "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600),
}  # fmt: skip
_BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip

# What a program may report in.
UNITS: dict[str, Unit] = {
    **{name: Unit("time", size) for name, size in _TIMES.items()},
    **{name: Unit("bytes", Fraction(size)) for name, size in _BYTES.items()},
    **{f"{name}/s": Unit("byte rate", Fraction(size)) for name, size in _BYTES.items()},
    "1/s": Unit("rate", Fraction(1)),
    "1/min": Unit("rate", Fraction(1, 60)),
    "share": Unit("share", Fraction(1)),
    "%": Unit("share", Fraction(1, 100)),
    "count": Unit("count", Fraction(1)),
}

# What a metric's name may end in; of two that fit, the first counts.
SUFFIXES: dict[str, Unit] = {
    "_gib_s": UNITS["GiB/s"],
    "_mib_s": UNITS["MiB/s"],
    "_per_s": UNITS["1/s"],
    "_ns": UNITS["ns"],
    "_us": UNITS["us"],
    "_ms": UNITS["ms"],
    "_s": UNITS["s"],
    "_bytes": UNITS["B"],
    "_kib": UNITS["KiB"],
    "_mib": UNITS["MiB"],
    "_gib": UNITS["GiB"],
    "_pct": UNITS["%"],
    "_count": UNITS["count"],
}


def factor(unit: str, name: str) -> Fraction:
    """What a number in a unit is multiplied with to fit a metric's name. Raises ValueError."""
    source = UNITS[unit]
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"its name ends in no unit; there are: {', '.join(SUFFIXES)}")
    target = SUFFIXES[suffix]
    if source.kind != target.kind:
        raise ValueError(f"{unit} is no {target.kind}, as a name that ends in {suffix} says")
    return source.size / target.size
