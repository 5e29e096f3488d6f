"""What must be in the archive of a foreign program, recomputed from what else is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from . import archive as files
from .archive import Archive
from .canonical import Document, canonical_json
from .errors import ArchiveError
from .foreign import Command, Launched, Place, command_of
from .foreign_metrics import restated
from .foreign_run import stage_directory
from .plan import Launch, Plan
from .signals import cpu_limit
from .spec import JobSpec

# What a regular expression of somebody else's benchmark may cost.
MATCHING_LIMIT_S = 5.0
# The outputs of all processes of a stage together.
MAX_OUTPUTS_BYTES = 256 * 1024 * 1024


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
        outputs = _outputs(archive, launch, command.outputs, foreign["outputs"])
        try:
            with cpu_limit(MATCHING_LIMIT_S):
                expected = restated(result, command.metrics, outputs)
        except TimeoutError as error:
            text = f"its metrics are not found in its outputs within {MATCHING_LIMIT_S:g} s"
            raise ArchiveError(f"{launch.name}: {text}") from error
        name = files.stage_file(launch.name, files.RESULT)
        yield "EVD-03", name, canonical_json(expected) + b"\n"


def _outputs(
    archive: Archive, launch: Launch, outputs: Iterable[str], named: Mapping[str, Sequence[str]]
) -> dict[str, list[bytes]]:
    """What the files of each output hold. Raises ArchiveError."""
    left_bytes = MAX_OUTPUTS_BYTES
    found: dict[str, list[bytes]] = {}
    for output in outputs:
        found[output] = []
        for name in named.get(output, ()):
            path = archive.stage(launch.name, f"outputs/{name}")
            if not files.is_inside(name):
                raise ArchiveError(f"{path} is not in the archive, it is not read")
            found[output].append(files.read_bytes(path))
            left_bytes -= len(found[output][-1])
            if left_bytes < 0:
                raise ArchiveError(
                    f"{path.parent} holds more than {MAX_OUTPUTS_BYTES >> 20} MiB, "
                    "which is not read"
                )
    return found
