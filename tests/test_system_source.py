"""The description of a job's system: where it comes from, and what a run says of it."""

from __future__ import annotations

import pytest
from official_jobs import official_spec
from systems import described, text_of
from test_system_clients import EIGHT

from mlps.engine.compose import compose
from mlps.engine.errors import ConfigError
from mlps.engine.jobs import prepare
from mlps.engine.system_source import find_description, judge_described

KEY = "system.file (command line: system.file=none.yaml)"
CLOSED = {"division.name": "closed"}


def judged(system, changes=CLOSED, hosts=None):
    spec = official_spec("kvcache/quick", changes | {"system": system})
    return [(each.rule, each.severity) for each in judge_described(spec, hosts)]


def option(name="filer", kind="onprem", **changes):
    return {"name": name, "file": None, "description": described(kind, **changes)}


def test_without_a_description_only_scored_divisions_warn():
    nothing = {"name": "undescribed", "file": None, "description": None}
    assert judged(nothing) == [("SYS-18", "warning")]
    assert judged(nothing, {"division.name": "open"}) == [("SYS-18", "warning")]
    assert judged(nothing, {}) == []


def test_a_description_in_order():
    assert judged(option()) == []
    assert judged(option(), hosts=EIGHT) == []


def test_what_is_an_error_of_a_package_is_a_warning_of_a_run():
    assert judged(option(total_rack_units=9)) == [("SYS-11", "warning")]
    assert judged(option(name="other")) == [("SYS-22", "warning")]
    assert judged(option(clients__0__quantity=7), hosts=EIGHT) == [
        ("SYS-24", "warning"), ("SYS-27", "warning"),
    ]  # fmt: skip


def test_one_without_its_form_is_not_compared_with_hosts():
    assert judged(option(clients__0__quantity="many"), hosts=EIGHT) == [("SYS-18", "warning")]


def test_a_file_stands_in_the_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "filer.yaml").write_text(text_of("onprem"))
    words = ["benchmark=kvcache/quick", "system.file=filer.yaml", "system.name=filer"]
    job = prepare(words)
    system = job.spec.document["system"]
    assert system["file"] == str(tmp_path / "filer.yaml")
    assert system["description"] == described("onprem")
    assert job.composition.origins["system.description"].kind == "found"
    assert [*judge_described(job.spec)] == []


def test_a_file_that_cannot_be_read_is_named_with_its_override(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        prepare(["benchmark=kvcache/quick", "system.file=none.yaml"])
    path = tmp_path / "none.yaml"
    text = f"{KEY}: {path} cannot be read: No such file or directory"
    assert str(caught.value) == text


def test_a_description_comes_from_one_place(tmp_path):
    (tmp_path / "filer.yaml").write_text(text_of("onprem"))
    composed = compose(["benchmark=kvcache/quick"], conf_dirs=(), cwd=tmp_path)
    system = {"name": "x", "file": str(tmp_path / "filer.yaml"), "description": {}}
    composed.values["system"] = system
    (problem,) = find_description(composed).problems
    assert "not both" in problem.text
