"""Formats: files open in the readers of each, have their planned size, and are found again."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from training_models import MODELS, dataset, written

from mlps.engines.errors import EngineError
from mlps.engines.training_native.content import PIECE_BYTES, Content
from mlps.engines.training_native.formats import (
    check_file,
    extents,
    index_file,
    peak_bytes,
    pieces,
    planned_files,
    read_whole,
)
from mlps.engines.training_native.formats.checksum import Tally
from mlps.engines.training_native.formats.extents import Selection
from mlps.engines.training_native.formats.npz import _Member, _rest, planned_bytes
from mlps.engines.training_native.formats.tfrecord import planned_extents

ALL = Selection()
EXACT = ["npz", "npy", "jpeg", "tfrecord", "hdf5", "raw"]


def content_of(data, file, samples):
    return b"".join(map(bytes, Content(data.seed).pieces(file.number, file.sample_bytes * samples)))


# ---------------------------------------------------------------- sizes


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(EXACT),
    st.one_of(st.integers(1, 300), st.integers(1, 60000), st.just(3 * PIECE_BYTES)),
    st.integers(0, 500),
    st.integers(1, 9),
    st.integers(0, 2),
)
def test_planned_sizes_are_exact_to_the_byte(format, record_bytes, stdev, samples, number):
    data = dataset(
        format,
        record_bytes=record_bytes,
        record_bytes_stdev=stdev,
        samples_per_file=1 if format == "jpeg" else samples,
    )
    file = planned_files(data).file(number)
    tally = Tally()
    for piece in pieces(data, file, Content(data.seed), tally):
        assert len(piece) <= 8 * 2**20
    assert tally.size_bytes == file.size_bytes


@pytest.mark.parametrize("name", ["unet3d", "cosmoflow", "resnet50"])
def test_files_of_shipped_models_have_their_planned_size(name):
    data = MODELS[name]
    file = planned_files(data).file(1)
    tally = Tally()
    for _ in pieces(data, file, Content(data.seed), tally):
        pass
    assert tally.size_bytes == file.size_bytes


@pytest.mark.parametrize("format", [*EXACT, "parquet"])
def test_a_file_is_the_same_every_time_and_no_two_are(format, tmp_path):
    data = dataset(format)
    first, _, tally = written(data, tmp_path)
    again, _, _ = written(data, tmp_path / "again")
    other, _, _ = written(data, tmp_path, number=1)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert (tally.size_bytes, tally.crc32) == (first.stat().st_size, zlib.crc32(first.read_bytes()))


@pytest.mark.parametrize("format", ["npz", "npy", "raw", "tfrecord", "hdf5"])
def test_a_large_file_is_never_whole_in_memory(format):
    data = dataset(format, record_bytes=146600628)
    file = planned_files(data).file(0)
    tracemalloc.start()
    for _ in pieces(data, file, Content(data.seed), Tally()):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * 2**20 < peak_bytes(data)


@pytest.mark.parametrize("format", [*EXACT, "parquet"])
def test_a_file_may_be_given_up_in_the_middle(format):
    data = dataset(format, record_bytes=2 * PIECE_BYTES)
    begun = pieces(data, planned_files(data).file(0), Content(data.seed), Tally())
    next(begun)
    begun.close()


# ---------------------------------------------------------------- npz and npy


@pytest.mark.parametrize("record_bytes", [1, 3, 90000, 2 * PIECE_BYTES], ids=str)
@pytest.mark.parametrize("samples", [1, 3])
def test_npz_is_what_numpy_would_have_saved(record_bytes, samples, tmp_path):
    data = dataset(
        "npz", record_bytes=record_bytes, record_bytes_stdev=50, samples_per_file=samples
    )
    path, file, _ = written(data, tmp_path)
    with np.load(path) as archive:
        x, y = archive["x"], archive["y"]
    assert x.shape == (file.height, file.width, samples)
    assert (x.dtype, y.tolist()) == (np.uint8, [0] * samples)
    # The last bytes of a large member make its checksum right.
    assert x.tobytes()[:-4] == content_of(data, file, samples)[:-4]
    saved = io.BytesIO()
    np.savez(saved, x=x, y=[0] * samples)
    assert path.read_bytes() == saved.getvalue()


class Headers(io.RawIOBase):
    """A file of which only small writes are kept."""

    def __init__(self):
        self.at, self.kept = 0, b""

    def seekable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=0):
        self.at = offset
        return offset

    def write(self, data):
        self.kept += bytes(data) if len(data) < 1000 else b""
        self.at += len(data)
        return len(data)


def test_beyond_2_gib_the_directory_is_what_zipfile_would_have_written():
    size, zeros, crc32 = 2**31, bytes(2**24), 0
    labels = io.BytesIO()
    np.save(labels, [0] * 3)
    file = Headers()
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            for _ in range(size // len(zeros)):
                member.write(zeros)
                crc32 = zlib.crc32(zeros, crc32)
        with archive.open("y.npy", "w", force_zip64=True) as member:
            member.write(labels.getvalue())
    directory = file.kept[file.kept.index(b"PK\1\2") :]
    assert _rest(_Member(b"x.npy", 0, size, crc32), 3).endswith(directory)


@pytest.mark.parametrize("gib", [1, 3, 5])
def test_members_of_any_size_are_found(gib, tmp_path):
    path = tmp_path / "large.npz"
    x = _Member(b"x.npy", 0, gib * 2**30 - 300, 0x12345678)
    with path.open("wb") as file:
        file.write(x.local())
        file.truncate(len(x.local()) + x.size)
        file.seek(0, 2)
        file.write(_rest(x, 3))
    with zipfile.ZipFile(path) as archive:
        found, labels = archive.infolist()
    assert (found.filename, found.file_size, found.CRC) == ("x.npy", x.size, x.crc32)
    assert labels.header_offset == len(x.local()) + x.size
    with np.load(path) as archive:
        assert archive["y"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("beyond", range(-400, 401, 50))
def test_sizes_around_the_limit_of_zip_are_planned(beyond):
    data = dataset("npz", files=1)
    size = 2**31 + beyond
    (planned,) = planned_bytes(data, np.array([1], np.int32), np.array([size - 128], np.int64))
    x = _Member(b"x.npy", 0, size, 0)
    assert planned == len(x.local()) + size + len(_rest(x, 1))


@pytest.mark.parametrize("samples", [1, 4])
def test_npy_opens_in_numpy(samples, tmp_path):
    data = dataset("npy", samples_per_file=samples)
    path, file, _ = written(data, tmp_path)
    array = np.load(path)
    assert array.shape == (file.height, file.width, samples)
    assert array.tobytes() == content_of(data, file, samples)


# ---------------------------------------------------------------- jpeg and raw


def test_raw_jpeg_is_the_bytes_of_the_sample(tmp_path):
    data = dataset("jpeg", record_bytes=322957)
    path, file, _ = written(data, tmp_path)
    assert path.read_bytes() == content_of(data, file, 1)
    assert len(path.read_bytes()) == 322624


@pytest.mark.parametrize(("record_bytes", "side"), [(322957, 568), (2 * PIECE_BYTES, 2896)])
def test_real_jpeg_is_a_picture_of_noise(record_bytes, side, tmp_path):
    data = dataset("jpeg", record_bytes=record_bytes, jpeg_encoding="real")
    path, file, _ = written(data, tmp_path)
    with Image.open(path) as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "L", (side, side))
        found = np.asarray(picture).ravel()
    noise = np.frombuffer(content_of(data, file, 1), dtype=np.uint8)
    assert np.corrcoef(found, noise)[0, 1] > 0.9
    assert path.stat().st_size == pytest.approx(file.size_bytes, rel=0.01)


def test_samples_of_raw_files_follow_one_another(tmp_path):
    data = dataset("raw", samples_per_file=3)
    path, file, _ = written(data, tmp_path)
    assert path.read_bytes() == content_of(data, file, 3)
    found = extents(data, path, ALL)
    assert found.offsets.tolist() == [0, 10000, 20000]
    assert found.lengths_bytes.tolist() == [10000] * 3
    assert found.samples.tolist() == [1] * 3


# ---------------------------------------------------------------- tfrecord


def crc32c(data):
    """From its definition, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def records_of(data):
    """The messages of a record file, with their checksums compared."""
    while data:
        (length,) = struct.unpack_from("<Q", data)
        message = data[12 : 12 + length]
        assert struct.unpack_from("<I", data, 8) == (masked(data[:8]),)
        assert struct.unpack_from("<I", data, 12 + length) == (masked(message),)
        yield message
        data = data[16 + length :]


