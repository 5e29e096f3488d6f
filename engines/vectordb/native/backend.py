"""Inverted lists (IVF) with exact vectors: the backend that needs nothing but this project.

What a query reads follows from its plan to the byte: the extents of the nearest lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...io_core.directory import remove_files
from ...version import mlps_version
from ..backend import Backend, Description, IndexSpec, Value
from .layout import LISTS, OWN_FILES
from .reader import IvfReader
from .settings import BUILD_KEYS, SEARCH_KEYS, search_of
from .writer import IvfWriter


class NativeIvf:
    """See `Backend`."""

    def describe(self) -> Description:
        """What it is."""
        return Description(
            name="native_ivf",
            version=mlps_version(),
            index="IVF_FLAT",
            io_class="direct",
            several_readers=True,
            build_keys=BUILD_KEYS,
            search_keys=SEARCH_KEYS,
        )

    def check(self, spec: IndexSpec, search: Mapping[str, Value]) -> None:
        """Raises JobError for parameters that are wrong or unknown."""
        search_of(spec, search)

    def writer(self, directory: Path, spec: IndexSpec) -> IvfWriter:
        """Begins an index."""
        return IvfWriter(directory, spec)

    def reader(self, directory: Path, spec: IndexSpec, search: Mapping[str, Value]) -> IvfReader:
        """Opens a complete index."""
        return IvfReader(directory, spec, search)

    def data_paths(self, directory: Path) -> tuple[Path, ...]:
        """The lists: the rest is read once, when a reader opens."""
        return (directory / LISTS,)

    def drop(self, directory: Path) -> None:
        """Removes the files of a writer; their directory stays."""
        remove_files(directory, OWN_FILES)


def backend() -> Backend:
    """It, for those who know its name alone."""
    return NativeIvf()
