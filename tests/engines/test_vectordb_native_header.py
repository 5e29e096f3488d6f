"""An index is complete by its header alone, and only if all that this vouches for is there."""

import json
from dataclasses import replace

import pytest
from vector_data import clustered, make_index, spec_of

from mlps.engines.errors import EngineError
from mlps.engines.vectordb.native.header import read_index, vectors_of
from mlps.engines.vectordb.native.layout import HEADER, LISTS, SPILL, TABLE

VECTORS = clustered(600, 8)
SPEC = spec_of(VECTORS, nlist=12, kmeans_rounds=2)


@pytest.fixture
def index(tmp_path):
    make_index(tmp_path, VECTORS, SPEC)
    return tmp_path


def refused(directory, text, spec=SPEC):
    with pytest.raises(EngineError) as raised:
        read_index(directory, spec)
    assert text in str(raised.value)


def test_a_complete_index_is_read(index):
    found = read_index(index, SPEC)
    assert found.centroids.shape == (12, 8)
    assert found.extents.rows.sum() == vectors_of(index) == 600
    assert len(found.sums) == found.extents.pieces
    assert sorted(path.name for path in index.iterdir()) == [HEADER, LISTS, TABLE]


def test_nothing_is_no_index(tmp_path):
    refused(tmp_path, f"{tmp_path} holds no index: there is no {HEADER}")


def test_a_part_of_an_index_is_refused_by_name(index):
    (index / HEADER).unlink()
    refused(index, f"{index} holds a part of an index ({TABLE}, {LISTS}, no {HEADER})")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"metric": "IP"}, "another index: metric: found COSINE, asked IP"),
        ({"seed": 8}, "another index: seed: found 7, asked 8"),
        ({"vectors": 601}, "another index: vectors: found 600, asked 601"),
        ({"dimension": 9}, "another index: dimension: found 8, asked 9"),
        ({"build": {"nlist": 13, "kmeans_rounds": 2}}, "index.nlist: found 12, asked 13"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_index_is_refused_by_the_key_that_differs(index, change, text):
    refused(index, text, replace(SPEC, **change))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 5, 100, -3])
def test_a_damaged_header_is_refused(index, at):
    flip(index / HEADER, at)
    refused(index, f"{HEADER} is damaged: its checksum is wrong")


@pytest.mark.parametrize("text", ["", "[]", "{}", "1", '{"sha256": 1}'])
def test_what_is_no_header_is_refused(index, text):
    (index / HEADER).write_text(text)
    refused(index, f"{HEADER} is damaged: its checksum is wrong")


def test_a_header_that_was_changed_by_hand_is_refused(index):
    document = json.loads((index / HEADER).read_text())
    (index / HEADER).write_text(json.dumps({**document, "vectors": 601}))
    refused(index, "its checksum is wrong", replace(SPEC, vectors=601))


@pytest.mark.parametrize("at", [0, -1])
def test_a_damaged_table_is_refused(index, at):
    flip(index / TABLE, at)
    refused(index, f"{TABLE} is damaged: its SHA-256 is not that of {HEADER}")


def test_lists_of_another_size_are_refused(index):
    with (index / LISTS).open("ab") as file:
        file.write(b"\0")
    refused(index, f"{LISTS} is damaged: it has")


@pytest.mark.parametrize("name", [TABLE, LISTS])
def test_a_missing_file_is_refused(index, name):
    (index / name).unlink()
    refused(index, f"{name}: No such file or directory (ENOENT)")


def test_what_a_crash_after_the_header_leaves_does_no_harm(index):
    (index / SPILL).write_bytes(b"rest")
    assert vectors_of(index) == read_index(index, SPEC).extents.rows.sum() == 600
