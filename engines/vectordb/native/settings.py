"""Parameters of the index, and the memory that reading and building it take at most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ...errors import JobError
from ..adapter import check_spec
from ..backend import IndexSpec, Key, Value, settings
from .layout import piece_bytes, pieces_at_most

IoChoice = Literal["auto", "direct", "buffered"]

# More than this and a list has centroids of its own before it has vectors.
_SAMPLE_PER_LIST = 40
# Working memory of the passes of a build: of each there are a few at a time.
TILE_BYTES = 32 * 2**20
_TILES = 5

BUILD_KEYS: Mapping[str, Key] = {
    "nlist": Key(types=(int,), default=None, least=1),  # the square root of the vectors
    "kmeans_rounds": Key(types=(int,), default=10, least=1),
    "sample": Key(types=(int,), default=None, least=1),  # 40 vectors for each list
}
SEARCH_KEYS: Mapping[str, Key] = {
    "nprobe": Key(types=(int,), default=8, least=1),
    "reads_in_flight": Key(types=(int,), default=4, least=1),
    # auto: direct, or buffered with the reason told where the file system refuses.
    "io": Key(types=(str,), default="auto", choices=get_args(IoChoice)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How an index is built: lists, rounds of k-means, and vectors that these look at."""

    nlist: int
    kmeans_rounds: int
    sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How an index is searched."""

    nprobe: int
    reads_in_flight: int
    io: IoChoice


def build_of(spec: IndexSpec) -> Build:
    """The parameters of a build, derived where they are not given; raises JobError."""
    check_spec(spec)
    _check_seed(spec)
    found = settings(spec.build, BUILD_KEYS, "index")
    nlist = _whole(found["nlist"], max(1, round(math.sqrt(spec.vectors))))
    if nlist > spec.vectors:
        raise JobError(f"index.nlist is {nlist}, and there are {spec.vectors} vectors")
    sample = _whole(found["sample"], min(spec.vectors, _SAMPLE_PER_LIST * nlist))
    if not nlist <= sample <= spec.vectors:
        raise JobError(
            f"index.sample must be between index.nlist ({nlist}) and the number of vectors"
            f" ({spec.vectors}), got {sample}"
        )
    return Build(nlist=nlist, kmeans_rounds=_whole(found["kmeans_rounds"], 0), sample=sample)


def search_of(spec: IndexSpec, search: Mapping[str, Value]) -> Search:
    """The parameters of searches; raises JobError."""
    nlist = build_of(spec).nlist
    found = settings(search, SEARCH_KEYS, "search")
    nprobe = _whole(found["nprobe"], 0)
    if "nprobe" not in search:
        nprobe = min(nprobe, nlist)
    if nprobe > nlist:
        raise JobError(f"search.nprobe is {nprobe}, and the index has {nlist} lists")
    return Search(
        nprobe=nprobe,
        reads_in_flight=_whole(found["reads_in_flight"], 0),
        io=cast(IoChoice, found["io"]),
    )


def reader_needs_bytes(spec: IndexSpec, search: Mapping[str, Value]) -> int:
    """Memory that a reader takes at most, beside queries and their results.

    Centroids, the table of extents and the buffers: however unequal the lists are, a long one is
    read in pieces.
    """
    nlist = build_of(spec).nlist
    table = nlist * (4 * spec.dimension + 40) + 4 * pieces_at_most(spec.vectors, nlist)
    buffers = search_of(spec, search).reads_in_flight * piece_bytes(spec.vectors, spec.dimension)
    return table + buffers


def writer_needs_bytes(spec: IndexSpec) -> int:
    """Memory that building takes at most, beside what is given to one `insert`."""
    build = build_of(spec)
    sample = build.sample * (4 * spec.dimension + 24)
    # Centroids as they are and as they become, in double precision, and their table.
    lists = build.nlist * (20 * spec.dimension + 64) + 4 * pieces_at_most(spec.vectors, build.nlist)
    # Whether a vector is there, and its list.
    return sample + lists + 5 * spec.vectors + _TILES * TILE_BYTES


def tile_rows(dimension: int, nlist: int) -> int:
    """Vectors that fit in a tile, be it with all their components or with a score for each list."""
    return max(1, TILE_BYTES // (4 * max(dimension + 2, nlist)))


def _check_seed(spec: IndexSpec) -> None:
    if not 0 <= spec.seed < 2**64:
        raise JobError(f"the seed must be of 64 bits, got {spec.seed}")


def _whole(value: Value | None, derived: int) -> int:
    return derived if value is None else int(value)
