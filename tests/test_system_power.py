"""Rack units and watts: product nodes and switches, never clients."""

from __future__ import annotations

from systems import ABSENT, described

from mlps.engine.system_power import Footprint, footprint


def of(**changes):
    return footprint(described("onprem", **changes)["system_under_test"])


def test_all_supplies_of_product_nodes_and_switches_count():
    assert of() == Footprint(rack_units=5, power_w=2 * 2 * 1200 + 2 * 550)


def test_clients_never_count():
    assert of(clients__0__quantity=800) == of()


def test_a_part_that_does_not_tell_leaves_the_whole_unknown():
    assert of(product_nodes__0__chassis__rack_units=ABSENT).rack_units is None
    assert of(product_switches__0__power=ABSENT).power_w is None
    assert of(product_nodes=[], product_switches=[]) == Footprint(rack_units=None, power_w=None)
