"""What a dataset is: its format, its records, its files and what they are called.

Names, folders and records are those of DLIO, so that either engine reads what the other wrote.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..errors import JobError
from ..section import Section

FormatName = Literal["npz", "npy", "jpeg", "parquet", "tfrecord", "hdf5", "raw"]
JpegEncoding = Literal["raw", "real"]
Compression = Literal["none", "gzip"]
SplitName = Literal["train", "eval"]
Dtype = Literal[
    "bool", "float16", "float32", "float64",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip

# As they count in the size of a record; bool is a byte there too, though files hold bits.
DTYPE_BYTES: dict[Dtype, int] = {
    "bool": 1, "int8": 1, "uint8": 1,
    "float16": 2, "int16": 2, "uint16": 2,
    "float32": 4, "int32": 4, "uint32": 4,
    "float64": 8, "int64": 8, "uint64": 8,
}  # fmt: skip
_FOLDERS: dict[SplitName, str] = {"train": "train", "eval": "valid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of Parquet files: a number a row, or a list of `size` of them."""

    name: str
    dtype: Dtype
    size: int = 1
    read: bool = True

    @property
    def row_bytes(self) -> int:
        """Nominal bytes of a row."""
        return self.size * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The files for training, or those for evaluation."""

    name: SplitName
    files: int
    subfolders: int = 1

    @property
    def folder(self) -> str:
        """The folder below the data directory."""
        return _FOLDERS[self.name]

    @property
    def directories(self) -> tuple[str, ...]:
        """The folders that files are in, relative to the data directory."""
        if self.subfolders == 1:
            return (self.folder,)
        return tuple(
            f"{self.folder}/{self._subfolder(number)}" for number in range(self.subfolders)
        )

    def path(self, index: int, prefix: str, suffix: str) -> str:
        """A file's path relative to the data directory."""
        folder = self.folder
        if self.subfolders > 1:
            folder = f"{folder}/{self._subfolder(index % self.subfolders)}"
        return f"{folder}/{prefix}_{index:0{len(str(self.files))}}_of_{self.files}.{suffix}"

    def _subfolder(self, number: int) -> str:
        return f"{number:0{len(str(self.subfolders))}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """All that decides which files there are and what every byte of them is.

    `record_bytes` is a sample's nominal size, and `record_bytes_stdev` how much it differs between
    files. With `columns` a sample is a row of a Parquet file, and `compression` is that of its
    pages.
    """

    format: FormatName
    train: Split
    eval: Split
    samples_per_file: int
    record_bytes: float
    record_bytes_stdev: float = 0.0
    prefix: str = "img"
    seed: int = 10
    jpeg_encoding: JpegEncoding = "raw"
    compression: Compression = "none"
    columns: tuple[Column, ...] = ()
    row_group_rows: int = 1024
    compat_dictionary: bool = False

    @property
    def files(self) -> int:
        """Files of both splits. They are numbered together: first those for training."""
        return self.train.files + self.eval.files

    @property
    def nominal_bytes(self) -> int:
        """Samples times their nominal size, rounded up."""
        return math.ceil(self.files * self.samples_per_file * self.record_bytes)

    @property
    def side(self) -> int:
        """Mean height and width of a sample, which DLIO takes to be a square of bytes."""
        return max(1, int(math.sqrt(self.record_bytes)))

    @property
    def side_stdev(self) -> float:
        """Standard deviation of height and width."""
        return self.record_bytes_stdev / 2 / math.sqrt(self.record_bytes)

    @property
    def exact_sizes(self) -> bool:
        """Whether a file's size is known before it is written."""
        return self.format != "parquet" and not self._encodes_images

    @property
    def directories(self) -> tuple[str, ...]:
        """All folders of the dataset, parents first, relative to the data directory."""
        both = (self.train, self.eval)
        # DLIO looks for both, also when one is empty.
        found = [split.folder for split in both]
        found += [path for split in both if split.subfolders > 1 for path in split.directories]
        if self.format == "tfrecord":
            found += ["index", *(f"index/{split.folder}" for split in both if split.files)]
        return tuple(found)

    def split_of(self, number: int) -> tuple[Split, int]:
        """A file's split, and its index in there."""
        if not 0 <= number < self.files:
            raise ValueError(f"there is no file {number} of {self.files}")
        if number < self.train.files:
            return self.train, number
        return self.eval, number - self.train.files

    def path(self, number: int) -> str:
        """A file's path relative to the data directory."""
        split, index = self.split_of(number)
        return split.path(index, self.prefix, self.format)

    @property
    def _encodes_images(self) -> bool:
        return self.format == "jpeg" and self.jpeg_encoding == "real"


