"""What the I/O executor reaches and costs beside fio, on the same files at the same time of day.

    python benchmarks/kvcache_io.py DIR [--pairs N] [--seconds S] [--size GIB] [--seed N]
                                        [--kv-cache-py PATH]

Both do random direct I/O of one block size and depth on the same preallocated and written files,
one after the other in random order, N times for each cell. fio: one job with io_uring, fixed
buffers and registered files. The executor: one ring, and writes that stamp every 4 KiB. Its
processor time is that of this whole process while it runs: the planner that feeds rows, the
scheduler and its ring, not the start of the interpreter. fio's is the user and system share that
it reports of its job, times its runtime: it does not count its main process.

Both have huge pages for their buffers where the kernel gives them: the executor asks for them, and
fio is run with a C library that does so for all that it allocates (glibc.malloc.hugetlb). They make
direct I/O cheaper and its requests larger. What /sys/kernel/mm/transparent_hugepage/enabled says
stands above the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peer import GIB, Run, cpu_s_per_gib, gib_s, ratio, run_fio, spread

from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import Settings, Verify, executor_for
from mlps.engines.io_core.files import open_files, preallocate
from mlps.engines.io_core.operations import LOAD, OPERATION, STORE, Operations, Stream
from mlps.engines.result import usage_now

KIB = 2**10
FILE_BYTES = GIB
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
KEY = 0x6B76_6361_6368_6500
BLOCK_ROWS = 2048


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of I/O."""

    block_bytes: int
    depth: int
    kind: int

    def __str__(self) -> str:
        size = self.block_bytes // KIB
        text = f"{size} KiB" if size < KIB else f"{size // KIB} MiB"
        return f"{'read' if self.kind == LOAD else 'write'} {text} QD {self.depth}"


CELLS = tuple(
    Cell(block_bytes, depth, kind)
    for block_bytes, depth in ((128 * KIB, 32), (1024 * KIB, 8), (4096 * KIB, 8))
    for kind in (LOAD, STORE)
)