def fields_of(message):
    """Number and content of a message's fields, all of which have a length."""
    while message:
        tag, message = varint_of(message)
        assert tag & 7 == 2
        length, message = varint_of(message)
        yield tag >> 3, message[:length]
        message = message[length:]


def varint_of(data):
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, data[place + 1 :]
    raise AssertionError("a number does not end")


def example_of(message):
    """The features of an Example: values of their kind by name."""
    ((one, features),) = fields_of(message)
    assert one == 1
    found = {}
    for _, entry in fields_of(features):
        (_, name), (_, feature) = fields_of(entry)
        ((kind, values),) = fields_of(feature)
        ((_, value),) = fields_of(values)
        found[name.decode()] = (kind, value)
    return found


@pytest.mark.parametrize(("record_bytes", "samples"), [(1, 2), (120, 3), (2000, 2), (20000, 1)])
def test_tfrecord_holds_examples_with_right_checksums(record_bytes, samples, tmp_path):
    data = dataset("tfrecord", record_bytes=record_bytes, samples_per_file=samples)
    path, file, _ = written(data, tmp_path)
    images = []
    for message in records_of(path.read_bytes()):
        (of_bytes, image), (of_numbers, size) = map(example_of(message).get, ("image", "size"))
        assert (of_bytes, of_numbers) == (1, 3)
        assert len(image) == varint_of(size)[0] == file.sample_bytes
        images.append(image)
    assert len(images) == len(set(images)) == samples
    assert images[0] == content_of(data, file, 1)


