"""The stages of the training engine: generate, ceiling, warmup, run, cleanup."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..contract import Job
from ..io_core.control import Control
from ..io_core.directory import claim, remove_files
from ..section import Section
from ..stage import Needs, Session
from . import generation
from .checkpoint import names
from .dataset import Dataset
from .opening import drop_from_caches, open_dataset
from .place import dataset_directory
from .runs import OPEN_FILES, Run
from .workload import Training, check_steps, training_of
from .writing import writing_bytes

_MIB = 2**20
# Measured: the interpreter, numpy and MPI.
_BASE_MEMORY_BYTES = 80 * _MIB
# Measured: a footer of dlrm's files with what pyarrow makes of it.
_FOOTER_MEMORY_BYTES = 160 * _MIB
# Sizes, checksums and an epoch's order of all files, with what it takes to sort them.
_FILE_MEMORY_BYTES = 44
_SAMPLE_MEMORY_BYTES = 20


class TrainingEngine:
    """Ranks that read batches of a dataset as accelerators would want them."""

    def needs(self, job: Job, ranks: int) -> Needs:
        """Disk for what is still to be written; memory for buffers and for the lists of files."""
        training = _possible(job, ranks)
        dataset = training.dataset
        disk_bytes, arithmetic = generation.disk_bytes(job, dataset, ranks)
        checkpoint = training.checkpoint
        if checkpoint is not None:
            written_bytes = checkpoint.written_bytes(training.epochs, ranks)
            disk_bytes += written_bytes
            arithmetic += f" + checkpoints {written_bytes / _MIB:.0f} MiB"
        reading_bytes, reading = _reading_memory(training, ranks)
        threads = Section(job.benchmark).section("dataset").count("write_threads")
        written_by = writing_bytes(dataset, threads)
        writing = f"writers of {dataset.format} {written_by / _MIB:.0f} MiB"
        most_bytes = max(reading_bytes, written_by)
        return Needs(
            disk_bytes=disk_bytes,
            disk_arithmetic=arithmetic,
            memory_bytes_per_rank=_BASE_MEMORY_BYTES + most_bytes,
            memory_arithmetic=f"{_BASE_MEMORY_BYTES // _MIB} MiB + "
            + (reading if reading_bytes >= written_by else writing),
            packages=_packages(dataset, ranks),
            open_files_per_rank=OPEN_FILES + 2 * training.reader.threads + threads,
        )

    def stages(self) -> Mapping[str, Callable[[Session], None]]:
        """All stages by name."""
        return {
            "generate": generation.generate,
            "ceiling": ceiling,
            "warmup": run,
            "run": run,
            "cleanup": cleanup,
        }


def ceiling(session: Session) -> None:
    """Takes steps without reads: what is left of the utilisation is the engine's doing."""
    _go(session, reads=False)


def run(session: Session) -> None:
    """Trains for all epochs."""
    _go(session, reads=True)


def cleanup(session: Session) -> None:
    """Removes what the job has made: checkpoints, a dataset of its own, its directory."""
    training = session.agree(lambda: training_of(session.job.benchmark))
    ranks = range(session.rank, session.job_ranks, session.ranks)

    def remove_checkpoints(_: Session, control: Control) -> list[str]:
        control.done += remove_files(session.job.directory, names(training, ranks))
        return []

    generation.cleanup(session, remove_checkpoints)


def _go(session: Session, *, reads: bool) -> None:
    job = session.job
    training = session.agree(lambda: _possible(job, session.ranks))
    directory = session.agree(
        lambda: dataset_directory(job, Section(job.benchmark).section("dataset"))
    )
    layouts = open_dataset(session, training, directory)
    if reads and training.checkpoint is not None:
        session.phase("claiming", lambda _: _claim(session), unit="files", total=0)
    dropped = None
    if reads and training.reader.cache == "drop":
        dropped = drop_from_caches(session, training, directory)
    course = Run(session, training, directory, layouts, reads=reads, dropped=dropped)
    name = "training" if reads else "stepping without reads"
    session.steps(name, course.train, total=course.epochs * course.steps)
    course.report()


def _possible(job: Job, ranks: int) -> Training:
    training = training_of(job.benchmark)
    check_steps(training, ranks)
    return training


def _claim(session: Session) -> None:
    """The job's own directory, which the checkpoints of all ranks go to."""
    if session.rank == 0:
        claim(session.job.directory, session.job.sha256)


def _reading_memory(training: Training, ranks: int) -> tuple[int, str]:
    dataset, reader = training.dataset, training.reader
    buffers = reader.threads * reader.buffer_bytes
    lists = dataset.files * _FILE_MEMORY_BYTES
    if reader.shuffle_samples and dataset.samples_per_file > 1:
        deal = training.deal(ranks, seed=0)
        lists += deal.samples_per_rank * _SAMPLE_MEMORY_BYTES
    footers = _FOOTER_MEMORY_BYTES if dataset.format == "parquet" else 0
    text = (
        f"{reader.threads} buffers {buffers / _MIB:.0f} MiB + lists of {dataset.files:,} files "
        f"{lists / _MIB:.0f} MiB"
    )
    if footers:
        text += f" + footers {footers // _MIB} MiB"
    return buffers + lists + footers, text


def _packages(dataset: Dataset, ranks: int) -> tuple[str, ...]:
    names = ["numpy"]
    names += ["mpi4py"] if ranks > 1 else []
    names += {"parquet": ["pyarrow"], "hdf5": ["h5py"], "tfrecord": ["google-crc32c"]}.get(
        dataset.format, []
    )
    names += ["pillow"] if dataset.format == "jpeg" and dataset.jpeg_encoding == "real" else []
    return tuple(names)
