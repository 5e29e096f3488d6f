"""Datasets: what the job says, names and sizes as DLIO has them, and the shipped models' totals."""

from __future__ import annotations

import math
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_models import GIB, MODELS, dataset

from mlps.engines.errors import JobError
from mlps.engines.section import Section
from mlps.engines.training_native.dataset import Column, Split, dataset_of
from mlps.engines.training_native.draws import normals, permutation, random_words
from mlps.engines.training_native.files import drawn_sides
from mlps.engines.training_native.formats import planned_files

NPZ = {
    "format": "npz",
    "prefix": "img",
    "seed": 10,
    "samples_per_file": 1,
    "record_bytes": 1000.5,
    "record_bytes_stdev": 10,
    "jpeg_encoding": "raw",
    "parquet": {
        "columns": [],
        "row_group_rows": 1024,
        "compression": "none",
        "compat_dictionary": False,
    },
    "train": {"files": 12, "subfolders": 3},
    "eval": {"files": 2, "subfolders": 1},
}
COLUMNS = [
    {"name": "label", "dtype": "int8"},
    {"name": "numbers", "dtype": "float16", "size": 13, "read": False},
]
PARQUET = {
    **NPZ,
    "format": "parquet",
    "record_bytes": None,
    "record_bytes_stdev": 0,
    "parquet": {
        "columns": COLUMNS,
        "row_group_rows": 100,
        "compression": "gzip",
        "compat_dictionary": True,
    },
}


def read(document):
    return dataset_of(Section({"dataset": document}).section("dataset"))


# ---------------------------------------------------------------- the job's section


def test_a_section_becomes_a_dataset():
    found = read(NPZ)
    assert (found.format, found.samples_per_file, found.seed, found.prefix) == ("npz", 1, 10, "img")
    assert (found.record_bytes, found.record_bytes_stdev) == (1000.5, 10)
    assert (found.columns, found.row_group_rows) == ((), 1024)
    assert found.train == Split(name="train", files=12, subfolders=3)
    assert found.eval == Split(name="eval", files=2, subfolders=1)


def test_columns_decide_the_size_of_a_record():
    found = read(PARQUET)
    assert found.record_bytes == 1 + 13 * 2
    assert found.columns == (
        Column(name="label", dtype="int8", size=1, read=True),
        Column(name="numbers", dtype="float16", size=13, read=False),
    )
    assert (found.row_group_rows, found.compression, found.compat_dictionary) == (100, "gzip", True)


@pytest.mark.parametrize("encoding", ["raw", "real"])
def test_jpeg_is_noise_or_a_picture(encoding):
    found = read({**NPZ, "format": "jpeg", "jpeg_encoding": encoding})
    assert found.jpeg_encoding == encoding
    assert found.exact_sizes == (encoding == "raw")


def with_columns(*columns, **more):
    return {**PARQUET, **more, "parquet": {**PARQUET["parquet"], "columns": list(columns)}}


BAD = [
    ({**NPZ, "format": "csv"}, "dataset.format must be one of npz, npy, jpeg, parquet, tfrecord"),
    ({**NPZ, "prefix": "a/b"}, "dataset.prefix begins the names of files, it cannot be 'a/b'"),
    ({**NPZ, "train": {"files": 0, "subfolders": 1}}, "dataset.train.files must be a whole number"),
    ({**NPZ, "record_bytes": 0}, "dataset.record_bytes must be a number of at least 1, got 0"),
    (
        {**NPZ, "format": "jpeg", "jpeg_encoding": "raw", "samples_per_file": 2},
        "a jpeg file holds one sample: dataset.samples_per_file must be 1, got 2",
    ),
    (
        {**PARQUET, "record_bytes": 28},
        "dataset.record_bytes is 28, a row of the columns has 27 bytes",
    ),
    (
        {**PARQUET, "record_bytes_stdev": 1},
        "all rows of columns have one size: dataset.record_bytes_stdev must be 0, got 1",
    ),
    (with_columns(COLUMNS[0], COLUMNS[0]), "dataset.parquet.columns names label twice"),
    (with_columns(COLUMNS[1]), "dataset.parquet.columns has none that is read"),
    (
        with_columns({"name": "x", "dtype": "text"}),
        "dataset.parquet.columns[0].dtype must be one of bool, float16",
    ),
    (with_columns(3), "dataset.parquet.columns[0] must be a mapping, got 3"),
]


@pytest.mark.parametrize(("document", "text"), BAD, ids=[text[:40] for _, text in BAD])
def test_what_is_wrong_is_named(document, text):
    with pytest.raises(JobError) as caught:
        read(document)
    assert str(caught.value).startswith(text)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("data", "number", "path"),
    [
        (dataset("npz", files=168), 7, "train/img_007_of_168.npz"),
        (dataset("npz", files=9), 8, "train/img_8_of_9.npz"),
        (dataset("npy", files=10), 9, "train/img_09_of_10.npy"),
        (dataset("jpeg", files=12, subfolders=3), 7, "train/1/img_07_of_12.jpeg"),
        (dataset("jpeg", files=12, subfolders=10), 11, "train/01/img_11_of_12.jpeg"),
        (dataset("parquet", files=4, eval_files=20), 5, "valid/img_01_of_20.parquet"),
        (dataset("tfrecord", files=1, prefix="part"), 0, "train/part_0_of_1.tfrecord"),
    ],
)
def test_names_and_folders_are_those_of_dlio(data, number, path):
    assert data.path(number) == path


