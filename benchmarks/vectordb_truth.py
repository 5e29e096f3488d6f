"""How fast the exact truth is found, beside a plain matrix product and argpartition of numpy.

    python benchmarks/vectordb_truth.py [--vectors N] [--dimension N] [--queries N] [--depth N]
                                        [--pairs N] [--metric METRIC] [--tile-bytes N]

Both look at the same clustered vectors, made block by block; making them is not in their times.
Each runs in a new process, one after the other, and peak memory is that of the whole process.
Figures are medians with the least and the most beside them; the ratio is the median of those of
each pair.

plain: float32 scores of a block by the product, its best by argpartition, and of all of these the
best by argpartition at the end. Not in order, not exact, and ties fall as they may; for COSINE and
IP of vectors of length 1 alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from mlps.engines.result import peak_rss_bytes
from mlps.engines.vectordb.metrics import Metric
from mlps.engines.vectordb.queries import Queries, query_vectors
from mlps.engines.vectordb.truth import Ids, Vectors, exact
from mlps.engines.vectordb.vectors import Dataset, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What both are asked for."""

    dataset: Dataset
    queries: Queries
    metric: Metric
    depth: int
    tile_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Times without the making of vectors, and what was found."""

    elapsed_s: float
    cpu_s: float
    making_s: float
    peak_bytes: int
    ids: Ids


class Stream:
    """All blocks of a dataset, and how long it took to make them."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.elapsed_s = 0.0
        self.cpu_s = 0.0

    def __iter__(self) -> Iterator[tuple[Ids, Vectors]]:
        blocks = rows(self._dataset, 0, self._dataset.vectors)
        while True:
            elapsed_s, cpu_s = time.monotonic(), time.process_time()
            made = next(blocks, None)
            self.elapsed_s += time.monotonic() - elapsed_s
            self.cpu_s += time.process_time() - cpu_s
            if made is None:
                return
            yield made


def with_mlps(case: Case, stream: Stream, queries: Vectors) -> Ids:
    """The truth."""
    found = exact(
        stream,
        queries,
        case.metric,
        case.depth,
        tile_bytes=case.tile_bytes,
        alive=lambda done: True,
    )
    return found.ids


def plain(case: Case, stream: Stream, queries: Vectors) -> Ids:
    """What numpy gives without further thought."""
    best_ids, best_scores = [], []
    for ids, vectors in stream:
        scores = queries @ vectors.T
        depth = min(case.depth, len(ids))
        best = np.argpartition(scores, len(ids) - depth, axis=1)[:, -depth:]
        best_ids.append(ids[best])
        best_scores.append(np.take_along_axis(scores, best, axis=1))
    scores = np.concatenate(best_scores, axis=1)
    best = np.argpartition(scores, scores.shape[1] - case.depth, axis=1)[:, -case.depth :]
    return np.take_along_axis(np.concatenate(best_ids, axis=1), best, axis=1)


WAYS = {"plain": plain, "mlps": with_mlps}


def run(case: Case, way: str) -> Run:
    """One way, from the first block to the last."""
    queries = query_vectors(case.dataset, case.queries, 0, case.queries.count)
    stream = Stream(case.dataset)
    elapsed_s, cpu_s = time.monotonic(), time.process_time()
    ids = WAYS[way](case, stream, queries)
    return Run(
        elapsed_s=time.monotonic() - elapsed_s - stream.elapsed_s,
        cpu_s=time.process_time() - cpu_s - stream.cpu_s,
        making_s=stream.elapsed_s,
        peak_bytes=peak_rss_bytes(),
        ids=ids,
    )


def run_apart(case: Case, way: str) -> Run:
    """The same in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (case, way))


def spread(values: Sequence[float]) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def show(runs: dict[str, list[Run]]) -> None:
    """Prints the table."""
    print(f"\n{'':<8}{'seconds':>26}{'CPU seconds':>26}{'peak MiB':>10}{'making, s':>26}")
    for way, some in runs.items():
        print(
            f"{way:<8}{spread([run.elapsed_s for run in some]):>26}"
            f"{spread([run.cpu_s for run in some]):>26}"
            f"{max(run.peak_bytes for run in some) / 2**20:>10.0f}"
            f"{spread([run.making_s for run in some]):>26}"
        )
    pairs = list(zip(runs["mlps"], runs["plain"], strict=True))
    elapsed = spread([ours.elapsed_s / other.elapsed_s for ours, other in pairs])
    cpu = spread([ours.cpu_s / other.cpu_s for ours, other in pairs])
    print(f"\nmlps to plain: time {elapsed}, CPU {cpu}")
    ours, other = pairs[0]
    same = [len(np.intersect1d(*both)) for both in zip(ours.ids, other.ids, strict=True)]
    print(f"of {ours.ids.size} ids, plain has {sum(same)}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--metric", choices=get_args(Metric), default="COSINE")
    parser.add_argument("--tile-bytes", type=int, default=8 * 2**20)
    return parser.parse_args()


def main() -> None:
    """Compare."""
    chosen = arguments()
    case = Case(
        dataset=Dataset(
            vectors=chosen.vectors,
            dimension=chosen.dimension,
            distribution="clustered",
            seed=42,
            clusters=1000,
            cluster_spread=1.0,
        ),
        queries=Queries(count=chosen.queries, mode="planted", noise=0.05, seed=99),
        metric=chosen.metric,
        depth=chosen.depth,
        tile_bytes=chosen.tile_bytes,
    )
    print(
        f"{chosen.vectors} x {chosen.dimension}, {chosen.queries} queries, depth {chosen.depth},"
        f" {chosen.metric}, {chosen.pairs} pairs, load {os.getloadavg()[0]:.1f}"
    )
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for _ in range(chosen.pairs):
        for way, some in runs.items():
            some.append(run_apart(case, way))
    show(runs)


if __name__ == "__main__":
    main()