@pytest.mark.parametrize("samples", [1, 5])
def test_tfrecord_extents_are_the_lines_of_its_index(samples, tmp_path):
    data = dataset("tfrecord", samples_per_file=samples, eval_files=2)
    path, file, _ = written(data, tmp_path)
    name, text = index_file(data, file)
    assert name == "index/train/img_0_of_3.tfrecord.idx"
    found = extents(data, path, ALL)
    lines = [tuple(map(int, line.split())) for line in text.decode().splitlines()]
    assert lines == list(zip(found.offsets.tolist(), found.lengths_bytes.tolist(), strict=True))
    assert found.total_bytes == path.stat().st_size
    planned = planned_extents(data, file)
    assert np.array_equal(planned.offsets, found.offsets)
    assert np.array_equal(planned.lengths_bytes, found.lengths_bytes)


def test_indexes_are_where_dali_looks_and_only_of_tfrecord():
    data = dataset("tfrecord", eval_files=2)
    name, _ = index_file(data, planned_files(data).file(4))
    assert name == "index/valid/img_1_of_2.tfrecord.idx"
    assert index_file(dataset("npz"), planned_files(dataset("npz")).file(0)) is None


# ---------------------------------------------------------------- hdf5


@pytest.mark.parametrize("samples", [1, 3])
def test_hdf5_opens_in_h5py(samples, tmp_path):
    data = dataset("hdf5", samples_per_file=samples, record_bytes_stdev=500)
    path, file, _ = written(data, tmp_path)
    with h5py.File(path) as opened:
        assert set(opened) == {"records_0", "records", "labels"}
        assert opened["labels"][()].tolist() == [0] * samples
        records = opened["records_0"][()]
        assert np.array_equal(records, opened["records"][()])
    assert records.shape == (samples, file.height, file.width)
    assert records.tobytes() == content_of(data, file, samples)
    found = extents(data, path, ALL)
    whole = path.read_bytes()
    for sample, (offset, length) in enumerate(zip(found.offsets, found.lengths_bytes, strict=True)):
        assert whole[offset : offset + length] == records[sample].tobytes()