def test_the_shipped_models_last_files():
    assert {name: data.path(data.files - 1) for name, data in MODELS.items()} == {
        "unet3d": "train/img_7199_of_7200.npz",
        "retinanet": "train/img_1170300_of_1170301.jpeg",
        "dlrm": "train/img_1023_of_1024.parquet",
        "flux": "train/img_4295_of_4296.parquet",
        "cosmoflow": "train/img_524287_of_524288.tfrecord",
        "resnet50": "train/img_1023_of_1024.tfrecord",
    }


def test_both_folders_are_made_and_those_of_indexes():
    data = dataset("tfrecord", files=30, subfolders=2)
    assert data.directories == ("train", "valid", "train/0", "train/1", "index", "index/train")


@given(st.integers(1, 500), st.integers(1, 40), st.integers(0, 50))
def test_every_file_has_a_name_of_its_own_in_a_folder_that_is_made(files, subfolders, eval_files):
    data = dataset("npz", files=files, subfolders=subfolders, eval_files=eval_files)
    paths = [data.path(number) for number in range(data.files)]
    assert len(set(paths)) == files + eval_files
    assert {path.rpartition("/")[0] for path in paths} <= set(data.directories)


def test_there_is_no_file_beyond_the_last():
    with pytest.raises(ValueError, match="there is no file 3 of 3"):
        dataset("npz").path(3)


# ---------------------------------------------------------------- sizes

NOMINAL_GIB = {
    "unet3d": 983, "retinanet": 352, "dlrm": 3424, "flux": 2495, "cosmoflow": 1381, "resnet50": 137,
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_models_have_their_listed_size(name):
    assert abs(MODELS[name].nominal_bytes / GIB - NOMINAL_GIB[name]) < 1


# Planned bytes of all files, and of the first three: these never change.
PLANNED = {
    "unet3d": (1051607971894, [214076910, 159443466, 295519596]),
    "retinanet": (377567189824, [322624, 322624, 322624]),
    "dlrm": (3686057115648, [3599665152, 3599665152, 3599665152]),
    "flux": (2678473649976, [623480831, 623480831, 623480831]),
    "cosmoflow": (1480592594481, [2888310, 2840820, 2954927]),
    "resnet50": (146426167296, [142994304, 142994304, 142994304]),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_models_have_these_files(name):
    files = planned_files(MODELS[name])
    assert (files.total_bytes, files.sizes_bytes[:3].tolist()) == PLANNED[name]


@pytest.mark.parametrize("name", MODELS)
def test_planned_files_are_within_a_percent_of_nominal(name):
    data = MODELS[name]
    assert planned_files(data).total_bytes == pytest.approx(data.nominal_bytes, rel=0.01)


def test_without_deviation_samples_are_squares_below_the_nominal_size():
    files = planned_files(MODELS["retinanet"])
    assert set(files.sizes_bytes.tolist()) == {568 * 568}


def test_sides_are_drawn_as_dlio_draws_them():
    data = MODELS["unet3d"]
    assert data.side == math.floor(math.sqrt(146600628)) == 12107
    sides = np.concatenate(drawn_sides(data)).astype(float)
    expected = data.side_stdev
    assert expected == pytest.approx(68341808 / 2 / math.sqrt(146600628))
    # Whole numbers: on average half a byte less.
    assert sides.mean() == pytest.approx(12107 - 0.5, abs=4 * expected / math.sqrt(len(sides)))
    assert sides.std() == pytest.approx(expected, rel=0.02)
    assert sides.min() >= 1


def test_a_file_has_the_same_size_in_a_dataset_of_more_files():
    few = dataset("npz", files=100, record_bytes=5000, record_bytes_stdev=2000)
    many = dataset("npz", files=70000, record_bytes=5000, record_bytes_stdev=2000)
    assert np.array_equal(
        planned_files(few).sizes_bytes, planned_files(many).sizes_bytes[: few.files]
    )


def test_ranks_share_the_files_whatever_their_number():
    files = planned_files(dataset("npz", files=50, record_bytes_stdev=2000))
    alone = list(files.of_rank(0, 1))
    together = [file for rank in range(7) for file in files.of_rank(rank, 7)]
    assert sorted(together, key=lambda file: file.number) == alone
    assert [file.number for file in files.of_rank(3, 7)][:3] == [3, 10, 17]


@pytest.mark.parametrize("name", ["retinanet", "cosmoflow"])
def test_a_million_files_are_planned_at_once(name):
    tracemalloc.start()
    begun = time.process_time()
    planned_files(MODELS[name])
    took_s = time.process_time() - begun
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took_s < 2
    assert peak < 100 * 2**20


# ---------------------------------------------------------------- draws


GOLDEN_WORDS = [4324491520103523927, 1208731565923338176]
GOLDEN_NORMALS = [0.37249755859375, 0.8571929931640625, -1.7734298706054688]
GOLDEN_ORDER = [4, 5, 1, 3, 6, 0, 7, 2]


def test_numbers_by_counter_never_change():
    assert random_words(seed=1, stream=2, number=3, first=4, count=2).tolist() == GOLDEN_WORDS
    assert normals(seed=1, stream=2, first=0, count=3).tolist() == GOLDEN_NORMALS
    assert permutation(seed=1, stream=2, count=8).tolist() == GOLDEN_ORDER


@given(st.integers(0, 200_000), st.integers(1, 100))
def test_normal_numbers_are_the_same_from_any_start(first, count):
    whole = normals(seed=5, stream=1, first=first, count=count + 1)
    assert np.array_equal(whole[1:], normals(seed=5, stream=1, first=first + 1, count=count))


def test_normal_numbers_are_normal():
    drawn = np.sort(normals(seed=3, stream=1, first=0, count=200_000))
    normal = np.array([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in drawn[::100]])
    found = np.arange(0, len(drawn), 100) / len(drawn)
    assert np.abs(found - normal).max() < 0.005
