"""What must be in the archive of a foreign program, recomputed from what else is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from . import archive as files
from .archive import Archive
from .canonical import Document, canonical_json
from .errors import ArchiveError
from .foreign import Command, Launched, Place, command_of
from .foreign_metrics import restated
from .foreign_run import stage_directory
from .plan import Launch, Plan
from .spec import JobSpec


def placed_command(spec: JobSpec, launch: Launch, run_dir: Path) -> Command | None:
    """What a launch starts, with the directories of its run."""
    stage_dir = stage_directory(run_dir, launch)
    launched = Launched(
        stage=launch.stage,
        option=launch.option,
        trial=launch.trial,
        hosts=spec.cluster.hosts,
        place=Place(run_dir=str(run_dir), stage_dir=str(stage_dir)),
    )
    return command_of(spec.document, launched)


def derived_files(
    archive: Archive, spec: JobSpec, plan: Plan, results: Mapping[str, Document]
) -> Iterator[tuple[str, str, bytes]]:
    """(rule, file, what it must hold): numbers from outputs, working files from the job."""
    for launch in plan.launches:
        result = results.get(launch.name)
        if result is None or launch.command is None:
            continue
        foreign = result["foreign"]
        command = placed_command(spec, launch, Path(foreign["run_dir"]))
        assert command is not None
        for name, data in command.files.items():
            yield "EVD-02", files.stage_file(launch.name, f"files/{name}"), data
        outputs = {
            output: [_read(archive, launch, name) for name in foreign["outputs"].get(output, ())]
            for output in command.outputs
        }
        expected = restated(result, command.metrics, outputs)
        name = files.stage_file(launch.name, files.RESULT)
        yield "EVD-03", name, canonical_json(expected) + b"\n"


def _read(archive: Archive, launch: Launch, name: str) -> bytes:
    path = archive.stage(launch.name, f"outputs/{name}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error
