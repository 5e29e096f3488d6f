"""Reading below a root: what is missing is noted, nothing outside is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from unpack import unpack

from mlps.engine.probe.tree import Tree


def test_a_file_that_says_something(tmp_path):
    tree = Tree(unpack("= /etc/x = 5\n", tmp_path))
    assert tree.fact("x", "/etc/x", str.strip) == "5"
    assert tree.errors == {}


@pytest.mark.parametrize(
    ("path", "parse", "why"),
    [
        ("/nowhere", str.strip, "/nowhere: No such file or directory"),
        ("/etc", str.strip, "/etc: Is a directory"),
        ("/etc/x", lambda _text: None, "/etc/x: it does not say"),
        ("/etc/empty", str.strip, "/etc/empty: it does not say"),
    ],
    ids=["missing", "directory", "not understood", "empty"],
)
def test_what_is_unknown_has_a_reason(tmp_path, path, parse, why):
    tree = Tree(unpack("= /etc/x = 5\n= /etc/empty =\n", tmp_path))
    assert tree.fact("x", path, parse) == "unknown"
    assert tree.errors == {"x": why}


def test_zero_and_false_are_known(tmp_path):
    tree = Tree(tmp_path)
    assert tree.known("x", 0, "never") == 0
    assert tree.known("y", False, "never") is False
    assert tree.known("z", None, "why") == "unknown"
    assert tree.errors == {"z": "why"}


def test_links_are_followed_as_seen_from_the_root(tmp_path):
    tree = Tree(unpack("= /a/b/c = 1\n= /d/e -> /a/b\n", tmp_path))
    assert tree.real("/d/e/c") == "/a/b/c"
    assert tree.real("/") == "/"
    assert tree.real("/missing/x") == "/missing/x"
    assert tree.names("/d/e") == ["c"]
    assert (tree.exists("/d/e/c"), tree.exists("/d/x")) == (True, False)


def test_odd_paths_are_missing_ones(tmp_path):
    tree = Tree(tmp_path)
    assert (tree.text("/a\0b"), tree.names("/a\0b"), tree.exists("/a\0b")) == ("", [], False)


def test_only_the_root_of_the_host_is_the_host(tmp_path):
    assert Tree(Path("/")).is_host
    assert not Tree(tmp_path).is_host
