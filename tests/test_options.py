"""Which options exist: packaged ones and a user's."""

from __future__ import annotations

import os

import pytest

from mlps.engine.options import GROUPS, find_options, packaged_conf, shadowed, user_conf_dirs


@pytest.fixture
def mine(tmp_path):
    """A user's directory: one option of his own, one with a packaged name."""
    group = tmp_path / "mine" / "cluster"
    group.mkdir(parents=True)
    (group / "mylab.yaml").write_text("# The machines of my laboratory\nname: mylab\n")
    (group / "local.yaml").write_text("# Not the packaged one\nname: local\n")
    (group / "old.yml").write_text("# Not read\n")
    return tmp_path / "mine"


def test_every_group_has_packaged_options():
    assert {path.name for path in packaged_conf().iterdir() if path.is_dir()} - {
        "__pycache__"
    } == set(GROUPS)
    for group in GROUPS:
        assert find_options(group, ()), group


def test_options_are_sorted_and_know_where_they_are(mine):
    options = find_options("cluster", [mine])
    names = [option.name for option in options]
    assert names == sorted(names)
    assert {option.name for option in options if not option.packaged} == {"mylab"}
    (mylab,) = [option for option in options if option.name == "mylab"]
    assert mylab.path == mine / "cluster/mylab.yaml"
    assert mylab.summary == "The machines of my laboratory"


def test_a_users_file_never_replaces_a_packaged_one(mine):
    (local,) = [option for option in find_options("cluster", [mine]) if option.name == "local"]
    assert local.packaged
    assert local.summary == "This machine"
    assert shadowed([mine]) == (mine / "cluster/local.yaml",)


def test_options_in_directories_have_a_path_as_name():
    assert "kvcache/quick" in [option.name for option in find_options("benchmark", ())]


def test_a_file_without_a_comment_has_no_summary(tmp_path):
    (tmp_path / "system").mkdir()
    (tmp_path / "system/bare.yaml").write_text("name: bare\n")
    (bare,) = [option for option in find_options("system", [tmp_path]) if option.name == "bare"]
    assert bare.summary == ""


def test_user_directories_are_those_of_the_variable_then_conf_here(tmp_path):
    for name in ("a", "b", "conf"):
        (tmp_path / name).mkdir()
    value = os.pathsep.join(["a", "", str(tmp_path / "b"), "a"])
    assert user_conf_dirs(tmp_path, value) == (
        tmp_path / "a",
        tmp_path / "b",
        tmp_path / "conf",
    )


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_conf_dirs(tmp_path, "~/lab") == (tmp_path / "lab",)


def test_the_packaged_directory_is_not_a_users(tmp_path):
    assert user_conf_dirs(packaged_conf().parent, None) == ()
    assert user_conf_dirs(tmp_path, None) == ()
