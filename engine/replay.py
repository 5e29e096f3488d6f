"""Runs an archived job once more: all of it (rerun), or what is unfinished (resume)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from . import archive as files
from .archive import Archive
from .canonical import Document, pretty_json
from .environment import host_name
from .errors import ArchiveError
from .evidence import FORM_ERRORS, read_job, read_origins
from .jobs import plan_here
from .plan import Launch, Plan
from .run import Request


def rerun_request(path: Path) -> Request:
    """The same job again, under the Python that runs now. Raises ArchiveError."""
    archive = files.open_archive(path)
    with _readable(archive):
        return _request(archive, links={"rerun_of": archive.run_id}, finished={}, data_id=None)


def resume_request(path: Path) -> Request:
    """The rest of a job that was interrupted, failed or killed. Raises ArchiveError.

    Finished stages are taken over. What a clean-up has removed since is made again, where an
    unfinished stage needs it.
    """
    archive = files.open_archive(path)
    with _readable(archive):
        return _rest(archive)


@contextmanager
def _readable(archive: Archive) -> Iterator[None]:
    """Raises ArchiveError where an archive is not what was sealed, or has another form."""
    if archive.sealed:
        for name, text in files.manifest_flaws(archive)[1]:
            raise ArchiveError(
                f"{archive.root}: {name} {text}; what was changed is not run again",
                hint=f"mlps verify {archive.root}",
            )
    try:
        yield
    except FORM_ERRORS as error:
        text = f"{archive.root}: a document lacks what it must hold: {error}"
        raise ArchiveError(text) from error


def _rest(archive: Archive) -> Request:
    _refuse_running(archive)
    plan = plan_here(read_job(archive))
    finished = finished_launches(archive, plan)
    if len(finished) == len(plan.launches):
        raise ArchiveError(
            f"{archive.root}: every stage is finished, there is nothing to resume",
            hint=f"mlps rerun {archive.root}",
        )
    kept = any(launch.undone_by and launch.name in finished for launch in plan.launches)
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    return _request(
        archive,
        links={"resumed_from": archive.run_id},
        finished={name: archive.path(f"stages/{name}") for name in finished},
        data_id=environment["data_id"] if kept else None,
    )


def finished_launches(archive: Archive, plan: Plan) -> frozenset[str]:
    """Names of the launches whose results stand and need no second run."""
    done = {launch.name for launch in plan.launches if _is_complete(archive, launch)}
    finished: set[str] = set()
    for group in _groups(plan.launches):
        work = [launch for launch in group if launch.when == "success"]
        # Where all work is undone in the end, it was done for its numbers alone.
        aims = [launch for launch in work if launch.undone_by is None] or work
        if aims and all(launch.name in done for launch in aims):
            finished |= {launch.name for launch in group if launch.name in done}
            continue
        cleaned = {launch.stage for launch in group if _was_started(archive, launch)}
        finished |= {
            launch.name
            for launch in work
            if launch.name in done and launch.undone_by not in cleaned
        }
    return frozenset(finished)


def _groups(launches: Sequence[Launch]) -> Iterable[list[Launch]]:
    """Launches that share what a stage of theirs makes: those of one option."""
    groups: dict[str | None, list[Launch]] = {}
    for launch in launches:
        groups.setdefault(launch.option, []).append(launch)
    return groups.values()


def _is_complete(archive: Archive, launch: Launch) -> bool:
    outcome = _outcome(archive, launch)
    if outcome is None or outcome.get("status") != "complete":
        return False
    path = archive.stage(launch.name, files.ARGV)
    return path.is_file() and path.read_bytes() == pretty_json(list(launch.argv))


def _was_started(archive: Archive, launch: Launch) -> bool:
    return archive.stage(launch.name, files.ARGV).is_file()


def _outcome(archive: Archive, launch: Launch) -> Document | None:
    path = archive.stage(launch.name, files.OUTCOME)
    document = files.read_document(path) if path.is_file() else None
    return document if isinstance(document, dict) else None


def _refuse_running(archive: Archive) -> None:
    environment = files.read_document(archive.path(files.ENVIRONMENT))
    process = environment["process"]
    if archive.sealed or process["host"] != host_name():
        return
    try:
        running = psutil.Process(process["pid"]).create_time() == process["created_unix_s"]
    except psutil.Error:
        return
    if running:
        raise ArchiveError(f"{archive.root}: its job is still running (pid {process['pid']})")


def _request(
    archive: Archive,
    *,
    links: dict[str, object],
    finished: dict[str, Path],
    data_id: str | None,
) -> Request:
    spec = read_job(archive)
    provenance = files.read_document(archive.path(files.PROVENANCE))
    return Request(
        spec=spec,
        plan=plan_here(spec),
        origins=read_origins(provenance),
        choices=provenance["choices"],
        overrides=tuple(provenance["overrides"]),
        links=links,
        finished=finished,
        data_id=data_id,
    )
