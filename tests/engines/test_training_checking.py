"""Checks of a dataset that is there: each damage is found by name, at the level that shows it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from training_models import dataset, written

from mlps.engines.errors import EngineError
from mlps.engines.io_core.control import Control
from mlps.engines.training_native.checking import Checks, Findings, check_files
from mlps.engines.training_native.formats import index_file, planned_files
from mlps.engines.training_native.manifest import manifest_of


def made(directory, format="npz", **more):
    """A dataset on the storage, and its manifest."""
    data = dataset(format, files=7, eval_files=2, subfolders=3, **more)
    for folder in data.directories:
        (directory / folder).mkdir(parents=True, exist_ok=True)
    tallies = []
    for number in range(data.files):
        _, _, tally = written(data, directory, number)
        tallies.append(tally)
        index = index_file(data, planned_files(data).file(number))
        if index is not None:
            (directory / index[0]).write_bytes(index[1])
    sizes = np.array([tally.size_bytes for tally in tallies], dtype=np.int64)
    crc32 = np.array([tally.crc32 for tally in tallies], dtype=np.uint32)
    return data, manifest_of(data, "mlps", sizes, crc32)


def refused(directory, data, manifest, level, ranks=2):
    """What is said of the dataset by all ranks together; None if it is in order."""
    together, files = Findings(), 0
    for rank in range(ranks):
        checks = Checks(
            directory=directory, dataset=data, manifest=manifest, level=level, threads=2,
            rank=rank, ranks=ranks,
        )  # fmt: skip
        control = Control()
        control.start()
        findings, _ = check_files(checks, control)
        together.merge(findings)
        files += control.done
    assert files == data.files
    try:
        together.refuse(directory)
    except EngineError as error:
        return str(error)
    return None


@pytest.mark.parametrize("level", ["sizes", "headers", "content"])
@pytest.mark.parametrize("format", ["npz", "tfrecord"])
def test_a_dataset_in_order_passes(tmp_path, format, level):
    data, manifest = made(tmp_path, format)
    assert refused(tmp_path, data, manifest, level) is None
    assert refused(tmp_path, data, manifest, level, ranks=1) is None


FIRST = "train/0/img_0_of_7.npz"


def truncate(directory):
    (directory / FIRST).write_bytes((directory / FIRST).read_bytes()[:-1])


def remove(directory):
    (directory / FIRST).unlink()


def add(directory):
    (directory / "train/0/img_7_of_7.npz").write_text("more")


def misplace(directory):
    (directory / "train/1/img_0_of_7.npz").write_text("more")


def add_beside_folders(directory):
    (directory / "train/readme").write_text("more")


def replace_by_a_directory(directory):
    remove(directory)
    (directory / FIRST).mkdir()


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncate, r"1 file is of another size: train/0/img_0_of_7.npz has \d+ bytes, not \d+"),
        (remove, "1 file is not there: train/0/img_0_of_7.npz"),
        (add, "1 file is not of it: train/0/img_7_of_7.npz"),
        (misplace, "1 file is not of it: train/1/img_0_of_7.npz"),
        (add_beside_folders, "1 file is not of it: train/readme"),
        (replace_by_a_directory, "train/0/img_0_of_7.npz is no file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_is_found_by_the_least_check(tmp_path, damage, text):
    data, manifest = made(tmp_path)
    damage(tmp_path)
    said = refused(tmp_path, data, manifest, "sizes")
    assert said is not None
    assert re.search(text, said)


def overwrite(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def test_a_header_is_looked_at_by_headers_alone(tmp_path):
    data, manifest = made(tmp_path)
    overwrite(tmp_path / FIRST, -22)
    assert refused(tmp_path, data, manifest, "sizes") is None
    said = refused(tmp_path, data, manifest, "headers")
    assert "1 file is not of the format, or not whole: " in said
    assert f"{FIRST} is no whole npz file" in said


def test_other_content_is_found_by_content_alone(tmp_path):
    data, manifest = made(tmp_path)
    overwrite(tmp_path / FIRST, 5000)
    assert refused(tmp_path, data, manifest, "headers") is None
    assert f"1 file is of another content: {FIRST}" in refused(tmp_path, data, manifest, "content")


def test_an_index_that_is_missing_or_too_many_is_found(tmp_path):
    data, manifest = made(tmp_path, "tfrecord")
    (tmp_path / "index/train/img_1_of_7.tfrecord.idx").unlink()
    (tmp_path / "index/valid/other.idx").write_text("0 1")
    said = refused(tmp_path, data, manifest, "sizes")
    assert "1 file is not there: index/train/img_1_of_7.tfrecord.idx" in said
    assert "1 file is not of it: index/valid/other.idx" in said


def test_only_the_first_are_named():
    some, more = Findings(), Findings()
    for number in range(4):
        some.add("missing", f"a{number}")
        more.add("missing", f"b{number}")
    some.merge(more)
    with pytest.raises(EngineError, match="8 files are not there: a0, a1, a2, a3, b0 and 3 more"):
        some.refuse("/data")