def dataset_of(section: Section) -> Dataset:
    """Reads the benchmark's section `dataset`; raises JobError naming what is wrong."""
    format_name = section.choice("format", get_args(FormatName))
    parquet = section.section("parquet") if format_name == "parquet" else None
    columns = _columns(parquet) if parquet else ()
    dataset = Dataset(
        format=format_name,
        train=_split(section.section("train"), "train", least=1),
        eval=_split(section.section("eval"), "eval", least=0),
        samples_per_file=section.count("samples_per_file"),
        record_bytes=_record_bytes(section, columns),
        record_bytes_stdev=section.number("record_bytes_stdev"),
        prefix=_prefix(section),
        seed=section.count("seed", least=0),
        columns=columns,
    )
    if parquet:
        dataset = replace(
            dataset,
            compression=parquet.choice("compression", get_args(Compression)),
            row_group_rows=parquet.count("row_group_rows"),
            compat_dictionary=parquet.flag("compat_dictionary"),
        )
    if format_name == "jpeg":
        encoding = section.choice("jpeg_encoding", get_args(JpegEncoding))
        dataset = replace(dataset, jpeg_encoding=encoding)
    return _checked(dataset)


def _checked(dataset: Dataset) -> Dataset:
    """The same; raises JobError for what no file can be."""
    if dataset.format == "jpeg" and dataset.samples_per_file > 1:
        raise JobError(
            "a jpeg file holds one sample:"
            f" dataset.samples_per_file must be 1, got {dataset.samples_per_file}"
        )
    if dataset.columns and dataset.record_bytes_stdev:
        raise JobError(
            "all rows of columns have one size:"
            f" dataset.record_bytes_stdev must be 0, got {dataset.record_bytes_stdev:g}"
        )
    return dataset


def _record_bytes(section: Section, columns: tuple[Column, ...]) -> float:
    """The nominal size of a sample, which the columns decide where there are any."""
    of_columns = sum(column.row_bytes for column in columns)
    if "record_bytes" not in section and columns:
        return of_columns
    record_bytes = section.number("record_bytes", least=1)
    if columns and record_bytes != of_columns:
        raise JobError(
            f"dataset.record_bytes is {record_bytes:g}, a row of the columns has {of_columns} bytes"
        )
    return record_bytes


def _split(section: Section, name: SplitName, least: int) -> Split:
    return Split(
        name=name, files=section.count("files", least), subfolders=section.count("subfolders")
    )


def _prefix(section: Section) -> str:
    prefix = section.text("prefix")
    if "/" in prefix or "\0" in prefix:
        raise JobError(f"dataset.prefix begins the names of files, it cannot be {prefix!r}")
    return prefix


def _columns(section: Section) -> tuple[Column, ...]:
    value = section.value("columns")
    if not isinstance(value, list):
        raise JobError(f"dataset.parquet.columns must be a list, got {value!r}")
    columns = tuple(_column(number, entry) for number, entry in enumerate(value))
    names = [column.name for column in columns]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"dataset.parquet.columns names {name} twice")
    if columns and not any(column.read for column in columns):
        raise JobError("dataset.parquet.columns has none that is read")
    return columns


def _column(number: int, entry: object) -> Column:
    key = f"dataset.parquet.columns[{number}]"
    if not isinstance(entry, dict):
        raise JobError(f"{key} must be a mapping, got {entry!r}")
    section = Section(entry, key)
    return Column(
        name=section.text("name"),
        dtype=section.choice("dtype", get_args(Dtype)),
        size=section.count("size") if "size" in section else 1,
        read=section.flag("read") if "read" in section else True,
    )