def test_chunks_of_hdf5_are_read_for_their_samples(tmp_path):
    path = tmp_path / "chunks.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("records_0", data=np.ones((5, 20, 20), np.uint8), chunks=(2, 10, 20))
    found = extents(dataset("hdf5", samples_per_file=5), path, ALL)
    assert found.samples.tolist() == [0, 2, 0, 2, 0, 1]
    assert found.lengths_bytes.tolist() == [400] * 6


def test_hdf5_without_a_place_for_samples_is_refused_by_name(tmp_path):
    path = tmp_path / "late.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("records_0", (3, 20, 20), np.uint8)
    refused(dataset("hdf5", samples_per_file=3), path, "its samples have no place in it")
    with h5py.File(path, "w") as file:
        file.create_dataset("records_0", (3, 20, 20), np.uint8, chunks=(1, 20, 20))
    refused(dataset("hdf5", samples_per_file=3), path, "its samples have no place in it")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["records_0", "records_1"], "has the datasets records_0 and records_1: only one can be"),
        (["other"], "is no whole hdf5 file: it has no dataset records_0 or records"),
        (["records_0/below"], "is no whole hdf5 file: records_0 is no dataset of samples"),
    ],
)
def test_other_hdf5_is_refused_by_name(names, text, tmp_path):
    path = tmp_path / "other.hdf5"
    with h5py.File(path, "w") as file:
        for name in names:
            file[name] = np.ones((1, 20, 20), np.uint8)
    refused(dataset("hdf5"), path, text)


# ---------------------------------------------------------------- files that are none


@pytest.mark.parametrize("format", ["npz", "npy", "jpeg"])
def test_a_whole_file_is_one_read(format, tmp_path):
    data = dataset(format)
    path, _, _ = written(data, tmp_path)
    found = extents(data, path, ALL)
    assert read_whole(data)
    assert (found.samples.tolist(), found.offsets.tolist()) == ([1], [0])
    assert found.total_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (dataset("tfrecord"), True),
        (dataset("tfrecord", samples_per_file=2), False),
        (dataset("raw", samples_per_file=2), False),
        (dataset("hdf5"), False),
        (dataset("parquet"), False),
    ],
    ids=["tfrecord", "tfrecords", "raw", "hdf5", "parquet"],
)
def test_others_are_read_whole_when_they_are_one_record(data, expected):
    assert read_whole(data) == expected


CHECKED = {
    "npz": {},
    "npy": {},
    "jpeg": {"jpeg_encoding": "real"},
    "tfrecord": {},
    "hdf5": {},
    "parquet": {},
}


def refused(data, path, words=""):
    for look in (check_file, lambda data, path: extents(data, path, ALL)):
        with pytest.raises(EngineError) as caught:
            look(data, path)
        assert str(path) in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize("format", CHECKED)
