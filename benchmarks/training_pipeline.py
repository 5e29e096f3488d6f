"""How fast training files are read, beside what the machine can do, and how exact a step is.

    python benchmarks/training_pipeline.py [DIRECTORY] [THREADS]
    mpiexec -n 2 python benchmarks/training_pipeline.py --ceiling

Files as those of unet3d (npz of 140 MiB), of retinanet (323 kB) and of dlrm (200 columns in
parquet, by row groups) are made in a new folder of the directory, which is removed again. They are
read by an epoch of the engine, as a rank plans it; by a plain loop of open, preadv and close in
as many Python threads, the same reads with buffers of the same size; and by `cat`. First all from
the page cache, then from the disk: the files are dropped from memory before each way. They take
turns for 9 rounds. Figures are medians with the least and the most beside them; the ratio is the
median of those of each round, for the machine's speed may change between rounds.

The second command shows the ceiling of each model: the accelerator utilisation of all ranks with
the steps of a run, but without reads, 9 epochs of 300 steps (of 3000 where these are short).
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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlps.engine.compose import compose
from mlps.engines.io_core.blocks import aligned_buffer
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.histogram import Histogram
from mlps.engines.io_core.page_cache import evict
from mlps.engines.meeting import SoloMeeting, Together
from mlps.engines.section import Section
from mlps.engines.training_native.batches import Course
from mlps.engines.training_native.content import Content
from mlps.engines.training_native.dataset import Dataset, Split, dataset_of
from mlps.engines.training_native.epochs import Loader, run_epoch
from mlps.engines.training_native.files import Sizes
from mlps.engines.training_native.formats import pieces, planned_files
from mlps.engines.training_native.formats.checksum import Tally
from mlps.engines.training_native.formats.extents import Selection
from mlps.engines.training_native.layouts import Layouts, find_layouts, joined, needs_layouts
from mlps.engines.training_native.reader import (
    DEFAULT_BUFFER_BYTES,
    READ,
    Block,
    ReaderChoice,
    Reading,
    reader_for,
)
from mlps.engines.training_native.sharding import Deal
from mlps.engines.training_native.workload import training_of
from mlps.engines.world import World, open_world

GIB = 2**30
ROUNDS = 9
CEILINGS = ("dlrm_b200", "retinanet_b200", "unet3d_b200")
CONTENT = Content(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model's files, fewer and smaller ones, and the samples of a batch."""

    name: str
    benchmark: str
    files: int
    batch: int
    samples_per_file: int = 1


