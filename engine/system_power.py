"""Rack units and provisioned power of a described system (ruling of the chairs, issue 846).

Product nodes and switches count; clients, and power supplies of racks, never do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .canonical import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Rack units, and watts on the nameplates; None where a part does not tell."""

    rack_units: int | None
    power_w: float | None

    def as_document(self) -> Document:
        return {"rack_units": self.rack_units, "power_w": self.power_w}


def footprint(system: Document) -> Footprint:
    """What a system whose description fits the schema takes up; `system` is `system_under_test`."""
    units = [part.rack_units for part in _parts(system)]
    power = [part.power_w for part in _parts(system)]
    return Footprint(
        rack_units=sum(unit for unit in units if unit is not None) if _whole(units) else None,
        power_w=sum(watts for watts in power if watts is not None) if _whole(power) else None,
    )


def nameplate_w(power: Document) -> float:
    """Watts of all power supplies of a part, those to spare included."""
    return float(
        sum(each["unit_count"] * each["nameplate_power_watts"] for each in power["psus_configured"])
    )


def _whole(values: list[int | None] | list[float | None]) -> bool:
    return bool(values) and all(value is not None for value in values)


def _parts(system: Document) -> Iterator[Footprint]:
    """Each kind of product node and switch, as often as there is of it."""
    kinds = [(node["chassis"], node["quantity"]) for node in system.get("product_nodes", [])]
    kinds += [(switch, switch["unit_count"]) for switch in system.get("product_switches", [])]
    for part, count in kinds:
        units, power = part.get("rack_units"), part.get("power")
        yield Footprint(
            rack_units=None if units is None else units * count,
            power_w=None if power is None else nameplate_w(power) * count,
        )
