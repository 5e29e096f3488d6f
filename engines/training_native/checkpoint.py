"""Checkpoints between the epochs of training: files of random bytes, made durable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import storage_error
from ..io_core.control import Control
from ..io_core.files import sync_directory
from .content import Content
from .workload import Training


def path_of(directory: Path, epoch: int, rank: int) -> Path:
    """The file of a rank after an epoch."""
    return directory / f"checkpoint-{epoch}-{rank}"


def write_checkpoint(path: Path, size_bytes: int, content: Content, control: Control) -> None:
    """Writes a file and waits until it is durable; raises EngineError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            for piece in content.pieces(0, size_bytes):
                if control.stopped:
                    return
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
                control.written_bytes[0] += len(piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, "write", path) from error
    sync_directory(path.parent)


def names(training: Training, ranks: Sequence[int]) -> Iterator[str]:
    """Files that runs leave in the job's directory, of some of the ranks."""
    checkpoint = training.checkpoint
    if checkpoint is None:
        return
    writers = ranks if checkpoint.ranks == "all" else [rank for rank in ranks if rank == 0]
    for epoch in range(1, training.epochs + 1):
        if checkpoint.when.follows(epoch):
            yield from (path_of(Path(), epoch, rank).name for rank in writers)
