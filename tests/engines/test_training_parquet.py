"""Parquet: pyarrow reads the declared columns, sizes are nominal, and reads bring what is asked."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_models import DLRM_COLUMNS, FLUX_COLUMNS, dataset, written

from mlps.engines.errors import EngineError
from mlps.engines.training_native.content import Content
from mlps.engines.training_native.dataset import DTYPE_BYTES, Column
from mlps.engines.training_native.formats import (
    check_file,
    extents,
    peak_bytes,
    pieces,
    planned_files,
)
from mlps.engines.training_native.formats.checksum import Tally
from mlps.engines.training_native.formats.extents import Selection

KINDS = {name: getattr(pa, "bool_" if name == "bool" else name)() for name in DTYPE_BYTES}


def table_of(*columns, rows=10, group=None, **more):
    """A dataset of these columns in one file."""
    return dataset(
        "parquet",
        files=1,
        samples_per_file=rows,
        record_bytes=sum(column.row_bytes for column in columns),
        columns=columns,
        row_group_rows=group or rows,
        **more,
    )


DLRM = table_of(*DLRM_COLUMNS, rows=4 * 6144, group=6144)
FLUX = table_of(*FLUX_COLUMNS, rows=40, group=20)


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("compat", [False, True], ids=["plain", "compat"])
def test_every_type_opens_in_pyarrow(dtype, size, compat, tmp_path):
    column = Column(name="c", dtype=dtype, size=size)
    data = table_of(column, rows=1000, group=300, compat_dictionary=compat)
    path, _, _ = written(data, tmp_path)
    kind = KINDS[dtype] if size == 1 else pa.list_(KINDS[dtype], size)
    found = pq.read_table(path)
    assert found.schema.field("c").type == kind
    assert found.num_rows == 1000
    assert found["c"].null_count == 0
    numbers = found["c"].combine_chunks()
    numbers = numbers if size == 1 else numbers.flatten()
    assert len(numbers) == 1000 * size
    assert len(numbers.unique()) > (1 if dtype == "bool" else 100)
    check_file(data, path)


def test_what_is_read_is_the_content(tmp_path):
    column = Column(name="c", dtype="uint64")
    data = table_of(column, rows=2000, group=512)
    path, file, _ = written(data, tmp_path)
    # A row group takes whole blocks of content.
    content = b"".join(map(bytes, Content(data.seed).pieces(file.number, 2000 * 8)))
    assert pq.read_table(path)["c"].to_numpy().tobytes() == content


def test_row_groups_have_the_declared_rows(tmp_path):
    data = table_of(Column(name="c", dtype="float32"), rows=1000, group=300)
    path, _, _ = written(data, tmp_path)
    footer = pq.read_metadata(path)
    groups = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    assert groups == [300, 300, 300, 100]


@pytest.mark.parametrize("data", [DLRM, FLUX], ids=["dlrm", "flux"])
def test_a_file_has_its_nominal_size_within_a_percent(data, tmp_path):
    path, file, _ = written(data, tmp_path)
    size = path.stat().st_size
    assert size == pytest.approx(data.samples_per_file * data.record_bytes, rel=0.01)
    assert size == pytest.approx(file.size_bytes, rel=0.001)


def test_a_sample_without_columns_is_a_list_of_bytes(tmp_path):
    data = dataset("parquet", samples_per_file=5, record_bytes=100000, record_bytes_stdev=500)
    path, file, _ = written(data, tmp_path, number=1)
    found = pq.read_table(path)
    assert found.schema.field("data").type == pa.list_(pa.uint8(), file.sample_bytes)
    assert path.stat().st_size == pytest.approx(5 * file.sample_bytes, rel=0.01)
    assert path.stat().st_size == pytest.approx(file.size_bytes, rel=0.01)


def test_compat_dictionary_makes_the_files_of_dlio(tmp_path):
    compat = replace(DLRM, compat_dictionary=True)
    path, _, _ = written(compat, tmp_path)
    assert path.stat().st_size / (DLRM.samples_per_file * 761) == pytest.approx(1.35, abs=0.02)
    chunk = pq.read_metadata(path).row_group(0).column(4)
    assert chunk.has_dictionary_page
    assert chunk.is_stats_set


def test_only_small_integers_are_encoded(tmp_path):
    path, _, _ = written(DLRM, tmp_path)
    group = pq.read_metadata(path).row_group(0)
    for number, column in enumerate(DLRM_COLUMNS):
        chunk = group.column(number)
        assert chunk.has_dictionary_page == (column.dtype == "int8")
        assert not chunk.is_stats_set
        assert chunk.compression == "UNCOMPRESSED"


@pytest.mark.parametrize(("dtype", "least"), [("int8", -128), ("uint16", 0)])
def test_many_small_integers_have_all_their_values(dtype, least, tmp_path):
    data = table_of(Column(name="c", dtype=dtype), rows=2**18)
    path, _, _ = written(data, tmp_path)
    values = pq.read_table(path)["c"].to_numpy()
    assert values.min() == least
    assert path.stat().st_size == pytest.approx(2**18 * DTYPE_BYTES[dtype], rel=0.03)


def test_gzip_is_applied(tmp_path):
    data = table_of(Column(name="c", dtype="int32"), rows=1000, compression="gzip")
    path, _, _ = written(data, tmp_path)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "GZIP"
    assert pq.read_table(path).num_rows == 1000


def test_floats_cannot_be_compressed(tmp_path):
    path, _, _ = written(DLRM, tmp_path)
    whole = path.read_bytes()
    assert len(zlib.compress(whole[: 2**20], 6)) > 0.97 * 2**20


@pytest.mark.parametrize("data", [DLRM, FLUX], ids=["dlrm", "flux"])
def test_memory_is_that_of_a_row_group(data):
    file = planned_files(data).file(0)
    pool = pa.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    for piece in pieces(data, file, Content(data.seed), Tally()):
        assert len(piece) <= 8 * 2**20
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + max(0, pool.max_memory() - before) < peak_bytes(data)


# ---------------------------------------------------------------- what is read


def copy_of_extents(path, found, target):
    """A file with nothing but what is read of another, and its footer."""
    whole = path.read_bytes()
    kept = bytearray(len(whole))
    for offset, length in zip(found.offsets, found.lengths_bytes, strict=True):
        kept[offset : offset + length] = whole[offset : offset + length]
    footer_bytes = 8 + int.from_bytes(whole[-8:-4], "little")
    kept[-footer_bytes:] = whole[-footer_bytes:]
    kept[:4] = whole[:4]
    target.write_bytes(kept)
    return target


SELECTIONS = [
    Selection(projection="all"),
    Selection(projection="span"),
    Selection(projection="chunks"),
    Selection(projection="chunks", gap_bytes=30000),
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
@pytest.mark.parametrize("compat", [False, True], ids=["plain", "compat"])
def test_the_reads_bring_the_selected_columns(selection, compat, tmp_path):
    data = replace(DLRM, compat_dictionary=compat)
    path, _, _ = written(data, tmp_path)
    found = extents(data, path, selection)
    copy = copy_of_extents(path, found, tmp_path / "copy.parquet")
    names = [column.name for column in DLRM_COLUMNS if column.read]
    assert same_bits(pq.read_table(copy, columns=names), pq.read_table(path, columns=names))
    assert found.samples.sum() == data.samples_per_file


def same_bits(a, b):
    """Equal, and NaN too."""
    return all(
        x.to_numpy().tobytes() == y.to_numpy().tobytes()
        for x, y in zip(a.columns, b.columns, strict=True)
    )


def test_bytes_by_projection(tmp_path):
    path, _, _ = written(DLRM, tmp_path)
    rows = DLRM.samples_per_file
    read = {
        (selection.projection, selection.gap_bytes): extents(DLRM, path, selection)
        for selection in SELECTIONS
    }
    whole, span, chunks, joined = read.values()
    assert len(whole) == len(span) == 4
    assert whole.samples.tolist() == [6144] * 4
    assert whole.total_bytes == pytest.approx(761 * rows, rel=0.01)
    # The scattered selected columns cost nearly the whole row group.
    assert 0.9 * whole.total_bytes < span.total_bytes < whole.total_bytes
    assert chunks.total_bytes == pytest.approx(160 * rows, rel=0.01)
    assert chunks.total_bytes < joined.total_bytes < span.total_bytes
    assert len(span) < len(joined) < len(chunks) <= 40 * 4


def test_samples_are_complete_with_the_last_read_of_their_row_group(tmp_path):
    path, _, _ = written(DLRM, tmp_path)
    found = extents(DLRM, path, Selection(projection="chunks"))
    reads = len(found) // 4
    assert found.samples.tolist() == ([0] * (reads - 1) + [6144]) * 4
    assert (np.diff(found.offsets) > 0).all()


def test_a_footer_is_not_kept(tmp_path):
    path, _, _ = written(DLRM, tmp_path)
    gc.collect()
    gc.disable()
    try:
        extents(DLRM, path, Selection())
        kept = [thing for thing in gc.get_objects() if type(thing).__name__ == "FileMetaData"]
    finally:
        gc.enable()
    assert not kept


# ---------------------------------------------------------------- files of others


def refused(data, path, text):
    with pytest.raises(EngineError) as caught:
        check_file(data, path)
    assert str(caught.value) == f"{path} {text}"


def test_columns_that_are_missing_or_other_are_named(tmp_path):
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": pa.array([1.0, 2.0], pa.float32())}), path)
    refused(table_of(Column(name="b", dtype="float32"), rows=2), path, "has no column b")
    refused(
        table_of(Column(name="a", dtype="int8"), rows=2),
        path,
        "has a column a of float, the dataset has int8",
    )
    refused(
        table_of(Column(name="a", dtype="float32", size=3), rows=2),
        path,
        "has a column a of float, the dataset has fixed_size_list<item: float>[3]",
    )


def test_what_dlio_wrote_is_read(tmp_path):
    """A file as its generator writes them, with dictionaries and nested lists."""
    path = tmp_path / "dlio.parquet"
    columns = (Column(name="a", dtype="int8"), Column(name="b", dtype="float32", size=3))
    data = table_of(*columns, rows=8, group=4)
    flat = pa.array(np.random.default_rng(1).random(24), pa.float32())
    table = pa.table(
        {
            "a": pa.array(range(8), pa.int8()),
            "b": pa.FixedSizeListArray.from_arrays(flat, 3),
        }
    )
    with pq.ParquetWriter(path, table.schema, compression=None) as writer:
        writer.write_table(table, row_group_size=4)
    found = extents(data, path, Selection())
    assert found.samples.tolist() == [4, 4]
    assert len(extents(data, path, Selection(projection="chunks", gap_bytes=0))) == 2


def test_a_column_that_is_not_read_is_not_selected(tmp_path):
    columns = [Column(name=f"c{n}", dtype="float64", size=n, read=n == 2) for n in (1, 2, 3)]
    data = table_of(*columns, rows=100)
    path, _, _ = written(data, tmp_path)
    chunk = pq.read_metadata(path).row_group(0).column(1)
    found = extents(data, path, Selection(projection="chunks"))
    assert found.offsets.tolist() == [chunk.data_page_offset]
    assert found.lengths_bytes.tolist() == [chunk.total_compressed_size]


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 400), st.integers(1, 150), st.booleans())
def test_any_rows_in_any_groups_come_back(tmp_path_factory, rows, group, compat):
    columns = (Column(name="a", dtype="int16"), Column(name="b", dtype="uint8", size=3))
    data = table_of(*columns, rows=rows, group=group, compat_dictionary=compat)
    path, _, _ = written(data, tmp_path_factory.mktemp("rows"))
    assert pq.read_table(path).num_rows == rows
    assert extents(data, path, Selection()).samples.tolist() == [
        min(group, rows - first) for first in range(0, rows, group)
    ]
