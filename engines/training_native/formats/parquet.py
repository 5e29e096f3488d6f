"""Parquet files: columns of random numbers in row groups, written and read through pyarrow.

Values are stored plain. Only the small integers are encoded, for which Parquet has no type of less
than 4 bytes: those of 8 bits by a dictionary, those of 16 by differences. With `compat_dictionary`
all columns have dictionaries and statistics, as DLIO writes them: 1.35 times the nominal size.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError, storage_error
from ...optional import TRAINING, Foreign, library
from ..content import BLOCK_BYTES, PIECE_BYTES, Content
from ..dataset import Column, Dataset, Dtype
from ..files import PlannedFile, Sides, Sizes
from .checksum import Tally
from .extents import (
    Counts,
    Extents,
    Offsets,
    Selection,
    coalesced,
    no_such_file,
    require_samples,
    size_of,
)
from .gather import gathered

_PURPOSE = "the format parquet"
_ALIGNMENT_BYTES = 64
_SMALL: frozenset[Dtype] = frozenset({"int8", "uint8"})
_MEDIUM: frozenset[Dtype] = frozenset({"int16", "uint16"})
# With so many values a dictionary of all 256 costs less than 1 %; below that of 128 values costs
# no more than the bit saves that its indices are shorter.
_MANY_VALUES = 2**17
_DICTIONARY_VALUE_BYTES = 4
# Measured: what a column chunk and a row take besides the values, in pages and in the footer.
_CHUNK_BYTES = 115
_LIST_ROW_BYTES = 6
# Measured: what pyarrow keeps of each column chunk until the footer is written.
_CHUNK_MEMORY_BYTES = 1700


def planned_bytes(dataset: Dataset, heights: Sides, widths: Sides) -> Sizes:
    """Estimated sizes of files, shape (files,): within 1 % but for short lists and compression."""
    if dataset.columns:
        return np.full(len(heights), _file_bytes(dataset, dataset.columns), dtype=np.int64)
    records = heights.astype(np.int64) * widths
    shapes, places = np.unique(records, return_inverse=True)
    sizes = [_file_bytes(dataset, _columns(dataset, int(record))) for record in shapes]
    return np.array(sizes, dtype=np.int64)[places]


def _file_bytes(dataset: Dataset, columns: Sequence[Column]) -> int:
    whole, rest = divmod(dataset.samples_per_file, dataset.row_group_rows)
    groups = [(whole, dataset.row_group_rows), (1, rest)]
    return sum(
        count * sum(_chunk_bytes(column, rows) for column in columns)
        for count, rows in groups
        if rows
    )


def _chunk_bytes(column: Column, rows: int) -> int:
    """Bytes of a column in a row group."""
    values = rows * column.size
    size = values * column.row_bytes // column.size
    if column.dtype in _SMALL:
        bits = 8 if values >= _MANY_VALUES else 7
        size = values * bits // 8 + 2**bits * _DICTIONARY_VALUE_BYTES
    elif column.dtype == "bool":
        size = values // 8
    return size + _CHUNK_BYTES + (rows * _LIST_ROW_BYTES if column.size > 1 else 0)


def peak_bytes(dataset: Dataset) -> int:
    """Memory that writing a file takes: a row group, its pages, and what the footer will hold."""
    rows = min(dataset.row_group_rows, dataset.samples_per_file)
    chunks = -(-dataset.samples_per_file // rows) * max(1, len(dataset.columns))
    return 2 * rows * int(dataset.record_bytes) + chunks * _CHUNK_MEMORY_BYTES


# ---------------------------------------------------------------- writing


def pieces(
    dataset: Dataset, file: PlannedFile, content: Content, tally: Tally
) -> Iterator[memoryview]:
    """The bytes of a file."""
    del tally
    return gathered(_parts(dataset, file, content))


class _Written(io.RawIOBase):
    """A file that hands on what pyarrow writes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Foreign) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> list[bytes]:
        """All since the last call."""
        parts, self._parts = self._parts, []
        return parts


