"""How fast training files are read, beside what the machine can do, and how exact a step is.

    python benchmarks/training_pipeline.py [DIRECTORY] [THREADS]

Files as those of unet3d (npz of 140 MiB) and of retinanet (323 kB) are made in a new folder of the
directory, which is removed again, and read from the page cache: by the reader, by a plain loop of
open, preadv and close in as many Python threads with buffers of the same size, and by `cat`. They
take turns for 9 rounds. Figures are medians with the least and the most beside them; the ratio is
the median of those of each round, for the machine's speed may change between rounds. Then steps
with 0.375 ms of computation are taken, without reads and with the reader at work.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlps.engines.io_core.blocks import aligned_buffer
from mlps.engines.training_native.content import Content
from mlps.engines.training_native.dataset import Dataset, FormatName, Split
from mlps.engines.training_native.formats import pieces, planned_files
from mlps.engines.training_native.formats.checksum import Tally
from mlps.engines.training_native.reader import (
    DEFAULT_BUFFER_BYTES,
    READ,
    Block,
    ReaderChoice,
    Reading,
    reader_for,
)

GIB = 2**30
ROUNDS = 9
COMPUTE_NS = 375_000
STEPS = 4000
CONTENT = Content(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's files, and how many of them are a batch."""

    name: str
    format: FormatName
    record_bytes: float
    files: int
    batch: int


