"""What the own index of inverted lists reaches, beside a plain loop that reads the same extents.

    python benchmarks/vectordb_native.py DIR [--vectors N] [--dimensions D,D] [--nprobe P,P]
                                             [--queries N] [--rounds N] [--reads-in-flight N]

For each dimension an index is built in DIR from clustered unit vectors, and searched with queries
near some of them, one query in a call. direct: past the page cache. cold: through it, dropped
before each round, with the residency then found. The plain loops use one thread and one buffer,
direct: one reads the extents of each query, the other scores them too, neither verifies. All take
turns in each round, and the median round stands. `verified` is what the checksums cost of the
reader's time, measured over the same bytes in memory. Recall@10 is against brute force.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlps.engines.io_core.blocks import aligned_buffer
from mlps.engines.io_core.page_cache import evict, resident_pct
from mlps.engines.vectordb.backend import IndexSpec
from mlps.engines.vectordb.native.header import read_index
from mlps.engines.vectordb.native.layout import LISTS, checksum, records_in
from mlps.engines.vectordb.native.reader import IvfReader
from mlps.engines.vectordb.native.settings import build_of
from mlps.engines.vectordb.native.writer import IvfWriter

Floats = NDArray[np.float32]
K = 10
CLUSTERS = 1000
# Of a component, as a part of the length of a centre: neighbours then lie in several lists.
SPREAD = 1.0
NOISE = 0.05
BLOCK = 8192


def main() -> None:
    """Prints a table for each dimension."""
    options = arguments()
    for dimension in options.dimensions:
        with tempfile.TemporaryDirectory(dir=options.directory) as name:
            compare(Path(name), dimension, options)


def compare(directory: Path, dimension: int, options: argparse.Namespace) -> None:
    """Builds an index and measures all ways to read it."""
    spec = IndexSpec(dimension=dimension, metric="COSINE", vectors=options.vectors, seed=1)
    queries = unit(
        block(0, dimension)[: options.queries]
        + NOISE * unit(np.random.default_rng(9).normal(size=(options.queries, dimension)))
    )
    insert_s, build_s = build(directory, spec)
    print(
        f"{options.vectors} x {dimension}, {build_of(spec).nlist} lists:"
        f" insert {insert_s:.1f} s, build {build_s:.1f} s"
    )
    truth = brute_force(spec, queries)
    for nprobe in options.nprobe:
        search = {"nprobe": nprobe, "reads_in_flight": options.reads_in_flight}
        direct = IvfReader(directory, spec, {**search, "io": "direct"})
        ids = np.concatenate([direct.search(query[None], K)[0] for query in queries])
        recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(ids, truth, strict=True)])
        per_query = direct.moved().read_bytes / len(queries)
        if direct.moved().read_bytes != direct.planned_bytes(queries):
            raise SystemExit("the reader did not read what was planned")
        print(f"  nprobe {nprobe}: recall@10 {recall:.3f}, {per_query / 1e3:.0f} kB/query")
        for line in rates(directory, spec, direct, queries, search, options.rounds):
            print(f"    {line}")
        direct.close()


def rates(
    directory: Path,
    spec: IndexSpec,
    direct: IvfReader,
    queries: Floats,
    search: dict[str, int | float | str],
    rounds: int,
) -> list[str]:
    """Queries per second of each way, as lines."""
    plain = Plain(directory, spec, direct)
    resident: list[float] = []

    def cold() -> Callable[[], None]:
        evict(directory, [LISTS], durable=True)
        resident.append(resident_pct([directory / LISTS]) or 0.0)
        reader = IvfReader(directory, spec, {**search, "io": "buffered"})
        return lambda: [reader.search(query[None], K) for query in queries] and reader.close()

    ways: dict[str, Callable[[], Callable[[], object]]] = {
        "direct": lambda: lambda: [direct.search(query[None], K) for query in queries],
        "cold": cold,
        "plain loop, reads": lambda: lambda: [plain.read(query, False) for query in queries],
        "plain loop, reads and scores": (
            lambda: lambda: [plain.read(query, True) for query in queries]
        ),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, prepare in ways.items():
            run = prepare()
            start = time.perf_counter()
            run()
            taken[way].append(time.perf_counter() - start)
    verified = plain.verify_s(queries) / statistics.median(taken["direct"])
    plain.close()
    lines = [
        f"{way}: {len(queries) / statistics.median(all_s):.0f} queries/s"
        f" ({len(queries) / max(all_s):.0f} to {len(queries) / min(all_s):.0f})"
        for way, all_s in taken.items()
    ]
    return [
        *lines,
        f"verified: {100 * verified:.1f} % of direct; resident before cold: {max(resident):.2f} %",
    ]


class Plain:
    """A loop over the pieces that the reader would read, with a descriptor and a buffer."""

    def __init__(self, directory: Path, spec: IndexSpec, reader: IvfReader) -> None:
        self._reader, self._dimension = reader, spec.dimension
        self._extents = read_index(directory, spec).extents
        self._descriptor = os.open(directory / LISTS, os.O_RDONLY | os.O_DIRECT)
        longest = max(
            piece.length_bytes
            for number in range(len(self._extents.rows))
            for piece in self._extents.pieces_of(number)
        )
        self._bytes = np.frombuffer(aligned_buffer(longest), dtype=np.uint8)

    def read(self, query: Floats, scores: bool) -> None:
        """Reads what a query reads."""
        (chosen,) = self._reader.chosen(query[None])
        best = np.empty(0, dtype=np.float32)
        for number in chosen:
            for piece in self._extents.pieces_of(int(number)):
                data = self._bytes[: piece.length_bytes]
                os.preadv(self._descriptor, [data.data], piece.offset_bytes)
                if scores:
                    found = records_in(data, piece.rows, self._dimension)["vector"] @ query
                    best = np.sort(np.concatenate((best, found)))[-K:]

    def verify_s(self, queries: Floats) -> float:
        """Seconds that the checksums of what these queries read take."""
        total = 0.0
        for query in queries:
            (chosen,) = self._reader.chosen(query[None])
            pieces = [p for number in chosen for p in self._extents.pieces_of(int(number))]
            for piece in pieces:
                data = self._bytes[: piece.length_bytes]
                os.preadv(self._descriptor, [data.data], piece.offset_bytes)
                start = time.perf_counter()
                checksum(data)
                total += time.perf_counter() - start
        return total

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


def build(directory: Path, spec: IndexSpec) -> tuple[float, float]:
    """Seconds of inserting, without making the vectors, and of the build."""
    writer = IvfWriter(directory, spec)
    inserting = 0.0
    for first in range(0, spec.vectors, BLOCK):
        vectors = block(first // BLOCK, spec.dimension)[: spec.vectors - first]
        start = time.perf_counter()
        writer.insert(np.arange(first, first + len(vectors)), vectors)
        inserting += time.perf_counter() - start
    start = time.perf_counter()
    writer.flush()
    inserting += time.perf_counter() - start
    start = time.perf_counter()
    writer.build(lambda _done, _total: True)
    writer.close()
    return inserting, time.perf_counter() - start


def block(number: int, dimension: int) -> Floats:
    """The vectors of a block: each around one of the centres."""
    centres = unit(np.random.default_rng(5).normal(size=(CLUSTERS, dimension)))
    generator = np.random.default_rng((6, number))
    near = centres[generator.integers(0, CLUSTERS, BLOCK)]
    noise = generator.normal(size=(BLOCK, dimension)) * SPREAD / np.sqrt(dimension)
    return unit(near + noise)


def unit(vectors: NDArray[np.floating]) -> Floats:
    """Vectors of length 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(spec: IndexSpec, queries: Floats) -> NDArray[np.int64]:
    """The ids of the nearest of all."""
    ids = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    for first in range(0, spec.vectors, BLOCK):
        vectors = block(first // BLOCK, spec.dimension)[: spec.vectors - first]
        here = np.broadcast_to(np.arange(first, first + len(vectors)), (len(queries), len(vectors)))
        ids = np.concatenate((ids, here), axis=1)
        scores = np.concatenate((scores, queries @ vectors.T), axis=1)
        best = np.argsort(-scores, axis=1)[:, :K]
        ids = np.take_along_axis(ids, best, axis=1)
        scores = np.take_along_axis(scores, best, axis=1)
    return ids


def arguments() -> argparse.Namespace:
    """The command line."""

    def numbers(text: str) -> list[int]:
        return [int(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimensions", type=numbers, default=[128, 768])
    parser.add_argument("--nprobe", type=numbers, default=[8, 32])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reads-in-flight", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