def _parts(dataset: Dataset, file: PlannedFile, content: Content) -> Iterator[bytes]:
    arrow = library("pyarrow", _PURPOSE, TRAINING)
    columns = _columns(dataset, file.sample_bytes)
    schema = _schema(arrow, columns)
    written = _Written()
    rows = min(dataset.row_group_rows, dataset.samples_per_file)
    places = _places(columns, rows)
    buffer = np.empty(_whole_blocks(places[-1]), dtype=np.uint8)
    writer = _writer(arrow, dataset, columns, schema, written)
    for group, first in enumerate(range(0, dataset.samples_per_file, rows)):
        rows_here = min(rows, dataset.samples_per_file - first)
        content.fill(file.number, group * (len(buffer) // BLOCK_BYTES), buffer)
        arrays = [
            _array(arrow, column, schema.field(number).type, buffer[place:], rows_here, dataset)
            for number, (column, place) in enumerate(zip(columns, places, strict=False))
        ]
        writer.write_table(arrow.Table.from_arrays(arrays, schema=schema), row_group_size=rows)
        yield from written.taken()
    writer.close()
    yield from written.taken()


def _columns(dataset: Dataset, sample_bytes: int) -> Sequence[Column]:
    """The columns, or the one that holds a whole sample."""
    return dataset.columns or (Column(name="data", dtype="uint8", size=sample_bytes),)


def _schema(arrow: ModuleType, columns: Sequence[Column]) -> Foreign:
    fields = []
    for column in columns:
        kind = arrow.bool_() if column.dtype == "bool" else getattr(arrow, column.dtype)()
        fields.append((column.name, kind if column.size == 1 else arrow.list_(kind, column.size)))
    return arrow.schema(fields)


def _writer(
    arrow: ModuleType,
    dataset: Dataset,
    columns: Sequence[Column],
    schema: Foreign,
    written: _Written,
) -> Foreign:
    parquet = library("pyarrow.parquet", _PURPOSE, TRAINING)
    compression = None if dataset.compression == "none" else dataset.compression
    options: dict[str, object] = {"compression": compression}
    if not dataset.compat_dictionary:
        options["write_statistics"] = False
        small = [_leaf(column) for column in columns if column.dtype in _SMALL]
        options["use_dictionary"] = small or False
        options["column_encoding"] = {
            _leaf(column): "DELTA_BINARY_PACKED" for column in columns if column.dtype in _MEDIUM
        } or None
    return parquet.ParquetWriter(arrow.PythonFile(written, mode="w"), schema, **options)


def _leaf(column: Column) -> str:
    """A column's name as Parquet has it: the numbers of a list are below it."""
    return column.name if column.size == 1 else f"{column.name}.list.element"


def _places(columns: Sequence[Column], rows: int) -> list[int]:
    """Where each column begins in the buffer of a row group, and where the last one ends."""
    places = [0]
    for column in columns:
        end = places[-1] + rows * column.row_bytes
        places.append(-(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES)
    return places


def _whole_blocks(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _array(
    arrow: ModuleType,
    column: Column,
    kind: Foreign,
    data: NDArray[np.uint8],
    rows: int,
    dataset: Dataset,
) -> Foreign:
    """The random numbers of a column, on the bytes that are given."""
    values = rows * column.size
    if not dataset.compat_dictionary:
        # Non-negative ones, so that what encodes them needs no bit more than they have.
        if column.dtype in _SMALL and values < _MANY_VALUES:
            data[:values] &= 0x7F
        elif column.dtype in _MEDIUM:
            data[: 2 * values].view(np.uint16)[:] &= 0x7FFF
    numbers = kind if column.size == 1 else kind.value_type
    flat = arrow.Array.from_buffers(numbers, values, [None, arrow.py_buffer(data)])
    array = flat if column.size == 1 else arrow.FixedSizeListArray.from_arrays(flat, type=kind)
    # pyarrow makes as much again of a chunk when it writes it.
    step = max(1, PIECE_BYTES // column.row_bytes)
    return arrow.chunked_array([array.slice(row, step) for row in range(0, rows, step)])


# ---------------------------------------------------------------- reading


def check_file(dataset: Dataset, path: Path) -> None:
    """Raises EngineError for a file without the dataset's rows and columns, or not whole."""
    _checked_footer(dataset, path)


def extents(dataset: Dataset, path: Path, selection: Selection) -> Extents:
    """One read of each row group, or several where there are gaps between selected columns."""
    footer, leaves = _checked_footer(dataset, path)
    if selection.projection == "all":
        leaves = [0, footer.num_columns - 1]
    elif selection.projection == "span":
        leaves = [leaves[0], leaves[-1]]
    rows, starts, ends = _chunks(footer, leaves)
    size = size_of(path)
    if len(rows) and int(ends.max()) > size:
        raise no_such_file(path, "parquet", f"its row groups end after its {size} bytes")
    gap_bytes = selection.gap_bytes if selection.projection == "chunks" else size
    return coalesced(rows, starts, ends, gap_bytes)


def _chunks(footer: Foreign, leaves: Sequence[int]) -> tuple[Counts, Offsets, Offsets]:
    """Rows of each row group, and where the chunks of some columns begin and end in it.

    Shapes (row groups,) and twice (row groups, columns).
    """
    groups = footer.num_row_groups
    rows = np.empty(groups, dtype=np.int32)
    starts = np.empty((groups, len(leaves)), dtype=np.int64)
    lengths = np.empty_like(starts)
    for number in range(groups):
        group = footer.row_group(number)
        rows[number] = group.num_rows
        chunks = [group.column(leaf) for leaf in leaves]
        starts[number] = [_begin(chunk) for chunk in chunks]
        lengths[number] = [chunk.total_compressed_size for chunk in chunks]
    return rows, starts, starts + lengths


def _begin(chunk: Foreign) -> int:
    dictionary, data = chunk.dictionary_page_offset, chunk.data_page_offset
    return int(data if dictionary is None else min(dictionary, data))


def _checked_footer(dataset: Dataset, path: Path) -> tuple[Foreign, list[int]]:
    """A file's footer, and the numbers of the columns that are read; raises EngineError."""
    arrow = library("pyarrow", _PURPOSE, TRAINING)
    parquet = library("pyarrow.parquet", _PURPOSE, TRAINING)
    try:
        # Not footer.schema: it and the footer hold each other, a hundred MiB for dlrm.
        with parquet.ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow
        columns = range(footer.num_columns if footer.num_row_groups else 0)
        leaves = [footer.row_group(0).column(number).path_in_schema for number in columns]
    except OSError as error:
        # pyarrow raises it for what it cannot read too, then without a number.
        if error.errno is not None:
            raise storage_error(error, "read", path) from error
        raise no_such_file(path, "parquet", error) from error
    except (arrow.ArrowException, ValueError) as error:
        raise no_such_file(path, "parquet", error) from error
    require_samples(path, footer.num_rows, dataset.samples_per_file)
    _check_types(path, schema, _schema(arrow, dataset.columns))
    selected = {column.name for column in dataset.columns if column.read}
    return footer, [
        number
        for number, leaf in enumerate(leaves)
        if not selected or leaf.removesuffix(".list.element") in selected
    ]


def _check_types(path: Path, schema: Foreign, declared: Foreign) -> None:
    """Raises EngineError for a column that is missing or of another type."""
    for field in declared:
        number = schema.get_field_index(field.name)
        if number < 0:
            raise EngineError(f"{path} has no column {field.name}")
        found = schema.field(number).type
        if found != field.type:
            raise EngineError(
                f"{path} has a column {field.name} of {found}, the dataset has {field.type}"
            )