@settings(deadline=None, max_examples=25)
@given(st.data())
def test_a_file_cut_short_is_refused_by_name(format, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp(format)
    cut = dataset(format, record_bytes=5000, **CHECKED[format])
    path, _, _ = written(cut, directory)
    check_file(cut, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(cut, path)


@pytest.mark.parametrize("format", CHECKED)
@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(format, tmp_path_factory, data):
    directory = tmp_path_factory.mktemp(format)
    good = dataset(format, record_bytes=500, **CHECKED[format])
    path, _, _ = written(good, directory)
    whole = bytearray(path.read_bytes())
    places = st.integers(0, len(whole) - 1)
    # Headers and footers are what is looked at.
    ends = st.one_of(places, st.integers(0, 200), st.integers(1, 300).map(lambda n: -n))
    for place in data.draw(st.lists(ends, min_size=1, max_size=4)):
        whole[place % len(whole)] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    for look in (check_file, lambda data, path: extents(data, path, ALL)):
        with suppress(EngineError):
            look(good, path)


@pytest.mark.parametrize("format", CHECKED)
@settings(deadline=None, max_examples=25)
@given(st.binary(max_size=3000))
def test_garbage_is_refused_by_name(format, tmp_path_factory, garbage):
    path = tmp_path_factory.mktemp(format) / "garbage"
    path.write_bytes(garbage)
    refused(dataset(format, **CHECKED[format]), path)


@pytest.mark.parametrize("format", [*EXACT, "parquet"])
def test_missing_and_empty_files_are_refused_by_name(format, tmp_path):
    path = tmp_path / "file"
    refused(dataset(format), path, "No such file or directory")
    path.touch()
    refused(dataset(format), path)


@pytest.mark.parametrize("format", [*EXACT, "parquet"])
def test_a_file_of_another_size_than_it_was_written_with_is_refused_by_name(format, tmp_path):
    data = dataset(format)
    path, _, tally = written(data, tmp_path)
    size = tally.size_bytes
    check_file(data, path, size)
    extents(data, path, ALL, size)
    text = f"{path} has {size} bytes, it was written with {size + 1}"
    with pytest.raises(EngineError) as caught:
        check_file(data, path, size + 1)
    assert str(caught.value) == text
    with pytest.raises(EngineError) as caught:
        extents(data, path, ALL, size + 1)
    assert str(caught.value) == text


@pytest.mark.parametrize("format", ["npz", "npy", "hdf5", "parquet"])
def test_a_file_with_another_number_of_samples_is_refused_by_name(format, tmp_path):
    path, _, _ = written(dataset(format, samples_per_file=3), tmp_path)
    refused(dataset(format, samples_per_file=2), path, "holds 3 samples, the dataset has 2 a file")


def test_a_record_file_with_another_number_of_samples_is_refused_by_name(tmp_path):
    path, _, _ = written(dataset("tfrecord", samples_per_file=3), tmp_path)
    with pytest.raises(EngineError, match="holds 3 samples, the dataset has 2 a file"):
        extents(dataset("tfrecord", samples_per_file=2), path, ALL)


def test_a_record_file_with_a_damaged_length_is_refused_at_its_offset(tmp_path):
    data = dataset("tfrecord", samples_per_file=3)
    path, _, _ = written(data, tmp_path)
    second = int(extents(data, path, ALL).offsets[1])
    whole = bytearray(path.read_bytes())
    whole[second] ^= 1
    path.write_bytes(whole)
    with pytest.raises(EngineError, match=f"no record begins at offset {second}"):
        extents(data, path, ALL)


def test_an_archive_without_samples_is_refused_by_name(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, z=[1])
    refused(dataset("npz"), path, "no whole npz file")


def test_what_dlio_wrote_with_numpy_is_read(tmp_path):
    records = np.zeros((30, 20, 4), np.uint8)
    np.savez(tmp_path / "a.npz", x=records, y=[0] * 4)
    np.savez_compressed(tmp_path / "b.npz", x=records, y=[0] * 4)
    np.save(tmp_path / "c.npy", records)
    for name in ("a.npz", "b.npz", "c.npy"):
        data = dataset(name[-3:], samples_per_file=4)
        assert extents(data, tmp_path / name, ALL).samples.tolist() == [4]