def rows_at(slots: np.ndarray, length: int, kind: int, users: int, first: int) -> Operations:
    """One request for each slot of `length` bytes."""
    rows: Operations = np.zeros(len(slots), dtype=OPERATION)
    numbers = np.arange(first, first + len(slots))
    rows["file"], within = np.divmod(slots, FILE_BYTES // length)
    rows["offset"] = within * length
    rows["chunk"] = slots
    rows["length"] = length
    rows["kind"] = kind
    rows["user"], rows["request"] = numbers % users, numbers // users
    rows["closes"] = 1
    return rows


def random_rows(files: int, cell: Cell, seed: int) -> Stream:
    """Rows at random places, without end."""
    generator = np.random.Generator(np.random.Philox(seed))
    slots = files * (FILE_BYTES // cell.block_bytes)
    first = 0
    while True:
        places = generator.integers(0, slots, BLOCK_ROWS)
        yield rows_at(places, cell.block_bytes, cell.kind, 8 * cell.depth, first)
        first += BLOCK_ROWS


def all_rows(files: int, block_bytes: int) -> Stream:
    """Stores into every slot."""
    slots = np.arange(files * (FILE_BYTES // block_bytes))
    for first in range(0, len(slots), BLOCK_ROWS):
        yield rows_at(slots[first : first + BLOCK_ROWS], block_bytes, STORE, 64, first)


def carry_out(
    paths: Sequence[Path],
    stream: Stream,
    settings: Settings,
    seconds: float | None = None,
) -> Run:
    """Works a stream off, to its end or for some seconds."""
    files = open_files(paths, direct=True)
    if not files.direct:
        sys.exit(f"no direct I/O in {paths[0].parent}: {files.direct_refused}")
    executor = executor_for(files, settings)
    if executor.refused:
        sys.exit(f"the executor is not at its best: {executor.refused}")
    control, account = Control(duration_s=seconds), Account()
    before = usage_now()
    control.start()
    executor.execute([stream], control, account)
    used = usage_now().since(before)
    executor.close()
    files.close()
    return Run(
        moved_bytes=account.read.total_bytes + account.write.total_bytes,
        elapsed_s=(account.last_ns - control.start_ns) / 1e9,
        cpu_s=used.user_s + used.system_s,
    )


def settings_of(block_bytes: int, depth: int, verify: Verify = "none") -> Settings:
    """As fio with one job: one ring, so that all I/O is submitted by one thread."""
    return Settings(
        depth=depth,
        key=KEY,
        pool_seed=1,
        largest_bytes=block_bytes,
        io_size_bytes=min(block_bytes, 4096 * KIB),
        verify=verify,
        durability="none",
        rings=1,
        core="uring",
    )


def executor_run(
    paths: Sequence[Path], cell: Cell, seconds: float, seed: int, verify: Verify = "none"
) -> Run:
    """The executor on a cell."""
    stream = random_rows(len(paths), cell, seed)
    return carry_out(paths, stream, settings_of(cell.block_bytes, cell.depth, verify), seconds)


def fio_run(
    paths: Sequence[Path], cell: Cell, seconds: float, seed: int, *, scramble: bool = True
) -> Run:
    """fio on a cell; unless it scrambles, it writes the same few buffers again and again."""
    options = {
        "name": "cell",
        "filename": ":".join(map(str, paths)),
        "size": len(paths) * FILE_BYTES,
        "file_service_type": "random",
        "rw": "randread" if cell.kind == LOAD else "randwrite",
        "bs": cell.block_bytes,
        "iodepth": cell.depth,
        "norandommap": 1,
        "randseed": seed,
        "time_based": 1,
        "runtime": f"{round(seconds * 1000)}ms",
        "fallocate": "none",
        "scramble_buffers": int(scramble),
    }
    return run_fio("read" if cell.kind == LOAD else "write", options)


Contender = Callable[[int], Run]


def contenders_of(paths: Sequence[Path], cell: Cell, seconds: float) -> dict[str, Contender]:
    """Who runs in each round of a cell, each given the round's seed."""
    contenders: dict[str, Contender] = {
        "fio": lambda seed: fio_run(paths, cell, seconds, seed),
        "executor": lambda seed: executor_run(paths, cell, seconds, seed),
    }
    if cell.kind == LOAD:
        contenders["sampled"] = lambda seed: executor_run(paths, cell, seconds, seed, "sampled")
    else:
        contenders["plain"] = lambda seed: fio_run(paths, cell, seconds, seed, scramble=False)
    return contenders


def compare(
    paths: Sequence[Path], cell: Cell, pairs: int, seconds: float, order: random.Random
) -> dict[str, list[Run]]:
    """Runs of each contender; each round's in an order of its own."""
    contenders = contenders_of(paths, cell, seconds)
    runs: dict[str, list[Run]] = {name: [] for name in contenders}
    for _ in range(pairs):
        seed = order.randrange(2**31)
        for name in order.sample(list(contenders), len(contenders)):
            runs[name].append(contenders[name](seed))
    return runs


HEADER = (
    f"{'':<19}{'fio GiB/s':>21}{'executor GiB/s':>21}{'ratio':>7}"
    f"{'fio CPU s/GiB':>21}{'executor CPU s/GiB':>21}{'ratio':>7}{'sampled':>9}{'plain':>13}"
)
LEGEND = """\
median [least-most]; ratios are medians of pairs, executor / fio. sampled: the ratio of CPU s/GiB
when the executor verifies 1 % of its reads. plain: the ratios of GiB/s and CPU s/GiB when fio does
not touch its buffers between writes (scramble_buffers=0), while the executor stamps as always"""


def line_of(cell: Cell, runs: dict[str, list[Run]]) -> str:
    """A cell's line of the table."""
    fio, own = runs["fio"], runs["executor"]
    sampled = plain = ""
    if "sampled" in runs:
        sampled = f"{ratio(runs['sampled'], fio, cpu_s_per_gib):.2f}"
    if "plain" in runs:
        speed, cost = (ratio(own, runs["plain"], of) for of in (gib_s, cpu_s_per_gib))
        plain = f"{speed:.2f} / {cost:.2f}"
    return (
        f"{cell!s:<19}{spread(map(gib_s, fio)):>21}{spread(map(gib_s, own)):>21}"
        f"{ratio(own, fio, gib_s):>7.2f}"
        f"{spread(map(cpu_s_per_gib, fio)):>21}{spread(map(cpu_s_per_gib, own)):>21}"
        f"{ratio(own, fio, cpu_s_per_gib):>7.2f}{sampled:>9}{plain:>13}"
    )


def make_files(place: Path, size_gib: int) -> list[Path]:
    """Files of 1 GiB with space reserved for all of it."""
    paths = [place / f"segment_{number:04d}.dat" for number in range(size_gib)]
    for path in paths:
        preallocate(path, FILE_BYTES)
    return paths


def compare_with_fio(
    paths: Sequence[Path], pairs: int, seconds: float, order: random.Random
) -> None:
    """The table of all cells."""
    huge = HUGE_PAGES.read_text().strip() if HUGE_PAGES.exists() else "none"
    print(f"transparent huge pages: {huge}\n{HEADER}")
    for block_bytes in dict.fromkeys(cell.block_bytes for cell in CELLS):
        # Written anew for each block size: the stamps that sampled reads expect depend on it.
        carry_out(paths, all_rows(len(paths), block_bytes), settings_of(block_bytes, 8))
        for cell in CELLS:
            if cell.block_bytes == block_bytes:
                print(line_of(cell, compare(paths, cell, pairs, seconds, order)), flush=True)
    print(LEGEND)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A run of the upstream script: operations on whole entries and their bytes."""

    reads: int
    writes: int
    read_bytes: int
    written_bytes: int
    run: Run


def upstream_run(script: Path, place: Path, seconds: float, size_gib: int) -> Upstream:
    """The upstream script with its documented options, as a child process."""
    output, cache = place / "kv-cache.json", place / "kv-cache"
    cache.mkdir()
    options = {
        "config": script.with_name("config.yaml"),
        "model": "tiny-1b",
        "num-users": 8,
        "duration": max(round(seconds), 1),
        "gpu-mem-gb": 0,
        "cpu-mem-gb": 0,
        "max-concurrent-allocs": 8,
        "generation-mode": "none",
        "seed": 42,
        "storage-capacity-gb": size_gib,
        "cache-dir": cache,
        "output": output,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    begun = time.monotonic()
    with (place / "kv-cache.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, script, *words], stdout=log, stderr=log)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    elapsed_s = time.monotonic() - begun
    if child.returncode != 0 or not output.exists():
        sys.exit(
            f"{script} failed:\n{(place / 'kv-cache.log').read_text(errors='replace')[-2000:]}"
        )
    stats = json.loads(output.read_bytes())["summary"]["cache_stats"]
    # GiB, and counts, whatever the names say.
    read_bytes, written_bytes = (
        round(stats[f"tier_storage_kv_bytes_{what}_gb"] * GIB) for what in ("read", "written")
    )
    return Upstream(
        reads=stats["read_iops"],
        writes=stats["write_iops"],
        read_bytes=read_bytes,
        written_bytes=written_bytes,
        run=Run(read_bytes + written_bytes, elapsed_s, used.ru_utime + used.ru_stime),
    )


def rows_like(upstream: Upstream, files: int, seed: int) -> Iterator[Operations]:
    """As many reads and writes as the upstream run, of one size each, mixed at random."""
    generator = np.random.Generator(np.random.Philox(seed))
    kinds = np.repeat([LOAD, STORE], [upstream.reads, upstream.writes])
    generator.shuffle(kinds)
    sizes = {
        kind: max(round(moved / count / 4096), 1) * 4096 if count else 4096
        for kind, count, moved in (
            (LOAD, upstream.reads, upstream.read_bytes),
            (STORE, upstream.writes, upstream.written_bytes),
        )
    }
    if max(sizes.values()) > FILE_BYTES:
        sys.exit(f"objects of {max(sizes.values())} bytes do not fit into files of {FILE_BYTES}")
    for number, kind in enumerate(kinds.tolist()):
        slots = files * (FILE_BYTES // sizes[kind])
        place = generator.integers(0, slots, 1)
        yield rows_at(place, sizes[kind], kind, 8, number)


def compare_with_upstream(
    script: Path, paths: Sequence[Path], place: Path, seconds: float, seed: int
) -> None:
    """One run of each: equal bytes in objects of equal mean size."""
    upstream = upstream_run(script, place, seconds, len(paths))
    settings = Settings(
        depth=8,
        key=KEY,
        pool_seed=1,
        largest_bytes=FILE_BYTES,
        verify="none",
        durability="none",
        rings=1,
        core="uring",
    )
    own = carry_out(paths, rows_like(upstream, len(paths), seed), settings)
    print(f"\n{'':<14}{'reads':>7}{'GiB':>9}{'writes':>8}{'GiB':>9}{'CPU s/GiB':>11}{'GiB/s':>8}")
    for name, run in (("kv-cache.py", upstream.run), ("executor", own)):
        print(
            f"{name:<14}{upstream.reads:>7}{upstream.read_bytes / GIB:>9.2f}"
            f"{upstream.writes:>8}{upstream.written_bytes / GIB:>9.2f}"
            f"{cpu_s_per_gib(run):>11.4f}{gib_s(run):>8.2f}"
        )
    factor = cpu_s_per_gib(upstream.run) / cpu_s_per_gib(own)
    print(
        f"CPU s/GiB: kv-cache.py / executor {factor:.1f}.\n"
        "Compared are equal numbers of reads and writes of equal mean size. kv-cache.py: the whole"
        " process, with the start of its\ninterpreter and its noise buffer; files through the page"
        " cache, fsync, generated data, the bytes that it reports. The\nexecutor: its run only;"
        " direct transfers of 1 MiB, 8 in flight, stamped blocks, nothing synced. So a part of the"
        " factor\nis less work, and one run has no spread."
    )


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", type=int, default=2, metavar="GIB")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kv-cache-py", type=Path, metavar="PATH")
    return parser.parse_args()


def main() -> None:
    """Make the files, compare, remove them."""
    chosen = arguments()
    with tempfile.TemporaryDirectory(prefix="kvcache-io-", dir=chosen.directory) as name:
        place = Path(name)
        paths = make_files(place, chosen.size)
        order = random.Random(chosen.seed)
        compare_with_fio(paths, chosen.pairs, chosen.seconds, order)
        if chosen.kv_cache_py is not None:
            compare_with_upstream(chosen.kv_cache_py, paths, place, chosen.seconds, chosen.seed)


if __name__ == "__main__":
    main()
