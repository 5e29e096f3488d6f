"""How fast files of training datasets are made: GiB/s of one core, for each format.

    python benchmarks/training_formats.py [REPEATS]

The bytes are made and counted as for writing them, but go nowhere. Figures are by processor time,
so that others on the same machine matter little, and by wall time: the median of all repeats, with
the least and the most beside it. The formats are measured in turn, round after round. What is
reached by the parts that all have in common stands above: content, and the two checksums.
"""

from __future__ import annotations

import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import google_crc32c
import numpy as np

from mlps.engines.training_native.content import Content
from mlps.engines.training_native.dataset import Column, Dataset, Dtype, FormatName, Split
from mlps.engines.training_native.formats import pieces, planned_files
from mlps.engines.training_native.formats.checksum import Tally

GIB = 2**30
LEAST_BYTES = 2**28
CONTENT = Content(1)
Made = Callable[[], Iterator[memoryview]]


def dataset(
    format_name: FormatName,
    record_bytes: float,
    samples_per_file: int = 1,
    columns: tuple[Column, ...] = (),
) -> Dataset:
    """A dataset of one file."""
    return Dataset(
        format=format_name,
        train=Split(name="train", files=1),
        eval=Split(name="eval", files=0),
        samples_per_file=samples_per_file,
        record_bytes=record_bytes,
        columns=columns,
    )


def columns_of(sizes: tuple[int, ...], dtypes: tuple[Dtype, ...]) -> tuple[Column, ...]:
    """Columns of these sizes and types."""
    return tuple(
        Column(name=f"column_{number:03d}", dtype=dtype, size=size)
        for number, (size, dtype) in enumerate(zip(sizes, dtypes, strict=True))
    )


# As many of each type as dlrm has, not in its order.
DLRM = columns_of(
    (1,) * 200, ("float16",) * 50 + ("float32",) * 56 + ("float64",) * 49 + ("int8",) * 45
)
FLUX = columns_of((524328, 409, 8232, 8232, 7), ("float32",) * 5)
DATASETS: tuple[tuple[str, Dataset], ...] = (
    ("npz, unet3d", dataset("npz", 146600628)),
    ("npy, unet3d", dataset("npy", 146600628)),
    ("jpeg raw, retinanet", dataset("jpeg", 322957)),
    ("jpeg real, retinanet", replace(dataset("jpeg", 322957), jpeg_encoding="real")),
    ("raw, unet3d", dataset("raw", 146600628)),
    ("tfrecord, cosmoflow", dataset("tfrecord", 2828486)),
    ("tfrecord, resnet50", dataset("tfrecord", 114660, 1251)),
    ("hdf5, unet3d", dataset("hdf5", 146600628)),
    ("parquet, dlrm", replace(dataset("parquet", 761, 12 * 6144, DLRM), row_group_rows=6144)),
    ("parquet, flux", replace(dataset("parquet", 2164832, 48, FLUX), row_group_rows=24)),
)


def file_of(data: Dataset) -> Made:
    """The pieces of the dataset's file."""
    file = planned_files(data).file(0)
    return lambda: pieces(data, file, CONTENT, Tally())


def content() -> Iterator[memoryview]:
    """Nothing but content."""
    return CONTENT.pieces(0, LEAST_BYTES)


def with_crc32() -> Iterator[memoryview]:
    """Content, with the checksum of manifests and of zip files."""
    for piece in content():
        zlib.crc32(piece)
        yield piece


def with_crc32c() -> Iterator[memoryview]:
    """Content, with the checksum of tfrecord."""
    for piece in content():
        google_crc32c.value(np.frombuffer(piece, dtype=np.uint8))
        yield piece


ROWS: tuple[tuple[str, Made], ...] = (
    ("content", content),
    ("content, crc32", with_crc32),
    ("content, crc32c", with_crc32c),
    *((name, file_of(data)) for name, data in DATASETS),
)


def gib_s(made: Made) -> tuple[float, float]:
    """Bytes by processor time and by wall time, of as many files as it takes."""
    size, wall_s, cpu_s = 0, -time.perf_counter(), -time.process_time()
    while size < LEAST_BYTES and wall_s + time.perf_counter() < 2:
        size += sum(map(len, made()))
    wall_s, cpu_s = wall_s + time.perf_counter(), cpu_s + time.process_time()
    return size / cpu_s / GIB, size / wall_s / GIB


def main() -> None:
    """Measure all rows in turn, round after round, and print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in ROWS}
    for _ in range(repeats):
        for name, made in ROWS:
            samples[name].append(gib_s(made))
    print(f"{'':<24}{'GiB/s of a core':>17}{'least':>8}{'most':>8}{'by wall':>12}")
    for name, found in samples.items():
        by_cpu, by_wall = zip(*found, strict=True)
        print(
            f"{name:<24}{statistics.median(by_cpu):>17.2f}{min(by_cpu):>8.2f}{max(by_cpu):>8.2f}"
            f"{statistics.median(by_wall):>12.2f}"
        )


if __name__ == "__main__":
    main()
