"""Reading a part of the job by type: what each getter gives, and its word about anything else."""

from __future__ import annotations

import pytest

from mlps.engines.errors import JobError
from mlps.engines.section import Section


def said(getter, *arguments, value=None, where="io"):
    """The message of the error that a getter raises for a value at `where.key`."""
    section = Section({where: {"key": value}}).section(where)
    with pytest.raises(JobError) as caught:
        getattr(section, getter)("key", *arguments)
    return str(caught.value)


GOOD = [
    ("value", (), [1, None], [1, None]),
    ("count", (), 1, 1),
    ("count", (0,), 0, 0),
    ("count_or_none", (), 5, 5),
    ("count_or_none", (), None, None),
    ("number", (), 0, 0.0),
    ("number", (), 1.5, 1.5),
    ("number", (-1.0,), -0.5, -0.5),
    ("positive", (), 1e-9, 1e-9),
    ("positive_or_none", (), 3, 3.0),
    ("positive_or_none", (), None, None),
    ("flag", (), False, False),
    ("text", (), "a b", "a b"),
    ("choice", (("a", "b"),), "b", "b"),
]


@pytest.mark.parametrize(
    ("getter", "arguments", "value", "found"), GOOD, ids=lambda value: str(value)
)
def test_a_value_of_the_right_type(getter, arguments, value, found):
    got = getattr(Section({"key": value}), getter)("key", *arguments)
    assert got == found
    assert type(got) is type(found)


BAD = [
    ("section", (), 4, "must be a mapping, got 4"),
    ("section", (), None, "must be a mapping, got None"),
    ("section", (), [], "must be a mapping, got []"),
    ("count", (), 0, "must be a whole number of at least 1, got 0"),
    ("count", (2,), 1, "must be a whole number of at least 2, got 1"),
    ("count", (), True, "must be a whole number of at least 1, got True"),
    ("count", (), 1.0, "must be a whole number of at least 1, got 1.0"),
    ("count", (), "1", "must be a whole number of at least 1, got '1'"),
    ("count", (), None, "must be a whole number of at least 1, got None"),
    ("count_or_none", (), 0, "must be a whole number of at least 1, got 0"),
    ("count_or_none", (), "x", "must be a whole number of at least 1, got 'x'"),
    ("number", (), -0.1, "must be a number of at least 0, got -0.1"),
    ("number", (), float("nan"), "must be a number of at least 0, got nan"),
    ("number", (), False, "must be a number of at least 0, got False"),
    ("number", (), "1", "must be a number of at least 0, got '1'"),
    ("number", (0.25,), 0.2, "must be a number of at least 0.25, got 0.2"),
    ("positive", (), 0, "must be above 0"),
    ("positive", (), 0.0, "must be above 0"),
    ("positive", (), -1, "must be a number of at least 0, got -1"),
    ("positive_or_none", (), 0, "must be above 0"),
    ("positive_or_none", (), "x", "must be a number of at least 0, got 'x'"),
    ("flag", (), 1, "must be true or false, got 1"),
    ("flag", (), "true", "must be true or false, got 'true'"),
    ("flag", (), None, "must be true or false, got None"),
    ("text", (), "", "must be a text, got ''"),
    ("text", (), 7, "must be a text, got 7"),
    ("text", (), None, "must be a text, got None"),
    ("choice", (("a", "b"),), "c", "must be one of a, b, got 'c'"),
    ("choice", (("a", "b"),), None, "must be one of a, b, got None"),
    ("choice", (("1", "2"),), 1, "must be one of 1, 2, got 1"),
]


@pytest.mark.parametrize(("getter", "arguments", "value", "text"), BAD, ids=str)
def test_any_other_value_is_named_with_its_key(getter, arguments, value, text):
    assert said(getter, *arguments, value=value) == f"io.key {text}"


@pytest.mark.parametrize(
    ("getter", "arguments"),
    [
        ("value", ()),
        ("section", ()),
        ("count", ()),
        ("number", ()),
        ("positive", ()),
        ("flag", ()),
        ("text", ()),
        ("texts", ()),
        ("choice", (("a",),)),
    ],
)
def test_a_key_that_is_not_there(getter, arguments):
    whole = Section({"a": {"b": {}}})
    for section, key in ((whole, "key"), (whole.section("a").section("b"), "a.b.key")):
        with pytest.raises(JobError) as caught:
            getattr(section, getter)("key", *arguments)
        assert str(caught.value) == f"the benchmark has no {key}"


def test_null_is_as_good_as_nothing_where_a_key_may_be_left_out():
    section = Section({"null": None, "zero": 0, "false": False})
    assert [key in section for key in ("null", "zero", "false", "none")] == [
        False,
        True,
        True,
        False,
    ]
    assert section.count_or_none("none") is None
    assert section.positive_or_none("none") is None


def test_a_list_of_texts():
    assert Section({"words": ["a", ""]}).texts("words") == ("a", "")
    assert Section({"words": []}).texts("words") == ()
    for wrong in ("a", [1], None, {"a": 1}):
        with pytest.raises(JobError, match="words must be a list of texts"):
            Section({"words": wrong}).texts("words")
