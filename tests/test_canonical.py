"""Canonical JSON and digests: what gives a job its identity."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlps.engine.canonical import canonical_json, pretty_json, sha256_file, sha256_hex

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
documents = st.recursive(
    leaves | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def shuffled(value, random):
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: shuffled(value[name], random) for name in names}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


@settings(max_examples=40)
@given(documents, st.randoms())
def test_order_of_keys_does_not_matter(value, random):
    assert canonical_json(shuffled(value, random)) == canonical_json(value)


@given(documents)
def test_nothing_is_lost(value):
    assert json.loads(canonical_json(value)) == value
    assert json.loads(pretty_json(value)) == value


def test_form():
    assert (
        canonical_json({"b": [1, 2.5, None], "a": "\u00e9"}) == b'{"a":"\xc3\xa9","b":[1,2.5,null]}'
    )
    assert pretty_json({"b": 1, "a": "\u00e9"}) == b'{\n "b": 1,\n "a": "\xc3\xa9"\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]], ids=str)
@pytest.mark.parametrize("function", [canonical_json, pretty_json])
def test_no_nan(function, value):
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        function(value)


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        canonical_json({"a": {1}})


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_digests(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert sha256_file(path) == sha256_hex(data) == hashlib.sha256(data).hexdigest()
