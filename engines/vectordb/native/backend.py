"""Inverted lists (IVF) with exact vectors: the backend that needs nothing but this project.

What a query reads follows from its plan to the byte: the extents of the nearest lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...io_core.directory import remove_files
from ...version import mlps_version
from ..backend import Assembled, Backend, Description, IndexSpec, Value
from .layout import LISTS, OWN_FILES
from .reader import IvfReader
from .settings import BUILD_KEYS, SEARCH_KEYS, search_of
from .writer import IvfWriter


def _check(spec: IndexSpec, search: Mapping[str, Value]) -> None:
    search_of(spec, search)


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
        writes=IvfWriter,
        reads=IvfReader,
        files=_data_paths,
        removes=_drop,
    )