SHAPES = (
    Shape(name="unet3d", format="npz", record_bytes=146600628, files=7, batch=7),
    Shape(name="retinanet", format="jpeg", record_bytes=322957, files=2400, batch=24),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a shape as they lie in a directory."""

    directory: Path
    paths: Sequence[str]
    sizes_bytes: Sequence[int]
    batch: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all."""
        return sum(self.sizes_bytes)


def made(directory: Path, shape: Shape) -> Files:
    """Writes all files of a shape."""
    data = Dataset(
        format=shape.format,
        train=Split(name="train", files=shape.files),
        eval=Split(name="eval", files=0),
        samples_per_file=1,
        record_bytes=shape.record_bytes,
        prefix=shape.name,
    )
    (directory / data.train.folder).mkdir(exist_ok=True)
    planned = planned_files(data)
    paths, sizes = [], []
    for number in range(shape.files):
        file = planned.file(number)
        with (directory / file.path).open("wb") as out:
            sizes.append(sum(map(out.write, pieces(data, file, CONTENT, Tally()))))
        paths.append(file.path)
    return Files(directory=directory, paths=paths, sizes_bytes=sizes, batch=shape.batch)


def block_of(files: Files, rounds: int = 1) -> Block:
    """All files, some times over, in batches."""
    count = len(files.paths) * rounds
    reads = np.zeros(count, READ)
    reads["file"] = np.arange(count) % len(files.paths)
    reads["length"] = np.array(files.sizes_bytes)[reads["file"]]
    reads["batch"] = np.arange(count) // files.batch
    return Block(
        paths=files.paths,
        numbers=np.arange(len(files.paths), dtype=np.uint32),
        reads=reads,
        batches=int(reads["batch"][-1]) + 1,
    )


def with_reader(files: Files, threads: int, core: ReaderChoice) -> int:
    """The reader of the engine, from its making to its end."""
    reader = reader_for(
        Reading(directory=files.directory, threads=threads, look_ahead=2 * threads, core=core)
    )
    try:
        block = block_of(files)
        reader.feed(block)
        for batch in range(block.batches):
            reader.step(batch, 0)
        return reader.account().read_bytes
    finally:
        reader.close()


def with_preadv(files: Files, threads: int) -> int:
    """A plain loop in threads, each with every so manieth file."""
    done = [0] * threads

    def work(mine: int) -> None:
        with memoryview(aligned_buffer(DEFAULT_BUFFER_BYTES)) as buffer:
            for path in files.paths[mine::threads]:
                descriptor = os.open(files.directory / path, os.O_RDONLY)
                at = 0
                while got := os.preadv(descriptor, [buffer], at):
                    at += got
                os.close(descriptor)
                done[mine] += at

    workers = [threading.Thread(target=work, args=(mine,)) for mine in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done)


def with_cat(files: Files) -> int:
    """One process."""
    words = ["cat", *files.paths]
    subprocess.run(words, cwd=files.directory, stdout=subprocess.DEVNULL, check=True)
    return files.total_bytes


def seconds(files: Files, read: Callable[[], int]) -> float:
    """How long it takes to read all."""
    began = time.perf_counter()
    count = read()
    took_s = time.perf_counter() - began
    if count != files.total_bytes:
        raise RuntimeError(f"{count} of {files.total_bytes} bytes were read")
    return took_s


def compare(shape: Shape, files: Files, threads: int) -> None:
    """Prints how fast each way is."""
    ways: dict[str, Callable[[], int]] = {
        "reader": lambda: with_reader(files, threads, "c"),
        "reader, Python": lambda: with_reader(files, threads, "python"),
        "preadv loop": lambda: with_preadv(files, threads),
        "cat": lambda: with_cat(files),
    }
    for read in ways.values():
        read()
    took_s: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        # Who comes first changes, for who comes first finds colder caches.
        for name in (list(ways), list(reversed(ways)))[turn % 2]:
            took_s[name].append(seconds(files, ways[name]))
    print(f"\n{shape.name}: {len(files.paths)} files, {files.total_bytes / GIB:.2f} GiB, warm")
    print(f"{'':16}{'GiB/s':>8}{'least':>8}{'most':>8}{'files/s':>10}{'to loop':>9}")
    for name, times in took_s.items():
        rates = sorted(files.total_bytes / GIB / each for each in times)
        pairs = zip(took_s["preadv loop"], times, strict=True)
        ratio = statistics.median(loop / own for loop, own in pairs)
        per_s = len(files.paths) / statistics.median(times)
        print(
            f"{name:16}{statistics.median(rates):8.2f}{rates[0]:8.2f}{rates[-1]:8.2f}"
            f"{per_s:10.0f}{ratio:9.2f}"
        )


def show_steps(files: Files, threads: int, enabled: bool) -> None:
    """Prints how exact computations are."""
    one_each = Files(
        directory=files.directory, paths=files.paths, sizes_bytes=files.sizes_bytes, batch=1
    )
    reader = reader_for(
        Reading(directory=files.directory, threads=threads, look_ahead=8, enabled=enabled)
    )
    try:
        reader.feed(block_of(one_each, -(-STEPS // len(files.paths))))
        began_ns = time.monotonic_ns()
        steps = [reader.step(batch, COMPUTE_NS) for batch in range(STEPS)]
        wall_ns = time.monotonic_ns() - began_ns
        gib_s = reader.account().read_bytes / GIB / (wall_ns / 1e9)
    finally:
        reader.close()
    computed = sorted(step.compute_ns for step in steps)
    exact = sum(each <= COMPUTE_NS * 1.01 for each in computed) / STEPS
    loads = statistics.median(step.load_ns for step in steps)
    print(
        f"{'reads' if enabled else 'no reads':16}{gib_s:8.2f}"
        f"{statistics.median(computed) / 1e3:10.2f}{statistics.fmean(computed) / 1e3:10.2f}"
        f"{computed[STEPS * 99 // 100] / 1e3:10.2f}{100 * exact:9.1f}{loads / 1e3:10.2f}"
        f"{100 * COMPUTE_NS * STEPS / wall_ns:8.1f}"
    )


def main() -> None:
    """Prints all tables."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    print(f"{threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        for shape in SHAPES:
            files = made(Path(place), shape)
            compare(shape, files, threads)

        print(f"\n{STEPS} steps of {COMPUTE_NS / 1e3} us, {SHAPES[-1].name} files one a step")
        print(
            f"{'':16}{'GiB/s':>8}{'median us':>10}{'mean':>10}{'p99':>10}{'+1 % pct':>9}"
            f"{'load us':>10}{'AU pct':>8}"
        )
        for enabled in (False, True):
            show_steps(files, threads, enabled)


if __name__ == "__main__":
    main()
