"""The manifest of checkpoints: read as it was written, and nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlps.engines.checkpoint_native.manifest import (
    MANIFEST,
    Manifest,
    forget_manifest,
    identity_of,
    read_manifest,
    write_manifest,
)
from mlps.engines.errors import EngineError, JobError
from mlps.engines.place import difference

BENCHMARK = {
    "model": {
        "layers": 2,
        "hidden": 64,
        "ffn": 128,
        "heads": 4,
        "kv_heads": 2,
        "vocab": 100,
        "datatype": "fp16",
        "optimizer_datatype": "fp32",
    },
    "parallelism": {"mode": "default", "tensor": 2, "pipeline": 1, "data": None, "zero": 1},
    "scale": 1,
}
WRITTEN = Manifest(
    run_id="20260101-a",
    job_sha256="a" * 64,
    identity=identity_of(BENCHMARK, 4),
    key=2**63 + 1,
    seed=42,
    row_bytes=2**22,
    hosts=("node1", "node1", "node2", "node1"),
    checkpoints=(1, 2, 3),
    start_unix_s=1.8e9 + 0.1,
    end_unix_s=1.8e9 + 70.25,
)

times = st.floats(0, 1e12)
manifests = st.builds(
    Manifest,
    run_id=st.text(min_size=1),
    job_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    identity=st.dictionaries(
        st.text(), st.integers(0, 2**60) | times | st.text() | st.none(), max_size=5
    ),
    key=st.integers(0, 2**64 - 1),
    seed=st.integers(0, 2**64 - 1),
    row_bytes=st.integers(4096, 2**30),
    hosts=st.lists(st.sampled_from(["a", "b", "c.example", "\u00fc"]), max_size=20).map(tuple),
    checkpoints=st.lists(st.integers(1, 10**4), unique=True).map(sorted).map(tuple),
    start_unix_s=times,
    end_unix_s=times,
)


@given(manifests)
def test_a_manifest_is_read_as_it_was_written(tmp_path_factory, manifest):
    directory = tmp_path_factory.mktemp("place")
    write_manifest(directory, manifest)
    assert read_manifest(directory) == manifest
    assert [path.name for path in directory.iterdir()] == [MANIFEST]


def test_hosts_of_many_ranks_take_little_room(tmp_path):
    hosts = tuple(f"accelerator-node-{rank // 8:04}.example.org" for rank in range(1024))
    write_manifest(tmp_path, replace(WRITTEN, hosts=hosts))
    assert read_manifest(tmp_path).hosts == hosts
    assert (tmp_path / MANIFEST).stat().st_size < 16 * 1024


@given(st.data())
def test_no_damage_goes_unseen(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("place")
    write_manifest(directory, WRITTEN)
    path = directory / MANIFEST
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 2))
    byte = data.draw(st.integers(0, 255))
    path.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    try:
        found = read_manifest(directory)
    except EngineError:
        return
    assert found == WRITTEN


@pytest.mark.parametrize("length", [0, 1, 100, 400])
def test_a_cut_manifest_is_damaged(tmp_path, length):
    write_manifest(tmp_path, WRITTEN)
    path = tmp_path / MANIFEST
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(EngineError, match=rf"{MANIFEST} is damaged .*: what is beside it"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[]", "7", '{"form": null}', '{"form": 1}', "\udcff"])
def test_what_is_no_manifest_is_damaged(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(EngineError, match=r"is damaged"):
        read_manifest(tmp_path)


def test_a_later_form_is_named(tmp_path):
    write_manifest(tmp_path, WRITTEN)
    document = json.loads((tmp_path / MANIFEST).read_bytes())
    (tmp_path / MANIFEST).write_text(json.dumps({**document, "form": 2, "mlps": "9.1"}))
    with pytest.raises(EngineError, match=r"is of form 2 and was written by .*, 9\.1: this one"):
        read_manifest(tmp_path)


def test_without_one_it_is_said_what_to_do(tmp_path):
    with pytest.raises(EngineError, match=rf"has no file {MANIFEST}: no complete checkpoint"):
        read_manifest(tmp_path)
    with pytest.raises(EngineError, match=r"none does not exist: .* benchmark.writes above 0"):
        read_manifest(tmp_path / "none")


def test_what_is_forgotten_is_gone_and_nothing_else(tmp_path):
    forget_manifest(tmp_path)
    write_manifest(tmp_path, WRITTEN)
    (tmp_path / f"{MANIFEST}.new").touch()
    (tmp_path / "other").touch()
    forget_manifest(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


# ---------------------------------------------------------------- what checkpoints are of


def changed(section=None, **keys):
    if section is None:
        return identity_of({**BENCHMARK, **keys}, 4)
    return identity_of({**BENCHMARK, section: {**BENCHMARK[section], **keys}}, 4)


def test_the_same_model_and_ranks_are_the_same():
    assert difference(identity_of(BENCHMARK, 4), identity_of(BENCHMARK, 4)) is None
    assert difference(changed(scale=1.0), changed(scale=1)) is None
    subset = changed("parallelism", mode="subset", data=2)
    assert difference(subset, identity_of(BENCHMARK, 4)) is None


@pytest.mark.parametrize("key", sorted(BENCHMARK["model"]))
def test_each_key_of_a_model_makes_another(key):
    value = BENCHMARK["model"][key]
    other = "bf16" if isinstance(value, str) else value + (2 if key == "heads" else 1)
    text = difference(changed("model", **{key: other}), identity_of(BENCHMARK, 4))
    assert text == f"model.{key}: found {other}, asked {value}"


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (changed("parallelism", zero=2), "parallelism.zero: found 2, asked 1"),
        (
            changed("parallelism", tensor=4),
            "parallelism.tensor: found 4, asked 2; parallelism.data: found 1, asked 2",
        ),
        (changed(scale=0.5), "scale: found 0.5, asked 1.0"),
        (
            identity_of(BENCHMARK, 8),
            "parallelism.data: found 4, asked 2; ranks: found 8, asked 4",
        ),
        (
            changed("model", layers=1, hidden=32, ffn=64, vocab=7),
            "model.layers: found 1, asked 2; model.hidden: found 32, asked 64;"
            " model.ffn: found 64, asked 128; and 1 more",
        ),
        ({**changed(), "new": 1}, "new: found 1, asked nothing"),
    ],
    ids=["zero", "tensor", "scale", "ranks", "many", "unknown"],
)
def test_what_differs_is_named_with_both_values(other, text):
    assert difference(other, identity_of(BENCHMARK, 4)) == text


def test_no_identity_of_what_cannot_be():
    with pytest.raises(JobError, match=r"3 ranks are no multiple"):
        identity_of(BENCHMARK, 3)
