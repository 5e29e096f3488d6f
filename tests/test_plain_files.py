"""Files that somebody hands in: junk, links, bombs and mistakes do no harm and are named."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from deep_trees import deepen
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine import plain_files
from mlps.engine.errors import ArchiveError
from mlps.engine.plain_files import (
    is_junk,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
    read_yaml,
    walk,
)


def test_a_walk_gives_parents_first_and_follows_no_link(tmp_path):
    (tmp_path / "b/inner").mkdir(parents=True)
    (tmp_path / "a").write_text("four")
    (tmp_path / "b/inner/c").touch()
    (tmp_path / "link").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    assert [(entry.name, entry.kind) for entry in walk(tmp_path)] == [
        ("a", "file"),
        ("b", "directory"),
        ("link", "link"),
        ("pipe", "other"),
        ("b/inner", "directory"),
        ("b/inner/c", "file"),
    ]
    assert next(walk(tmp_path)).size_bytes == 4


def test_a_walk_goes_deeper_than_the_stack_of_python(tmp_path):
    deepen(tmp_path, 1200)
    assert sum(1 for _ in walk(tmp_path)) == 1200
    # pytest's own tidying would go deeper than the stack.
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_walk_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_files, "ENTRY_LIMIT", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(ArchiveError, match="holds more than 2 files"):
        list(walk(tmp_path))


@pytest.mark.parametrize(
    ("name", "junk"),
    [
        ("a/._summary.json", True),
        (".DS_Store", True),
        ("a/b.json~", True),
        (".b.swp", True),
        ("summary.json", False),
        (".mlps-code-image", False),
    ],
)
def test_junk(name, junk):
    assert is_junk(name) is junk


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1" * (1 << 20))
    assert len(read_bytes(path, 1 << 20)) == 1 << 20
    path.write_bytes(b"1" * ((1 << 20) + 1))
    with pytest.raises(ArchiveError, match="has more than 1 MiB, which is not read"):
        read_bytes(path, 1 << 20)


def test_a_huge_file_with_holes_is_refused_at_once(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ArchiveError, match="has more than 32 MiB"):
        read_json(path)


def test_links_pipes_and_directories_are_not_read(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        ArchiveError, match="link cannot be read: it is a link, and none is followed"
    ):
        read_bytes(tmp_path / "link")
    with pytest.raises(ArchiveError, match="is no regular file"):
        read_bytes(tmp_path / "pipe")
    with pytest.raises(ArchiveError, match=r"Is a directory|is no regular file"):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n "a": 1,\n}', "is no JSON: line 3 column 1"),
        ("[NaN]", "is no JSON: NaN is no number of JSON"),
        ("[" + "1" * 10_000 + "]", "is no JSON: Exceeds the limit"),
        ("[" * 100_000, "is nested deeper than 64 levels"),
        ('{"a":' * 65 + "1" + "}" * 65, "is nested deeper than 64 levels"),
        ("\udcff", "is not in UTF-8: byte 0"),
    ],
    ids=["comma", "constant", "digits", "unclosed", "closed", "bytes"],
)
def test_json_that_is_none(tmp_path, text, message):
    path = tmp_path / "file.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArchiveError, match=message):
        read_json(path)


def depth_of(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return int(isinstance(value, dict | list)) + max(map(depth_of, inner), default=0)


TEXTS = st.text('[]{}"\\,:a', max_size=5)


@given(
    st.recursive(
        st.none() | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    )
)
def test_the_depth_of_any_document(document):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_files, "DEPTH_LIMIT", 3)
        if depth_of(document) <= 3:
            assert parse_json(Path("it"), json.dumps(document).encode()) == document
        else:
            with pytest.raises(ArchiveError, match="it is nested deeper than 3 levels"):
                parse_json(Path("it"), json.dumps(document).encode())


def test_brackets_in_strings_are_no_depth(tmp_path):
    path = tmp_path / "file.json"
    path.write_text('["' + "[" * 99 + '", "\\"[' + "{" * 99 + '"]')
    assert read_json(path) == ["[" * 99, '"[' + "{" * 99]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [", "is no YAML: line 3 column 1"),
        ("a: &x [1]\nb: *x", r"line 2: an alias \(\*x\) is not read"),
        ("!!python/object/apply:os.system [true]", "is no YAML: line 1 column 1: could not"),
        ("a: !secret x", "is no YAML: line 1 column 4: could not"),
        ("[" * 1000, "is nested deeper than 64 levels"),
        ("[" + "1," * 300_000 + "]", "has more than 200,000 values"),
        ("a: 2026-13-45", "is no YAML: month must be"),
        (
            "\u00e9: 1\n\u00e9: \x07",
            r"is no YAML: line 2 column 4: U\+0007: \w+ characters are not",
        ),
        ("\0\0", r"is no YAML: line 1 column 1: U\+0000: \w+ characters are not allowed$"),
    ],
    ids=["open", "alias", "python", "tag", "deep", "wide", "date", "control sign", "zeros"],
)
def test_yaml_that_is_refused(text, message):
    with pytest.raises(ArchiveError, match=message):
        parse_yaml(text, "it")


def test_yaml(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: {b: [1, two, 3.5, null, true]}\n")
    assert read_yaml(path) == {"a": {"b": [1, "two", 3.5, None, True]}}
    path.write_text("")
    assert read_yaml(path) is None


def test_a_walk_that_keeps_going_names_what_it_cannot_list(tmp_path):
    current = os.open(tmp_path, os.O_RDONLY)
    for _ in range(2100):
        os.mkdir("d", dir_fd=current)
        inner = os.open("d", os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    (tmp_path / "e").touch()
    kinds = [entry.kind for entry in walk(tmp_path, keep_going=True)]
    assert (kinds.count("unlistable"), kinds.count("file")) == (1, 1)
    with pytest.raises(ArchiveError, match="File name too long"):
        list(walk(tmp_path))
    subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_a_key_that_stands_twice_in_an_object_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1, "b": {"c": 1, "c": 2}}')
    with pytest.raises(ArchiveError, match="the key 'c' stands in it twice"):
        read_json(tmp_path / "a.json")