SHAPES = (
    Shape(name="unet3d", benchmark="training/unet3d_b200", files=7, batch=7),
    Shape(
        name="dlrm", benchmark="training/dlrm_b200", files=8, batch=16384, samples_per_file=122880
    ),
    Shape(name="retinanet", benchmark="training/retinanet_b200", files=2400, batch=24),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of a shape as they lie in a directory, and the reads of an epoch of one rank."""

    directory: Path
    paths: Sequence[str]
    blocks: Sequence[Block]
    open_files: int

    @property
    def total_bytes(self) -> int:
        """Bytes of all reads."""
        return sum(int(block.reads["length"].sum()) for block in self.blocks)

    @property
    def file_bytes(self) -> int:
        """Bytes of all files, with what no read needs."""
        return sum((self.directory / path).stat().st_size for path in self.paths)


def data_of(shape: Shape) -> Dataset:
    """The packaged model's dataset with the files of the shape, all of the same size."""
    job = compose([f"benchmark={shape.benchmark}"], conf_dirs=(), cwd=Path("/")).values
    return replace(
        dataset_of(Section(job["benchmark"]).section("dataset")),
        train=Split(name="train", files=shape.files),
        samples_per_file=shape.samples_per_file,
        record_bytes_stdev=0,
        prefix=shape.name,
    )


def made(directory: Path, shape: Shape) -> Files:
    """Writes all files of a shape, and plans the reads of an epoch."""
    data = data_of(shape)
    (directory / data.train.folder).mkdir(exist_ok=True)
    planned = planned_files(data)
    sizes = []
    for number in range(shape.files):
        file = planned.file(number)
        with (directory / file.path).open("wb") as out:
            sizes.append(sum(map(out.write, pieces(data, file, CONTENT, Tally()))))
            out.flush()
            os.fsync(out.fileno())  # only what is durable can be dropped from memory
    layouts = layouts_of(data, directory, np.array(sizes, dtype=np.int64))
    deal = Deal(
        files=shape.files,
        samples_per_file=shape.samples_per_file,
        ranks=1,
        batch=shape.batch,
        seed=1,
        shuffle_files=True,
        shuffle_samples=False,
    )
    course = Course(
        dataset=data,
        split=data.train,
        first_file=0,
        layouts=layouts,
        shard=deal.shard(0, deal.order(1)),
        sample_order=None,
        batch=shape.batch,
        steps=deal.steps,
    )
    return Files(
        directory=directory,
        paths=[data.path(number) for number in range(shape.files)],
        blocks=list(course.blocks()),
        open_files=0 if layouts.whole else shape.files,
    )


def layouts_of(data: Dataset, directory: Path, sizes_bytes: Sizes) -> Layouts:
    """Where the samples are in each file."""
    if not needs_layouts(data):
        return Layouts(samples_per_file=data.samples_per_file, sizes_bytes=sizes_bytes)
    found = find_layouts(data, directory, range(data.files), Selection(), lambda: True)
    return joined(data, sizes_bytes, found, 0, lambda value: [value])


def with_engine(files: Files, threads: int, core: ReaderChoice) -> int:
    """An epoch of one rank whose computations take no time, from the making of its reader on."""
    settings = Reading(
        directory=files.directory,
        threads=threads,
        look_ahead=2 * threads,
        descriptors=files.open_files,
        core=core,
    )
    reader = reader_for(settings)
    steps = sum(block.batches for block in files.blocks)
    try:
        run_epoch(
            Together(SoloMeeting(), started(), lambda: None),
            Loader(reader, iter(files.blocks)),
            steps=steps,
            computation_ns=0,
            waits=Histogram(),
        )
        return reader.account().read_bytes
    finally:
        reader.close()


def started() -> Control:
    """The state of a phase that has begun."""
    control = Control()
    control.start()
    control.shards(1)
    return control


def with_preadv(files: Files, threads: int) -> int:
    """A plain loop in threads, each with every so manieth read."""
    reads = [
        (block.paths[file], offset, length)
        for block in files.blocks
        for offset, length, file, _ in block.reads.tolist()
    ]
    done = [0] * threads

    def work(mine: int) -> None:
        with memoryview(aligned_buffer(DEFAULT_BUFFER_BYTES)) as buffer:
            for path, offset, length in reads[mine::threads]:
                descriptor = os.open(files.directory / path, os.O_RDONLY)
                end = offset + length
                while offset < end:
                    got = os.preadv(descriptor, [buffer[: end - offset]], offset)
                    if got == 0:
                        raise RuntimeError(f"{path} ends at {offset}")
                    offset += got
                    done[mine] += got
                os.close(descriptor)

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
    return files.file_bytes


def rate_of(files: Files, read: Callable[[], int], cold: bool) -> float:
    """Bytes a second of a way that reads all."""
    if cold:
        evict(files.directory, files.paths)
    began = time.perf_counter()
    count = read()
    took_s = time.perf_counter() - began
    if count not in (files.total_bytes, files.file_bytes):
        raise RuntimeError(f"{count} of {files.total_bytes} bytes were read")
    return count / took_s


def compare(shape: Shape, files: Files, threads: int, cold: bool) -> None:
    """Prints how fast each way is."""
    ways: dict[str, Callable[[], int]] = {
        "engine": lambda: with_engine(files, threads, "c"),
        "engine, Python": lambda: with_engine(files, threads, "python"),
        "preadv loop": lambda: with_preadv(files, threads),
        "cat": lambda: with_cat(files),
    }
    for read in ways.values():
        read()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        # Who comes first changes, for who comes first finds colder caches.
        for name in (list(ways), list(reversed(ways)))[turn % 2]:
            rates[name].append(rate_of(files, ways[name], cold))
    print(
        f"\n{shape.name}: {len(files.paths)} files, {files.total_bytes / GIB:.2f} GiB,"
        f" {'cold' if cold else 'warm'}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':16}{'GiB/s':>8}{'least':>8}{'most':>8}{'files/s':>10}{'to loop':>9}")
    for name, found in rates.items():
        ratio = statistics.median(
            own / loop for own, loop in zip(found, rates["preadv loop"], strict=True)
        )
        median = statistics.median(found)
        per_s = len(files.paths) * median / files.file_bytes
        print(
            f"{name:16}{median / GIB:8.2f}{min(found) / GIB:8.2f}{max(found) / GIB:8.2f}"
            f"{per_s:10.0f}{ratio:9.2f}"
        )


def show_ceiling(world: World, model: str) -> None:
    """Prints the utilisation that a model's steps have without reads."""
    job = compose([f"benchmark=training/{model}"], conf_dirs=(), cwd=Path("/")).values
    training = training_of(job["benchmark"])
    settings, per_block = training.reader, 288
    reads = np.zeros(per_block, READ)
    reads["batch"], reads["length"] = np.arange(per_block), 1
    block = Block(
        paths=["none"], numbers=np.zeros(1, dtype=np.uint32), reads=reads, batches=per_block
    )
    steps = 3000 if training.computation_ns < 10**7 else 300
    found = []
    for _ in range(ROUNDS):
        reading = Reading(
            directory=Path("/"),
            threads=settings.threads,
            look_ahead=settings.look_ahead_batches,
            enabled=False,
        )
        reader, meeting = reader_for(reading), world.open_meeting()
        together = Together(meeting, started(), lambda: None)
        together.meet()
        times = run_epoch(
            together,
            Loader(reader, iter([block] * (steps // per_block + 1))),
            steps=steps,
            computation_ns=training.computation_ns,
            waits=Histogram(),
        )
        reader.close()
        meeting.close()
        assert times is not None
        found.append((times.au_nominal_pct(training.computation_ns), times.au_dlio_pct()))
    ranks = np.array(world.gather(found))
    if world.rank == 0:
        means = ranks.mean(axis=0)  # of all ranks in each round
        print(
            f"{model:16}{training.computation_ns / 1e6:10.3f}{np.median(means[:, 0]):10.2f}"
            f"{means[:, 0].min():8.2f}{means[:, 0].max():8.2f}{np.median(means[:, 1]):10.2f}"
        )


def ceilings() -> None:
    """Prints the table of all models, on the first rank."""
    world = open_world(os.environ)
    if world.rank == 0:
        print(f"{world.size} ranks, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{'':16}{'step, ms':>10}{'nominal':>10}{'least':>8}{'most':>8}{'DLIO':>10}  (AU, %)")
    for model in CEILINGS:
        show_ceiling(world, model)


def main() -> None:
    """Prints all tables."""
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    print(f"{threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=directory) as place:
        for shape in SHAPES:
            files = made(Path(place), shape)
            for cold in (False, True):
                compare(shape, files, threads, cold)


if __name__ == "__main__":
    ceilings() if "--ceiling" in sys.argv else main()
