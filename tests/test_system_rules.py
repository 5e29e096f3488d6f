"""A description of a system: each rule where it fires and where it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import ABSENT, described

from mlps.engine.system_rules import SYSTEM_RULES, judge_system, normalised

RACKS = [
    {
        "min_psus_active": 1,
        "psus_configured": [
            {
                "unit_count": 2,
                "inlet_voltage": 230,
                "nameplate_power_watts": 3000,
                "efficiency": "Gold",
            }
        ],
    }
]
SWITCH = {
    "unit_count": 1,
    "vendor_name": "Example",
    "model_name": "SN",
    "ports": [{"unit_count": 1, "type": "other", "state": "down"}],
}


def rules(document, **more):
    return sorted({finding.rule for finding in judge_system(document, **more)})


@pytest.mark.parametrize("kind", ["onprem", "cloud"])
def test_the_examples_have_no_flaw(kind):
    assert judge_system(described(kind)) == []


CASES = [
    ("SYS-01", "onprem", {"product_nodes__0__chassis__rack_units": ABSENT}),
    ("SYS-02", "onprem", {"product_nodes__0__chassis__power": ABSENT}),
    ("SYS-03", "onprem", {"clients__0__chassis__rack_units": ABSENT}),
    ("SYS-04", "onprem", {"clients__0__chassis__power": ABSENT}),
    ("SYS-05", "onprem", {"total_rack_units": ABSENT}),
    ("SYS-06", "onprem", {"product_switches__0__power": ABSENT}),
    ("SYS-06", "onprem", {"product_switches__0__rack_units": ABSENT}),
    ("SYS-07", "cloud", {"product_switches": [SWITCH]}),
    ("SYS-08", "cloud", {"rack_power_supplies": RACKS}),
    ("SYS-09", "cloud", {"total_rack_units": 4}),
    ("SYS-09", "cloud", {"clients__0__chassis__rack_units": 1}),
    ("SYS-10", "cloud", {"clients__0__chassis__power": RACKS[0]}),
    ("SYS-11", "onprem", {"total_rack_units": 21}),
    ("SYS-12", "onprem", {"clients__0__chassis__power__min_psus_active": 3}),
    ("SYS-12", "onprem", {"product_switches__0__power__min_psus_active": 3}),
    ("SYS-13", "cloud", {"solution__capabilities__remap_time_in_seconds": 5}),
    ("SYS-13", "cloud", {"solution__capabilities__simultaneous_read": False}),
    ("SYS-14", "cloud", {"solution__architecture__client_footprint": "n/a"}),
    ("SYS-15", "onprem", {"product_nodes__0__networking": ABSENT}),
    ("SYS-16", "cloud", {"clients__0__networking": []}),
    ("SYS-17", "onprem", {"solution__architecture__storage_location": "local"}),
    ("SYS-18", "cloud", {"clients__0__quantity": 0}),
    ("SYS-18", "cloud", {"solution__capabilities__multi_host": ABSENT}),
    ("SYS-18", "cloud", {"solution__name": "x"}),
    ("SYS-18", "cloud", {"clients__0__networking__0__speed": ABSENT}),
    ("SYS-19", "cloud", {"solution__availability": None}),
    ("SYS-19", "cloud", {"clients__0__chassis__cpu_model": ""}),
    ("SYS-19", "cloud", {"clients__0__chassis__cpu_cores": None}),
    ("SYS-20", "cloud", {"clients__0__networking__0__type": "Ethernet"}),
    ("SYS-21", "onprem", {"clients__0__chassis__power": ABSENT, "rack_power_supplies": RACKS}),
    ("SYS-23", "cloud", {"solution__usable_capacity_tib": ABSENT}),
    ("SYS-28", "onprem", {"product_nodes": ABSENT, "total_rack_units": 1}),
    ("SYS-28", "onprem", {"product_nodes": [], "total_rack_units": 1}),
]


@pytest.mark.parametrize(
    ("rule", "kind", "changes"),
    CASES,
    ids=[f"{rule} {next(iter(changes))}" for rule, _, changes in CASES],
)
def test_one_change_gives_one_rule(rule, kind, changes):
    found = judge_system(described(kind, **changes))
    assert {finding.rule for finding in found} == {rule}
    expected = SYSTEM_RULES[rule].severity
    assert {finding.severity for finding in found} == {expected}


def test_the_name_must_be_that_of_the_system():
    assert rules(described("cloud"), name="other") == ["SYS-22"]


def test_the_name_of_the_system_itself_is_no_flaw():
    assert rules(described("cloud"), name="mysystem") == []


def test_a_service_of_a_cloud_has_no_machines_to_describe():
    (finding,) = judge_system(described("cloud", product_nodes=ABSENT))
    assert (finding.rule, finding.severity) == ("SYS-28", "info")
    assert finding.key == "system_under_test.product_nodes"


@pytest.mark.parametrize("location", ["local", "remote_and_local"])
def test_only_storage_that_is_remote_has_machines_of_its_own(location):
    changes = {
        "product_nodes": ABSENT,
        "product_switches": ABSENT,
        "total_rack_units": 0,
        "solution__architecture__storage_location": location,
    }
    found = rules(described("onprem", **changes))
    assert found == ([] if location == "local" else ["SYS-28"])


def test_local_storage_needs_no_networks():
    local = {"solution__architecture__storage_location": "local", "clients__0__networking": ABSENT}
    assert rules(described("cloud", **local)) == []


def test_both_on_premises_and_remapping_are_fine():
    apart = {
        "solution__capabilities__simultaneous_write": False,
        "solution__capabilities__remap_time_in_seconds": 30,
    }
    assert rules(described("onprem", **apart)) == []


def test_custom_hardware_may_leave_processors_and_memory_null():
    blank = dict.fromkeys(
        [
            f"product_nodes__0__chassis__{name}"
            for name in ("cpu_model", "cpu_qty", "cpu_cores", "memory_capacity")
        ]
    )
    assert rules(described("onprem", **blank)) == ["SYS-19"]
    assert rules(described("onprem", product_nodes__0__custom_hardware=True, **blank)) == []


def test_words_in_another_case_are_stored_as_the_edition_writes_them():
    document = described(
        clients__0__networking__0__state="UP", product_nodes__0__drives__0__interface="NVMe"
    )
    document["system_under_test"]["product_nodes"][0]["drives"][0]["media_type"] = "tlc"
    system = normalised(document)[0]["system_under_test"]
    drive = system["product_nodes"][0]["drives"][0]
    assert (drive["interface"], drive["media_type"]) == ("nvme", "TLC")
    assert system["clients"][0]["networking"][0]["state"] == "up"
    assert rules(document) == ["SYS-20"]


def test_a_finding_has_the_place_of_its_key_or_of_what_it_is_in():
    document = described("onprem", total_rack_units=ABSENT)
    (finding,) = judge_system(document, where={"system_under_test": "a.yaml:1"})
    assert finding.text == "missing on premises (a.yaml:1)"
    assert finding.hint == "the parts have 5"


def test_an_unknown_key_names_the_nearest():
    document = described("cloud", solution__availabilty="now")
    (finding,) = judge_system(document)
    assert finding.hint == "did you mean system_under_test.solution.availability?"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
PLACES = [
    "solution", "deployment", "clients", "clients__0", "clients__0__chassis", "product_nodes",
    "clients__0__networking", "product_switches", "total_rack_units", "rack_power_supplies",
    "clients__0__chassis__power", "solution__capabilities", "clients__0__quantity",
]  # fmt: skip


@given(st.sampled_from(PLACES), JSON)
def test_anything_in_any_place_is_a_finding_and_no_failure(place, value):
    judge_system(described("onprem", **{place: value}))


@given(JSON)
def test_anything_as_a_whole_is_a_finding_and_no_failure(value):
    assert judge_system({"system_under_test": value})
