"""The description of a job's system: where it comes from, and what a run says of it."""

from __future__ import annotations

import textwrap

import pytest
from official_jobs import official_spec
from systems import described, text_of
from test_system_clients import EIGHT

from mlps.engine.compose import Origin, compose
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
    job = prepare(["benchmark=kvcache/quick", "system.file=filer.yaml"])
    path = tmp_path / "filer.yaml"
    description = described("onprem")
    found = {"name": "filer", "file": str(path), "description": description}
    assert job.spec.document["system"] == found
    for key in ("system.name", "system.description"):
        assert job.composition.origins[key] == Origin(kind="found", where=f"file {path}")
    assert [*judge_described(job.spec)] == []


OPTION = "name: own\nfile: null\ndescription:\n"


@pytest.mark.parametrize(
    ("file", "head", "words", "name"),
    [
        ("filer.yaml", "", [], "filer"),
        ("filer.v2.yaml", "", [], "filer.v2"),
        ("filer.yaml", OPTION, [], "own"),
        ("filer.yaml", OPTION.replace("own", "7"), [], "filer"),
        ("filer.yaml", OPTION, ["system.name=mine"], "mine"),
        ("filer.yaml", "", ["system.name=undescribed"], "undescribed"),
        ("filer.yaml", OPTION, ["system=site"], "site"),
        ("filer.yaml", OPTION, ["system=nameless"], "own"),
    ],
    ids=[
        "its own", "with a dot", "as an option", "no text", "override", "the packaged one wanted",
        "user's option", "user's option without a name",
    ],
)  # fmt: skip
def test_a_system_is_called_what_its_file_says_or_the_job(
    tmp_path, monkeypatch, file, head, words, name
):
    monkeypatch.chdir(tmp_path)
    text = text_of("onprem")
    (tmp_path / file).write_text(head + (textwrap.indent(text, "  ") if head else text))
    options = tmp_path / "conf/system"
    options.mkdir(parents=True)
    (options / "site.yaml").write_text("name: site\ndescription: null\nfile: null\n")
    (options / "nameless.yaml").write_text("description: null\nfile: null\n")
    job = prepare(["benchmark=kvcache/quick", f"system.file={file}", *words])
    assert job.spec.document["system"]["name"] == name


def test_a_file_whose_name_no_system_can_have(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my filer.yaml"
    path.write_text(text_of("onprem"))
    with pytest.raises(ConfigError) as caught:
        prepare(["benchmark=kvcache/quick", "system.file='my filer.yaml'"])
    assert str(caught.value).startswith(f"system.name (file {path}): expected a string of the form")
    assert caught.value.hint == 'for example system.name="mysystem"'


@pytest.mark.parametrize("name", [".", "..", ".filer"])
def test_no_system_is_called_as_a_directory_above_or_hidden(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"system\.name .*: expected a string of the form"):
        prepare(["benchmark=kvcache/quick", f"system.name={name}"])


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
