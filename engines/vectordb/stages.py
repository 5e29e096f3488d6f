"""The engine of vector search: its stages, and what a job needs before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..contract import Job
from ..io_core.control import Control
from ..io_core.directory import release
from ..place import place_of
from ..stage import Needs, Session
from .loading import load
from .place import OWN, is_there, remove_own, truth_name
from .setting import Setting, index_of, setting_of
from .truth_stage import memory_bytes, truth
from .vectors import BLOCK_VECTORS, Dataset

_MIB = 2**20
# Measured: the interpreter, numpy and MPI.
_BASE_MEMORY_BYTES = 96 * _MIB
_OPEN_FILES = 256
# Of a truth's file, beside ids and scores.
_TRUTH_HEAD_BYTES = 4096


class VectorEngine:
    """Ranks that make an index of vectors and search it."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """Disk for index and truth unless they are there; memory for the stage that takes most."""
        setting = setting_of(job, ranks)
        workload, data = setting.workload, setting.data
        description = workload.backend.describe()
        estimate = workload.backend.estimate(workload.spec, workload.search)
        values = workload.backend.check(workload.spec, workload.search)
        truth_bytes = data.query_count * workload.truth_depth * 16 + _TRUTH_HEAD_BYTES
        index_bytes, how = estimate.building_bytes, f"index {_mib(estimate.building_bytes)}"
        if description.io_class == "server":
            index_bytes, how = 0, "the server has the index"
        elif setting.place.kept and is_there(setting.place, setting.kept()):
            index_bytes, how = 0, "the index is there"
        memory_bytes, memory = _memory(setting, estimate.writer_bytes, estimate.reader_bytes)
        return Needs(
            disk_bytes=index_bytes + truth_bytes,
            disk_arithmetic=f"{how} ({estimate.disk}) + truth {_mib(truth_bytes)}",
            memory_bytes_per_rank=_BASE_MEMORY_BYTES + memory_bytes,
            memory_arithmetic=f"{_mib(_BASE_MEMORY_BYTES)} + {memory}",
            open_files_per_rank=_OPEN_FILES,
            packages=(
                "numpy",
                *(("mpi4py",) if ranks > 1 else ()),
                *description.packages,
                *data.packages,
            ),
            programs=workload.cache.command[:1],
            facts={
                "vectordb": {
                    "vectors": data.vectors,
                    "dimension": data.dimension,
                    "raw_bytes": data.raw_bytes,
                    "index_bytes": estimate.index_bytes,
                    "truth_bytes": truth_bytes,
                    "backend": description.name,
                    "index": index_of(values.build, description.index),
                    "io_class": description.io_class,
                }
            },
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {"load": load, "truth": truth, "cleanup": cleanup}


def cleanup(session: Session) -> None:
    """Removes what the job has made, by name, also from a server; what is kept stays."""
    job = session.job
    place = session.agree(lambda: place_of(job, OWN))
    lists = session.outcome.lists
    lists["left"] = []

    def remove(_: Control) -> None:
        if session.rank == 0:
            lists["left"] += remove_own(place, job, truth_name(job.benchmark))
            lists["left"] += release(job.directory, job.sha256, [OWN])

    session.phase("removing", remove, unit="files", total=0)


def _memory(setting: Setting, writer_bytes: int, reader_bytes: int) -> tuple[int, str]:
    """Of the stage that takes most, with its arithmetic."""
    workload, data = setting.workload, setting.data
    row = 4 * data.dimension
    piece = 3 * row * BLOCK_VECTORS
    batch = 3 * row * workload.insert_batch
    answers = data.query_count * (row + 24 * workload.k)
    depth = workload.truth_depth
    stages = {
        f"a batch of {workload.insert_batch:,} vectors {_mib(batch)} + what is read or made at a"
        f" time {_mib(piece)} + building {_mib(writer_bytes)}": batch + piece + writer_bytes,
        f"the truth of {data.query_count:,} queries to depth {depth} in tiles"
        f" {_mib(memory_bytes(data, depth))}": memory_bytes(data, depth),
        f"searching {_mib(reader_bytes)} + queries and answers {_mib(answers)}": reader_bytes
        + answers,
    }
    text = max(stages, key=stages.__getitem__)
    size_bytes = stages[text]
    if isinstance(data.origin, Dataset) and data.origin.clusters:
        centres = data.origin.clusters * row
        size_bytes, text = size_bytes + centres, f"{text} + centres of clusters {_mib(centres)}"
    return size_bytes, text


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.0f} MiB"
