"""References: what a text means, what may stand where, and that nothing is read twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engine.references import (
    Reference,
    as_document,
    escape,
    fill_text,
    fill_value,
    fill_words,
    joined,
    names_in,
    parse,
    shown,
)

SCOPE = {
    "seed": 42,
    "run_dir": "/data/{x}",
    "hosts": ["a", "b"],
    "benchmark": {"settings": {"size": 4096, "share": 0.5, "on": True, "no": None, "map": {"k": 1},
                               "words": ["-a", 1], "none": []}},
}  # fmt: skip


def words(*items, scope=SCOPE):
    return [shown(word) for word in fill_words(items, scope)]


@given(st.text())
def test_an_escaped_text_is_itself(text):
    assert joined(fill_text(escape(text), {})) == text


@given(st.text(alphabet="{}ab.", max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        parts = parse(text)
    except ValueError as error:
        assert repr(text) in str(error)
        return
    back = "".join(escape(part) if isinstance(part, str) else f"{{{part.name}}}" for part in parts)
    assert back == text


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "}",
        "{}",
        "{a",
        "a}",
        "{A}",
        "{a b}",
        "{a.}",
        "{{a}",
        "{a!r}",
        "{a[0]}",
        "{a.b()}",
        "{0}",
    ],
)
def test_a_lone_brace_or_a_wrong_name_is_refused(text):
    with pytest.raises(ValueError, match="a literal brace is doubled"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("s={seed}", "s=42"),
        ("{benchmark.settings.size}k", "4096k"),
        ("x{benchmark.settings.share}", "x0.5"),
        ("x{benchmark.settings.on}", "xtrue"),
        ("on {hosts}", "on a,b"),
        ("{{seed}} {seed}", "{seed} 42"),
        ("{run_dir}/f", "/data/{x}/f"),
        ("$(rm {seed}); `x`", "$(rm 42); `x`"),
    ],
)
def test_values_in_a_text(text, value):
    assert joined(fill_text(text, SCOPE)) == value


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("{nothing}", "{nothing} is nothing of the job"),
        ("{benchmark.settings.sizes}", "is nothing of the job"),
        ("{seed.real}", "is nothing of the job"),
        ("x{benchmark.settings.no}", "is null, which has no place in a text"),
        ("x{benchmark.settings.map}", "is a mapping, which has no place in a text"),
    ],
)
def test_what_has_no_place_in_a_text(text, flaw):
    with pytest.raises(ValueError, match=flaw):
        fill_text(text, SCOPE)


def test_whole_items_of_an_argv():
    assert words("prog", "{benchmark.settings.words}", "{benchmark.settings.no}") == [
        "prog", "-a", "1",
    ]  # fmt: skip
    assert words("{benchmark.settings.none}") == []
    assert words("{hosts}", "{seed}") == ["a", "b", "42"]
    with pytest.raises(ValueError, match="is a mapping"):
        words("{benchmark.settings.map}")


def test_each_key_of_a_mapping_gives_words():
    flags = {"users": 8, "verbose": True, "trace": None, "quiet": False, "devices": ["x", "y"]}
    scope = {"benchmark": {"settings": {"flags": flags}}}
    item = {"each": "{benchmark.settings.flags}", "as": ["--{key}", "{value}"]}
    assert words(item, scope=scope) == [
        "--devices", "x", "y", "--users", "8", "--verbose",
    ]  # fmt: skip
    joined_form = {"each": "{benchmark.settings.flags}", "as": ["{key}={value}"]}
    assert words(joined_form, scope=scope) == ["devices=x,y", "users=8", "verbose=true"]
    with pytest.raises(ValueError, match="no reference to a mapping"):
        words({"each": "{seed}", "as": ["x"]})


def test_what_only_a_process_knows_stays():
    (word,) = fill_words(["--out={rank}-{seed}"], SCOPE)
    assert word == ("--out=", Reference("rank"), "-42")
    assert as_document(word) == ["--out=", {"late": "rank"}, "-42"]
    with pytest.raises(ValueError, match="no file can hold it"):
        fill_value({"a": "{host}"}, SCOPE)


def test_values_of_a_file_keep_their_types():
    content = {"size": "{benchmark.settings.size}", "all": "{benchmark.settings.map}", "n": 1,
               "text": "s{seed}", "{seed}": ["{benchmark.settings.no}"]}  # fmt: skip
    assert fill_value(content, SCOPE) == {
        "size": 4096, "all": {"k": 1}, "n": 1, "text": "s42", "42": [None],
    }  # fmt: skip


def test_what_is_brought_in_is_not_read_again():
    scope = {"a": "{b}", "b": {"{c}": "{d}"}}
    assert joined(fill_text("{a}", scope)) == "{b}"
    assert fill_value("{b}", scope) == {"{c}": "{d}"}
    assert words("{a}", scope=scope) == ["{b}"]


def test_names_are_found_everywhere():
    value = {"{a}": ["{b.c}", {"x": "y{d}"}], "n": 1, "m": None}
    assert sorted(names_in(value)) == ["a", "b.c", "d"]
