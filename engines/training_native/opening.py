"""What comes before the first epoch: all ranks learn where samples lie, and empty page caches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..io_core.control import Control
from ..io_core.page_cache import evict, resident_pct
from ..stage import Session
from ..world import host_name
from .layouts import Found, Layouts, find_layouts, joined, needs_layouts
from .manifest import Manifest, read_manifest
from .workload import Training

# Files of each rank that are looked at after all were dropped from the page cache.
_SAMPLED_FILES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Files that a rank dropped from its host's page cache, of which some were looked at then.

    `resident_pct` is how much of these is still in memory, None where that cannot be seen.
    """

    files: int
    sampled_files: int
    resident_pct: float | None


def open_dataset(session: Session, training: Training, directory: Path) -> Layouts:
    """The reads of all files of the dataset; ends the stage where it is not there."""
    dataset = training.dataset
    manifests: list[Manifest] = []
    found: list[Found] = []

    def read(control: Control) -> None:
        manifests.append(read_manifest(directory, dataset))
        if not needs_layouts(dataset):
            return

        def alive() -> bool:
            control.done += 1
            return not control.stopped

        numbers = range(session.rank, dataset.files, session.ranks)
        selection = training.reader.selection
        found.append(find_layouts(dataset, directory, numbers, selection, alive))

    share = -(-dataset.files // session.ranks) if needs_layouts(dataset) else 0
    session.phase("opening", read, unit="files", total=share)
    sizes_bytes = manifests[0].sizes_bytes
    if not found:
        return Layouts(samples_per_file=dataset.samples_per_file, sizes_bytes=sizes_bytes)
    return session.agree(
        lambda: joined(dataset, sizes_bytes, found[0], session.rank, session.exchange)
    )


def drop_from_caches(session: Session, training: Training, directory: Path) -> Dropped:
    """Drops all files from the page cache of every host, each of whose ranks does a part."""
    dataset = training.dataset
    hosts = session.exchange(host_name())
    here = [rank for rank, host in enumerate(hosts) if host == hosts[session.rank]]
    mine = range(here.index(session.rank), dataset.files, len(here))
    dropped: list[Dropped] = []

    def drop(control: Control) -> None:
        files = 0
        for number in mine:
            if control.stopped:
                return
            files += evict(directory, [dataset.path(number)])
            control.done += 1
        sampled = mine[:: max(1, len(mine) // _SAMPLED_FILES)][:_SAMPLED_FILES]
        resident = resident_pct([directory / dataset.path(number) for number in sampled])
        dropped.append(Dropped(files=files, sampled_files=len(sampled), resident_pct=resident))

    session.phase("evicting", drop, unit="files", total=len(mine))
    return dropped[0]
