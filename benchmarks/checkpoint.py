"""How fast a rank's checkpoint is saved and loaded, and what that costs, beside fio and torch.

    python benchmarks/checkpoint.py DIR [--pairs N] [--size GIB] [--io-size BYTES] [--depth N]
                                    [--pause S] [--seed N] [--torch-python PYTHON]

Each round saves a checkpoint of two files in a new folder of the directory and loads it, in each
way, one after the other in random order. Before each there is a pause in which the storage comes to
rest. Figures are medians with the least and the most beside them; ratios are medians of those of
each round, for the storage's speed may change between rounds.

fio: one job with io_uring, direct, fixed buffers and registered files, transfers of the same length
and depth, one file after the other. Its files are reserved before its clock starts, and fsync is in
its time (end_fsync). "same data": it writes the same buffers again and again (scramble_buffers=0),
where it else changes them a little and mlps stamps every 4 KiB. "crc32c": it compares checksums of
all that it reads, of files that it has written so.

mlps: from the opening of the first file, with its space to be reserved, to the fsync of the last
and of their folder. It loads with each level of verification, from the files that fio reads too.
torch: torch.save of a dictionary of tensors of 32 MiB, then fsync; torch.load. What is loaded was
dropped from memory before. Processor time is that of this whole process while mlps saves or loads,
that of the whole process of torch meanwhile, and of fio's job what it reports of it.

Both have huge pages for their buffers where the kernel gives them; fio by a C library that asks for
them for all that it allocates (glibc.malloc.hugetlb).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from peer import GIB, Run, cpu_s_per_gib, gib_s, ratio, run_fio, spread

from mlps.engine.compose import compose
from mlps.engines.checkpoint_native.transfer import (
    Content,
    Io,
    Target,
    Transfers,
    io_of,
)
from mlps.engines.io_core.account import Account
from mlps.engines.io_core.control import Control
from mlps.engines.io_core.executor import Verify
from mlps.engines.result import peak_rss_bytes, usage_now
from mlps.engines.section import Section

NAMES = ("model_states.pt", "optim_states.pt")
KEY = 0x636B_7074
CHECKSUMS = {"verify": "crc32c"}
# Given the direction, a path and a size: prints how long it took and the processor time.
TORCH = """
import json, os, resource, sys, time
import torch
work, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
part = 2**25
state = {}
if work == "save":
    for first in range(0, size, part):
        tensor = torch.empty(min(part, size - first), dtype=torch.uint8)
        state[f"layer_{first // part}"] = tensor.random_()
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
cpu_s, began = used(), time.monotonic()
if work == "save":
    with open(path, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
else:
    torch.load(path)
print(json.dumps([time.monotonic() - began, used() - cpu_s]))
"""

Work = Literal["save", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What all are asked to do, and where."""

    place: Path
    io: Io
    file_bytes: int
    pause_s: float
    torch_python: Path | None

    @property
    def size_bytes(self) -> int:
        """Of a checkpoint."""
        return self.file_bytes * len(NAMES)

    @property
    def paths(self) -> list[Path]:
        """The files that mlps and fio load."""
        return [self.place / "mlps" / name for name in NAMES]


def with_mlps(case: Case, work: Work, io: Io) -> Run:
    """One rank saves or loads."""
    targets = [
        Target(name=name, size_bytes=case.file_bytes, number=number)
        for number, name in enumerate(NAMES)
    ]
    content = Content(key=KEY, pool_seed=1, row_bytes=io.io_size_bytes)
    with closing(Transfers(io, content, targets)) as transfers:
        transfers.ready(case.place)
        if transfers.core.refused or transfers.core.direct_refused:
            sys.exit(f"not at its best: {transfers.core}")
        control, account = Control(), Account()
        control.start()
        before = usage_now()
        act = transfers.save if work == "save" else transfers.load
        times = act(case.place / "mlps", 1, control, account)
        used = usage_now().since(before)
    return Run(
        moved_bytes=account.read.total_bytes + account.write.total_bytes,
        elapsed_s=(times.transfer_ns + times.sync_ns) / 1e9,
        cpu_s=used.user_s + used.system_s,
    )


def with_fio(case: Case, work: Work, **changes: str | int) -> Run:
    """One job of fio writes files of its own, or reads those of mlps; its own if it verifies."""
    own = work == "save" or "verify" in changes
    paths = [case.place / "fio" / name for name in NAMES] if own else case.paths
    options = {
        "name": work,
        "filename": ":".join(map(str, paths)),
        "size": case.size_bytes,
        "file_service_type": "sequential",
        "rw": "write" if work == "save" else "read",
        "bs": case.io.io_size_bytes,
        "iodepth": case.io.depth,
        "fallocate": "native",
        "end_fsync": int(work == "save"),
        "do_verify": int(work == "load"),
    }
    return run_fio("read" if work == "load" else "write", options | changes)


def with_torch(case: Case, work: Work) -> Run:
    """A process of its own, which has its tensors before its clock starts."""
    path = case.place / "torch" / "checkpoint.pt"
    command = [str(case.torch_python), "-c", TORCH, work, str(path), str(case.size_bytes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    elapsed_s, cpu_s = json.loads(done.stdout)
    return Run(moved_bytes=case.size_bytes, elapsed_s=elapsed_s, cpu_s=cpu_s)


Way = Callable[[], Run]


def ways_to_save(case: Case) -> dict[str, Way]:
    """By name."""
    ways: dict[str, Way] = {
        "fio": lambda: with_fio(case, "save"),
        "fio, same data": lambda: with_fio(case, "save", scramble_buffers=0),
        "mlps": lambda: with_mlps(case, "save", case.io),
    }
    if case.torch_python is not None:
        ways["torch.save, fsync"] = lambda: with_torch(case, "save")
    return ways


def ways_to_load(case: Case) -> dict[str, Way]:
    """By name; mlps with each level of verification."""
    ways: dict[str, Way] = {
        "fio": lambda: with_fio(case, "load"),
        "fio, crc32c": lambda: with_fio(case, "load", **CHECKSUMS),
    }
    for verify in get_args(Verify):
        ways[f"mlps, {verify}"] = partial(with_mlps, case, "load", replace(case.io, verify=verify))
    if case.torch_python is not None:
        ways["torch.load"] = lambda: with_torch(case, "load")
    return ways


def save_all(case: Case) -> None:
    """What is to be loaded is there, whoever saved last."""
    with_mlps(case, "save", case.io)
    with_fio(case, "save", **CHECKSUMS)
    if case.torch_python is not None:
        with_torch(case, "save")


def make_ready(case: Case, work: Work) -> None:
    """Before each run: nothing of a file is there to be written, or in memory to be read."""
    if work == "save":
        for name in ("mlps", "fio", "torch"):
            shutil.rmtree(case.place / name, ignore_errors=True)
            (case.place / name).mkdir()
    else:
        drop(path for folder in case.place.iterdir() for path in folder.iterdir())
    os.sync()
    time.sleep(case.pause_s)


def drop(paths: Iterable[Path]) -> None:
    """Drops files from memory."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


Runs = dict[str, list[Run]]


def compare(case: Case, pairs: int, order: random.Random) -> tuple[Runs, Runs]:
    """Runs of each way to save and of each to load; each round's in an order of its own."""
    saving, loading = ways_to_save(case), ways_to_load(case)
    saved: Runs = {name: [] for name in saving}
    loaded: Runs = {name: [] for name in loading}
    for _ in range(pairs):
        for name in order.sample(list(saving), len(saving)):
            make_ready(case, "save")
            saved[name].append(saving[name]())
        save_all(case)
        for name in order.sample(list(loading), len(loading)):
            make_ready(case, "load")
            loaded[name].append(loading[name]())
    return saved, loaded


def show(work: Work, ways: Runs) -> None:
    """Prints the table of a direction."""
    print(f"\n{work:<20}{'GiB/s':>22}{'to fio':>8}{'CPU s/GiB':>24}{'to fio':>8}")
    for name, runs in ways.items():
        speed, cost = ratios(runs, ways["fio"])
        print(
            f"{name:<20}{spread(map(gib_s, runs)):>22}{speed:>8.2f}"
            f"{spread(map(cpu_s_per_gib, runs)):>24}{cost:>8.2f}"
        )


def ratios(runs: Sequence[Run], others: Sequence[Run]) -> tuple[float, float]:
    """Of speed and of cost."""
    return ratio(runs, others, gib_s), ratio(runs, others, cpu_s_per_gib)


def usual_io(io_size_bytes: int | None, depth: int | None) -> Io:
    """That of the packaged benchmark, but for what is asked for."""
    job = compose(["benchmark=checkpointing"], conf_dirs=(), cwd=Path("/")).values
    values = dict(job["benchmark"]["io"])
    values |= {"io_size_bytes": io_size_bytes} if io_size_bytes else {}
    values |= {"depth": depth} if depth else {}
    return io_of(Section(values, "io"))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--size", type=float, default=1.0, metavar="GIB")
    parser.add_argument("--io-size", type=int, metavar="BYTES")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--pause", type=float, default=2.0, metavar="S")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--torch-python", type=Path, metavar="PYTHON")
    return parser.parse_args()


def main() -> None:
    """Compare, and remove what was written."""
    chosen = arguments()
    io = usual_io(chosen.io_size, chosen.depth)
    blocks = round(chosen.size * GIB / len(NAMES) / io.io_size_bytes)
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=chosen.directory) as name:
        case = Case(
            place=Path(name),
            io=io,
            file_bytes=max(blocks, 1) * io.io_size_bytes,
            pause_s=chosen.pause,
            torch_python=chosen.torch_python,
        )
        print(
            f"{len(NAMES)} files, {case.size_bytes / GIB:.2f} GiB, {io.io_size_bytes} bytes x"
            f" {io.depth}, {chosen.pairs} rounds, load {os.getloadavg()[0]:.1f}"
        )
        saved, loaded = compare(case, chosen.pairs, random.Random(chosen.seed))
    show("save", saved)
    show("load", loaded)
    speed, cost = ratios(loaded["mlps, content"], loaded["fio, crc32c"])
    print(
        f"\nall bytes compared, mlps to fio: GiB/s {speed:.2f}, CPU s/GiB {cost:.2f}\n"
        f"peak memory of this process {peak_rss_bytes() / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
