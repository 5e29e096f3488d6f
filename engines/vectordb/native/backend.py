"""Inverted lists (IVF) with exact vectors: the backend that needs nothing but this project.

What a query reads follows from its plan to the byte: the extents of the nearest lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ...io_core.directory import remove_files
from ...version import mlps_version
from ..backend import (
    Assembled,
    Backend,
    Description,
    Estimate,
    IndexSpec,
    Parameters,
    Value,
)
from .layout import ALIGNMENT_BYTES, LISTS, OWN_FILES, record_of
from .reader import IvfReader
from .settings import (
    BUILD_KEYS,
    SEARCH_KEYS,
    build_of,
    reader_needs_bytes,
    search_of,
    writer_needs_bytes,
)
from .writer import IvfWriter


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> Parameters:
    return Parameters(build=asdict(build_of(spec)), search=asdict(search_of(spec, search)))


def _estimate(spec: IndexSpec, search: Mapping[str, Value]) -> Estimate:
    nlist, row_bytes = build_of(spec).nlist, record_of(spec.dimension).itemsize
    # Of each list the last block is filled in part: at most this.
    lists = spec.vectors * row_bytes + nlist * ALIGNMENT_BYTES
    index = lists + nlist * (4 * spec.dimension + 12)
    return Estimate(
        index_bytes=index,
        building_bytes=index + 4 * spec.dimension * spec.vectors,
        writer_bytes=writer_needs_bytes(spec),
        reader_bytes=reader_needs_bytes(spec, search),
        disk=f"{spec.vectors:,} x {row_bytes} B + {nlist:,} lists x {ALIGNMENT_BYTES} B and their"
        " centroids, beside all vectors until it is complete",
    )


def _data_paths(directory: Path) -> tuple[Path, ...]:
    """The lists: the rest is read once, when a reader opens."""
    return (directory / LISTS,)


def _drop(directory: Path) -> None:
    """Removes the files of a writer; their directory stays."""
    remove_files(directory, OWN_FILES)


def backend() -> Backend:
    """Inverted lists of this project."""
    return Assembled(
        description=Description(
            name="native_ivf",
            version=mlps_version(),
            index="IVF_FLAT",
            io_class="direct",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
        ),
        checks=_check,
        estimates=_estimate,
        writes=IvfWriter,
        reads=IvfReader,
        files=_data_paths,
        removes=_drop,
    )
